"""What a stranger may cost a gateway: slow connections, too many of them, bytes that are no HTTP, failed logins."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import msgspec
import pytest

from keyquorum.auth.errors import AuthError
from keyquorum.gateway.app import Server
from keyquorum.gateway.config import GatewayConfig


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
        kept = [await connect(server) for _ in range(4)]
        reader, _ = await connect(server)
        assert await asyncio.wait_for(reader.read(), 5) == b""
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
    writer.write(b"POST /v1/sign HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
    await asyncio.sleep(0.1)
    async with asyncio.timeout(10):
        await server.close()


async def test_failed_logins_of_one_address_are_limited(
    config: GatewayConfig, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(msgspec.structs.replace(config, failed_logins=3))
    asked = 0

    async def refuse(body: bytes) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        raise AuthError("bad_signature", "no", "sign it") if body else AuthError("bad_json", "no", "what?", 400)

    monkeypatch.setattr(server.gateway, "open_session", refuse)
    async with server:
        seen = []
        for body in (b"", b"", b"", b"", b"x", b"x", b"x", b"x", b"x"):
            async with http.post(server.url + "/v1/sessions", data=body) as response:
                seen.append(response.status)
                answer, wait = await response.json(), response.headers.get("Retry-After")
        assert seen == [400] * 4 + [401] * 3 + [429] * 2
        assert answer["error"]["code"] == "too_many_failures"
        assert 0 < int(wait or "0") <= 200
        assert asked == 7
        async with http.get(server.url + "/v1/network") as response:
            assert response.status != 429
