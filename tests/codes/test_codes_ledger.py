"""The counters: sliding, all or none, durable, bounded."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyquorum.codes.ledger import DAY, HOUR, Ledger, Quota

ADA, EVE = b"a" * 16, b"e" * 16


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "counters.sqlite")
    yield made
    made.close()


async def test_a_quota_slides(ledger: Ledger) -> None:
    quota = [Quota("sent", ADA, 3, 100)]
    assert [(await ledger.take(quota, now)).refused for now in (0, 50, 90, 99)] == [None, None, None, "sent"]
    assert (await ledger.take(quota, 100)).refused is None
    assert (await ledger.take(quota, 149)).refused == "sent"
    assert (await ledger.take(quota, 150)).refused is None


async def test_the_one_that_uses_a_quota_up_is_told(ledger: Ledger) -> None:
    assert [(await ledger.take([Quota("x", ADA, 2)], 0)).last for _ in range(2)] == [False, True]


async def test_quotas_are_taken_all_or_none(ledger: Ledger) -> None:
    await ledger.take([Quota("range", EVE, 1)], 0)
    both = [Quota("sent", ADA, 5), Quota("range", EVE, 1)]
    assert (await ledger.take(both, 0)).refused == "range"
    assert await ledger.size() == 1


async def test_two_spans_of_one_kind_count_an_event_once(ledger: Ledger) -> None:
    quotas = [Quota("sent", ADA, 2, 100), Quota("sent", ADA, 3)]
    assert [(await ledger.take(quotas, now)).refused for now in (0, 0, 0, 200, 400)] == [
        None,
        None,
        "sent",
        None,
        "sent",
    ]


async def test_looking_counts_nothing(ledger: Ledger) -> None:
    look = [Quota("failure", ADA, 1, only_look=True)]
    for _ in range(3):
        outcome = await ledger.take(look, 0)
        assert outcome.refused is None and outcome.rows == () and not outcome.last
    await ledger.take([Quota("failure", ADA, 1)], 0)
    assert (await ledger.take(look, 0)).refused == "failure"


async def test_kinds_and_tags_are_apart(ledger: Ledger) -> None:
    for kind, tag in (("sent", ADA), ("sent", EVE), ("failure", ADA)):
        assert (await ledger.take([Quota(kind, tag, 1)], 0)).refused is None
    assert (await ledger.take([Quota("sent", ADA, 1)], 0)).refused == "sent"


async def test_what_is_given_back_did_not_happen(ledger: Ledger) -> None:
    quota = [Quota("failure", ADA, 1)]
    outcome = await ledger.take(quota, 0)
    await ledger.give_back(outcome.rows)
    assert (await ledger.take(quota, 0)).refused is None
    assert (await ledger.take(quota, 0)).refused == "failure"


async def test_many_at_once_never_exceed_a_quota(ledger: Ledger) -> None:
    found = await asyncio.gather(*(ledger.take([Quota("failure", ADA, 7)], 0) for _ in range(50)))
    assert sum(outcome.refused is None for outcome in found) == 7


async def test_counters_survive_a_restart_and_a_crash(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "c.sqlite")
    await first.take([Quota("failure", ADA, 1)], 0)
    second = Ledger(tmp_path / "c.sqlite")  # while the first was never closed
    assert (await second.take([Quota("failure", ADA, 1)], 0)).refused == "failure"
    first.close()
    second.close()
    assert (tmp_path / "c.sqlite").stat().st_mode & 0o777 == 0o600


async def test_a_clock_that_goes_back_opens_nothing(ledger: Ledger) -> None:
    await ledger.take([Quota("failure", ADA, 1)], 10 * DAY)
    assert (await ledger.take([Quota("failure", ADA, 1)], 0)).refused == "failure"


async def test_old_rows_go_and_there_are_never_too_many(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyquorum.codes.ledger.MAX_ROWS", 20)
    found = [(await ledger.take([Quota("client", b"%d" % number, 1)], 0)).refused for number in range(40)]
    assert set(found[:20]) == {None} and set(found[30:]) == {"rows"}
    assert (await ledger.take([Quota("client", ADA, 1)], DAY)).refused is None
    assert await ledger.size() == 1


async def test_a_database_that_fails_grants_nothing(ledger: Ledger) -> None:
    await ledger._run(ledger._database.close)
    with pytest.raises(sqlite3.Error):
        await ledger.take([Quota("failure", ADA, 1)], 0)


async def test_no_question_looks_at_every_row(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "counters")
    asked: set[str] = set()
    await ledger._run(lambda: ledger._database.set_trace_callback(asked.add))
    rows = (await ledger.take([Quota("hour", b"t", 5, HOUR), Quota("day", b"t", 9)], 1000)).rows
    await ledger.take([Quota("day", b"t", 1, only_look=True)], 1001)
    await ledger.give_back(rows)
    await ledger.check()
    ledger.close()
    database = sqlite3.connect(tmp_path / "counters")
    statements = [text for text in asked if text.split()[0] in ("SELECT", "INSERT", "DELETE")]
    assert len(statements) >= 5
    for statement in statements:
        plan = [row[3] for row in database.execute("EXPLAIN QUERY PLAN " + statement)]
        assert not [step for step in plan if step.startswith("SCAN") and step != "SCAN CONSTANT ROW"], (statement, plan)
    database.close()
