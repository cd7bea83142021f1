"""Pools of correlations: filled between the marks, both halves in step, and nothing kept of what failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from node_world import Node, World, until, world

from keyquorum.algebra.field import Q
from keyquorum.node.mesh import wire
from keyquorum.node.pairs import pools as pools_module
from keyquorum.node.pairs.links import Links, PairLink
from keyquorum.node.pairs.pools import Levels, Pools


def parts(node: Node) -> tuple[Links, Pools]:
    assert node.links is not None and node.pools is not None
    return node.links, node.pools


@asynccontextmanager
async def linked(folder: Path, n: int = 2) -> AsyncIterator[World]:
    async with world(n, folder=folder) as w:
        await w.all_ready()
        yield w


def pair(w: World, me: int, peer: int) -> PairLink:
    found = parts(w.nodes[me])[0].ready(peer)
    assert found is not None
    return found


def halves(w: World, receiver: int, sender: int) -> tuple[int, int]:
    """How many the receiver of a direction holds, and how many its sender."""
    return w.nodes[receiver].inventory.available(sender)[1], w.nodes[sender].inventory.available(receiver)[0]


async def test_pools_fill_to_the_high_mark_and_the_halves_belong_together(tmp_path: Path) -> None:
    async with linked(tmp_path, 3) as w:
        for node in w.nodes.values():
            parts(node)[1].start()
        await until(lambda: all(parts(node)[1].filled(peer) for node in w.nodes.values() for peer in node.mesh.up))
        await until(lambda: all(halves(w, a, b) == (4, 4) for a in w.nodes for b in w.nodes if a != b))
        assert parts(w.nodes[1])[1].available() == {2: (4, 4), 3: (4, 4)}
        for me in w.nodes:
            for peer in set(w.nodes) - {me}:
                ours = w.nodes[me].inventory.reserve(peer, 4)
                theirs = w.nodes[peer].inventory.take(me, [name for name, _ in ours])
                for (_, sent), received in zip(ours, theirs, strict=True):
                    assert (sent.c_u + received.d_u - sent.a_u * received.chi) % Q == 0
                    assert (sent.c_v + received.d_v - sent.a_v * received.chi) % Q == 0


async def test_a_pool_is_refilled_only_below_the_low_mark(tmp_path: Path) -> None:
    async with linked(tmp_path) as w:
        pools = parts(w.nodes[1])[1]
        pools.start()
        await until(lambda: halves(w, 1, 2) == (4, 4))
        await until(lambda: not pools._work[pair(w, 1, 2).link_id].filling)
        sender = w.nodes[2].inventory
        w.nodes[1].inventory.take(2, [name for name, _ in sender.reserve(1, 2)])
        await asyncio.sleep(0.3)
        assert halves(w, 1, 2) == (2, 2) and pools.counts["received"] == 4
        w.nodes[1].inventory.take(2, [name for name, _ in sender.reserve(1, 1)])
        await until(lambda: halves(w, 1, 2) == (5, 5))


async def test_the_receiver_holds_its_half_before_the_sender_can_name_it(tmp_path: Path) -> None:
    async with linked(tmp_path) as w:
        seen: list[tuple[int, int]] = []
        for node in w.nodes.values():
            inventory = node.inventory
            for kind in ("add_sender", "add_receiver"):
                add = getattr(inventory, kind)

                def noting(*values: Any, add: Any = add) -> None:
                    add(*values)
                    seen.append(halves(w, 1, 2))

                setattr(inventory, kind, noting)
        parts(w.nodes[1])[1].start()
        await until(lambda: halves(w, 1, 2) == (4, 4))
        assert seen == [(4, 0), (4, 4)]


async def test_a_failed_check_of_the_extension_burns_the_pair_and_costs_a_strike(tmp_path: Path) -> None:
    async with linked(tmp_path) as w:
        cheat = pair(w, 1, 2)
        honest = pair(w, 2, 1)
        assert cheat.receiver is not None
        request = cheat.receiver.request

        def flipped(*values: Any) -> Any:
            pending, message = request(*values)
            return pending, bytes([message[0] ^ 1]) + message[1:]

        cheat.receiver.request = flipped  # type: ignore[method-assign]
        links, pools = parts(w.nodes[2])
        parts(w.nodes[1])[1].start()
        await until(lambda: honest.state == "down")
        assert honest.sender and honest.sender.burned and honest.receiver and honest.receiver.burned
        await until(lambda: links.counts["strikes"] == 1)
        await until(lambda: w.nodes[2].store is not None and "strikes/1" in w.nodes[2].store.info())
        assert pools.counts["sent"] == 0
        await until(lambda: ("down", 2) in w.nodes[1].events)
        await until(lambda: halves(w, 1, 2) == (4, 4))  # the next link is honest
        assert parts(w.nodes[1])[0].counts["strikes"] == 0


async def test_a_failed_check_of_the_multiplication_throws_that_batch_away_on_both_sides(tmp_path: Path) -> None:
    async with linked(tmp_path) as w:
        cheat, honest = pair(w, 2, 1), pair(w, 1, 2)
        assert cheat.sender is not None
        extend = cheat.sender.extend

        def flipped(batch: int, *values: Any) -> Any:
            held, reply = extend(batch, *values)
            return held, reply if batch else bytes([reply[0] ^ 1]) + reply[1:]

        cheat.sender.extend = flipped  # type: ignore[method-assign]
        links, pools = parts(w.nodes[1])
        pools.start()
        await until(lambda: links.counts["strikes"] == 1)
        await until(lambda: parts(w.nodes[2])[1].counts["rejected_by_peer"] == 1)
        assert halves(w, 1, 2) == (0, 0)
        assert links.ready(2) is honest and honest.receiver and not honest.receiver.burned
        await until(lambda: halves(w, 1, 2) == (4, 4))
        assert pools.counts["received"] == 4


async def test_three_failed_checks_end_production_with_the_peer(tmp_path: Path) -> None:
    async with linked(tmp_path) as w:
        cheat = pair(w, 2, 1)
        assert cheat.sender is not None
        extend = cheat.sender.extend

        def flipped(*values: Any) -> Any:
            held, reply = extend(*values)
            return held, bytes([reply[0] ^ 1]) + reply[1:]

        cheat.sender.extend = flipped  # type: ignore[method-assign]
        links, pools = parts(w.nodes[1])
        pools.start()
        await until(lambda: links.states() == {2: "quarantined"})
        assert links.counts["strikes"] == 3
        await asyncio.sleep(0.2)
        assert halves(w, 1, 2) == (0, 0) and pools.counts["received"] == 0


@pytest.mark.parametrize("fault", ["short", "long", "old number"])
async def test_a_malformed_request_ends_the_link_without_a_strike(tmp_path: Path, fault: str) -> None:
    async with linked(tmp_path) as w:
        ours = pair(w, 1, 2)
        assert ours.receiver is not None
        _, request = ours.receiver.request(5, 4, w.nodes[1].pools._rng)  # type: ignore[union-attr]
        mesh = w.nodes[1].mesh
        if fault == "old number":
            mesh.send(2, wire.BatchRequest(ours.link_id, 5, 4, request))
            await until(lambda: parts(w.nodes[2])[1]._work[ours.link_id].held is not None)
            mesh.send(2, wire.BatchVerdict(ours.link_id, 5, True))
            mesh.send(2, wire.BatchRequest(ours.link_id, 5, 4, request))
        else:
            mesh.send(2, wire.BatchRequest(ours.link_id, 5, 4, request[:-1] if fault == "short" else request + b"x"))
        await until(lambda: ("down", 1) in w.nodes[2].events)
        assert parts(w.nodes[2])[0].counts["strikes"] == 0


async def test_a_second_request_while_one_is_open_is_refused(tmp_path: Path) -> None:
    async with linked(tmp_path) as w:
        ours, pools = pair(w, 1, 2), parts(w.nodes[2])[1]
        assert ours.receiver is not None
        _, request = ours.receiver.request(0, 4, w.nodes[1].pools._rng)  # type: ignore[union-attr]
        for number in range(5):
            w.nodes[1].mesh.send(2, wire.BatchRequest(ours.link_id, number, 4, request))
        await until(lambda: pools.counts["refused_by_us"] == 4)
        await until(lambda: pools._work[ours.link_id].held is not None)
        assert w.nodes[2].events == [("up", 1)]


async def test_a_peer_cannot_make_us_hold_or_compute_without_end(tmp_path: Path) -> None:
    async with linked(tmp_path) as w:
        greedy, pools = parts(w.nodes[1])[1], parts(w.nodes[2])[1]
        greedy.levels = Levels(500, 1000, 4)
        greedy.start()
        await until(lambda: greedy.counts["refused_by_peer"] > 0)
        assert w.nodes[2].inventory.available(1)[0] == 2 * pools.levels.high


async def test_a_peer_that_rejects_good_batches_is_served_ever_more_slowly(tmp_path: Path) -> None:
    async with linked(tmp_path) as w:
        ours, pools = pair(w, 1, 2), parts(w.nodes[2])[1]
        assert ours.receiver is not None
        mesh, rng = w.nodes[1].mesh, w.nodes[1].pools._rng  # type: ignore[union-attr]
        _, request = ours.receiver.request(0, 4, rng)
        mesh.send(2, wire.BatchRequest(ours.link_id, 0, 4, request))
        work = pools._work[ours.link_id]
        await until(lambda: work.held is not None)
        mesh.send(2, wire.BatchVerdict(ours.link_id, 0, False))
        _, request = ours.receiver.request(1, 4, rng)
        mesh.send(2, wire.BatchRequest(ours.link_id, 1, 4, request))
        await until(lambda: pools.counts["refused_by_us"] == 1)
        assert w.nodes[2].inventory.available(1)[0] == 0
        assert work.rejection_pause == 2 * pools_module.FIRST_REFUSAL_PAUSE


@pytest.mark.parametrize(
    "frame",
    [
        wire.BatchRequest(b"z" * 16, 0, 4, b""),
        wire.BatchReply(b"z" * 16, 0, b"x"),
        wire.BatchVerdict(b"z" * 16, 0, True),
        wire.Cursor(b"z" * 16, 0, 1),
    ],
    ids=lambda frame: type(frame).__name__,
)
async def test_a_frame_of_an_old_link_is_dropped_and_counted(tmp_path: Path, frame: wire.Frame) -> None:
    async with linked(tmp_path) as w:
        pools = parts(w.nodes[2])[1]
        w.nodes[1].mesh.send(2, frame)
        await until(lambda: pools.counts["frames_dropped"] == 1)
        assert w.nodes[2].events == [("up", 1)]


async def test_a_reply_or_verdict_that_nobody_asked_for_is_dropped(tmp_path: Path) -> None:
    async with linked(tmp_path) as w:
        ours, pools = pair(w, 1, 2), parts(w.nodes[2])[1]
        w.nodes[1].mesh.send(2, wire.BatchReply(ours.link_id, 0, b"x"))
        w.nodes[1].mesh.send(2, wire.BatchVerdict(ours.link_id, 0, True))
        await until(lambda: pools.counts["frames_dropped"] == 2)
        assert halves(w, 1, 2) == halves(w, 2, 1) == (0, 0)


async def test_a_verdict_about_another_batch_is_dropped(tmp_path: Path) -> None:
    async with linked(tmp_path) as w:
        ours, pools = pair(w, 1, 2), parts(w.nodes[2])[1]
        assert ours.receiver is not None
        _, request = ours.receiver.request(7, 4, w.nodes[1].pools._rng)  # type: ignore[union-attr]
        w.nodes[1].mesh.send(2, wire.BatchRequest(ours.link_id, 7, 4, request))
        await until(lambda: pools._work[ours.link_id].held is not None)
        w.nodes[1].mesh.send(2, wire.BatchVerdict(ours.link_id, 6, True))
        await until(lambda: pools.counts["frames_dropped"] == 1)
        assert w.nodes[2].inventory.available(1) == (0, 0)


async def test_a_reply_to_another_batch_is_dropped_and_the_right_one_still_taken(tmp_path: Path) -> None:
    async with linked(tmp_path) as w:
        mesh, send = w.nodes[2].mesh, w.nodes[2].mesh.send

        def wrong_first(peer: int, frame: wire.Frame) -> bool:
            if isinstance(frame, wire.BatchReply):
                send(peer, wire.BatchReply(frame.link, frame.batch + 1, frame.payload[::-1]))
            return send(peer, frame)

        mesh.send = wrong_first  # type: ignore[method-assign]
        links, pools = parts(w.nodes[1])
        pools.start()
        await until(lambda: halves(w, 1, 2) == (4, 4))
        assert pools.counts["frames_dropped"] == 1 and links.counts["strikes"] == 0


async def test_a_batch_that_is_not_answered_ends_the_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools_module, "PATIENCE_SECONDS", 0.2)
    async with linked(tmp_path) as w:
        w.nodes[2].mesh.route(wire.BatchRequest, lambda peer, frame: None)
        old = pair(w, 1, 2)
        parts(w.nodes[1])[1].start()
        await until(lambda: old.state == "down")
        assert old.receiver and old.receiver.burned
        assert parts(w.nodes[1])[1].counts["unanswered"] == 1


async def test_a_peer_that_does_not_answer_keeps_nobody_else_from_being_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools_module, "PENDING_AT_ONCE", 1)
    monkeypatch.setattr(pools_module, "SLOT_SECONDS", 0.1)
    async with linked(tmp_path, 3) as w:
        w.nodes[2].mesh.route(wire.BatchRequest, lambda peer, frame: None)  # first in line: the emptiest, lowest number
        parts(w.nodes[1])[1].start()
        await until(lambda: halves(w, 1, 3) == (4, 4))
        assert halves(w, 1, 2) == (0, 0) and parts(w.nodes[1])[0].ready(2) is not None


async def test_nothing_is_kept_of_a_batch_whose_link_is_lost_on_the_way(tmp_path: Path) -> None:
    async with linked(tmp_path) as w:
        ours, theirs = pair(w, 1, 2), pair(w, 2, 1)
        mesh, send = w.nodes[2].mesh, w.nodes[2].mesh.send

        def cut(peer: int, frame: wire.Frame) -> bool:
            if isinstance(frame, wire.BatchReply):
                mesh.drop(peer, "cut")
            return send(peer, frame)

        mesh.send = cut  # type: ignore[method-assign]
        parts(w.nodes[1])[1].start()
        await until(lambda: ours.state == theirs.state == "down")
        mesh.send = send  # type: ignore[method-assign]
        assert ours.receiver and ours.receiver.burned and theirs.sender and theirs.sender.burned
        await until(lambda: halves(w, 1, 2) == (4, 4))
        named = w.nodes[2].inventory.reserve(1, 4)
        assert all(name.link == pair(w, 1, 2).link_id for name, _ in named)


async def test_production_waits_for_signing_unless_a_pool_is_nearly_empty(tmp_path: Path) -> None:
    async with linked(tmp_path) as w:
        w.levels = Levels(4, 8, 2)
        for node in w.nodes.values():
            parts(node)[1].levels = w.levels
        pools = parts(w.nodes[1])[1]
        pools.pause_hint = lambda: True
        pools.start()
        await until(lambda: halves(w, 1, 2) == (2, 2))
        await asyncio.sleep(0.3)
        assert halves(w, 1, 2) == (2, 2)
        pools.pause_hint = lambda: False
        await until(lambda: halves(w, 1, 2) == (8, 8))


# What the sender has used up in vain


class Clock:
    """Time as the receiver's pools see it."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def full(folder: Path) -> AsyncIterator[tuple[World, Clock]]:
    """Two nodes whose direction 2 -> 1 is at its high mark, with party 1's clock in the test's hand."""
    async with linked(folder) as w:
        clock = Clock()
        receiver, sender = parts(w.nodes[1])[1], parts(w.nodes[2])[1]
        receiver.clock, sender.pause_hint = clock, lambda: False
        receiver.start()
        sender.start()
        await until(lambda: halves(w, 1, 2) == halves(w, 2, 1) == (4, 4))
        await until(lambda: not receiver._work[pair(w, 1, 2).link_id].filling)
        yield w, clock


