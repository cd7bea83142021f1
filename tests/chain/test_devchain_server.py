"""The HTTP side of the development chain: what is not a request, too much of it, and web pages that ask."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from chain_fixtures import raises_rpc
from keyquorum.chain.devchain.chain import DevChain
from keyquorum.chain.devchain.methods import Methods
from keyquorum.chain.devchain.registry import METHODS
from keyquorum.chain.devchain.server import MAX_BATCH, MAX_BODY, DevChainServer, answer, names_its_gas
from keyquorum.chain.rpc import Rpc


@pytest.fixture
def methods() -> Iterator[Methods]:
    chain = DevChain()
    yield Methods(chain)
    chain.close()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as client:
        yield client


def ask(methods: Methods, body: Any) -> tuple[int, Any]:
    status, content = answer(methods, body if isinstance(body, bytes) else json.dumps(body).encode())
    return status, json.loads(content) if content else None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"NaN",
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000,
        b"1" * 1_000_000,
        b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[' + b"9" * 1_000_000 + b"]}",
        b'{"jsonrpc":"2.0","id":' + b"9" * 1_000_000 + b',"method":"eth_chainId"}',
        b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"} {}',
    ],
)
def test_what_is_not_json_is_a_parse_error_at_once(methods: Methods, body: bytes) -> None:
    start = time.process_time()
    status, reply = ask(methods, body)
    assert (status, reply["error"]["code"], reply["id"]) == (400, -32700, None)
    # Generous: the point is that it does not take seconds.
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    "body",
    [
        5,
        "text",
        None,
        {},
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "1.0", "id": 1, "method": "eth_chainId"},
        {"id": 1, "method": "eth_chainId"},
        {"jsonrpc": "2.0", "id": 1, "method": 7},
        {"jsonrpc": "2.0", "id": {}, "method": "eth_chainId"},
        {"jsonrpc": "2.0", "id": [1], "method": "eth_chainId"},
        {"jsonrpc": "2.0", "id": True, "method": "eth_chainId"},
        [],
        [{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"}] * (MAX_BATCH + 1),
    ],
)
def test_what_is_not_a_request_is_refused(methods: Methods, body: Any) -> None:
    status, reply = ask(methods, body)
    assert (status, reply["error"]["code"]) == (200, -32600)


def test_parameters_go_by_position(methods: Methods) -> None:
    request = {"jsonrpc": "2.0", "id": "x", "method": "eth_chainId"}
    assert ask(methods, request)[1] == {"jsonrpc": "2.0", "id": "x", "result": "0x7a69"}
    assert ask(methods, request | {"params": None})[1]["result"] == "0x7a69"
    assert ask(methods, request | {"params": {}})[1]["error"]["code"] == -32602
    assert ask(methods, request | {"id": None})[1]["id"] is None


def test_a_batch_answers_each_request_and_no_notification(methods: Methods) -> None:
    request = {"jsonrpc": "2.0", "method": "evm_mine"}
    _, replies = ask(methods, [request, request | {"id": 1}, 5, request | {"id": 2, "method": "no"}])
    assert [reply.get("error", {}).get("code") for reply in replies] == [None, -32600, -32601]
    assert ask(methods, request) == (200, None)
    assert ask(methods, [request, request]) == (200, None)
    assert methods.run("eth_blockNumber", []) == "0x5"


def test_a_bug_is_an_internal_error_without_a_traceback(
    methods: Methods, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Methods, "get_chain_id", lambda self: 1 // 0)
    _, reply = ask(methods, {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"})
    assert reply["error"] == {"code": -32603, "message": "internal error"}
    assert "eth_chainId failed" in caplog.text


async def test_notifications_are_answered_with_nothing(dev_chain: str, session: aiohttp.ClientSession) -> None:
    async with session.post(dev_chain, json={"jsonrpc": "2.0", "method": "evm_mine"}) as response:
        assert (response.status, await response.read()) == (204, b"")


REQUEST = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
LOCAL_PAGES = [
    "http://localhost",
    "http://localhost:7480",
    "http://127.0.0.1:3000",
    "https://[::1]:1",
    "http://app.localhost:5173",
]
FOREIGN_PAGES = [
    "https://evil.example", "http://localhost.evil.example", "http://evil.example:80", "null", "", "file://", "http://192.168.1.2",
    "http://localhost@evil.example", "ftp://localhost", "http://localhost:x", "chrome-extension://abcdef", "http://127.0.0.1.evil.example",
]  # fmt: skip
FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:8545",
    "x",
    "",
    "localhost.evil.example",
    "localhost@evil.example",
    "192.168.1.2",
    "0.0.0.0",
]


async def post(
    session: aiohttp.ClientSession, url: str, method: str = "eth_chainId", **headers: str
) -> tuple[int, Any]:
    """Ask with these headers (`_` for `-`); return status and error code or result."""
    sent = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with session.post(url, data=json.dumps(REQUEST | {"method": method}), headers=sent) as response:
        reply = await response.json()
        return response.status, reply.get("result", reply.get("error", {}).get("code"))


@pytest.mark.parametrize("origin", LOCAL_PAGES)
async def test_pages_of_this_machine_read_the_chain(
    dev_chain: str, session: aiohttp.ClientSession, origin: str
) -> None:
    async with session.options(dev_chain, headers={"Origin": origin}) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Headers"] == "Content-Type"
        assert response.headers["Access-Control-Allow-Origin"] == origin
    async with session.post(dev_chain + "/any/path", json=REQUEST, headers={"Origin": origin}) as response:
        assert response.headers["Access-Control-Allow-Origin"] == origin
        assert response.headers["Vary"] == "Origin"
        assert (await response.json())["result"] == "0x7a69"
    async with session.post(dev_chain, json=REQUEST) as response:
        assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("origin", FOREIGN_PAGES)
async def test_other_pages_may_neither_read_nor_ask(
    dev_chain: str, session: aiohttp.ClientSession, origin: str
) -> None:
    assert await post(session, dev_chain, Origin=origin) == (403, -32600)
    assert await post(session, dev_chain, "evm_mine", Origin=origin) == (403, -32600)
    async with session.options(dev_chain, headers={"Origin": origin}) as response:
        assert response.status == 403
        assert not [name for name in response.headers if name.startswith("Access-Control")]
    assert await post(session, dev_chain, "eth_blockNumber") == (200, "0x0")


async def test_a_named_page_reads_but_moves_nothing(session: aiohttp.ClientSession) -> None:
    async with DevChainServer(origins=["https://wallet.example"]) as server:
        assert await post(session, server.url, Origin="https://wallet.example") == (200, "0x7a69")
        assert await post(session, server.url, "evm_mine", Origin="https://wallet.example") == (200, -32601)
        assert await post(session, server.url, Origin="https://wallet.example:444") == (403, -32600)
    for wrong in ("wallet.example", "https://wallet.example/", "https://*", "https://Wallet.example", "*"):
        with pytest.raises(ValueError, match="origin"):
            DevChainServer(origins=[wrong])


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("mark", [{"Origin": "http://localhost:7480"}, {"Sec_Fetch_Site": "same-origin"}])
async def test_no_page_moves_the_chain(
    dev_chain: str, session: aiohttp.ClientSession, method: str, mark: dict[str, str]
) -> None:
    moves = method.startswith(("evm_", "anvil_", "hardhat_", "personal_")) or method in (
        "eth_sendTransaction",
        "eth_sign",
    )
    status, found = await post(session, dev_chain, method, **mark)
    assert (status, found == -32601) == (200, moves)
    batch = [REQUEST | {"method": method}] * 2
    async with session.post(
        dev_chain, json=batch, headers={n.replace("_", "-"): v for n, v in mark.items()}
    ) as response:
        assert [one.get("error", {}).get("code") == -32601 for one in await response.json()] == [moves, moves]


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
async def test_a_foreign_name_that_points_here_is_refused(
    dev_chain: str, session: aiohttp.ClientSession, host: str
) -> None:
    assert await post(session, dev_chain, Host=host) == (403, -32600)


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "LOCALHOST", "127.0.0.1:8545", "127.0.0.2", "[::1]:8545"])
async def test_this_machines_names_are_known(dev_chain: str, session: aiohttp.ClientSession, host: str) -> None:
    assert await post(session, dev_chain, Host=host) == (200, "0x7a69")


async def test_a_chain_for_other_machines_is_reached_by_address_or_by_the_names_it_was_given(
    session: aiohttp.ClientSession,
) -> None:
    async with DevChainServer(host="0.0.0.0", hosts=["chain"]) as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        for host in ("192.168.1.2:8545", "chain:8545", "localhost"):
            assert await post(session, url, Host=host) == (200, "0x7a69")
        assert await post(session, url, Host="evil.example") == (403, -32600)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/jsonp"]
)
async def test_only_json_is_read(dev_chain: str, session: aiohttp.ClientSession, kind: str) -> None:
    assert await post(session, dev_chain, "evm_mine", Content_Type=kind) == (415, -32600)
    assert await post(session, dev_chain, "eth_blockNumber", Content_Type="application/json; charset=utf-8") == (
        200,
        "0x0",
    )


async def test_other_http_methods_are_told_to_post(dev_chain: str, session: aiohttp.ClientSession) -> None:
    async with session.get(dev_chain) as response:
        assert response.status == 405
        assert "POST" in (await response.json())["error"]["message"]


async def test_a_body_of_100_mb_is_refused_before_it_is_read(dev_chain: str) -> None:
    host, port = dev_chain.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.setblocking(False)
        import asyncio

        loop = asyncio.get_running_loop()
        await loop.sock_sendall(
            connection,
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100000000\r\n\r\n[",
        )
        reply = await asyncio.wait_for(loop.sock_recv(connection, 65536), 5)
    assert reply.startswith(b"HTTP/1.1 413")


async def test_a_body_without_a_length_is_refused_when_it_is_too_long(
    dev_chain: str, session: aiohttp.ClientSession
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * (MAX_BODY // 2)

    async with session.post(dev_chain, data=chunks(), headers={"Content-Type": "application/json"}) as response:
        assert response.status == 413
        assert (await response.json())["error"]["code"] == -32600


async def test_the_largest_body_is_read(dev_chain: str, session: aiohttp.ClientSession) -> None:
    request = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'
    async with session.post(
        dev_chain, data=request.ljust(MAX_BODY - 1), headers={"Content-Type": "application/json"}
    ) as response:
        assert (await response.json())["result"] == "0x7a69"


async def test_a_port_in_use_is_an_error_and_leaves_nothing_open(dev_chain: str, tmp_path: Any) -> None:
    port = int(dev_chain.rsplit(":", 1)[1])
    with pytest.raises(OSError, match=r"in use|address"):
        await DevChainServer(tmp_path, port=port).start()
    async with DevChainServer(tmp_path) as server, Rpc(server.url) as rpc:
        assert await rpc.block_number() == 0


async def test_errors_cross_the_wire_with_code_and_data(dev_chain: str) -> None:
    async with Rpc(dev_chain) as rpc:
        with raises_rpc(-32602, "address"):
            await rpc.balance("0x12")
        with raises_rpc(-32601):
            await rpc.call("no_such_method")


async def test_a_call_that_names_its_gas_holds_up_only_its_like(
    dev_chain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on, real = threading.Event(), threading.Event(), DevChain.call

    def call(chain: DevChain, call: Any, header: Any) -> Any:
        if call.gas == 1_000_000:
            began.set()
            go_on.wait(60)
        return real(chain, call, header)

    monkeypatch.setattr(DevChain, "call", call)
    async with Rpc(dev_chain) as rpc:
        address = "0x" + "11" * 20
        long = asyncio.create_task(rpc.eth_call(address, b"", gas=1_000_000))
        await asyncio.to_thread(began.wait, 60)
        also = asyncio.create_task(rpc.eth_call(address, b"", gas=999_999))
        assert await rpc.block_number() == 0
        assert await rpc.eth_call(address, b"") == b""
        await rpc.call("evm_mine")
        assert not long.done()
        assert not also.done()
        go_on.set()
        assert await long == await also == b""


@pytest.mark.parametrize(("request_", "beside"), [
    ({"method": "eth_call", "params": [{"to": "0x", "gas": "0x1"}, "latest"]}, True),
    ({"method": "eth_call", "params": [{"to": "0x"}, "latest"]}, False),
    ({"method": "eth_call", "params": []}, False),
    ({"method": "eth_call", "params": ["gas"]}, False),
    ({"method": "eth_call"}, False),
    ({"method": "eth_estimateGas", "params": [{"gas": "0x1"}]}, False),
    ({"method": "eth_sendTransaction", "params": [{"gas": "0x1"}]}, False),
    ([{"method": "eth_call", "params": [{"gas": "0x1"}]}], False),
    (5, False),
])  # fmt: skip
def test_only_a_single_call_with_gas_runs_beside_the_others(request_: Any, beside: bool) -> None:
    assert names_its_gas(json.dumps(request_).encode()) == beside
    assert not names_its_gas(b"no JSON")
