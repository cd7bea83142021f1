"""The gateway's good deeds: one call signs, logs in, mints; and a cheating gateway gains nothing."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from eth_account import Account
from eth_account.messages import encode_defunct

from fake_network import FakeNetwork
from keyquorum.chain.contracts import interface
from keyquorum.chain.rpc import Sender
from keyquorum.client import AsyncClient, BadAnswer, ChainError, KeyquorumError, Network, Refused, Unavailable
from keyquorum.gateway import relay
from keyquorum.gateway.app import Server
from keyquorum.gateway.config import GatewayConfig, dump, load
from keyquorum.serving.settings import ConfigError
from login_kit import Person

JSON = {"Content-Type": "application/json"}
REQUEST = {"owner": "0x" + "11" * 20, "request": "r" * 16}


def mint_body(owner: str = "") -> dict[str, str]:
    """Return a mint that nobody asked for before."""
    return {"owner": owner or Account.create().address, "request": secrets.token_hex(16)}


async def test_login_mint_and_sign_each_in_one_call(user: AsyncClient, network: FakeNetwork) -> None:
    minted = await user.mint()
    assert minted.key.owner == network.account.address
    signed = await user.sign_message(minted.key, "hello")
    assert Account.recover_message(encode_defunct(text="hello"), signature=signed.compact) == minted.key.address


async def test_the_gateway_retries_around_dead_and_cheating_nodes(user: AsyncClient, network: FakeNetwork) -> None:
    key = (await user.mint()).key
    network.set("wrong_share", 3)
    assert await user.sign_message(key, "a")
    network.reset()
    network.stop_nodes(2)
    assert await user.sign_message(key, "b")


async def test_the_same_request_sent_twice_gives_the_same_signature(
    user: AsyncClient, server: Server, http: aiohttp.ClientSession
) -> None:
    key = (await user.mint()).key
    bodies: list[bytes] = []
    post = user._transport.post

    async def spy(url: str, body: bytes, shape: Any) -> Any:
        bodies.append(body)
        return await post(url, body, shape)

    user._transport.post = spy  # type: ignore[method-assign]
    first = await user.sign_message(key, "once")
    async with http.post(server.url + "/v1/sign", data=bodies[-1], headers=JSON) as response:
        again = await response.json()
    assert again["signature"]["compact"] == "0x" + first.compact.hex()
    assert again["public_key"] == "0x" + key.public_key.hex()


async def test_refusals_and_losses_of_the_nodes_reach_the_user_as_such(user: AsyncClient, network: FakeNetwork) -> None:
    key = (await user.mint()).key
    await user.login()
    network.set("refuse", *network.nodes)
    with pytest.raises(Refused) as refused:
        await user.sign_message(key, "x")
    assert (refused.value.code, refused.value.hint) == ("not_permitted", "ask its owner")
    network.reset()
    network.stop_nodes(1, 2)
    with pytest.raises(Unavailable, match="2 of 4 nodes answer"):
        await user.sign_message(key, "x")


async def test_the_network_page_tells_chain_nodes_and_readiness(
    server: Server, http: aiohttp.ClientSession, network: FakeNetwork
) -> None:
    async with http.get(server.url + "/v1/network") as response:
        found = await response.json()
    assert found["network"] == network.id
    assert [node["live"] for node in found["nodes"]] == [True] * 4
    (newest,) = {node["block"] for node in found["nodes"]}
    assert newest > 0
    assert found["threshold"] == 3 and found["ready"] is True
    async with http.get(server.url + "/readyz") as response:
        assert response.status == 200


async def test_the_network_file_of_a_gateway_is_enough_for_a_client(server: Server, network: FakeNetwork) -> None:
    async with AsyncClient(server.url, account=network.account) as client:
        assert client.facts.id == network.id
        assert (await client.mint()).key.owner == network.account.address


async def test_a_key_page_shows_owner_and_address(
    user: AsyncClient, server: Server, http: aiohttp.ClientSession
) -> None:
    key = (await user.mint()).key
    async with http.get(f"{server.url}/v1/keys/0x{key.token_id:064x}") as response:
        found = await response.json()
    assert (found["address"], found["owner"], found["state"], found["epoch"]) == (key.address, key.owner, "active", 1)


async def test_any_page_may_ask(server: Server, http: aiohttp.ClientSession) -> None:
    async with http.options(server.url + "/v1/sign", headers={"Origin": "https://wallet.example"}) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "*"
    async with http.post(server.url + "/v1/sign", data=b"{", headers=JSON) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "*"


async def test_metrics_count_requests_by_path_and_status(server: Server, http: aiohttp.ClientSession) -> None:
    await http.post(server.url + "/v1/sign", data=b"{", headers=JSON)
    async with http.get(server.url + "/metrics") as response:
        text = await response.text()
    assert 'keyquorum_gateway_requests_total{path="/v1/sign",status="400"} 1.0' in text


async def test_the_openapi_document_lists_every_route(server: Server, http: aiohttp.ClientSession) -> None:
    async with http.get(server.url + "/v1/openapi.json") as response:
        paths = (await response.json())["paths"]
    assert server._http is not None
    routes = {r.resource.canonical for r in server._http.app.router.routes() if r.resource is not None}
    page = {"/", "/page.css", "/icon.svg", "/js/{name}"}
    assert routes - {"/metrics", "/v1/openapi.json"} - page == set(paths)


# -- minting ----------------------------------------------------------------------------------------------------------


async def test_many_mints_at_once_give_as_many_keys(user: AsyncClient, server: Server) -> None:
    owners = [Account.create().address for _ in range(8)]
    minted = await asyncio.gather(*(user.mint(owner) for owner in owners))
    assert len({each.key.token_id for each in minted}) == 8
    assert [each.key.owner for each in minted] == owners


async def test_an_owner_gets_only_so_many_keys_an_hour(
    server: Server, http: aiohttp.ClientSession, config: GatewayConfig
) -> None:
    owner = Account.create().address
    for _ in range(config.mints_per_owner):
        async with http.post(server.url + "/v1/keys", json=mint_body(owner)) as response:
            assert response.status == 200
    async with http.post(server.url + "/v1/keys", json=mint_body(owner.lower())) as response:
        assert response.status == 429
        assert (await response.json())["error"]["code"] == "too_many_mints"


async def test_one_asking_address_gets_only_so_many_keys_an_hour(
    config: GatewayConfig, http: aiohttp.ClientSession
) -> None:
    async with Server(msgspec.structs.replace(config, owner_mints_per_client=1)) as server:
        statuses = []
        for _ in range(2):
            async with http.post(server.url + "/v1/keys", json=mint_body()) as response:
                statuses.append(response.status)
    assert statuses == [200, 429]


async def test_the_queue_of_mints_is_bounded(
    server: Server, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("QUEUE_LIMIT", "QUEUE_LIMIT_PER_CLIENT"):
        with monkeypatch.context() as patch:
            patch.setattr(relay, limit, 0)
            async with http.post(server.url + "/v1/keys", json=REQUEST) as response:
                assert (response.status, (await response.json())["error"]["code"]) == (429, "busy")


async def test_one_address_does_not_take_the_places_of_others(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mints wait for the chain, and no more of it are let in; somebody else's is let in meanwhile."""
    chain, asked = asyncio.Event(), server.gateway
    send = Sender.send

    async def slow(self: Sender, *arguments: Any, **others: Any) -> Any:
        await chain.wait()
        return await send(self, *arguments, **others)

    monkeypatch.setattr(Sender, "send", slow)
    monkeypatch.setattr(relay, "QUEUE_LIMIT_PER_CLIENT", 2)
    first = [asyncio.create_task(asked.mint(json.dumps(mint_body()).encode(), "greedy")) for _ in range(3)]
    done, _ = await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    assert [str(task.exception()) for task in done] == ["too much at a time"]
    other = asyncio.create_task(asked.mint(json.dumps(mint_body()).encode(), "somebody"))
    chain.set()
    assert (await other)["transaction"]
    assert sum(isinstance(one, dict) for one in await asyncio.gather(*first, return_exceptions=True)) == 2
    assert not asked._relay._places


