"""Logins with a Discord-shaped provider: the whole way, from browser to identity, and who tries to cut it short."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from keyquorum.algebra.strict_json import loads
from keyquorum.auth.commitment import Commitment, Receipt
from keyquorum.auth.discord import DiscordSettings
from keyquorum.auth.errors import AuthError
from keyquorum.auth.method import Committee, Context, Proven, method
from keyquorum.auth.statement import Statement
from keyquorum.chain.account import address_of
from keyquorum.client import discord
from keyquorum.client.discord import DiscordLogin
from keyquorum.client.errors import BadAnswer, KeyquorumError, Misconfigured, Refused, Unavailable
from keyquorum.client.fanout import Committee as Nodes
from keyquorum.client.results import Node
from keyquorum.client.transport import Transport
from keyquorum.node.auth_settings import origins
from keyquorum.node.providers import Providers
from provider_kit import Discord, Person, new_statement

N, T, EPOCH = 4, 3, 5


def secret(party: int) -> bytes:
    return (party + 100).to_bytes(32, "big")


@dataclass
class Signer:
    """A node's `POST /v1/commitments`: the first binding of each token, and what it was shown."""

    party: int
    shown: list[bytes] = field(default_factory=list)
    bound: dict[bytes, bytes] = field(default_factory=dict)

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.shown.append(body)
        commitment = Commitment.from_json(loads(body, 1 << 16))
        if self.bound.setdefault(commitment.token_digest, commitment.binding) != commitment.binding:
            error = {
                "code": "token_committed",
                "message": "this token was committed to before",
                "hint": "get a new one",
            }
            return web.json_response({"error": error}, status=409)
        receipt = Receipt.sign(commitment, EPOCH, self.party, int(time.time()), secret(self.party))
        return web.json_response({"receipt": receipt.to_json()})


class World:
    """Four nodes, Discord, and what the chain says of the nodes."""

    def __init__(self, provider: Discord, stack: AsyncExitStack) -> None:
        self.provider = provider
        self.stack = stack
        self.signers = [Signer(party) for party in range(1, N + 1)]
        self.urls: dict[int, str] = {}
        self.runners: dict[int, web.AppRunner] = {}
        self.transport = Transport()
        self.committee = Committee({one.party: address_of(secret(one.party)) for one in self.signers}, T, EPOCH)
        self.settings = DiscordSettings(provider.application, provider.url + "/api/v10")
        self.fetch = Providers(origins({"discord": self.settings}))
        self.login = DiscordLogin(provider.application, provider.url)

    async def start(self) -> None:
        for signer in self.signers:
            app = web.Application()
            app.router.add_post("/v1/commitments", signer.answer)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.stack.push_async_callback(runner.cleanup)
            self.runners[signer.party] = runner
            self.urls[signer.party] = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self.stack.push_async_callback(self.transport.close)
        self.stack.push_async_callback(self.fetch.close)

    @property
    def nodes(self) -> Nodes:
        return Nodes(tuple(Node(party, url) for party, url in self.urls.items()), T, EPOCH)

    async def log_in(self, statement: Statement, person: Person | None = None, **changes: Any) -> dict[str, Any]:
        person = person or Person()
        gather = changes.pop("gather", None) or discord.from_nodes(self.nodes, self.transport)
        login = changes.pop("login", self.login)
        proof = await discord.log_in(login, statement, person.open_url, gather, self.committee, seconds=30)
        await person.done()
        return proof

    async def verify(self, proof: object, statement: Statement) -> Proven:
        context = Context(
            int(time.time()),
            fetch=self.fetch,
            conceal=lambda kind, name: bytes([kind]) + name,
            settings=self.settings,
            committee=self.committee,
        )
        return await method("discord").verify(proof, statement, context)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        world = World(await stack.enter_async_context(Discord().serve()), stack)
        await world.start()
        yield world


async def test_a_person_logs_in_with_discord(world: World) -> None:
    statement, person = new_statement(), Person()
    proof = await world.log_in(statement, person)
    proven = await world.verify(proof, statement)
    assert (proven.type, proven.id) == (4, b"\x04" + world.provider.users["alice"].encode())
    assert person.request["response_type"] == "token" and person.request["scope"] == "identify"
    assert [receipt["party"] for receipt in proof["receipts"]] == [1, 2, 3, 4]


async def test_a_public_client_uses_a_code_with_pkce(world: World) -> None:
    statement, person = new_statement(), Person("bob")
    login = DiscordLogin(world.provider.application, world.provider.url, public_client=True)
    proven = await world.verify(await world.log_in(statement, person, login=login), statement)
    assert proven.id == b"\x04" + world.provider.users["bob"].encode()
    assert person.request["response_type"] == "code"


async def test_no_node_sees_the_token_before_the_receipts_are_complete(world: World) -> None:
    proof = await world.log_in(new_statement())
    for signer in world.signers:
        assert len(signer.shown) == 1 and proof["token"].encode() not in signer.shown[0]


async def test_a_token_cannot_be_committed_to_twice(world: World) -> None:
    statement = new_statement()
    proof = await world.log_in(statement)
    stolen = Commitment.to_token("discord", proof["token"], new_statement())
    with pytest.raises(Refused) as caught:
        await discord.from_nodes(world.nodes, world.transport)(stolen)
    assert caught.value.code == "token_committed"
    again = Commitment.to_token("discord", proof["token"], statement)
    assert len(await discord.from_nodes(world.nodes, world.transport)(again)) == N


