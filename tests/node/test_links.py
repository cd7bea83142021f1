"""Pair links: set up on connect, named once and for ever, and gone with the connection."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from node_world import SOURCE, World, hello, impersonate, present, until, world

from keyquorum.algebra.rng import SystemRng
from keyquorum.node.mesh import wire
from keyquorum.node.mesh.mesh import Link
from keyquorum.node.pairs import links as links_module
from keyquorum.node.pairs.links import PairLink, _name
from keyquorum.node.storage.store import Store
from keyquorum.node.storage.strikes import Patience, Strikes
from keyquorum.protocols import base_ot, zero_share
from keyquorum.protocols.correlations import Depleted
from keyquorum.rounds.errors import Blame


def link(w: World, me: int, peer: int) -> PairLink:
    links = w.nodes[me].links
    assert links is not None
    found = links.ready(peer)
    assert found is not None
    return found


async def test_every_pair_agrees_on_a_name_and_a_zero_seed_and_works_both_ways(tmp_path: Path) -> None:
    async with world(3, folder=tmp_path) as w:
        await w.all_ready()
        names, seeds = set(), set()
        for me in w.nodes:
            for peer in set(w.nodes) - {me}:
                ours, theirs = link(w, me, peer), link(w, peer, me)
                assert (ours.link_id, ours.sid) == (theirs.link_id, theirs.sid)
                names.add(ours.link_id)
                seeds.add(w.nodes[me].inventory.zero_seed(peer))
                assert w.nodes[me].inventory.zero_seed(peer) == w.nodes[peer].inventory.zero_seed(me)
                assert ours.sender is not None and theirs.receiver is not None
                pending, request = theirs.receiver.request(0, 1, SystemRng())
                sent, reply = ours.sender.extend(0, 1, request, SystemRng())
                received = theirs.receiver.accept(pending, reply)
                assert sent.size == received.size == 1
        assert len(names) == len(seeds) == 3


async def test_everything_of_a_link_ends_with_its_connection(tmp_path: Path) -> None:
    async with world(2, folder=tmp_path) as w:
        await w.all_ready()
        one = w.nodes[1]
        assert one.pools and one.links
        one.pools.start()
        await until(lambda: w.nodes[2].inventory.available(1)[0] > 0)
        await one.pools.close()
        old = [link(w, 1, 2), link(w, 2, 1)]
        kept = one.inventory.available(2)
        assert kept[1] > 0
        one.mesh.drop(2, "test")
        await until(lambda: all(node.events.count(("down", 3 - j)) == 1 for j, node in w.nodes.items()))
        for pair in old:
            assert pair.state == "down"
            assert pair.sender and pair.sender.burned and pair.receiver and pair.receiver.burned
        for j, node in w.nodes.items():
            assert node.inventory.available(3 - j) == (0, 0)
            with pytest.raises(Depleted):
                node.inventory.zero_seed(3 - j)
        await w.all_ready()
        new = link(w, 1, 2)
        assert new.link_id != old[0].link_id
        assert one.links.ready(2, old[0].link_id) is None


def test_a_link_takes_its_name_from_both_processes_and_both_counters() -> None:
    def name(a: wire.Hello, b: wire.Hello) -> bytes:
        return _name(Link(None, a, b))  # type: ignore[arg-type]

    low, high = hello(1, 2, boot=b"a" * 16), hello(2, 1, boot=b"b" * 16)
    assert name(low, high) == name(high, low)
    others = [
        name(hello(1, 2, boot=b"c" * 16), high), name(low, hello(2, 1, boot=b"c" * 16)),
        name(hello(1, 2, boot=b"a" * 16, connection=2), high), name(low, hello(2, 1, boot=b"b" * 16, connection=2)),
        name(hello(1, 3, boot=b"a" * 16), hello(3, 1, boot=b"b" * 16)),
        name(hello(1, 2, boot=b"a" * 16, network="x"), high),
    ]  # fmt: skip
    assert len({name(low, high), *others}) == 7


class Puppet:
    """Party 1 played by hand through its first hello; party 2 is a real node."""

    def __init__(self, w: World) -> None:
        self.w = w

    async def __aenter__(self) -> Puppet:
        servers = await present(self.w, 1)
        await self.w.start(2)
        self.impostor = await impersonate(self.w.ports[2], self.w.identities[1])
        ours = hello(1, 2)
        await self.impostor.send(ours)
        theirs = await self.impostor.receive()
        assert isinstance(theirs, wire.Hello)
        self.sid = _name(Link(None, ours, theirs))  # type: ignore[arg-type]
        for server in servers:
            server.close()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.impostor.close()

    async def send(self, step: int, payload: bytes, link_id: bytes | None = None) -> None:
        await self.impostor.send(wire.Setup(link_id or self.sid[:16], step, payload))

    async def setup(self, step: int) -> bytes:
        while True:
            frame = await self.impostor.receive()
            assert frame is not None
            if isinstance(frame, wire.Setup) and frame.step == step:
                return frame.payload

    async def first_step(self) -> tuple[base_ot.ChooserState, zero_share.Contribution, bytes]:
        state, points = base_ot.choose(self.sid, 1, 2, SystemRng())
        mine, commitment = zero_share.commit(self.sid, 1, 2, SystemRng())
        return state, mine, commitment + points


async def test_the_steps_are_those_of_the_spec(tmp_path: Path) -> None:
    async with world(2, 0, folder=tmp_path) as w, Puppet(w) as puppet:
        state, mine, first = await puppet.first_step()
        await puppet.send(1, first)
        theirs = await puppet.setup(1)
        revealed, opening = zero_share.reveal(mine, theirs[:32])
        _, answer = base_ot.respond(puppet.sid, 2, 1, SystemRng(), theirs[32:])
        await puppet.send(2, opening + answer)
        theirs = await puppet.setup(2)
        seed = zero_share.finish(revealed, theirs[:64])
        base_ot.finish(state, theirs[64:])
        assert await puppet.setup(3) == b""
        links = w.nodes[2].links
        assert links and links.states() == {1: "setup"}
        await puppet.send(3, b"")
        await until(lambda: links.ready(1) is not None)
        assert w.nodes[2].inventory.zero_seed(1) == seed


@pytest.mark.parametrize(
    "fault", ["short points", "no points", "wrong opening", "repeated step", "wrong number", "flood"]
)
async def test_a_malformed_setup_ends_the_connection_without_a_strike(tmp_path: Path, fault: str) -> None:
    async with world(2, 0, folder=tmp_path) as w, Puppet(w) as puppet:
        _, mine, first = await puppet.first_step()
        if fault == "short points":
            await puppet.send(1, first[:-1])
        elif fault == "no points":
            await puppet.send(1, b"")
        elif fault == "repeated step":
            await puppet.send(1, first)
            await puppet.send(1, first)
        elif fault == "flood":
            for _ in range(20):
                await puppet.send(2, b"")
        else:
            await puppet.send(1, first)
            theirs = await puppet.setup(1)
            _, answer = base_ot.respond(puppet.sid, 2, 1, SystemRng(), theirs[32:])
            if fault == "wrong opening":
                await puppet.send(2, bytes(64) + answer)
            else:
                _, opening = zero_share.reveal(mine, theirs[:32])
                await puppet.send(1, opening + answer)
        await until(lambda: w.nodes[2].events == [("up", 1), ("down", 1)])
        links = w.nodes[2].links
        assert w.nodes[2].mesh.problems()[1] == "malformed setup"
        assert w.nodes[2].mesh.counts["receiver_failed"] == 0
        assert links and links.strikes.wait(1) == 0.0 and not links.strikes.is_quarantined(1)
        with pytest.raises(Depleted):
            w.nodes[2].inventory.zero_seed(1)


async def test_a_step_of_another_link_is_dropped(tmp_path: Path) -> None:
    async with world(2, 0, folder=tmp_path) as w, Puppet(w) as puppet:
        await puppet.send(1, b"", link_id=b"z" * 16)
        links = w.nodes[2].links
        assert links
        await until(lambda: links.counts["setup_frames_dropped"] == 1)
        assert w.nodes[2].events == [("up", 1)]


async def test_a_peer_that_says_ready_too_early_gets_no_link(tmp_path: Path) -> None:
    async with world(2, 0, folder=tmp_path) as w, Puppet(w) as puppet:
        await puppet.send(3, b"")
        await puppet.setup(1)
        await asyncio.sleep(0.1)
        links = w.nodes[2].links
        assert links and links.ready(1) is None and links.states() == {1: "setup"}


async def test_a_setup_that_is_not_answered_ends_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links_module, "SETUP_SECONDS", 0.3)
    async with world(2, 0, folder=tmp_path) as w, Puppet(w):
        await until(lambda: w.nodes[2].events == [("up", 1), ("down", 1)])
        assert w.nodes[2].mesh.problems()[1] == "setup took too long"


async def test_setups_are_rationed(tmp_path: Path) -> None:
    async with world(2, 0, folder=tmp_path) as w:
        links = w.build(1).links
        assert links
        pauses = [links._setup_pause(2) for _ in range(links_module.SETUPS_AT_ONCE + 2)]
        assert pauses[: links_module.SETUPS_AT_ONCE] == [0.0] * links_module.SETUPS_AT_ONCE
        assert 8 < pauses[-2] < pauses[-1]
        assert links._setup_pause(3) == 0.0


# Strikes and quarantine


async def test_a_failed_check_destroys_the_link_and_three_put_the_peer_in_quarantine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links_module, "SETUP_EVERY", 0.01)
    async with world(2, folder=tmp_path) as w:
        for count in (1, 2, 3):
            await w.all_ready()
            links = w.nodes[1].links
            assert links
            pair = link(w, 1, 2)
            await links.blame(pair, Blame({2}, "a failed check", burn="pair"))
            assert pair.sender and pair.sender.burned
            await until(lambda: w.nodes[1].events.count(("down", 2)) == count)  # noqa: B023
        await until(lambda: links.states() == {2: "quarantined"})
        theirs = w.nodes[2].links
        assert theirs
        await until(lambda: theirs.states() == {1: "refused"})
        assert w.nodes[1].mesh.is_up(2)  # the connection stays: key making needs everybody
        assert links.strikes.quarantined() == [2]

        await w.stop(1)
        await w.start(1)
        links = w.nodes[1].links
        assert links
        await until(lambda: links.states() == {2: "quarantined"})
        await links.pardon(2)
        await w.all_ready()
        assert links.strikes.quarantined() == []


async def test_a_failed_batch_check_leaves_the_link_until_it_is_the_third(tmp_path: Path) -> None:
    async with world(2, folder=tmp_path) as w:
        await w.all_ready()
        links, pair = w.nodes[1].links, link(w, 1, 2)
        assert links
        for _ in range(2):
            await links.blame(pair, Blame({2}, "a failed check", burn="batch"))
            assert links.ready(2) is pair
        await links.blame(pair, Blame({2}, "a failed check", burn="batch"))
        await until(lambda: links.states() == {2: "quarantined"})
        assert pair.sender and pair.sender.burned


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def test_strikes_are_counted_by_the_day_and_survive_a_restart(tmp_path: Path) -> None:
    store, clock = Store.create(tmp_path, SOURCE), Clock()
    strikes = Strikes(store, clock=clock)
    assert strikes.wait(2) == 0.0
    await strikes.add(2)
    assert strikes.wait(2) == 60.0
    clock.now += 43_000
    await strikes.add(2)
    assert strikes.wait(2) == 120.0
    clock.now += 43_401  # the first is more than a day old by now
    await strikes.add(2)
    assert not strikes.is_quarantined(2)
    clock.now += 100
    assert strikes.wait(2) == 20.0
    await strikes.add(2)
    for again in (strikes, Strikes(store, clock=clock)):
        assert again.quarantined() == [2] and not again.is_quarantined(3)
    clock.now += 10**7  # time alone does not end it
    assert Strikes(store, clock=clock).is_quarantined(2)
    await strikes.pardon(2)
    assert Strikes(store, clock=clock).quarantined() == []
    store.close()


def test_patience_is_three_checks_a_day() -> None:
    assert Patience() == Patience(most=3, window=86_400.0, pause=60.0)
