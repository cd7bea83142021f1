"""What one message between nodes may have, met from both sides, where a node listens and where it dials."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from aiohttp import web
from node_world import hello, impersonate, present, until, world

from keyquorum.node.mesh import wire
from keyquorum.node.mesh.tls import TrustStore

SIZES = [(wire.FRAME_LIMIT - 1, True), (wire.FRAME_LIMIT + 1, False)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the messages that came so far as to be read."""
    found: list[int] = []
    real = wire.decode

    def decode(data: bytes) -> wire.Frame:
        found.append(len(data))
        return real(data)

    monkeypatch.setattr(wire, "decode", decode)
    return found


@pytest.mark.parametrize(("size", "read"), SIZES)
async def test_where_a_node_listens_no_message_beyond_the_limit_is_taken_in(
    decoded: list[int], size: int, read: bool
) -> None:
    async with world(2, 0) as w:
        servers = await present(w, 1)
        await w.start(2)
        impostor = await impersonate(w.ports[2], w.identities[1])
        await impostor.send(hello(1, 2))
        await until(lambda: w.nodes[2].events == [("up", 1)])
        await impostor.socket.send_bytes(bytes(size))
        await until(lambda: ("down", 1) in w.nodes[2].events)
        assert (size in decoded) == read
        await impostor.close()
        servers[0].close()


@pytest.mark.parametrize(("size", "read"), SIZES)
async def test_where_a_node_dials_no_message_beyond_the_limit_is_taken_in(
    decoded: list[int], size: int, read: bool
) -> None:
    async with world(2, 0) as w:
        done = asyncio.Event()

        async def answer(request: web.Request) -> web.WebSocketResponse:
            socket = web.WebSocketResponse(autoping=False)
            await socket.prepare(request)
            await socket.send_bytes(bytes(size))
            while not (await socket.receive()).type.name.startswith("CLOS"):
                pass
            done.set()
            return socket

        context = TrustStore(w.identities[2]).server
        context.verify_mode = ssl.CERT_NONE
        app = web.Application()
        app.router.add_get("/mesh", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", w.ports[2], ssl_context=context).start()
        try:
            await w.start(1)
            async with asyncio.timeout(20):
                await done.wait()
            assert (size in decoded) == read
        finally:
            await runner.cleanup()