async def test_a_node_that_is_shown_the_token_cannot_use_it(world: World) -> None:
    proof, own = await world.log_in(new_statement()), new_statement()
    stolen = Commitment.to_token("discord", proof["token"], own)
    mine = Receipt.sign(stolen, EPOCH, 1, int(time.time()), secret(1)).to_json()
    for receipts in ([mine], [mine, *proof["receipts"][1:]], proof["receipts"]):
        with pytest.raises(AuthError) as caught:
            await world.verify({"token": proof["token"], "receipts": receipts}, own)
        assert caught.value.code in ("too_few_receipts", "bad_receipt")


async def test_with_a_node_down_nothing_is_shown_and_the_error_says_how_many_must_run(world: World) -> None:
    await world.runners[4].cleanup()
    with pytest.raises(Unavailable) as caught:
        await world.log_in(new_statement())
    assert (caught.value.code, caught.value.needed, caught.value.live) == ("too_few_receipts", 4, 3)
    assert world.provider.asked == []


async def test_a_gateway_that_invents_receipts_is_shown_nothing(world: World) -> None:
    seen: list[Commitment] = []

    async def invent(commitment: Commitment) -> list[Any]:
        seen.append(commitment)
        now, liar = int(time.time()), secret(99)
        return [
            *(Receipt.sign(commitment, EPOCH, party, now, liar).to_json() for party in range(1, N + 1)),
            Receipt.sign(commitment, EPOCH, 9, now, liar).to_json(),
            {"party": 1, "issued_at": now, "signature": "0x"},
            "nonsense",
        ]

    with pytest.raises(Unavailable) as caught:
        await world.log_in(new_statement(), gather=invent)
    assert (caught.value.code, caught.value.live, len(seen)) == ("too_few_receipts", 0, 1)


async def test_a_gateways_good_receipts_are_as_good_as_the_nodes_own(world: World) -> None:
    async def fan_out(request: web.Request) -> web.Response:
        commitment = Commitment.from_json(loads(await request.read(), 1 << 16))
        receipts = await discord.from_nodes(world.nodes, world.transport)(commitment)
        return web.json_response({"receipts": receipts, "missing": {}})

    app = web.Application()
    app.router.add_post("/v1/commitments", fan_out)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    world.stack.push_async_callback(runner.cleanup)
    gateway = f"http://127.0.0.1:{runner.addresses[0][1]}"
    statement = new_statement()
    proof = await world.log_in(statement, gather=discord.from_gateway(gateway, world.transport))
    assert await world.verify(proof, statement)
    # A gateway that is down, or answers something else, is an error of its own; the token stays here.
    with pytest.raises(KeyquorumError):
        await world.log_in(statement, gather=discord.from_gateway("http://127.0.0.1:1", world.transport))
    with pytest.raises((BadAnswer, Refused)):
        await world.log_in(statement, gather=discord.from_gateway(world.provider.url, world.transport))


async def test_a_real_token_of_another_application_is_refused(world: World) -> None:
    statement = new_statement()
    token = world.provider.issue("alice", "1000000000000000002")
    commitment = Commitment.to_token("discord", token, statement)
    receipts = await discord.from_nodes(world.nodes, world.transport)(commitment)
    with pytest.raises(AuthError) as caught:
        await world.verify({"token": token, "receipts": receipts}, statement)
    assert caught.value.code == "wrong_application"


async def test_a_token_without_identify_and_one_that_discord_does_not_know_are_refused(world: World) -> None:
    statement = new_statement()
    mute = world.provider.issue("alice", world.provider.application, ())
    for token, code in ((mute, "no_identity"), ("f" * 30, "provider_refused")):
        receipts = await discord.from_nodes(world.nodes, world.transport)(
            Commitment.to_token("discord", token, statement)
        )
        with pytest.raises(AuthError) as caught:
            await world.verify({"token": token, "receipts": receipts}, statement)
        assert caught.value.code == code


@pytest.mark.parametrize(
    "lie",
    [
        {"application": None},
        {"application": {"id": 1}},
        {"user": {"id": "<script>"}},
        {"user": "alice"},
        {"expires": "never"},
        {"expires": "2999-01-01T00:00:00+00:00"},
    ],
)
async def test_a_discord_that_lies_about_its_form_is_named(world: World, lie: dict[str, Any]) -> None:
    statement = new_statement()
    proof = await world.log_in(statement)
    world.provider.lie = lie
    with pytest.raises(AuthError) as caught:
        await world.verify(proof, statement)
    assert (caught.value.code, caught.value.status) == ("provider_bad_answer", 503)
    assert "127.0.0.1" in caught.value.message


@pytest.mark.parametrize("status", [500, 503, 429, 302, 404])
async def test_a_discord_that_is_down_is_named(world: World, status: int) -> None:
    statement = new_statement()
    proof = await world.log_in(statement)
    world.provider.status = status
    with pytest.raises(AuthError) as caught:
        await world.verify(proof, statement)
    assert (caught.value.code, caught.value.status) == ("provider_unavailable", 503)
    assert "127.0.0.1" in caught.value.message


async def test_who_does_not_agree_is_told_so(world: World) -> None:
    for public in (False, True):
        login = DiscordLogin(world.provider.application, world.provider.url, public_client=public)
        with pytest.raises(Refused) as caught:
            await world.log_in(new_statement(), Person(agrees=False), login=login)
        assert caught.value.code == "login_denied"
    assert not any(signer.shown for signer in world.signers)


def test_the_login_configuration_says_whether_there_is_discord() -> None:
    assert discord.configured({"discord": {"application_id": "1", "more": 2}}) == DiscordLogin("1")
    assert (
        discord.configured({"discord": {"application_id": "1"}}).authorize_url == "https://discord.com/oauth2/authorize"
    )
    for login in ({}, {"discord": None}, {"discord": {}}, {"discord": {"application_id": 5}}):
        with pytest.raises(Misconfigured):
            discord.configured(login)
