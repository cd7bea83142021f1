"""`Client`: the same client for code without an event loop.

Each method is the method of `AsyncClient` run in an event loop on a thread of its own; types and documentation are
taken from there, so the two cannot drift apart. A `Client` may be used from several threads at once.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from keyquorum.client import session as sessions
from keyquorum.client.async_client import AsyncClient
from keyquorum.client.connection import KeyLike
from keyquorum.client.network import Facts, Network
from keyquorum.client.session import Account, Session

P = ParamSpec("P")
R = TypeVar("R")


def _sync(
    method: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Client, P], R]:
    """Return the blocking form of a method of `AsyncClient`."""

    @functools.wraps(method)
    def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.run(method(self.asynchronous, *args, **kwargs))

    return call


class Client:
    """A blocking client of one network; open it with `with`. The arguments are those of `AsyncClient`."""

    def __init__(
        self,
        network: str | Path | Network,
        *,
        account: Account | None = None,
        session: Session | None = None,
        through_gateway: bool = False,
        keys: Sequence[KeyLike] | None = None,
        scopes: Sequence[int] = sessions.DEFAULT_SCOPES,
        session_seconds: float = sessions.DEFAULT_SECONDS,
        domain: str = sessions.DEFAULT_DOMAIN,
        timeout: float = 30.0,
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="keyquorum-client", daemon=True)
        self._closed = False
        self.asynchronous = AsyncClient(
            network,
            account=account,
            session=session,
            through_gateway=through_gateway,
            keys=keys,
            scopes=scopes,
            session_seconds=session_seconds,
            domain=domain,
            timeout=timeout,
        )

    def __enter__(self) -> Self:
        try:
            self.connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine on the client's event loop and return its result; must not be called from that loop."""
        if self._closed:
            work.close()
            raise RuntimeError("the client is closed")
        if not self._thread.is_alive():
            self._thread.start()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Close every connection and end the thread; does nothing the second time."""
        if self._closed:
            return
        if self._thread.is_alive():
            self.run(self.asynchronous.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._closed = True
        self._loop.close()

    @property
    def facts(self) -> Facts:
        """What the chain says about the network."""
        return self.asynchronous.facts

    @property
    def session(self) -> Session | None:
        """The login in use, if there is one."""
        return self.asynchronous.session

    connect = _sync(AsyncClient.connect)
    login = _sync(AsyncClient.login)
    network = _sync(AsyncClient.network)
    key = _sync(AsyncClient.key)
    keys = _sync(AsyncClient.keys)
    mint = _sync(AsyncClient.mint)
    transfer = _sync(AsyncClient.transfer)
    sign = _sync(AsyncClient.sign)
    sign_message = _sync(AsyncClient.sign_message)
    sign_typed_data = _sync(AsyncClient.sign_typed_data)
    sign_digest = _sync(AsyncClient.sign_digest)
    sign_transaction = _sync(AsyncClient.sign_transaction)
    send_transaction = _sync(AsyncClient.send_transaction)
    send_from_account = _sync(AsyncClient.send_from_account)