async def tell(w: World, cursor: tuple[int, int], link: bytes | None = None) -> None:
    """Party 2 says that it has used up everything before `cursor`, whatever is true."""
    pools, before = parts(w.nodes[1])[1], w.nodes[1].mesh.link(2)
    assert before is not None
    arrived = asyncio.Event()
    route = pools._heard

    def noting(peer: int, frame: wire.Cursor) -> None:
        route(peer, frame)
        arrived.set()

    w.nodes[1].mesh.route(wire.Cursor, noting)
    w.nodes[2].mesh.send(1, wire.Cursor(link or pair(w, 2, 1).link_id, *cursor))
    await asyncio.wait_for(arrived.wait(), 10)
    w.nodes[1].mesh.route(wire.Cursor, route)


async def ticks(pools: Pools, count: int = 3) -> None:
    """Let the pools look around a few times."""
    seen = 0
    choose = pools._choose

    def counting(now: float) -> list[PairLink]:
        nonlocal seen
        seen += 1
        return choose(now)

    pools._choose = counting  # type: ignore[method-assign]
    await until(lambda: seen >= count)
    pools._choose = choose  # type: ignore[method-assign]


async def test_a_sender_whose_runs_died_early_is_refilled(tmp_path: Path) -> None:
    async with full(tmp_path) as (w, _):
        w.nodes[2].inventory.reserve(1, 4)  # four runs that end before their names leave
        assert w.nodes[1].inventory.held(2) == 4
        await until(lambda: halves(w, 1, 2) == (4, 4))
        named = w.nodes[2].inventory.reserve(1, 4)
        assert len(w.nodes[1].inventory.take(2, [name for name, _ in named])) == 4


