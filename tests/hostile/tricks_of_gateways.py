"""What a gateway, a relay or a chain endpoint tries with a user who asks it: to be believed."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp import web
from eth_account import Account

from hostile.attack import ENDPOINT, GATEWAY, Outcome, trick
from hostile.scene import ETHER, Scene, wallet_proof
from keyquorum.client import AsyncClient
from keyquorum.client.errors import KeyquorumError
from keyquorum.client.network import Network

PATIENCE = 3.0
Lie = Callable[[str, Any, Any], Awaitable[Any]]
"""(path or method, what was asked, the true answer or None) -> what is answered instead; None: the truth."""


@contextlib.asynccontextmanager
async def liar(behind: str, lie: Lie, *, is_chain: bool = False) -> AsyncIterator[str]:
    """Serve what stands at `behind`, except for what `lie` says instead; yield the liar's URL."""

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        asked = json.loads(body) if body else None
        if not is_chain and (said := await lie(request.path, asked, None)) is not None:
            return web.json_response(said)
        async with http.request(
            request.method, behind + request.path_qs, data=body, headers={"Content-Type": "application/json"}
        ) as answer:
            status, content = answer.status, await answer.read()
        if is_chain:
            return web.json_response(await _each(lie, asked, json.loads(content)))
        return web.Response(status=status, body=content, content_type="application/json")

    app = web.Application(client_max_size=1 << 22)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    async with aiohttp.ClientSession() as http:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


async def _each(lie: Lie, asked: Any, answers: Any) -> Any:
    if isinstance(asked, list):
        by_id = {one["id"]: one for one in asked}
        return [await _each(lie, by_id.get(one.get("id"), {}), one) for one in answers]
    said = await lie(asked.get("method", ""), asked, answers.get("result"))
    return answers if said is None else {**answers, "result": said}


@trick(GATEWAY, "sells a key that was used before")
async def used_key(scene: Scene) -> Outcome:
    """It owned the key, has a signed transaction in its pocket, and hands the token over as freshly minted."""
    thief, victim = await scene.rich(), await scene.rich()
    async with scene.net.client(account=thief, timeout=20.0) as client:
        key = (await client.mint()).key
        pocket = await client.sign_transaction(
            key, {"to": thief.address, "value": 49 * ETHER // 10, "gas": 21000, "nonce": 0, "maxFeePerGas": 10**11,
                  "maxPriorityFeePerGas": 10**9},
        )  # fmt: skip
        await client.transfer(key, victim.address)

    async def lie(path: str, _: Any, __: Any) -> Any:
        sold = {"token_id": f"0x{key.token_id:064x}", "transaction": "0x" + secrets.token_hex(32)}
        return (
            sold | {"public_key": "0x" + key.public_key.hex(), "address": key.address} if path == "/v1/keys" else None
        )

    async with liar(scene.target.gateway, lie) as url:
        network = Network(scene.target.network, scene.target.rpc, url)
        async with AsyncClient(network, account=victim, timeout=20.0) as client:
            try:
                bought = (await client.mint()).key
            except KeyquorumError as error:
                return Outcome(False, f"the client: {error}")
    await scene.fund(bought.address, 5.0)
    await scene.rpc.send_raw(pocket.raw)
    await scene.rpc.wait_receipt(pocket.hash, 20.0)
    return Outcome(True, f"{await scene.balance(thief.address):.1f} ETH of the victim's")


@trick(GATEWAY, "says that a permission was taken away")
async def pretended_removal(scene: Scene) -> Outcome:
    """It answers as if the change were on the chain, and drops it."""
    owner, thief = Account.create(), Account.create()
    lying = False

    async def lie(path: str, _: Any, __: Any) -> Any:
        return {"transaction": "0x" + secrets.token_hex(32)} if lying and path == "/v1/permissions" else None

    async def prove(statement: Any) -> Any:
        return wallet_proof(owner, statement)

    async with (
        liar(scene.target.gateway, lie) as url,
        AsyncClient(Network(scene.target.network, scene.target.rpc, url), through_gateway=True, timeout=20.0) as client,
    ):
        await client.login_with("siwe", prove, scopes=[1, 6])
        key = (await client.sign_up()).key
        stranger = bytes.fromhex(thief.address[2:])
        await client.permissions.add(key, 1, stranger, [1])
        lying, client._timeout = True, PATIENCE
        believed = []
        for name, call in (
            ("remove", lambda: client.permissions.remove(key, 1, stranger)),
            ("set_delay", lambda: client.permissions.set_delay(key, 86400)),
        ):
            with contextlib.suppress(KeyquorumError):
                await call()
                believed.append(name)
    return Outcome(bool(believed), f"believed: {', '.join(believed)}" if believed else "the client looks at the chain")


@trick(ENDPOINT, "lies about the priority fee")
async def endless_fee(scene: Scene) -> Outcome:
    """The user's chain endpoint lies about one number; he sends a thousandth of an ether."""

    async def lie(method: str, _: Any, __: Any) -> Any:
        return hex(10**14) if method == "eth_maxPriorityFeePerGas" else None

    user = await scene.rich()
    async with scene.net.client(account=user, timeout=20.0) as client:
        key = (await client.mint()).key
    await scene.fund(key.address, 5.0)
    async with liar(scene.target.rpc, lie, is_chain=True) as url:
        network = Network(scene.target.network, url, scene.target.gateway)
        async with AsyncClient(network, account=user, timeout=20.0) as client:
            try:
                await client.send_transaction(key, {"to": Account.create().address, "value": ETHER // 1000})
                said = "sent"
            except KeyquorumError as error:
                said = str(error)
    lost = 5.0 - await scene.balance(key.address) - 0.001
    return Outcome(lost > 0.01, f"{max(lost, 0.0):.5f} ETH of fees; {said}"[:100])
