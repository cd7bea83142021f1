"""What others say was done, looked up on the chain: nothing that a gateway answers counts until it stands there.

A gateway's "done" is a transaction's hash. `executed` finds that transaction, compares it with the call that was asked
for, byte by byte, and sees that it succeeded. `fresh_key` says whether a key that somebody minted was ever anybody
else's. Until a mint is final another one may take its place, and then the key is somebody else's: `at_last` waits.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

from keyquorum.chain.rpc import RpcError, RpcUnreachable
from keyquorum.client.errors import BadAnswer, Timeout
from keyquorum.client.network import ChainView, chain_error
from keyquorum.client.results import Key, token_from
from keyquorum.evm.address import checksum

DEV_CHAIN_ID = 31337
HASH = re.compile(r"0x[0-9a-fA-F]{64}")
POLL_SECONDS = (0.05, 5.0)


def named_key(text: str) -> int:
    """Return the token id that a gateway names; raise `BadAnswer` for anything else."""
    try:
        return token_from(text)
    except ValueError:
        raise BadAnswer("bad_answer", "what should name a key is no token id") from None


def named_payer(text: str) -> str:
    """Return the account, checksummed, that a gateway says has paid; raise `BadAnswer` for anything else."""
    try:
        return checksum(text)
    except ValueError:
        raise BadAnswer("bad_answer", "the gateway does not say who paid for the key") from None


async def executed(chain: ChainView, name: str, to: str, data: bytes, seconds: float) -> dict[str, Any]:
    """Return the receipt of transaction `name`; raise `BadAnswer` unless the chain executed it, and it is this call.

    An endpoint that lags is given `seconds` to see it.
    """
    receipt = await _receipt(chain, name, seconds)
    try:
        sent = await chain.rpc.call("eth_getTransactionByHash", name.lower())
    except (RpcError, RpcUnreachable) as error:
        raise chain_error("a transaction", error) from None
    told = (sent.get("to"), sent.get("input")) if isinstance(sent, dict) else (None, None)
    if tuple(str(value).lower() for value in told) != (to.lower(), "0x" + data.hex()):
        raise BadAnswer("bad_answer", "it is said to be done, and the transaction did something else")
    return receipt


async def executed_before(
    chain: ChainView, token: int, nonce: int, to: str, data: bytes, since: int, seconds: float
) -> dict[str, Any] | None:
    """Return the receipt of this very call of `PKPPermissions.execute`, in block `since` or later; None: there is none.

    The contract executes one call for each number: whoever asked and lost the answer finds his own, or somebody else's.
    """
    contract = chain.contract("PKPPermissions")
    numbered = [contract.interface.event_topic("Executed"), f"0x{token:064x}"]
    try:
        logs = await chain.rpc.get_logs(to, numbered, since)
    except (RpcError, RpcUnreachable) as error:
        raise chain_error("a change of permissions", error) from None
    for log in logs:
        event = contract.decode_event(log)
        if event is not None and event["args"]["nonce"] == nonce:
            return await executed(chain, str(log.get("transactionHash")), to, data, seconds)
    return None


async def made_key(chain: ChainView, name: str, token: int, seconds: float) -> None:
    """Raise `BadAnswer` unless transaction `name` minted this key."""
    nft = chain.contract("PKPNFT")
    for log in (await _receipt(chain, name, seconds)).get("logs", []):
        event = nft.decode_event(log)
        if event is not None and event["event"] == "PKPMinted" and event["args"]["tokenId"] == token:
            return
    raise BadAnswer("bad_answer", "the transaction did not mint the key that is called new")


async def _receipt(chain: ChainView, name: str, seconds: float) -> dict[str, Any]:
    """Return the receipt of a transaction that is said to have been executed; raise `BadAnswer`."""
    if not HASH.fullmatch(name):
        raise BadAnswer("bad_answer", "what should name a transaction is no hash")
    try:
        receipt = await chain.rpc.wait_receipt(name.lower(), seconds)
    except TimeoutError:
        raise BadAnswer("bad_answer", "it is said to be done, and the chain does not know the transaction") from None
    except (RpcError, RpcUnreachable) as error:
        raise chain_error("a transaction", error) from None
    if receipt.get("status") != "0x1":
        raise BadAnswer("bad_answer", "it is said to be done, and the transaction failed")
    return receipt


async def fresh_key(chain: ChainView, token: int, owner: str) -> Key:
    """Return the key; raise `BadAnswer` unless it was minted to `owner`, never moved, and permits nothing to anybody.

    Who had a key before could have signed with it what he sends much later.
    """
    nft, permissions = chain.contract("PKPNFT"), chain.contract("PKPPermissions")
    key, told, methods, waiting = await asyncio.gather(
        chain.key(token),
        chain.ask(nft, "ownership", token),
        chain.ask(permissions, "countPermittedAuthMethods", token),
        chain.ask(permissions, "getPendingChanges", token),
    )
    if key.owner != owner:
        raise BadAnswer("bad_answer", "the key that was minted belongs to somebody else")
    if int(told[1]) != 1:
        raise BadAnswer("bad_answer", "the key that is called new was somebody else's before")
    if methods or waiting:
        raise BadAnswer("bad_answer", "the key that is called new permits something that nobody asked for")
    return key


def finality_of(chain_id: int) -> str:
    """Return the tag of the block from which on nothing changes any more; a development chain never goes back."""
    return "latest" if chain_id == DEV_CHAIN_ID else "finalized"


async def at_last(holds: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
    """Wait until `holds`; raise `Timeout` (code `not_final`) when it does not within `seconds`."""
    give_up = time.monotonic() + seconds
    pause, longest = POLL_SECONDS
    while not await holds():
        if time.monotonic() + pause > give_up:
            raise Timeout(
                "not_final",
                f"{what} is not final on the chain yet",
                "ask again, with the same request: it will be the same key",
            )
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, longest)