async def test_names_that_arrive_after_their_cursor_are_still_good(tmp_path: Path) -> None:
    async with full(tmp_path) as (w, _):
        named = [name for name, _ in w.nodes[2].inventory.reserve(1, 3)]
        await until(lambda: parts(w.nodes[1])[1]._work[pair(w, 1, 2).link_id].heard == (0, 3))
        assert len(w.nodes[1].inventory.take(2, named)) == 3


async def test_orphans_are_erased_a_minute_after_the_report_and_not_before(tmp_path: Path) -> None:
    async with full(tmp_path) as (w, clock):
        pools, inventory, link = parts(w.nodes[1])[1], w.nodes[1].inventory, pair(w, 1, 2).link_id
        w.nodes[2].inventory.reserve(1, 2)
        await until(lambda: pools._work[link].heard == (0, 2))
        await until(lambda: len(pools._work[link].marks) == 1)
        clock.now += pools_module.RETIRE_SECONDS - 0.001
        await ticks(pools)
        assert inventory.held(2) == 4 and pools.counts["retired"] == 0
        clock.now += 0.001
        await until(lambda: inventory.held(2) == 2)
        assert pools.counts["retired"] == 2 and halves(w, 1, 2) == (2, 2)
        assert w.nodes[2].inventory.available(1) == (2, 4)  # the other direction is not touched


