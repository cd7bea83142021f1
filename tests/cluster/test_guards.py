"""Every guard at every endpoint of a real node: spoilt in one thing a body is refused for that, before it costs.

Whoever adds an endpoint adds a column, whoever adds a guard a row; where a guard does not stand, the table says why.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from eth_account import Account
from session_kit import SIGNERS, Opened, codes, new_key, new_statement, open_session, prove, revoke

from cluster import Cluster
from keyquorum import intents
from keyquorum.auth.commitment import Commitment
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.formats import jws
from keyquorum.node import api
from keyquorum.node.chain import chain_view
from keyquorum.node.services import sessions, signing
from keyquorum.refusal import Refusal
from keyquorum.serving.buckets import Buckets

pytestmark = pytest.mark.usefixtures("refusals_uncounted")

SIGN, LOGIN, LIST, REVOKE = "/v1/sign", "/v1/sessions", "/v1/sessions/list", "/v1/revocations"
COMMIT = "/v1/commitments"
SIGNED, IN_SESSION, WITH_RUN = (SIGN, LOGIN, LIST, REVOKE), (SIGN, LIST, REVOKE), (SIGN, LOGIN, REVOKE)
OPEN = {
    "/v1/network": "what the chain shows anyway",
    "/v1/keys/{id}": "what the chain shows anyway",
    "/v1/openapi.json": "a document",
    "/livez": "whether the process lives",
    "/readyz": "no secret, and asked by probes",
    "/metrics": "no secret, and asked by probes",
}
ELSEWHERE = "eip155:31337:0x0000000000000000000000000000000000000001"
REACHED = "reached"


@dataclass
class Post:
    """A body before it is signed: a test spoils one thing of it."""

    path: str
    key: SessionPrivateKey = field(default_factory=new_key)
    claims: dict[str, Any] = field(default_factory=dict)
    rest: dict[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        if not self.claims:
            return self.rest
        signing_input = jws.make_input("ES256", "keyquorum-request+jws", self.claims)
        return {"request": jws.assemble(signing_input, self.key.sign(signing_input))} | self.rest


@dataclass
class World:
    """One node, asked alone; `seen` are the costly things that it did since it was last emptied, in order."""

    cluster: Cluster
    key: str
    session: Opened
    stranger: Opened
    ended: Opened
    for_transactions: Opened
    for_another_key: Opened
    seen: list[str] = field(default_factory=list)

    async def post(self, path: str, session: Opened | None = None, ahead: int = 0, **statement: Any) -> Post:
        """A body that the node serves; `ahead`: how far its clock will be ahead then."""
        held = session or self.session
        claims = {
            "network": self.cluster.network.id, "id": secrets.token_urlsafe(24), "exp": int(time.time()) + ahead + 50,
            "key": "*", "runs": [list(SIGNERS)], "intent": {},
        }  # fmt: skip
        rest: dict[str, Any] = {"certificate": held.token, "run": 0}
        if held.links:
            rest["delegations"] = list(held.links)
        if path == SIGN:
            claims |= {"kind": "sign", "key": self.key, "intent": intents.message_intent("hello")}
        if path == LIST:
            claims, rest = claims | {"kind": "sessions", "runs": []}, rest
            del rest["run"]
        if path == REVOKE:
            claims |= {"kind": "revoke", "intent": {"session": held.last}}
        if path not in (LOGIN, COMMIT):
            return Post(path, held.key, claims, rest)
        if path == COMMIT:
            made = await new_statement(self.cluster, held.key.public, **statement)
            token = f"a-token-of.{secrets.token_hex(16)}.somebody"
            return Post(path, rest=Commitment.to_token("discord", token, made).to_json())
        # Logins step up, so that they show a certificate too.
        kept = {"expires": held.statement.expires} | statement
        made = await new_statement(self.cluster, held.key.public, **kept)
        here = replace(made, network=self.cluster.network.id)
        intent = {
            "statement": made.to_json(), "method": "siwe", "proof": prove(Account.create(), here),
            "certificate": held.token,
        }  # fmt: skip
        return Post(path, held.key, claims | {"kind": "login", "id": made.challenge, "intent": intent}, {"run": 0})

    async def ask(self, post: Post) -> str:
        self.seen.clear()
        (code,) = codes([await self.cluster.post(1, post.path, post.body())])
        return code


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def opened(cluster: Cluster) -> tuple[Any, ...]:
    """A key, its owner's session, a stranger's, and of the owner: one that was ended, and two that are narrow."""
    await cluster.pool_filled()
    async with cluster.client() as client:
        key = (await client.mint()).key
    session, ended = await open_session(cluster, cluster.user), await open_session(cluster, cluster.user)
    stranger = await open_session(cluster, Account.create())
    assert codes(await revoke(cluster, ended, {"session": ended.id})) == [""] * 3
    transactions = await open_session(cluster, cluster.user, scopes=(3,))
    other = await open_session(cluster, cluster.user, keys=("0x" + "77" * 32,))
    return f"0x{key.token_id:064x}", session, stranger, ended, transactions, other


@pytest_asyncio.fixture(loop_scope="session")
async def world(cluster: Cluster, opened: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Node 1 with an eye on whatever costs it something; the run itself is not made."""
    monkeypatch.setattr(chain_view, "FRESH_SECONDS", 0.0)
    node, made = cluster.nodes[1], World(cluster, *opened)

    def watch(thing: Any, name: str, word: str) -> None:
        real = getattr(thing, name)

        def watched(*args: Any, **named: Any) -> Any:
            made.seen.append(word)
            return real(*args, **named)

        monkeypatch.setattr(thing, name, watched)

    watch(node._view, "authorisation", "chain")
    watch(node._view, "run_guarded", "chain")
    watch(node._view, "recent_block_time", "chain")
    watch(node._view, "is_recent_block", "chain")
    watch(node.commitments._store, "commit", "kept")

    async def run_signing(*_: Any) -> Any:
        made.seen.append("run")
        raise Refusal(REACHED, "a run would be made", "none", 409)

    monkeypatch.setattr(node.signing, "run_signing", run_signing)
    monkeypatch.setattr(node.commitments, "_configured", frozenset({"discord"}))
    # Nobody is locked out by what other tests have asked for.
    for quotas in (node.sessions._quotas._runs, node.sessions._quotas._logins):
        for name in list(quotas):
            monkeypatch.setitem(quotas, name, Buckets(1000, 1.0))
    for name in ("_failures", "_failed_claims", "_asked", "_asked_claims"):
        monkeypatch.setattr(node.sessions._quotas, name, Buckets(1000, 1.0))
    yield made


