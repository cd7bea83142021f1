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

from keyquorum.chain.fees import SpendingLimits
from keyquorum.client import session as sessions
from keyquorum.client.async_client import DEFAULT_LIMITS, FINALITY_SECONDS, AsyncClient
from keyquorum.client.connection import KeyLike
from keyquorum.client.network import Facts, Network
from keyquorum.client.paying import Agree
from keyquorum.client.permissions import Permissions
from keyquorum.client.session import Account, Session
from keyquorum.client.sessions import Sessions

P = ParamSpec("P")
R = TypeVar("R")
Part = TypeVar("Part", Permissions, Sessions)


def _part(
    name: str, method: Callable[Concatenate[Part, P], Coroutine[Any, Any, R]]
) -> Callable[Concatenate[_Parted, P], R]:
    """Return the blocking form of a method of `AsyncClient.permissions` or `.sessions`."""

    @functools.wraps(method)
    def call(self: _Parted, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.client.run(method(getattr(self.client.asynchronous, name), *args, **kwargs))

    return call


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
        session_seconds: float | None = None,
        domain: str = sessions.DEFAULT_DOMAIN,
        timeout: float = 30.0,
        limits: SpendingLimits = DEFAULT_LIMITS,
        agree: Agree | None = None,
        finality: str | None = None,
        finality_seconds: float = FINALITY_SECONDS,
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
            limits=limits,
            agree=agree,
            finality=finality,
            finality_seconds=finality_seconds,
        )
        self.permissions = SyncPermissions(self)
        self.sessions = SyncSessions(self)

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

    def use_session(self, session: Session) -> None:
        """Go on with an earlier login, or with a session that somebody lent, instead of logging in."""
        self.asynchronous.use_session(session)

    connect = _sync(AsyncClient.connect)
    login = _sync(AsyncClient.login)
    login_with = _sync(AsyncClient.login_with)
    step_up = _sync(AsyncClient.step_up)
    sign_up = _sync(AsyncClient.sign_up)
    network = _sync(AsyncClient.network)
    key = _sync(AsyncClient.key)
    keys = _sync(AsyncClient.keys)
    mint = _sync(AsyncClient.mint)
    transfer = _sync(AsyncClient.transfer)
    sign = _sync(AsyncClient.sign)
    sign_message = _sync(AsyncClient.sign_message)
    sign_typed_data = _sync(AsyncClient.sign_typed_data)
    sign_digest = _sync(AsyncClient.sign_digest)
    prepare_transaction = _sync(AsyncClient.prepare_transaction)
    sign_transaction = _sync(AsyncClient.sign_transaction)
    send_transaction = _sync(AsyncClient.send_transaction)
    send_from_account = _sync(AsyncClient.send_from_account)


class _Parted:
    """A group of methods of a client."""

    def __init__(self, client: Client) -> None:
        self.client = client


class SyncPermissions(_Parted):
    """`Permissions`, blocking."""

    list = _part("permissions", Permissions.list)
    pending = _part("permissions", Permissions.pending)
    delay = _part("permissions", Permissions.delay)
    add = _part("permissions", Permissions.add)
    remove = _part("permissions", Permissions.remove)
    add_scope = _part("permissions", Permissions.add_scope)
    remove_scope = _part("permissions", Permissions.remove_scope)
    set_delay = _part("permissions", Permissions.set_delay)
    renounce = _part("permissions", Permissions.renounce)
    cancel = _part("permissions", Permissions.cancel)


class SyncSessions(_Parted):
    """`Sessions`, blocking."""

    list = _part("sessions", Sessions.list)
    revoke = _part("sessions", Sessions.revoke)
    revoke_all = _part("sessions", Sessions.revoke_all)
    revoke_key = _part("sessions", Sessions.revoke_key)
