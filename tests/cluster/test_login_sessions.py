"""Sessions at real nodes: stepping up, lending, counting, listing, and ending them from one block to the next."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from eth_account import Account
from session_kit import (
    SIGNERS,
    ask,
    codes,
    login_body,
    new_key,
    new_statement,
    open_session,
    prove,
    revoke,
    runs_of,
    seen_by_all,
    sign_with,
)

from cluster import Cluster
from keyquorum import intents
from keyquorum.auth.request import MAX_LIFETIME
from keyquorum.auth.revocation import FOREVER
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.node.chain import chain_view
from keyquorum.node.openapi import document

pytestmark = pytest.mark.usefixtures("refusals_uncounted")

ALL = (1, 2, 3, 4)
OK = [""] * 3
TOGETHER = 32


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every read looks for a new block, so that no test need wait for a view to be a moment old."""
    monkeypatch.setattr(chain_view, "FRESH_SECONDS", 0.0)


@pytest_asyncio.fixture(loop_scope="session")
async def fresh(cluster: Cluster) -> AsyncIterator[Any]:
    """A key that `cluster.user` owns and that no other test touches."""
    await cluster.pool_filled()
    async with cluster.client() as client:
        yield (await client.mint()).key


async def permit(cluster: Cluster, key: Any, account: Any, *scopes: int) -> None:
    await cluster.send(1, "PKPPermissions", "addPermittedAddress", key.token_id, account.address, list(scopes))
    await seen_by_all(cluster)


def identity(account: Any) -> dict[str, Any]:
    return {"identity": {"type": 1, "id": account.address.lower()}}


# -- stepping up ----------------------------------------------------------------------------------------------------


async def test_a_second_method_opens_what_the_first_may_not_do_alone(cluster: Cluster, fresh: Any) -> None:
    one, two = Account.create(), Account.create()
    for account in (one, two):
        await permit(cluster, fresh, account, TOGETHER + 2)
    first = await open_session(cluster, one)
    assert codes(await sign_with(cluster, first, fresh.token_id)) == ["second_method_needed"] * 3
    both = await open_session(cluster, two, first)
    assert {each["id"] for each in both.claims["methods"]} == {one.address.lower(), two.address.lower()}
    assert (both.claims["jti"], both.claims["iat"]) == (first.claims["jti"], first.claims["iat"])
    assert codes(await sign_with(cluster, both, fresh.token_id)) == OK
    assert codes(await sign_with(cluster, first, fresh.token_id)) == ["second_method_needed"] * 3


@pytest.mark.parametrize("change", [
    {"keys": ("0x" + "22" * 32,)}, {"scopes": (2, 5)}, {"uses": 1001}, {"expires": 10_000},
])  # fmt: skip
async def test_stepping_up_widens_nothing(cluster: Cluster, change: dict[str, Any]) -> None:
    first = await open_session(cluster, Account.create(), keys=("0x" + "11" * 32,), scopes=(2,))
    if "expires" in change:
        change = {"expires": first.statement.expires + 1}
    wanted = {"keys": ("0x" + "11" * 32,), "scopes": (2,), "expires": first.statement.expires} | change
    statement = await new_statement(cluster, first.key.public, **wanted)
    body = login_body(first.key, statement, prove(Account.create(), statement), first)
    assert codes(await ask(cluster, "/v1/sessions", body)) == ["wider"] * 3


async def test_stepping_up_needs_the_same_session_key_and_a_live_session(cluster: Cluster) -> None:
    user = Account.create()
    first, other = await open_session(cluster, user), new_key()
    statement = await new_statement(cluster, other.public)
    body = login_body(other, statement, prove(user, statement), first)
    assert codes(await ask(cluster, "/v1/sessions", body)) == ["wrong_session"] * 3
    await revoke(cluster, first, {"session": first.id})
    statement = await new_statement(cluster, first.key.public)
    body = login_body(first.key, statement, prove(user, statement), first)
    assert codes(await ask(cluster, "/v1/sessions", body)) == ["session_revoked"] * 3


