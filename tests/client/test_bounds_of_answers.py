"""What a server can make a client read, wait for, believe and sign is bounded, whatever that server says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

import virtual_time
from keyquorum.auth import request as requests
from keyquorum.auth.revocation import FOREVER, Revocation
from keyquorum.chain.block import Block
from keyquorum.chain.fees import SpendingLimits, TooDear
from keyquorum.client import (
    choice,
    connection,
    learned,
    logins,
    network,
    oauth,
    paying,
    revocations,
    runs,
    seen,
    session_list,
    signup,
    transport,
)
from keyquorum.client import session as sessions
from keyquorum.client.choice import NodeBook
from keyquorum.client.committee import Committee
from keyquorum.client.connection import Connection
from keyquorum.client.errors import BadAnswer, TooExpensive, Unavailable
from keyquorum.client.logins import Logins
from keyquorum.client.network import ChainView
from keyquorum.client.paying import Paying
from keyquorum.client.results import Node
from keyquorum.client.revocations import RevocationJob
from keyquorum.client.runs import Asked, FreshRuns
from keyquorum.client.session_list import Listed, ListedMethod, SessionsAnswer
from keyquorum.client.transport import NodeGarbage

NOW = 1_800_000_000


# ---- words ----------------------------------------------------------------------------------------------------------


async def test_an_answer_is_read_up_to_its_bound() -> None:
    def response(size: int) -> Any:
        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, size, 1000):
                yield b"x" * min(1000, size - start)

        closed: list[bool] = []
        return SimpleNamespace(
            content=SimpleNamespace(iter_any=chunks), close=lambda: closed.append(True), closed=closed
        )

    assert len(await transport._read_bounded(response(transport.MAX_ANSWER))) == transport.MAX_ANSWER
    long = response(transport.MAX_ANSWER + 1)
    with pytest.raises(NodeGarbage):
        await transport._read_bounded(long)
    assert long.closed


def test_of_a_refusal_so_many_words_and_names_are_kept() -> None:
    def told(extra: int) -> transport.NodeError:
        parties = list(range(1, transport.MAX_PARTIES + 1 + extra))
        text = "x" * (transport.TEXT_LIMIT + extra)
        said = {"code": "busy", "message": text, "hint": text, "parties": parties}
        return transport._as_error(503, json.dumps({"error": said}).encode())

    for extra in (0, 1):
        error = told(extra)
        assert len(error.parties) == transport.MAX_PARTIES
        assert len(error.message) == len(error.hint) == transport.TEXT_LIMIT


def listed(number: int) -> Listed:
    return Listed(f"{number:064x}", [ListedMethod(1, "0x11")], ["*"], [1], number, number)


@pytest.mark.parametrize("extra", [0, 1])
def test_of_each_nodes_sessions_so_many_are_merged(extra: int) -> None:
    answer = SessionsAnswer([listed(number) for number in range(session_list.MAX_LISTED + extra)])
    assert len(session_list.merge({1: answer}, 1)) == session_list.MAX_LISTED


def test_the_word_for_another_key_is_bounded() -> None:
    assert signup.mint_intent("x" * signup.MAX_LABEL)
    with pytest.raises(ValueError, match="characters"):
        signup.mint_intent("x" * (signup.MAX_LABEL + 1))


# ---- times ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reach", "ends"),
    [
        (0, NOW - 1),
        (NOW - 1, NOW - 1),
        (NOW, NOW),
        (NOW + 86_400, NOW + 86_400),
    ],
)
def test_a_revocation_reaches_the_newest_block_however_far_its_clock_is_ahead(
    monkeypatch: pytest.MonkeyPatch, reach: int, ends: int
) -> None:
    monkeypatch.setattr(sessions, "time", SimpleNamespace(time=lambda: float(NOW)))
    expires = sessions.revoke_expires(reach)
    assert Revocation(key="0x" + "11" * 32).before(expires, 0) == ends
    assert expires >= NOW + sessions.REVOKE_SECONDS


@pytest.mark.parametrize(
    ("ahead", "good"), [(-1, False), (0, True), (revocations.LATER, True), (revocations.LATER + 1, False)]
)
def test_nodes_sign_up_to_the_time_asked_for_or_a_little_later(ahead: int, good: bool) -> None:
    what = Revocation(key="0x" + "11" * 32)
    unused: Any = None
    job = RevocationJob(unused, what, before=NOW, chain_id=1, sessions="0x", network_key=unused)
    share: Any = SimpleNamespace(check=lambda party: None)
    answer = revocations.RevocationAnswer(share, "0x" + what.mark.hex(), NOW + ahead)
    if good:
        job.check(1, answer)
        return
    with pytest.raises(BadAnswer, match="another time"):
        job.check(1, answer)


def test_what_ends_for_ever_ends_no_later() -> None:
    what, unused = Revocation(session="11" * 32), None
    job = RevocationJob(unused, what, before=FOREVER, chain_id=1, sessions="0x", network_key=unused)  # type: ignore[arg-type]
    share: Any = SimpleNamespace(check=lambda party: None)
    job.check(1, revocations.RevocationAnswer(share, "0x" + what.mark.hex(), FOREVER))
    with pytest.raises(BadAnswer):
        job.check(1, revocations.RevocationAnswer(share, "0x" + what.mark.hex(), FOREVER + 1))


def waiting(ended_until: int, times: Callable[[float], int]) -> tuple[int, float]:
    """Which block a login after a revocation names, and how long that took, if the newest is of `times(seconds)`."""

    async def newest() -> Block:
        now = asyncio.get_running_loop().time()
        assert now < 60, "it waits for ever"
        return Block(1, bytes(32), times(now))

    async def look() -> tuple[int, float]:
        found = await Logins._block_after_revocations(me)
        return found.time, asyncio.get_running_loop().time()

    me: Any = SimpleNamespace(_ended_until=ended_until, chain=SimpleNamespace(newest_block=newest))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logins, "time", SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time()))
        return virtual_time.run(look())


def test_a_login_waits_for_a_block_after_what_was_ended_and_not_for_ever() -> None:
    assert waiting(NOW, lambda _: NOW) == (NOW, 0.0)
    found, took = waiting(NOW + 1, lambda seconds: NOW + int(seconds))
    assert found == NOW + 1 and 1 <= took <= 1 + 2 * logins.ENDED_POLL
    found, took = waiting(2**60, lambda _: NOW)
    assert found == NOW
    assert logins.MOST_ENDED_AHEAD <= took <= logins.MOST_ENDED_AHEAD + 2 * logins.ENDED_POLL


@pytest.mark.parametrize(("age", "named"), [(logins.BLOCK_SPREADS_SECONDS, b"block"), (1, b"parent"), (-60, b"parent")])
async def test_a_login_names_a_block_that_had_time_to_spread(
    monkeypatch: pytest.MonkeyPatch, age: int, named: bytes
) -> None:
    async def newest() -> Block:
        return Block(9, b"block", NOW - age, b"parent")

    monkeypatch.setattr(logins, "time", SimpleNamespace(time=lambda: float(NOW)))
    me: Any = SimpleNamespace(_block_after_revocations=newest, _seen_block=8)
    assert await Logins._recent_block(me) == "0x" + named.hex()
    me._seen_block = 9
    assert await Logins._recent_block(me) == "0x" + b"block".hex()


# ---- how often ------------------------------------------------------------------------------------------------------


async def test_a_request_is_signed_again_for_a_gateway_so_often() -> None:
    asked: list[Any] = []

    async def ask(path: str, body: Any, shape: Any) -> Any:
        asked.append(body["runs"])
        raise Unavailable(learned.RUNS_USED_UP, "used up", needed=3, live=4, parties={1: "slow"})

    async def away() -> set[int]:
        return set()

    committee = Committee(tuple(Node(party, f"http://{party}") for party in range(1, 5)), 3)
    me: Any = SimpleNamespace(_current_committee=lambda: committee, _away=away, _ask_gateway=ask)
    with pytest.raises(Unavailable):
        await Connection._run_at_gateway(me, "/v1/sign", Asked("id", lambda sets: {"runs": list(sets)}), dict)
    assert len(asked) == connection.SIGNED_AT_MOST
    assert all(len(sets) == requests.MAX_RUNS for sets in asked)


def test_a_request_is_signed_for_so_many_runs() -> None:
    made = FreshRuns(Asked("id", lambda sets: {}))
    for _ in range(requests.MAX_RUNS):
        assert made.next(NodeBook(), [1, 2, 3, 4], 3, (), {})
    assert made.next(NodeBook(), [1, 2, 3, 4], 3, (), {}) is None


def test_sets_of_signers_are_searched_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every set has failed, a large network must not hold up its client for ever."""
    looked: list[int] = []

    class Failed(frozenset[frozenset[int]]):
        def __contains__(self, _: object) -> bool:
            looked.append(1)
            return True

    monkeypatch.setattr(choice, "SEARCH_LIMIT", 50)
    assert len(NodeBook().choose(range(1, 31), 21, "id", Failed())) == 21
    assert len(looked) == 50


