"""A gateway that lies, in each of its answers, gains nothing: what the chain can tell, the client asks the chain.

The gateway here is a real one; between it and the client its answers are changed. `LIARS` names for each place where
the client listens to a gateway the tests that lie to it there, and the last test finds the places in the source.
"""

from __future__ import annotations

import ast
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

import keyquorum.client
from fake_network import FakeNetwork
from keyquorum.auth.revocation import FOREVER
from keyquorum.chain.contracts import interface
from keyquorum.chain.mints import mint_request
from keyquorum.chain.rpc import Sender
from keyquorum.client import AsyncClient, BadAnswer, Key, Network
from keyquorum.client.minting import MintRequest
from keyquorum.gateway.app import Server
from login_kit import Person

THIEF = b"\x66" * 20
NO_HASH = ("", "0x", "0x12", "abc", "0x" + "zz" * 32)
Change = Callable[[Any], Any]


def lie(client: AsyncClient, path: str, change: Change, *, forward: bool = True) -> None:
    """Let the gateway's answers to `path` be changed; with `forward` False it does nothing and is asked nothing."""
    send = client._transport._send

    async def lying(method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
        if not url.endswith(path):
            return await send(method, url, body)
        status, content = await send(method, url, body) if forward else (200, b"{}")
        return status, json.dumps(change(json.loads(content))).encode()

    client._transport._send = lying  # type: ignore[method-assign]


@pytest.fixture
async def person(server: Server, network: FakeNetwork) -> AsyncIterator[AsyncClient]:
    """Somebody who is logged in, and has a key but no wallet."""
    where = Network(network.id, network.chain.url, server.url)
    async with AsyncClient(where, through_gateway=True, timeout=2) as client:
        await client.login_with("siwe", Person().prove, scopes=(1, 6))
        yield client


@pytest.fixture
async def key(person: AsyncClient) -> Key:
    return (await person.sign_up()).key


@pytest.fixture
async def thief(network: FakeNetwork) -> AsyncIterator[AsyncClient]:
    """Whoever runs the gateway, with an account of his own."""
    async with AsyncClient(network.network, account=network.stranger, timeout=10) as client:
        yield client


# -- permissions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NO_HASH, "0x" + "ab" * 32], ids=lambda name: name[:6])
async def test_a_change_that_was_never_made_is_not_believed(person: AsyncClient, key: Key, name: str) -> None:
    await person.permissions.add(key, 1, THIEF, [1])
    lie(person, "/v1/permissions", lambda _: {"transaction": name}, forward=False)
    for call in (
        lambda: person.permissions.remove(key, 1, THIEF),
        lambda: person.permissions.add(key, 1, b"\x55" * 20, [1]),
        lambda: person.permissions.remove_scope(key, 1, THIEF, 1),
        lambda: person.permissions.add_scope(key, 1, THIEF, 2),
        lambda: person.permissions.set_delay(key, 5),
    ):
        with pytest.raises(BadAnswer):
            await call()
    assert THIEF in {method.id for method in await person.permissions.list(key)}


async def test_another_transaction_is_not_the_change_that_was_asked_for(person: AsyncClient, key: Key) -> None:
    first = await person.permissions.add(key, 1, THIEF, [1])
    lie(person, "/v1/permissions", lambda _: {"transaction": str(first)}, forward=False)
    with pytest.raises(BadAnswer, match="something else"):
        await person.permissions.remove(key, 1, THIEF)


async def test_a_change_that_failed_is_not_done(person: AsyncClient, key: Key, network: FakeNetwork) -> None:
    """The gateway sends it with too little gas: the transaction is the right one, and mined, and did nothing."""
    await person.permissions.add(key, 1, THIEF, [1])
    names: list[str] = []

    async def starve(body: dict[str, Any]) -> None:
        data = interface("PKPPermissions").encode(
            "execute", int(body["key"], 16), bytes.fromhex(body["call"][2:]), body["nonce"], body["deadline"],
            bytes.fromhex(body["signature"][2:]),
        )  # fmt: skip
        sender = Sender(person.chain.rpc, network.relayer_key)
        made, pending = await sender._prepare(person.chain.contract("PKPPermissions").address, data, 0, 60_000)
        names.append(await sender._submit(made, pending))

    ask = person._ask_gateway

    async def spy(path: str, body: Any, shape: Any) -> Any:
        if path == "/v1/permissions":
            await starve(body)
        return await ask(path, body, shape)

    person._ask_gateway = spy  # type: ignore[method-assign]
    lie(person, "/v1/permissions", lambda _: {"transaction": names[-1]}, forward=False)
    with pytest.raises(BadAnswer, match="failed"):
        await person.permissions.remove(key, 1, THIEF)


# -- sessions ---------------------------------------------------------------------------------------------------------


async def test_a_revocation_that_was_never_delivered_is_not_believed(person: AsyncClient) -> None:
    session = person.session
    assert session is not None
    made_up = {"transaction": "0x" + "ab" * 32, "before": str(FOREVER), "signature": "0x" + "ab" * 65}
    lie(person, "/v1/revocations", lambda _: made_up, forward=False)
    with pytest.raises(BadAnswer, match="does not know"):
        await person.sessions.revoke(session.id)
    assert person.session is session


async def test_an_earlier_revocation_does_not_pass_for_this_one(
    person: AsyncClient, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered: list[dict[str, str]] = []
    lie(person, "/v1/revocations", lambda told: remembered.append(told) or told)
    await person.sessions.revoke_key(key)
    (earlier,) = remembered
    # Who logged in within these seconds would live on.
    monkeypatch.setattr("keyquorum.client.session.time", SimpleNamespace(time=lambda: time.time() + 30))
    later = earlier | {"before": str(int(earlier["before"]) + 600)}
    for told, error in (
        (earlier, "an earlier revocation"),
        (later, "did something else"),
        *((earlier | {"before": text}, "does not say") for text in ("", "now", str(2**64), "-1", "9" * 5000)),
        (later | {"signature": "0x"}, "did something else"),
        (later | {"signature": "none"}, "does not say"),
    ):
        lie(person, "/v1/revocations", lambda _, told=told: told, forward=False)
        with pytest.raises(BadAnswer, match=error):
            await person.sessions.revoke_key(key)


async def test_a_session_that_works_is_never_listed_as_ended(person: AsyncClient) -> None:
    session = person.session
    assert session is not None
    lie(person, "/v1/sessions/list", lambda told: {"sessions": [one | {"revoked": True} for one in told["sessions"]]})
    (listed,) = [one for one in await person.sessions.list() if one.id == session.id]
    assert not listed.revoked


async def test_an_ended_session_is_listed_as_ended_and_what_is_none_is_left_out(person: AsyncClient) -> None:
    who = Person()
    await person.login_with("siwe", who.prove, scopes=(1, 6))
    first = person.session
    assert first is not None
    await person.sessions.revoke(first.id)
    await person.login_with("siwe", who.prove, scopes=(1, 6))

    def change(told: Any) -> Any:
        sessions = [one | {"revoked": False} for one in told["sessions"]]
        return {"sessions": [*sessions, sessions[0] | {"id": "rubbish"}, sessions[0] | {"methods": []}]}

    lie(person, "/v1/sessions/list", change)
    found = {one.id: one.revoked for one in await person.sessions.list()}
    assert found[first.id] and "rubbish" not in found
    assert person.session is not None and found[person.session.id] is False


async def test_a_certificate_of_the_gateways_choice_is_refused(person: AsyncClient) -> None:
    held = person.session
    assert held is not None
    lie(person, "/v1/sessions", lambda _: {"certificate": held.certificate})
    with pytest.raises(BadAnswer):
        await person.login_with("siwe", Person().prove)
    assert person.session is held


# -- signatures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", ["summary", "digest", "r", "v"])
async def test_a_signature_of_something_else_is_refused(person: AsyncClient, key: Key, member: str) -> None:
    def change(told: Any) -> Any:
        values = {"summary": "something nice", "digest": "0x" + "11" * 32}
        if member in values:
            return told | {member: values[member]}
        signature = told["signature"]
        other = {"r": "0x" + "11" * 32, "v": signature["v"] ^ 1}[member]
        return told | {"signature": signature | {member: other}}

    lie(person, "/v1/sign", change)
    with pytest.raises(BadAnswer):
        await person.sign_message(key, "hello")


@pytest.mark.parametrize("away", [[1, 2, 3, 4], [1, 2], [9, -1]], ids=str)
async def test_which_nodes_a_gateway_calls_away_stops_nobody(person: AsyncClient, key: Key, away: list[int]) -> None:
    lie(person, "/v1/network", lambda _: {"nodes": [{"party": party, "live": False} for party in away]})
    person._hinted = None
    assert (await person.sign_message(key, "hello")).public_key == key.public_key


# -- keys of a login --------------------------------------------------------------------------------------------------


async def test_another_logins_key_is_not_ones_own(person: AsyncClient, key: Key) -> None:
    answer: dict[str, Any] = {}
    lie(person, "/v1/keys", lambda told: answer.setdefault("first", told))
    await person.sign_up()
    await person.login_with("siwe", Person().prove, scopes=(1, 6))
    with pytest.raises(BadAnswer, match="not made for this login"):
        await person.sign_up()


@pytest.mark.parametrize("relay", ["", "0x12", "0x" + "77" * 20])
async def test_a_key_by_an_unknown_relay_is_not_ones_own(person: AsyncClient, key: Key, relay: str) -> None:
    lie(person, "/v1/keys", lambda told: told | {"relay": relay})
    with pytest.raises(BadAnswer):
        await person.sign_up()


@pytest.mark.parametrize("scopes", [[1], [1, 6, 5], [6], [1, 2, 6]], ids=str)
async def test_a_new_key_with_other_scopes_than_the_usual_is_refused(
    person: AsyncClient, thief: AsyncClient, scopes: list[int]
) -> None:
    session = person.session
    assert session is not None
    (who,) = session.methods
    helper = thief.chain.contract("PKPHelper")
    data = helper.encode("mintForLogins", [(who.type, who.id, b"", scopes, bytes(32))])
    receipt = await thief.send_from_account(helper.address, data)
    token = await thief.chain.ask(helper, "keyFor", thief._account().address, who.type, who.id, bytes(32))
    answer = {"token_id": f"0x{token:064x}", "relay": thief._account().address}
    lie(person, "/v1/keys", lambda _: answer | {"transaction": receipt["transactionHash"]}, forward=False)
    with pytest.raises(BadAnswer):
        await person.sign_up()


@pytest.mark.parametrize("name", ["0x" + "ab" * 32, "0x12"])
async def test_a_key_whose_transaction_the_chain_does_not_know_is_not_new(person: AsyncClient, name: str) -> None:
    lie(person, "/v1/keys", lambda told: told | {"transaction": name})
    with pytest.raises(BadAnswer):
        await person.sign_up()


# -- keys of an owner --------------------------------------------------------------------------------------------------


class Minter:
    """A gateway that mints what it likes with an account of its own: `methods` go onto the key, `to` gets it."""

    def __init__(self, thief: AsyncClient, client: AsyncClient) -> None:
        self.thief = thief
        self.methods: tuple[Any, ...] = ()
        self.to = ""
        self.asked: list[MintRequest] = []
        self.give_away = False
        ask = client._ask_gateway

        async def lying(path: str, body: Any, shape: Any) -> Any:
            return msgspec.convert(await self.mint(body), shape) if path == "/v1/keys" else await ask(path, body, shape)

        client._ask_gateway = lying  # type: ignore[method-assign]

    async def mint(self, body: dict[str, str]) -> dict[str, Any]:
        """Mint for the request, at first to whoever it likes."""
        asked = MintRequest(body["owner"], body["request"])
        self.asked.append(asked)
        helper, payer = self.thief.chain.contract("PKPHelper"), self.thief._account().address
        request = mint_request(asked.id, self.methods, [[1] for _ in self.methods], to=self.to or asked.owner)
        receipt = await self.thief.send_from_account(helper.address, helper.encode("mintOnce", request))
        token = await asked.key_of(self.thief.chain, payer)
        if self.give_away:
            await self.thief.transfer(token, asked.owner)
        return {"token_id": f"0x{token:064x}", "relay": payer, "transaction": receipt["transactionHash"]}


async def test_a_key_that_was_somebody_elses_before_is_not_new(user: AsyncClient, thief: AsyncClient) -> None:
    """Who had it could have signed, before he gave it away, what takes everything that is sent to it later."""
    minter = Minter(thief, user)
    minter.to, minter.give_away = thief._account().address, True
    with pytest.raises(BadAnswer, match="before"):
        await user.mint()
    assert (await user.keys())[-1].owner == user._account().address


async def test_a_key_that_lets_somebody_else_in_is_not_new(user: AsyncClient, thief: AsyncClient) -> None:
    Minter(thief, user).methods = ((1, THIEF, b""),)
    with pytest.raises(BadAnswer, match="permits"):
        await user.mint()


async def test_somebody_elses_key_is_not_ones_own(user: AsyncClient, thief: AsyncClient) -> None:
    Minter(thief, user).to = thief._account().address
    with pytest.raises(BadAnswer, match="belongs"):
        await user.mint()


async def test_an_honest_key_of_whoever_pays_is_taken(user: AsyncClient, thief: AsyncClient) -> None:
    Minter(thief, user)
    assert (await user.mint()).key.owner == user._account().address


@pytest.mark.parametrize("same", ["none", "transaction"])
async def test_a_key_from_before_is_not_the_one_that_was_asked_for(
    user: AsyncClient, thief: AsyncClient, same: str
) -> None:
    first: dict[str, Any] = {}
    lie(user, "/v1/keys", lambda told: first.setdefault("answer", told))
    await user.mint()
    told = first["answer"] | ({"transaction": None} if same == "none" else {})
    lie(user, "/v1/keys", lambda _: told, forward=False)
    with pytest.raises(BadAnswer, match="not minted for this request"):
        await user.mint()


@pytest.mark.parametrize("name", [*NO_HASH, "0x" + "ab" * 32], ids=lambda name: name[:6])
async def test_an_owners_key_without_its_transaction_is_not_new(user: AsyncClient, name: str) -> None:
    user._timeout = 2
    lie(user, "/v1/keys", lambda told: told | {"transaction": name})
    with pytest.raises(BadAnswer):
        await user.mint()


@pytest.mark.parametrize("relay", ["", "0x12", "0x" + "77" * 20])
async def test_an_owners_key_by_an_unknown_relay_is_refused(user: AsyncClient, relay: str) -> None:
    lie(user, "/v1/keys", lambda told: told | {"relay": relay})
    with pytest.raises(BadAnswer):
        await user.mint()


@pytest.mark.parametrize("token", ["", "no number", "0x" + "1" * 65, "-1"])
async def test_what_names_no_key_is_the_gateways_fault(user: AsyncClient, person: AsyncClient, token: str) -> None:
    for client, call in ((user, user.mint), (person, person.sign_up)):
        lie(client, "/v1/keys", lambda told: told | {"token_id": token})
        with pytest.raises(BadAnswer):
            await call()


# -- that none is missing ---------------------------------------------------------------------------------------------

LIARS: dict[tuple[str, str], list[Callable[..., Any]]] = {
    ("async_client.py", "_sign_at_gateway"): [test_a_signature_of_something_else_is_refused],
    ("async_client.py", "_mint"): [
        test_a_key_that_was_somebody_elses_before_is_not_new,
        test_a_key_that_lets_somebody_else_in_is_not_new,
        test_somebody_elses_key_is_not_ones_own,
        test_an_owners_key_without_its_transaction_is_not_new,
        test_a_key_from_before_is_not_the_one_that_was_asked_for,
        test_an_owners_key_by_an_unknown_relay_is_refused,
        test_what_names_no_key_is_the_gateways_fault,
    ],
    ("async_client.py", "sign_up"): [
        test_another_logins_key_is_not_ones_own,
        test_a_new_key_with_other_scopes_than_the_usual_is_refused,
        test_a_key_whose_transaction_the_chain_does_not_know_is_not_new,
    ],
    ("connection.py", "_look"): [test_which_nodes_a_gateway_calls_away_stops_nobody],
    ("logins.py", "_certify"): [test_a_certificate_of_the_gateways_choice_is_refused],
    ("permissions.py", "_relayed"): [
        test_a_change_that_was_never_made_is_not_believed,
        test_another_transaction_is_not_the_change_that_was_asked_for,
        test_a_change_that_failed_is_not_done,
    ],
    ("sessions.py", "list"): [test_a_session_that_works_is_never_listed_as_ended],
    ("sessions.py", "_revoke"): [
        test_a_revocation_that_was_never_delivered_is_not_believed,
        test_an_earlier_revocation_does_not_pass_for_this_one,
    ],
}
DOORS = {"_ask_gateway", "_run_at_gateway", "_get_from_gateway"}


def test_every_place_where_the_client_listens_to_a_gateway_has_its_liar() -> None:
    found = set()
    for path in sorted(Path(keyquorum.client.__file__).parent.glob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)) and function.name not in DOORS:
                called = {node.func.attr for node in ast.walk(function) if isinstance(node, ast.Call)
                          and isinstance(node.func, ast.Attribute)}  # fmt: skip
                found |= {(path.name, function.name)} if called & DOORS else set()
    assert found == set(LIARS)