async def test_a_thief_of_a_session_does_not_outrun_its_end_by_proving_an_identity_of_his_own(
    cluster: Cluster, fresh: Any
) -> None:
    stolen = await open_session(cluster, cluster.user)
    ahead = await open_session(cluster, Account.create(), stolen, issued_at=int(time.time()) + 50)
    assert codes(await sign_with(cluster, ahead, fresh.token_id)) == OK
    await revoke(cluster, await open_session(cluster, cluster.user), {"session": stolen.id})
    assert codes(await sign_with(cluster, ahead, fresh.token_id)) == ["session_revoked"] * 3


# -- ending sessions ------------------------------------------------------------------------------------------------


async def test_a_revoked_session_is_refused_by_every_node_from_the_next_block_on(cluster: Cluster, fresh: Any) -> None:
    session, other = await open_session(cluster, cluster.user), await open_session(cluster, cluster.user)
    assert codes(await sign_with(cluster, session, fresh.token_id)) == OK
    answers = await revoke(cluster, session, {"session": session.id})
    assert [answer["before"] for _, answer in answers] == [FOREVER] * 3
    assert codes(await sign_with(cluster, session, fresh.token_id, "no", *ALL)) == ["session_revoked"] * 4
    assert codes(await revoke(cluster, session, {"session": other.id})) == ["session_revoked"] * 3
    assert codes(await sign_with(cluster, other, fresh.token_id)) == OK


async def test_another_session_of_the_same_person_ends_one_by_its_id(cluster: Cluster, fresh: Any) -> None:
    lost, held = await open_session(cluster, cluster.user), await open_session(cluster, cluster.user)
    assert codes(await revoke(cluster, held, {"session": lost.id})) == OK
    assert codes(await sign_with(cluster, lost, fresh.token_id, "no", *ALL)) == ["session_revoked"] * 4
    assert codes(await sign_with(cluster, held, fresh.token_id)) == OK


async def test_a_stranger_ends_nobodys_session(cluster: Cluster, fresh: Any) -> None:
    victim, stranger = await open_session(cluster, cluster.user), await open_session(cluster, Account.create())
    for intent in ({"session": victim.id}, identity(cluster.user), {"key": f"0x{fresh.token_id:064x}"}):
        assert codes(await revoke(cluster, stranger, intent)) == ["not_yours"] * 3, intent
    assert codes(await sign_with(cluster, victim, fresh.token_id)) == OK


async def test_a_node_does_not_end_a_session_that_it_cannot_tell_whose_it_is(cluster: Cluster) -> None:
    lost = await open_session(cluster, cluster.user, signers=(1, 2, 4))
    held = await open_session(cluster, cluster.user)
    assert codes(await ask(cluster, "/v1/revocations", held.body("revoke", {"session": lost.id}), 3)) == [
        "session_unknown"
    ]


async def test_revoking_an_identity_ends_all_of_its_sessions_and_a_new_login_begins_anew(
    cluster: Cluster, fresh: Any
) -> None:
    friend, before = Account.create(), int(time.time()) - 30
    await permit(cluster, fresh, friend, 2)
    sessions = [await open_session(cluster, friend, issued_at=before - k) for k in range(3)]
    assert codes(await revoke(cluster, sessions[1], identity(friend))) == OK
    for session in sessions:
        assert codes(await sign_with(cluster, session, fresh.token_id, "no", *ALL)) == ["session_revoked"] * 4
    assert codes(await sign_with(cluster, await open_session(cluster, friend), fresh.token_id)) == OK


async def test_the_asking_session_ends_with_its_identity_however_the_clock_of_the_request_stands(
    cluster: Cluster, fresh: Any
) -> None:
    friend = Account.create()
    await permit(cluster, fresh, friend, 2)
    session = await open_session(cluster, friend)
    early = int(time.time()) - 50
    assert codes(await revoke(cluster, session, identity(friend), expires=early)) == OK
    assert codes(await sign_with(cluster, session, fresh.token_id)) == ["session_revoked"] * 3


