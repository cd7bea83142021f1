"""From a loose transaction dict to a complete one, its unsigned bytes, and the signed bytes the chain takes.

Field names are those of eth-account and web3.py. What is left out is filled in from the chain: chain id, account nonce,
gas (estimated, with a quarter on top) and fees. Types 0, 1, 2 (the default) and 4 are understood. What the nodes get
is the unsigned serialisation itself, which each of them decodes and shows; the client never asks for a digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import rlp
from eth_hash.auto import keccak

from keyquorum.chain.contracts import checksum
from keyquorum.chain.rpc import Rpc, RpcError, RpcUnreachable, from_quantity
from keyquorum.client.errors import ChainError
from keyquorum.client.network import chain_error

DEFAULT_TIP = 10**9
LEGACY_V = 35
# The fields of the unsigned form in the order of EIP-155, EIP-2930, EIP-1559 and EIP-7702.
FIELDS: dict[int, tuple[str, ...]] = {
    0: ("nonce", "gasPrice", "gas", "to", "value", "data"),
    1: ("chainId", "nonce", "gasPrice", "gas", "to", "value", "data", "accessList"),
    2: ("chainId", "nonce", "maxPriorityFeePerGas", "maxFeePerGas", "gas", "to", "value", "data", "accessList"),
    4: (
        *("chainId", "nonce", "maxPriorityFeePerGas", "maxFeePerGas", "gas", "to", "value", "data", "accessList"),
        "authorizationList",
    ),
}
DEFAULTS: dict[str, Any] = {"value": 0, "data": b"", "accessList": (), "to": b""}
ALIASES = {"input": "data", "gasLimit": "gas"}
IGNORED = frozenset({"from", "type", "chainId"})
# Member of a JSON authorization, and the attribute of eth-account's object.
AUTHORIZATION = {
    "chainId": "chain_id",
    "address": "address",
    "nonce": "nonce",
    "yParity": "y_parity",
    "r": "r",
    "s": "s",
}


def as_int(value: Any) -> int:
    """Read a number given as an integer, as 0x hex or as decimal digits."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("a number is an integer, decimal digits or 0x hex")
    number = value if isinstance(value, int) else int(value, 16 if value.startswith("0x") else 10)
    if not 0 <= number < 1 << 256:
        raise ValueError("a number of a transaction has at most 256 bits")
    return number


def as_bytes(value: Any) -> bytes:
    """Read bytes given as bytes or as 0x hex; None and "" are empty."""
    if value is None or value == "":
        return b""
    if isinstance(value, str):
        if not value.startswith("0x"):
            raise ValueError("bytes are written as 0x and hex digits")
        return bytes.fromhex(value[2:])
    return bytes(value)


@dataclass(frozen=True)
class UnsignedTransaction:
    """A complete transaction without signature: `type`, `chain_id`, and its fields as RLP items."""

    type: int
    chain_id: int
    items: tuple[Any, ...]

    @classmethod
    def from_dict(cls, transaction: Mapping[str, Any]) -> UnsignedTransaction:
        """Read a complete dict; raise `ValueError` naming a field that is missing, unknown or malformed."""
        found = {ALIASES.get(name, name): value for name, value in transaction.items()}
        kind = type_of(found)
        if kind not in FIELDS:
            raise ValueError(f"transactions of type {kind} are not supported, only {', '.join(map(str, FIELDS))}")
        unknown = found.keys() - set(FIELDS[kind]) - IGNORED
        if unknown:
            raise ValueError(f"a transaction of type {kind} has no field {', '.join(sorted(unknown))}")
        if "chainId" not in found:
            raise ValueError("the transaction has no chainId")
        items = tuple(_item(name, found) for name in FIELDS[kind])
        return cls(kind, as_int(found["chainId"]), items)

    def serialize(self) -> bytes:
        """Return the bytes that are signed (hashed with keccak256)."""
        if self.type == 0:
            return _rlp((*self.items, self.chain_id, 0, 0))
        return bytes([self.type]) + _rlp(self.items)

    def with_signature(self, r: int, s: int, v: int) -> bytes:
        """Return the signed transaction; `v` is the recovery id, 0 or 1."""
        if v not in (0, 1):
            raise ValueError("Ethereum has no form for this recovery id")
        if self.type == 0:
            return _rlp((*self.items, LEGACY_V + 2 * self.chain_id + v, r, s))
        return bytes([self.type]) + _rlp((*self.items, v, r, s))


