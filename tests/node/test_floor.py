"""The newest block seen is remembered across restarts, and costs a write now and then that nobody waits for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyquorum.node.chain.chain_view import Seen
from keyquorum.node.chain.floor import PREFIX, WRITE_SECONDS, Floor, forget
from keyquorum.node.storage.database import StoreFailed
from keyquorum.node.storage.store import Store
from keyquorum.node.storage.vault import KeySource

SOURCE = KeySource("key-file", b"k" * 32)
ROUTER = "0x" + "Ab" * 20
AT = 1_800_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store.create(tmp_path, SOURCE)
    yield made
    made.close()


def reopened(store: Store, tmp_path: Path) -> int:
    store.close()
    again = Store(tmp_path, SOURCE)
    block = Floor(again, ROUTER.lower()).seen.number
    again.close()
    return block


def test_what_was_seen_survives_a_restart_and_is_of_one_network(store: Store, tmp_path: Path) -> None:
    assert Floor(store, ROUTER).seen.number == 0
    Floor(store, ROUTER).see(Seen(23, AT))
    Floor(store, "0x" + "cd" * 20).see(Seen(7, AT))
    assert reopened(store, tmp_path) == 23


def test_blocks_are_written_now_and_then_and_the_same_one_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    now, written = [0.0], []
    put = store.put_info_soon
    monkeypatch.setattr(
        store, "put_info_soon", lambda name, value: written.append(int(value.split()[0])) or put(name, value)
    )
    floor = Floor(store, ROUTER, lambda: now[0])
    for block in range(1, 100):
        floor.see(Seen(block, AT))
        now[0] += WRITE_SECONDS / 10
    assert written == [1, *range(11, 100, 10)]
    now[0] += WRITE_SECONDS
    for _ in range(5):
        floor.see(Seen(99, AT))
        now[0] += WRITE_SECONDS
    assert written[-2:] == [91, 99]


def test_a_reorganisation_that_the_view_followed_is_followed(store: Store, tmp_path: Path) -> None:
    now = [0.0]
    floor = Floor(store, ROUTER, lambda: now[0])
    floor.see(Seen(23, AT))
    now[0] += WRITE_SECONDS
    floor.see(Seen(22, AT))
    assert reopened(store, tmp_path) == 22


def test_a_disk_that_fails_is_no_fault_of_the_view(store: Store) -> None:
    store._writer.fail(StoreFailed("disk I/O error"))
    floor = Floor.__new__(Floor)
    floor.__dict__.update(_store=store, _clock=lambda: 0.0, _name="x", _written=0, _next=0.0)
    floor.see(Seen(23, AT))  # the store says for itself that it failed
    assert store.failure is not None


async def test_when_it_was_seen_survives_a_restart_and_is_now_for_what_an_earlier_version_wrote(store: Store) -> None:
    name, before = PREFIX + ROUTER.lower(), int(time.time())
    Floor(store, ROUTER).see(Seen(23, AT + 0.5))
    await store.put_info("other", b"")
    assert Floor(store, ROUTER).seen == Seen(23, AT)
    await store.put_info(name, b"23")
    assert Floor(store, ROUTER).seen.number == 23
    assert before <= Floor(store, ROUTER).seen.at <= time.time()
    await forget(store)
    assert Floor(store, ROUTER).seen.number == 0