@pytest.mark.parametrize(("ahead", "lasts"), [(58, 3000), (58, 24 * 3600 + 50), (0, 24 * 3600)])
async def test_a_proof_that_is_dated_ahead_does_not_outrun_a_revocation(
    cluster: Cluster, ahead: int, lasts: int
) -> None:
    """Whoever holds a proof chooses issued-at and expiry; neither moves the certificate's time past the block's."""
    victim, now = Account.create(), int(time.time())
    thief = await open_session(cluster, victim, issued_at=now + ahead, expires=now + lasts)
    block = await cluster.rpc.block(thief.statement.block)
    assert block is not None
    assert thief.claims["iat"] <= int(block["timestamp"], 16) + 1
    own = await open_session(cluster, victim)
    await cluster.rpc.call("evm_mine")  # the chain goes on before the owner notices
    expires = int(block["timestamp"], 16) + 2 + MAX_LIFETIME  # two seconds after the block that the thief named
    assert codes(await revoke(cluster, own, identity(victim), expires=expires)) == OK
    newest = await cluster.rpc.block()
    assert newest is not None
    again = await open_session(cluster, victim, issued_at=int(newest["timestamp"], 16) + 1)
    for session, code in ((thief, "session_revoked"), (own, "session_revoked"), (again, "")):
        body = session.body("sessions", {}, run=False)
        assert codes(await ask(cluster, "/v1/sessions/list", body, *SIGNERS)) == [code] * 3


async def test_who_ends_all_his_sessions_logs_in_again_at_once_though_the_chain_sleeps(cluster: Cluster) -> None:
    async with cluster.client(account=Account.from_key(ACCOUNTS[9][1])) as client:
        await client.login()
        await client.sessions.revoke_all()
        await client.login()
        assert [one.revoked for one in await client.sessions.list() if one.current] == [False]


async def test_a_revoked_identity_is_taken_out_and_the_others_stay(cluster: Cluster, fresh: Any) -> None:
    gone, stays = Account.create(), Account.create()
    await permit(cluster, fresh, gone, 2)
    await permit(cluster, fresh, stays, 3)
    issued_at = int(time.time()) - 30
    both = await open_session(cluster, stays, await open_session(cluster, gone, issued_at=issued_at))
    assert codes(await sign_with(cluster, both, fresh.token_id)) == OK
    await revoke(cluster, both, identity(gone))
    # `stays` may sign transactions only, and nobody is left who may sign messages.
    assert codes(await sign_with(cluster, both, fresh.token_id)) == ["not_permitted"] * 3


async def test_whoever_manages_a_key_ends_all_sessions_as_far_as_that_key_goes(cluster: Cluster, fresh: Any) -> None:
    friend, manager, issued_at = Account.create(), Account.create(), int(time.time()) - 30
    await permit(cluster, fresh, friend, 2)
    await permit(cluster, fresh, manager, 6)
    await cluster.pool_filled()
    async with cluster.client() as client:
        other = (await client.mint()).key
    await permit(cluster, other, friend, 2)
    theirs = await open_session(cluster, friend, issued_at=issued_at)
    key = {"key": f"0x{fresh.token_id:064x}"}
    assert codes(await revoke(cluster, await open_session(cluster, manager, scopes=(1,)), key)) == ["not_yours"] * 3
    assert codes(await revoke(cluster, await open_session(cluster, manager, scopes=(6,)), key)) == OK
    assert codes(await sign_with(cluster, theirs, fresh.token_id, "no", *ALL)) == ["session_revoked"] * 4
    assert codes(await sign_with(cluster, theirs, other.token_id)) == OK


async def test_who_was_ended_for_a_key_does_not_end_others_for_it(cluster: Cluster, fresh: Any) -> None:
    manager = Account.create()
    await permit(cluster, fresh, manager, 6)
    thief = await open_session(cluster, manager, scopes=(6,), issued_at=int(time.time()) - 30)
    await cluster.send(1, "Sessions", "revokeSessionsOf", fresh.token_id)
    await seen_by_all(cluster)
    # The request itself names no key; what it asks for does.
    assert codes(await revoke(cluster, thief, {"key": f"0x{fresh.token_id:064x}"})) == ["session_revoked"] * 3


