"""One HTTP exchange with one node, or with a gateway: bounded, typed, and honest about whose fault a failure is.

A node's answer is untrusted input. It is read up to `MAX_ANSWER` bytes, must be a JSON object of the expected shape,
and ends as a value or as one of four errors, which the fan-out treats differently:

* `NodeDown`: no connection (refused, reset, unreachable): another node is asked at once;
* `NodeBusy`: the node says it cannot now (429, 5xx): it is asked again later;
* `NodeRefused`: the node says no (other 4xx), with the typed error it gave;
* `NodeGarbage`: what came back is not an answer.

Connections are kept alive, because a TCP handshake per signature costs more than the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import msgspec

from keyquorum.client.errors import BadAnswer, Refused, Unavailable
from keyquorum.refusal import UNAVAILABLE, Refusal

MAX_ANSWER = 256 * 1024
CONNECT_SECONDS = 3.0
BUSY_STATUSES = frozenset({408, 425, 429})
# Whoever asks has seen the key on the chain, so a node that does not know it yet is late, not right.
LATE_CODES = frozenset({"key_unknown"})
TEXT_LIMIT = 500
# Whatever is wrong with an address, also one that no resolver takes (`ValueError`), concerns this server alone.
NO_CONNECTION = (aiohttp.ClientError, OSError, ValueError)
MAX_PARTIES = 100

Answer = TypeVar("Answer")


class NodeError(Refusal):
    """Why one node's answer is missing; `code` is the node's own where it gave one, `parties` whom it would avoid."""

    def __init__(
        self, code: str, message: str, hint: str = "", status: int = UNAVAILABLE, *, parties: Iterable[int] = ()
    ) -> None:
        super().__init__(code, message, hint, status, parties=parties)


class NodeDown(NodeError):
    """No connection to the node."""


class NodeBusy(NodeError):
    """The node cannot answer now."""


class NodeRefused(NodeError):
    """The node refuses this request."""


class NodeGarbage(NodeError):
    """The node's answer is not one."""


class _ErrorBody(msgspec.Struct):
    code: str
    message: str = ""
    hint: str = ""
    parties: list[int] = []


class _ErrorAnswer(msgspec.Struct):
    error: _ErrorBody


class Transport:
    """The HTTP session shared by all requests of one client; opens itself in the event loop that uses it first."""

    def __init__(self, user_agent: str = "keyquorum-client") -> None:
        self._session: aiohttp.ClientSession | None = None
        self._user_agent = user_agent

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection; the next request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30, ttl_dns_cache=60),
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS),
                headers={"User-Agent": self._user_agent},
                auto_decompress=False,
            )
        return self._session

    async def post(self, url: str, body: bytes, shape: type[Answer]) -> Answer:
        """POST a JSON body and return the answer as `shape`; raise a `NodeError`."""
        return await self._exchange("POST", url, body, shape)

    async def get(self, url: str, shape: type[Answer]) -> Answer:
        """GET and return the answer as `shape`; raise a `NodeError`."""
        return await self._exchange("GET", url, None, shape)

    async def alive(self, url: str, path: str = "/livez", seconds: float = 1.0) -> bool:
        """Ask a node's health page; False for anything but 200 in time."""
        try:
            async with asyncio.timeout(seconds), self._open().get(url + path, allow_redirects=False) as response:
                return response.status == 200
        except (TimeoutError, *NO_CONNECTION):
            return False

    async def _exchange(self, method: str, url: str, body: bytes | None, shape: type[Answer]) -> Answer:
        try:
            status, content = await self._send(method, url, body)
        except aiohttp.ServerDisconnectedError:
            # A kept connection may have been closed while idle. The request is idempotent by design, so it is
            # sent once more on a fresh connection; a dead node refuses that one.
            try:
                status, content = await self._send(method, url, body)
            except NO_CONNECTION as error:
                raise NodeDown("", f"no connection ({type(error).__name__})") from None
        except NO_CONNECTION as error:
            # aiohttp's messages carry the address, and a URL may carry a token: the type is enough.
            raise NodeDown("", f"no connection ({type(error).__name__})") from None
        if status == 200:
            return decode(content, shape)
        raise _as_error(status, content)

    async def _send(self, method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"} if body is not None else None
        async with self._open().request(method, url, data=body, headers=headers, allow_redirects=False) as response:
            return response.status, await _read_bounded(response)


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > MAX_ANSWER:
            response.close()
            raise NodeGarbage("", f"answered more than {MAX_ANSWER} bytes")
    return bytes(content)


def decode(content: bytes, shape: type[Answer]) -> Answer:
    """Read JSON as `shape`; raise `NodeGarbage` for anything else."""
    try:
        return msgspec.json.decode(content, type=shape)
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise NodeGarbage("", "answered something that is not the documented JSON") from None


def encode(body: Any) -> bytes:
    """Return the JSON bytes of a request."""
    return msgspec.json.encode(body)


def _as_error(status: int, content: bytes) -> NodeError:
    try:
        given = msgspec.json.decode(content, type=_ErrorAnswer).error
    except (msgspec.DecodeError, RecursionError, ValueError):
        given = _ErrorBody(code=f"http_{status}", message=f"HTTP {status} without an explanation")
    if not 400 <= status < 600:
        return NodeGarbage("", f"answered with HTTP status {status}")
    busy = status in BUSY_STATUSES or status >= 500 or given.code in LATE_CODES
    kind = NodeBusy if busy else NodeRefused
    code = _printable(given.code)[:64] or ("" if busy else "refused")
    told = _printable(given.message), _printable(given.hint)
    return kind(code, *told, status, parties=given.parties[:MAX_PARTIES])


def _printable(text: str) -> str:
    """Make a stranger's text safe to show: a node must not move a user's cursor or flood the screen."""
    return "".join(c if c.isprintable() else " " for c in text[:TEXT_LIMIT])


def as_public(error: NodeError) -> Refused | Unavailable | BadAnswer:
    """Return what a caller sees when one server that was asked alone (a gateway) fails."""
    if isinstance(error, NodeRefused):
        return Refused(error.code, error.message, error.hint, error.status)
    if isinstance(error, NodeGarbage):
        return BadAnswer("bad_answer", f"the gateway {error.message}")
    code = error.code or "gateway_unreachable"
    told, hint = f"the gateway: {error.message}", error.hint or None
    return Unavailable(code, told, hint, needed=1, live=0, parties=error.parties)
