"""The share store: what was acknowledged is there, and what was changed is never used."""

from __future__ import annotations

import asyncio
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_writer import share

from keyquorum.node.settings.config import KeysSection
from keyquorum.node.storage import vault
from keyquorum.node.storage.database import MOST_PER_COMMIT, StoreFailed, Writer, connect
from keyquorum.node.storage.store import ShareCorrupt, ShareExists, ShareUnknown, Store, StoreError
from keyquorum.node.storage.vault import Cost, KeySource, KeyUnavailable, WrongKey, read_key_source, write_key_file

SOURCE = KeySource("key-file", b"k" * 32)
CHEAP = Cost(memory_kib=64, passes=1, lanes=1)
WRITER = Path(__file__).with_name("store_writer.py")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store.create(tmp_path / "data", SOURCE)
    yield made
    made.close()


def tamper(folder: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(folder / "store.sqlite", isolation_level=None)
    assert connection.execute(statement, values).rowcount > 0
    connection.close()


async def filled(folder: Path, count: int = 2) -> None:
    store = Store.create(folder, SOURCE)
    await store.put_pending(b"batch", [share(number) for number in range(count)])
    await store.activate([share(number).token_id for number in range(count)])
    store.close()


# Staging


async def test_an_acknowledged_batch_is_there_after_a_restart(tmp_path: Path) -> None:
    await filled(tmp_path, 64)
    again = Store(tmp_path, SOURCE)
    assert [again.load(share(number).token_id) for number in range(64)] == [share(number) for number in range(64)]
    again.close()


async def test_a_pending_share_cannot_be_used_until_it_is_active(store: Store) -> None:
    await store.put_pending(b"batch", [share(1), share(2)])
    assert [info.state for info in store.list_shares()] == ["pending", "pending"]
    with pytest.raises(ShareUnknown):
        store.load(share(1).token_id)
    assert await store.activate([share(1).token_id, b"\xff" * 32]) == 1
    assert store.load(share(1).token_id) == share(1)
    with pytest.raises(ShareUnknown):
        store.load(share(2).token_id)
    assert await store.activate([share(1).token_id]) == 0


async def test_the_newest_active_epoch_is_used(store: Store) -> None:
    newer = share(1, epoch=2, key_share=b"\x09" * 32)
    await store.put_pending(b"old", [share(1)])
    await store.activate([newer.token_id])
    assert store.load(newer.token_id).epoch == 1
    await store.put_pending(b"new", [newer])
    assert store.load(newer.token_id).epoch == 1
    await store.activate([newer.token_id], epoch=2)
    assert store.load(newer.token_id) == newer
    assert store.load(newer.token_id, epoch=1) == share(1)


async def test_a_batch_is_stored_whole_or_not_at_all(store: Store) -> None:
    await store.put_pending(b"first", [share(5)])
    with pytest.raises(ShareExists):
        await store.put_pending(b"second", [share(4), share(5), share(6)])
    assert [info.batch_id for info in store.list_shares()] == [b"first"]


async def test_a_stored_share_is_never_replaced(store: Store) -> None:
    await store.put_pending(b"first", [share(5)])
    with pytest.raises(ShareExists):
        await store.put_pending(b"second", [share(5, key_share=b"\x07" * 32)])
    await store.activate([share(5).token_id])
    assert store.load(share(5).token_id) == share(5)


@pytest.mark.parametrize(
    "changes",
    [
        {"key_share": b"\x01" * 31}, {"token_id": b"\x01" * 20}, {"public_key": b"\x02" + b"\x01" * 32},
        {"party": 9}, {"parties": (1, 2)}, {"epoch": -1},
    ],
)  # fmt: skip
async def test_a_malformed_share_is_refused_before_anything_is_written(
    store: Store, changes: dict[str, object]
) -> None:
    with pytest.raises(ValueError):
        await store.put_pending(b"batch", [share(1), share(2, **changes)])
    assert store.list_shares() == []


async def test_listing_filters_by_state_and_batch(store: Store) -> None:
    await store.put_pending(b"a", [share(1), share(2)])
    await store.put_pending(b"b", [share(3)])
    await store.activate([share(2).token_id])
    assert [info.token_id for info in store.list_shares("pending")] == [share(1).token_id, share(3).token_id]
    assert [info.token_id for info in store.list_shares(batch_id=b"b")] == [share(3).token_id]


async def test_only_so_many_shares_stay_decrypted(tmp_path: Path) -> None:
    await filled(tmp_path, 10)
    again = Store(tmp_path, SOURCE, cached=3)
    for number in range(10):
        again.load(share(number).token_id)
    assert len(again._cache) == 3
    again.close()


# Group commit


def test_every_commit_is_flushed_to_the_disk(tmp_path: Path) -> None:
    connection = connect(tmp_path / "x.sqlite")
    settings = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert settings == ["wal", 2]  # 2 is FULL
    connection.close()


def test_what_waits_is_committed_together(tmp_path: Path) -> None:
    statements: list[str] = []

    def traced() -> sqlite3.Connection:
        connection = connect(tmp_path / "x.sqlite")
        connection.execute("CREATE TABLE t (x INTEGER PRIMARY KEY)")
        connection.set_trace_callback(statements.append)
        return connection

    writer = Writer(traced)
    futures = [writer.submit(lambda c, k=k: c.execute("INSERT INTO t VALUES (?)", (k,))) for k in range(500)]  # type: ignore[misc]
    for future in futures:
        future.result()
    writer.close()
    assert statements.count("COMMIT") < 250
    assert sqlite3.connect(tmp_path / "x.sqlite").execute("SELECT count(*) FROM t").fetchone() == (500,)
    assert MOST_PER_COMMIT < 500


def test_one_refusal_in_a_commit_does_not_undo_the_others(tmp_path: Path) -> None:
    writer = Writer(lambda: connect(tmp_path / "x.sqlite"))
    writer.submit(lambda c: c.execute("CREATE TABLE t (x INTEGER)")).result()

    def refuse(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO t VALUES (666)")
        raise ValueError("no")

    futures = [writer.submit(work) for work in (lambda c: c.execute("INSERT INTO t VALUES (1)"), refuse)]
    futures.append(writer.submit(lambda c: c.execute("INSERT INTO t VALUES (2)")))
    with pytest.raises(ValueError, match="no"):
        futures[1].result()
    assert writer.submit(lambda c: c.execute("SELECT x FROM t").fetchall()).result() == [(1,), (2,)]
    writer.close()


def test_a_closed_writer_takes_nothing_more(tmp_path: Path) -> None:
    writer = Writer(lambda: connect(tmp_path / "x.sqlite"))
    writer.close()
    with pytest.raises(StoreFailed):
        writer.submit(lambda c: None).result()


# Tampering


async def test_any_flipped_byte_of_a_record_is_noticed(tmp_path: Path) -> None:
    await filled(tmp_path, 1)
    store = Store(tmp_path, SOURCE)
    other = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    whole = other.execute("SELECT record FROM key_shares").fetchone()[0]
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        other.execute("UPDATE key_shares SET record = ?", (bytes(changed),))
        store._quarantine.clear()
        with pytest.raises(ShareCorrupt):
            store.load(share(0).token_id)
    other.close()
    store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE key_shares SET record = (SELECT record FROM key_shares WHERE hex(token_id) LIKE '%01')",
        "UPDATE key_shares SET epoch = 2",
        "UPDATE key_shares SET epoch = -1",
        "UPDATE key_shares SET party = 2",
        "UPDATE key_shares SET party = -2",
        "UPDATE key_shares SET public_key = zeroblob(65)",
        "UPDATE key_shares SET record = zeroblob(10)",
        "UPDATE key_shares SET record = zeroblob(0)",
        "UPDATE key_shares SET record = substr(record, 1, length(record) - 1)",
        "UPDATE key_shares SET record = CAST(record || x'00' AS BLOB)",
    ],
)
async def test_a_record_moved_or_relabelled_is_noticed(tmp_path: Path, statement: str) -> None:
    await filled(tmp_path)
    tamper(tmp_path, statement)
    store = Store(tmp_path, SOURCE)
    with pytest.raises(ShareCorrupt):
        store.load(share(0).token_id)
    store.close()


