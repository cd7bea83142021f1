"""Every login method on a running network: a key without gas, a new device, removal; and a node that forwards."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from eth_account import Account
from eth_account.messages import encode_defunct
from every_way import EveryWay, Way
from live import Live

from keyquorum.auth import login_request
from keyquorum.auth.commitment import Commitment
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import Statement
from keyquorum.client import AsyncClient
from keyquorum.client.errors import KeyquorumError, Refused
from keyquorum.formats.text import from_hex
from soft_passkey import SoftPasskey

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]
WAYS = [
    "wallet", "own key, typed data", "own key, text", "passkey", "oidc-provider", "oidc-provider-mock", "discord",
    "email", "sms",
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EveryWay]:
    async with EveryWay(tmp_path_factory.mktemp("ways")) as found:
        yield found


def device(world: EveryWay) -> AsyncClient:
    """Somebody's client: no account, no ether, everything through the gateway."""
    return world.network.client(account=None, through_gateway=True)


async def signs(client: AsyncClient, key: Any, text: str) -> None:
    signed = await client.sign_message(key, text)
    assert Account.recover_message(encode_defunct(text=text), signature=signed.compact) == key.address


async def is_refused(client: AsyncClient, key: Any, text: str) -> Refused:
    """Return the refusal once the nodes have seen the newest block, which they look for four times a second."""
    for attempt in range(100):
        try:
            await client.sign_message(key, f"{text} {attempt}")
        except Refused as error:
            return error
        await asyncio.sleep(0.1)
    raise AssertionError("still accepted after ten seconds")


def backup(world: EveryWay, name: str) -> Way:
    """A passkey that is not the way's own."""
    assert world.network.network is not None and world.network.network.gateway is not None
    origin = world.network.network.gateway.replace("127.0.0.1", "localhost")
    passkey = SoftPasskey(origin=origin, credential_id=f"backup of {name}".encode())

    async def touch(statement: Statement) -> Any:
        return passkey.proof(statement)

    return Way("backup", "passkey", touch, user_pubkey=passkey.public_key + passkey.credential_id)


@pytest.mark.parametrize("name", WAYS)
async def test_a_login_makes_a_key_signs_on_a_new_device_and_is_removed(world: EveryWay, name: str) -> None:
    way = world.ways[name]
    async with device(world) as first, device(world) as second:
        session = await way.login(first, scopes=[1, 6])
        mine = session.methods[0]
        key = (await first.sign_up(user_pubkey=way.user_pubkey)).key
        assert key.owner == key.address
        await signs(first, key, "the first device")

        await way.login(second, scopes=[1])
        assert (await second.sign_up(user_pubkey=way.user_pubkey)).key.token_id == key.token_id
        await signs(second, key, "a new device")

        other = backup(world, name)
        async with device(world) as third:
            theirs = (await other.login(third, scopes=[1, 6])).methods[0]
            with pytest.raises(Refused):
                await third.sign_message(key, "not yet")
            await first.permissions.add(key, theirs.type, theirs.id, [1, 6], other.user_pubkey)
            await signs(third, key, "two methods, one address")
            await third.permissions.remove(key, mine.type, mine.id)
            await signs(third, key, "the address stays")

            for client in (first, second):
                assert (await is_refused(client, key, "removed")).status == 403
            async with device(world) as fourth:
                await way.login(fourth, scopes=[1])
                assert (await is_refused(fourth, key, "removed, logged in again")).status == 403
            assert [(one.type, one.id) for one in await third.permissions.list(key)] == [(theirs.type, theirs.id)]


async def test_an_account_at_a_provider_is_enough_for_a_transaction(world: EveryWay) -> None:
    """No wallet, no gas of one's own for the key, one login."""
    async with device(world) as person, world.network.client() as friend:
        await world.ways["oidc-provider"].login(person, scopes=[1])
        key = (await person.sign_up(another=f"t{secrets.token_hex(4)}")).key
        assert key.address
        await friend.send_from_account(key.address, value=10**17)
        sent = await person.send_transaction(key, {"to": friend.account.address, "value": 10**15})
        assert sent.receipt is not None and int(sent.receipt["status"], 16) == 1


async def test_the_same_login_at_once_gets_one_key(world: EveryWay) -> None:
    label = f"at once {secrets.token_hex(4)}"
    async with device(world) as one, device(world) as two:
        await asyncio.gather(*(world.ways["wallet"].login(client, scopes=[1]) for client in (one, two)))
        found = await asyncio.gather(*(client.sign_up(another=label) for client in (one, two, one, two)))
        assert len({minted.key.token_id for minted in found}) == 1
        assert (await one.sign_up(another=label + " more")).key.token_id != found[0].key.token_id


async def test_two_methods_together_may_do_what_neither_may_alone(world: EveryWay) -> None:
    async with device(world) as person:
        await world.ways["wallet"].login(person, scopes=[1, 6])
        key = (await person.sign_up(another=f"together {secrets.token_hex(4)}")).key
        async with device(world) as strong, device(world) as other:
            mail, extra = world.ways["email"], backup(world, "step-up")
            weak = (await mail.login(strong, scopes=[1])).methods[0]
            second = (await extra.login(other, scopes=[1])).methods[0]
            await person.permissions.add(key, weak.type, weak.id, [32 + 1])
            await person.permissions.add(key, second.type, second.id, [32 + 1], extra.user_pubkey)
            with pytest.raises(Refused) as caught:
                await strong.sign_message(key, "alone")
            assert caught.value.code == "second_method_needed"
            await strong.step_up("passkey", extra.prove)
            await signs(strong, key, "together")


# -- T40 --------------------------------------------------------------------------------------------------------------


