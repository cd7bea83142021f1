"""Whatever is sent, the answer is a typed 4xx at once, nothing reaches a node, and the gateway goes on."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

import aiohttp
import msgspec
import pytest

from fake_network import FakeNetwork
from keyquorum.auth import request as requests
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.client import AsyncClient
from keyquorum.formats import jws
from keyquorum.gateway.app import Server
from keyquorum.gateway.config import GatewayConfig
from keyquorum.serving import shell

JSON = {"Content-Type": "application/json"}
POST = b"POST /v1/sign HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

STATEMENT = {
    "network": "eip155:1:0x0000000000000000000000000000000000000001",
    "session": SessionPrivateKey(5).public.to_jwk(),
    "keys": ["*"],
    "scopes": [1],
    "expires": 2**40,
    "uses": 1,
    "nonce": "00" * 16,
    "block": "0x" + "00" * 32,
}
LOGIN = {"statement": STATEMENT, "method": "siwe", "proof": {"message": "", "signature": "0x"}}


def login(**change: Any) -> bytes:
    """A login that its session key signed."""
    claims = {
        "network": STATEMENT["network"], "id": "r" * 20, "exp": int(time.time()) + 50, "kind": "login", "key": "*",
        "intent": LOGIN | change, "runs": [[1, 2, 3]],
    }  # fmt: skip
    signing_input = jws.make_input("ES256", requests.TYPE, claims)
    return msgspec.json.encode({"request": jws.assemble(signing_input, SessionPrivateKey(5).sign(signing_input))})


BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"hello",
    "half": b'{"certificate": "a", ',
    "array": b"[]",
    "null": b"null",
    "number": b"5",
    "binary": bytes(range(256)),
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "empty object": b"{}",
    "unknown field": b'{"certificate": "a", "request": "b", "owner": "0x", "statement": {}, "more": 1}',
    "duplicate key": b'{"certificate": "a", "certificate": "a", "request": "b", "owner": "0x", "owner": "0x"}',
    "wrong types": b'{"certificate": 1, "request": [], "owner": {}, "statement": 5, "method": null, "proof": true}',
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 50_000,
    "long number": b'{"owner": ' + b"9" * 1_000_000 + b"}",
    "big exponent": b'{"owner": 1e999999999}',
    "NaN": b'{"owner": NaN}',
    "lone surrogate": b'{"owner": "\\ud800"}',
    "no address": b'{"owner": "0x12", "request": "aaaaaaaaaaaaaaaaaaaa"}',
    "wrong hex": b'{"owner": "0x' + b"zz" * 20 + b'"}',
    "zero address": b'{"owner": "0x' + b"00" * 20 + b'", "request": "aaaaaaaaaaaaaaaaaaaa"}',
    "no tokens": b'{"certificate": "a", "request": "b"}',
    "dots": b'{"certificate": "..", "request": "...."}',
    "long token": b'{"certificate": "' + b"a" * 900_000 + b'", "request": "b"}',
    "other network": login(),
    "unknown method": login(method="magic"),
    "wrong scope": login(statement=STATEMENT | {"scopes": [99]}),
    "no jwk": login(statement=STATEMENT | {"session": {}}),
    "text in proof": login(proof="x"),
    "unsigned login": msgspec.json.encode(LOGIN),
}
PATHS = ["/v1/sign", "/v1/sessions", "/v1/sessions/list", "/v1/revocations", "/v1/commitments", "/v1/keys"]
PATHS += ["/v1/permissions"]


async def refused(response: aiohttp.ClientResponse) -> dict[str, str]:
    content = await response.read()
    assert 400 <= response.status < 500, (response.status, content[:200])
    error: dict[str, str] = json.loads(content)["error"]
    assert error["code"] and error["message"] and error["hint"]
    assert "Traceback" not in content.decode()
    return error


@pytest.mark.parametrize("path", PATHS)
async def test_every_bad_body_is_a_typed_refusal_and_no_node_hears_of_it(
    server: Server, http: aiohttp.ClientSession, network: FakeNetwork, path: str
) -> None:
    for name, body in BODIES.items():
        start = time.monotonic()
        async with http.post(server.url + path, data=body, headers=JSON) as response:
            await refused(response)
        assert time.monotonic() - start < 2, name
    assert not network.attempts


async def test_bad_bodies_take_little_time(server: Server) -> None:
    """CPU time on this thread, best of three, so that a busy machine does not decide."""
    for name, body in BODIES.items():
        best = 1.0
        open_session = partial(server.gateway.open_session, client=name)
        for _ in range(3):
            start = time.thread_time()
            for call in (server.gateway.sign, open_session, server.gateway.list_sessions):
                with pytest.raises(ValueError):
                    await call(body)
            best = min(best, (time.thread_time() - start) / 3)
        assert best < 0.1, (name, best)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"])
async def test_wrong_methods_are_refused(server: Server, http: aiohttp.ClientSession, method: str) -> None:
    async with http.request(method, server.url + "/v1/sign") as response:
        assert (await refused(response))["code"] == "wrong_method"


@pytest.mark.parametrize("path", ["/js/nothing", "/v1", "/v1/nothing", "/v1/sign/x", "/%00", "/..%2f..%2fetc/passwd"])
async def test_wrong_paths_are_refused(server: Server, http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(server.url + path) as response:
        assert (await refused(response))["code"] == "no_such_path"


@pytest.mark.parametrize("name", ["0x", "0x" + "g" * 64, "-1", "0x" + "1" * 65, "9" * 2000, "%00", "0x1%20"])
async def test_names_that_are_no_key_are_refused(server: Server, http: aiohttp.ClientSession, name: str) -> None:
    async with http.get(f"{server.url}/v1/keys/{name}") as response:
        assert (await refused(response))["code"] == "bad_value"


async def test_a_key_nobody_knows_is_not_found(server: Server, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{server.url}/v1/keys/0x{'12' * 32}") as response:
        assert response.status == 404
        assert (await refused(response))["code"] == "unknown_key"


async def test_a_body_announced_as_too_large_is_refused_before_it_is_sent(server: Server) -> None:
    import asyncio

    reader, writer = await asyncio.open_connection("127.0.0.1", server.gateway.port)
    writer.write(POST + b"Content-Length: 104857600\r\n\r\n")
    status = await asyncio.wait_for(reader.readline(), 2)
    writer.close()
    assert b" 413 " in status


async def test_a_body_without_length_is_cut_off_at_the_limit(server: Server) -> None:
    import asyncio

    reader, writer = await asyncio.open_connection("127.0.0.1", server.gateway.port)
    writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    try:
        for _ in range(40):
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        pass
    status = await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    assert b" 413 " in status


async def test_a_body_that_never_ends_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setattr(shell, "BODY_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.gateway.port)
    writer.write(POST + b"Content-Length: 100\r\n\r\n{")
    status = await asyncio.wait_for(reader.readline(), 3)
    writer.close()
    assert b" 408 " in status


async def test_compressed_bodies_are_not_read(server: Server, http: aiohttp.ClientSession) -> None:
    import zlib

    bomb = zlib.compress(b"0" * 50_000_000)
    async with http.post(
        server.url + "/v1/sign", data=bomb, headers={"Content-Encoding": "deflate"} | JSON
    ) as response:
        assert (await refused(response))["code"] in ("bad_encoding", "too_large")


async def test_a_request_by_another_session_key_is_refused_before_any_node(
    user: AsyncClient, server: Server, http: aiohttp.ClientSession, network: FakeNetwork
) -> None:
    key = (await user.mint()).key
    first, second = await user.login(), await user.login()
    network.reset()
    token = requests.make(
        first.key,
        network=network.id,
        request_id="r" * 20,
        expires=int(time.time()) + 30,
        key=f"0x{key.token_id:064x}",
        intent={"kind": "evm-message", "message": "x"},
        runs=[(1, 2, 3)],
    )
    body = {"certificate": second.certificate, "request": token}
    async with http.post(server.url + "/v1/sign", json=body) as response:
        assert (await refused(response))["code"] == "bad_signature"
        assert response.status == 401
    assert not network.attempts


async def test_a_bad_intent_in_a_good_request_is_refused_with_its_own_code(
    user: AsyncClient, server: Server, http: aiohttp.ClientSession, network: FakeNetwork
) -> None:
    key = (await user.mint()).key
    session = await user.login()
    intents: list[dict[str, Any]] = [{}, {"kind": "x"}, {"kind": "evm-message", "message": "a", "bytes": "0x"}]
    for intent in intents:
        token = requests.make(
            session.key,
            network=network.id,
            request_id="r" * 20,
            expires=int(time.time()) + 30,
            key=f"0x{key.token_id:064x}",
            intent=intent,
            runs=[(1, 2, 3)],
        )
        body = {"certificate": session.certificate, "request": token}
        async with http.post(server.url + "/v1/sign", json=body) as response:
            assert response.status == 400
            await refused(response)


async def test_one_address_cannot_ask_more_than_its_rate(config: GatewayConfig, http: aiohttp.ClientSession) -> None:
    async with Server(msgspec.structs.replace(config, requests_per_second=3)) as server:
        statuses = []
        for _ in range(10):
            async with http.post(server.url + "/v1/sign", data=b"{", headers=JSON) as response:
                statuses.append(response.status)
        async with http.get(server.url + "/livez") as response:
            assert response.status == 200
    assert statuses[:3] == [400] * 3
    assert 429 in statuses
