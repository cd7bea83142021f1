"""Key shares between the protocols and the store: what goes in comes out, and only what is active."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dealer import deal_key
from keyquorum.evm.keys import token_id
from keyquorum.node.storage import keys as module
from keyquorum.node.storage.database import StoreFailed
from keyquorum.node.storage.keys import Keys, id_of
from keyquorum.node.storage.store import ShareExists, ShareUnknown, Store
from keyquorum.node.storage.vault import KeySource

SHARES = [deal_key(3, 2, seed)[1] for seed in range(3)]
IDS = [id_of(share.public_key.to_bytes()) for share in SHARES]
BATCH = b"b" * 32
SOURCE = KeySource("key-file", b"k" * 32)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store.create(tmp_path / "data", SOURCE)
    yield made
    made.close()


@pytest.fixture
def keys(store: Store) -> Keys:
    return Keys(store)


def test_a_key_is_named_by_its_token_id() -> None:
    public_key = SHARES[0].public_key.to_bytes()
    assert int.from_bytes(id_of(public_key), "big") == token_id(public_key)


async def test_a_share_comes_back_as_it_went_in(keys: Keys) -> None:
    await keys.put_pending(BATCH, 1, SHARES)
    assert await keys.activate(IDS) == 3
    assert [keys.load(key_id) for key_id in IDS] == SHARES
    assert keys.load(IDS[0]) is keys.load(IDS[0])
    assert keys.count() == 3


async def test_a_pending_share_is_not_given_out(keys: Keys) -> None:
    await keys.put_pending(BATCH, 1, SHARES)
    with pytest.raises(ShareUnknown):
        keys.load(IDS[0])
    assert keys.count() == 0


async def test_the_state_of_a_key_is_told(keys: Keys) -> None:
    assert keys.state(IDS[0]) == "unknown"
    await keys.put_pending(BATCH, 1, SHARES[:2])
    assert [keys.state(key_id) for key_id in IDS] == ["pending", "pending", "unknown"]
    await keys.activate(IDS[:1])
    assert [keys.state(key_id) for key_id in IDS] == ["active", "pending", "unknown"]


async def test_pending_batches_come_newest_first_with_their_keys_in_order(keys: Keys) -> None:
    await keys.put_pending(b"2" * 32, 1, SHARES[1:])
    await keys.put_pending(b"1" * 32, 1, SHARES[:1])
    public = [share.public_key.to_bytes() for share in SHARES]
    assert list(keys.pending_batches(9).items()) == [(b"1" * 32, public[:1]), (b"2" * 32, public[1:])]
    assert list(keys.pending_batches(1)) == [b"1" * 32]
    assert list(keys.pending_batches(9, skip=1)) == [b"2" * 32]
    assert keys.pending_count() == 2
    await keys.activate(IDS[1:])
    assert keys.pending_batches(9) == {b"1" * 32: public[:1]}


async def test_pending_batches_are_counted_by_their_age(store: Store, tmp_path: Path) -> None:
    await Keys(store).put_pending(b"1" * 32, 1, SHARES[:2])
    await Keys(store).put_pending(b"2" * 32, 1, SHARES[2:])
    store.close()
    with sqlite3.connect(tmp_path / "data" / "store.sqlite") as connection:
        connection.execute("UPDATE key_shares SET created = 1000 WHERE batch_id = ?", (b"1" * 32,))
    connection.close()
    again = Store(tmp_path / "data", SOURCE)
    keys = Keys(again)
    assert [keys.pending_since(moment, 9) for moment in (1000, 1001, 2**40)] == [2, 1, 0]
    assert keys.pending_since(1000, 1) == 1
    again.close()


async def test_what_was_confirmed_and_what_for_survives_a_restart(keys: Keys, store: Store) -> None:
    await keys.put_pending(BATCH, 1, SHARES)
    assert keys.waiting("pool", 9) == {}
    assert keys.waiting_batch(BATCH, "pool") == []
    await keys.confirm(BATCH, "pool")
    await keys.confirm(BATCH, "network")
    public = [share.public_key.to_bytes() for share in SHARES]
    again = Keys(store)
    assert again.purpose(BATCH) == "pool"
    assert again.waiting("pool", 9) == {BATCH: public}
    assert again.waiting_batch(BATCH, "pool") == public
    assert again.waiting("network", 9) == {}
    assert again.waiting_batch(BATCH, "network") == []
    await again.activate(IDS)
    assert again.waiting("pool", 9) == {}
    assert again.waiting_batch(BATCH, "pool") == []


async def test_a_batch_of_another_epoch_does_not_wait_in_this_one(keys: Keys) -> None:
    """Its shares belong to parties of another numbering: a network key of them must not be voted for."""
    for epoch, share in ((1, SHARES[0]), (2, SHARES[1])):
        await keys.put_pending(bytes([epoch]) * 32, epoch, [share])
        await keys.confirm(bytes([epoch]) * 32, "network")
    assert list(keys.waiting("network", 9)) == [b"\1" * 32, b"\2" * 32]
    assert keys.waiting("network", 9, 2) == {b"\2" * 32: [SHARES[1].public_key.to_bytes()]}
    assert keys.waiting("network", 9, 3) == {}


async def test_confirmed_batches_come_oldest_first(keys: Keys) -> None:
    for number, share in enumerate(SHARES):
        batch_id = bytes([9 - number]) * 32
        await keys.put_pending(batch_id, 1, [share])
        await keys.confirm(batch_id, "pool")
    assert [batch_id[0] for batch_id in keys.waiting("pool", 9)] == [9, 8, 7]
    assert [batch_id[0] for batch_id in keys.waiting("pool", 2)] == [8, 7]


async def test_a_share_is_never_replaced(keys: Keys) -> None:
    await keys.put_pending(BATCH, 1, SHARES)
    with pytest.raises(ShareExists):
        await keys.put_pending(b"c" * 32, 1, SHARES[:1])


async def test_a_failed_disk_stops_the_use_of_a_cached_key(keys: Keys, store: Store) -> None:
    await keys.put_pending(BATCH, 1, SHARES)
    await keys.activate(IDS)
    keys.load(IDS[0])
    store._writer.fail(sqlite3.OperationalError("disk I/O error"))
    with pytest.raises(StoreFailed):
        keys.load(IDS[0])


async def test_the_share_of_a_newer_epoch_takes_the_place_of_a_cached_one(keys: Keys) -> None:
    newer = replace(SHARES[0], key_share=SHARES[0].key_share + 1)
    await keys.put_pending(BATCH, 1, SHARES[:1])
    await keys.activate(IDS[:1])
    assert keys.load(IDS[0]) == SHARES[0]
    await keys.put_pending(b"c" * 32, 2, [newer])
    await keys.activate(IDS[:1])
    assert keys.load(IDS[0]) == newer


async def test_only_so_many_keys_stay_decoded(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHED", 2)
    await keys.put_pending(BATCH, 1, SHARES)
    await keys.activate(IDS)
    assert [keys.load(key_id) for key_id in IDS] == SHARES
    assert len(keys._cache) == 2