def forgeries(statement: Statement, thief: SessionPrivateKey) -> list[tuple[str, Statement]]:
    """Everything a thief would like the proof to be for."""
    mine = replace(statement, session=thief.public)
    return [
        ("own session key", mine),
        ("own session key, fresh nonce", replace(mine, nonce=secrets.token_hex(16))),
        ("own session key, every scope", replace(mine, scopes=(1, 2, 3, 4, 5, 6, 7, 8))),
        ("more scopes", replace(statement, scopes=(1, 2, 3, 4, 5, 6))),
        ("another key", replace(statement, keys=("0x" + "ab" * 32,))),
        ("a longer life", replace(statement, expires=statement.expires + 60)),
        ("more uses", replace(statement, uses=statement.uses + 1)),
        ("another nonce", replace(statement, nonce=secrets.token_hex(16))),
    ]


class Thief:
    """A node that forwards all it is shown, in the name of its own session key, to every other node."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.attempts: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()

    async def try_all(self, way: Way, statement: Statement, proof: Any) -> None:
        thief = SessionPrivateKey.generate()
        for _, forged in forgeries(statement, thief):
            await self.forward(thief, way, forged, proof)
            if way.method == "discord":
                receipts = await self.commit(proof["token"], forged)
                await self.forward(thief, way, forged, proof | {"receipts": receipts})
        for other in {"siwe", "wallet-key", "passkey", "oidc", "discord", "email", "sms"} - {way.method}:
            await self.forward(thief, way, statement, proof, method=other)

    async def forward(
        self, thief: SessionPrivateKey, way: Way, statement: Statement, proof: Any, method: str | None = None
    ) -> None:
        parties = sorted(self.live.network.nodes)
        runs = [sorted([party, *[j for j in parties if j != party][:2]]) for party in parties]
        expires = int(time.time()) + 50
        request = login_request.make(thief, statement, method or way.method, proof, expires=expires, runs=runs)
        asked = [
            self.live.ask("POST", url + "/v1/sessions", json={"request": request, "run": parties.index(party)})
            for party, url in self.live.network.nodes.items()
        ]
        for status, answer in await asyncio.gather(*asked):
            self.attempts[way.name] += 1
            self.accepted[way.name] += not 400 <= status < 500
            self.refusals[answer.get("error", {}).get("code", str(status))] += 1

    async def commit(self, token: str, statement: Statement) -> list[Any]:
        """Ask every node for a receipt of its own for a token it has seen."""
        body = Commitment.to_token("discord", token, statement).to_json()
        urls = [url + "/v1/commitments" for url in self.live.network.nodes.values()]
        answers = await asyncio.gather(*(self.live.ask("POST", url, json=body) for url in urls))
        return [answer["receipt"] for status, answer in answers if status == 200] or [
            {"party": 1, "issued_at": int(time.time()), "signature": "0x" + "00" * 65}
        ]


async def test_a_node_that_forwards_what_it_sees_gains_nothing(
    world: EveryWay, capsys: pytest.CaptureFixture[str]
) -> None:
    live = Live(world.network)
    await live.open()
    thief = Thief(live)
    try:
        for way in world.ways.values():
            async with device(world) as honest:
                # Ahead of the client: the proof is shown to the thief before anybody else has it.
                async def raced(statement: Statement, way: Way = way) -> Any:
                    proof = await way.prove(statement)
                    await thief.try_all(way, statement, proof)
                    return proof

                key = SessionPrivateKey.generate()
                way.key = key
                session = await honest.login_with(way.method, raced, scopes=[2], key=key)
                assert session.methods
                # And behind it.
                await thief.try_all(way, *way.seen[-1])
    finally:
        await live.close()
    with capsys.disabled():
        methods, attempts = len(thief.attempts), sum(thief.attempts.values())
        print(f"\nT40: {methods} ways x {attempts} attempts, accepted = {sum(thief.accepted.values())}")
    assert set(thief.attempts) == set(world.ways) and sum(thief.accepted.values()) == 0, thief.refusals
    assert "busy" not in thief.refusals and "too_many" not in str(thief.refusals), thief.refusals


async def test_sessions_are_listed_and_revoked_within_a_block(world: EveryWay) -> None:
    way = world.ways["passkey"]
    async with device(world) as here, device(world) as there:
        await way.login(here, scopes=[1])
        key = (await here.sign_up(another=f"revoked {secrets.token_hex(4)}", user_pubkey=way.user_pubkey)).key
        elsewhere = await way.login(there, scopes=[1])
        await signs(there, key, "still open")
        assert from_hex("0x" + elsewhere.id, 32, "id") and elsewhere.id in {
            one.id for one in await here.sessions.list()
        }
        await here.sessions.revoke(elsewhere.id)
        assert (await is_refused(there, key, "revoked")).code == "session_revoked"
        await signs(here, key, "the other one goes on")


async def test_a_change_that_loosens_waits_and_an_older_method_cancels_it(world: EveryWay) -> None:
    async with device(world) as owner, device(world) as stranger:
        await world.ways["wallet"].login(owner, scopes=[1, 6])
        key = (await owner.sign_up(another=f"delayed {secrets.token_hex(4)}")).key
        await owner.permissions.set_delay(key, 3600)
        intruder = backup(world, "intruder")
        theirs = (await intruder.login(stranger, scopes=[1])).methods[0]
        await owner.permissions.add(key, theirs.type, theirs.id, [1], intruder.user_pubkey)
        with pytest.raises(KeyquorumError):
            await stranger.sign_message(key, "too early")
        (change,) = await owner.permissions.pending(key)
        assert change.active_at > time.time() + 3000
        async with device(world) as watchful:
            await world.ways["wallet"].login(watchful, scopes=[4])
            await watchful.permissions.cancel(key, change.change_id)
        assert await owner.permissions.pending(key) == ()
