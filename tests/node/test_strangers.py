"""Strangers' contracts: few at a time, fair between those who ask, once for each question, counted before they cost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from keyquorum.chain.guarded_call import INNER_GAS
from keyquorum.node.chain.chain_view import ChainUnavailable, Head
from keyquorum.node.chain.strangers import Crowded, Strangers, Turns
from keyquorum.node.services.problem import explain
from keyquorum.serving.places import Places

WALLET = b"\x01" * 20


class View:
    """A chain whose answers a test gives."""

    def __init__(self) -> None:
        self.head_now = Head(9, b"h" * 32, 8, 0.0)
        self.asked: list[tuple[bytes, int]] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.answer: bytes | Exception = b"yes"

    async def head(self) -> Head:
        return self.head_now

    async def run_guarded(self, code: bytes, block: int) -> bytes:
        self.asked.append((code, block))
        await self.hold.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Counted:
    def __init__(self, most: int = 1000) -> None:
        self.times, self.most = 0, most

    def __call__(self) -> None:
        if self.times >= self.most:
            raise PermissionError
        self.times += 1


def asks(view: View, **options: Any) -> Callable[..., Awaitable[bytes]]:
    strangers = Strangers(view, **options)  # type: ignore[arg-type]

    async def ask(tenant: str, admit: Counted, data: bytes = b"q", newest: bool = True) -> bytes:
        return await strangers.call(tenant, admit, WALLET, data, newest)

    return ask


async def test_the_same_question_is_put_once_while_its_block_is_the_newest() -> None:
    view, count = View(), Counted()
    ask = asks(view)
    assert await asyncio.gather(*(ask("a", count) for _ in range(50))) == [b"yes"] * 50
    assert (len(view.asked), count.times) == (1, 1)
    await ask("a", count, b"another question")
    await ask("a", count, newest=False)
    assert [block for _, block in view.asked] == [9, 9, 8]
    view.head_now = Head(10, b"i" * 32, 9, 0.0)
    await ask("a", count)
    assert (len(view.asked), count.times) == (4, 4)


async def test_where_the_newest_block_is_final_a_wallet_is_asked_once() -> None:
    view, count = View(), Counted()
    view.head_now = Head(9, b"h" * 32, 9, 0.0)
    ask = asks(view)
    assert [await ask("a", count, newest=newest) for newest in (False, True)] == [b"yes"] * 2
    assert count.times == 1


@pytest.mark.parametrize("answer", [b"yes", b""])
async def test_who_asks_is_counted_before_whether_yes_or_no(answer: bytes) -> None:
    view, count = View(), Counted(3)
    view.answer = answer
    ask = asks(view)
    for number in range(3):
        await ask("a", count, bytes([number]))
    with pytest.raises(PermissionError):
        await ask("a", count, b"one more")
    assert len(view.asked) == 3
    assert await ask("a", count, bytes([2])) == answer  # what was asked before costs nothing


async def test_a_failure_is_not_remembered() -> None:
    view, count = View(), Counted()
    ask = asks(view)
    view.answer = ChainUnavailable("gone")
    with pytest.raises(ChainUnavailable):
        await ask("a", count)
    await asyncio.sleep(0)
    view.answer = b"yes"
    assert await ask("a", count) == b"yes"


async def test_a_call_that_takes_too_long_is_given_up() -> None:
    view, count = View(), Counted()
    view.hold.clear()
    with pytest.raises(ChainUnavailable, match="in time"):
        await asks(view, seconds=0.0)("a", count)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Work:
    """Pieces of work that end when the test says so."""

    def __init__(self, turns: Turns) -> None:
        self.turns, self.started, self.ends = turns, [], {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, *names: str) -> None:
        """Begin pieces called tenant and number, such as "a1"."""
        for name in names:
            self.tasks[name] = asyncio.create_task(self.turns.run(name[0], lambda name=name: self._do(name)))
            await settle()

    async def _do(self, name: str) -> None:
        self.started.append(name)
        self.ends[name] = asyncio.Event()
        await self.ends[name].wait()

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await settle()

    def refused(self) -> list[str]:
        return [name for name, task in self.tasks.items() if task.done() and not task.cancelled() and task.exception()]

    async def close(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


async def test_one_tenant_has_one_place_and_others_find_one() -> None:
    work = Work(Turns(places=2))
    await work.start("a1", "a2", "a3", "b1", "c1")
    assert work.started == ["a1", "b1"]
    await work.end("a1")
    assert work.started == ["a1", "b1", "c1"] or work.started == ["a1", "b1", "a2"]
    await work.end("b1")
    assert sorted(work.started) == ["a1", "a2", "b1", "c1"]
    await work.end("a2")
    await work.end("c1")
    assert work.started[-1] == "a3"
    await work.close()


async def test_a_flood_of_one_tenant_waits_behind_itself() -> None:
    work = Work(Turns(places=2, waiting=64, each=8))
    await work.start(*(f"a{i}" for i in range(100)))
    assert work.started == ["a0"]
    assert len(work.refused()) == 100 - 9
    await work.start("b1")
    assert work.started == ["a0", "b1"]
    await work.close()


async def test_when_all_places_to_wait_are_taken_the_longest_queue_gives_way() -> None:
    work = Work(Turns(places=1, waiting=6, each=6))
    await work.start("x0", *(f"a{i}" for i in range(4)), "b0", "b1")
    assert work.turns.waiting == 6
    await work.start("c0")
    assert work.refused() == ["a3"]
    await work.start("a9")
    assert work.refused() == ["a3", "a9"]
    await work.close()


async def test_who_hangs_up_while_he_waits_leaves_no_hole() -> None:
    work = Work(Turns(places=1))
    await work.start("a1", "b1", "c1")
    work.tasks["b1"].cancel()
    await settle()
    await work.end("a1")
    assert work.started == ["a1", "c1"]
    await work.end("c1")
    await work.start("d1")
    assert work.started[-1] == "d1"
    await work.end("d1")
    assert (work.turns.waiting, work.turns._running) == (0, set())
    await work.close()


def test_a_crowd_is_told_to_wait() -> None:
    error = explain(Crowded())
    assert error is not None
    assert (error.status, error.code, error.retry_after) == (429, "busy", 1)


def test_the_bound_is_the_documented_one() -> None:
    assert INNER_GAS == 1_000_000


async def test_who_waits_for_a_contract_holds_no_place_that_others_need() -> None:
    view, places = View(), Places(4)
    view.hold.clear()
    ask = asks(view)

    async def request(number: int) -> bytes:
        async with places.place(f"{number}"):
            return await ask(f"{number % 8}", Counted(), b"%d" % number)

    waiting = [asyncio.create_task(request(number)) for number in range(24)]
    for _ in range(200):
        await asyncio.sleep(0)
    assert not places.taken
    assert not any(task.done() for task in waiting)
    view.hold.set()
    assert await asyncio.gather(*waiting) == [b"yes"] * 24
    assert not places.taken