async def test_a_record_of_another_node_is_noticed(tmp_path: Path) -> None:
    await filled(tmp_path / "mine")
    await filled(tmp_path / "theirs")
    record = sqlite3.connect(tmp_path / "theirs/store.sqlite").execute("SELECT record FROM key_shares").fetchone()[0]
    tamper(tmp_path / "mine", "UPDATE key_shares SET record = ?", record)
    store = Store(tmp_path / "mine", SOURCE)
    with pytest.raises(ShareCorrupt):
        store.load(share(0).token_id)
    store.close()


async def test_a_corrupt_share_stays_in_quarantine_until_it_is_whole_and_released(tmp_path: Path) -> None:
    await filled(tmp_path)
    whole = sqlite3.connect(tmp_path / "store.sqlite").execute("SELECT record FROM key_shares").fetchone()[0]
    tamper(tmp_path, "UPDATE key_shares SET record = zeroblob(200) WHERE token_id = ?", share(0).token_id)
    store = Store(tmp_path, SOURCE)
    assert store.check() == [(share(0).token_id, 1)]
    assert store.load(share(1).token_id) == share(1)
    with pytest.raises(ShareCorrupt):
        await store.release(share(0).token_id, 1)
    store.close()

    tamper(tmp_path, "UPDATE key_shares SET record = ? WHERE token_id = ?", whole, share(0).token_id)
    store = Store(tmp_path, SOURCE)
    assert store.quarantined == {(share(0).token_id, 1)}
    with pytest.raises(ShareCorrupt, match="quarantine"):
        store.load(share(0).token_id)
    await store.release(share(0).token_id, 1)
    assert store.load(share(0).token_id) == share(0)
    with pytest.raises(ShareUnknown):
        await store.release(b"\xff" * 32, 1)
    store.close()
    again = Store(tmp_path, SOURCE)
    assert again.quarantined == frozenset()
    again.close()


