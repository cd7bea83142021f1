"""Random input against plain models: what the contracts accept, and that no order of actions breaks what must hold."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from chains import PyEvmChain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from world import ACTION, ADDRESS, GOOGLE, NETWORK_SECRET, WEBAUTHN, World, public_key, sign_digest

from keyquorum.algebra.curve import Point
from keyquorum.algebra.field import Q
from keyquorum.chain.contracts import Reverted
from keyquorum.chain.registry import is_host, is_url
from keyquorum.evm.address import checksum
from keyquorum.evm.digests import key_batch_digest
from keyquorum.evm.keys import eth_address, token_id

# The deadline is off because the machine's load must not decide a test.
quick = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
P = 2**256 - 2**32 - 977


@cache
def shared() -> tuple[World, Any]:
    world = World(PyEvmChain())
    return world, world.chain.snapshot()


def fresh() -> World:
    world, snapshot = shared()
    world.chain.restore(snapshot)
    world.next_secret = 2000
    return world


def refused(call: Any, *arguments: Any, **keywords: Any) -> str | None:
    """The name of the error with which a call is refused, or None."""
    try:
        call(*arguments, **keywords)
    except Reverted as error:
        return error.name
    return None


def mutations() -> st.SearchStrategy[bytes]:
    points = st.integers(1, Q - 1).map(public_key)
    flips = st.tuples(points, st.integers(0, 64), st.integers(1, 255)).map(
        lambda t: t[0][: t[1]] + bytes([t[0][t[1]] ^ t[2]]) + t[0][t[1] + 1 :]
    )
    cuts = st.tuples(points, st.integers(0, 70)).map(lambda t: (t[0] + bytes(5))[: t[1]])
    edges = st.tuples(*[st.sampled_from([0, 1, 7, P - 1, P, P + 1, 2**256 - 1])] * 2).map(
        lambda t: b"\4" + t[0].to_bytes(32, "big") + t[1].to_bytes(32, "big")
    )
    return st.one_of(points, flips, cuts, edges, st.binary(max_size=70))


@quick
@given(mutations())
def test_the_contract_takes_for_a_point_what_libsecp256k1_takes_for_one(data):
    router = fresh().router
    try:
        expected = eth_address(Point.from_bytes_checked(data).to_bytes())
    except ValueError:
        assert refused(router.read, "deriveEthAddressFromPubkey", data) == "BadPubkey"
    else:
        assert checksum(router.read("deriveEthAddressFromPubkey", data)) == expected


@quick
@given(st.lists(st.integers(1, Q - 1), min_size=1, max_size=5), st.integers(0, 2**64 - 1))
def test_the_batch_digest_is_what_the_nodes_compute(secrets, batch):
    router = fresh().router
    keys = [public_key(secret) for secret in secrets]
    assert router.read("batchDigest", keys, batch) == key_batch_digest(31337, router.address, 1, batch, keys)


@quick
@given(st.integers(0, 64), st.integers(1, 255))
def test_a_signature_with_any_byte_changed_admits_nothing(position, change):
    world = fresh()
    keys = [public_key(2000)]
    good = sign_digest(NETWORK_SECRET, key_batch_digest(31337, world.router.address, 1, 2, keys))
    bad = good[:position] + bytes([good[position] ^ change]) + good[position + 1 :]
    errors = {"NotSignedByNetworkKey", "ECDSAInvalidSignature", "ECDSAInvalidSignatureS"}
    assert refused(world.chain.call, world.router.address, world.router.encode("registerKeys", keys, 2, bad)) in errors
    world.chain.call(world.router.address, world.router.encode("registerKeys", keys, 2, good))


@quick
@given(st.lists(st.one_of(st.integers(0, 300), st.just(2**256 - 1)), max_size=8))
def test_scopes_are_kept_as_given_or_refused(scopes):
    world = fresh()
    token = world.mint()
    error = refused(world.permissions.send, "addPermittedAction", token, b"cid", scopes, account=world.user)
    if any(not 1 <= scope <= 255 for scope in scopes):
        assert error == "BadScope"
    else:
        assert error is None
        bitmap = sum(1 << scope for scope in set(scopes))
        assert world.permissions.read("authorisation", token, ACTION, b"cid").scopes == bitmap


edges = ["", "a", "-", "a-", "-a", "xn--a", "a" * 63, "a" * 64, "0", "00", "255", "256", "1a", "A", "\u00e4", "a b"]
labels = st.one_of(st.sampled_from(edges), st.text("ab01-", min_size=1, max_size=4))
hosts = st.lists(labels, min_size=1, max_size=5).map(".".join)
ports = st.sampled_from(["", ":", ":0", ":1", ":01", ":80", ":443", ":8080", ":65535", ":65536", ":8a", ":80:80"])
urls = st.tuples(
    st.sampled_from(["http://", "https://", "http://", "HTTP://", "ws://", ""]),
    hosts,
    ports,
    st.sampled_from(["", "", "/", "?", "#", "@a", " ", "\0"]),
).map("".join)


@settings(quick, max_examples=300)
@given(urls)
def test_the_contract_takes_for_a_url_what_its_readers_take_for_one(url):
    world = fresh()
    call = world.staking.encode("updateEndpoint", url, "h", 1)
    error = refused(world.chain.call, world.staking.address, call, world.nodes[0].address)
    assert error == (None if is_url(url) else "BadUrl")


@settings(quick, max_examples=200)
@given(hosts)
def test_the_contract_takes_for_a_host_what_its_readers_take_for_one(host):
    world = fresh()
    call = world.staking.encode("updateEndpoint", "http://u", host, 1)
    error = refused(world.chain.call, world.staking.address, call, world.nodes[0].address)
    assert error == (None if is_host(host) else "BadHost")


# ---------------------------------------------------------------------------------------------------------- invariants

METHODS = [(ADDRESS, b"\1" * 20), (ACTION, b"cid"), (WEBAUTHN, b"\2" * 32), (GOOGLE, b"\2" * 32)]
PEOPLE = st.integers(0, 2)
TOKENS = st.integers(0, 10**6)
scopes_lists = st.lists(st.integers(1, 8), max_size=3)


class Ledger(RuleBasedStateMachine):
    """The contracts beside a plain model; after any sequence of actions they must agree on everything."""

    def __init__(self) -> None:
        super().__init__()
        self.world = fresh()
        self.people = [self.world.user, self.world.other, self.world.third]
        self.pool: list[int] = [token_id(public_key(1000 + i)) for i in range(8)]
        self.owner: dict[int, int | None] = {}
        self.grants: dict[int, dict[tuple[int, bytes], set[int]]] = {}
        self.epochs: dict[int, int] = {}

    def _alive(self) -> list[int]:
        return [token for token, owner in self.owner.items() if owner is not None]

    def _choose(self, number: int) -> int:
        alive = self._alive()
        return alive[number % len(alive)]

    def _minted(self, token: int, person: int) -> None:
        assert token == self.pool.pop(0)
        assert token not in self.owner
        self.owner[token], self.grants[token], self.epochs[token] = person, {}, 1

    @initialize()
    def first(self) -> None:
        self._minted(self.world.mint(self.people[0]), 0)

    @rule(count=st.integers(1, 3))
    def register(self, count: int) -> None:
        self.pool += self.world.fill(count)

    @precondition(lambda self: self.pool)
    @rule(person=PEOPLE)
    def mint(self, person: int) -> None:
        self._minted(self.world.mint(self.people[person]), person)

    @precondition(lambda self: self.pool)
    @rule(payer=PEOPLE, person=PEOPLE, which=st.sets(st.integers(0, 3)), scopes=scopes_lists)
    def mint_for(self, payer: int, person: int, which: set[int], scopes: list[int]) -> None:
        methods = [METHODS[i] for i in sorted(which)]
        types, ids = [kind for kind, _ in methods], [identity for _, identity in methods]
        arguments = (2, self.people[person].address, types, ids, [b""] * len(ids), [scopes] * len(ids), False)
        receipt = self.world.helper.send("mintNextAndTransfer", *arguments, account=self.people[payer])
        token = self.world.minted(receipt)
        self._minted(token, person)
        self.grants[token] = {method: set(scopes) for method in methods}

    @precondition(lambda self: not self.pool)
    @rule(person=PEOPLE)
    def mint_from_nothing(self, person: int) -> None:
        assert refused(self.world.mint, self.people[person]) == "PoolEmpty"

    @precondition(_alive)
    @rule(number=TOKENS, person=PEOPLE)
    def transfer(self, number: int, person: int) -> None:
        token = self._choose(number)
        owner = self.people[self.owner[token]]
        self.world.nft.send("transferFrom", owner.address, self.people[person].address, token, account=owner)
        self.owner[token], self.grants[token] = person, {}
        self.epochs[token] += 1

    @precondition(_alive)
    @rule(number=TOKENS)
    def burn(self, number: int) -> None:
        token = self._choose(number)
        self.world.nft.send("burn", token, account=self.people[self.owner[token]])
        self.owner[token], self.grants[token] = None, {}
        self.epochs[token] += 1

    @precondition(_alive)
    @rule(number=TOKENS, which=st.integers(0, 3), scopes=scopes_lists, person=PEOPLE)
    def permit(self, number: int, which: int, scopes: list[int], person: int) -> None:
        token, method = self._choose(number), METHODS[which]
        send = self.world.permissions.send
        arguments = (token, (*method, b""), scopes)
        error = refused(send, "addPermittedAuthMethod", *arguments, account=self.people[person])
        if person != self.owner[token]:
            assert error == "OnlyOwnerOf"
        elif method in self.grants[token]:
            assert error == "AlreadyPermitted"
        else:
            assert error is None
            self.grants[token][method] = set(scopes)

    @precondition(_alive)
    @rule(number=TOKENS, which=st.integers(0, 3), scope=st.integers(1, 8), add=st.booleans())
    def change_scope(self, number: int, which: int, scope: int, add: bool) -> None:
        token, method = self._choose(number), METHODS[which]
        name = f"{'add' if add else 'remove'}PermittedAuthMethodScope"
        owner = self.people[self.owner[token]]
        error = refused(self.world.permissions.send, name, token, *method, scope, account=owner)
        if method not in self.grants[token]:
            assert error == "NotPermitted"
            return
        assert error is None
        if add:
            self.grants[token][method].add(scope)
        else:
            self.grants[token][method].discard(scope)

    @precondition(_alive)
    @rule(number=TOKENS, which=st.integers(0, 3))
    def forbid(self, number: int, which: int) -> None:
        token, method = self._choose(number), METHODS[which]
        owner = self.people[self.owner[token]]
        error = refused(self.world.permissions.send, "removePermittedAuthMethod", token, *method, account=owner)
        assert error == (None if method in self.grants[token] else "NotPermitted")
        self.grants[token].pop(method, None)

    @invariant()
    def keys_are_conserved(self) -> None:
        world = self.world
        assert world.router.read("poolSize") == len(self.pool)
        assert world.nft.read("totalSupply") == len(self._alive())
        assert len({*self.pool, *self.owner}) == len(self.pool) + len(self.owner)

    def teardown(self) -> None:
        for token, owner in self.owner.items():
            address = 0 if owner is None else int(self.people[owner].address, 16)
            for method in METHODS:
                self._agree(token, method, address)
        for method in METHODS:
            listed = self.world.permissions.read("getTokenIdsForAuthMethod", *method)
            assert sorted(listed) == sorted(token for token, grants in self.grants.items() if method in grants)

    def _agree(self, token: int, method: tuple[int, bytes], owner: int) -> None:
        found = self.world.permissions.read("authorisation", token, *method)
        scopes = self.grants[token].get(method)
        assert int(found.owner, 16) == owner
        assert found.permitted == (scopes is not None)
        assert found.scopes == sum(1 << scope for scope in scopes or ())
        assert found.grantEpoch == self.epochs[token]
        assert token_id(found.pubkey) == token


def run_ledger(examples: int, steps: int) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Ledger,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_no_order_of_actions_loses_a_key_or_keeps_a_grant_alive():
    run_ledger(examples=6, steps=25)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_no_order_of_actions_loses_a_key_or_keeps_a_grant_alive_in_a_long_run():
    run_ledger(examples=200, steps=60)
