"""Where a browser brings the answer of a login: an HTTP server on this machine, for one answer (RFC 8252, 7.3).

It listens on 127.0.0.1 only, on a port of its own or a configured one, and serves one address. An answer in the
query is taken as it comes; one in the fragment, which browsers do not send, is posted back by the small page that
the address shows. Only an answer with the `state` of this login is taken, once; anything else that finds its way here
(another page in the same browser, a second answer) is turned away and ends nothing. The Host header must be
the server's own, so that no foreign domain name can be pointed at it.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Mapping
from typing import Self
from urllib.parse import parse_qsl

from aiohttp import web

from keyquorum.client.errors import Misconfigured, Timeout

HOST = "127.0.0.1"
PATH = "/callback"
MAX_ANSWER = 64 * 1024
_FORM = "application/x-www-form-urlencoded"
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_DONE = "You are logged in. You can close this window."
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Keyquorum</title><body>One moment ...
<script nonce="{nonce}">
const answer = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
fetch(location.pathname, {{method: "POST", headers: {{"Content-Type": "{form}"}}, body: answer}})
  .then(response => response.text()).then(text => {{ document.body.textContent = text; }});
</script></body></html>
"""


class Loopback:
    """The server of one login; use it as an async context manager. `redirect_uri` is where the browser must be sent."""

    def __init__(self, port: int = 0) -> None:
        """`port` 0: any free one. A provider that compares redirect addresses exactly needs the registered one."""
        self.state = secrets.token_urlsafe(32)
        self._port = port
        self._runner: web.AppRunner | None = None
        self._answer: asyncio.Future[dict[str, str]] | None = None

    @property
    def redirect_uri(self) -> str:
        """The address to register at the provider; its port is known once the server runs."""
        return f"http://{HOST}:{self._port}{PATH}"

    async def __aenter__(self) -> Self:
        self._answer = asyncio.get_running_loop().create_future()
        app = web.Application(client_max_size=MAX_ANSWER)
        app.router.add_get(PATH, self._get)
        app.router.add_post(PATH, self._post)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, HOST, self._port).start()
        except OSError:
            await self._runner.cleanup()
            raise Misconfigured(
                "port_taken",
                f"port {self._port} of this machine, where the provider sends its answer, is taken",
                "end the other login, or register another port at the provider",
            ) from None
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def answer(self, seconds: float) -> dict[str, str]:
        """Return the parameters of the provider's answer, `state` checked; raise `Timeout` when none comes in time."""
        assert self._answer is not None  # noqa: S101 - made on entering
        try:
            async with asyncio.timeout(seconds):
                return await self._answer
        except TimeoutError:
            raise Timeout(
                "login_timeout",
                f"nobody logged in within {seconds:g} s",
                "log in again, and finish it in the browser window that opens",
            ) from None

    async def _get(self, request: web.Request) -> web.Response:
        self._check_host(request)
        if request.query_string:
            return self._take(request.query_string)
        nonce = secrets.token_urlsafe(16)
        policy = f"default-src 'none'; script-src 'nonce-{nonce}'; connect-src 'self'; base-uri 'none'"
        return web.Response(
            text=_PAGE.format(nonce=nonce, form=_FORM),
            content_type="text/html",
            headers=_HEADERS | {"Content-Security-Policy": policy},
        )

    async def _post(self, request: web.Request) -> web.Response:
        self._check_host(request)
        # Browsers say where a page comes from when it posts; only ours posts here.
        if request.headers.get("Origin") != self._origin or request.content_type != _FORM:
            raise web.HTTPForbidden(text="This address is for the login page alone.", headers=_HEADERS)
        return self._take((await request.read()).decode("utf-8", "replace"))

    @property
    def _origin(self) -> str:
        return f"http://{HOST}:{self._port}"

    def _check_host(self, request: web.Request) -> None:
        if request.headers.get("Host") != f"{HOST}:{self._port}":
            raise web.HTTPForbidden(text="This server has another name.", headers=_HEADERS)

    def _take(self, form: str) -> web.Response:
        answer = self._answer
        if answer is None or answer.done():
            return web.Response(text="This login is over.", status=410, headers=_HEADERS)
        found = _read(form)
        if found is None or not hmac.compare_digest(found.get("state", "").encode(), self.state.encode()):
            return web.Response(text="This is not the answer to a login here.", status=400, headers=_HEADERS)
        answer.set_result(found)
        text = "The provider did not log you in. You can close this window." if "error" in found else _DONE
        return web.Response(text=text, headers=_HEADERS)


def _read(form: str) -> dict[str, str] | None:
    """Return the parameters of a query or fragment; None when it has none, too many, or one twice."""
    try:
        pairs = parse_qsl(form, keep_blank_values=True, strict_parsing=True, max_num_fields=32)
    except ValueError:
        return None
    found: Mapping[str, str] = dict(pairs)
    return dict(found) if len(found) == len(pairs) else None
