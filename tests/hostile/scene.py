"""The stage: a running network, what an outsider knows of it, and the words that outsiders use on the wire."""

from __future__ import annotations

import json
import secrets
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from hostile.pouring import new_attacker
from keyquorum.algebra.rng import SystemRng
from keyquorum.auth import siwe
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import Statement
from keyquorum.chain.rpc import Rpc
from keyquorum.cli.local_network import LocalNetwork
from keyquorum.client import AsyncClient
from keyquorum.client.results import Key

ELSEWHERE = [f"127.0.1.{last}" for last in range(1, 5)]
ETHER = 10**18
SECONDS = 60.0


@dataclass(frozen=True)
class Target:
    """What everybody may know of a network; it can be handed to another process."""

    network: str
    nodes: dict[int, str]
    gateway: str
    rpc: str
    contracts: dict[str, str]
    folder: str


@dataclass
class Scene:
    """A network under attack, with an honest user who has a key."""

    net: LocalNetwork
    target: Target
    client: AsyncClient
    key: Key
    rpc: Rpc
    attacker: ProcessPoolExecutor = field(default_factory=new_attacker)

    async def fund(self, address: str, ether: float = 1.0) -> None:
        """Give an address some of the local user's ether."""
        await self.client.send_from_account(address, value=int(ether * ETHER))

    async def rich(self, ether: float = 1.0) -> LocalAccount:
        """Return a new account that has some ether."""
        account: LocalAccount = Account.create()
        await self.fund(account.address, ether)
        return account

    async def balance(self, address: str) -> float:
        """Return how much ether an address has."""
        return await self.rpc.balance(address) / ETHER


async def open_scene(net: LocalNetwork) -> Scene:
    """Return the scene of a running network: the local user has minted a key and signed with it."""
    assert net.network is not None
    client = await net.client(timeout=20.0).__aenter__()
    key = (await client.mint()).key
    await client.sign_message(key, "warm up")
    contracts = json.loads((net.folder / "deployment.json").read_text())["contracts"]
    target = Target(net.network.id, net.nodes, net.gateway_url, net.rpc, contracts, str(net.folder))
    return Scene(net, target, client, key, Rpc(net.rpc))


async def close_scene(scene: Scene) -> None:
    """Close what `open_scene` opened; the network goes on."""
    await scene.client.close()
    await scene.rpc.close()
    scene.attacker.shutdown()


# -- what outsiders say -----------------------------------------------------------------------------------------------


def http_from(source: str) -> aiohttp.ClientSession:
    """Return an HTTP session whose connections come from `source`, a loopback address that nobody trusts."""
    connector = aiohttp.TCPConnector(limit=0, local_addr=(source, 0))
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=SECONDS))


async def say(http: aiohttp.ClientSession, url: str, body: Any, **options: Any) -> tuple[int, Any]:
    """POST and return status and JSON, or status 0 and the kind of failure."""
    try:
        async with http.post(url, json=body, **options) as response:
            return response.status, await response.json()
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        return 0, {"error": {"code": type(error).__name__}}


def word(status: int, answer: Any) -> str:
    """Return an answer in one word: ok, or the code of the refusal."""
    if status == 200:
        return "ok"
    return str(answer.get("error", {}).get("code", status)) if isinstance(answer, dict) else str(status)


def new_session() -> SessionPrivateKey:
    """Return a session key."""
    return SessionPrivateKey.generate(SystemRng())


async def newest_block(http: aiohttp.ClientSession, target: Target) -> str:
    """Return the hash of the newest block."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["latest", False]}
    _, answer = await say(http, target.rpc, body)
    return str(answer["result"]["hash"])


def new_statement(target: Target, session: SessionPrivateKey, block: str, **changes: Any) -> Statement:
    """Return a login statement; `changes` to what is usual."""
    fields: dict[str, Any] = {
        "network": target.network, "session": session.public, "keys": ("*",), "scopes": (),
        "expires": int(time.time()) + 3000, "nonce": secrets.token_hex(16), "block": block, "uses": 1,
    }  # fmt: skip
    return Statement(**fields | changes)


def wallet_proof(account: LocalAccount, statement: Statement, issued: int | None = None) -> dict[str, str]:
    """Return an account's Sign-In with Ethereum proof of a statement."""
    address = bytes.fromhex(account.address[2:])
    text = siwe.build_message(statement, address, "localhost", issued or int(time.time()))
    return {"message": text, "signature": "0x" + bytes(account.sign_message(encode_defunct(text=text)).signature).hex()}


def folder_of(target: Target) -> Path:
    """Return the network's folder."""
    return Path(target.folder)