async def test_later_reports_wait_for_their_own_minute(tmp_path: Path) -> None:
    async with full(tmp_path) as (w, clock):
        pools, inventory, link = parts(w.nodes[1])[1], w.nodes[1].inventory, pair(w, 1, 2).link_id
        await tell(w, (0, 1))
        await until(lambda: len(pools._work[link].marks) == 1)
        clock.now += 30
        await tell(w, (0, 2))
        await until(lambda: len(pools._work[link].marks) == 2)
        clock.now += 30
        await until(lambda: inventory.held(2) == 3)
        await ticks(pools)
        assert inventory.held(2) == 3
        clock.now += 30
        await until(lambda: inventory.held(2) == 2)


async def test_many_reports_leave_few_marks(tmp_path: Path) -> None:
    async with full(tmp_path) as (w, _):
        pools, link = parts(w.nodes[1])[1], pair(w, 1, 2).link_id
        for position in (1, 2):
            await tell(w, (0, position))
            await ticks(pools)
        assert [cursor for _, cursor in pools._work[link].marks] == [(0, 1)]


@pytest.mark.parametrize("cursor", [(1, 1), (2, 0), ((1 << 63) - 1, 95)])
async def test_a_cursor_beyond_what_was_made_is_dropped(tmp_path: Path, cursor: tuple[int, int]) -> None:
    async with full(tmp_path) as (w, _):
        pools = parts(w.nodes[1])[1]
        await tell(w, cursor)
        assert pools.counts["malformed"] == 1 and halves(w, 1, 2) == (4, 4)
        await tell(w, (0, 1))  # and does not stand in the way of an honest one
        assert halves(w, 1, 2) == (3, 4)