async def test_a_pool_without_a_key_beyond_the_reserve_is_waited_for_and_then_unavailable(
    config: GatewayConfig, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "POOL_SECONDS", 0.3)
    with FakeNetwork(2, pool=3) as small:
        drained = msgspec.structs.replace(config, network=small.id, rpc=small.chain.url, pool_reserve=1)
        async with Server(drained) as server:
            gateway = server.gateway
            for _ in range(2):
                await gateway.mint(json.dumps(mint_body()).encode(), "x")
            assert await gateway.chain.ask(gateway.chain.contract("PubkeyRouter"), "poolSize") == 1
            async with http.post(server.url + "/v1/keys", json=REQUEST) as response:
                assert (response.status, (await response.json())["error"]["code"]) == (503, "pool_empty")
            where = Network(small.id, small.chain.url, server.url)
            async with AsyncClient(where, through_gateway=True) as person:
                await person.login_with("siwe", Person().prove, scopes=(1, 6))
                assert (await person.sign_up()).key  # the reserve is for logins
            waiting = asyncio.create_task(http.post(server.url + "/v1/keys", json=REQUEST))
            small.call(small._fill_pool())
            assert (await waiting).status == 200


async def test_keys_without_a_login_are_minted_only_where_the_operator_wants_it(
    config: GatewayConfig, network: FakeNetwork, http: aiohttp.ClientSession
) -> None:
    assert GatewayConfig(network=network.id, rpc="http://x").owner_mints is False
    async with Server(msgspec.structs.replace(config, owner_mints=False)) as server:
        async with http.post(server.url + "/v1/keys", json=REQUEST) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (403, "no_relay")
        where = Network(network.id, network.chain.url, server.url)
        async with AsyncClient(where, account=network.account) as payer:
            assert (await payer.mint()).key.owner == network.account.address  # then he pays himself


