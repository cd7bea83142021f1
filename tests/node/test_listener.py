"""Who may begin a handshake with a node: counted by network address, and no stranger takes a peer's place."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from node_world import world

import keyquorum
from keyquorum.node.mesh.connection import Limits
from keyquorum.node.mesh.listener import KEPT_SHARE, PEER_SOURCES_REMEMBERED, Listener

SOURCES = Path(keyquorum.__file__).parent
PEER = "198.51.100.7"
LIMITS = Limits(handshakes=16, handshakes_per_address=4)
OF_STRANGERS = LIMITS.handshakes - LIMITS.handshakes // KEPT_SHARE


@pytest.fixture
async def listening(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listener]:
    async def welcome(_: int, __: Any) -> None:
        return None

    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    made = Listener(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), lambda _: None, welcome, LIMITS, Counter())
    monkeypatch.setattr(made, "_shake_hands", never)
    yield made
    await made.close()


def begun(listening: Listener, *addresses: str) -> int:
    """Let connections come that never finish their handshake; how many could begin one."""
    before, server = len(listening._handshakes), cast(web.Server, None)
    for address in addresses:
        listening._take(socket.socket(), address, server)
    return len(listening._handshakes) - before


async def test_a_host_with_a_network_of_addresses_is_one_address(listening: Listener) -> None:
    assert begun(listening, *(f"2001:db8:1:1::{k:x}" for k in range(1, 400))) == LIMITS.handshakes_per_address
    assert len(listening._allowance) == 1
    assert begun(listening, "2001:db8:1:2::1", "203.0.113.9", "::ffff:203.0.113.9") == 3
    assert set(listening._allowance) == {"2001:db8:1:1::/64", "2001:db8:1:2::/64", "203.0.113.9"}


async def test_strangers_of_many_addresses_leave_room_for_registered_peers(listening: Listener) -> None:
    listening.expect([PEER, "2001:db8:77::9", "node.example"])
    assert begun(listening, *(f"203.0.113.{k}" for k in range(100))) == OF_STRANGERS
    assert begun(listening, PEER, "2001:db8:77::1", "203.0.113.200") == 2


async def test_strangers_leave_room_for_addresses_that_a_peer_has_come_from(listening: Listener) -> None:
    listening._remember_peer(PEER)
    assert begun(listening, *(f"203.0.113.{k}" for k in range(100))) == OF_STRANGERS
    assert begun(listening, *[PEER] * 9) == LIMITS.handshakes_per_address
    assert begun(listening, "unknown", "203.0.113.200") == 0


async def test_addresses_of_peers_are_bounded_in_number(listening: Listener) -> None:
    for k in range(PEER_SOURCES_REMEMBERED + 9):
        listening._remember_peer(str(k))
    assert len(listening._peer_sources) == PEER_SOURCES_REMEMBERED


def test_who_asks_is_learned_in_few_places_and_counted_by_the_one_rule() -> None:
    raw = re.compile(r"\.sock_accept\(|peername|\.remote\b")
    found = {str(path.relative_to(SOURCES)) for path in SOURCES.rglob("*.py") if raw.search(path.read_text())}
    assert found == {"node/mesh/listener.py", "serving/http_server.py", "serving/addresses.py"}
    for name in ("node/mesh/listener.py", "serving/connections.py", "serving/shell.py"):
        assert "fold(address)" in (SOURCES / name).read_text(), f"{name} counts addresses that it has not folded"


async def test_who_proved_to_be_a_peer_is_remembered_by_where_it_came_from() -> None:
    async with world(2) as w:
        await w.all_up()
        assert list(w.nodes[2].mesh._listener._peer_sources) == ["127.0.0.1"]
        assert w.nodes[2].mesh._listener._registered_sources == {"127.0.0.1"}
