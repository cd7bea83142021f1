"""The bodies that outsiders post, and the contracts that they deploy: everything here follows spec/auth.md."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import aiohttp
from eth_account.signers.local import LocalAccount

from hostile.scene import Target, new_session, say, wallet_proof
from keyquorum.auth import login_request, siwe
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import Statement
from keyquorum.client.session import Session
from keyquorum.formats.text import from_base64url, to_base64url

SIGNED_SECONDS = 50
BURNER = "5b61c3505a116000577f1626ba7e" + "00" * 28 + "60005260206000f3"
"""A wallet that hashes until its gas is nearly gone, and says yes."""


def needed(target: Target) -> int:
    """Return how many nodes sign."""
    return 2 * len(target.nodes) // 3 + 1


def login(session: SessionPrivateKey, statement: Statement, proof: Any, runs: list[list[int]]) -> dict[str, Any]:
    """Return the body of a login with a wallet's proof, signed by a session key."""
    expires = int(time.time()) + SIGNED_SECONDS
    return {"request": login_request.make(session, statement, "siwe", proof, expires=expires, runs=runs), "run": 0}


def contract_proof(wallet: str, statement: Statement) -> dict[str, str]:
    """Return the proof of a contract wallet, whose signature is any bytes."""
    text = siwe.build_message(statement, bytes.fromhex(wallet[2:]), "localhost", int(time.time()))
    return {"message": text, "signature": "0x" + secrets.token_hex(65)}


async def deploy(http: aiohttp.ClientSession, target: Target, runtime: str) -> str:
    """Deploy a contract by an account of the development chain; return its address once it is mined."""
    code = f"0x60{len(runtime) // 2:02x}600c60003960{len(runtime) // 2:02x}6000f3{runtime}"

    async def rpc(method: str, *params: Any) -> Any:
        _, answer = await say(http, target.rpc, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        return answer["result"]

    sender = (await rpc("eth_accounts"))[9]
    name = await rpc("eth_sendTransaction", {"from": sender, "data": code, "gas": hex(2_000_000)})
    for _ in range(100):
        if receipt := await rpc("eth_getTransactionReceipt", name):
            return str(receipt["contractAddress"])
        await asyncio.sleep(0.05)
    raise AssertionError("the chain did not mine the contract")


def claims_of(token: str) -> dict[str, Any]:
    """Return what a token says, as anybody can read it."""
    found: dict[str, Any] = json.loads(from_base64url(token.split(".")[1], "the token"))
    return found


def other_runs(target: Target, asked: dict[str, Any], evil: int) -> Iterator[dict[str, Any]]:
    """Yield a request as a node may repeat it: in every run that its words allow, and as if it allowed more."""
    for run in range(8):
        yield asked | {"run": run}
    signed, signature = asked["request"].rpartition(".")[::2]
    header, _, payload = signed.partition(".")
    others = [party for party in target.nodes if party != evil]
    for chosen in itertools.combinations(others, needed(target) - 1):
        claims = json.loads(from_base64url(payload, "the payload")) | {"runs": [sorted([evil, *chosen])]}
        forged = to_base64url(json.dumps(claims, sort_keys=True, separators=(",", ":")).encode())
        yield asked | {"request": f"{header}.{forged}.{signature}", "run": 0}


def with_another_proof(asked: dict[str, Any], account: LocalAccount) -> list[dict[str, Any]]:
    """Return a login that was seen as somebody else may show it: with a proof and a session key of his."""
    statement = Statement.from_json(claims_of(asked["request"])["intent"]["statement"])
    own, runs = new_session(), claims_of(asked["request"])["runs"]
    return [
        login(own, one, wallet_proof(account, one), runs) for one in (statement, replace(statement, session=own.public))
    ]


def step_ups(session: Session, statement: Statement, own: SessionPrivateKey, account: LocalAccount) -> list[Any]:
    """Return the bodies by which somebody who saw a certificate may try to join it, with a wallet of his."""
    victims = replace(statement, session=session.key.public)
    expires = int(time.time()) + SIGNED_SECONDS
    return [
        {
            "request": login_request.make(
                own, one, "siwe", wallet_proof(account, one), expires=expires, runs=[[1, 2, 3]],
                certificate=session.certificate,
            ),
            "run": 0,
        }
        for one in (victims, statement)
    ]  # fmt: skip
