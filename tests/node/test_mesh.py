"""The mesh: who gets in, who stays, and what a peer can cost."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
import struct
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec
import pytest
import uvloop
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from node_world import (
    NETWORK,
    Impostor,
    World,
    client_context,
    hello,
    impersonate,
    knock,
    make_identity,
    present,
    until,
    world,
)

from held_ports import free_port
from keyquorum.node.mesh import wire
from keyquorum.node.mesh.connection import Limits
from keyquorum.node.mesh.identity import Identity
from keyquorum.node.mesh.listener import CONNECTIONS_PER_PEER
from keyquorum.node.mesh.mesh import Mesh, Peer
from keyquorum.node.mesh.tls import PinMismatch, TrustStore, fetch_certificate

SID = b"s" * 32


def message(payload: bytes = b"x", number: int = 1) -> wire.Round:
    return wire.Round(SID, number, True, payload, b"")


async def played(w: World, me: int = 1, peer: int = 2) -> Impostor:
    """Node `peer` is real; node `me` is only present as a certificate, and then played by hand."""
    servers = await present(w, me)
    await w.start(peer)
    impostor = await impersonate(w.ports[peer], w.identities[me])
    for server in servers:
        server.close()
    return impostor


async def admitted(w: World, me: int = 1, peer: int = 2) -> Impostor:
    impostor = await played(w, me, peer)
    await impostor.send(hello(me, peer))
    assert isinstance(await impostor.receive(), wire.Hello)
    return impostor


# The ordinary life of a mesh


async def test_all_nodes_find_each_other_and_frames_carry_the_right_sender() -> None:
    async with world(4) as w:
        await w.all_up()
        got: list[tuple[int, int, bytes]] = []
        for node in w.nodes.values():
            node.mesh.route(
                wire.Round,
                lambda peer, frame, me=node.party: got.append((me, peer, frame.payload)),  # type: ignore[misc]
            )
        for node in w.nodes.values():
            for peer in node.mesh.up:
                assert node.mesh.send(peer, message(b"%d to %d" % (node.party, peer)))
        await until(lambda: len(got) == 12)
        assert all(payload == b"%d to %d" % (sender, me) for me, sender, payload in got)


async def test_each_side_knows_the_process_at_the_other_end() -> None:
    async with world(3) as w:
        await w.all_up()
        for node in w.nodes.values():
            assert node.mesh.boot_ids == {
                other.party: other.mesh.boot_id for other in w.nodes.values() if other is not node
            }
            for peer in node.mesh.up:
                ours, theirs = node.mesh.link(peer), w.nodes[peer].mesh.link(node.party)
                assert ours and theirs and (ours.ours, ours.theirs) == (theirs.theirs, theirs.ours)


async def test_a_lost_connection_is_made_again_and_both_sides_see_it_go_and_come() -> None:
    async with world(2) as w:
        await w.all_up()
        first = w.nodes[1].mesh.link(2)
        w.nodes[2].mesh.drop(1, "test")
        await until(lambda: [e for n in w.nodes.values() for e, _ in n.events] == ["up", "down", "up"] * 2)
        await w.all_up()
        second = w.nodes[1].mesh.link(2)
        assert first and second and first.ours.connection != second.ours.connection


async def test_a_peer_that_hangs_up_at_once_is_dialled_ever_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyquorum.node.mesh.mesh.random.uniform", lambda low, high: 1.0)
    monkeypatch.setattr("keyquorum.node.mesh.mesh.LONGEST_PAUSE", 0.4)
    monkeypatch.setattr("keyquorum.node.mesh.mesh.LIVED_SECONDS", float("inf"))  # however slow the machine is
    sleeps: list[float] = []
    sleep = asyncio.sleep

    async def noting(seconds: float) -> None:
        sleeps.append(seconds)
        await sleep(seconds)

    async with world(2) as w:
        await w.all_up()
        sleeps.clear()
        monkeypatch.setattr("keyquorum.node.mesh.mesh.asyncio.sleep", noting)
        for count in range(1, 5):
            await w.all_up()  # also here: a connection that ends before it is up on both sides is no "down"
            w.nodes[2].mesh.drop(1, "flapping")
            await until(lambda: w.nodes[1].events.count(("down", 2)) == count)  # noqa: B023
        await until(lambda: 0.4 in sleeps)


@pytest.mark.parametrize("party", [1, 2])
async def test_a_restarted_node_is_linked_again_as_another_process(party: int) -> None:
    async with world(2) as w:
        await w.all_up()
        before = w.nodes[3 - party].mesh.boot_ids[party]
        await w.stop(party)
        await until(lambda: not w.nodes[3 - party].mesh.up)
        assert not w.nodes[3 - party].mesh.send(party, message())
        await w.start(party)
        await w.all_up()
        assert w.nodes[3 - party].mesh.boot_ids[party] != before


async def test_a_large_frame_arrives_whole_and_an_urgent_one_overtakes_it() -> None:
    async with world(2) as w:
        await w.all_up()
        got: list[wire.Frame] = []
        for kind in (wire.Round, wire.BatchReply):
            w.nodes[2].mesh.route(kind, lambda peer, frame: got.append(frame))
        bulk = wire.BatchReply(b"l" * 16, 1, bytes(range(256)) * 10_000)
        assert w.nodes[1].mesh.send(2, bulk)
        assert w.nodes[1].mesh.send(2, message(bytes(500_000)))
        await until(lambda: len(got) == 2)
        assert got == [message(bytes(500_000)), bulk]


async def test_a_fault_in_handling_a_frame_costs_that_frame_only() -> None:
    async with world(2) as w:
        await w.all_up()
        got: list[int] = []

        def handle(peer: int, frame: wire.Round) -> None:
            if frame.round == 1:
                raise RuntimeError("a fault of ours")
            got.append(frame.round)

        w.nodes[2].mesh.route(wire.Round, handle)
        for number in (1, 2):
            w.nodes[1].mesh.send(2, message(number=number))
        w.nodes[1].mesh.send(2, wire.Notice("nobody/listens", b"", b""))
        await until(lambda: got == [2] and w.nodes[2].mesh.counts["unrouted"] == 1)
        assert w.nodes[2].mesh.counts["receiver_failed"] == 1
        assert w.nodes[2].events == [("up", 1)]


def test_it_runs_on_uvloop_as_well() -> None:
    async def run() -> None:
        async with world(3) as w:
            await w.all_up()
            w.nodes[1].mesh.drop(2, "test")
            await until(lambda: ("down", 1) in w.nodes[2].events)
            await w.all_up()

    uvloop.run(run())


# The registry decides


async def test_a_node_that_leaves_the_registry_is_dropped_and_stays_out() -> None:
    async with world(3) as w:
        await w.all_up()
        peers = w.peers(3)
        del peers[1]
        w.nodes[3].mesh.set_peers(peers)
        await until(lambda: w.nodes[3].mesh.up == [2] and w.nodes[1].mesh.up == [2])
        await until(lambda: w.nodes[3].mesh.counts["strangers"] > 0)
        assert w.nodes[3].mesh.up == [2]
        w.nodes[3].mesh.set_peers(w.peers(3))
        await until(lambda: w.nodes[3].mesh.up == [1, 2])


async def test_a_node_whose_key_changes_in_the_registry_is_dropped() -> None:
    async with world(2) as w:
        await w.all_up()
        changed = Peer("127.0.0.1", w.ports[2], make_identity().spki_digest)
        w.nodes[1].mesh.set_peers({2: changed})
        await until(lambda: not w.nodes[1].mesh.up and "PinMismatch" in w.nodes[1].mesh.problems()[2])


async def test_two_parties_with_one_key_are_refused() -> None:
    pin = make_identity().spki_digest
    async with world(2, 0) as w:
        mesh = w.build(1).mesh
        with pytest.raises(ValueError, match="one TLS key"):
            mesh.set_peers({2: Peer("a", 1, pin), 3: Peer("b", 2, pin)})


# T26: who is not let in


async def refused(w: World, context: ssl.SSLContext | None) -> bool:
    """Whether a connection to node 2 ends without a WebSocket, and without anything having changed there."""
    answer = await knock(w.ports[2], context)
    node = w.nodes[2]
    return not answer.startswith(b"HTTP/1.1 101") and not node.events and not node.mesh.up


async def listening(w: World) -> None:
    """Node 2 listens and knows the certificates of 1 and 3."""
    servers = await present(w, 1, 3)
    await w.start(2)
    trust = w.nodes[2].mesh._trust
    await until(lambda: all(trust.certificate(w.identities[j].spki_digest) for j in (1, 3)))
    for server in servers:
        server.close()


async def test_a_client_without_certificate_is_refused() -> None:
    async with world(3, 0) as w:
        await listening(w)
        assert await refused(w, client_context(None))
        await until(lambda: w.nodes[2].mesh.counts["handshakes_refused"] > 0)


async def test_a_client_with_a_certificate_of_its_own_making_is_refused() -> None:
    async with world(3, 0) as w:
        await listening(w)
        assert await refused(w, client_context(make_identity()))


async def test_a_client_with_a_registered_certificate_but_another_key_cannot_use_it() -> None:
    async with world(3, 0) as w:
        stranger, victim = make_identity(), w.identities[1]
        with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
            client_context(Identity(victim.certificate, stranger.tls_key, b""))


async def test_a_certificate_that_a_registered_node_issued_for_a_stranger_is_refused() -> None:
    async with world(3, 0) as w:
        await listening(w)
        issuer, stranger = w.identities[1], make_identity()
        key = serialization.load_der_private_key(issuer.tls_key, None)
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.load_der_x509_certificate(stranger.certificate).subject)
            .issuer_name(x509.load_der_x509_certificate(issuer.certificate).subject)
            .public_key(x509.load_der_x509_certificate(stranger.certificate).public_key())
            .serial_number(1)
            .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
            .not_valid_after(datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC))
            .sign(key, hashes.SHA256())  # type: ignore[arg-type]
        )
        der = leaf.public_bytes(serialization.Encoding.DER)
        assert await refused(w, client_context(Identity(der, stranger.tls_key, b"")))


async def test_tls_1_2_is_refused() -> None:
    async with world(3, 0) as w:
        await listening(w)
        assert await refused(w, client_context(w.identities[1], ssl.TLSVersion.TLSv1_2))


async def test_plain_text_is_refused() -> None:
    async with world(3, 0) as w:
        await listening(w)
        assert await refused(w, None)


async def test_a_registered_node_that_should_be_dialled_is_not_let_in() -> None:
    async with world(3, 0) as w:
        await listening(w)
        assert await refused(w, client_context(w.identities[3]))
        await until(lambda: w.nodes[2].mesh.counts["strangers"] > 0)


async def test_a_node_that_left_the_registry_is_refused_though_its_certificate_is_known() -> None:
    async with world(3, 0) as w:
        await listening(w)
        w.nodes[2].mesh.set_peers({3: w.peers(2)[3]})
        assert await refused(w, client_context(w.identities[1]))
        await until(lambda: w.nodes[2].mesh.counts["strangers"] > 0)


async def test_a_server_with_another_nodes_key_is_not_taken_for_the_peer() -> None:
    async with world(3, 0) as w:
        peers = w.peers(1)
        peers[2], peers[3] = (
            Peer("127.0.0.1", w.ports[3], peers[2].spki),
            Peer("127.0.0.1", w.ports[2], peers[3].spki),
        )
        w.build(1, peers)
        await w.start(1, 2, 3)
        await until(lambda: all("PinMismatch" in text for text in w.nodes[1].mesh.problems().values()))
        assert w.nodes[1].events == []


async def test_a_server_that_changes_its_key_after_it_was_learnt_is_not_taken_for_the_peer() -> None:
    async with world(2, 0) as w:
        known = Peer("127.0.0.1", w.ports[2], w.identities[2].spki_digest)
        mesh = w.build(1, {2: known}).mesh
        mesh._trust.add(w.identities[2].certificate)
        w.identities[2] = make_identity()
        await w.start(2, 1)
        await until(lambda: "PinMismatch" in mesh.problems()[2])
        assert w.nodes[1].events == [] and w.nodes[2].events == []


async def test_a_certificate_under_another_nodes_name_is_not_learnt() -> None:
    async with world(2, 0) as w:
        victim, cheat = w.identities[1], w.identities[2]
        name = x509.load_der_x509_certificate(victim.certificate).subject
        old = x509.load_der_x509_certificate(cheat.certificate)
        key = serialization.load_der_private_key(cheat.tls_key, None)
        forged = (
            x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(old.public_key())
            .serial_number(1).not_valid_before(old.not_valid_before_utc).not_valid_after(old.not_valid_after_utc)
            .add_extension(x509.BasicConstraints(False, None), True).sign(key, hashes.SHA256())  # type: ignore[arg-type]
        )  # fmt: skip
        w.identities[2] = Identity(forged.public_bytes(serialization.Encoding.DER), cheat.tls_key, b"")
        servers = await present(w, 2)
        assert w.identities[2].spki_digest == cheat.spki_digest
        with pytest.raises(PinMismatch, match="name"):
            await fetch_certificate("127.0.0.1", w.ports[2], cheat.spki_digest)
        servers[0].close()


def test_the_contexts_speak_tls_1_3_only_ask_for_certificates_and_give_no_tickets() -> None:
    identity, peer = make_identity(), make_identity()
    trust = TrustStore(identity)
    trust.add(peer.certificate)
    client = trust.client(peer.spki_digest)
    for context in (trust.server, client):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_3
        assert context.verify_mode == ssl.CERT_REQUIRED
    assert trust.server.num_tickets == 0
    assert len(client.get_ca_certs(binary_form=True) or client.cert_store_stats()) >= 0
    assert client.cert_store_stats()["x509"] == 1


# Hello


@pytest.mark.parametrize(
    "bad",
    [
        hello(1, 2, network="eip155:1:0x00"),
        hello(1, 2, version=2),
        hello(3, 2),
        hello(1, 3),
        wire.Ping(1),
        message(),
    ],
    ids=["network", "version", "sender", "recipient", "silence", "early"],
)
async def test_a_connection_without_a_proper_hello_is_ended(bad: wire.Frame) -> None:
    async with world(3, 0, limits=Limits(handshake=0.5)) as w:
        impostor = await played(w)
        await impostor.send(bad)
        frames = [frame async for frame in _all(impostor)]
        assert not any(isinstance(frame, wire.Hello) for frame in frames)
        assert w.nodes[2].events == []
        await impostor.close()


async def _all(impostor: Impostor):  # type: ignore[no-untyped-def]
    while (frame := await impostor.receive()) is not None:
        yield frame


async def test_a_node_of_another_network_is_not_linked() -> None:
    async with world(2, 0) as w:
        w.build(1, network="eip155:1:0x00")
        await w.start(1, 2)
        await until(lambda: "refused" in w.nodes[1].mesh.problems()[2])
        assert w.nodes[1].events == [] and w.nodes[2].events == []


async def test_a_peer_with_our_own_boot_id_is_refused() -> None:
    async with world(2, 0) as w:
        impostor = await played(w)
        await impostor.send(hello(1, 2, boot=w.nodes[2].mesh.boot_id))
        assert not any([isinstance(frame, wire.Hello) async for frame in _all(impostor)])
        await impostor.close()


# One life per identity (T37)


async def test_a_second_live_session_of_one_identity_is_refused_and_the_first_stays() -> None:
    async with world(2) as w:
        await w.all_up()
        boot = w.nodes[2].mesh.boot_ids[1]
        clone = await impersonate(w.ports[2], w.identities[1])
        await clone.send(hello(1, 2))
        frames = [frame async for frame in _all(clone)]
        assert [type(frame) for frame in frames] == [wire.Bye]
        assert w.nodes[2].mesh.boot_ids == {1: boot}
        assert w.nodes[2].mesh.counts["duplicate_session"] == 1
        assert w.nodes[2].events == [("up", 1)]
        await clone.close()


async def test_a_dead_session_gives_way_to_a_new_one() -> None:
    async with world(2, 0) as w:
        dead = await admitted(w)  # answers no ping from now on
        second = await impersonate(w.ports[2], w.identities[1])
        greeting = hello(1, 2)
        await second.send(greeting)
        assert isinstance(await second.receive(), wire.Hello)
        await until(lambda: w.nodes[2].events == [("up", 1), ("down", 1), ("up", 1)])
        assert w.nodes[2].mesh.boot_ids == {1: greeting.boot}
        await dead.close()
        await second.close()


async def test_a_silent_connection_is_dropped() -> None:
    async with world(2, 0, limits=Limits(heartbeat=0.05)) as w:
        impostor = await admitted(w)
        await until(lambda: w.nodes[2].events == [("up", 1), ("down", 1)])
        assert w.nodes[2].mesh.problems()[1] == "silent"
        await impostor.close()


async def test_an_idle_connection_with_a_live_peer_stays() -> None:
    async with world(2, limits=Limits(heartbeat=0.05)) as w:
        await w.all_up()
        await asyncio.sleep(0.5)
        assert w.nodes[1].events == [("up", 2)] and w.nodes[2].events == [("up", 1)]


# T27, T28, T31: what a peer can cost


BAD_MESSAGES: dict[str, Callable[[Impostor], object]] = {
    "no frame": lambda i: i.socket.send_bytes(b"\xc1"),
    "unknown kind": lambda i: i.socket.send_bytes(msgspec.msgpack.encode([99])),
    "text": lambda i: i.socket.send_str("hello"),
    "socket ping": lambda i: i.socket.ping(),
    "too large": lambda i: i.socket.send_bytes(bytes(wire.FRAME_LIMIT)),
    "contradicting parts": lambda i: i.socket.send_bytes(
        msgspec.msgpack.encode([5, 0, wire.PART_BYTES + 1, bytes(wire.PART_BYTES)]) * 2
    ),
}


@pytest.mark.parametrize("name", BAD_MESSAGES)
async def test_what_is_no_frame_ends_the_connection_and_nothing_else(name: str) -> None:
    async with world(3, 0) as w:
        servers = await present(w, 1)
        await w.start(2, 3)
        impostor = await impersonate(w.ports[2], w.identities[1])
        await impostor.send(hello(1, 2))
        assert isinstance(await impostor.receive(), wire.Hello)
        await BAD_MESSAGES[name](impostor)  # type: ignore[misc]
        await until(lambda: ("down", 1) in w.nodes[2].events)
        await until(lambda: 3 in w.nodes[2].mesh.up)
        assert ("down", 3) not in w.nodes[2].events
        await impostor.close()
        servers[0].close()


async def test_a_length_prefix_of_4_gib_ends_the_connection_before_anything_is_reserved() -> None:
    async with world(2, 0) as w:
        impostor = await admitted(w)
        writer = impostor.socket._writer.transport  # type: ignore[attr-defined]
        writer.write(b"\x82\xff" + struct.pack(">Q", 4 << 30) + b"mask" + bytes(1000))
        await until(lambda: w.nodes[2].events == [("up", 1), ("down", 1)])
        await impostor.close()


async def test_a_peer_that_reads_too_slowly_is_dropped_and_its_backlog_with_it() -> None:
    async with world(2, 0, limits=Limits(queue_bytes=4 << 20, heartbeat=60)) as w:
        impostor = await admitted(w)
        mesh, sent = w.nodes[2].mesh, 0
        link = mesh.link(1)
        assert link is not None
        while mesh.send(1, message(bytes(1 << 18))):
            sent += 1
            assert link.connection.queued_bytes <= 4 << 20
            await asyncio.sleep(0)
            assert sent < 1000
        assert link.connection.queued_bytes == 0
        await until(lambda: w.nodes[2].events == [("up", 1), ("down", 1)])
        assert mesh.problems()[1] == "reads too slowly"
        await impostor.close()


async def test_a_peer_is_read_no_faster_than_its_budget() -> None:
    limits = Limits(bytes_per_second=1 << 20, burst_bytes=1 << 16)
    async with world(2, limits=limits) as w:
        await w.all_up()
        got: list[int] = []
        w.nodes[2].mesh.route(wire.Round, lambda peer, frame: got.append(frame.round))
        clock = asyncio.get_running_loop().time
        start = clock()
        for _ in range(10):
            w.nodes[1].mesh.send(2, message(bytes(50_000)))
        await until(lambda: len(got) == 10)
        assert clock() - start > 0.35  # half a megabyte at one megabyte a second, less the burst
        assert w.nodes[2].events == [("up", 1)]


async def test_connections_that_never_finish_their_handshake_are_bounded_and_end() -> None:
    limits = Limits(handshake=0.5, handshakes=20, handshakes_per_address=10)
    async with world(2, 0, limits=limits) as w:
        await w.start(2)
        idle = [await asyncio.open_connection("127.0.0.1", w.ports[2]) for _ in range(100)]
        counts = w.nodes[2].mesh.counts
        await until(lambda: counts["handshakes_over_limit"] >= 90)
        assert len(w.nodes[2].mesh._listener._handshakes) <= 10
        await until(lambda: not w.nodes[2].mesh._listener._handshakes)
        await w.start(1)
        await w.all_up()
        for _, writer in idle:
            writer.close()


async def test_an_address_can_begin_only_so_many_handshakes_a_second() -> None:
    async with world(2, 0, limits=Limits(handshake_rate=0.01, handshake_burst=5)) as w:
        await w.start(2)
        for _ in range(12):
            _, writer = await asyncio.open_connection("127.0.0.1", w.ports[2])
            writer.close()
        counts = w.nodes[2].mesh.counts
        await until(lambda: counts["handshakes_over_limit"] == 7 and counts["handshakes_refused"] == 5)


async def test_a_registered_peer_cannot_hold_idle_connections() -> None:
    async with world(3, 0, limits=Limits(handshake=600.0)) as w:
        await listening(w)
        counts = w.nodes[2].mesh.counts
        context = client_context(w.identities[1])
        held = [await asyncio.open_connection("127.0.0.1", w.ports[2], ssl=context) for _ in range(10)]
        await until(lambda: counts["connections_over_limit"] == 10 - CONNECTIONS_PER_PEER)
        for _, writer in held:
            writer.write(b"GET /mesh HTTP/1.1\r\nHost:")
        # The patience with them is over, whatever time it is.
        loop: Any = asyncio.get_running_loop()
        waiting = [timer for timer in loop._scheduled if getattr(timer._callback, "__name__", "") == "_end_idle"]
        assert len(waiting) == CONNECTIONS_PER_PEER
        due = [(timer._callback, timer._args) for timer in waiting]
        for timer in waiting:
            timer.cancel()
        for end, arguments in due:
            end(*arguments)
        for reader, writer in held:
            async with asyncio.timeout(60):
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
            writer.close()
        assert counts["idle_connections"] == CONNECTIONS_PER_PEER


@pytest.mark.parametrize("request_line", [b"GET /other HTTP/1.1", b"POST /mesh HTTP/1.1", b"GET /mesh HTTP/1.1"])
async def test_a_registered_peer_gets_nothing_but_a_websocket(request_line: bytes) -> None:
    async with world(3, 0, limits=Limits(handshake=0.5)) as w:
        await listening(w)
        context = client_context(w.identities[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", w.ports[2], ssl=context)
        writer.write(request_line + b"\r\nHost: x\r\n\r\n")
        answer = await reader.read(4096)
        assert answer.startswith(b"HTTP/1.1 403") or answer == b""
        writer.close()


async def test_a_bit_flipped_on_the_way_ends_the_connection_and_reaches_nobody() -> None:
    async with world(2, 0) as w:
        flip = asyncio.Event()
        proxy_port = free_port()

        async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := bytearray(await reader.read(65536)):
                    if flip.is_set():
                        flip.clear()
                        data[len(data) // 2] ^= 1
                    writer.write(data)
                writer.close()

        async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            onward = await asyncio.open_connection("127.0.0.1", w.ports[2])
            await asyncio.gather(pump(reader, onward[1]), pump(onward[0], writer))

        proxy = await asyncio.start_server(between, "127.0.0.1", proxy_port)
        w.build(1, {2: Peer("127.0.0.1", proxy_port, w.identities[2].spki_digest)})
        await w.start(2, 1)
        await w.all_up()
        got: list[bytes] = []
        w.nodes[2].mesh.route(wire.Round, lambda peer, frame: got.append(frame.payload))
        flip.set()
        w.nodes[1].mesh.send(2, message(bytes(1000)))
        await until(lambda: w.nodes[2].events == [("up", 1), ("down", 1), ("up", 1)])
        assert got == [] and w.nodes[2].mesh.counts["malformed"] == 0
        await w.all_up()
        w.nodes[1].mesh.send(2, message(b"after"))
        await until(lambda: got == [b"after"])
        proxy.close()


async def test_a_peer_cannot_send_the_dialler_elsewhere() -> None:
    hits: list[str] = []

    async def elsewhere(request: web.BaseRequest) -> web.Response:
        hits.append(request.path)
        return web.Response()

    async with world(2, 0) as w:
        target = free_port()
        plain = await asyncio.get_running_loop().create_server(web.Server(elsewhere), "127.0.0.1", target)

        async def redirect(request: web.BaseRequest) -> web.Response:
            raise web.HTTPFound(f"http://127.0.0.1:{target}/internal")

        trust = TrustStore(w.identities[2])
        trust.add(w.identities[1].certificate)
        context = trust.server
        context.verify_mode = ssl.CERT_OPTIONAL
        cheat = await asyncio.get_running_loop().create_server(
            web.Server(redirect), "127.0.0.1", w.ports[2], ssl=context
        )
        await w.start(1)
        await until(lambda: "redirect" in w.nodes[1].mesh.problems()[2])
        assert hits == []
        plain.close()
        cheat.close()


async def test_closing_leaves_no_task_and_no_listener() -> None:
    before = asyncio.all_tasks()
    async with world(3) as w:
        await w.all_up()
        port = w.ports[1]
    await until(lambda: asyncio.all_tasks() == before)
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_mesh_that_is_closed_sends_nothing() -> None:
    mesh = Mesh(1, NETWORK, make_identity(), {})
    await mesh.start("127.0.0.1", 0)
    await mesh.close()
    assert not mesh.send(2, message()) and not mesh.is_up(2) and mesh.up == []


def test_aiohttp_still_reports_redirects_to_traces() -> None:
    assert hasattr(aiohttp.TraceConfig(), "on_request_redirect")
