"""The listening side: unfinished requests, too many connections, bytes that are no HTTP, and how it ends."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from keyquorum.serving import http_server
from keyquorum.serving.http_server import HttpServer

PATIENCE = 0.2
GET = b"GET /ok HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass
class Site:
    server: HttpServer
    port: int
    release: asyncio.Event

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, data: bytes) -> tuple[int, Any]:
        reader, writer = await self.connect()
        writer.write(data)
        status, body = await answer(reader)
        writer.close()
        return status, body


@asynccontextmanager
async def site(
    most: int = 100, per_address: int = 50, header_seconds: float = PATIENCE, **options: Any
) -> AsyncIterator[Site]:
    release = asyncio.Event()

    async def okay(_: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    async def slow(_: web.Request) -> web.Response:
        await release.wait()
        return web.json_response({"ok": True})

    async def echo(request: web.Request) -> web.Response:
        return web.json_response({"read": len(await request.read())})

    async def broken(_: web.Request) -> web.Response:
        raise RuntimeError("canary-in-an-exception")

    app = web.Application()
    app.add_routes([web.get("/ok", okay), web.get("/slow", slow), web.post("/echo", echo), web.get("/broken", broken)])
    server = HttpServer(app, most, per_address, header_seconds=header_seconds, **options)
    port = await server.start("127.0.0.1", 0)
    try:
        yield Site(server, port, release)
    finally:
        release.set()
        await server.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, Any]:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
    body = await reader.readexactly(int(fields[b"content-length"]))
    return int(head.split()[1]), json.loads(body)


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), 5) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("start", [b"", b"G", b"GET /ok HTTP/1.1\r\n", b"GET /ok HTTP/1.1\r\nHost: x\r\nA"])
async def test_headers_that_do_not_end_end_the_connection(start: bytes) -> None:
    async with site() as here:
        reader, writer = await here.connect()
        writer.write(start)
        assert await ended(reader)
        assert here.server.counts["unfinished_headers"] == 1
        assert not here.server.connections


async def test_a_byte_now_and_then_gains_no_time() -> None:
    async with site() as here:
        _, writer = await here.connect()
        began = time.monotonic()
        with pytest.raises(ConnectionError):
            for byte in b"GET /ok HTTP/1.1\r\n" + b"X: y\r\n" * 10_000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(PATIENCE / 10)
                if time.monotonic() - began > 50 * PATIENCE:
                    break
        assert here.server.counts["unfinished_headers"] == 1


async def test_a_second_request_on_a_connection_has_the_same_time_and_silence_between_them_is_fine() -> None:
    async with site() as here:
        reader, writer = await here.connect()
        writer.write(GET)
        assert (await answer(reader))[0] == 200
        await asyncio.sleep(2 * PATIENCE)
        writer.write(GET)
        assert (await answer(reader))[0] == 200
        writer.write(GET[:-3])
        assert await ended(reader)


async def test_a_slow_answer_and_a_slow_body_are_not_unfinished_headers() -> None:
    async with site() as here:
        reader, writer = await here.connect()
        writer.write(GET.replace(b"/ok", b"/slow"))
        await asyncio.sleep(2 * PATIENCE)
        here.release.set()
        assert (await answer(reader))[0] == 200
        writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        await asyncio.sleep(2 * PATIENCE)
        writer.write(b"cd")
        assert await answer(reader) == (200, {"read": 4})
        assert not here.server.counts


async def test_slow_connections_do_not_keep_others_out() -> None:
    """Slowloris: as many connections as there may be, a byte each now and then; honest ones come in all the time."""
    async with site(most=40, per_address=40) as here:
        began = time.monotonic()

        async def loris() -> None:
            while time.monotonic() - began < 5 * PATIENCE:
                try:
                    _, writer = await here.connect()
                    for _ in range(100):
                        writer.write(b"X")
                        await writer.drain()
                        await asyncio.sleep(PATIENCE / 20)
                except OSError:
                    await asyncio.sleep(PATIENCE / 20)

        attack = [asyncio.create_task(loris()) for _ in range(60)]
        await asyncio.sleep(2 * PATIENCE)
        got = 0
        while time.monotonic() - began < 20 * PATIENCE and got < 10:
            try:
                got += (await here.ask(GET))[0] == 200
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.01)
        await asyncio.gather(*attack, return_exceptions=True)
        assert got == 10


async def held(here: Site, count: int) -> None:
    """Wait until the server holds `count` connections; the loop's own time is all it takes."""
    for _ in range(10_000):
        if len(here.server.connections) == count:
            return
        await asyncio.sleep(0.001)
    pytest.fail(f"{len(here.server.connections)} connections, not {count}")


async def test_one_address_has_only_its_share_of_the_connections_and_the_longest_waiting_one_makes_room() -> None:
    async with site(most=5, per_address=3, header_seconds=3600.0) as here:
        kept = []
        for count in (1, 2, 3):
            kept.append(await here.connect())
            await held(here, count)
        assert (await here.ask(GET))[0] == 200
        assert await ended(kept[0][0])
        assert here.server.counts == {"connections_evicted": 1}
        await held(here, 2)
        for _, writer in kept:
            writer.close()