Spoil = Callable[[World, str, pytest.MonkeyPatch], Awaitable[Post]]


def claim(**changes: Any) -> Spoil:
    async def spoil(world: World, path: str, _: pytest.MonkeyPatch) -> Post:
        post = await world.post(path)
        post.claims |= {name: value() if callable(value) else value for name, value in changes.items()}
        return post

    return spoil


def now(after: int) -> Callable[[], int]:
    return lambda: int(time.time()) + after


async def other_kind(world: World, path: str, _: pytest.MonkeyPatch) -> Post:
    post = await world.post(path)
    post.claims["kind"] = {SIGN: "revoke", LOGIN: "revoke", REVOKE: "login", LIST: "mint"}[path]
    return post


async def another_signer(world: World, path: str, _: pytest.MonkeyPatch) -> Post:
    return replace(await world.post(path), key=new_key())


def put_certificate(post: Post, token: str) -> Post:
    if "certificate" in post.rest:
        post.rest["certificate"] = token
    else:
        post.claims["intent"]["certificate"] = token
    return post


async def not_by_the_network(world: World, path: str, _: pytest.MonkeyPatch) -> Post:
    head, payload, _own = world.session.token.split(".")
    return put_certificate(await world.post(path), f"{head}.{payload}.{world.stranger.token.split('.')[2]}")


