"""What a gateway delivers for others: changes of permissions and revocations; lists, receipts, login options."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
from eth_account import Account

from fake_network import FakeNetwork
from keyquorum.auth.commitment import Commitment, Receipt, check_receipts
from keyquorum.auth.method import Committee, method
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.chain.rpc import Reverted
from keyquorum.client import AsyncClient, BadAnswer, Key, Network, Refused, Session, Unavailable
from keyquorum.client import session as sessions
from keyquorum.client.discord import committee_of
from keyquorum.client.oidc import OidcLogin
from keyquorum.gateway import permissions
from keyquorum.gateway.app import Server
from keyquorum.gateway.config import GatewayConfig, LoginSection
from keyquorum.gateway.permissions import ChainWriter
from login_kit import Person

FRIEND = b"\x77" * 20


@pytest.fixture
async def person(server: Server, network: FakeNetwork) -> AsyncIterator[AsyncClient]:
    """Somebody who is logged in, and has a key but no wallet."""
    where = Network(network.id, network.chain.url, server.url)
    async with AsyncClient(where, through_gateway=True, timeout=20) as client:
        await client.login_with("siwe", Person().prove, scopes=(1, 6))
        yield client


@pytest.fixture
async def key(person: AsyncClient) -> Key:
    return (await person.sign_up()).key


async def post(http: aiohttp.ClientSession, url: str, body: Any) -> tuple[int, dict[str, Any]]:
    async with http.post(url, json=body) as response:
        return response.status, await response.json()


async def signed_change(client: AsyncClient, key: Key, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the body that adds FRIEND to a key, not sent."""
    bodies: list[dict[str, Any]] = []
    ask = client._ask_gateway

    async def keep(path: str, body: Any, shape: Any) -> Any:
        if path != "/v1/permissions":
            return await ask(path, body, shape)
        bodies.append(dict(body))
        return msgspec.convert({"transaction": "0x"}, shape)

    with monkeypatch.context() as patch:
        patch.setattr(client, "_ask_gateway", keep)
        with pytest.raises(BadAnswer, match="no hash"):
            await client.permissions.add(key, 1, FRIEND, [1])
    return bodies[0]


# -- permissions ------------------------------------------------------------------------------------------------------


