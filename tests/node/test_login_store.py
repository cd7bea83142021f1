"""What a node remembers of logins: bindings for as long as tokens live, sessions until they expire."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from keyquorum.auth.commitment import MEMORY_SECONDS
from keyquorum.node.storage import login_store
from keyquorum.node.storage.database import StoreFailed
from keyquorum.node.storage.login_store import _SWEEP, FILE, KEEP_SECONDS, Full, KnownSession, LoginStore, OtherBinding

NOW = 1_800_000_000
TOKEN, BINDING, OTHER = b"\x01" * 32, b"\x02" * 32, b"\x03" * 32
ME = (1, b"\xaa" * 20)


def known(name: str, *methods: tuple[int, bytes], expires: int = NOW + 100, issued_at: int = NOW) -> KnownSession:
    return KnownSession(name, "thumbprint", methods or (ME,), ("*",), (1, 2), 10, issued_at, expires)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LoginStore]:
    made = LoginStore(tmp_path, commitments=4, sessions=4)
    yield made
    made.close()


async def settle(store: LoginStore) -> None:
    """Wait until what was only submitted is written."""
    await asyncio.wrap_future(store._writer.submit(lambda _: None))


async def test_the_first_binding_of_a_token_is_the_only_one(store: LoginStore) -> None:
    await store.commit(TOKEN, BINDING, NOW)
    await store.commit(TOKEN, BINDING, NOW + 5)
    with pytest.raises(OtherBinding):
        await store.commit(TOKEN, OTHER, NOW + 5)
    await store.commit(OTHER, BINDING, NOW)


async def test_of_two_bindings_at_the_same_time_one_wins(store: LoginStore) -> None:
    both = await asyncio.gather(
        *(store.commit(TOKEN, binding, NOW) for binding in (BINDING, OTHER)), return_exceptions=True
    )
    assert [type(each) for each in both] == [type(None), OtherBinding]


async def test_a_binding_survives_the_process(tmp_path: Path) -> None:
    store = LoginStore(tmp_path)
    await store.commit(TOKEN, BINDING, NOW)
    store.close()
    store = LoginStore(tmp_path)
    with pytest.raises(OtherBinding):
        await store.commit(TOKEN, OTHER, NOW)
    store.close()


async def test_a_binding_that_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    script = (
        "import asyncio, pathlib, sys, time\n"
        "from keyquorum.node.storage.login_store import LoginStore\n"
        f"store = LoginStore(pathlib.Path({str(tmp_path)!r}))\n"
        f"asyncio.run(store.commit({TOKEN!r}, {BINDING!r}, {NOW}))\n"
        "print('done', flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert process.stdout is not None
    assert process.stdout.readline() == b"done\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    store = LoginStore(tmp_path)
    with pytest.raises(OtherBinding):
        await store.commit(TOKEN, OTHER, NOW)
    store.close()


async def test_bindings_are_kept_longer_than_tokens_live(store: LoginStore) -> None:
    assert KEEP_SECONDS > MEMORY_SECONDS
    await store.commit(TOKEN, BINDING, NOW)
    await store.commit(b"\x05" * 32, BINDING, NOW + KEEP_SECONDS)
    with pytest.raises(OtherBinding):
        await store.commit(TOKEN, OTHER, NOW + KEEP_SECONDS)
    await store.commit(b"\x06" * 32, BINDING, NOW + KEEP_SECONDS + 1)
    await store.commit(TOKEN, OTHER, NOW + KEEP_SECONDS + 1)


async def test_bindings_are_bounded_and_old_ones_make_room(store: LoginStore) -> None:
    for k in range(4):
        await store.commit(bytes([k]) * 32, BINDING, NOW + k)
    with pytest.raises(Full):
        await store.commit(b"\x77" * 32, BINDING, NOW)
    await store.commit(bytes([2]) * 32, BINDING, NOW)
    await store.commit(b"\x77" * 32, BINDING, NOW + KEEP_SECONDS + 1)


async def test_the_count_is_right_after_a_restart(tmp_path: Path) -> None:
    store = LoginStore(tmp_path)
    for k in range(4):
        await store.commit(bytes([k]) * 32, BINDING, NOW)
    store.close()
    store = LoginStore(tmp_path, commitments=4)
    with pytest.raises(Full):
        await store.commit(b"\x77" * 32, BINDING, NOW)
    store.close()


async def test_the_file_is_private_durable_and_holds_no_token(tmp_path: Path, store: LoginStore) -> None:
    await store.commit(TOKEN, BINDING, NOW)
    for path in tmp_path.iterdir():  # noqa: ASYNC240
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    settings = [
        await asyncio.wrap_future(store._writer.submit(lambda c, name=name: c.execute(f"PRAGMA {name}").fetchone()[0]))
        for name in ("synchronous", "journal_mode")
    ]
    assert settings == [2, "wal"]


async def test_sessions_are_found_by_their_identities_newest_first(store: LoginStore) -> None:
    other = (3, b"passkey")
    store.remember(known("a", issued_at=NOW - 2), NOW)
    store.remember(known("b", ME, other, issued_at=NOW - 1), NOW)
    store.remember(known("c", other), NOW)
    await settle(store)
    assert [each.id for each in await store.sessions_of([ME], NOW)] == ["b", "a"]
    assert [each.id for each in await store.sessions_of([ME, other], NOW)] == ["c", "b", "a"]
    assert await store.sessions_of([(1, b"\xbb" * 20)], NOW) == []
    assert await store.session("b") == known("b", ME, other, issued_at=NOW - 1)
    assert await store.session("z") is None


async def test_a_step_up_changes_nothing_of_whose_a_session_is(store: LoginStore) -> None:
    """The certificate before it is still good: a thief must not make it vanish from its owner's list, nor list it."""
    store.remember(known("a", ME), NOW)
    narrower = replace(known("a", ME, (3, b"x"), expires=NOW + 2), scopes=(), uses=1)
    store.remember(narrower, NOW)
    await settle(store)
    for number in range(50):
        store.remember(known("a", ME, (3, bytes([number]))), NOW)
    await settle(store)
    assert await store.sessions_of([(3, b"x")], NOW + 10) == []
    assert await store.sessions_of([ME], NOW + 10) == [known("a", ME)]
    assert await store.session("a") == known("a", ME)
    assert store._counts == (0, 1)
    rows = store._writer.submit(lambda connection: connection.execute("SELECT count(*) FROM identities").fetchone())
    assert rows.result() == (1,)