def set_clocks(monkeypatch: pytest.MonkeyPatch, ahead: int) -> None:
    clock = SimpleNamespace(time=lambda: time.time() + ahead, monotonic=time.monotonic)
    monkeypatch.setattr(sessions, "time", clock)
    monkeypatch.setattr(signing, "time", clock)


async def too_late(world: World, path: str, monkeypatch: pytest.MonkeyPatch) -> Post:
    set_clocks(monkeypatch, 4000)
    return await world.post(path, ahead=4000, expires=int(time.time()) + 9000)


async def ended(world: World, path: str, _: pytest.MonkeyPatch) -> Post:
    return await world.post(path, world.ended)


async def lent_by_a_stranger(world: World, path: str, _: pytest.MonkeyPatch) -> Post:
    forged = replace(world.session, key=new_key()).lend()
    return await world.post(path, forged)


async def lent_too_much(world: World, path: str, _: pytest.MonkeyPatch) -> Post:
    return await world.post(path, world.for_transactions.lend(scopes=(1,)))


async def lent_until_before(world: World, path: str, monkeypatch: pytest.MonkeyPatch) -> Post:
    lent = world.session.lend(expires=int(time.time()) + 100)
    set_clocks(monkeypatch, 500)
    return await world.post(path, lent, ahead=500)


def statement(**changes: Any) -> Spoil:
    async def spoil(world: World, path: str, _: pytest.MonkeyPatch) -> Post:
        found = {name: value() if callable(value) else value for name, value in changes.items()}
        return await world.post(path, **found)

    return spoil


async def another_run(world: World, path: str, _: pytest.MonkeyPatch) -> Post:
    post = await world.post(path)
    post.rest["run"] = 1
    return post


async def another_session(world: World, path: str, _: pytest.MonkeyPatch) -> Post:
    return put_certificate(await world.post(path), world.stranger.token)


async def nobodys_proof(world: World, path: str, _: pytest.MonkeyPatch) -> Post:
    post = await world.post(path)
    post.claims["intent"]["proof"] = post.claims["intent"]["proof"] | {"signature": "0x" + "11" * 65}
    return post


async def a_strangers(world: World, path: str, _: pytest.MonkeyPatch) -> Post:
    post = await world.post(path, world.stranger)
    if path == REVOKE:
        post.claims["intent"] = {"session": world.session.id}
    return post


async def for_another_key(world: World, path: str, _: pytest.MonkeyPatch) -> Post:
    post = await world.post(path, world.for_another_key)
    if path == REVOKE:
        post.claims["intent"] = {"key": world.key}
    return post


async def without_scope(world: World, path: str, _: pytest.MonkeyPatch) -> Post:
    post = await world.post(path, world.for_transactions)
    if path == REVOKE:
        post.claims["intent"] = {"key": world.key}
    return post


async def a_delegate(world: World, path: str, _: pytest.MonkeyPatch) -> Post:
    post = await world.post(path, world.session.lend())
    if path == REVOKE:
        post.claims["intent"] = {"session": world.session.id}
    return post


async def used_up(world: World, path: str, monkeypatch: pytest.MonkeyPatch) -> Post:
    node = world.cluster.nodes[1]
    quotas = node.sessions._quotas
    for kept in (quotas._runs, quotas._logins):
        for name in kept:
            empty = Buckets(1, 1e6)
            monkeypatch.setattr(empty, "wait", lambda *_: 7.0)
            monkeypatch.setitem(kept, name, empty)
    monkeypatch.setattr(node.commitments._in_all, "wait", lambda *_: 7.0)
    return await world.post(path)


@dataclass(frozen=True)
class Guard:
    """What is spoilt, and the word of refusal at each endpoint; `last`: the chain may have been asked before."""

    spoil: Spoil
    at: dict[str, str]
    nowhere_else: str
    last: bool = False


def everywhere(paths: tuple[str, ...], code: str) -> dict[str, str]:
    return dict.fromkeys(paths, code)


