"""From a loose transaction dict to a complete one: whatever is left out is filled in from the chain.

Field names are those of eth-account, web3.py and ethers; types 0, 1, 2 (the default) and 4. Chain id, account nonce,
gas (estimated of everything that the transaction has, with a quarter on top) and fees come from the chain in one round
trip. `keyquorum.intents` turns the result into the unsigned bytes, which each node decodes and shows; the client never
asks for a digest.

What the chain fills in may cost no more than the payer's limits; who names gas and fees himself has seen them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keyquorum.chain.contracts import REFUSAL_HINTS, decode_error
from keyquorum.chain.fees import DEFAULT_TIP, SpendingLimits
from keyquorum.chain.rpc import Reverted, Rpc, RpcError, RpcUnreachable, from_quantity
from keyquorum.client.errors import ChainError
from keyquorum.client.network import chain_error
from keyquorum.evm.address import checksum
from keyquorum.intents import lenient

_READ = lenient.NUMBERS | {"from", "to", "data", "accessList", "authorizationList"}


def type_of(transaction: Mapping[str, Any]) -> int:
    """Return the type of a dict: what it says, else what its fields imply; 2 when they imply nothing."""
    if "type" in transaction:
        return lenient.read_integer(transaction["type"], "type")
    if "authorizationList" in transaction:
        return 4
    if "gasPrice" in transaction:
        return 1 if "accessList" in transaction else 0
    return 2


async def fill(
    rpc: Rpc, sender: str, transaction: Mapping[str, Any], chain_id: int, limits: SpendingLimits
) -> dict[str, Any]:
    """Return `transaction` with everything that is missing, for the account `sender`.

    Raises `ValueError` for another sender, `ChainError` when the chain says that it would fail, `TooDear` when gas and
    fees that the chain names could cost more than `limits`. A transaction for another chain is returned as it is: this
    chain knows nothing about it.
    """
    found = lenient.one_name(transaction)
    values = {name: lenient.read_field(name, value) for name, value in found.items() if name in _READ}
    found |= {name: value for name, value in values.items() if name in lenient.NUMBERS}
    if "from" in found and checksum(values["from"]) != checksum(sender):
        raise ValueError(f"the transaction is from {checksum(values['from'])}, not from {sender}")
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
        calls.append(("eth_estimateGas", (_call_object(values, sender),)))
    try:
        nonce, block, tip, *estimate = await rpc.batch(calls)
    except (RpcError, RpcUnreachable) as error:
        raise chain_error("a transaction's nonce and fees", error) from None
    for answer in (nonce, block, *estimate):
        if isinstance(answer, RpcError):
            raise refusal(answer, sender)
    found.setdefault("nonce", from_quantity(nonce))
    if estimate:
        found["gas"] = from_quantity(estimate[0]) * 5 // 4
    filled = _fill_fees(found, block, tip, limits)
    if estimate or filled:
        limits.check(found["gas"], found["gasPrice" if found["type"] in (0, 1) else "maxFeePerGas"])
    return found


def _fill_fees(found: dict[str, Any], block: Mapping[str, Any], tip: Any, limits: SpendingLimits) -> bool:
    """Fill in the fees: twice the base fee and the tip, so that the transaction survives some full blocks.

    Says whether anything was missing.
    """
    names = ("gasPrice",) if found["type"] in (0, 1) else ("maxPriorityFeePerGas", "maxFeePerGas")
    if all(name in found for name in names):
        return False
    base_fee = from_quantity(block.get("baseFeePerGas", "0x0"))
    priority = found.get("maxPriorityFeePerGas")
    if priority is None:
        priority = limits.tip(base_fee, DEFAULT_TIP if isinstance(tip, RpcError) else from_quantity(tip))
        # A tip above the maximum that was given would be refused, and nobody asked for it.
        priority = min(priority, found.get("maxFeePerGas", priority))
    for name in names:
        found.setdefault(name, priority if name == "maxPriorityFeePerGas" else 2 * base_fee + priority)
    return True


def refusal(answer: RpcError, sender: str) -> ChainError:
    """Return the error for a transaction of `sender` that the chain refuses, with what can be done about it."""
    reason = _reason(answer)
    if "insufficient funds" in reason or "exceeds allowance" in reason:
        hint = f"send ether to {sender} first: on a development network with `keyquorum fund {sender} 1ether`"
    elif isinstance(answer, Reverted):
        known = decode_error(answer.revert_data).name
        hint = REFUSAL_HINTS.get(
            known, "the contract refuses this: look at what the call would do, and at who may do it"
        )
    else:
        hint = "compare the transaction with what the chain says"
    return ChainError("would_fail", f"the chain refuses the transaction: {reason}", hint)


def _reason(answer: RpcError) -> str:
    """Return the chain's words; where one of this network's contracts gave a reason as data, that."""
    if not isinstance(answer, Reverted) or not answer.revert_data:
        return answer.message
    known = decode_error(answer.revert_data)
    return answer.message if known.name == "Unknown" else known.message


def _call_object(values: Mapping[str, Any], sender: str) -> dict[str, Any]:
    """Return what is estimated: every field of the transaction that a call object knows, in JSON-RPC's notation."""
    call: dict[str, Any] = {"from": sender, "value": "0x0"}
    call |= {name: hex(value) for name, value in values.items() if name in lenient.NUMBERS and name != "type"}
    call |= {name: "0x" + values[name].hex() for name in ("to", "data") if values.get(name)}
    if "accessList" in values:
        call["accessList"] = [
            {"address": "0x" + one.address.hex(), "storageKeys": ["0x" + key.hex() for key in one.storage_keys]}
            for one in values["accessList"]
        ]
    if "authorizationList" in values:
        call["authorizationList"] = [
            {
                "chainId": hex(one.chain_id),
                "address": "0x" + one.address.hex(),
                "nonce": hex(one.nonce),
                "yParity": hex(one.y_parity),
                "r": hex(one.r),
                "s": hex(one.s),
            }
            for one in values["authorizationList"]
        ]
    return call