async def test_random_damage_to_the_file_never_gives_a_wrong_share(tmp_path: Path) -> None:
    await filled(tmp_path / "whole", 20)
    rng = random.Random(7)
    size = (tmp_path / "whole/store.sqlite").stat().st_size
    outcomes = set()
    for attempt in range(60):
        folder = tmp_path / f"damaged-{attempt}"
        shutil.copytree(tmp_path / "whole", folder)
        content = bytearray((folder / "store.sqlite").read_bytes())
        for _ in range(rng.choice((1, 1, 20))):
            content[rng.randrange(size)] ^= 1 << rng.randrange(8)
        (folder / "store.sqlite").write_bytes(content)
        try:
            store = Store(folder, SOURCE)
        except (StoreError, WrongKey) as error:
            outcomes.add(type(error))
            continue
        for number in range(20):
            try:
                assert store.load(share(number).token_id) == share(number)
                outcomes.add(None)
            except (ShareCorrupt, ShareUnknown, StoreFailed) as error:
                outcomes.add(type(error))
        store.close()
        shutil.rmtree(folder)
    assert {None, ShareCorrupt} <= outcomes


# A disk that fails


async def test_a_full_database_stops_the_store(store: Store) -> None:
    await store.put_pending(b"first", [share(1)])
    await store.activate([share(1).token_id])
    assert store.load(share(1).token_id) == share(1)
    store._writer.submit(lambda c: c.execute("PRAGMA max_page_count = 1").fetchall()).result()
    with pytest.raises(StoreFailed):
        await store.put_pending(b"second", [share(number) for number in range(100, 400)])
    assert store.failure is not None
    with pytest.raises(StoreFailed):
        store.load(share(1).token_id)
    with pytest.raises(StoreFailed):
        await store.mark("anything")