async def test_expired_sessions_are_not_listed_and_go_when_others_come(store: LoginStore) -> None:
    store.remember(known("a", expires=NOW + 10), NOW)
    await settle(store)
    assert await store.sessions_of([ME], NOW + 10) == []
    store.remember(known("b", expires=NOW + 50), NOW + 10)
    await settle(store)
    assert await store.session("a") is None
    assert store._counts == (0, 1)


async def test_sessions_are_bounded_and_those_that_end_first_go_first(store: LoginStore) -> None:
    for k in range(7):
        store.remember(known(f"s{k}", expires=NOW + 100 - k), NOW)
    await settle(store)
    assert {each.id for each in await store.sessions_of([ME], NOW)} == {"s0", "s1", "s2", "s6"}


def them(k: int) -> tuple[int, bytes]:
    return (1, k.to_bytes(20, "big"))


async def listed(store: LoginStore, who: tuple[int, bytes]) -> set[str]:
    return {each.id for each in await store.sessions_of([who], NOW)}


async def test_whoever_has_many_sessions_pushes_out_his_own_and_nobody_elses(store: LoginStore) -> None:
    store.remember(known("mine", expires=NOW + 10), NOW)
    for k in range(50):
        store.remember(known(f"s{k}", them(1), expires=NOW + 100 + k), NOW)
    assert await listed(store, ME) == {"mine"}
    assert await listed(store, them(1)) == {"s47", "s48", "s49"}
    assert store._counts == (0, 4)


async def test_a_newcomer_takes_the_place_of_who_has_most(store: LoginStore) -> None:
    for k in range(4):
        store.remember(known(f"s{k}", them(1), expires=NOW + 100 + k), NOW)
    store.remember(known("mine", expires=NOW + 10), NOW)
    assert await listed(store, ME) == {"mine"}
    assert await listed(store, them(1)) == {"s1", "s2", "s3"}
    for k in range(2, 5):
        store.remember(known(f"t{k}", them(k), expires=NOW + 50), NOW)
    store.remember(known("u", them(9), expires=NOW + 60), NOW)  # now all have one: who ends first goes first
    assert [await listed(store, them(1)), await listed(store, ME)] == [{"s3"}, set()]
    assert store._counts == (0, 4)


