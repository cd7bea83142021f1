"""What a web page of somebody else can make a browser send to our servers on this machine, and what they make of it.

A page sends three types of body to any address without asking; everything else the browser asks the server about first
(CORS). So no server of ours takes such a body, and the two that are meant for this machine alone know their own names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

import keyquorum
from keyquorum.chain.devchain.server import DevChainServer
from keyquorum.client.loopback import Loopback
from keyquorum.serving.http_server import HttpServer
from keyquorum.serving.shell import Asked, Limits, Route, Shell, Watch

SOURCES = Path(keyquorum.__file__).parent
FOREIGN = "https://evil.example"
# Bodies that a page may send to any server without a preflight, and one without a type.
SIMPLE = [
    "text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x", "",
]  # fmt: skip
reached: list[bytes] = []


@asynccontextmanager
async def dev_chain() -> AsyncIterator[str]:
    async with DevChainServer() as server:
        yield server.url


@asynccontextmanager
async def login_listener() -> AsyncIterator[str]:
    async with Loopback() as loopback:
        yield loopback.redirect_uri


@asynccontextmanager
async def shell(open_to_pages: bool) -> AsyncIterator[str]:
    async def echo(asked: Asked) -> dict[str, bool]:
        reached.append(asked.body)
        return {"done": True}

    def explain(error: Exception) -> None:
        return None

    routes = [Route("POST", "/v1/thing", echo, max_body=1000)]
    app = Shell(
        "server", routes, explain, Limits(), see="the document", watch=Watch(), open_to_pages=open_to_pages
    ).app()
    server = HttpServer(app, 10, 10)
    try:
        yield f"http://127.0.0.1:{await server.start('127.0.0.1', 0)}/v1/thing"
    finally:
        await server.close()


Server = Callable[[], AbstractAsyncContextManager[str]]
SERVERS: dict[str, Server] = {
    "development chain": dev_chain,
    "listener of a login": login_listener,
    "node": lambda: shell(False),
    "gateway and code service": lambda: shell(True),
}


@pytest.mark.parametrize("kind", SIMPLE)
@pytest.mark.parametrize("name", SERVERS)
async def test_no_page_sends_a_command_unasked(name: str, kind: str) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"evm_mine","params":[]}'
    reached.clear()
    async with SERVERS[name]() as url, aiohttp.ClientSession() as http:
        headers = {"Origin": FOREIGN, "Content-Type": kind}
        async with http.post(url, data=body, headers=headers) as response:
            assert response.status in (403, 415)
    assert not reached


@pytest.mark.parametrize("name", ["development chain", "listener of a login"])
async def test_what_is_for_this_machine_is_called_by_its_own_name(name: str) -> None:
    async with SERVERS[name]() as url, aiohttp.ClientSession() as http:
        for method in ("POST", "GET", "OPTIONS"):
            async with http.request(method, url, headers={"Host": "evil.example"}) as response:
                assert response.status in (403, 405)
                assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("name", ["development chain", "listener of a login", "node"])
async def test_what_is_not_for_pages_allows_none(name: str) -> None:
    async with SERVERS[name]() as url, aiohttp.ClientSession() as http:
        asked = {"Origin": FOREIGN, "Access-Control-Request-Method": "POST"}
        async with http.options(url, headers=asked) as response:
            assert "Access-Control-Allow-Origin" not in response.headers


def test_there_is_no_other_server() -> None:
    """Whoever adds one adds it above."""
    makers = [path for path in SOURCES.rglob("*.py") if "web.Application(" in path.read_text()]
    assert {str(path.relative_to(SOURCES)) for path in makers} == {
        "chain/devchain/server.py", "client/loopback.py", "serving/shell.py",
    }  # fmt: skip
