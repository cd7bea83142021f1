"""People with an account, and contracts of theirs, who make the servers work for what nobody's quota pays for."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
from eth_account import Account

from hostile import words
from hostile.attack import MINTER, STRANGER, load
from hostile.loads import pour
from hostile.scene import Target, http_from, say, word
from keyquorum import intents
from keyquorum.auth.request import SESSIONS, SIGN
from keyquorum.chain.contracts import interface
from keyquorum.client import AsyncClient
from keyquorum.client.session import Session

SESSIONS_OPENED = 40
PATIENCE = 20.0
ENDLESS = "5b61ffff5f20505f56"
"""A contract that hashes until its gas is gone, whatever it is asked."""


async def _sessions(target: Target, count: int) -> Session:
    """Open so many sessions of one new wallet; return the last."""
    where = Path(target.folder) / "network.json"
    async with AsyncClient(where, account=Account.create(), timeout=PATIENCE) as client:
        opened = [await client.login(scopes=(1,)) for _ in range(count)]
    return opened[-1]


@load(STRANGER, "long lists of sessions, again and again")
async def long_lists(target: Target, sources: list[str], seconds: float) -> Counter[str]:
    """One wallet with many sessions asks the gateway for their list, a hundred and ninety times a second."""
    session = await _sessions(target, SESSIONS_OPENED)
    body = session.request(SESSIONS, {})
    asking = [http_from(source) for source in sources]

    async def one(number: int) -> str:
        return word(*await say(asking[number % len(asking)], target.gateway + "/v1/sessions/list", body))

    try:
        return await pour(190.0, seconds, one)
    finally:
        for http in asking:
            await http.close()


@load(STRANGER, "signatures with keys that are none")
async def keys_that_are_none(target: Target, sources: list[str], seconds: float) -> Counter[str]:
    """One session names a key of its own invention each time, at two nodes: each may cost a look-up at the chain."""
    session = await _sessions(target, 1)
    intent, signers = intents.message_intent("x"), tuple(range(1, words.needed(target) + 1))
    bodies = [
        session.ask(SIGN, intent, "0x" + secrets.token_hex(32)).sign([signers]) | {"run": 0}
        for _ in range(int(180 * min(seconds, 6.0)))
    ]
    asking = [http_from(source) for source in sources]

    async def one(number: int) -> str:
        url = target.nodes[1 + number % 2] + "/v1/sign"
        return word(*await say(asking[number % len(asking)], url, bodies[number % len(bodies)]))

    try:
        return await pour(180.0, seconds, one)
    finally:
        for http in asking:
            await http.close()


async def key_of_contract(http: aiohttp.ClientSession, target: Target, owner: str) -> int:
    """Mint a key by an account of the development chain and give it to a contract that is not asked; return it."""

    async def rpc(method: str, *params: Any) -> Any:
        _, answer = await say(http, target.rpc, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        return answer["result"]

    async def send(data: bytes, value: int) -> dict[str, Any]:
        call = {"from": sender, "to": nft, "data": "0x" + data.hex(), "value": hex(value), "gas": hex(1_000_000)}
        name = await rpc("eth_sendTransaction", call)
        for _ in range(100):
            if receipt := await rpc("eth_getTransactionReceipt", name):
                return dict(receipt)
            await asyncio.sleep(0.05)
        raise AssertionError("the chain did not mine the mint")

    code, nft, sender = interface("PKPNFT"), target.contracts["PKPNFT"], (await rpc("eth_accounts"))[9]
    price = int(await rpc("eth_call", {"to": nft, "data": "0x" + code.encode("mintCost").hex()}, "latest"), 16)
    minted = await send(code.encode("mintNext", 2), price)
    events = [code.decode_event(log) for log in minted["logs"] if log["address"].lower() == nft.lower()]
    token = next(event["args"]["tokenId"] for event in events if event and event["event"] == "PKPMinted")
    await send(code.encode("transferFrom", sender, owner, token), 0)
    return int(token)


@load(MINTER, "an owner that burns what a gateway tries out")
async def burning_owner(target: Target, sources: list[str], seconds: float) -> Counter[str]:
    """A key belongs to a contract that burns its gas when it is asked; changes of its permissions at the gateway."""
    asking = [http_from(source) for source in sources]
    owner = await words.deploy(asking[0], target, ENDLESS)
    token = await key_of_contract(asking[0], target, owner)
    body = {
        "key": f"0x{token:064x}", "call": "0x00", "nonce": 2 << 32, "deadline": int(time.time()) + 3000,
        "signature": "0x" + "11" * 65,
    }  # fmt: skip

    async def one(number: int) -> str:
        return word(*await say(asking[number % len(asking)], target.gateway + "/v1/permissions", body))

    try:
        return await pour(5.0, seconds, one)
    finally:
        for http in asking:
            await http.close()
