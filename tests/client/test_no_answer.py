"""Whoever hangs, nobody gets a bare error: every public call ends, in time, with a result or a `KeyquorumError`.

Gateway, nodes and chain endpoint each take the connection and never answer, under every call that a client has.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from fake_network import FakeNetwork
from keyquorum.client import AsyncClient, Client, Key, KeyquorumError, Misconfigured, Network, Session, paying, seen
from keyquorum.client import network as networks
from keyquorum.client.permissions import Permissions
from keyquorum.client.sessions import Sessions
from login_kit import Person

FRIEND = b"\x77" * 20
NOBODY = "0x" + "77" * 20
SECONDS = 0.2
Call = Callable[[AsyncClient, Key], Awaitable[Any]]

CALLS: dict[str, Call] = {
    "login": lambda c, _: c.login(),
    "login_with": lambda c, _: c.login_with("siwe", Person().prove),
    "step_up": lambda c, _: c.step_up("siwe", Person().prove),
    "sign_up": lambda c, _: c.sign_up(),
    "network": lambda c, _: c.network(),
    "key": lambda c, k: c.key(k),
    "keys": lambda c, _: c.keys(),
    "mint": lambda c, _: c.mint(),
    "transfer": lambda c, k: c.transfer(k, c._account().address),
    "sign": lambda c, k: c.sign(k, {"kind": "evm-message", "message": "0x11"}),
    "sign_message": lambda c, k: c.sign_message(k, "x"),
    "sign_typed_data": lambda c, k: c.sign_typed_data(k, MAIL),
    "sign_digest": lambda c, k: c.sign_digest(k, b"\x11" * 32),
    "sign_transaction": lambda c, k: c.sign_transaction(k, {"to": NOBODY, "value": 1}),
    "prepare_transaction": lambda c, k: c.prepare_transaction(k, {"to": NOBODY, "value": 1}),
    "send_transaction": lambda c, k: c.send_transaction(k, {"to": NOBODY, "value": 0}),
    "send_from_account": lambda c, _: c.send_from_account(NOBODY),
    "permissions.list": lambda c, k: c.permissions.list(k),
    "permissions.pending": lambda c, k: c.permissions.pending(k),
    "permissions.delay": lambda c, k: c.permissions.delay(k),
    "permissions.add": lambda c, k: c.permissions.add(k, 1, FRIEND, [1]),
    "permissions.remove": lambda c, k: c.permissions.remove(k, 1, FRIEND),
    "permissions.add_scope": lambda c, k: c.permissions.add_scope(k, 1, FRIEND, 2),
    "permissions.remove_scope": lambda c, k: c.permissions.remove_scope(k, 1, FRIEND, 2),
    "permissions.set_delay": lambda c, k: c.permissions.set_delay(k, 1),
    "permissions.cancel": lambda c, k: c.permissions.cancel(k, 1),
    "permissions.renounce": lambda c, k: c.permissions.renounce(k),
    "sessions.list": lambda c, _: c.sessions.list(),
    "sessions.revoke": lambda c, _: c.sessions.revoke("11" * 32),
    "sessions.revoke_all": lambda c, _: c.sessions.revoke_all(),
    "sessions.revoke_key": lambda c, k: c.sessions.revoke_key(k),
}
# Nothing is asked of anybody before these end, or they are how a client is opened, which has a test of its own.
OTHERS = {"connect", "close"}
MAIL = {
    "types": {"Mail": [{"name": "text", "type": "string"}]},
    "primaryType": "Mail",
    "domain": {"name": "Post", "chainId": 31337},
    "message": {"text": "hello"},
}


@pytest.fixture
async def silence() -> AsyncIterator[str]:
    """The address of a server that takes connections and says nothing."""
    writers: list[asyncio.StreamWriter] = []

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    for writer in writers:
        writer.close()


@pytest.fixture(scope="module")
def mine(running: FakeNetwork) -> tuple[Key, Session]:
    """A key and a session of the account, for all tests: making them takes longer than trying a call."""
    with Client(running.network, account=running.account, timeout=30) as client:
        return client.mint().key, client.login()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen.until_seen, "__defaults__", (SECONDS,))
    monkeypatch.setattr(seen, "ASK_SECONDS", SECONDS)
    monkeypatch.setattr(paying, "RECEIPT_SECONDS", SECONDS)


def test_every_public_call_is_tried() -> None:
    found = set()
    for prefix, part in (("", AsyncClient), ("permissions.", Permissions), ("sessions.", Sessions)):
        for name, _ in inspect.getmembers(part, inspect.iscoroutinefunction):
            found |= {prefix + name} if not name.startswith("_") else set()
    assert found - OTHERS == set(CALLS)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("who", ["gateway", "nodes", "chain", "chain that mines nothing"])
async def test_a_call_that_nobody_answers_ends_with_an_error_of_ours(
    network: FakeNetwork, mine: tuple[Key, Session], silence: str, who: str, name: str
) -> None:
    gateway, (key, session) = silence if who == "gateway" else None, mine
    where = Network(network.id, network.chain.url, gateway)
    async with AsyncClient(
        where, account=network.account, session=session, through_gateway=bool(gateway), finality_seconds=SECONDS
    ) as tried:
        tried._timeout = tried.chain.rpc._timeout = SECONDS
        await tried.chain.rpc.close()
        if who == "nodes":
            network.set("frozen", *network.nodes)
        if who == "chain":
            tried.chain.rpc.url = silence
        if who == "chain that mines nothing":

            async def none(_: str) -> None:
                return None

            tried.chain.rpc.receipt = none  # type: ignore[method-assign]
        try:
            async with asyncio.timeout(20):
                await CALLS[name](tried, key)
        except KeyquorumError as error:
            assert error.message and error.hint and error.code


async def test_a_network_file_that_nobody_serves_is_an_error_of_ours(
    silence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "LOAD_SECONDS", SECONDS)
    with pytest.raises(Misconfigured, match="nobody answers"):
        await AsyncClient(silence).connect()


async def test_a_chain_that_says_nothing_when_opening_is_an_error_of_ours(silence: str) -> None:
    with pytest.raises(KeyquorumError):
        await AsyncClient(Network("eip155:31337:0x" + "11" * 20, silence), timeout=SECONDS).connect()