async def test_the_same_request_gives_the_same_key_also_at_once_and_after_a_restart(
    config: GatewayConfig, http: aiohttp.ClientSession
) -> None:
    found = []
    for _ in range(2):
        async with Server(config) as server:
            body, gateway = json.dumps(REQUEST).encode(), server.gateway
            found += await asyncio.gather(*(gateway.mint(body, "x") for _ in range(3)))
            size = await gateway.chain.ask(gateway.chain.contract("PubkeyRouter"), "poolSize")
            other = await gateway.mint(json.dumps(mint_body(REQUEST["owner"])).encode(), "x")
            assert await gateway.chain.ask(gateway.chain.contract("PubkeyRouter"), "poolSize") == size - 1
    assert len({one["token_id"] for one in found}) == 1
    assert other["token_id"] != found[0]["token_id"]


async def test_a_gateway_that_dies_between_sending_and_answering_mints_once(
    config: GatewayConfig, network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction is mined and nobody learns of it; another process, with the same account, is asked again."""
    send = Sender.send

    async def die(self: Sender, *arguments: Any, **others: Any) -> Any:
        await send(self, *arguments, **others)
        raise asyncio.CancelledError

    body = json.dumps(REQUEST | {"request": secrets.token_hex(16)}).encode()
    async with Server(config) as first:
        chain = first.gateway.chain
        with monkeypatch.context() as patch:
            patch.setattr(Sender, "send", die)
            with pytest.raises(asyncio.CancelledError):
                await first.gateway.mint(body, "x")
        count = await chain.ask(chain.contract("PKPNFT"), "balanceOf", REQUEST["owner"])
    async with Server(config) as second:
        found = await second.gateway.mint(body, "x")
        chain = second.gateway.chain
        assert await chain.ask(chain.contract("PKPNFT"), "balanceOf", REQUEST["owner"]) == count
    assert found["transaction"] is None and int(found["token_id"], 16) in network.secrets


@pytest.mark.parametrize("request_id", [None, 5, "", "short", "x" * 65, "with a blank in it", "ä" * 20])
async def test_a_mint_without_a_name_of_its_own_is_refused(
    server: Server, http: aiohttp.ClientSession, request_id: object
) -> None:
    body = {"owner": REQUEST["owner"]} | ({} if request_id is None else {"request": request_id})
    async with http.post(server.url + "/v1/keys", json=body) as response:
        assert response.status == 400


async def test_a_price_above_the_operators_limit_is_paid_for_nobody(
    config: GatewayConfig, network: FakeNetwork, http: aiohttp.ClientSession
) -> None:
    """The owner of the contract sets the price; the gateway would pay it by itself."""

    def set_price(wei: int) -> None:
        nft, data = network.deployment.contracts["PKPNFT"], interface("PKPNFT").encode("setMintCost", wei)
        network.call(network.deployer.send(nft, data))

    async with Server(msgspec.structs.replace(config, max_mint_cost=5)) as server:
        rpc, relayer = server.gateway.chain.rpc, server.gateway._writer._sender
        assert relayer is not None
        try:
            set_price(6)
            before = await rpc.balance(relayer.address)
            async with http.post(server.url + "/v1/keys", json=mint_body()) as response:
                assert (response.status, (await response.json())["error"]["code"]) == (503, "too_expensive")
            where = Network(network.id, network.chain.url, server.url)
            async with AsyncClient(where, through_gateway=True) as person:
                await person.login_with("siwe", Person().prove, scopes=(1, 6))
                with pytest.raises(KeyquorumError) as caught:
                    await person.sign_up()
                assert caught.value.code == "too_expensive"
                assert await rpc.balance(relayer.address) == before
                set_price(5)
                assert (await person.sign_up()).key
        finally:
            set_price(0)


async def test_fees_above_the_operators_limit_are_not_paid(
    config: GatewayConfig, network: FakeNetwork, http: aiohttp.ClientSession
) -> None:
    async with (
        Server(msgspec.structs.replace(config, max_fee=1)) as server,
        http.post(server.url + "/v1/keys", json=mint_body()) as response,
    ):
        assert (response.status, (await response.json())["error"]["code"]) == (503, "too_expensive")


async def test_the_gateway_mints_on_after_the_chain_went_back(server: Server, network: FakeNetwork) -> None:
    rpc = server.gateway.chain.rpc
    snapshot = await rpc.call("evm_snapshot")
    for _ in range(3):
        await server.gateway.mint(json.dumps(mint_body()).encode(), "x")
    assert await rpc.call("evm_revert", snapshot) is True
    assert (await server.gateway.mint(json.dumps(mint_body()).encode(), "x"))["transaction"]


async def test_a_gateway_without_a_key_does_not_mint(config: GatewayConfig, http: aiohttp.ClientSession) -> None:
    async with (
        Server(msgspec.structs.replace(config, relayer_key_file="")) as server,
        http.post(server.url + "/v1/keys", json=REQUEST) as response,
    ):
        assert (response.status, (await response.json())["error"]["code"]) == (403, "no_relay")


# -- a cheating gateway -----------------------------------------------------------------------------------------------


async def cheating(network: FakeNetwork, answers: dict[str, Any]) -> tuple[web.AppRunner, AsyncClient]:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response(answers[request.path])

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    where = Network(network.id, network.chain.url, f"http://127.0.0.1:{runner.addresses[0][1]}")
    client = AsyncClient(where, account=network.account, through_gateway=True, timeout=5)
    await client.connect()
    return runner, client


async def test_a_gateway_that_answers_with_another_signature_is_caught(user: AsyncClient, network: FakeNetwork) -> None:
    key, other = (await user.mint()).key, (await user.mint()).key
    session = await user.login()
    wrong_message = (await user.sign_message(key, "send 1")).to_json()
    wrong_key = (await user.sign_message(other, "send 2")).to_json()
    right = (await user.sign_message(key, "send 2")).to_json()
    cases = [
        wrong_message,
        wrong_key,
        wrong_message | {"digest": right["digest"], "summary": right["summary"]},
        right | {"summary": "something nicer"},
        right | {"digest": wrong_message["digest"]},
        right | {"signature": right["signature"] | {"v": 1 - right["signature"]["v"]}},
        right | {"signature": right["signature"] | {"s": "0x00"}},
        {"signature": "yes"},
    ]
    answers: dict[str, Any] = {}
    runner, client = await cheating(network, answers)
    try:
        client.use_session(session)
        for case in cases:
            answers["/v1/sign"] = case
            with pytest.raises(BadAnswer):
                await client.sign_message(key, "send 2")
        answers["/v1/sign"] = right
        assert (await client.sign_message(key, "send 2")).to_json() == right
    finally:
        await client.close()
        await runner.cleanup()


async def test_a_gateway_that_certifies_another_session_or_mints_to_itself_is_caught(
    user: AsyncClient, network: FakeNetwork
) -> None:
    theirs = await user.mint(network.stranger.address)
    answers: dict[str, Any] = {
        "/v1/sessions": {"certificate": (await user.login()).certificate},
        "/v1/keys": theirs.to_json() | {"relay": network.account.address},
    }
    runner, client = await cheating(network, answers)
    try:
        with pytest.raises(BadAnswer, match="something else"):
            await client.login()
        answers["/v1/sessions"] = {"certificate": "a.b.c"}
        with pytest.raises(BadAnswer):
            await client.login()
        with pytest.raises(BadAnswer, match="not minted for this request"):
            await client.mint()
        answers["/v1/keys"] = answers["/v1/keys"] | {"token_id": "0x1"}
        with pytest.raises(BadAnswer, match="did not mint"):
            await client.mint()
    finally:
        await client.close()
        await runner.cleanup()


# -- settings ---------------------------------------------------------------------------------------------------------


def test_settings_written_are_settings_read(config: GatewayConfig, tmp_path: Any) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(dump(config))
    assert load(path) == config


@pytest.mark.parametrize(
    "change",
    ["unknown = 1", "port = 70000", 'network = "x"', 'rpc = "ftp://x"', "mints_per_owner = 0", "= broken"],
)
def test_wrong_settings_are_refused_and_the_file_is_named(config: GatewayConfig, tmp_path: Any, change: str) -> None:
    path = tmp_path / "gateway.toml"
    name = change.partition(" ")[0]
    lines = [line for line in dump(config).splitlines() if not line.startswith(name + " =")]
    path.write_text("\n".join([*lines, change]))
    with pytest.raises(ConfigError, match=r"gateway\.toml"):
        load(path)


async def test_a_missing_relayer_key_stops_the_gateway_without_showing_anything(
    config: GatewayConfig, tmp_path: Any
) -> None:
    bad = tmp_path / "bad.key"
    bad.write_text("00secret")
    with pytest.raises(ValueError, match="holds no relayer key") as caught:
        await Server(msgspec.structs.replace(config, relayer_key_file=str(bad))).__aenter__()
    assert "00secret" not in str(caught.value)


async def test_a_gateway_without_a_chain_does_not_start(config: GatewayConfig) -> None:
    with pytest.raises(ChainError):
        await Server(msgspec.structs.replace(config, rpc="http://127.0.0.1:1")).__aenter__()