async def test_the_owner_ends_a_keys_sessions_on_the_chain_alone(cluster: Cluster, fresh: Any) -> None:
    session = await open_session(cluster, cluster.user, issued_at=int(time.time()) - 30)
    assert codes(await sign_with(cluster, session, fresh.token_id)) == OK
    await cluster.send(1, "Sessions", "revokeSessionsOf", fresh.token_id)
    await seen_by_all(cluster)
    assert codes(await sign_with(cluster, session, fresh.token_id, "no", *ALL)) == ["session_revoked"] * 4


async def test_a_transfer_voids_sessions_steps_and_delegations_at_first_sight(cluster: Cluster, fresh: Any) -> None:
    friend, buyer = Account.create(), Account.create()
    await permit(cluster, fresh, friend, 1, 5, 6)
    owner = await open_session(cluster, cluster.user)
    both = await open_session(cluster, friend, owner)
    lent = both.lend(uses=5)
    for session in (owner, both, lent):
        assert codes(await sign_with(cluster, session, fresh.token_id)) == OK
    async with cluster.client() as client:
        await client.transfer(fresh, buyer.address)
    await seen_by_all(cluster)
    for session in (owner, both, lent):
        assert codes(await sign_with(cluster, session, fresh.token_id, "no", *ALL)) == ["not_permitted"] * 4
    assert codes(await sign_with(cluster, await open_session(cluster, buyer), fresh.token_id)) == OK


# -- lending and counting -------------------------------------------------------------------------------------------


async def test_what_was_lent_three_times_works_and_a_fourth_is_refused(cluster: Cluster, fresh: Any) -> None:
    session = await open_session(cluster, cluster.user)
    third = session.lend().lend(scopes=(2,)).lend(uses=3)
    assert codes(await sign_with(cluster, third, fresh.token_id)) == OK
    assert codes(await sign_with(cluster, third.lend(), fresh.token_id)) == ["too_deep"] * 3


@pytest.mark.parametrize("change", [
    {"keys": ("*",)}, {"keys": ("0x" + "22" * 32,)}, {"scopes": (2, 3)}, {"scopes": (1,)}, {"uses": 11}, {"expires": 1},
])  # fmt: skip
async def test_lending_more_than_one_has_is_refused(cluster: Cluster, fresh: Any, change: dict[str, Any]) -> None:
    session = await open_session(cluster, cluster.user, keys=(f"0x{fresh.token_id:064x}",), scopes=(2,), uses=10)
    if "expires" in change:
        change = {"expires": session.statement.expires + 1}
    assert codes(await sign_with(cluster, session.lend(), fresh.token_id)) == OK
    assert codes(await sign_with(cluster, session.lend(**change), fresh.token_id)) == ["wider"] * 3
    assert codes(await sign_with(cluster, session.lend().lend(**change), fresh.token_id)) == ["wider"] * 3


async def test_a_delegation_belongs_to_one_session_and_one_key(cluster: Cluster, fresh: Any) -> None:
    session, other = await open_session(cluster, cluster.user), await open_session(cluster, cluster.user)
    lent = session.lend()
    assert codes(await sign_with(cluster, session.lend(parent=other.id), fresh.token_id)) == ["wrong_parent"] * 3
    stolen = type(lent)(lent.network, other.token, lent.key, lent.statement, lent.links)
    assert codes(await sign_with(cluster, stolen, fresh.token_id)) == ["bad_signature"] * 3
    without_key = type(lent)(lent.network, lent.token, new_key(), lent.statement, lent.links)
    assert codes(await sign_with(cluster, without_key, fresh.token_id)) == ["bad_signature"] * 3
    expired = session.lend(expires=int(time.time()) - 1)
    assert codes(await sign_with(cluster, expired, fresh.token_id)) == ["certificate_expired"] * 3


