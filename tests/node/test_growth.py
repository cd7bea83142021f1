"""What a node does while it runs costs the same with ten keys and with two thousand."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ready_status import made
from store_writer import share

from keyquorum.algebra.curve import generator_times
from keyquorum.node.keymaking import workshop
from keyquorum.node.keymaking.workshop import POOL, Workshop
from keyquorum.node.storage import login_store
from keyquorum.node.storage.keys import Keys
from keyquorum.node.storage.login_store import KnownSession, LoginStore
from keyquorum.node.storage.store import Store
from keyquorum.node.storage.vault import KeySource
from rosters import roster

FEW, MANY = 10, 2_000
SOURCE = KeySource("key-file", b"k" * 32)


async def filled(folder: Path, count: int) -> Store:
    """A store of `count` active keys in batches of ten, two batches that wait, one of them confirmed."""
    store = Store.create(folder, SOURCE)
    batches = {batch.to_bytes(32, "big"): [share(10 * batch + k) for k in range(10)] for batch in range(count // 10)}
    await asyncio.gather(*(store.put_pending(batch_id, shares) for batch_id, shares in batches.items()))
    await asyncio.gather(*(store.mark(f"confirmed/{batch_id.hex()}", b"pool") for batch_id in batches))
    await store.activate([one.token_id for shares in batches.values() for one in shares])
    for number, batch_id in ((10**6, b"w" * 32), (2 * 10**6, b"v" * 32)):
        await store.put_pending(batch_id, [share(number + k) for k in range(10)])
    await store.mark(f"confirmed/{(b'w' * 32).hex()}", b"pool")
    return store


class World:
    """The parts of a node that ask the store, over a real store of `count` keys."""

    def __init__(self, store: Store) -> None:
        self.store, self.keys = store, Keys(store)
        self.node = made()
        self.node.store, self.node.keys = store, self.keys
        shop: Any = SimpleNamespace(is_up=lambda j: True)
        shop.active = shop.dropped = 0
        self.shop = Workshop(roster(), View(), self.keys, shop, shop, lambda *_: True, shop, shop)  # type: ignore[arg-type]
        self.shop.view = View()  # type: ignore[assignment]


class View:
    """A chain that has registered nothing."""

    age = 0.0

    async def read(self, contract: str, view: str, *_: Any, **__: Any) -> int:
        return int(view == "nextBatch")


QUESTIONS: dict[str, Callable[[World], Any]] = {
    "count": lambda world: world.keys.count(),
    "quarantined": lambda world: world.keys.quarantined(),
    "state of a known key": lambda world: world.keys.state(share(3).token_id),
    "state of an unknown key": lambda world: world.keys.state(b"?" * 32),
    "a key": lambda world: world.store.load(share(3).token_id),
    "pending batches": lambda world: world.keys.pending_batches(workshop.LOOK_AT),
    "pending since": lambda world: world.keys.pending_since(0, 64),
    "waiting": lambda world: world.keys.waiting(POOL, workshop.LOOK_AT),
    "one waiting batch": lambda world: world.keys.waiting_batch(b"w" * 32, POOL),
    "unregistered": lambda world: world.shop.unregistered(POOL),
    "activation at each block": lambda world: world.shop.activate_registered(generator_times(7)),
    "readiness": lambda world: world.node.readiness(),
    "metrics": lambda world: world.node.metrics.text(),
    "strikes": lambda world: world.store.info("strikes/"),
}


class Cost:
    """Counts the steps of the database and the calls of Python code while it is entered."""

    def __init__(self, store: Store) -> None:
        self._reader = store._reader
        self.steps = self.calls = 0

    def __enter__(self) -> Cost:
        self._reader.set_progress_handler(self._step, 1)
        sys.setprofile(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        self._reader.set_progress_handler(None, 1)

    def _step(self) -> int:
        self.steps += 1
        return 0

    def _call(self, frame: Any, event: str, _: Any) -> None:
        self.calls += event in ("call", "c_call") and frame.f_code is not Cost._step.__code__


async def cost_of(world: World, question: Callable[[World], Any]) -> Cost:
    for _ in range(2):  # once before, so that what is cached for good is
        with Cost(world.store) as cost:
            answer = question(world)
            if asyncio.iscoroutine(answer):
                await answer
    return cost


async def test_no_question_of_a_running_node_costs_more_with_more_keys(tmp_path: Path) -> None:
    few, many = [World(await filled(tmp_path / str(count), count)) for count in (FEW, MANY)]
    for name, question in QUESTIONS.items():
        cheap, dear = await cost_of(few, question), await cost_of(many, question)
        assert dear.steps <= cheap.steps + 20, name
        assert dear.calls <= cheap.calls + 20, name
    few.store.close()
    many.store.close()


async def test_a_walk_through_the_store_would_be_noticed(tmp_path: Path) -> None:
    few, many = [World(await filled(tmp_path / str(count), count)) for count in (FEW, MANY)]
    for walk in (lambda world: len(world.store.list_shares("active")), lambda world: world.store.markers("confirmed/")):
        cheap, dear = await cost_of(few, walk), await cost_of(many, walk)
        assert dear.steps > cheap.steps + 20
    few.store.close()
    many.store.close()


async def test_old_leftovers_cost_no_more_than_the_limit(tmp_path: Path) -> None:
    costs = []
    for leftovers in (3 * workshop.LOOK_AT, 6 * workshop.LOOK_AT):
        store = await filled(tmp_path / str(leftovers), FEW)
        await asyncio.gather(
            *(store.put_pending(number.to_bytes(32, "little"), [share(10**7 + number)]) for number in range(leftovers))
        )
        costs.append(await cost_of(World(store), QUESTIONS["activation at each block"]))
        store.close()
    assert costs[1].steps <= costs[0].steps + 20


# -- plans ------------------------------------------------------------------------------------------------------------

WALK = re.compile(r"^SCAN \w+(?! USING (COVERING )?INDEX key_shares_pending)")


def plans(folder: Path, file: str, statements: set[str]) -> Iterator[tuple[str, str]]:
    connection = sqlite3.connect(folder / file)
    for statement in statements:
        for row in connection.execute("EXPLAIN QUERY PLAN " + statement):
            yield statement, row[3]
    connection.close()


async def test_every_statement_of_a_running_node_is_answered_by_an_index(tmp_path: Path) -> None:
    store = await filled(tmp_path, FEW)
    asked: set[str] = set()
    for connection in (store._reader, await asyncio.wrap_future(store._writer.submit(lambda c: c))):
        connection.set_trace_callback(asked.add)
    world = World(store)
    for question in QUESTIONS.values():
        await cost_of(world, question)
    await store.put_pending(b"n" * 32, [share(3 * 10**6)])
    await store.activate([share(3 * 10**6).token_id])
    await world.keys.confirm(b"n" * 32, POOL)
    await store.put_info("strikes/2", b"x")
    store.close()
    statements = {text for text in asked if text.split()[0] in ("SELECT", "UPDATE", "DELETE", "INSERT")}
    assert any("UPDATE key_shares" in text for text in statements)
    assert [found for found in plans(tmp_path, "store.sqlite", statements) if WALK.match(found[1])] == []


async def test_every_statement_about_logins_is_answered_by_an_index(tmp_path: Path) -> None:
    store = LoginStore(tmp_path, sessions=2)
    asked: set[str] = set()
    (await asyncio.wrap_future(store._writer.submit(lambda c: c))).set_trace_callback(asked.add)
    for number in range(4):
        store.remember(KnownSession(str(number), "s", ((1, b"i"),), (), (), 1, 0, 10 + number), 5)
        await store.commit(bytes([number]), b"b", number + login_store.KEEP_SECONDS)
    assert await store.session("3")
    assert await store.sessions_of([(1, b"i")], 5)
    store.close()
    statements = {text for text in asked if text.split()[0] in ("SELECT", "UPDATE", "DELETE", "INSERT")}
    walks = [found for found in plans(tmp_path, "logins.sqlite", statements) if WALK.match(found[1])]
    # The end of an index, at most so many rows.
    ends = {"sessions_by_end", "holders_by_sessions"}
    assert [found for found in walks if "LIMIT" not in found[0] or found[1].split()[-1] not in ends] == []


# -- the counts are true ----------------------------------------------------------------------------------------------


def true_counts(folder: Path) -> tuple[int, int]:
    connection = sqlite3.connect(folder / "store.sqlite")
    rows = connection.execute("SELECT state, count(*), count(DISTINCT batch_id) FROM key_shares GROUP BY state")
    found = {state: counts for state, *counts in rows.fetchall()}
    connection.close()
    return found["active"][0], found["pending"][1]


def true_batches(folder: Path) -> int:
    connection = sqlite3.connect(folder / "store.sqlite")
    query = "SELECT count(DISTINCT batch_id) FROM key_shares WHERE state = 'active'"
    (count,) = connection.execute(query).fetchone()
    connection.close()
    return int(count)


async def test_the_counts_are_those_of_the_store_after_every_write_and_every_start(tmp_path: Path) -> None:
    store = await filled(tmp_path, FEW)
    steps: list[Callable[[], Any]] = [
        lambda: store.put_pending(b"1" * 32, [share(50), share(51)]),
        lambda: store.activate([share(50).token_id, share(50).token_id, b"?" * 32]),
        lambda: store.put_pending(b"2" * 32, [share(51)]),  # there already
        lambda: store.activate([share(51).token_id]),
        lambda: store.put_pending(b"3" * 32, []),
    ]
    for step in steps:
        assert store.tally.active_batches == true_batches(tmp_path)
        try:
            await step()
        except ValueError:
            assert step is steps[2]
        assert (store.tally.active, store.tally.pending) == true_counts(tmp_path)
    store.close()
    again = Store(tmp_path, SOURCE)
    assert again.tally.active_batches == store.tally.active_batches == true_batches(tmp_path)
    assert (again.tally.active, again.tally.pending) == true_counts(tmp_path) == (12, 2)
    again.close()


async def test_a_caller_who_gives_up_does_not_make_the_count_wrong(tmp_path: Path) -> None:
    store = await filled(tmp_path, FEW)
    work = asyncio.create_task(store.put_pending(b"1" * 32, [share(50)]))
    await asyncio.sleep(0)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await store.mark("behind it")
    assert (store.tally.active, store.tally.pending) == true_counts(tmp_path)
    store.close()


async def test_a_store_from_before_the_index_gets_it(tmp_path: Path) -> None:
    (await filled(tmp_path, FEW)).close()
    connection = sqlite3.connect(tmp_path / "store.sqlite")
    connection.execute("DROP INDEX key_shares_pending")
    connection.commit()
    connection.close()
    store = Store(tmp_path, SOURCE)
    assert store.tally.newest(2) == [b"v" * 32, b"w" * 32]
    assert store.tally.newest(2, 1) == [b"w" * 32]
    store.close()
