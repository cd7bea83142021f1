"""Places for unverified work, and what all spend together: bounds from both sides, fairness, ends of patience."""

from __future__ import annotations

import asyncio
import math

import pytest

from keyquorum.refusal import Refusal
from keyquorum.serving.buckets import Meter
from keyquorum.serving.places import IN_LINE, Places, verified


class Work:
    """Requests that hold a place until they are let go; `order` is who got one, in order."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.order: list[str] = []
        self.go = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(self, *names: str, trusted: bool = False) -> None:
        for name in names:
            self.tasks.append(asyncio.create_task(self._work(name, trusted)))
        await settled()

    async def _work(self, name: str, trusted: bool) -> None:
        async with self.places.place(name, trusted):
            self.order.append(name)
            await self.go.wait()

    async def end(self) -> list[BaseException | None]:
        self.go.set()
        return await asyncio.gather(*self.tasks, return_exceptions=True)


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_half_for_one_address_three_quarters_for_strangers_all_for_trusted_ones() -> None:
    work = Work(Places(8))
    await work.begin(*["a"] * 6)
    assert work.order == ["a"] * 4
    await work.begin("b", "c", "d")
    assert work.order == ["a"] * 4 + ["b", "c"]
    await work.begin("gateway", "gateway", "gateway", trusted=True)
    assert work.order[6:] == ["gateway"] * 2
    assert work.places.taken.total() == 8
    assert await work.end() == [None] * 12
    assert not work.places.taken and not work.places.waiting


async def test_of_those_who_wait_the_address_with_the_fewest_places_is_next() -> None:
    places = Places(4)
    work = Work(places)
    await work.begin("a", "a", "b")
    await work.begin("a", "a", "a", "c")
    assert work.order == ["a", "a", "b"]
    work.go.set()
    await asyncio.gather(*work.tasks)
    assert work.order[3] == "c"


async def test_whoever_is_verified_gives_his_place_back_once_and_goes_on() -> None:
    places = Places(4)
    async with places.place("a"), places.place("a"):
        assert places.taken["a"] == 2
        verified()
        verified()
        assert places.taken["a"] == 1
    assert not places.taken
    verified()  # outside a request it means nothing


async def test_the_line_of_one_address_and_that_of_all_are_bounded() -> None:
    work = Work(Places(4))
    await work.begin(*["a"] * (2 + IN_LINE * 2))
    assert work.places.waiting == IN_LINE * 2
    with pytest.raises(Refusal) as caught:
        await work._work("a", False)
    assert (caught.value.status, caught.value.retry_after) == (429, 1)
    await work.begin(*(f"b{number}" for number in range(1 + IN_LINE * 2)))
    assert work.places.waiting == IN_LINE * 4
    with pytest.raises(Refusal) as caught:
        await work._work("c", False)
    assert (caught.value.status, caught.value.code) == (503, "busy")
    await work.begin("gateway", "gateway", "gateway", trusted=True)  # not behind the strangers
    assert work.order.count("gateway") == 1
    assert await work.end() == [None] * len(work.tasks)


async def test_patience_in_line_ends_and_leaves_nothing_behind() -> None:
    places = Places(4, seconds=0.0)
    work = Work(places)
    await work.begin("a", "a")
    with pytest.raises(Refusal) as caught:
        await work._work("a", False)
    assert caught.value.code == "busy"
    assert not places.waiting
    await work.end()


async def test_who_hangs_up_while_waiting_leaves_the_line_and_takes_no_place() -> None:
    work = Work(Places(4))
    await work.begin("a", "a", "a", "b", "a")
    for waiting in (2, 4):
        work.tasks[waiting].cancel()
    await settled()
    assert not work.places.waiting
    await work.end()
    assert not work.places.taken


def test_all_together_spend_five_times_what_one_may_and_the_last_fifth_is_for_the_modest() -> None:
    meter = Meter(100, 1.0, lambda: 0.0)
    assert all(meter.take(name, 100) == 0 for name in "abcd")
    assert meter.take("e", 100) > 0
    assert meter.take("e", 26) > 0
    assert meter.take("e", 25) == 0
    assert meter.take("e", 1) > 0  # not modest any more
    assert [meter.take(name, 25) for name in "fgh"] == [0, 0, 0]
    assert meter.take("i", 1) > 0


def test_one_address_spends_exactly_its_share_and_too_much_is_too_much_for_ever() -> None:
    now = 0.0
    meter = Meter(10, 1.0, lambda: now)
    assert meter.take("a", 11) == math.inf
    assert meter.take("a", 10) == 0
    assert meter.take("a", 1) == pytest.approx(0.1)
    now = 0.1
    assert meter.take("a", 1) == 0
