"""Who is asked, when, and what is remembered of it; in virtual time, so that counts and seconds are exact."""

from __future__ import annotations

import asyncio
import functools
import json
import statistics
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest

from keyquorum.client import patience as module
from keyquorum.client.choice import FAULT_SECONDS, LONGEST_FAULT_SECONDS, NodeBook
from keyquorum.client.committee import Committee
from keyquorum.client.errors import BadAnswer, KeyquorumError, Refused, Timeout, Unavailable
from keyquorum.client.fanout import GRACE_SECONDS, LONGEST_SECONDS, RUNS_USED_UP, Fanout, Job
from keyquorum.client.patience import FIRST, LEAST, MOST, SPARE_RUNS, Patience
from keyquorum.client.results import Node
from keyquorum.client.runs import Asked, FreshRuns, Runs, SignedRuns, fresh, spread
from keyquorum.client.transport import NodeBusy, NodeDown, NodeRefused
from virtual_time import run

Signers = tuple[int, ...]


class World:
    """Nodes that answer together after `seconds`, unless one of a run is silent, and a client's fan-out."""

    def __init__(self, n: int = 4, t: int = 3, seconds: float = 0.02) -> None:
        self.seconds = seconds
        self.silent: set[int] = set()
        self.frozen: set[int] = set()
        self.liars: set[int] = set()
        self.answers: dict[int, Callable[[Signers], Awaitable[Any]]] = {}
        self.runs: list[Signers] = []
        self.began: list[float] = []
        committee = Committee(tuple(Node(party, f"http://{party}") for party in range(1, n + 1)), t)
        self.committee = committee
        self.fanout = Fanout(lambda: committee, self, NodeBook(clock=lambda: asyncio.get_running_loop().time()))  # type: ignore[arg-type]

    async def post(self, url: str, body: bytes, shape: type) -> Any:
        party, asked = int(url.split("/")[2]), json.loads(body)
        signers = tuple(asked["runs"][asked["run"]])
        if party == signers[0]:
            self.runs.append(signers)
            self.began.append(asyncio.get_running_loop().time())
        if party in self.answers:
            return await self.answers[party](signers)
        await asyncio.sleep(10**6 if self.silent & set(signers) else self.seconds)
        return party not in self.liars

    async def alive(self, url: str, path: str = "/livez", seconds: float = 1.0) -> bool:
        if int(url.split("/")[-1]) in self.frozen:
            await asyncio.sleep(seconds)
            return False
        return True

    async def ask(
        self, name: str = "request", runs: Runs | None = None, seconds: float = 60.0, path: str = "/v1/sign"
    ) -> tuple[Signers, float]:
        """Who served, and how long it took."""
        began = asyncio.get_running_loop().time()
        asked = Asked(name, lambda signed: {"runs": [list(signers) for signers in signed]})
        served = await self.fanout.run(_Job(runs or FreshRuns(asked), path), seconds)
        return served, asyncio.get_running_loop().time() - began

    async def ask_often(self, count: int, pause: float = 0.0) -> list[float]:
        took = []
        for number in range(count):
            took.append((await self.ask(f"request {number}"))[1])
            await asyncio.sleep(pause)
        return took