@pytest.mark.parametrize(("n", "t"), [(30, 21), (100, 67)])
def test_of_large_networks_few_sets_are_compared(n: int, t: int) -> None:
    assert len(list(runs._some_sets(n, t))) <= max(runs.SEARCHED, runs.STRIDES * n)
    assert len(runs._survives(n, tuple(range(t)))) <= runs.SEARCHED


async def test_the_chain_is_asked_for_so_many_keys_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way, most = 0, 0

    async def busy(*_: Any, **__: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(3):
            await asyncio.sleep(0)
        under_way -= 1
        return []

    async def tokens(*_: Any) -> list[int]:
        return list(range(3 * network.MAX_PARALLEL_READS))

    me: Any = SimpleNamespace(pages=tokens, contract=lambda name: None, key=busy)
    await ChainView.keys_of(me, "0x")
    assert most == network.MAX_PARALLEL_READS
    under_way = most = 0

    async def ask(_: Any, view: str, *__: Any, **___: Any) -> Any:
        return 3 * network.MAX_PARALLEL_READS * network.PAGE if view == "count" else await busy()

    async def block_number() -> int:
        return 1

    pages: Any = SimpleNamespace(ask=ask, _block_number=block_number)
    await ChainView.pages(pages, None, "view", "count")  # type: ignore[arg-type]
    assert most == network.MAX_PARALLEL_READS


def test_who_pays_is_asked_once_for_each_limit_and_no_more() -> None:
    asked: list[Any] = []
    me: Any = SimpleNamespace(_agree=lambda error: asked.append(error) or True)
    limits = SpendingLimits()
    error = TooDear("the gas", limits.max_gas + 1, limits.max_gas, "max_gas")
    allowed = asyncio.run(Paying._within_limits(me, limits, error, paying.QUESTIONS - 1))
    assert allowed.max_gas == limits.max_gas + 1 and len(asked) == 1
    with pytest.raises(TooExpensive):
        asyncio.run(Paying._within_limits(me, limits, error, paying.QUESTIONS))
    assert len(asked) == 1
    assert len(vars(limits)) == paying.QUESTIONS


def test_a_token_of_a_provider_is_bounded() -> None:
    assert oauth.token_of({"t": "x" * oauth.MAX_BODY}, "t", "https://a.example")
    with pytest.raises(oauth.ProviderError):
        oauth.token_of({"t": "x" * (oauth.MAX_BODY + 1)}, "t", "https://a.example")


async def test_a_server_that_does_not_take_a_connection_is_given_up() -> None:
    async with transport.Transport() as made:
        assert made._open().timeout.connect == transport.CONNECT_SECONDS


@pytest.mark.parametrize(
    ("behind", "took"), [((), 0.0), ((4,), seen.STRAGGLER_SECONDS), ((2, 3, 4), seen.SEEN_SECONDS)]
)
def test_nodes_that_lag_hold_up_a_change_for_so_long(behind: tuple[int, ...], took: float) -> None:
    committee = Committee(tuple(Node(party, f"http://{party}") for party in range(1, 5)), 3)

    async def newest(_: Any, url: str) -> int:
        return 8 if int(url[-1]) in behind else 9

    async def whole() -> tuple[set[int], float]:
        unused: Any = None
        found = await seen.until_seen(committee, unused, 9)
        return found, asyncio.get_running_loop().time()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seen, "time", SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time()))
        patch.setattr(seen, "newest", newest)
        found, passed = virtual_time.run(whole())
    assert found == {1, 2, 3, 4} - set(behind)
    assert took <= passed <= took + 2 * seen.PAUSE_SECONDS


async def test_the_registry_and_the_gateways_word_are_read_again_only_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now, began = [1000.0], []

    async def nothing() -> None:
        return None

    def spawn(work: Any) -> None:
        began.append(work)
        work.close()

    monkeypatch.setattr(connection, "time", SimpleNamespace(monotonic=lambda: now[0]))
    me: Any = SimpleNamespace(_refreshed=0.0, _hinted=None, _hint={3}, _spawn=spawn, _refresh=nothing, _look=nothing)
    for _ in range(20):
        Connection._on_loss(me)
        assert await Connection._away(me) == {3}
    assert len(began) == 1  # the first word is waited for
    now[0] += max(connection.REFRESH_SECONDS, connection.HINT_SECONDS) + 0.1
    for _ in range(20):
        Connection._on_loss(me)
        await Connection._away(me)
    assert len(began) == 3


async def test_a_gateway_that_does_not_say_who_is_away_is_waited_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STATUS_SECONDS", 0.0)

    async def never(*_: Any) -> Any:
        await asyncio.Event().wait()

    me: Any = SimpleNamespace(_get_from_gateway=never, _hint={3})
    await Connection._look(me)
    assert me._hint == {3}
