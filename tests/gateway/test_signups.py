"""Sign-ups: a login becomes a key of its own; asked twice it is the same; many at once share transactions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest

from fake_network import FakeNetwork
from keyquorum.auth import passkey
from keyquorum.auth.certificate import Certificate
from keyquorum.auth.method import Proven
from keyquorum.auth.request import Request
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.chain.rpc import Reverted
from keyquorum.client import AsyncClient, BadAnswer, ChainError, Network, Refused, Unavailable
from keyquorum.client.signup import label_of, mint_intent
from keyquorum.gateway import signups
from keyquorum.gateway.app import Server
from keyquorum.gateway.config import GatewayConfig
from keyquorum.gateway.login_keys import LoginKey, read_login_key
from login_kit import Person

LOGIN = LoginKey(1, b"\x31" * 20)


@pytest.fixture
async def nobody(server: Server, network: FakeNetwork) -> AsyncIterator[AsyncClient]:
    """A client without an account and without ether: all it has is the gateway."""
    where = Network(network.id, network.chain.url, server.url)
    async with AsyncClient(where, through_gateway=True, timeout=20) as client:
        yield client


def logins(count: int) -> list[LoginKey]:
    return [LoginKey(1, SessionPrivateKey.generate().public.x[:20]) for _ in range(count)]


# -- what a person gets -----------------------------------------------------------------------------------------------


async def test_a_login_becomes_a_key_that_owns_itself_without_wallet_and_gas(nobody: AsyncClient) -> None:
    person = Person()
    await nobody.login_with("siwe", person.prove)
    minted = await nobody.sign_up()
    assert minted.transaction is not None
    assert minted.key.owner == minted.key.address
    (method,) = await nobody.permissions.list(minted.key)
    assert (method.type, method.id, method.scopes) == (1, person.id, (1, 6))
    assert (await nobody.sign_message(minted.key, "mine")).public_key == minted.key.public_key


async def test_the_same_login_gets_the_same_key_also_at_once_and_another_one_by_a_word(nobody: AsyncClient) -> None:
    await nobody.login_with("siwe", Person().prove)
    found = await asyncio.gather(*(nobody.sign_up() for _ in range(5)))
    assert len({one.key for one in found}) == 1
    again = await nobody.sign_up()
    assert (again.key, again.transaction) == (found[0].key, None)
    other = await nobody.sign_up(another="savings")
    assert other.key != again.key
    assert (await nobody.sign_up(another="savings")).key == other.key


async def test_a_gateway_that_was_started_again_remembers_by_the_chain(
    nobody: AsyncClient, config: GatewayConfig, network: FakeNetwork
) -> None:
    person = Person()
    session = await nobody.login_with("siwe", person.prove)
    first = await nobody.sign_up()
    async with Server(config) as fresh:
        where = Network(network.id, network.chain.url, fresh.url)
        async with AsyncClient(where, session=session) as client:
            again = await client.sign_up()
    assert (again.key, again.transaction) == (first.key, None)


async def test_a_key_that_was_moved_is_not_given_out_again(server: Server, nobody: AsyncClient) -> None:
    await nobody.login_with("siwe", Person().prove)
    first = await nobody.sign_up()
    mine = (1, nobody.session.methods[0].id)  # type: ignore[union-attr]
    with pytest.raises(Refused, match="LastManager") as refused:
        await nobody.permissions.remove(first.key, *mine)
    assert "add another" in str(refused.value.hint)
    await nobody.permissions.renounce(first.key)
    await nobody.permissions.remove(first.key, *mine)
    second = await nobody.sign_up()
    assert second.key != first.key


async def test_the_openapi_answer_of_a_sign_up_names_address_key_and_payer(
    nobody: AsyncClient, server: Server, http: aiohttp.ClientSession
) -> None:
    session = await nobody.login_with("siwe", Person().prove)
    asked = session.request("mint", mint_intent())
    async with http.post(server.url + "/v1/keys", json=asked) as response:
        found = await response.json()
    key = await nobody.key(found["token_id"])
    assert (found["address"], found["public_key"]) == (key.address, "0x" + key.public_key.hex())
    assert found["minted"] is True and found["relay"].startswith("0x")


# -- many at once -----------------------------------------------------------------------------------------------------


async def test_many_logins_at_once_share_transactions(server: Server) -> None:
    service = server.gateway._signups
    found = await asyncio.gather(*(service.mint(login, "here") for login in logins(20)))
    assert len({one.token_id for one in found}) == 20
    assert len({one.transaction for one in found}) <= 6


async def test_one_that_the_chain_refuses_does_not_fail_the_others(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = server.gateway._signups
    good, bad = logins(7), LoginKey(0, b"\x01")

    async def no_key(_: LoginKey) -> int:
        return 0

    monkeypatch.setattr(service, "_existing", no_key)
    found = await asyncio.gather(
        *(service.mint(login, "here") for login in [*good[:3], bad, *good[3:]]), return_exceptions=True
    )
    failed = found.pop(3)
    assert isinstance(failed, ChainError) and failed.code == "mint_refused" and "BadAuthMethod" in failed.message
    assert len({one.token_id for one in found if isinstance(one, signups.SignedUp)}) == 7


async def test_a_chain_that_counts_gas_differently_is_asked_for_an_estimate_from_then_on(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = server.gateway._signups
    monkeypatch.setattr(signups, "mint_gas", lambda _: 100_000)
    found = await asyncio.gather(*(service.mint(login, "here") for login in logins(3)))
    assert len({one.token_id for one in found}) == 3
    assert not service._usual_gas


async def test_who_hangs_up_does_not_stop_what_others_wait_for(server: Server) -> None:
    service = server.gateway._signups
    (login,) = logins(1)
    first, second = (asyncio.create_task(service.mint(login, "here")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).token_id


async def test_an_empty_pool_is_waited_for_and_then_unavailable(
    config: GatewayConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signups, "POOL_SECONDS", 0.3)
    with FakeNetwork(2, pool=2) as small:
        async with Server(msgspec.structs.replace(config, network=small.id, rpc=small.chain.url)) as server:
            service = server.gateway._signups
            wanted = [asyncio.create_task(service.mint(login, "here")) for login in logins(5)]
            done = await asyncio.gather(*wanted, return_exceptions=True)
            assert sum(isinstance(one, signups.SignedUp) for one in done) == 2
            assert {one.code for one in done if isinstance(one, Unavailable)} == {"pool_empty"}
            waiting = [asyncio.create_task(service.mint(login, "here")) for login in logins(2)]
            small.call(small._fill_pool())
            assert all([(await one).token_id for one in waiting])


async def test_a_pool_that_others_emptied_meanwhile_fails_nobody(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = server.gateway._signups
    send, calls = service._send, []

    async def first_too_late(wanted: Any, estimate: bool) -> dict[str, Any]:
        calls.append(len(wanted))
        if len(calls) == 1:
            from keyquorum.chain.contracts import _known_errors

            empty = next(topic for topic, error in _known_errors().items() if error.name == "PoolEmpty")
            raise Reverted(3, "execution reverted", "0x" + empty.hex())
        return await send(wanted, estimate)

    monkeypatch.setattr(service, "_send", first_too_late)
    (login,) = logins(1)
    assert (await service.mint(login, "here")).token_id
    assert len(calls) == 2


# -- limits -----------------------------------------------------------------------------------------------------------


async def test_a_login_an_address_and_a_type_get_only_so_many_keys_an_hour(config: GatewayConfig) -> None:
    limited = msgspec.structs.replace(config, mints_per_owner=1, mints_per_client=3, mints_per_method=5)
    async with Server(limited) as server:
        service = server.gateway._signups

        async def refused(login: LoginKey, client: str) -> None:
            with pytest.raises(Refused, match="too many keys") as caught:
                await service.mint(login, client)
            assert (caught.value.code, caught.value.status) == ("too_many_mints", 429)

        one, *others = logins(6)
        assert (await service.mint(one, "a")).transaction
        # To ask for what is there costs nothing.
        assert (await service.mint(one, "a")).transaction is None
        await refused(LoginKey(1, one.id, label=label_of("x")), "b")
        for login in others[:2]:
            await service.mint(login, "a")
        await refused(others[2], "a")
        for login in others[2:4]:
            await service.mint(login, "c")
        await refused(others[4], "d")


async def test_the_queue_is_bounded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signups, "QUEUE_LIMIT", 0)
    with pytest.raises(Refused) as refused:
        await server.gateway._signups.mint(LOGIN, "here")
    assert (refused.value.code, refused.value.status) == ("busy", 429)


async def test_a_gateway_without_a_key_signs_nobody_up(
    nobody: AsyncClient, config: GatewayConfig, network: FakeNetwork
) -> None:
    session = await nobody.login_with("siwe", Person().prove)
    async with Server(msgspec.structs.replace(config, relayer_key_file="")) as poor:
        where = Network(network.id, network.chain.url, poor.url)
        async with AsyncClient(where, session=session) as client:
            with pytest.raises(Refused) as refused:
                await client.sign_up()
    assert refused.value.code == "no_relay"


# -- what is refused before anything is spent -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("intent", "code"),
    [
        ({}, "json_missing_field"),
        ({"another": 5}, "json_bad_value"),
        ({"another": ""}, "json_bad_value"),
        ({"another": "x" * 65}, "json_bad_value"),
        ({"another": None, "owner": "0x"}, "json_unknown_field"),
        ({"another": None, "user_pubkey": "0x1"}, "json_bad_value"),
        ({"another": None, "user_pubkey": "0x" + "11" * 1025}, "json_bad_value"),
        ({"another": None, "user_pubkey": "0x11"}, "bad_user_pubkey"),
    ],
)
async def test_a_mint_request_of_another_form_is_refused(
    nobody: AsyncClient, server: Server, http: aiohttp.ClientSession, intent: dict[str, Any], code: str
) -> None:
    session = await nobody.login_with("siwe", Person().prove)
    asked = session.request("mint", intent)
    async with http.post(server.url + "/v1/keys", json=asked) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (400, code)


async def test_a_request_of_another_kind_or_for_a_key_mints_nothing(
    nobody: AsyncClient, server: Server, http: aiohttp.ClientSession
) -> None:
    session = await nobody.login_with("siwe", Person().prove)
    for kind, key, code in (("sessions", "*", "bad_kind"), ("mint", "0x" + "00" * 32, "bad_key")):
        asked = session.ask(kind, {"another": None}, key).sign(())
        async with http.post(server.url + "/v1/keys", json=asked) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (400, code)


async def test_a_delegate_cannot_ask_for_a_key_of_its_principal(
    nobody: AsyncClient, server: Server, http: aiohttp.ClientSession
) -> None:
    session = await nobody.login_with("siwe", Person().prove)
    key = SessionPrivateKey.generate()
    borrowed = type(session).borrowed(session.delegate(key.public), key)
    asked = borrowed.request("mint", {"another": None})
    async with http.post(server.url + "/v1/keys", json=asked) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (403, "delegated")


def certificate_for(proven: Proven) -> Certificate:
    now, key = int(time.time()), SessionPrivateKey.generate().public
    return Certificate("n", key, now, now + 60, "00" * 32, (proven,), ("*",), (1,), 1, (("00" * 32, 1),))


def passkey_of(rp_id: str) -> tuple[bytes, bytes]:
    """Return (identity, COSE key followed by credential id) of a new passkey."""
    point = SessionPrivateKey.generate().public
    cose = bytes.fromhex("a5010203262001215820") + point.x + bytes.fromhex("225820") + point.y
    return passkey.identity(rp_id, b"credential", cose), cose + b"credential"


def test_a_passkey_brings_the_public_key_that_its_identity_is_made_of() -> None:
    identity, user_pubkey = passkey_of("localhost")
    certificate = certificate_for(Proven(3, identity))

    def read(given: bytes, rp_id: str = "localhost") -> LoginKey:
        return read_login_key(certificate, Request("r" * 16, 0, "mint", "*", mint_intent(None, given), (), b""), rp_id)

    assert read(user_pubkey) == LoginKey(3, identity, user_pubkey)
    for wrong in (user_pubkey + b"x", passkey_of("localhost")[1]):
        with pytest.raises(Refused, match="not the passkey"):
            read(wrong)
    with pytest.raises(Refused, match="not the passkey"):
        read(user_pubkey, "elsewhere")
    with pytest.raises(ValueError):
        read(b"")


# -- a cheating gateway -----------------------------------------------------------------------------------------------


async def test_a_key_that_a_gateway_shares_with_somebody_else_is_refused(
    nobody: AsyncClient, server: Server, network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway mints to the key itself, with the person's method and with one of its own."""
    person = Person()
    await nobody.login_with("siwe", person.prove)
    helper = nobody.chain.contract("PKPHelper")
    data = helper.encode(
        "mintNextAndAddAuthMethods", 2, [1, 1], [person.id, b"\x66" * 20], [b"", b""], [[1, 6], [1, 6]], False, True
    )
    receipt = await network_send(network, helper.address, data)
    from keyquorum.client.network import minted_token

    token = minted_token(receipt, nobody.chain.contract("PKPNFT"))
    relay = network.deployer.address
    for answer in (
        {"token_id": f"0x{token:064x}", "relay": relay, "transaction": "0x1"},
        {"token_id": f"0x{token:064x}", "relay": relay, "transaction": None},
        {"token_id": f"0x{token:064x}", "relay": "me", "transaction": "0x1"},
    ):

        async def cheat(*_: object, found: Any = answer) -> Any:
            from keyquorum.client.signup import GatewayKey

            return msgspec.convert(found, GatewayKey)

        monkeypatch.setattr(nobody, "_ask_gateway", cheat)
        with pytest.raises(BadAnswer):
            await nobody.sign_up()


async def network_send(network: FakeNetwork, to: str, data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = await asyncio.to_thread(network.call, network.deployer.send(to, data))
    return found


async def test_a_key_whose_login_may_not_manage_it_is_refused(
    nobody: AsyncClient, network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = Person()
    await nobody.login_with("siwe", person.prove)
    helper = nobody.chain.contract("PKPHelper")
    data = helper.encode("mintForLogins", [(1, person.id, b"", [1], bytes(32))])
    receipt = await network_send(network, helper.address, data)
    relay = network.deployer.address
    token = await nobody.chain.ask(helper, "keyFor", relay, 1, person.id, bytes(32))

    async def cheat(*_: object) -> Any:
        from keyquorum.client.signup import GatewayKey

        return GatewayKey(f"0x{token:064x}", relay, receipt["transactionHash"])

    monkeypatch.setattr(nobody, "_ask_gateway", cheat)
    with pytest.raises(BadAnswer, match="usual scopes"):
        await nobody.sign_up()
