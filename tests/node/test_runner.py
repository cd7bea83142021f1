"""Runs over a pretend mesh: two runners, a protocol of one round, and everything that can go wrong between them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import pytest

from keyquorum.algebra.rng import SeededRng
from keyquorum.node.runs import runner as runners
from keyquorum.node.runs.places import Places
from keyquorum.node.runs.runner import AlreadyRun, PeerUnreachable, Runner, RunTimeout, culprits_of
from keyquorum.rounds.errors import Abort, Blame
from keyquorum.rounds.message import Message, octets
from keyquorum.rounds.party import Party
from keyquorum.rounds.session import Envelope

SID = b"s" * 32


@dataclass(frozen=True, repr=False)
class RunnerWord(Message):
    word: Annotated[bytes, octets(4)]


async def talk(party: Party, word: bytes) -> dict[int, bytes]:
    said = await party.broadcast(RunnerWord(word))
    return {j: message.word for j, message in said.items()}


def party(me: int, sid: bytes = SID, parties: tuple[int, ...] = (1, 2)) -> Party:
    return Party(me, parties, sid, SeededRng(me))


class World:
    """Two runners whose envelopes arrive at once; links can be cut and messages kept back."""

    def __init__(self) -> None:
        self.up = True
        self.tamper: Callable[[Envelope], list[Envelope]] = lambda envelope: [envelope]
        self.runner = {me: Runner(self.sender(me), lambda _: self.up) for me in (1, 2)}

    def sender(self, me: int) -> Callable[[int, Envelope], bool]:
        def send(peer: int, envelope: Envelope) -> bool:
            for arriving in self.tamper(envelope):
                asyncio.get_running_loop().call_soon(self.runner[peer].receive, me, arriving)
            return self.up

        return send

    def run(self, me: int, word: bytes, seconds: float = 5.0, sid: bytes = SID, in_thread: bool = False):
        return self.runner[me].run(party(me, sid), talk(party(me, sid), word), seconds, in_thread)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("in_thread", [False, True])
async def test_both_parties_hear_each_other(world: World, in_thread: bool) -> None:
    one, two = await asyncio.gather(
        world.run(1, b"ping", in_thread=in_thread), world.run(2, b"pong", in_thread=in_thread)
    )
    assert one == two == {1: b"ping", 2: b"pong"}
    assert world.runner[1].active == world.runner[2].active == 0


async def test_a_message_that_comes_before_its_run_waits_for_it(world: World) -> None:
    first = asyncio.create_task(world.run(1, b"ping"))
    await asyncio.sleep(0.02)
    assert await world.run(2, b"pong") == await first


async def test_early_messages_are_bounded_and_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    early = Envelope(SID, 1, 1, None, b"ping", b"")
    for k in range(runners.EARLY_PER_PEER + 3):
        world.runner[2].receive(1, replace(early, sid=k.to_bytes(32, "big")))
    assert world.runner[2].dropped == 3
    monkeypatch.setattr(runners, "EARLY_SECONDS", -1.0)
    world.runner[2].receive(1, early)
    assert world.runner[2].dropped == 3 + runners.EARLY_PER_PEER


async def test_early_bytes_are_bounded(world: World) -> None:
    large = Envelope(SID, 1, 1, None, bytes(runners.EARLY_BYTES_PER_PEER), b"")
    world.runner[2].receive(1, large)
    world.runner[2].receive(1, replace(large, sid=b"t" * 32, payload=b"x"))
    assert world.runner[2].dropped == 1
    world.runner[2].receive(1, replace(large, sid=b"u" * 32, payload=large.payload + b"x"))
    assert world.runner[2].dropped == 2
    assert world.runner[2]._early[1].size == 1


async def test_early_messages_of_runs_that_never_come_cost_later_ones_nothing(world: World) -> None:
    early = Envelope(SID, 1, 1, None, b"ping", b"")
    for k in range(3 * runners.EARLY_PER_PEER):
        world.runner[2].receive(1, replace(early, sid=k.to_bytes(32, "big")))
    first = asyncio.create_task(world.run(1, b"ping"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await world.run(2, b"pong") == await first


async def test_a_run_keeps_its_place_once_everybody_was_heard(world: World) -> None:
    place = Places(1).enter("somebody")
    run = asyncio.create_task(world.runner[1].run(party(1), talk(party(1), b"ping"), 5.0, place=place))
    await asyncio.sleep(0)
    assert (place.joined, world.runner[1].active, world.runner[1].joined) == (False, 1, 0)
    await world.run(2, b"pong")
    await run
    assert place.joined


async def test_a_run_that_loses_its_place_ends_and_names_whom_it_waited_for(world: World) -> None:
    places = Places(1)
    run = asyncio.create_task(
        world.runner[1].run(party(1), talk(party(1), b"ping"), 5.0, place=places.enter("somebody"))
    )
    await asyncio.sleep(0)
    places.enter("somebody else")
    with pytest.raises(RunTimeout) as ended:
        await run
    assert culprits_of(ended.value) == {2}
    assert world.runner[1].active == 0


async def test_the_sender_is_the_link_and_not_what_the_envelope_says(world: World) -> None:
    run = asyncio.create_task(world.run(1, b"ping", 0.2))
    await asyncio.sleep(0.01)
    world.runner[1].receive(3, Envelope(SID, 1, 2, None, b"evil", b""))
    assert world.runner[1].dropped == 1
    with pytest.raises(RunTimeout):
        await run


async def test_a_session_id_is_run_once(world: World) -> None:
    await asyncio.gather(world.run(1, b"ping"), world.run(2, b"pong"))
    with pytest.raises(AlreadyRun):
        await world.run(1, b"ping")


async def test_a_run_without_a_link_is_refused_before_it_starts_and_may_be_tried_again(world: World) -> None:
    world.up = False
    with pytest.raises(PeerUnreachable) as refused:
        await world.run(1, b"ping")
    assert culprits_of(refused.value) == {2}
    world.up = True
    await asyncio.gather(world.run(1, b"ping"), world.run(2, b"pong"))


async def test_silence_ends_in_a_timeout_that_names_the_silent(world: World) -> None:
    with pytest.raises(RunTimeout) as late:
        await world.run(1, b"ping", 0.05)
    assert culprits_of(late.value) == {2}
    assert world.runner[1].active == 0


async def test_a_lost_link_ends_its_runs_at_once(world: World) -> None:
    run = asyncio.create_task(world.run(1, b"ping", 30.0))
    await asyncio.sleep(0.01)
    world.runner[1].peer_down(2)
    with pytest.raises(RunTimeout):
        await asyncio.wait_for(run, 1.0)


async def test_a_malformed_message_blames_its_sender(world: World) -> None:
    run = asyncio.create_task(world.run(1, b"ping", 5.0))
    await asyncio.sleep(0.01)
    world.runner[1].receive(2, Envelope(SID, 1, 2, None, b"too long", b""))
    with pytest.raises(Blame) as blame:
        await run
    assert culprits_of(blame.value) == {2}


async def test_a_cancelled_caller_leaves_no_run_behind(world: World) -> None:
    run = asyncio.create_task(world.run(1, b"ping", 30.0))
    await asyncio.sleep(0.01)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    assert world.runner[1].active == 0


@pytest.mark.parametrize("how", ["timeout", "link", "caller"])
async def test_a_run_that_computes_in_a_thread_is_closed_when_the_thread_is_done(how: str) -> None:
    runner, computing, release = Runner(lambda *_: True, lambda _: True), threading.Event(), threading.Event()
    left: list[str] = []
    reports: list[Abort | None] = []
    runner.observe = lambda name, seconds, error: reports.append(error)

    async def compute(mine: Party) -> None:
        try:
            await mine.broadcast(RunnerWord(b"word"))
            computing.set()
            release.wait(10)
            await mine.broadcast(RunnerWord(b"word"))
        finally:
            left.append("closed")

    run = asyncio.create_task(runner.run(party(1), compute(party(1)), 0.1 if how == "timeout" else 30.0, True))
    await asyncio.sleep(0.02)
    runner.receive(2, Envelope(SID, 1, 2, None, b"word", b""))
    await asyncio.to_thread(computing.wait, 10)
    if how == "link":
        runner.peer_down(2)
    if how == "caller":
        run.cancel()
    await asyncio.sleep(0.2)
    assert (left, runner.active, run.done()) == ([], 1, False)
    release.set()
    with pytest.raises(asyncio.CancelledError if how == "caller" else RunTimeout):
        await run
    assert (left, runner.active, len(reports)) == (["closed"], 0, 1)
    with pytest.raises(AlreadyRun):
        await runner.run(party(1), talk(party(1), b"word"), 1.0)


def test_an_abort_names_nobody() -> None:
    assert culprits_of(Abort("nobody")) == frozenset()
