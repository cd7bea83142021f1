"""Logins with a Discord-shaped provider: the whole way, from browser to identity, and who tries to cut it short."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web

from discord_kit import EPOCH, N, World, secret
from keyquorum.auth.commitment import Commitment, Receipt
from keyquorum.client import discord
from keyquorum.client.discord import DiscordLogin
from keyquorum.client.errors import BadAnswer, KeyquorumError, Misconfigured, Refused, Unavailable
from keyquorum.formats.strict_json import loads
from keyquorum.refusal import Invalid
from provider_kit import Discord, Person, new_statement


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
        with pytest.raises(Invalid) as caught:
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
    with pytest.raises(Invalid) as caught:
        await world.verify({"token": token, "receipts": receipts}, statement)
    assert caught.value.code == "wrong_application"


async def test_a_token_without_identify_and_one_that_discord_does_not_know_are_refused(world: World) -> None:
    statement = new_statement()
    mute = world.provider.issue("alice", world.provider.application, ())
    for token, code in ((mute, "no_identity"), ("f" * 30, "provider_refused")):
        receipts = await discord.from_nodes(world.nodes, world.transport)(
            Commitment.to_token("discord", token, statement)
        )
        with pytest.raises(Invalid) as caught:
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
    with pytest.raises(Invalid) as caught:
        await world.verify(proof, statement)
    assert (caught.value.code, caught.value.status) == ("provider_bad_answer", 503)
    assert "127.0.0.1" in caught.value.message


@pytest.mark.parametrize("status", [500, 503, 429, 302, 404])
async def test_a_discord_that_is_down_is_named(world: World, status: int) -> None:
    statement = new_statement()
    proof = await world.log_in(statement)
    world.provider.status = status
    with pytest.raises(Invalid) as caught:
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