UNSIGNED = "a commitment is signed by nobody: it says of a hash only that it was there"
GUARDS = {
    "signed by the session key": Guard(another_signer, everywhere(SIGNED, "bad_signature"), UNSIGNED),
    "the request's network": Guard(claim(network=ELSEWHERE), everywhere(SIGNED, "wrong_network"), UNSIGNED),
    "the request's end": Guard(claim(exp=now(-1000)), everywhere(SIGNED, "request_expired"), UNSIGNED),
    "no request of tomorrow": Guard(claim(exp=now(1000)), everywhere(SIGNED, "clock_skew"), UNSIGNED),
    "the request's kind": Guard(other_kind, everywhere(SIGNED, "bad_kind"), UNSIGNED),
    "a certificate of the network": Guard(not_by_the_network, everywhere(SIGNED, "bad_certificate"), UNSIGNED, True),
    "the certificate's end": Guard(too_late, everywhere(SIGNED, "certificate_expired"), UNSIGNED, True),
    "not revoked": Guard(ended, everywhere(SIGNED, "session_revoked"), UNSIGNED, True),
    "lent by whom it belongs to": Guard(
        lent_by_a_stranger, everywhere(IN_SESSION, "bad_signature"), "a login is nothing that a delegate does"
    ),
    "lent no more than one has": Guard(
        lent_too_much, everywhere(IN_SESSION, "wider"), "a login is nothing that a delegate does"
    ),
    "lent until then": Guard(
        lent_until_before, everywhere(IN_SESSION, "certificate_expired"), "a login is nothing that a delegate does"
    ),
    "a run of the request": Guard(another_run, everywhere(WITH_RUN, "bad_run"), "these make no run"),
    "a run with this node": Guard(
        claim(runs=[[2, 3, 4]]), everywhere(WITH_RUN, "bad_signers"), "these make no run"
    ),
    "a run of as many as sign": Guard(claim(runs=[[1, 2]]), everywhere(WITH_RUN, "bad_signers"), "these make no run"),
    "a run of members": Guard(claim(runs=[[1, 2, 9]]), everywhere(WITH_RUN, "bad_signers"), "these make no run"),
    "the statement's network": Guard(
        statement(network=ELSEWHERE), everywhere((LOGIN, COMMIT), "wrong_network"), "no statement is shown here"
    ),
    "the statement's end": Guard(
        statement(expires=now(-5)), everywhere((LOGIN, COMMIT), "statement_expired"), "no statement is shown here"
    ),
    "no endless session": Guard(
        statement(expires=now(25 * 3600)), everywhere((LOGIN, COMMIT), "session_too_long"), "no statement is shown here"
    ),
    "the statement's block": Guard(
        statement(block="0x" + "12" * 32),
        everywhere((LOGIN, COMMIT), "block_not_recent"), "no statement is shown here", True,
    ),
    "a step-up of one's own session": Guard(another_session, {LOGIN: "wrong_session"}, "no step-up", True),
    "the proof": Guard(nobodys_proof, {LOGIN: "bad_wallet_signature"}, "a certificate stands for the proof", True),
    "whose it is": Guard(
        a_strangers, {SIGN: "not_permitted", REVOKE: "not_yours"}, "everybody may log in, and list his own", True
    ),
    "the session's keys": Guard(
        for_another_key, {SIGN: "key_not_in_session", REVOKE: "not_yours"}, "nothing is done with a key", True
    ),
    "the session's scopes": Guard(
        without_scope, {SIGN: "scope_not_in_session", REVOKE: "not_yours"}, "nothing is done with a key", True
    ),
    "no delegate": Guard(
        a_delegate, {LIST: "not_yours", REVOKE: "not_yours"}, "a delegate signs; he does not log in", True
    ),
    "quotas": Guard(
        used_up, everywhere(WITH_RUN, "quota_exceeded") | {COMMIT: "too_many_commitments"},
        "a list costs one look into a table, and requests themselves are limited for each address", True,
    ),
}  # fmt: skip
CASES = [(name, path) for name, guard in GUARDS.items() for path in guard.at]


