"""Repeats cost nothing and change nothing; a used id is used."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref

import pytest

from keyquorum.formats.strict_json import BadJson
from keyquorum.node.services import attempts as module
from keyquorum.node.services.attempts import SLOTS, Attempts, Slot
from keyquorum.refusal import Refusal

SLOT: Slot = (0, (1, 2))


class Counting:
    def __init__(self, fail: bool = False) -> None:
        self.calls = 0
        self.fail = fail

    async def __call__(self) -> dict[str, int]:
        self.calls += 1
        await asyncio.sleep(0)
        if self.fail:
            raise Refusal("run_failed", "no", "again", 503)
        return {"call": self.calls}


async def ask(table: Attempts, make: Counting, payload: bytes = b"p", slot: Slot = (0, (1, 2)), **times: int) -> object:
    times = {"until": 100, "now": 0} | times
    return await table.once("owner", "id", payload, slot, make=make, **times)


async def test_a_repeat_gets_the_same_answer_without_a_second_run() -> None:
    table, make = Attempts(), Counting()
    assert await ask(table, make) == await ask(table, make) == {"call": 1}


async def test_repeats_at_the_same_time_share_one_run() -> None:
    table, make = Attempts(), Counting()
    assert await asyncio.gather(*(ask(table, make) for _ in range(10))) == [{"call": 1}] * 10


async def test_a_failed_attempt_stays_failed_and_the_next_attempt_is_a_new_run() -> None:
    table, failing, good = Attempts(), Counting(fail=True), Counting()
    for _ in range(2):
        with pytest.raises(Refusal):
            await ask(table, failing)
    assert failing.calls == 1
    assert await ask(table, good, slot=(1, (1, 2))) == {"call": 1}


async def test_an_id_cannot_be_used_for_something_else() -> None:
    table, make = Attempts(), Counting()
    await ask(table, make)
    with pytest.raises(Refusal) as refused:
        await ask(table, make, payload=b"other")
    assert (refused.value.status, refused.value.code, make.calls) == (409, "request_id_used", 1)


async def test_entries_live_as_long_as_the_request_can_be_sent() -> None:
    table, make = Attempts(), Counting()
    await ask(table, make)
    await ask(table, make, payload=b"other", now=101, until=200)
    assert len(table) == 1


async def test_one_session_cannot_fill_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENTRIES_PER_OWNER", 3)
    table, make = Attempts(), Counting()
    for k in range(3):
        await table.once("owner", str(k), b"", SLOT, until=100, now=0, make=make)
    with pytest.raises(Refusal) as refused:
        await table.once("owner", "3", b"", SLOT, until=100, now=0, make=make)
    assert refused.value.status == 429
    await table.once("somebody else", "3", b"", SLOT, until=100, now=0, make=make)


async def test_the_table_is_bounded_and_forgets_before_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENTRIES", 2)
    table, make = Attempts(), Counting()
    for k in range(5):
        await table.once(str(k), "id", b"", SLOT, until=100 + k, now=0, make=make)
    assert len(table) == 2 and list(table._per_owner) == ["3", "4"]


async def test_what_is_under_way_is_never_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENTRIES", 2)
    table, release = Attempts(), asyncio.Event()

    async def make() -> dict[str, int]:
        await release.wait()
        return {"call": 1}

    runs = [asyncio.create_task(table.once(str(k), "id", b"", SLOT, until=100, now=0, make=make)) for k in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Refusal) as refused:
        await table.once("2", "id", b"", SLOT, until=100, now=0, make=Counting())
    assert refused.value.code == "too_many_requests"
    release.set()
    assert await asyncio.gather(*runs) == [{"call": 1}] * 2
    await table.once("2", "id", b"", SLOT, until=100, now=0, make=Counting())


async def test_the_same_number_with_other_signers_is_another_run() -> None:
    """Signed again, a request may name others under the number; whoever tried the first set took nothing from it."""
    table, burnt, good = Attempts(), Counting(fail=True), Counting()
    for signers in ((1, 2), (1, 3), (1, 4)):
        with pytest.raises(Refusal):
            await ask(table, burnt, slot=(0, signers))
    assert await ask(table, good, slot=(0, (2, 3))) == {"call": 1}
    assert burnt.calls == 3


async def test_a_request_has_so_many_runs_and_is_told_how_many_it_had() -> None:
    table, make, made = Attempts(), Counting(), []
    for k in range(SLOTS):
        await table.once("owner", "id", b"p", (k, (1, 2)), until=9, now=0, make=make, admit=made.append)
    await table.once("owner", "id", b"p", (0, (1, 2)), until=9, now=0, make=make, admit=made.append)
    with pytest.raises(Refusal) as refused:
        await table.once("owner", "id", b"p", (0, (1, 3)), until=9, now=0, make=make, admit=made.append)
    assert (refused.value.code, made) == ("too_many_runs", list(range(SLOTS)))


async def test_a_request_that_is_signed_again_is_remembered_for_longer() -> None:
    table, make = Attempts(), Counting()
    await ask(table, make, until=100)
    await ask(table, make, slot=(1, (1, 2)), until=150)
    assert await ask(table, make, now=120, until=150) == {"call": 1}
    await table.once("other", "id", b"", SLOT, until=300, now=151, make=make)
    assert len(table) == 1


async def test_a_caller_that_hangs_up_does_not_end_the_run() -> None:
    table, make = Attempts(), Counting()
    first = asyncio.create_task(ask(table, make))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert await ask(table, make) == {"call": 1}


class Large:
    """What a request holds while it is served."""


async def fail_with_much(table: Attempts) -> weakref.ref[Large]:
    large = Large()

    async def make() -> dict[str, int]:
        assert large
        raise BadJson("bad_value", "no")

    with contextlib.suppress(BadJson):
        await ask(table, make)  # type: ignore[arg-type]
    return weakref.ref(large)


async def test_a_failure_keeps_nothing_alive_but_its_words() -> None:
    table = Attempts()
    gone = await fail_with_much(table)
    await asyncio.sleep(0)  # this step of ours was woken by the failure, and holds it until it ends
    gc.collect()
    assert gone() is None
    for _ in range(2):
        with pytest.raises(Refusal) as refused:
            await ask(table, Counting())
        assert (refused.value.status, refused.value.code) == (400, "json_bad_value")


async def test_a_bug_of_ours_is_answered_without_its_words_the_second_time() -> None:
    table = Attempts()

    async def make() -> dict[str, int]:
        raise RuntimeError("secret")

    with pytest.raises(RuntimeError):
        await ask(table, make)  # type: ignore[arg-type]
    with pytest.raises(Refusal) as refused:
        await ask(table, make)  # type: ignore[arg-type]
    assert (refused.value.status, refused.value.code) == (503, "internal")
    assert "secret" not in str(refused.value.to_json())


async def test_a_long_entry_does_not_keep_the_short_ones_behind_it() -> None:
    table, make = Attempts(), Counting()
    await table.once("a", "long", b"", SLOT, until=1000, now=0, make=make)
    for k in range(5):
        await table.once("b", str(k), b"", SLOT, until=10, now=0, make=make)
    await table.once("c", "new", b"", SLOT, until=1000, now=11, make=make)
    assert len(table) == 2


async def test_an_entry_whose_run_is_under_way_stays() -> None:
    table, release = Attempts(), asyncio.Event()

    async def make() -> dict[str, int]:
        await release.wait()
        return {"call": 1}

    first = asyncio.create_task(ask(table, make, until=10))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    second = asyncio.create_task(ask(table, Counting(), until=50, now=20))
    await asyncio.sleep(0)
    release.set()
    assert await first == await second == {"call": 1}
    await table.once("other", "id", b"", SLOT, until=100, now=22, make=Counting())
    assert len(table) == 1


async def test_a_forgotten_session_has_its_whole_share_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENTRIES_PER_OWNER", 1)
    table, make = Attempts(), Counting()
    await ask(table, make)
    await table.once("owner", "next", b"", SLOT, until=300, now=200, make=make)
    assert len(table) == 1
    await table.once("another", "next", b"", SLOT, until=500, now=400, make=make)
    assert list(table._per_owner) == ["another"]


async def test_a_cancelled_run_is_over() -> None:
    table = Attempts()

    async def make() -> dict[str, int]:
        asyncio.current_task().cancel()  # type: ignore[union-attr]
        await asyncio.sleep(0)
        return {}

    with pytest.raises(asyncio.CancelledError):
        await ask(table, make)  # type: ignore[arg-type]
    with pytest.raises(Refusal) as refused:
        await ask(table, Counting())
    assert refused.value.code == "internal"
