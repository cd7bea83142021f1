"""Logging in with any method, stepping up, lending a session: what the client sends, keeps and refuses."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

import pytest

from fake_network import FakeNetwork
from keyquorum.auth.certificate import Certificate
from keyquorum.auth.method import Proven
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import Statement
from keyquorum.chain.mints import mint_request
from keyquorum.client import (
    AsyncClient,
    BadAnswer,
    ChainError,
    Client,
    Key,
    KeyquorumError,
    Lent,
    Misconfigured,
    Refused,
    Session,
)
from keyquorum.client.session import DEFAULT_SECONDS, MESSAGES_SECONDS, Expected, default_seconds
from keyquorum.formats.text import from_base64url
from login_kit import Person


@pytest.fixture
def person() -> Person:
    return Person()


async def test_a_login_with_a_method_names_who_proved_and_what_was_asked(client: AsyncClient, person: Person) -> None:
    seen: list[Statement] = []

    async def prove(statement: Statement) -> Any:
        seen.append(statement)
        return await person.prove(statement)

    session = await client.login_with("siwe", prove, scopes=(3, 2, 3), keys=[7], seconds=600, uses=5)
    assert [one.id for one in session.methods] == [person.id]
    assert (session.scopes, session.keys, session.uses) == ((2, 3), (f"0x{7:064x}",), 5)
    assert seen[0].challenge == session.id == session.claims["jti"]
    assert session.claims["limits"] == {"signatures": 5}
    assert client.session is session


@pytest.mark.parametrize(
    ("scopes", "lasts"),
    [((), MESSAGES_SECONDS), ((2,), MESSAGES_SECONDS), ((1,), DEFAULT_SECONDS), ((2, 3), DEFAULT_SECONDS)],
)
async def test_what_signs_more_than_messages_lasts_15_minutes_unless_asked_otherwise(
    client: AsyncClient, person: Person, scopes: tuple[int, ...], lasts: int
) -> None:
    assert default_seconds(scopes) == lasts
    session = await client.login_with("siwe", person.prove, scopes=scopes)
    assert abs(session.expires - time.time() - lasts) < 30
    own = await client.login(scopes=scopes)
    assert abs(own.expires - time.time() - lasts) < 30


async def test_an_unknown_method_and_too_long_a_session_are_refused_before_anybody_is_asked(
    client: AsyncClient, network: FakeNetwork, person: Person
) -> None:
    with pytest.raises(ValueError, match="use one of"):
        await client.login_with("magic", person.prove)
    with pytest.raises(ValueError, match="24 hours"):
        await client.login_with("siwe", person.prove, seconds=100_000)
    assert not network.attempts


async def test_a_certificate_for_somebody_else_is_refused_where_the_client_knows_who_logs_in(
    client: AsyncClient, network: FakeNetwork, person: Person
) -> None:
    network.set("somebody_else", *network.nodes)
    with pytest.raises(BadAnswer, match="something else"):
        await client.login_with("siwe", person.prove, identity=person.id)
    with pytest.raises(BadAnswer, match="something else"):
        await client.login()
    network.reset()
    assert await client.login_with("siwe", person.prove, identity=person.id)


def test_a_certificate_names_one_identity_of_the_method_and_keeps_the_old_ones() -> None:
    one, two, passkey = Proven(1, b"a"), Proven(1, b"b"), Proven(3, b"c")
    assert Expected(1).holds([one])
    assert not Expected(1).holds([])
    assert not Expected(1).holds([one, two])
    assert not Expected(3).holds([one])
    assert not Expected(1, b"b").holds([one])
    key = SessionPrivateKey.generate().public
    old = Certificate("n", key, 0, 1, "00" * 32, (one,), ("*",), (1,), 1, (("00" * 32, 1),))
    assert Expected(3, None, old).holds([one, passkey])
    assert Expected(1, b"a", old).holds([one])
    assert not Expected(3, None, old).holds([passkey])
    assert not Expected(3, None, old).holds([one])
    assert not Expected(3, None, old).holds([one, two, passkey])
    assert not Expected(1, b"b", old).holds([one])


async def test_a_session_of_another_login_is_not_renewed_with_the_wallet(
    client: AsyncClient, network: FakeNetwork, key: Key, person: Person
) -> None:
    session = await client.login_with("siwe", person.prove)
    client.use_session(Session(**vars(session) | {"expires": int(time.time()) + 29}))
    await client.sign_message(key, "nearly over")
    assert not client._background
    client.use_session(Session(**vars(session) | {"expires": int(time.time())}))
    with pytest.raises(Misconfigured) as expired:
        await client.sign_message(key, "over")
    assert expired.value.code == "session_expired"


async def test_a_session_without_uses_and_links_is_still_read(client: AsyncClient) -> None:
    stored = (await client.login()).to_stored()
    del stored["uses"], stored["delegations"]
    assert Session.from_stored(json.loads(json.dumps(stored))).delegations == ()


# -- stepping up ------------------------------------------------------------------------------------------------------


async def test_a_second_method_joins_the_session_and_keeps_its_name_and_limits(
    client: AsyncClient, key: Key, person: Person
) -> None:
    first = await client.login(scopes=(1, 6), seconds=700)
    second = await client.step_up("siwe", person.prove, identity=person.id)
    assert second.id == first.id
    assert {one.id for one in second.methods} == {first.methods[0].id, person.id}
    asked = ("keys", "scopes", "expires", "uses")
    assert [getattr(second, name) for name in asked] == [getattr(first, name) for name in asked]
    assert (await client.sign_message(key, "both")).public_key == key.public_key


async def test_a_step_up_by_somebody_else_than_expected_is_refused(
    client: AsyncClient, network: FakeNetwork, person: Person
) -> None:
    first = await client.login()
    network.set("somebody_else", *network.nodes)
    with pytest.raises(BadAnswer):
        await client.step_up("siwe", person.prove, identity=person.id)
    assert client.session == first


async def test_there_must_be_a_login_of_ones_own_to_step_up(client: AsyncClient, person: Person) -> None:
    with pytest.raises(Misconfigured, match="no login"):
        await client.step_up("siwe", person.prove)
    key = SessionPrivateKey.generate()
    client.use_session(Session.borrowed((await client.login()).delegate(key.public), key))
    with pytest.raises(Misconfigured, match="no login"):
        await client.step_up("siwe", person.prove)


# -- lending ----------------------------------------------------------------------------------------------------------


async def test_a_lent_session_signs_with_the_delegates_key(client: AsyncClient, network: FakeNetwork, key: Key) -> None:
    session = await client.login()
    mine = SessionPrivateKey.generate()
    lent = session.delegate(mine.public, keys=[f"0x{key.token_id:064x}"], scopes=[2], seconds=60, uses=3)
    handed = Lent.from_json(json.loads(json.dumps(lent.to_json())))
    assert handed == lent
    borrowed = Session.borrowed(handed, mine)
    assert session.key.secret_bytes().hex() not in repr(lent) + json.dumps(lent.to_json())
    assert (borrowed.scopes, borrowed.uses, borrowed.id) != (session.scopes, session.uses, session.id)
    async with AsyncClient(network.network, session=Session.from_stored(borrowed.to_stored())) as delegate:
        assert (await delegate.sign_message(key, "lent")).public_key == key.public_key
    third = SessionPrivateKey.generate()
    again = Session.borrowed(borrowed.delegate(third.public, uses=1), third)
    async with AsyncClient(network.network, session=again) as delegate:
        assert (await delegate.sign_message(key, "lent on")).public_key == key.public_key


async def test_nobody_lends_more_than_he_has_or_a_fourth_time(client: AsyncClient) -> None:
    session = await client.login(scopes=(2,), keys=[5])
    key = SessionPrivateKey.generate()
    for wider in ({"scopes": [1]}, {"keys": ["*"]}, {"seconds": 90_000}, {"uses": session.uses + 1}):
        with pytest.raises(ValueError, match="asks for more"):
            session.delegate(key.public, **wider)  # type: ignore[arg-type]
    for _ in range(3):
        session = Session.borrowed(session.delegate(key.public), key)
    with pytest.raises(ValueError, match="3 times"):
        session.delegate(key.public)


async def test_a_lent_session_is_worth_nothing_with_another_key(
    client: AsyncClient, network: FakeNetwork, key: Key
) -> None:
    session = await client.login(scopes=(2,))
    mine, thief = SessionPrivateKey.generate(), SessionPrivateKey.generate()
    lent = session.delegate(mine.public)
    async with AsyncClient(network.network, session=Session.borrowed(lent, thief)) as stolen:
        network.reset()
        with pytest.raises(KeyquorumError):
            await stolen.sign_message(key, "x")


# -- permissions and sessions without a gateway -----------------------------------------------------------------------


async def test_an_owner_changes_permissions_with_transactions_of_his_own(client: AsyncClient, key: Key) -> None:
    friend = b"\x55" * 20
    await client.permissions.add(key, 1, friend, [2, 33])
    (method,) = await client.permissions.list(key)
    assert (method.id, method.scopes, method.together) == (friend, (2,), (1,))
    await client.permissions.add_scope(key, 1, friend, 3)
    await client.permissions.remove_scope(key, 1, friend, 2)
    assert (await client.permissions.list(key))[0].scopes == (3,)
    await client.permissions.set_delay(key, 3600)
    assert await client.permissions.delay(key) == 3600
    await client.permissions.add_scope(key, 1, friend, 6)
    await client.permissions.add(key, 1, b"\x44" * 20, [1])
    await client.permissions.set_delay(key, 60)
    kinds = {one.kind: one for one in await client.permissions.pending(key)}
    assert set(kinds) == {"add_scope", "add_method", "lower_delay"}
    assert (kinds["add_scope"].scopes, kinds["lower_delay"].delay) == ((6,), 60)
    assert kinds["add_method"].to_json()["id"] == "0x" + "44" * 20
    await client.permissions.cancel(key, kinds["add_scope"].change_id)
    assert len(await client.permissions.pending(key)) == 2
    await client.permissions.remove(key, 1, friend)
    assert await client.permissions.list(key) == ()


async def own_itself(client: AsyncClient) -> Key:
    """A new key that owns itself, with the account of the client as a wallet that may manage it."""
    account = client.account
    assert account is not None
    helper = client.chain.contract("PKPHelper")
    methods = [(1, bytes.fromhex(account.address[2:]), b"")]
    request = mint_request(secrets.token_bytes(32), methods, [[1, 6]])
    await client.send_from_account(helper.address, helper.encode("mintOnce", request))
    return await client.key(await client.chain.ask(helper, "keyOfRequest", account.address, request[0]))


async def test_a_key_that_owns_itself_changes_by_signature_and_the_account_only_pays(client: AsyncClient) -> None:
    key = await own_itself(client)
    assert key.owner == key.address
    await client.permissions.add(key, 1, b"\x55" * 20, [2])
    assert [one.id for one in await client.permissions.list(key)][1:] == [b"\x55" * 20]


async def test_the_last_login_of_a_key_that_owns_itself_stays_until_the_key_is_given_up(client: AsyncClient) -> None:
    key = await own_itself(client)
    (mine,) = await client.permissions.list(key)
    for removal in (client.permissions.remove(key, 1, mine.id), client.permissions.remove_scope(key, 1, mine.id, 6)):
        with pytest.raises(ChainError, match="LastManager") as refused:
            await removal
        assert "add another" in str(refused.value.hint)
    await client.permissions.renounce(key)
    await client.permissions.remove(key, 1, mine.id)
    assert await client.permissions.list(key) == ()


async def test_no_key_is_sent_to_its_own_address(client: AsyncClient, key: Key) -> None:
    with pytest.raises(ChainError, match="LastManager"):
        await client.transfer(key, key.address)


async def test_giving_up_a_key_is_shown_among_what_waits(client: AsyncClient, key: Key) -> None:
    await client.permissions.set_delay(key, 3600)
    await client.permissions.renounce(key)
    (waiting,) = await client.permissions.pending(key)
    assert waiting.to_json() == {"change_id": 1, "kind": "renounce", "active_at": waiting.active_at}


async def test_more_methods_and_keys_than_a_page_are_read_in_pages(
    client: AsyncClient, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keyquorum.client.network.PAGE", 2)
    for number in range(5):
        await client.permissions.add(key, 1, bytes([number + 1]) * 20, [2 + number, 33])
    listed = await client.permissions.list(key)
    assert [(one.id, one.scopes, one.together) for one in listed] == [
        (bytes([number + 1]) * 20, (2 + number,), (1,)) for number in range(5)
    ]
    owned = {key.token_id} | {(await client.mint()).key.token_id for _ in range(4)}
    assert client.account is not None
    assert {one.token_id for one in await client.chain.keys_of(client.account.address)} >= owned


async def test_a_key_that_owns_another_changes_that_ones_permissions(client: AsyncClient, key: Key) -> None:
    owned = (await client.mint()).key
    await client.transfer(owned, key.address)
    await client.permissions.add(owned, 1, b"\x55" * 20, [2])
    assert [one.id for one in await client.permissions.list(owned)] == [b"\x55" * 20]


async def test_whose_key_it_is_not_is_told_before_anything_is_signed(client: AsyncClient, network: FakeNetwork) -> None:
    theirs = (await client.mint(network.stranger.address)).key
    network.reset()
    with pytest.raises(Refused) as refused:
        await client.permissions.remove(theirs, 1, b"\x55" * 20)
    assert refused.value.code == "not_the_owner"
    assert not network.attempts


async def test_without_gateway_and_account_nobody_pays_for_a_change(client: AsyncClient, network: FakeNetwork) -> None:
    key = await own_itself(client)
    async with AsyncClient(network.network, session=await client.login()) as poor:
        with pytest.raises(Misconfigured, match="nobody is there to pay"):
            await poor.permissions.add(key, 1, b"\x55" * 20, [2])


async def test_an_owner_ends_the_sessions_of_his_key_with_a_transaction_of_his_own(
    client: AsyncClient, network: FakeNetwork, key: Key
) -> None:
    from keyquorum.evm.digests import key_mark

    network.reset()
    assert await client.sessions.revoke_key(key)
    mark = key_mark(key.token_id)
    (before,) = await client.chain.ask(client.chain.contract("Sessions"), "revokedBefore", [mark])
    assert abs(before - time.time()) < 60
    assert not network.attempts


async def test_sessions_are_listed_and_ended_through_the_nodes_and_paid_by_the_account(client: AsyncClient) -> None:
    from keyquorum.evm.digests import identity_mark

    session = await client.login()
    listed = {one.id: one for one in await client.sessions.list()}
    assert listed[session.id].current and listed[session.id].to_json()["methods"][0]["type"] == 1
    (who,) = session.methods
    assert len(await client.sessions.revoke_all()) == 1
    assert client.session is None
    mark = identity_mark(who.type, who.id)
    (before,) = await client.chain.ask(client.chain.contract("Sessions"), "revokedBefore", [mark])
    assert abs(before - time.time()) < 120


def test_the_blocking_client_has_the_same_calls(network: FakeNetwork) -> None:
    with Client(network.network, account=network.account) as client:
        key = client.mint().key
        person = Person()
        session = client.login_with("siwe", person.prove)
        assert client.session == session
        client.permissions.add(key, 1, person.id, [2])
        assert [one.id for one in client.permissions.list(key)] == [person.id]
        assert [one.current for one in client.sessions.list()].count(True) == 1
        client.use_session(session)
        assert client.sessions.revoke(session.id) and client.session is None


async def test_an_account_whose_session_is_used_up_opens_another(
    client: AsyncClient, network: FakeNetwork, key: Key
) -> None:
    first = client.session
    assert first is not None
    network.used_up.add(first.id)
    assert (await client.sign_message(key, "one more")).summary
    assert client.session is not None and client.session.id != first.id


async def test_a_login_that_only_a_person_can_repeat_says_that_it_is_used_up(
    client: AsyncClient, network: FakeNetwork, key: Key
) -> None:
    held = client.session
    assert held is not None
    network.used_up.add(held.id)
    async with AsyncClient(network.network, session=held, timeout=10) as other:
        with pytest.raises(Refused) as caught:
            await other.sign_message(key, "one more")
    assert caught.value.code == "used_up"


@pytest.mark.parametrize(("age", "name"), [(0, "parentHash"), (60, "hash")])
async def test_a_statement_names_the_newest_block_that_has_spread(
    client: AsyncClient, person: Person, monkeypatch: pytest.MonkeyPatch, age: int, name: str
) -> None:
    block = await client.chain.rpc.block("latest") or {}
    seen: list[str] = []

    async def block_of_age(_: Any) -> dict[str, Any]:
        return block | {"timestamp": hex(int(time.time()) - age)}

    async def prove(statement: Statement) -> Any:
        seen.append(statement.block)
        return await person.prove(statement)

    monkeypatch.setattr(client.chain.rpc, "block", block_of_age)
    await client.login_with("siwe", prove)
    assert seen == [block[name]]


async def test_a_revocation_reaches_up_to_a_second_ago(client: AsyncClient, key: Key) -> None:
    session = client.session
    assert session is not None
    for kind, seconds in (("revoke", 59), ("sign", 55)):
        body = session.ask(kind, {"key": "0x" + "11" * 32}, "0x" + "11" * 32).sign([(1, 2, 3)])
        claims = json.loads(from_base64url(body["request"].split(".")[1], "it"))
        assert abs(claims["exp"] - time.time() - seconds) < 3