async def test_a_cursor_that_goes_back_or_repeats_is_dropped(tmp_path: Path) -> None:
    async with full(tmp_path) as (w, _):
        pools = parts(w.nodes[1])[1]
        await tell(w, (0, 2))
        await tell(w, (0, 1))
        await tell(w, (0, 2))
        assert pools.counts["frames_dropped"] == 2
        assert pools._work[pair(w, 1, 2).link_id].heard == (0, 2)


async def test_a_cursor_of_another_link_moves_nothing(tmp_path: Path) -> None:
    async with full(tmp_path) as (w, _):
        pools = parts(w.nodes[1])[1]
        await tell(w, (1, 0), link=b"z" * 16)
        assert pools.counts["frames_dropped"] == 1 and halves(w, 1, 2) == (4, 4)


async def test_a_peer_that_always_claims_to_be_empty_cannot_make_us_hold_without_end(tmp_path: Path) -> None:
    async with linked(tmp_path) as w:
        pools, inventory, theirs = parts(w.nodes[1])[1], w.nodes[1].inventory, w.nodes[2].inventory
        theirs.cursor = lambda peer, link: (theirs._newest.get(("sender", peer, link), -1) + 1, 0)  # type: ignore[method-assign]
        add = theirs.add_sender

        def burning(peer: int, link: bytes, batch: Any) -> None:
            add(peer, link, batch)
            theirs.reserve(peer, batch.size)
            w.nodes[2].pools._work[link].tell_after = 0.0  # type: ignore[union-attr]

        theirs.add_sender = burning  # type: ignore[method-assign]
        for node in w.nodes.values():
            parts(node)[1].start()
        most = pools_module.HELD_AT_MOST * pools.levels.high
        await until(lambda: inventory.held(2) == most)
        await ticks(pools, 10)
        assert inventory.held(2) == most and inventory.available(2)[1] == 0