def test_a_write_error_of_the_disk_stops_the_store_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    store = Store.create(tmp_path, SOURCE)
    store.close()
    code = (
        "import asyncio, resource, sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path; from store_writer import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "asyncio.run(main(Path(sys.argv[1]), 0))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(WRITER.parent)], capture_output=True, text=True, timeout=60
    )
    acknowledged = [int(line) for line in done.stdout.split()]
    assert "StoreFailed" in done.stderr and acknowledged
    again = Store(tmp_path, SOURCE)
    for batch in acknowledged:
        assert again.load(share(4 * batch).token_id) == share(4 * batch)
    again.close()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 200_000


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    Store.create(tmp_path, SOURCE).close()
    acknowledged: list[int] = []
    for run in range(5):
        start = 10_000 * run
        child = subprocess.Popen(
            [sys.executable, str(WRITER), str(tmp_path), str(start)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(5 + 7 * run):
            acknowledged.append(int(child.stdout.readline()))
        child.kill()  # in the middle of whatever it does by now
        rest = child.stdout.read().split("\n")
        acknowledged += [int(line) for line in rest[:-1]]
        child.wait()
        store = Store(tmp_path, SOURCE)
        for batch in acknowledged:
            assert store.load(share(4 * batch).token_id) == share(4 * batch)
        found = [info.batch_id for info in store.list_shares()]
        assert all(found.count(batch_id) == 4 for batch_id in set(found))
        assert store.check() == []
        store.close()


# Keys and files


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (KeySource("argon2id", b"correct horse"), KeySource("argon2id", b"correct horsf")),
        (KeySource("key-file", b"k" * 32), KeySource("key-file", b"l" * 32)),
        (KeySource("key-file", b"k" * 32), KeySource("argon2id", b"k" * 32)),
    ],
)
def test_another_passphrase_or_key_file_is_refused_and_says_so(
    tmp_path: Path, right: KeySource, wrong: KeySource
) -> None:
    Store.create(tmp_path, right, CHEAP).close()
    with pytest.raises(WrongKey, match="open") as caught:
        Store(tmp_path, wrong)
    assert "horse" not in str(caught.value)
    Store(tmp_path, right).close()


def test_the_passphrase_costs_what_the_defaults_say(tmp_path: Path) -> None:
    assert Cost() == Cost(memory_kib=64 * 1024, passes=3, lanes=4)
    source = KeySource("argon2id", b"correct horse")
    Store.create(tmp_path, source).close()
    Store(tmp_path, source).close()


async def test_a_new_passphrase_opens_the_same_shares(tmp_path: Path) -> None:
    await filled(tmp_path)
    new = KeySource("argon2id", b"a new passphrase")
    store = Store(tmp_path, SOURCE)
    with pytest.raises(WrongKey):
        store.rewrap(new, SOURCE, CHEAP)
    store.rewrap(SOURCE, new, CHEAP)
    store.close()
    with pytest.raises(WrongKey):
        Store(tmp_path, SOURCE)
    again = Store(tmp_path, new)
    assert again.load(share(0).token_id) == share(0)
    again.close()


def test_a_tampered_key_record_is_refused_without_spending_memory_on_it(tmp_path: Path) -> None:
    import msgspec

    from keyquorum.node.storage.vault import Sealed, Vault

    source = KeySource("argon2id", b"correct horse")
    _, sealed = Vault.create(source, CHEAP)
    box = msgspec.msgpack.decode(sealed, type=Sealed)
    for changes in (
        {"memory_kib": 1 << 40}, {"passes": 10**9}, {"lanes": 10**6}, {"salt": b""}, {"wrapped": b""},
        {"nonce": b""}, {"version": 2}, {"method": "none"},
    ):  # fmt: skip
        with pytest.raises(WrongKey):
            Vault.open(msgspec.msgpack.encode(msgspec.structs.replace(box, **changes)), source)
    for content in (b"", b"\x00", sealed[:-1], sealed + b"\x00"):
        with pytest.raises(WrongKey):
            Vault.open(content, source)