def type_of(transaction: Mapping[str, Any]) -> int:
    """Return the type of a dict: what it says, else what its fields imply."""
    if "type" in transaction:
        return as_int(transaction["type"])
    if "authorizationList" in transaction:
        return 4
    if "gasPrice" in transaction:
        return 1 if "accessList" in transaction else 0
    return 2


def transaction_hash(raw: bytes) -> str:
    """Return the hash of a signed transaction, as the chain names it."""
    return "0x" + keccak(raw).hex()


def _item(name: str, found: Mapping[str, Any]) -> Any:
    if name not in found and name not in DEFAULTS:
        raise ValueError(f"the transaction has no {name}")
    value = found.get(name, DEFAULTS.get(name))
    try:
        if name == "to":
            address = as_bytes(value)
            if len(address) not in (0, 20):
                raise ValueError("an address has 20 bytes")
            return address
        if name == "data":
            return as_bytes(value)
        if name == "accessList":
            return tuple((as_bytes(e["address"]), tuple(map(as_bytes, e["storageKeys"]))) for e in value or ())
        if name == "authorizationList":
            return tuple(map(_authorization, value))
        return as_int(value)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"the transaction's {name}: {error}") from None


def _authorization(entry: Any) -> tuple[Any, ...]:
    """Return the RLP items of a signed EIP-7702 authorization, given as JSON or as eth-account makes it."""
    found = {
        name: entry[name] if isinstance(entry, Mapping) else getattr(entry, attribute)
        for name, attribute in AUTHORIZATION.items()
    }
    return tuple(as_bytes(value) if name == "address" else as_int(value) for name, value in found.items())


def _rlp(items: Sequence[Any]) -> bytes:
    encoded: bytes = rlp.encode(_plain(items))
    return encoded


def _plain(value: Any) -> Any:
    if isinstance(value, int):
        return value.to_bytes((value.bit_length() + 7) // 8, "big")
    return value if isinstance(value, bytes) else [_plain(item) for item in value]


async def fill(rpc: Rpc, sender: str, transaction: Mapping[str, Any], chain_id: int) -> dict[str, Any]:
    """Return `transaction` with everything that is missing, for the account `sender`.

    Raises `ValueError` for a sender or chain other than given, `ChainError` when the chain says that it would fail.
    """
    found = {ALIASES.get(name, name): value for name, value in transaction.items()}
    if "from" in found and checksum(found["from"]) != checksum(sender):
        raise ValueError(f"the transaction is from {found['from']}, not from {sender}")
    if as_int(found.setdefault("chainId", chain_id)) != chain_id:
        raise ValueError(f"the transaction is for chain {found['chainId']}, this network is on chain {chain_id}")
    kind = found["type"] = type_of(found)
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
    base_fee = from_quantity(block.get("baseFeePerGas", "0x0"))
    priority = DEFAULT_TIP if isinstance(tip, RpcError) else from_quantity(tip)
    if kind in (0, 1):
        found.setdefault("gasPrice", 2 * base_fee + priority)
    else:
        priority = as_int(found.setdefault("maxPriorityFeePerGas", priority))
        found.setdefault("maxFeePerGas", 2 * base_fee + priority)
    found.pop("from", None)
    return found


def _call_object(found: Mapping[str, Any], sender: str) -> dict[str, str]:
    data = as_bytes(found.get("data"))
    call = {"from": sender, "value": hex(as_int(found.get("value", 0)))}
    if to := as_bytes(found.get("to")):
        call["to"] = "0x" + to.hex()
    return call | ({"data": "0x" + data.hex()} if data else {})