async def test_ending_a_session_ends_what_was_lent_and_a_delegate_may_end_only_that(
    cluster: Cluster, fresh: Any
) -> None:
    session = await open_session(cluster, cluster.user)
    one, two = session.lend(), session.lend()
    assert codes(await revoke(cluster, one, {"session": session.id})) == ["not_yours"] * 3
    assert codes(await revoke(cluster, one, identity(cluster.user))) == ["not_yours"] * 3
    assert codes(await revoke(cluster, one, {"session": one.last})) == OK
    assert codes(await sign_with(cluster, one, fresh.token_id, "no", *ALL)) == ["session_revoked"] * 4
    assert codes(await sign_with(cluster, two, fresh.token_id)) == OK
    assert codes(await revoke(cluster, session, {"session": session.id})) == OK
    assert codes(await sign_with(cluster, two, fresh.token_id, "no", *ALL)) == ["session_revoked"] * 4


async def test_signatures_are_counted_and_repeats_are_not(cluster: Cluster, fresh: Any) -> None:
    session = await open_session(cluster, cluster.user, uses=3)
    first = await sign_with(cluster, session, fresh.token_id, request_id="r" * 20, expires=int(time.time()) + 50)
    lent = session.lend(uses=1)
    assert codes(first) == OK
    assert codes(await sign_with(cluster, lent, fresh.token_id)) == OK
    assert codes(await sign_with(cluster, lent, fresh.token_id)) == ["used_up"] * 3
    assert codes(await sign_with(cluster, session, fresh.token_id)) == OK
    assert codes(await sign_with(cluster, session, fresh.token_id)) == ["used_up"] * 3
    before = await runs_of(cluster)
    assert codes(await sign_with(cluster, session.lend(uses=1), fresh.token_id)) == ["used_up"] * 3
    assert await runs_of(cluster) == before


async def test_the_same_request_again_is_one_use(cluster: Cluster, fresh: Any) -> None:
    session = await open_session(cluster, cluster.user, uses=2)
    intent, token, name = intents.message_intent("once"), f"0x{fresh.token_id:064x}", secrets.token_urlsafe(24)
    body = session.body("sign", intent, token, runs=[SIGNERS, SIGNERS], request_id=name)
    answers = [await ask(cluster, "/v1/sign", body) for _ in range(4)]
    assert answers[0] == answers[3]
    assert codes(await ask(cluster, "/v1/sign", body | {"run": 1})) == OK
    # Signed again, later and with other signers, it is the same request still.
    again = session.body(
        "sign", intent, token, runs=[(1, 2, 4), SIGNERS], request_id=name, expires=int(time.time()) + 58
    )
    assert codes(await ask(cluster, "/v1/sign", again)) == OK
    assert codes(await ask(cluster, "/v1/sign", again | {"run": 1})) == OK
    other = session.body("sign", intents.message_intent("twice"), token, request_id=name)
    assert codes(await ask(cluster, "/v1/sign", other)) == ["request_id_used"] * 3
    assert codes(await sign_with(cluster, session, fresh.token_id)) == OK
    assert codes(await sign_with(cluster, session, fresh.token_id)) == ["used_up"] * 3


async def test_stepping_up_does_not_begin_a_new_count(cluster: Cluster, fresh: Any) -> None:
    session = await open_session(cluster, cluster.user, uses=1)
    assert codes(await sign_with(cluster, session, fresh.token_id)) == OK
    again = await open_session(cluster, Account.create(), session, uses=1, expires=session.statement.expires)
    assert codes(await sign_with(cluster, again, fresh.token_id)) == ["used_up"] * 3


# -- listing --------------------------------------------------------------------------------------------------------


