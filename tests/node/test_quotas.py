"""Quotas: what each may ask for, what is kept for others, and that a refusal costs nothing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from keyquorum.algebra.rng import SeededRng
from keyquorum.auth.request import MAX_RUNS
from keyquorum.node.runs.places import Places
from keyquorum.node.services import signing as signing_module
from keyquorum.node.services.quotas import (
    ALLOWANCE,
    CALLS_PER_LOGIN,
    CLAIMS,
    LISTING_SECONDS,
    LISTINGS,
    LOGIN_SECONDS,
    NODE,
    Quotas,
    _tenants,
    claim_of,
    client_address,
)
from keyquorum.node.services.signing import RunChoice, Signing
from keyquorum.node.settings.config import QuotasSection
from keyquorum.refusal import Refusal
from rosters import roster

ADA, BOB = (1, b"a" * 20), (1, b"b" * 20)


@pytest.fixture(autouse=True)
def from_somewhere() -> Iterator[None]:
    address, tenants = client_address.set("10.0.0.1"), _tenants.set(())
    yield
    client_address.reset(address)
    _tenants.reset(tenants)


class Clocked:
    """Quotas with a clock that tests turn."""

    def __init__(self, pool: int = 0, places: float = 1.0, **settings: Any) -> None:
        self.now, self.places = 1000.0, places
        self.quotas = Quotas(QuotasSection(**settings), pool, lambda: self.places)
        for buckets in (*self.quotas._runs.values(), *self.quotas._logins.values(), self.quotas._allowances,
                        self.quotas._failures, self.quotas._failed_claims,
                        self.quotas._asked, self.quotas._asked_claims):  # fmt: skip
            buckets._clock = lambda: self.now

    def admitted(self, times: int, session: str = "s", key: str = "k", identities: Any = (ADA,)) -> int:
        return sum(self.refusal(session, key, identities) is None for _ in range(times))

    def refusal(self, session: str = "s", key: str = "k", identities: Any = (ADA,)) -> Refusal | None:
        try:
            self.quotas.admit(session=session, key=key, identities=identities)
        except Refusal as error:
            return error
        return None


@pytest.mark.parametrize(("settings", "other", "word"), [
    ({"session": 2}, {"session": "other"}, "session"),
    ({"key": 2}, {"key": "other"}, "key"),
    ({"identity": 2}, {"identities": (BOB,)}, "identity"),
])  # fmt: skip
def test_each_has_a_bucket_of_its_own(settings: dict[str, float], other: dict[str, Any], word: str) -> None:
    clocked = Clocked(burst_seconds=5, **settings)
    assert clocked.admitted(100) == 10
    refused = clocked.refusal()
    assert refused is not None
    assert (refused.status, refused.code, refused.retry_after) == (429, "quota_exceeded", 1)
    assert f"this {word} " in refused.message
    assert "wait 1 s" in refused.hint
    assert clocked.admitted(100, **other) == 10
    clocked.now += 3
    assert clocked.admitted(100) == 6


def test_one_exhausted_identity_of_several_is_enough() -> None:
    clocked = Clocked(identity=1, burst_seconds=5)
    assert clocked.admitted(9, session="1", key="1", identities=(BOB,)) == 5
    assert clocked.admitted(9, session="2", key="2", identities=(ADA, BOB)) == 0
    assert clocked.admitted(9, session="3", key="3", identities=(ADA,)) == 5


def test_a_network_address_has_one_too_unless_it_is_a_gateway() -> None:
    clocked = Clocked(address=1, burst_seconds=5, gateways=["10.9.9.9"])
    asked = [clocked.refusal(f"s{k}", f"k{k}", [(1, bytes([k]) * 20)]) for k in range(6)]
    assert [one is None for one in asked] == [True] * 5 + [False]
    assert asked[-1] is not None
    assert "network address" in asked[-1].message
    client_address.set("10.9.9.9")
    assert all(clocked.refusal(f"t{k}", f"l{k}", [(2, bytes([k]) * 20)]) is None for k in range(50))


def test_what_is_refused_is_not_counted() -> None:
    clocked = Clocked(session=1, key=1, identity=100, node=100, burst_seconds=5)
    assert clocked.admitted(5, key="k") == 5
    for _ in range(50):
        assert clocked.refusal("s", "other key", (ADA,)) is not None  # the session is the reason
    assert clocked.admitted(9, session="t", key="other key") == 5


def test_a_node_has_a_bound_for_everybody_together_and_keeps_the_last_fifth_for_small_askers() -> None:
    clocked = Clocked(node=10, session=1000, key=1000, identity=1000, burst_seconds=10)
    flood = clocked.admitted(200)
    assert flood == 81 + ALLOWANCE
    refused = clocked.refusal()
    assert refused is not None
    assert refused.code == "reserved"
    assert clocked.refusal("bob", "bob", (BOB,)) is None


def test_the_last_places_for_runs_are_kept_as_well() -> None:
    clocked = Clocked(places=0.19)
    assert clocked.admitted(20) == ALLOWANCE
    assert clocked.admitted(3, "bob", "bob", (BOB,)) == 3
    clocked.now += 2
    assert clocked.admitted(20) == 2
    clocked.places = 0.21
    assert clocked.admitted(20) == 20


def test_a_new_session_of_the_same_identity_gets_no_new_allowance() -> None:
    clocked = Clocked(places=0.1)
    assert sum(clocked.admitted(1, f"session {k}", f"key {k}") for k in range(50)) == ALLOWANCE


def test_further_runs_of_a_request_use_up_nothing_of_whose_it_is() -> None:
    """Whoever sees a request can ask for the runs that it names, and pays with his own address for that."""
    clocked = Clocked(burst_seconds=1, session=2, key=2, identity=2, address=5, node=100)
    assert clocked.admitted(1) == 1
    for _ in range(4):
        clocked.quotas.admit(session="s", key="k", identities=(ADA,), again=True)
    levels = {kind: buckets.level(name) for (kind, buckets), name in zip(
        clocked.quotas._runs.items(), ("s", "k", f"1/{ADA[1].hex()}", "10.0.0.1", NODE), strict=True
    )}  # fmt: skip
    assert levels == {"session": 1, "key": 1, "identity": 1, "address": 0, NODE: 95}
    with pytest.raises(Refusal, match="network address"):
        clocked.quotas.admit(session="s", key="k", identities=(ADA,), again=True)


def test_as_many_runs_as_a_request_names_count_as_one() -> None:
    counted: list[bool] = []
    quotas: Any = SimpleNamespace(admit=lambda again, **_: counted.append(not again))
    me: Any = SimpleNamespace(_quotas=quotas)
    certificate: Any = SimpleNamespace(counted=(("s", 1),), methods=())
    for made in range(2 * MAX_RUNS + 1):
        Signing.admit(me, certificate, "k", made)
    assert [at for at, once in enumerate(counted) if once] == [0, MAX_RUNS, 2 * MAX_RUNS]


def test_a_look_refuses_what_would_be_refused_and_takes_nothing() -> None:
    clocked = Clocked(session=1, key=1000, burst_seconds=5)
    for _ in range(100):
        clocked.quotas.check("s")
    assert clocked.admitted(9) == 5
    with pytest.raises(Refusal) as refused:
        clocked.quotas.check("s")
    assert (refused.value.code, refused.value.retry_after) == ("quota_exceeded", 1)
    clocked.quotas.check("another")


# -- the pools' reserve -----------------------------------------------------------------------------------------------


class World:
    """A signing service whose pools hold what the test says; runs end at once and take one of each."""

    active = 0

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: int) -> None:
        self.left, self.runs = left, 0
        monkeypatch.setattr(signing_module, "POOL_SECONDS", 0.05)
        self.quotas = Quotas(QuotasSection(), 100)
        self.quotas._allowances._clock = lambda: 1000.0
        parts: list[Any] = [self, None, self, self, lambda _: b"boot", SeededRng("r"), None, self.quotas]
        self.signing = Signing(roster(), *parts, run_seconds=1.0, places=Places(50))
        monkeypatch.setattr(signing_module, "sign", lambda *_: None)

    chain_id, addresses = 1, {"PubkeyRouter": "0x" + "11" * 20}

    def is_up(self, peer: int) -> bool:
        return True

    def available(self, peer: int) -> tuple[int, int]:
        return self.left, self.left + 7

    async def run(self, *_: Any, **__: Any) -> None:
        self.left -= 1
        self.runs += 1

    async def ask(self, who: str, times: int) -> list[str]:
        async def one(number: int) -> str:
            try:
                if who != "the node itself":
                    self.quotas.admit(session=who, key=who)
                key: Any = type("Key", (), {"public_key": type("P", (), {"to_bytes": lambda _: b""})()})()
                await self.signing.run_signing("sign", key, b"", bytes([number]) * 32, RunChoice((1, 2), 0))
            except Refusal as error:
                return error.code
            return "done"

        return [await asyncio.create_task(one(number)) for number in range(times)]


async def test_no_tenant_gets_into_the_reserve_further_than_its_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, left=40)
    assert world.quotas.kept == 20
    answers = await world.ask("flood", 40)
    assert answers.count("done") == 20 + ALLOWANCE
    assert set(answers) == {"done", "reserved"}
    assert world.left == 20 - ALLOWANCE
    assert await world.ask("small", 3) == ["done"] * 3
    assert await world.ask("the node itself", 5) == ["done"] * 5


async def test_whoever_waits_for_the_reserve_goes_on_when_the_pool_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, left=20)
    monkeypatch.setattr(signing_module, "POOL_SECONDS", 5.0)
    await world.ask("flood", int(ALLOWANCE))
    waiting = asyncio.create_task(world.ask("flood", 1))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    world.left = 30
    assert await waiting == ["done"]


# -- logins -----------------------------------------------------------------------------------------------------------


def blocked(clocked: Clocked, claim: str, address: str = "10.0.0.1") -> bool:
    client_address.set(address)
    try:
        clocked.quotas.check_login(claim)
    except Refusal as error:
        assert (error.status, error.code) == (429, "too_many_failures")
        assert error.retry_after > 0
        return True
    return False


def test_failed_logins_close_the_door_for_that_address_and_identity_only() -> None:
    clocked = Clocked(failed_logins=5)
    for _ in range(5):
        assert not blocked(clocked, "siwe/ada")
        clocked.quotas.login_failed("siwe/ada")
    assert blocked(clocked, "siwe/ada")
    assert not blocked(clocked, "siwe/bob")
    assert not blocked(clocked, "siwe/ada", "10.0.0.2")  # ada herself is not locked out
    clocked.now += LOGIN_SECONDS
    assert not blocked(clocked, "siwe/ada")


def test_an_address_that_fails_with_ever_other_names_is_closed_as_a_whole() -> None:
    clocked = Clocked(failed_logins=5)
    client_address.set("10.0.0.1")
    for number in range(5 * CLAIMS):
        clocked.quotas.login_failed(f"siwe/{number}")
    assert blocked(clocked, "siwe/new")
    assert not blocked(clocked, "siwe/new", "10.0.0.2")


def test_a_gateways_failures_are_its_own_business() -> None:
    clocked = Clocked(failed_logins=2, gateways=["10.9.9.9"])
    client_address.set("10.9.9.9")
    for _ in range(100):
        clocked.quotas.login_failed("siwe/ada")
    assert not blocked(clocked, "siwe/ada", "10.9.9.9")


def refused_login(clocked: Clocked, claim: str = "siwe/ada", address: str = "10.0.0.1") -> str:
    client_address.set(address)
    try:
        clocked.quotas.count_login(claim)
    except Refusal as error:
        assert error.retry_after > 0
        return error.code
    return ""


def test_logins_are_counted_when_they_begin_and_for_each_address() -> None:
    clocked = Clocked(logins=2, burst_seconds=5)
    assert [refused_login(clocked, f"siwe/{number}") for number in range(10)] == [""] * 10
    assert refused_login(clocked, "siwe/new") == "quota_exceeded"
    assert refused_login(clocked, "siwe/new", "10.0.0.2") == ""
    clocked.now += 1
    assert refused_login(clocked) == ""


def test_a_flood_of_logins_from_everywhere_leaves_everybody_a_few() -> None:
    clocked = Clocked(logins=1000, logins_in_all=100, burst_seconds=1)
    codes = [refused_login(clocked, address=f"10.1.0.{number % 2}") for number in range(200)]
    assert codes[:81] == [""] * 81
    assert codes.count("") == 81 + 2 * ALLOWANCE
    assert set(codes[100:]) == {"reserved"}
    assert refused_login(clocked, address="10.2.0.1") == ""


def test_a_gateways_logins_are_counted_in_all_only() -> None:
    clocked = Clocked(logins=1, logins_in_all=20, burst_seconds=1, gateways=["10.9.9.9"])
    assert [refused_login(clocked, address="10.9.9.9") for _ in range(21)] == [""] * 20 + ["quota_exceeded"]


def asked(clocked: Clocked, claim: str, times: int, address: str = "10.0.0.1") -> int:
    """How many of so many questions to contract wallets are let through."""
    client_address.set(address)
    done = 0
    for _ in range(times):
        try:
            clocked.quotas.count_wallet_call(claim)
            done += 1
        except Refusal as error:
            assert (error.status, error.code) == (429, "quota_exceeded")
            assert error.retry_after > 0
    return done


def test_what_contract_wallets_are_asked_is_counted_whatever_they_answer() -> None:
    clocked = Clocked(failed_logins=5)
    assert asked(clocked, "siwe/ada", 50) == 5 * CALLS_PER_LOGIN
    assert asked(clocked, "siwe/bob", 50) == 5 * CALLS_PER_LOGIN
    assert asked(clocked, "siwe/ada", 50, "10.0.0.2") == 5 * CALLS_PER_LOGIN  # ada herself is not locked out
    assert sum(asked(clocked, f"siwe/{number}", 50) for number in range(50)) == 5 * CALLS_PER_LOGIN * (CLAIMS - 2)


def test_turns_are_kept_for_an_address_and_behind_a_gateway_for_a_claim() -> None:
    clocked = Clocked(gateways=["10.9.9.9"])
    client_address.set("10.0.0.1")
    assert clocked.quotas.tenant("siwe/ada") == clocked.quotas.tenant("siwe/bob")
    client_address.set("10.9.9.9")
    assert clocked.quotas.tenant("siwe/ada") != clocked.quotas.tenant("siwe/bob")


@pytest.mark.parametrize(("proof", "claim"), [
    ({"message": "localhost wants you:\n0x" + "ab" * 20 + "\n\nmore", "signature": "0x"}, "email/0x" + "ab" * 20),
    ({"message": "x" * 100_000}, "email/"),
    ({"address": "ada@example.org"}, "email/ada@example.org"), ({"credential_id": "abc"}, "email/abc"),
    ({"address": 5}, "email"), ({}, "email"), ([], "email"), (None, "email"),
])  # fmt: skip
def test_a_claim_is_what_the_proof_says_in_plain_words(proof: object, claim: str) -> None:
    assert claim_of("email", proof) == claim


def test_what_is_remembered_is_bounded_and_holds_no_name() -> None:
    clocked = Clocked()
    for number in range(25_000):
        client_address.set(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        clocked.quotas.login_failed("email/canary@example.org")
        clocked.refusal(f"session {number}", f"key {number}", [(1, number.to_bytes(20, "big"))])
    tables = [clocked.quotas._failures, clocked.quotas._failed_claims, *clocked.quotas._runs.values()]
    assert all(len(table._levels) <= 20_000 for table in tables)
    assert not any("canary" in name for table in tables for name in table._levels)


def test_lists_are_counted_for_whoever_asks_and_looking_counts_nothing() -> None:
    quotas = Clocked().quotas
    quotas._listings._clock = lambda: 0.0
    for _ in range(LISTINGS):
        for _ in range(3):
            quotas.check_listing(ADA)
        quotas.count_listing(ADA)
    with pytest.raises(Refusal) as refused:
        quotas.check_listing(ADA)
    assert (refused.value.code, refused.value.retry_after) == ("quota_exceeded", math.ceil(LISTING_SECONDS / LISTINGS))
    quotas.count_listing(BOB)