async def test_every_endpoint_is_in_the_table(cluster: Cluster) -> None:
    routes = {(route.method, route.path) for route in api._routes(cluster.nodes[1])}
    assert {path for method, path in routes if method == "GET"} == set(OPEN)
    assert {path for method, path in routes if method != "GET"} == {*SIGNED, COMMIT}
    for name, guard in GUARDS.items():
        assert set(guard.at) <= {*SIGNED, COMMIT}, name
        assert guard.nowhere_else, name


@pytest.mark.parametrize("path", [*SIGNED, COMMIT])
async def test_what_is_not_spoilt_passes_every_guard(world: World, path: str) -> None:
    code = await world.ask(await world.post(path))
    assert code == (REACHED if path in WITH_RUN else "")
    assert world.seen[-1:] == {LIST: [], COMMIT: ["kept"]}.get(path, ["run"])
    assert world.seen.count("run") == (path in WITH_RUN)


@pytest.mark.parametrize(("name", "path"), CASES)
async def test_each_guard_stands_at_each_endpoint_and_before_what_costs(
    world: World, name: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = GUARDS[name]
    post = await guard.spoil(world, path, monkeypatch)
    assert await world.ask(post) == guard.at[path]
    assert not {"run", "kept"} & set(world.seen)
    assert guard.last or not world.seen


# -- what is counted, at which block, for which process --------------------------------------------------------------


@pytest.mark.parametrize(("path", "counted"), [
    (SIGN, {"node", "session", "key", "identity", "address"}),
    (LOGIN, {"node", "session", "identity", "address"}),
    (REVOKE, {"node", "session", "identity", "address"}),
])  # fmt: skip
async def test_each_run_is_counted_for_all_who_are_behind_it_before_it_is_made(
    world: World, path: str, counted: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, buckets in world.cluster.nodes[1].sessions._quotas._runs.items():
        monkeypatch.setattr(buckets, "take", lambda who, count=1.0, name=name: world.seen.append(f"{name}: {who}"))
    assert await world.ask(await world.post(path)) == REACHED
    assert world.seen[-1] == "run"
    found = [one for one in world.seen if ":" in one]
    assert {one.partition(":")[0] for one in found} == counted
    # Once each; a step-up is counted for both of its identities.
    assert len(found) == len(set(found)) == len(counted) + (path == LOGIN)
    thumbprint = world.session.key.public.thumbprint
    assert f"session: {thumbprint if path == LOGIN else world.session.id}" in found


async def test_every_login_is_counted_and_those_that_fail_end_more_of_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    quotas, most = world.cluster.nodes[1].sessions._quotas, 3
    monkeypatch.setattr(quotas, "_failed_claims", Buckets(most, 1e9))
    before = {name: buckets.level(name) for name, buckets in quotas._logins.items() if name == "node"}
    post = await nobodys_proof(world, LOGIN, monkeypatch)
    found = []
    for _ in range(most + 2):
        found.append(await world.ask(post))
        if found[-1] == "too_many_failures":
            assert world.seen == [], "who is refused for his failures costs no look at the chain"
    assert found == ["bad_wallet_signature"] * most + ["too_many_failures"] * 2
    assert before
    # Another account at the same address still logs in.
    assert await world.ask(await world.post(LOGIN)) == REACHED


async def test_logins_use_up_the_quota_of_their_address(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(world.cluster.nodes[1].sessions._quotas._logins, "address", Buckets(2, 1e9))
    found = [await world.ask(await world.post(LOGIN)) for _ in range(3)]
    assert found == [REACHED, REACHED, "quota_exceeded"]


async def test_commitments_use_up_the_quota_of_their_address(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    commitments = world.cluster.nodes[1].commitments
    monkeypatch.setattr(commitments, "_of_clients", (Buckets(2, 1e9), Buckets(1000, 1.0)))
    found = [await world.ask(await world.post(COMMIT)) for _ in range(3)]
    assert found == ["", "", "too_many_commitments"]
    assert world.seen == []
