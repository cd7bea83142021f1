"""Asks identity providers for this node: HTTPS GET, JSON back, and nobody who is not named in the settings.

What makes this safe and cheap, in the order of the code. *Origins*: only scheme, host and port of addresses in the
operator's settings are ever asked; a token's own `iss` or `jku`, or a redirect, leads nowhere. *Cache*: public
documents (keys, discovery) are kept as long as the provider says, within a minute and an hour; whoever asks meanwhile
shares one request; asking past the cache is granted once a minute for each address, so that invented key ids are no
flood. *Gate*: each host has its own bounded number of requests and its own queue, so one that hangs slows nobody else's
login. *Breaker*: a host that failed three times in a row is left alone for ten seconds, then tried by one request;
until that succeeds its logins fail at once and cost nothing. *Refusals*: providers ban addresses that send too many bad
tokens, so a flood of those is stopped here.

Tokens are sent and forgotten: they are in no error, log line or cache.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import aiohttp
import structlog

from keyquorum.auth.provider import origin
from keyquorum.formats.strict_json import BadJson, loads
from keyquorum.node.settings.auth_settings import Origin
from keyquorum.refusal import UNAVAILABLE, Invalid, malformed

log = structlog.get_logger("keyquorum.providers")

TIMEOUT = 5.0
MAX_BODY = 256 * 1024
LEAST_KEPT, LONGEST_KEPT = 60.0, 3600.0
NEWER_EVERY = 60.0
CACHED = 256
PARALLEL = 16
QUEUE = 128
FAILURES = 3
PAUSE = 10.0
REFUSALS_PER_MINUTE = 300

_MAX_AGE = re.compile(r"(?:^|[\s,])max-age\s*=\s*\"?(\d{1,9})")
_TOKEN = re.compile(r"[!-~]{1,4096}")
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "keyquorum-node"}


class _Failed(Exception):
    """The provider is to blame: it counts for the breaker. The text has no part of what was sent."""


@dataclass
class _Host:
    """One origin: how busy it is, and how it has been answering."""

    name: str
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PARALLEL))
    asking: int = 0
    failures: int = 0
    shut_until: float = 0.0
    refusals: int = 0
    minute: float = 0.0


@dataclass(frozen=True)
class _Answer:
    value: object
    keep: float


@dataclass(frozen=True)
class _Kept:
    value: object
    until: float


class Providers:
    """The `Context.fetch` of a node; `close` ends its connections. Values that it returns are shared: read only."""

    def __init__(self, origins: Iterable[Origin], clock: Callable[[], float] = time.monotonic) -> None:
        """`origins` are scheme, host and port of the addresses in the settings (`auth_settings.origins`)."""
        self._clock = clock
        self._hosts = {each: _Host(_shown(*each)) for each in origins}
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._pending: dict[str, asyncio.Task[_Answer]] = {}
        self._renewed: dict[str, float] = {}
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Give up what is under way and close the connections."""
        for task in list(self._pending.values()):
            task.cancel()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __call__(self, url: str, *, bearer: str | None = None, newer: bool = False) -> object:
        """Return the JSON at `url`; see `keyquorum.auth.method.Fetch`."""
        host = self._host(url)
        if bearer is not None:
            if not _TOKEN.fullmatch(bearer):
                raise malformed("bad_token", "the token is not one", "log in at the provider again")
            return (await self._ask(host, url, bearer)).value
        kept = self._kept.get(url)
        if kept is not None and self._clock() < kept.until and not (newer and self._may_renew(url)):
            return kept.value
        task = self._pending.get(url)
        if task is None:
            task = self._pending[url] = asyncio.create_task(self._refresh(host, url))
            task.add_done_callback(lambda done: self._finished(url, done))
        # Shielded: that one caller hangs up must not end the request of the others.
        return (await asyncio.shield(task)).value

    def _host(self, url: str) -> _Host:
        try:
            host = self._hosts.get(origin(url))
        except ValueError:
            host = None
        if host is None:
            raise Invalid(
                "provider_unavailable",
                "the login needs an address that is not in this node's settings",
                "the operator must name it in the [auth] section of the method",
                UNAVAILABLE,
            )
        return host

    def _may_renew(self, url: str) -> bool:
        now = self._clock()
        if now - self._renewed.get(url, -NEWER_EVERY) < NEWER_EVERY:
            return False
        self._renewed[url] = now
        return True

    async def _refresh(self, host: _Host, url: str) -> _Answer:
        answer = await self._ask(host, url, None)
        self._kept[url] = _Kept(answer.value, self._clock() + answer.keep)
        self._kept.move_to_end(url)
        while len(self._kept) > CACHED:
            self._renewed.pop(self._kept.popitem(last=False)[0], None)
        return answer

    def _finished(self, url: str, task: asyncio.Task[_Answer]) -> None:
        self._pending.pop(url, None)
        if not task.cancelled():
            task.exception()  # asyncio must not complain about a failure whose askers have gone

    # -- one request ------------------------------------------------

    async def _ask(self, host: _Host, url: str, bearer: str | None) -> _Answer:
        if host.asking >= QUEUE:
            raise _unavailable(host, "is asked too much at a time")
        host.asking += 1
        try:
            async with host.gate:
                self._enter(host, bearer)
                answer = await self._get(host, url, bearer)
        except _Failed as error:
            self._failed(host)
            raise _unavailable(host, str(error)) from None
        finally:
            host.asking -= 1
        return answer

    def _enter(self, host: _Host, bearer: str | None) -> None:
        """Refuse to ask a host that is down, and to send tokens to one that has refused too many."""
        now = self._clock()
        if now < host.shut_until:
            raise _unavailable(host, "did not answer a moment ago")
        if host.failures >= FAILURES:
            host.shut_until = now + TIMEOUT  # this request is the one that tries
        if now - host.minute >= 60:
            host.minute, host.refusals = now, 0
        if bearer is not None and host.refusals >= REFUSALS_PER_MINUTE:
            raise _unavailable(host, "has refused too many tokens from this node in the last minute")

    def _failed(self, host: _Host) -> None:
        host.failures += 1
        if host.failures >= FAILURES:
            host.shut_until = self._clock() + PAUSE
            log.warning("an identity provider does not answer", host=host.name, failures=host.failures)

    async def _get(self, host: _Host, url: str, bearer: str | None) -> _Answer:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=TIMEOUT),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers=_HEADERS,
            )
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        try:
            async with self._session.get(url, headers=headers, allow_redirects=False) as response:
                self._check_status(host, response.status)
                return _Answer(_decode(await _read(response)), _lifetime(response.headers.get("Cache-Control", "")))
        except TimeoutError:
            raise _Failed(f"did not answer within {TIMEOUT:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _Failed(f"cannot be reached ({type(error).__name__})") from None

    def _check_status(self, host: _Host, status: int) -> None:
        if status in (401, 403):
            self._answered(host)
            host.refusals += 1
            raise Invalid("provider_refused", f"{host.name} does not accept the token", "log in there again")
        if status == 429 or status >= 500:
            raise _Failed(f"answered with status {status}")
        self._answered(host)
        if status != 200:
            raise _unavailable(host, f"answered with status {status}")

    @staticmethod
    def _answered(host: _Host) -> None:
        host.failures, host.shut_until = 0, 0.0


async def _read(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > MAX_BODY:
            response.close()
            raise _Failed(f"answered with more than {MAX_BODY} bytes")
    return bytes(content)


def _decode(content: bytes) -> object:
    try:
        return loads(content, MAX_BODY)
    except BadJson:
        raise _Failed("did not answer with plain JSON") from None


def _lifetime(cache_control: str) -> float:
    found = _MAX_AGE.search(cache_control.lower())
    return min(max(float(found[1]) if found else 0.0, LEAST_KEPT), LONGEST_KEPT)


def _shown(scheme: str, host: str, port: int) -> str:
    return host if (scheme, port) == ("https", 443) else f"{host}:{port}"


def _unavailable(host: _Host, what: str) -> Invalid:
    return Invalid(
        "provider_unavailable", f"{host.name} {what}", "try again in a moment, or log in another way", UNAVAILABLE
    )
