"""What a stranger may cost a gateway: slow connections, too many of them, bytes that are no HTTP, failed logins."""

from __future__ import annotations

import asyncio
import contextlib
import json
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec
import pytest
from eth_hash.auto import keccak

from fake_network import FakeNetwork
from keyquorum.chain.rpc import Reverted
from keyquorum.client.errors import ChainError, Refused
from keyquorum.client.minting import MintRequest
from keyquorum.gateway import relay as relay_module
from keyquorum.gateway.app import Server
from keyquorum.gateway.config import GatewayConfig
from keyquorum.gateway.quotas import Quota
from keyquorum.gateway.relay import Relay
from keyquorum.refusal import Invalid

JSON = {"Content-Type": "application/json"}


async def connect(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", server.gateway.port)


async def test_headers_that_do_not_end_end_the_connection_and_nobody_else_waits(
    config: GatewayConfig, http: aiohttp.ClientSession
) -> None:
    async with Server(msgspec.structs.replace(config, connections=30, connections_per_address=30)) as server:
        assert server._http is not None
        server._http._header_seconds = 0.3
        slow = [await connect(server) for _ in range(25)]
        for _, writer in slow:
            writer.write(b"POST /v1/sign HTTP/1.1\r\nHost: x\r\nX-")
        async with http.get(server.url + "/livez") as response:
            assert response.status == 200
        for reader, _ in slow:
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await asyncio.wait_for(reader.readexactly(1), 5)
        assert server._http.counts["unfinished_headers"] == 25


async def test_one_address_has_only_its_share_of_the_connections(config: GatewayConfig) -> None:
    async with Server(msgspec.structs.replace(config, connections_per_address=4)) as server:
        assert server._http is not None
        kept = [await connect(server) for _ in range(5)]
        with contextlib.suppress(ConnectionResetError):
            assert await kept[0][0].read() == b""
        assert server._http.counts == {"connections_evicted": 1}
        assert len(server._http.connections) == 4
        for _, writer in kept:
            writer.close()


async def test_bytes_that_are_no_http_get_a_typed_answer(server: Server) -> None:
    reader, writer = await connect(server)
    writer.write(b"EHLO mail.example\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 5)
    head, body = answer.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 400") or head.startswith(b"HTTP/1.0 400")
    assert json.loads(body)["error"]["code"] == "bad_http"


async def test_a_gateway_with_a_request_under_way_ends_in_seconds(
    config: GatewayConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(config)

    async def never(body: bytes) -> dict[str, Any]:
        await asyncio.sleep(3600)
        return {}

    monkeypatch.setattr(server.gateway, "sign", never)
    await server.__aenter__()
    _, writer = await connect(server)
    writer.write(b"POST /v1/sign HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
    await asyncio.sleep(0.1)
    async with asyncio.timeout(10):
        await server.close()


async def test_failed_logins_of_one_address_are_limited(
    config: GatewayConfig, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(msgspec.structs.replace(config, failed_logins=3))
    asked = 0

    async def refuse(body: bytes, client: str) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        raise Invalid("bad_signature", "no", "sign it") if body else Invalid("bad_json", "no", "what?", 400)

    monkeypatch.setattr(server.gateway, "open_session", refuse)
    async with server:
        seen = []
        for body in (b"", b"", b"", b"", b"x", b"x", b"x", b"x", b"x"):
            async with http.post(server.url + "/v1/sessions", data=body, headers=JSON) as response:
                seen.append(response.status)
                answer, wait = await response.json(), response.headers.get("Retry-After")
        assert seen == [400] * 4 + [401] * 3 + [429] * 2
        assert answer["error"]["code"] == "too_many_failures"
        assert 0 < int(wait or "0") <= 200
        assert asked == 7
        async with http.get(server.url + "/v1/network") as response:
            assert response.status != 429


async def test_behind_a_trusted_proxy_everybody_is_counted_alone(
    config: GatewayConfig, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(body: bytes, client: str) -> dict[str, Any]:
        raise Invalid("bad_signature", "no", "sign it")

    async def ask(server: Server, client: str) -> int:
        headers = {"X-Forwarded-For": f"203.0.113.9, {client}", "Content-Type": "application/json"}
        async with http.post(server.url + "/v1/sessions", data=b"x", headers=headers) as response:
            return response.status

    for proxies, others in ((["127.0.0.1/32"], 401), ([], 429)):
        server = Server(msgspec.structs.replace(config, failed_logins=2, trusted_proxies=proxies))
        monkeypatch.setattr(server.gateway, "open_session", refuse)
        async with server:
            assert [await ask(server, "198.51.100.1") for _ in range(3)] == [401, 401, 429]
            assert await ask(server, "198.51.100.2") == others
            # Of an IPv6 address the /64 counts.
            if proxies:
                assert [await ask(server, f"2001:db8::{k}") for k in (1, 2, 3)] == [401, 401, 429]


async def test_what_a_gateway_mints_for_strangers_is_bounded_in_all(network: FakeNetwork) -> None:
    relay = Relay(None, object(), Quota("too_many_mints", "keys", 5, 5, 2))  # type: ignore[arg-type]

    async def nothing(*_: Any) -> int:
        return 0

    async def found(*_: Any) -> str:
        raise LookupError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MintRequest, "key_of", nothing)
        patch.setattr(Relay, "_send", found)
        for k in range(2):
            with pytest.raises(LookupError):
                await relay._mint(SimpleNamespace(address=""), MintRequest(f"0x{k:040x}", "r" * 16), f"client {k}")  # type: ignore[arg-type]
        with pytest.raises(Refused) as caught:
            await relay._mint(SimpleNamespace(address=""), MintRequest("0x" + "11" * 20, "r" * 16), "another")  # type: ignore[arg-type]
    assert caught.value.code == "too_many_mints"


class _Minting(Relay):
    """A relay whose mints happen at once, on no chain."""

    def __init__(self, patch: pytest.MonkeyPatch, *limits: int) -> None:
        async def key(token: int) -> int:
            return token

        super().__init__(
            SimpleNamespace(key=key), SimpleNamespace(address=""), Quota("too_many_mints", "keys", *limits)
        )  # type: ignore[arg-type]
        self.made: dict[MintRequest, int] = {}

        async def key_of(asked: MintRequest, *_: Any) -> int:
            return self.made.get(asked, 0)

        patch.setattr(MintRequest, "key_of", key_of)

    async def _send(self, sender: Any, asked: MintRequest) -> str:
        self.made[asked] = len(self.made) + 1
        return "0x"


async def test_what_strangers_ask_for_in_somebodys_name_takes_nothing_from_him(monkeypatch: pytest.MonkeyPatch) -> None:
    relay, owner = _Minting(monkeypatch, 10, 4, 100), "0x" + "ab" * 20
    for stranger in range(5):
        for _ in range(20):
            await relay.mint(MintRequest(owner, "one-request-again"), f"stranger {stranger}")
        for number in range(stranger and 4):
            await relay.mint(MintRequest(owner, f"request-of-stranger-{stranger}-{number}"), f"stranger {stranger}")
    assert len(relay.made) == 1 + 4 * 4
    for number in range(4):
        await relay.mint(MintRequest(owner, f"his-own-request-{number}"), "himself")
    with pytest.raises(Refused):
        await relay.mint(MintRequest(owner, "his-own-request-4"), "himself")
    await relay.mint(MintRequest(owner, "his-own-request-0"), "himself")


def test_a_refusal_counts_for_nobody() -> None:
    quota = Quota("too_many", "requests", 3, 2, 9)
    for names in (("a", "x", ""), ("a", "x", "")):
        quota.take(*names)
    for _ in range(20):
        with pytest.raises(Refused):
            quota.take("a", "x", "")
    quota.take("a", "y", "")
    with pytest.raises(Refused):
        quota.take("a", "y", "")
    for k in range(6):
        quota.take(f"b {k}", "y" if not k else f"z {k}", "")
    with pytest.raises(Refused):
        quota.take("c", "c", "")


async def test_a_strangers_page_gets_no_key_for_an_owner(server: Server, http: aiohttp.ClientSession) -> None:
    body = {"owner": "0x" + "11" * 20, "request": "r" * 16}
    headers = {"Origin": "https://evil.example"}
    async with http.post(server.url + "/v1/keys", json=body, headers=headers) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (403, "no_relay")
    async with http.post(server.url + "/v1/keys", json=body, headers={"Origin": server.url}) as response:
        assert response.status == 200


async def test_a_receiver_that_refuses_costs_the_gateway_nothing_whatever_its_words(
    server: Server, http: aiohttp.ClientSession, network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A contract that says no in the pool's words would have the gateway try again and again, and pay each time."""
    monkeypatch.setattr(relay_module, "POOL_SECONDS", 0.5)
    gateway, words = server.gateway, keccak(b"PoolEmpty()")[:4].hex()
    runtime = f"63{words}60e01b5f5260045ffd"
    code = bytes.fromhex(f"60{len(runtime) // 2:02x}600c60003960{len(runtime) // 2:02x}6000f3{runtime}")
    sender = gateway._relay._sender
    assert sender is not None
    receiver = (await sender.send(None, code))["contractAddress"]
    before = await gateway.chain.rpc.call("eth_getTransactionCount", sender.address, "latest")
    body = {"owner": receiver, "request": "words-of-the-pool"}
    async with http.post(server.url + "/v1/keys", json=body) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (503, "mint_refused")
    assert await gateway.chain.rpc.call("eth_getTransactionCount", sender.address, "latest") == before


async def test_a_receiver_that_refuses_only_when_it_is_paid_for_is_paid_for_once(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is executed may differ from what was tried out; then only the chain knows whether the pool was empty."""
    gateway, sent = server.gateway, list[bytes]()
    newest = await gateway.chain.rpc.block_number()

    async def fail(to: str, data: bytes, *_: Any) -> Any:
        sent.append(data)
        raise Reverted(3, "execution reverted", "0x" + keccak(b"PoolEmpty()")[:4].hex(), {"blockNumber": hex(newest)})

    monkeypatch.setattr(gateway._relay._sender, "send", fail)
    with pytest.raises(ChainError) as refused:
        await gateway._relay.mint(MintRequest("0x" + "11" * 20, "paid-for-in-vain"), "somebody")
    assert (refused.value.code, len(sent)) == ("mint_refused", 1)