async def test_one_identity_has_at_most_so_many(store: LoginStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_store, "SESSIONS_EACH", 2)
    for k in range(4):
        store.remember(known(f"s{k}", expires=NOW + 100 + k), NOW)
    assert await listed(store, ME) == {"s2", "s3"}
    assert await store.session("s0") is None


async def test_the_counts_of_holders_are_those_of_their_sessions(store: LoginStore) -> None:
    for k in range(40):
        store.remember(known(f"s{k}", them(k % 3), them(k % 2 + 5), expires=NOW + 20 + k % 7), NOW + k)
    await settle(store)
    kept = "SELECT type, identity, count(*) FROM holdings JOIN sessions ON session = id GROUP BY type, identity"
    work = store._writer.submit(
        lambda c: (c.execute("SELECT * FROM holders").fetchall(), c.execute(kept).fetchall(), store._counts)
    )
    holders, holdings, counts = work.result()
    assert holders == holdings
    assert sum(row[2] for row in holders) == counts[1]


async def test_a_file_of_an_earlier_version_gets_its_holders(tmp_path: Path) -> None:
    store = LoginStore(tmp_path, sessions=4)
    for k in range(3):
        store.remember(known(f"s{k}", them(1), them(2), expires=NOW + 100 + k), NOW)
    for table in ("holders", "holdings"):
        store._writer.submit(lambda c, table=table: c.execute(f"DROP TABLE {table}")).result()
    store.close()
    again = LoginStore(tmp_path, sessions=4)
    for name in ("a", "b", "c"):
        again.remember(known(name, them(ord(name))), NOW)
    assert await listed(again, them(1)) == {"s2"}
    again.close()


async def test_no_statement_of_a_login_looks_at_all_sessions(store: LoginStore) -> None:
    said: list[str] = []
    store._writer.submit(lambda c: c.set_trace_callback(said.append)).result()
    for k in range(12):
        store.remember(known(f"s{k}", them(k % 5 // 2), expires=NOW + 5 + k), NOW + k)
    await settle(store)
    store._writer.submit(lambda c: c.set_trace_callback(None)).result()
    queries = {text for text in said if text.startswith(("SELECT", "DELETE", "UPDATE", "INSERT"))}
    assert any("FROM holders ORDER BY" in text for text in queries)
    for text in queries:
        plan = store._writer.submit(lambda c, text=text: c.execute(f"EXPLAIN QUERY PLAN {text}").fetchall()).result()
        for step in (row[3] for row in plan):
            bounded = "LIMIT" in text and "INDEX" in step
            assert step.startswith("SEARCH") or (step.startswith("SCAN") and bounded), (text, step)


async def test_a_listing_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_store, "LISTED", 3)
    store = LoginStore(tmp_path)
    for k in range(9):
        store.remember(known(f"s{k}", ME, (2, b"x")), NOW)
    await settle(store)
    assert len(await store.sessions_of([ME, (2, b"x")], NOW)) == 3
    store.close()


async def test_after_an_error_of_the_disk_nothing_is_acknowledged(store: LoginStore) -> None:
    def broken(_: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(StoreFailed):
        await asyncio.wrap_future(store._writer.submit(broken))
    with pytest.raises(StoreFailed):
        await store.commit(TOKEN, BINDING, NOW)
    with pytest.raises(StoreFailed):
        await store.sessions_of([ME], NOW)
    store.remember(known("a"), NOW)


def test_a_file_that_is_no_database_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(os.urandom(8192))
    with pytest.raises(sqlite3.DatabaseError):
        LoginStore(tmp_path)


async def test_one_login_forgets_only_so_many_that_are_over(tmp_path: Path) -> None:
    """Whoever comes first after a long while must not wait for all that was forgotten in it."""
    store = LoginStore(tmp_path)
    old = [number.to_bytes(32, "big") for number in range(3 * _SWEEP)]
    await asyncio.gather(*(store.commit(token, BINDING, NOW) for token in old))
    for number in range(2 * _SWEEP):
        store.remember(known(f"old {number}", (1, number.to_bytes(20, "big"))), NOW)
    await settle(store)
    await store.commit(b"\x77" * 32, BINDING, NOW + KEEP_SECONDS + 1)
    store.remember(known("new", expires=NOW + 1000), NOW + 500)
    await settle(store)
    assert store._counts == (2 * _SWEEP + 1, _SWEEP + 1)
    store.close()