class _Job(Job[bool, Signers]):
    path, shape = "/v1/sign", bool

    def __init__(self, runs: Runs, path: str = "/v1/sign") -> None:
        self.runs, self.path = runs, path

    def check(self, party: int, answer: bool) -> None:
        pass

    def finish(self, answers: Mapping[int, bool]) -> Signers:
        if not all(answers.values()):
            raise BadAnswer("bad_answer", "the shares do not make a valid signature")
        return tuple(sorted(answers))


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in virtual time."""

    @functools.wraps(test)
    def wrapped(**given: Any) -> None:
        async def whole() -> None:
            try:
                await test(**given)
            finally:
                for task in asyncio.all_tasks() - {asyncio.current_task()}:
                    task.cancel()

        run(whole())

    return wrapped


# -- silent nodes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("silent", [1, 2, 3, 4])
@virtual
async def test_a_silent_node_costs_little_once_and_nothing_afterwards(silent: int) -> None:
    world = World()
    await world.ask_often(10)
    world.silent, world.runs[:] = {silent}, []
    took = await world.ask_often(50)
    assert statistics.median(took) == pytest.approx(world.seconds)
    # At worst the one set without it is the fourth; it is found out by the first request that meets it.
    assert max(took) < 5 * LEAST and sum(each > 0.05 for each in took) == 1
    assert len(world.runs) <= 50 + 3
    assert world.fanout.book.has_fault(silent)
    assert not any(world.fanout.book.has_fault(other) for other in {1, 2, 3, 4} - {silent})


@virtual
async def test_a_client_that_has_seen_nothing_yet_finds_the_set_without_it() -> None:
    for silent in (1, 2, 3, 4):
        world = World()
        world.silent = {silent}
        served, took = await world.ask(f"first {silent}")
        assert silent not in served and len(world.runs) <= 4 and took < 5 * FIRST


@pytest.mark.parametrize("slow", [0.0, 0.5, 2.0, 6.0])
@pytest.mark.parametrize("silent", [1, 2, 3, 4])
@virtual
async def test_what_was_slow_before_does_not_make_a_silent_node_dear(silent: int, slow: float) -> None:
    world = World()
    if slow:
        world.fanout.patience.took("/v1/sessions", slow)
        world.fanout.patience.took(_Job.path, slow)
    world.silent = {silent}
    served, took = await world.ask(f"after {slow} s")
    pauses = [later - earlier for earlier, later in pairwise(world.began)]
    assert silent not in served and all(pause <= MOST for pause in pauses) and took <= 3 * MOST + world.seconds


@virtual
async def test_a_login_with_a_fresh_client_asks_a_second_set_soon_and_comes_back_with_its_result() -> None:
    for number in range(30):
        world = World()
        world.silent = {1 + number % 4}
        served, took = await world.ask(f"login {number}", path="/v1/sessions")
        assert not world.silent & set(served) and took < 4 * FIRST + 2 * world.seconds
        if len(world.began) > 1:
            assert world.began[1] - world.began[0] == pytest.approx(FIRST)
        if len(world.began) == 2:
            assert took == pytest.approx(FIRST + world.seconds)


@virtual
async def test_beyond_the_budget_the_first_overdue_set_costs_three_seconds() -> None:
    world = World()
    while world.fanout.patience.spend():
        pass
    world.silent = {2}
    await world.ask("no budget is left")
    pauses = [later - earlier for earlier, later in pairwise(world.began)]
    assert not pauses or pauses[0] <= LONGEST_SECONDS + GRACE_SECONDS


@virtual
async def test_another_run_is_made_only_when_every_one_before_is_overdue() -> None:
    world = World(5, 4)
    world.silent = {2}
    for number in range(40):
        world.fanout.book.records.clear()
        world.began.clear()
        served, _ = await world.ask(f"{number}")
        assert not world.silent & set(served)
        pauses = [later - earlier for earlier, later in pairwise(world.began)]
        assert all(pause >= LEAST * (1 if at < 2 else 2) - 1e-9 for at, pause in enumerate(pauses)), pauses


@virtual
async def test_a_node_that_alone_keeps_its_answer_back_is_known_at_once() -> None:
    world = World()
    await world.ask_often(5)

    async def never(_: Signers) -> Any:
        await asyncio.sleep(10**6)

    world.answers[2], world.runs[:] = never, []
    for number in range(10):
        served, _ = await world.ask(f"later {number}")
        assert 2 not in served
    assert len(world.runs) == 11


@virtual
async def test_a_fault_is_remembered_for_minutes_longer_each_time_and_fades() -> None:
    world = World()
    await world.ask_often(10)
    world.silent = {3}
    book, loop = world.fanout.book, asyncio.get_running_loop()
    met = []
    for number in range(2000):
        world.runs.clear()
        await world.ask(f"{number}")
        if any(3 in signers for signers in world.runs):
            met.append(loop.time())
        await asyncio.sleep(5)
    pauses = [later - earlier for earlier, later in pairwise(met)]
    assert pauses[0] > FAULT_SECONDS * 0.9 and pauses[1] > 2 * FAULT_SECONDS * 0.9
    assert len(met) <= 7
    world.silent.clear()
    await asyncio.sleep(2 * LONGEST_FAULT_SECONDS)
    assert book.suspicion(3) == 0
    world.runs.clear()
    await world.ask_often(20)
    assert any(3 in signers for signers in world.runs)


@virtual
async def test_serving_well_in_between_does_not_shorten_the_memory() -> None:
    book = NodeBook(clock=lambda: asyncio.get_running_loop().time())
    book.fault([1])
    book.good([1, 2, 3])
    assert book.has_fault(1) and book.choose([1, 2, 3, 4], 3, "x") == (2, 3, 4)


@virtual
async def test_a_frozen_node_is_known_to_be_down_soon() -> None:
    world = World()
    await world.ask_often(5)
    world.silent, world.frozen = {1}, {1}
    while not world.fanout.book.is_down(1):
        await world.ask_often(1, pause=1)
    world.runs.clear()
    await world.ask_often(10)
    assert not any(1 in signers for signers in world.runs)
    await world.fanout.close()


# -- slow machines ----------------------------------------------------------------------------------------------------


@virtual
async def test_a_slow_network_is_waited_for_and_not_asked_twice() -> None:
    world = World(seconds=0.7)
    await world.ask_often(20)
    assert len(world.runs) <= 20 + 2
    world.runs.clear()
    await world.ask_often(50)
    assert len(world.runs) == 50 and not any(map(world.fanout.book.has_fault, (1, 2, 3, 4)))


@virtual
async def test_a_sudden_load_costs_no_more_runs_than_the_budget_has() -> None:
    world = World()
    await world.ask_often(32)
    world.seconds, world.runs[:] = 1.5, []
    await asyncio.gather(*(world.ask(f"at once {number}") for number in range(200)))
    assert len(world.runs) <= 200 + SPARE_RUNS + 1


@virtual
async def test_what_everybody_does_slowly_is_held_against_nobody() -> None:
    world = World()
    await world.ask_often(32)
    world.seconds = 0.5
    for number in range(20):
        await world.ask(f"slow {number}")
    assert not any(map(world.fanout.book.has_fault, (1, 2, 3, 4)))


@virtual
async def test_a_node_that_answers_as_late_as_it_may_does_not_stretch_the_patience() -> None:
    world = World()
    await world.ask_often(32)

    async def late(_: Signers) -> bool:
        await asyncio.sleep(0.9 * world.fanout.patience.of("/v1/sign"))
        return True

    world.answers[2] = late
    await world.ask_often(300)
    assert world.fanout.patience.of("/v1/sign") == LEAST


def test_patience_follows_what_runs_took_and_has_bounds() -> None:
    patience = Patience()
    assert patience.of("/v1/sign") == FIRST
    patience.took("/v1/sessions", 0.2)
    assert patience.of("/v1/sign") == pytest.approx(0.6)  # the other path is a better guess than none
    patience.took("/v1/sign", 0.1)
    assert patience.of("/v1/sign") == pytest.approx(0.3)
    for seconds, expected in ((0.001, LEAST), (100.0, MOST)):
        for _ in range(module.REMEMBERED):
            patience.took("/v1/sign", seconds)
        assert patience.of("/v1/sign") == expected


def test_the_budget_is_spent_and_comes_back() -> None:
    patience = Patience()
    assert [patience.spend() for _ in range(5)] == [True] * 4 + [False]
    for _ in range(51):
        patience.took("/v1/sign", 0.1)
    assert patience.spend() and not patience.spend()


# -- liars and hearsay ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("liar", [1, 2, 3, 4])
@virtual
async def test_a_liar_among_four_is_remembered_by_the_set_that_works(liar: int) -> None:
    world = World()
    world.liars = {liar}
    await world.ask_often(40)
    assert len(world.runs) <= 40 + 3
    assert [party for party in (1, 2, 3, 4) if world.fanout.book.has_fault(party)] == [liar]


@virtual
async def test_one_nodes_word_against_all_others_weighs_less_than_that_it_failed_itself() -> None:
    world = World()

    async def accuse(signers: Signers) -> Any:
        raise NodeBusy("signer_silent", "a signer is silent", parties=[1, 2, 3, 4])

    world.answers[4] = accuse
    await world.ask_often(10)
    book = world.fanout.book
    assert all(book.suspicion(4) > book.suspicion(other) for other in (1, 2, 3))
    assert sum(4 in signers for signers in world.runs) == 1


@virtual
async def test_what_two_say_alike_points_to_the_third() -> None:
    world = World()

    async def unlinked(signers: Signers) -> Any:
        if 3 in signers:
            raise NodeBusy("signer_unreachable", "a signer is not linked to this node", parties=[3])
        return True

    async def silent(_: Signers) -> Any:
        await asyncio.sleep(10**6)

    world.answers = {1: unlinked, 2: unlinked, 4: unlinked, 3: silent}
    for number in range(10):
        served, _ = await world.ask(f"{number}")
        assert 3 not in served
    assert sum(3 in signers for signers in world.runs) <= 2


@pytest.mark.parametrize("words", [
    NodeBusy("quota_exceeded", "used up"), NodeRefused("not_permitted", "no", status=403),
])  # fmt: skip
@virtual
async def test_a_node_that_always_refuses_is_asked_now_and_then_and_ends_nothing(words: Exception) -> None:
    world = World()

    async def refuse(_: Signers) -> Any:
        raise words

    world.answers[1] = refuse
    took = await world.ask_often(50)
    assert statistics.median(took) == pytest.approx(world.seconds)
    assert sum(1 in signers for signers in world.runs) <= 2
    # What it said may be true of these requests: it is no fault.
    assert not world.fanout.book.has_fault(1)


@virtual
async def test_more_than_n_minus_t_words_are_believed() -> None:
    world = World()

    async def refuse(_: Signers) -> Any:
        raise NodeBusy("quota_exceeded", "used up", status=429)

    world.answers = {1: refuse, 2: refuse}
    with pytest.raises(Refused) as caught:
        await world.ask()
    assert caught.value.code == "quota_exceeded"


@virtual
async def test_when_nothing_helps_the_time_is_used_and_said() -> None:
    world = World()
    world.silent = {1, 2}
    with pytest.raises(Timeout):
        await world.ask(seconds=5)
    assert len(world.runs) <= 8

    async def down(_: Signers) -> Any:
        raise NodeDown("", "no connection")

    world.answers = {1: down, 2: down}
    with pytest.raises(Unavailable, match="at most 2 of 4 nodes answer"):
        await world.ask()
    await world.fanout.close()


# -- runs that were signed ahead --------------------------------------------------------------------------------------


def ahead(runs: Sequence[Signers]) -> SignedRuns:
    return SignedRuns("id", {"runs": [list(signers) for signers in runs]}, runs)


@virtual
async def test_only_what_was_signed_is_asked_for_and_the_best_of_it_first() -> None:
    world = World()
    world.fanout.book.fault([1])
    served, _ = await world.ask(runs=ahead([(1, 2, 3), (1, 2, 4), (2, 3, 4)]))
    assert served == (2, 3, 4) and world.runs == [(2, 3, 4)]


@virtual
async def test_when_all_signed_runs_are_used_up_the_error_says_whom_to_leave_out() -> None:
    world = World()

    async def down(_: Signers) -> Any:
        raise NodeDown("", "no connection")

    world.answers[1] = down
    with pytest.raises(Unavailable) as caught:
        await world.ask(runs=ahead([(1, 2, 3), (1, 2, 4)]))
    assert (caught.value.code, caught.value.parties) == (RUNS_USED_UP, (1,))
    assert caught.value.to_json()["parties"] == [1]
    assert len(world.runs) == 1  # the other could not have worked
    world.answers.clear()
    world.silent = {2}
    with pytest.raises(KeyquorumError) as silent:
        await world.ask(runs=ahead([(1, 2, 3)]))
    assert silent.value.code == RUNS_USED_UP and 2 in silent.value.parties  # type: ignore[attr-defined]
    await world.fanout.close()


def test_runs_signed_again_stand_under_other_numbers() -> None:
    runs = spread(range(1, 5), 3, "id")
    assert len(runs) == 8 and len(set(runs)) == 4
    used = set(enumerate(runs))
    again = fresh(runs, used)
    assert sorted(again) == sorted(runs) and not set(enumerate(again)) & used
    assert not set(enumerate(fresh(runs, used | set(enumerate(again))))) & (used | set(enumerate(again)))


@pytest.mark.parametrize(("n", "t"), [(1, 1), (3, 3), (4, 3), (5, 4), (7, 4), (7, 5), (10, 7), (20, 14), (100, 67)])
def test_eight_sets_survive_the_loss_of_any_node_and_of_many_pairs(n: int, t: int) -> None:
    runs = spread(range(1, n + 1), t, "id")
    assert len(runs) == 8 and all(len(signers) == t and list(signers) == sorted(set(signers)) for signers in runs)
    if n > t:
        assert all(any(lost not in signers for signers in runs) for lost in range(1, n + 1))
    if (n, t) == (7, 4):
        pairs = [(a, b) for a in range(1, 8) for b in range(1, a)]
        assert all(any(not {*pair} & {*signers} for signers in runs) for pair in pairs)


def test_those_to_avoid_come_last_and_all_are_used_when_there_are_not_enough_others() -> None:
    runs = spread(range(1, 8), 4, "id", avoid={1, 2})
    assert all(not {1, 2} & set(signers) for signers in runs[:5]) and {1, 2} & set(runs[-1])
    assert len(spread(range(1, 5), 3, "id", avoid={1, 2})) == 8
