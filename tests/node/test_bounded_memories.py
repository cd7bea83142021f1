"""What strangers and peers can make a node remember is bounded, and what goes first is what is needed least."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_runner import SID, World, party, talk

from keyquorum.algebra.curve import generator_times
from keyquorum.auth import certificate as certificates
from keyquorum.chain.block import Block
from keyquorum.chain.rpc import Rpc
from keyquorum.node import repeated
from keyquorum.node.chain import recent_blocks, strangers
from keyquorum.node.chain.chain_view import ChainView, Head
from keyquorum.node.chain.recent_blocks import RecentBlocks
from keyquorum.node.chain.strangers import Strangers, Turns
from keyquorum.node.mesh import listener
from keyquorum.node.mesh.connection import Limits
from keyquorum.node.mesh.listener import Listener
from keyquorum.node.repeated import Repeated
from keyquorum.node.runs import runner
from keyquorum.node.services import access, attempts, audit, uses
from keyquorum.node.services.access import Access
from keyquorum.node.services.attempts import Attempts
from keyquorum.node.services.audit import Audit, Entry
from keyquorum.node.services.uses import Uses
from keyquorum.node.settings.config import AuditSection
from keyquorum.node.storage import login_store
from keyquorum.refusal import Invalid, Refusal
from keyquorum.rounds.session import Envelope

MOST = 5


# ---- runs -----------------------------------------------------------------------------------------------------------


async def test_runs_that_ended_are_remembered_up_to_a_bound_and_the_oldest_go_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "FINISHED_REMEMBERED", MOST)
    world = World()
    sids = [bytes([number]) * 32 for number in range(MOST + 1)]
    for sid in sids:
        await asyncio.gather(world.run(1, b"ping", sid=sid), world.run(2, b"pong", sid=sid))
    assert list(world.runner[2]._finished) == sids[1:]
    with pytest.raises(runner.AlreadyRun):
        await world.run(2, b"pong", sid=sids[1])


async def test_what_waits_for_a_long_run_is_bounded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    async def slow(asking: Any) -> dict[int, bytes]:
        begun.set()
        go_on.wait(20)
        return await talk(asking, b"pong")

    monkeypatch.setattr(runner, "QUEUED_PER_RUN", MOST)
    world = World()
    task = asyncio.create_task(world.runner[2].run(party(2), slow(party(2)), 20, in_thread=True))
    await asyncio.to_thread(begun.wait, 20)
    try:
        for _ in range(MOST + 3):
            world.runner[2].receive(1, Envelope(SID, 1, 1, None, b"nonsense", b""))
        assert world.runner[2].dropped == 3
        assert world.runner[2]._runs[SID].queue.qsize() == MOST
    finally:
        go_on.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# ---- who knocked ----------------------------------------------------------------------------------------------------


async def test_addresses_that_began_a_handshake_are_bounded_and_the_oldest_go_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def welcome(_: int, __: Any) -> None:
        return None

    monkeypatch.setattr(listener, "ADDRESSES_REMEMBERED", MOST)
    limits = Limits(handshakes=16, handshakes_per_address=4)
    made = Listener(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), lambda _: None, welcome, limits, Counter())
    sources = [f"203.0.113.{number}" for number in range(MOST + 3)]
    assert all(map(made._may_shake_hands, sources))
    assert list(made._allowance) == sources[-MOST:]


async def test_what_was_not_recorded_is_counted_for_so_many_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "ADDRESSES", MOST)
    record = Audit(tmp_path, AuditSection())
    for number in range(MOST):
        record._unrecorded[f"203.0.113.{number}"] = 1
    record.record(Entry("sign", "198.51.100.1"), audit.REFUSED, "code")
    assert len(record._unrecorded) == MOST
    record._unrecorded["203.0.113.99"] = 1
    record.record(Entry("sign", "198.51.100.2"), audit.REFUSED, "code")
    assert not record._unrecorded


@pytest.mark.parametrize(("length", "shown"), [(0, 0), (1, 1)])
def test_a_summary_is_one_line_of_bounded_length(length: int, shown: int) -> None:
    text = audit.one_line("ab " * (audit.SUMMARY_CHARS // 3 - 1) + "abc" + "d" * length)
    assert len(text) == audit.SUMMARY_CHARS and text.count("…") == shown


# ---- what was asked -------------------------------------------------------------------------------------------------


async def test_certificates_are_remembered_up_to_a_bound_and_those_in_use_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked: list[str] = []

    def verify(token: str, network: str, key: Any, now: int) -> Any:
        checked.append(token)
        if not token:
            raise Invalid("bad_token", "it is none", "send one")
        return SimpleNamespace(check_time=lambda now: None)

    async def network_key() -> Any:
        return generator_times(7)

    monkeypatch.setattr(access, "CERTIFICATES_CACHED", MOST)
    monkeypatch.setattr(certificates, "verify", verify)
    view: Any = SimpleNamespace(network="n", network_key=network_key)
    known = Access(view)
    for token in "abcde":
        await known.certificate(token, 0)
    await known.certificate("a", 0)
    await known.certificate("f", 0)
    for token in "acdef":
        await known.certificate(token, 0)
    assert checked == list("abcdef")
    with pytest.raises(Invalid):
        await known.certificate("", 0)
    assert len(known._certificates) == MOST
    await known.certificate("b", 0)
    assert checked[-1] == "b"


async def test_strangers_answers_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    async def head() -> Head:
        return Head(9, b"h" * 32, 8, 0.0)

    async def run_guarded(code: bytes, block: int) -> bytes:
        return b"yes"

    monkeypatch.setattr(strangers, "REMEMBERED", MOST)
    view: Any = SimpleNamespace(head=head, run_guarded=run_guarded)
    asked = Strangers(view)
    for number in range(MOST + 3):
        await asked.call("a", lambda: None, b"\x01" * 20, bytes([number]), True)
    assert len(asked._answers) == MOST


async def test_so_many_wait_for_strangers_contracts_and_no_more_of_one() -> None:
    turns, hold = Turns(), asyncio.Event()
    waiting = [asyncio.ensure_future(turns.run("a", hold.wait)) for _ in range(1 + strangers.WAITING_EACH)]
    await asyncio.sleep(0)
    assert len(turns._running) == 1 and turns.waiting == strangers.WAITING_EACH
    with pytest.raises(strangers.Crowded):
        await turns.run("a", hold.wait)
    names = [f"tenant {number}" for number in range(2 * strangers.WAITING)]
    waiting += [asyncio.ensure_future(turns.run(name, hold.wait)) for name in names]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(turns._running) == strangers.PLACES and turns.waiting == strangers.WAITING
    hold.set()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    refused = sum(isinstance(one, strangers.Crowded) for one in told)
    assert len(told) - refused == strangers.PLACES + strangers.WAITING


async def test_of_what_is_under_way_only_so_much_is_looked_at_to_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever fills the table with runs that do not end makes nobody look through all of them."""
    looked: list[int] = []
    monkeypatch.setattr(attempts, "ENTRIES", 20)
    monkeypatch.setattr(attempts, "LOOKED_AT", MOST)
    monkeypatch.setattr(attempts._Entry, "running", property(lambda entry: looked.append(1) or True))
    table = Attempts()

    async def answer() -> dict[str, Any]:
        return {}

    for number in range(20):
        await table.once(f"o{number}", "id", b"p", (0, (1, 2)), until=100, now=0, make=answer)
    looked.clear()
    with pytest.raises(Refusal) as refused:
        await table.once("late", "id", b"p", (0, (1, 2)), until=100, now=0, make=answer)
    assert (refused.value.code, len(looked), len(table)) == ("too_many_requests", MOST, 20)