async def test_a_cursor_is_told_when_it_moved_and_once_a_second(tmp_path: Path) -> None:
    async with full(tmp_path) as (w, _):
        clock, pools, mesh = Clock(), parts(w.nodes[2])[1], w.nodes[2].mesh
        told: list[tuple[int, int]] = []
        send = mesh.send

        def noting(peer: int, frame: wire.Frame) -> bool:
            if isinstance(frame, wire.Cursor):
                told.append((frame.batch, frame.position))
            return send(peer, frame)

        mesh.send = noting  # type: ignore[method-assign]
        pools.clock = clock
        pools._work[pair(w, 2, 1).link_id].tell_after = clock.now
        await ticks(pools)
        assert told == []
        w.nodes[2].inventory.reserve(1, 1)
        await until(lambda: told == [(0, 1)])
        w.nodes[2].inventory.reserve(1, 1)
        await ticks(pools)
        assert told == [(0, 1)]
        clock.now += pools_module.TELL_SECONDS
        await until(lambda: told == [(0, 1), (0, 2)])


def test_the_default_marks_shrink_with_the_network_but_hold_a_batch() -> None:
    assert Levels.for_nodes(4) == Levels(128, 256, 64)
    assert Levels.for_nodes(7) == Levels(64, 128, 64)
    for n in range(2, 101):
        levels = Levels.for_nodes(n)
        assert 0 < levels.low <= levels.high and levels.high >= levels.batch
        assert (n - 1) * levels.high <= max(1024, 64 * (n - 1))