async def test_a_change_is_delivered_once_and_only_as_it_was_signed(
    person: AsyncClient, key: Key, server: Server, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.url + "/v1/permissions"
    body = await signed_change(person, key, monkeypatch)
    call = body["call"]
    for twin in (
        body | {"call": call.replace("77" * 20, "66" * 20)},
        body | {"deadline": body["deadline"] + 1},
        body | {"signature": "0x" + "11" * 65},
        body | {"signature": "0x"},
    ):
        status, answer = await post(http, url, twin)
        assert (status, answer["error"]["code"]) == (403, "contract_refused")
        assert "NotSignedByOwner" in answer["error"]["message"]
    status, answer = await post(http, url, body)
    assert status == 200 and len(await person.permissions.list(key)) == 2
    status, answer = await post(http, url, body)
    assert (status, "WrongNonce" in answer["error"]["message"]) == (403, True)


@pytest.mark.parametrize("lost", [aiohttp.ServerDisconnectedError, aiohttp.ClientOSError])
async def test_a_change_whose_answer_is_lost_is_found_on_the_chain(
    person: AsyncClient, key: Key, lost: type[Exception]
) -> None:
    send, asked = person._transport._send, []

    async def losing(method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
        answer = await send(method, url, body)
        if url.endswith("/v1/permissions"):
            asked.append(answer[0])
            if len(asked) == 1:
                raise lost
        return answer

    person._transport._send = losing  # type: ignore[method-assign]
    change = await person.permissions.add(key, 1, FRIEND, [1])
    # A kept connection that ends is opened anew, and the contract refuses the number that was used.
    assert asked == ([200, 403] if lost is aiohttp.ServerDisconnectedError else [200])
    receipt = await person.chain.rpc.receipt(str(change))
    assert receipt is not None and receipt["status"] == "0x1"
    assert FRIEND in {one.id for one in await person.permissions.list(key)}


async def test_anothers_change_under_the_same_number_is_not_taken_for_ones_own(
    person: AsyncClient, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await signed_change(person, key, monkeypatch)
    ask = person._ask_gateway

    async def overtake(path: str, body: Any, shape: Any) -> Any:
        if path == "/v1/permissions":
            await ask(path, other, shape)
        return await ask(path, body, shape)

    monkeypatch.setattr(person, "_ask_gateway", overtake)
    with pytest.raises(Refused, match="WrongNonce"):
        await person.permissions.add(key, 1, b"\x55" * 20, [1])
    assert b"\x55" * 20 not in {one.id for one in await person.permissions.list(key)}


@pytest.mark.parametrize(
    "change",
    [
        {"key": "0x1"},
        {"key": 5},
        {"call": "11"},
        {"call": "0x" + "00" * 8193},
        {"nonce": -1},
        {"nonce": "1"},
        {"deadline": 2**63},
        {"signature": "0x" + "00" * 4097},
        {"more": 1},
    ],
)
async def test_a_change_of_another_form_is_refused_before_the_chain_is_asked(
    server: Server, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(server.gateway._writer, "send", asked.append)
    good = {"key": "0x" + "11" * 32, "call": "0x00", "nonce": 0, "deadline": int(time.time()) + 60, "signature": "0x"}
    status, answer = await post(http, server.url + "/v1/permissions", good | change)
    assert (status, bool(answer["error"]["hint"]), asked) == (400, True, [])


@pytest.mark.parametrize("ahead", [-1, 90_000])
async def test_a_deadline_is_to_come_and_within_a_day(server: Server, http: aiohttp.ClientSession, ahead: int) -> None:
    late = int(time.time()) + ahead
    body = {"key": "0x" + "11" * 32, "call": "0x00", "nonce": 0, "deadline": late, "signature": "0x"}
    status, answer = await post(http, server.url + "/v1/permissions", body)
    assert (status, answer["error"]["code"]) == (400, "bad_deadline")


async def test_what_would_cost_too_much_gas_is_not_sent(
    person: AsyncClient, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permissions, "MAX_GAS", 200_000)
    with pytest.raises(Refused) as refused:
        await person.permissions.add(key, 1, FRIEND, [1])
    assert refused.value.code == "too_expensive"
    assert len(await person.permissions.list(key)) == 1


async def test_transactions_that_wait_are_bounded(
    person: AsyncClient, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permissions, "QUEUE_LIMIT", 0)
    with pytest.raises(Unavailable) as refused:
        await person.permissions.add(key, 1, FRIEND, [1])
    assert refused.value.code == "busy"


async def test_a_key_changes_so_often_an_hour_and_strangers_cannot_use_that_up(
    person: AsyncClient, key: Key, config: GatewayConfig, network: FakeNetwork, http: aiohttp.ClientSession
) -> None:
    assert person.session is not None
    async with Server(msgspec.structs.replace(config, calls_per_key=1)) as server:
        where = Network(network.id, network.chain.url, server.url)
        async with AsyncClient(where, session=person.session) as client:
            stranger = {"call": "0x00", "nonce": 0, "deadline": int(time.time()) + 60, "signature": "0x"}
            status, _ = await post(http, server.url + "/v1/permissions", stranger | {"key": f"0x{key.token_id:064x}"})
            assert status == 403
            await client.permissions.add(key, 1, FRIEND, [1])
            with pytest.raises(Unavailable) as refused:
                await client.permissions.remove(key, 1, FRIEND)
            assert refused.value.code == "too_many_calls"


async def test_a_stranger_may_try_only_so_often(config: GatewayConfig, http: aiohttp.ClientSession) -> None:
    async with Server(msgspec.structs.replace(config, calls_per_key=1)) as server:
        body = {"key": "0x" + "11" * 32, "call": "0x00", "nonce": 0, "deadline": int(time.time()) + 60}
        found = [await post(http, server.url + "/v1/permissions", body | {"signature": "0x"}) for _ in range(11)]
    assert [status for status, _ in found] == [403] * 10 + [429]


async def test_hardly_more_gas_is_tried_out_than_a_change_may_cost(
    person: AsyncClient, server: Server, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An owner may be a contract that burns what it gets; without a bound that is a whole block's gas for each try."""
    rpc, asked = server.gateway.chain.rpc, list[dict[str, Any]]()
    call = rpc.call

    async def listen(method: str, *arguments: Any) -> Any:
        asked.extend(arguments[:1] if method == "eth_estimateGas" else ())
        return await call(method, *arguments)

    monkeypatch.setattr(rpc, "call", listen)
    await person.permissions.add(key, 1, FRIEND, [1])
    assert [int(one["gas"], 16) for one in asked] == [permissions.MAX_GAS * 3 // 2]


async def test_an_address_has_so_much_gas_for_changes_and_tries_and_others_have_theirs(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ChainWriter(server.gateway.chain, server.gateway._writer._sender, 10 * permissions.REFUSED_GAS)
    sent = list[int]()

    async def gas(*_: Any) -> int:
        return permissions.REFUSED_GAS

    async def send(to: str, data: bytes, gas: int) -> dict[str, str]:
        sent.append(gas)
        return {"transactionHash": "0x"}

    monkeypatch.setattr(writer, "_gas", gas)
    monkeypatch.setattr(writer._sender, "send", send)

    async def codes(client: str, times: int) -> list[str]:
        found = []
        for _ in range(times):
            try:
                found.append(await writer.send(client, "Sessions", "keyMark", 1))
            except Refused as error:
                found.append(error.code)
        return found

    assert await codes("a", 9) == ["0x"] * 8 + ["too_much_gas"]
    assert await codes("b", 1) == ["0x"]
    admitted = list[int]()
    with pytest.raises(Refused):
        await writer.send("a", "Sessions", "keyMark", 1, admit=lambda: admitted.append(1))
    assert not admitted, "what counts against a key's owner is counted when the address could pay"

    async def refuse(*_: Any) -> int:
        raise Reverted(3, "execution reverted")

    monkeypatch.setattr(writer, "_gas", refuse)
    assert (await codes("c", 11))[-1] == "too_much_gas"
    assert len(sent) == 9


# -- revocations ------------------------------------------------------------------------------------------------------


async def test_a_revocation_is_signed_by_the_nodes_and_on_the_chain_when_it_is_answered(
    person: AsyncClient, network: FakeNetwork
) -> None:
    session = person.session
    assert session is not None
    await person.sessions.revoke(session.id)
    assert person.session is None
    sessions_contract = person.chain.contract("Sessions")
    from keyquorum.auth.revocation import FOREVER
    from keyquorum.evm.digests import session_mark

    mark = session_mark(bytes.fromhex(session.id))
    assert await person.chain.ask(sessions_contract, "revokedBefore", [mark]) == [FOREVER]


@pytest.mark.parametrize("mode", ["wrong_time", "wrong_mark", "wrong_share", "wrong_party"])
async def test_a_node_that_would_revoke_something_else_is_left_out(
    person: AsyncClient, network: FakeNetwork, key: Key, mode: str
) -> None:
    network.set(mode, 2)
    assert await person.sessions.revoke_key(key)
    network.set(mode, *network.nodes)
    with pytest.raises((BadAnswer, Unavailable)):
        await person.sessions.revoke_key(key)


async def test_a_gateway_that_only_says_that_it_revoked_is_caught(
    person: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cheat(_: str, __: Any, shape: Any) -> Any:
        return msgspec.convert(told, shape)

    monkeypatch.setattr(person, "_ask_gateway", cheat)
    told = {"transaction": "0x" + "11" * 32, "before": str(2**63), "signature": "0x" + "22" * 65}
    with pytest.raises(BadAnswer, match="chain does not know"):
        await person.sessions.revoke_all()
    assert person.session is not None


async def test_revocations_of_an_identity_are_limited(
    person: AsyncClient, config: GatewayConfig, network: FakeNetwork
) -> None:
    async with Server(msgspec.structs.replace(config, calls_per_key=1)) as server:
        where = Network(network.id, network.chain.url, server.url)
        async with AsyncClient(where, session=person.session) as client:
            await client.sessions.revoke("11" * 32)
            with pytest.raises(Unavailable) as refused:
                await client.sessions.revoke("22" * 32)
    assert refused.value.code == "too_many_calls"


@pytest.mark.parametrize("intent", [{}, {"session": "x"}, {"session": "11" * 32, "key": "0x"}, {"identity": {}}])
async def test_a_revocation_of_another_form_reaches_no_node(
    person: AsyncClient, server: Server, network: FakeNetwork, http: aiohttp.ClientSession, intent: dict[str, Any]
) -> None:
    assert person.session is not None
    network.reset()
    asked = person.session.ask("revoke", intent).sign([(1, 2, 3)])
    status, answer = await post(http, server.url + "/v1/revocations", asked)
    assert (status, bool(answer["error"]["hint"]), network.attempts) == (400, True, [])


# -- step-up, lists, receipts -----------------------------------------------------------------------------------------


async def test_a_second_method_joins_the_session_through_the_gateway(person: AsyncClient) -> None:
    first, second = person.session, Person()
    assert first is not None
    stepped = await person.step_up("siwe", second.prove, identity=second.id)
    assert stepped.id == first.id
    assert {one.id for one in stepped.methods} == {first.methods[0].id, second.id}


async def test_a_step_up_that_would_widen_the_session_reaches_no_node(
    person: AsyncClient, server: Server, network: FakeNetwork, http: aiohttp.ClientSession
) -> None:
    old, other = person.session, Person()
    assert old is not None
    statement = sessions.new_statement(
        person.facts.id, old.key, old.keys, (1, 5, 6), expires=old.expires, block=await person._recent_block()
    )
    proof = await other.prove(statement)
    network.reset()
    siwe = method("siwe")
    asked = sessions.ask_to_log_in(old.key, statement, siwe, proof, old.certificate).sign([(1, 2, 3)])
    status, answer = await post(http, server.url + "/v1/sessions", asked)
    assert (status, answer["error"]["code"], network.attempts) == (401, "wider", [])
    asked = sessions.ask_to_log_in(old.key, statement, siwe, proof, "a.b.c").sign([(1, 2, 3)])
    status, answer = await post(http, server.url + "/v1/sessions", asked)
    assert status == 400
    stranger = SessionPrivateKey.generate()
    asked = sessions.ask_to_log_in(stranger, statement, siwe, proof, old.certificate).sign([(1, 2, 3)])
    status, answer = await post(http, server.url + "/v1/sessions", asked)
    assert (status, answer["error"]["code"], network.attempts) == (401, "bad_signature", [])


async def test_the_list_of_sessions_is_merged_over_all_nodes(person: AsyncClient, network: FakeNetwork) -> None:
    who = Person()
    await person.login_with("siwe", who.prove)
    first = person.session
    network.stop_nodes(1)
    await person.login_with("siwe", who.prove)
    assert first is not None and person.session is not None
    network.set("says_revoked", 2)
    found = {one.id: one for one in await person.sessions.list()}
    assert {first.id, person.session.id} <= set(found)
    assert [one.id for one in found.values() if one.current] == [person.session.id]
    assert found[person.session.id].used == 4
    network.stop_nodes(*network.nodes)
    with pytest.raises(Unavailable):
        await person.sessions.list()


async def test_every_nodes_receipt_is_returned_and_whose_is_missing(
    person: AsyncClient, server: Server, network: FakeNetwork, http: aiohttp.ClientSession
) -> None:
    statement = sessions.new_statement(
        person.facts.id, SessionPrivateKey.generate(), ("*",), (1,),
        expires=int(time.time()) + 600, block=await person._recent_block(),
    )  # fmt: skip
    commitment = Commitment.to_token("discord", "t" * 30, statement)
    url = server.url + "/v1/commitments"
    status, answer = await post(http, url, commitment.to_json())
    assert (status, answer["missing"]) == (200, {})
    committee = await committee_of(person.chain)
    assert isinstance(committee, Committee)
    receipts = [Receipt.from_json(one) for one in answer["receipts"]]
    assert check_receipts(receipts, commitment, committee, int(time.time()))
    network.set("refuse", 3)
    status, answer = await post(http, url, commitment.to_json())
    assert [one["party"] for one in answer["receipts"]] == [1, 2, 4]
    assert answer["missing"] == {"3": "the key is not yours"}
    network.set("refuse", *network.nodes)
    status, answer = await post(http, url, commitment.to_json())
    assert (status, answer["error"]["code"]) == (403, "not_permitted")
    for bad in ({}, commitment.to_json() | {"method": "siwe"}, commitment.to_json() | {"binding": "0x11"}):
        status, answer = await post(http, url, bad)
        assert (status, bool(answer["error"]["code"])) == (400, True)


async def test_commitments_are_counted_for_each_client_before_a_node_is_asked(
    person: AsyncClient, config: GatewayConfig, network: FakeNetwork, http: aiohttp.ClientSession
) -> None:
    statement = sessions.new_statement(
        person.facts.id, SessionPrivateKey.generate(), ("*",), (1,),
        expires=int(time.time()) + 600, block=await person._recent_block(),
    )  # fmt: skip
    async with Server(msgspec.structs.replace(config, commitments_per_client=2)) as server:
        bodies = [Commitment.to_token("discord", f"{k}" * 30, statement).to_json() for k in range(3)]
        answers = [await post(http, server.url + "/v1/commitments", body) for body in bodies]
    assert [status for status, _ in answers] == [200, 200, 429]
    assert answers[2][1]["error"]["code"] == "too_many_commitments"


async def test_logins_are_counted_for_each_client_whatever_becomes_of_them(
    config: GatewayConfig, network: FakeNetwork
) -> None:
    async with Server(msgspec.structs.replace(config, logins_per_client=2)) as server:
        where = Network(network.id, network.chain.url, server.url)
        async with AsyncClient(where, account=Account.create(), through_gateway=True) as client:
            await client.login()
            await client.login()
            network.reset()
            with pytest.raises(Unavailable) as refused:
                await client.login()
            assert (refused.value.code, network.attempts) == ("too_many_logins", [])


async def test_what_a_delegate_may_do_goes_through_the_gateway_with_its_links(person: AsyncClient, key: Key) -> None:
    session = person.session
    assert session is not None
    mine = SessionPrivateKey.generate()
    borrowed = Session.borrowed(session.delegate(mine.public, scopes=[2]), mine)
    person.use_session(borrowed)
    assert (await person.sign_message(key, "lent")).public_key == key.public_key
    person.use_session(Session(**vars(borrowed) | {"delegations": ()}))
    with pytest.raises(Refused) as refused:
        await person.sign_message(key, "without the link")
    assert refused.value.code == "bad_signature"


# -- what one can log in with -----------------------------------------------------------------------------------------


async def test_the_login_options_are_those_of_the_settings(config: GatewayConfig, http: aiohttp.ClientSession) -> None:
    login = LoginSection(
        methods=["oidc"], domains=["localhost"], rp_id="localhost",
        oidc=[OidcLogin("google", "https://accounts.google.com", "1234")], codes=["https://codes.example"],
    )  # fmt: skip
    async with (
        Server(msgspec.structs.replace(config, login=login)) as server,
        http.get(server.url + "/v1/login") as response,
    ):
        found = await response.json()
    assert (found["methods"], found["domains"], found["rp_id"]) == (["oidc"], ["localhost"], "localhost")
    assert (found["oidc"][0]["name"], found["discord"], found["codes"]) == ("google", None, ["https://codes.example"])
    assert found["codes_required"] == 1


async def test_without_settings_the_methods_that_need_none_are_offered(
    server: Server, http: aiohttp.ClientSession
) -> None:
    async with http.get(server.url + "/v1/login") as response:
        found = await response.json()
    assert "siwe" in found["methods"] and "oidc" not in found["methods"]


def test_login_settings_written_are_login_settings_read(config: GatewayConfig, tmp_path: Any) -> None:
    from keyquorum.client.discord import DiscordLogin
    from keyquorum.gateway.config import dump, load

    login = LoginSection(
        methods=["oidc"], oidc=[OidcLogin("a", "https://a", "1"), OidcLogin("b", "https://b", "2")],
        discord=DiscordLogin("5"), codes=["https://c", "https://d"], codes_required=2,
    )  # fmt: skip
    path = tmp_path / "gateway.toml"
    path.write_text(dump(msgspec.structs.replace(config, login=login)))
    assert load(path).login == login
    assert json.loads(msgspec.json.encode(login.to_json()))["codes_required"] == 2
