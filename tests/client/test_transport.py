"""One exchange with one server: what counts as down, busy, refused or nonsense; and stale connections."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

import keyquorum
from keyquorum.client.committee import Committee
from keyquorum.client.results import Node
from keyquorum.client.transport import (
    NodeBusy,
    NodeDown,
    NodeError,
    NodeGarbage,
    NodeRefused,
    Transport,
    as_public,
    decode,
)

# Where the address is the program's own: it started what listens there.
HARMLESS = {"local_network.py", "readiness.py"}


class Answer(msgspec.Struct):
    x: int


async def serve(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> tuple[asyncio.Server, str]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def reply(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


async def one(status: str, body: bytes) -> Answer:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply(status, body))
        await writer.drain()
        writer.close()

    server, url = await serve(handler)
    async with Transport() as transport:
        try:
            return await transport.post(url, b"{}", Answer)
        finally:
            server.close()


async def test_a_connection_that_went_stale_is_opened_again_once() -> None:
    """The server closes each connection silently after one answer, as after an idle time."""
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(reply("200 OK", b'{"x": 1}'))
        await writer.drain()
        await reader.read(1)
        writer.close()

    server, url = await serve(handler)
    async with Transport() as transport:
        for _ in range(3):
            assert (await transport.post(url, b"{}", Answer)).x == 1
    server.close()
    assert connections == 3


async def test_a_server_that_always_hangs_up_is_down() -> None:
    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server, url = await serve(handler)
    async with Transport() as transport:
        with pytest.raises(NodeDown):
            await transport.post(url, b"{}", Answer)
        assert not await transport.alive(url)
    server.close()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 X", NodeRefused),
        ("403 X", NodeRefused),
        ("404 X", NodeRefused),
        ("409 X", NodeRefused),
        ("408 X", NodeBusy),
        ("429 X", NodeBusy),
        ("500 X", NodeBusy),
        ("503 X", NodeBusy),
        ("302 X", NodeGarbage),
        ("201 X", NodeGarbage),
    ],
)
async def test_the_status_says_what_an_error_is(status: str, kind: type[NodeError]) -> None:
    with pytest.raises(kind):
        await one(status, b"not even JSON")


async def test_the_nodes_own_words_are_kept() -> None:
    body = b'{"error": {"code": "c", "message": "m", "hint": "h", "parties": [3]}}'
    with pytest.raises(NodeRefused) as caught:
        await one("403 X", body)
    error = caught.value
    assert (error.code, error.message, error.hint, error.status, error.parties) == ("c", "m", "h", 403, (3,))


@pytest.mark.parametrize(
    "body", [b"", b"null", b'{"x": "1"}', b"{}", b"\xff", b"[" * 100_000, b'{"x": ' + b"9" * 100_000 + b"}"]
)
def test_what_is_not_the_documented_shape_is_garbage(body: bytes) -> None:
    with pytest.raises(NodeGarbage):
        decode(body, Answer)


def test_a_gateways_failure_becomes_the_public_error() -> None:
    refused = as_public(NodeRefused("c", "m", "h", status=401))
    assert (refused.code, refused.hint, getattr(refused, "status", 0)) == ("c", "h", 401)
    assert as_public(NodeDown("", "m")).code == "gateway_unreachable"
    assert as_public(NodeGarbage("", "m")).code == "bad_answer"


def test_no_request_of_ours_follows_a_redirect() -> None:
    """Where a request goes was checked; where a redirect leads was not. Every HTTP call in the source says so."""
    calls = 0
    for path in Path(keyquorum.__file__).parent.rglob("*.py"):
        blocks = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.AsyncWith)]
        for call in (item.context_expr for block in blocks for item in block.items):
            named = call.func.attr if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) else ""
            if isinstance(call, ast.Call) and named in ("get", "post", "request") and path.name not in HARMLESS:
                calls += 1
                said = {word.arg: ast.unparse(word.value) for word in call.keywords}
                assert said.get("allow_redirects") == "False", f"{path}:{call.lineno}"
    assert calls >= 6


@pytest.mark.parametrize(
    "address",
    [
        "",
        "x",
        "http://" + "a" * 64,
        "http://\\xff",
        "http://[::1",
        "http://a:99999",
        "http://a b",
        "http://\udcff",
        "http://",
    ],
)
async def test_whatever_is_wrong_with_an_address_it_is_that_server_that_is_down(address: str) -> None:
    async with Transport() as transport:
        with pytest.raises(NodeDown):
            await transport.post(address + "/v1/sign", b"{}", Answer)
        with pytest.raises(NodeDown):
            await transport.get(address + "/v1/network", Answer)
        assert not await transport.alive(address)


async def test_a_node_without_a_url_counts_as_a_member_and_every_request_to_it_fails() -> None:
    committee = Committee((Node(1, "http://a"), Node(2, None)), 2)
    assert committee.urls == {1: "http://a", 2: ""}
    async with Transport() as transport:
        with pytest.raises(NodeDown):
            await transport.post(committee.urls[2] + "/v1/sign", b"{}", Answer)