async def test_a_person_sees_the_sessions_of_his_identities_and_nobody_elses(cluster: Cluster) -> None:
    me, other = Account.create(), Account.create()
    mine, theirs = await open_session(cluster, me, scopes=(2, 3), uses=7), await open_session(cluster, other)
    ended = await open_session(cluster, me)
    await revoke(cluster, mine, {"session": ended.id})
    both = await open_session(cluster, other, await open_session(cluster, me))
    ((status, answer),) = await ask(cluster, "/v1/sessions/list", mine.body("sessions", {}, run=False), 1)
    assert status == 200
    found = {each["id"]: each for each in answer["sessions"]}
    assert set(found) == {mine.id, ended.id, both.id}
    assert theirs.id not in found
    assert found[mine.id] == {
        "id": mine.id, "session": mine.key.public.thumbprint, "methods": [{"type": 1, "id": me.address.lower()}],
        "keys": ["*"], "scopes": [2, 3], "uses": 7, "used": 0, "issued_at": mine.claims["iat"],
        "expires": mine.claims["exp"], "revoked": False,
    }  # fmt: skip
    assert found[ended.id]["revoked"]
    # Who else a person is, is nobody's business who has not proven that too.
    assert found[both.id]["methods"] == [{"type": 1, "id": me.address.lower()}]
    # And whose a session is was settled when it began: who joined it later neither sees nor ends it.
    ((_, answer),) = await ask(cluster, "/v1/sessions/list", theirs.body("sessions", {}, run=False), 1)
    assert [each["id"] for each in answer["sessions"]] == [theirs.id]
    assert codes(await revoke(cluster, theirs, {"session": both.id})) == ["not_yours"] * 3
    assert codes(await revoke(cluster, mine, {"session": both.id})) == OK


async def test_listing_is_for_live_sessions_of_ones_own(cluster: Cluster) -> None:
    session = await open_session(cluster, Account.create())

    async def listing(*changes: Any) -> list[str]:
        return codes(await ask(cluster, "/v1/sessions/list", *changes, 2))

    assert await listing(session.lend().body("sessions", {}, run=False)) == ["not_yours"]
    assert await listing(session.body("sessions", {"all": True}, run=False)) == ["bad_sessions"]
    assert await listing(session.body("revoke", {}, run=False)) == ["bad_kind"]
    assert await listing(session.body("sessions", {}, run=False)) == [""]
    await revoke(cluster, session, {"session": session.id})
    assert await listing(session.body("sessions", {}, run=False)) == ["session_revoked"]


async def test_the_answers_have_the_form_that_the_document_says(cluster: Cluster) -> None:
    schemas = document()["components"]["schemas"]
    session = await open_session(cluster, Account.create())
    ((_, listed),) = await ask(cluster, "/v1/sessions/list", session.body("sessions", {}, run=False), 1)
    (_, share), *_ = await revoke(cluster, session, {"session": session.id})
    for found, name in ((listed, "Sessions"), (listed["sessions"][0], "Session"), (share, "RevocationShare")):
        assert set(found) == set(schemas[name]["properties"]), name


# -- forms ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("intent", [
    {}, {"session": "xy"}, {"session": 5}, {"key": "0x12"}, {"identity": {"type": 1}}, {"everything": True},
    {"identity": {"type": 1, "id": "0x11"}, "session": "11" * 32}, {"identity": {"type": 0, "id": "0x11"}},
])  # fmt: skip
async def test_a_revocation_of_another_form_is_refused(cluster: Cluster, intent: dict[str, Any]) -> None:
    session = await open_session(cluster, cluster.user)
    before = await runs_of(cluster)
    for status, answer in await ask(cluster, "/v1/revocations", session.body("revoke", intent)):
        assert status == 400, answer
    assert await runs_of(cluster) == before


async def test_a_request_counts_only_where_its_kind_belongs(cluster: Cluster, fresh: Any) -> None:
    session = await open_session(cluster, cluster.user)
    signing = session.body("sign", intents.message_intent("x"), f"0x{fresh.token_id:064x}")
    ending = session.body("revoke", {"session": session.id}, f"0x{fresh.token_id:064x}")
    assert codes(await ask(cluster, "/v1/revocations", signing)) == ["bad_kind"] * 3
    assert codes(await ask(cluster, "/v1/sign", ending)) == ["bad_kind"] * 3