async def test_what_is_being_answered_makes_room_for_nobody() -> None:
    async with site(most=5, per_address=3, header_seconds=3600.0) as here:
        kept = [await here.connect() for _ in range(3)]
        for _, writer in kept:
            writer.write(GET.replace(b"/ok", b"/slow"))
        await answering(here, 3)
        reader, _ = await here.connect()
        assert await ended(reader)
        assert here.server.counts == {"connections_over_limit": 1}
        here.release.set()
        assert [(await answer(each))[0] for each, _ in kept] == [200] * 3


async def answering(here: Site, count: int) -> None:
    for _ in range(10_000):
        if sum(each.waiting is None for each in here.server.connections) == count:
            return
        await asyncio.sleep(0.001)
    pytest.fail("they are not being answered")


async def test_a_full_server_lets_newcomers_in_and_idle_ones_go() -> None:
    async with site(most=4, per_address=4, header_seconds=3600.0) as here:
        idle = [await here.connect() for _ in range(4)]
        for reader, writer in idle:
            writer.write(GET)
            assert (await answer(reader))[0] == 200
        for _ in range(3):
            assert (await here.ask(GET))[0] == 200
        assert here.server.counts["connections_evicted"] >= 1
        assert len(here.server.connections) <= 4


async def test_a_trusted_address_is_bound_by_the_whole_only() -> None:
    async with site(most=8, per_address=1, trusted=["127.0.0.0/8"], header_seconds=3600.0) as here:
        kept = [await here.connect() for _ in range(8)]
        await held(here, 8)
        for _, writer in kept:
            writer.write(GET.replace(b"/ok", b"/slow"))
        await answering(here, 8)
        reader, _ = await here.connect()
        assert await ended(reader)
        here.release.set()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_that_was_late_reads_what_has_arrived_before_it_gives_a_client_up(new_loop: Any) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_headers_that_came_while_the_loop_was_busy())


async def _headers_that_came_while_the_loop_was_busy() -> None:
    async with site() as here:
        with socket.create_connection(("127.0.0.1", here.port)) as client:
            client.setblocking(False)
            client.sendall(GET[:10])
            await held(here, 1)
            while any(each.transport is None for each in here.server.connections):  # noqa: ASYNC110
                await asyncio.sleep(0)
            loop = asyncio.get_running_loop()
            alarm, busy = socket.socketpair()

            def be_busy() -> None:
                loop.remove_reader(busy)
                client.sendall(GET[10:])
                time.sleep(2 * PATIENCE)

            # While the loop reads: what comes next in libuv's are timers, and only then what has arrived.
            loop.add_reader(busy, be_busy)
            alarm.send(b"!")
            received = await loop.sock_recv(client, 4096)
            alarm.close(), busy.close()
            assert received.startswith(b"HTTP/1.1 200")
        assert not here.server.counts


@pytest.mark.parametrize("data", [
    b"hello\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00" * 10 + b"\r\n\r\n",
    b"GET /ok HTTP/9.9\r\n\r\n", b"GET /ok HTTP/1.1\r\nHost x\r\n\r\n", b"GET /ok HTTP/1.1\r\nA: " + b"x" * 20_000,
    b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", b"POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET /ok HTTP/1.1\r\n" + b"".join(b"H%d: v\r\n" % k for k in range(300)) + b"\r\n",
])  # fmt: skip
async def test_what_is_no_http_gets_a_typed_answer_and_the_end(data: bytes) -> None:
    async with site() as here:
        reader, writer = await here.connect()
        writer.write(data)
        status, body = await answer(reader)
        assert status == 400
        assert body["error"]["code"] == "bad_http"
        assert set(body["error"]) == {"code", "message", "hint"}
        assert await ended(reader)


async def test_a_fault_of_ours_says_nothing_about_itself() -> None:
    async with site() as here:
        status, body = await here.ask(GET.replace(b"/ok", b"/broken"))
        assert (status, body["error"]["code"]) == (503, "internal")
        assert "canary" not in json.dumps(body)


async def test_closing_waits_for_nobody_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "SHUTDOWN_SECONDS", 0.2)
    async with site() as here:
        idle, writer = await here.connect()
        writer.write(GET)
        await answer(idle)
        busy, busy_writer = await here.connect()
        busy_writer.write(GET.replace(b"/ok", b"/slow"))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await here.server.close()
        assert time.monotonic() - began < 3
        assert await ended(idle)
        assert await ended(busy)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_with_tls_a_connection_is_counted_before_its_handshake(new_loop: Any, tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_handshakes_that_never_come(*certificate(tmp_path)))


async def _handshakes_that_never_come(cert: Path, key: Path) -> None:
    app = web.Application()

    async def okay(_: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    app.add_routes([web.get("/ok", okay)])
    server = HttpServer(app, most=5, per_address=5)
    here = Site(server, await server.start("127.0.0.1", 0, cert, key), asyncio.Event())
    silent = [await here.connect() for _ in range(5)]
    await held(here, 5)
    trust = ssl.create_default_context(cafile=str(cert))
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port, ssl=trust, server_hostname="localhost")
        writer.write(GET)
        assert (await answer(reader))[0] == 200
        writer.close()
    assert server.counts["connections_evicted"] >= 1
    assert await ended(silent[0][0])
    for _, each in silent:
        each.close()
    await held(here, 0)
    await server.close()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


async def test_many_requests_of_one_client_reuse_a_connection() -> None:
    async with site() as here, aiohttp.ClientSession() as http:
        for _ in range(20):
            async with http.get(f"http://127.0.0.1:{here.port}/ok") as response:
                assert (await response.json()) == {"ok": True}
        assert len(here.server.connections) == 1
