"""From a loose transaction dict to a complete one: whatever is left out is filled in from the chain.

Field names are those of eth-account and web3.py; types 0, 1, 2 (the default) and 4. Chain id, account nonce, gas
(estimated, with a quarter on top) and fees come from the chain in one round trip. `keyquorum.intents` turns the
result into the unsigned bytes, which each node decodes and shows; the client never asks for a digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keyquorum.chain.account import checksum
from keyquorum.chain.rpc import Rpc, RpcError, RpcUnreachable, from_quantity
from keyquorum.client.errors import ChainError
from keyquorum.client.network import chain_error

DEFAULT_TIP = 10**9
ALIASES = {"input": "data", "gasLimit": "gas"}


def as_int(value: Any) -> int:
    """Read a number given as an integer, as 0x hex or as decimal digits."""
    if isinstance(value, bool) or not isinstance(value, (int, str)) or len(str(value)) > 80:
        raise ValueError("a number is an integer, decimal digits or 0x hex")
    return value if isinstance(value, int) else int(value, 16 if value.startswith("0x") else 10)


def as_bytes(value: Any) -> bytes:
    """Read bytes given as bytes or as 0x hex; None and "" are empty."""
    if value is None or value == "":
        return b""
    if isinstance(value, str):
        if not value.startswith("0x"):
            raise ValueError("bytes are written as 0x and hex digits")
        return bytes.fromhex(value[2:])
    return bytes(value)


def type_of(transaction: Mapping[str, Any]) -> int:
    """Return the type of a dict: what it says, else what its fields imply; 2 when they imply nothing."""
    if "type" in transaction:
        return as_int(transaction["type"])
    if "authorizationList" in transaction:
        return 4
    if "gasPrice" in transaction:
        return 1 if "accessList" in transaction else 0
    return 2


async def fill(rpc: Rpc, sender: str, transaction: Mapping[str, Any], chain_id: int) -> dict[str, Any]:
    """Return `transaction` with everything that is missing, for the account `sender`.

    Raises `ValueError` for another sender, `ChainError` when the chain says that it would fail. A transaction for
    another chain is returned as it is: this chain knows nothing about it.
    """
    found = {ALIASES.get(name, name): value for name, value in transaction.items()}
    for name in ("gas", "value", "nonce", "chainId", "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas"):
        if name in found:
            found[name] = as_int(found[name])
    if "from" in found and checksum(found["from"]) != checksum(sender):
        raise ValueError(f"the transaction is from {found['from']}, not from {sender}")
    found.pop("from", None)
    found["type"] = type_of(found)
    if found.setdefault("chainId", chain_id) != chain_id:
        return found
    calls: list[tuple[str, Sequence[Any]]] = [
        ("eth_getTransactionCount", (sender, "pending")),
        ("eth_getBlockByNumber", ("latest", False)),
        ("eth_maxPriorityFeePerGas", ()),
    ]
    if "gas" not in found:
        calls.append(("eth_estimateGas", (_call_object(found, sender),)))
    try:
        nonce, block, tip, *estimate = await rpc.batch(calls)
    except (RpcError, RpcUnreachable) as error:
        raise chain_error("a transaction's nonce and fees", error) from None
    for answer in (nonce, block, *estimate):
        if isinstance(answer, RpcError):
            raise ChainError(f"the chain refuses the transaction: {answer.message}", code="would_fail")
    found.setdefault("nonce", from_quantity(nonce))
    if estimate:
        found["gas"] = from_quantity(estimate[0]) * 5 // 4
    _fill_fees(found, block, tip)
    return found


def _fill_fees(found: dict[str, Any], block: Mapping[str, Any], tip: Any) -> None:
    """Fill in the fees: twice the base fee and the tip, so that the transaction survives some full blocks."""
    base_fee = from_quantity(block.get("baseFeePerGas", "0x0"))
    priority = DEFAULT_TIP if isinstance(tip, RpcError) else from_quantity(tip)
    if found["type"] in (0, 1):
        found.setdefault("gasPrice", 2 * base_fee + priority)
    else:
        priority = found.setdefault("maxPriorityFeePerGas", priority)
        found.setdefault("maxFeePerGas", 2 * base_fee + priority)


def _call_object(found: Mapping[str, Any], sender: str) -> dict[str, str]:
    data = as_bytes(found.get("data"))
    call = {"from": sender, "value": hex(found.get("value", 0))}
    if to := as_bytes(found.get("to")):
        call["to"] = "0x" + to.hex()
    return call | ({"data": "0x" + data.hex()} if data else {})