# ---- the chain ------------------------------------------------------------------------------------------------------


def block(number: int) -> Block:
    return Block(number, number.to_bytes(32, "big"), number, (number - 1).to_bytes(32, "big"))


def test_of_the_chain_so_many_blocks_are_remembered_and_the_lowest_go_first() -> None:
    recent = RecentBlocks()
    most = recent_blocks.RECENT_BLOCKS
    for number in range(1, most + 4):
        recent.add(block(number))
    assert len(recent._by_hash) == len(recent._chain) == most
    assert recent.find(block(3).hash) is None and recent.find(block(4).hash) is not None


async def test_of_the_blocks_that_were_the_newest_so_many_are_remembered() -> None:
    view = ChainView([Rpc("http://127.0.0.1:1")], "0x" + "11" * 20, "latest")
    found = [block(number) for number in range(1, recent_blocks.RECENT_BLOCKS + 4)]
    numbers = iter(found)

    async def newest() -> Block:
        return next(numbers)

    view._quorum.newest = newest  # type: ignore[method-assign]
    for _ in found:
        await view.refresh()
    assert len(view._seen) == recent_blocks.RECENT_BLOCKS
    await view.close()


# ---- the rest -------------------------------------------------------------------------------------------------------


async def test_of_what_went_wrong_so_much_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(number: int) -> None:
        raise OSError(f"fault {number}")

    rounds = Repeated(lambda: 0.0)
    monkeypatch.setattr(repeated, "EXPECTED", (OSError,))
    for number in range(repeated.REMEMBERED + 3):
        await rounds.attempt(fail(number))
    assert len(rounds._said) == repeated.REMEMBERED


def test_what_is_kept_without_being_told_how_much_is_the_bound_in_the_code() -> None:
    assert Uses()._remembered == uses.REMEMBERED == 500_000
    assert login_store.LoginStore.__init__.__defaults__ == (login_store.COMMITMENTS, login_store.SESSIONS)
    assert Strangers(replace)._seconds == strangers.CALL_SECONDS  # type: ignore[arg-type]