def test_the_files_are_for_their_owner_only(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "data"
    assert folder.stat().st_mode & 0o077 == 0
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_no_secret_stands_in_the_files_or_in_a_repr(tmp_path: Path) -> None:
    secret = bytes(range(100, 132))
    store = Store.create(tmp_path, SOURCE)
    asyncio.run(store.put_pending(b"batch", [share(1, key_share=secret)]))
    store.put_secrets({"a": secret})
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        assert secret not in content and secret.hex().encode() not in content and SOURCE.secret not in content
    assert str(secret)[2:20] not in repr(share(1, key_share=secret))
    assert "kkk" not in repr(SOURCE)
    store.close()


def test_a_second_process_or_store_on_the_same_folder_is_refused(tmp_path: Path, store: Store) -> None:
    with pytest.raises(StoreError, match="another process"):
        Store(tmp_path / "data", SOURCE)


def test_a_folder_without_a_store_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="node init"):
        Store(tmp_path, SOURCE)
    (tmp_path / "store.sqlite").touch()  # what a crash at the beginning of `init` leaves
    with pytest.raises(StoreError, match="node init"):
        Store(tmp_path, SOURCE)
    Store.create(tmp_path, SOURCE).close()


def test_a_store_is_not_made_over_another(tmp_path: Path, store: Store) -> None:
    store.close()
    with pytest.raises(StoreError, match="already"):
        Store.create(tmp_path / "data", SOURCE)
    Store(tmp_path / "data", SOURCE).close()


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    Store.create(tmp_path, SOURCE).close()
    tamper(tmp_path, "UPDATE meta SET value = x'32' WHERE name = 'schema'")
    with pytest.raises(StoreError, match="version"):
        Store(tmp_path, SOURCE)


# Markers, info, secrets


async def test_a_marker_is_made_once(store: Store) -> None:
    results = await asyncio.gather(*(store.mark("dkg/7", bytes([k])) for k in range(20)))
    assert results.count(True) == 1
    winner = bytes([results.index(True)])
    assert store.markers("dkg/") == {"dkg/7": winner}
    assert store.markers("other/") == {}


async def test_info_is_replaced(store: Store) -> None:
    await store.put_info("network", b"a")
    await store.put_info("network", b"b")
    assert store.info() == {"network": b"b"}


def test_secrets_are_written_once_all_or_none(store: Store) -> None:
    store.put_secrets({"a": b"1"})
    with pytest.raises(ValueError, match="already"):
        store.put_secrets({"b": b"2", "a": b"3"})
    assert (store.secret("a"), store.secret("b")) == (b"1", None)


def test_a_secret_that_was_moved_is_noticed(tmp_path: Path, store: Store) -> None:
    store.put_secrets({"a": b"1", "b": b"2"})
    tamper(tmp_path / "data", "UPDATE secrets SET record = (SELECT record FROM secrets WHERE name = 'b')")
    with pytest.raises(ShareCorrupt):
        store.secret("a")


# Where the key comes from


def test_a_key_file_is_made_private_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "store.key"
    write_key_file(path)
    found = read_key_source(KeysSection(key_file=path))
    assert (found.method, len(found.secret)) == ("key-file", 32)
    with pytest.raises(FileExistsError):
        write_key_file(path)


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.key"
    write_key_file(path)
    path.chmod(0o640)
    with pytest.raises(KeyUnavailable, match="chmod 600"):
        read_key_source(KeysSection(key_file=path))


def test_a_passphrase_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "passphrase"
    path.touch(mode=0o600)
    path.write_text("correct horse\n")
    assert read_key_source(KeysSection(passphrase_file=path)).secret == b"correct horse"
    keys = KeysSection(passphrase_env="KQ_TEST")
    assert read_key_source(keys, {"KQ_TEST": "correct horse"}) == KeySource("argon2id", b"correct horse")


@pytest.mark.parametrize("content", [b"", b"zz" * 32, b"aa" * 31, b"\xff" * 64])
def test_a_bad_key_file_or_short_passphrase_is_refused_without_quoting_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(KeyUnavailable) as caught:
        read_key_source(KeysSection(key_file=path))
    assert "zzzz" not in str(caught.value)
    for keys in (KeysSection(key_file=tmp_path / "none"), KeysSection(passphrase_env="KQ_UNSET"), KeysSection()):
        with pytest.raises(KeyUnavailable):
            read_key_source(keys, {"KQ_UNSET": "x" * (vault.SHORTEST_PASSPHRASE - 1)})
