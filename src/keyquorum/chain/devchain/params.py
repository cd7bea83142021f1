"""JSON-RPC parameters to values, strictly: each reader returns a value of the right type or refuses with code -32602.

Quantities are hex strings of at most 256 bits, data is hex of whole bytes, addresses have 20 bytes and hashes 32.
Unknown fields of a transaction object are ignored, as every client sends some of its own; fields that would change the
meaning (another chain id, state overrides) are refused rather than ignored.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from eth.vm.forks.prague.transactions import Authorization

from keyquorum.chain.devchain.evm import CHAIN_ID, GAS_LIMIT, Call
from keyquorum.chain.rpc import RpcError

INVALID = -32602
MAX_ALTERNATIVES = 1000
MAX_LIST = 1000
ZERO = bytes(20)
HEX = frozenset(string.hexdigits)
TAGS = ("latest", "pending", "safe", "finalized", "earliest")

T = TypeVar("T")


def invalid(message: str) -> RpcError:
    """Return the refusal of a parameter."""
    return RpcError(INVALID, f"invalid params: {message}")


def quantity(value: Any, name: str = "quantity") -> int:
    """Read `0x1a`."""
    if not isinstance(value, str) or not value.startswith("0x") or not 3 <= len(value) <= 66:
        raise invalid(f"{name} must be a 0x-prefixed hex number of at most 256 bits")
    if not HEX.issuperset(value[2:]):
        raise invalid(f"{name} has a character that is not hex")
    return int(value[2:], 16)


def number(value: Any, name: str) -> int:
    """Read a JSON number or a hex quantity (the time and mining methods take either)."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < 2**256:
            raise invalid(f"{name} is out of range")
        return value
    return quantity(value, name)


def data(value: Any, name: str = "data", length: int | None = None) -> bytes:
    """Read `0x...` of whole bytes, `length` of them if given."""
    if not isinstance(value, str) or not value.startswith("0x") or not HEX.issuperset(value[2:]) or len(value) % 2:
        raise invalid(f"{name} must be 0x-prefixed hex of whole bytes")
    decoded = bytes.fromhex(value[2:])
    if length is not None and len(decoded) != length:
        raise invalid(f"{name} must have {length} bytes, not {len(decoded)}")
    return decoded


def address(value: Any, name: str = "address") -> bytes:
    """Read a 20-byte address, in any case."""
    return data(value, name, 20)


def word(value: Any, name: str = "hash") -> bytes:
    """Read a 32-byte hash."""
    return data(value, name, 32)


def flag(value: Any, name: str) -> bool:
    """Read a boolean."""
    if not isinstance(value, bool):
        raise invalid(f"{name} must be true or false")
    return value


def mapping(value: Any, name: str) -> Mapping[str, Any]:
    """Read an object."""
    if not isinstance(value, Mapping):
        raise invalid(f"{name} must be an object")
    return value


def _items(value: Any, name: str, read: Callable[[Any], T], most: int = MAX_LIST) -> tuple[T, ...]:
    if not isinstance(value, list) or len(value) > most:
        raise invalid(f"{name} must be a list of at most {most}")
    return tuple(read(item) for item in value)


# -- blocks -----------------------------------------------------------------------------------------------------------


def block_number(value: Any) -> int | str:
    """Read a number or a tag."""
    if isinstance(value, str) and value in TAGS:
        return value
    return quantity(value, "block number")


def block_id(value: Any) -> int | str | bytes:
    """Read a number, a tag, a 32-byte hash, or EIP-1898's object."""
    if isinstance(value, Mapping):
        if "blockHash" in value:
            return word(value["blockHash"], "blockHash")
        return block_number(value.get("blockNumber"))
    if isinstance(value, str) and len(value) == 66:
        return word(value, "block hash")
    return block_number(value)


@dataclass(frozen=True)
class LogFilter:
    """`eth_getLogs`' object: either one block by hash, or a range; then addresses and topics."""

    block_hash: bytes | None
    first: int | str
    last: int | str
    addresses: tuple[bytes, ...]
    topics: tuple[tuple[bytes, ...] | None, ...]


def log_filter(value: Any) -> LogFilter:
    """Read a filter object."""
    fields = mapping(value, "filter")
    block_hash = None
    if fields.get("blockHash") is not None:
        if fields.get("fromBlock") is not None or fields.get("toBlock") is not None:
            raise invalid("a filter has either blockHash or a range")
        block_hash = word(fields["blockHash"], "blockHash")
    found = fields.get("address")
    addresses: tuple[bytes, ...] = ()
    if isinstance(found, list):
        addresses = _items(found, "address", address, MAX_ALTERNATIVES)
    elif found is not None:
        addresses = (address(found),)
    return LogFilter(
        block_hash,
        block_number(_default(fields.get("fromBlock"), "latest")),
        block_number(_default(fields.get("toBlock"), "latest")),
        addresses,
        _items(_default(fields.get("topics"), []), "topics", _topic, 4),
    )


def _default(value: Any, default: Any) -> Any:
    return default if value is None else value


def _topic(value: Any) -> tuple[bytes, ...] | None:
    if value is None:
        return None
    if isinstance(value, list):
        # An alternative that is null, or no alternative at all, means any topic.
        if not value or None in value:
            return None
        return _items(value, "topic", lambda item: word(item, "topic"), MAX_ALTERNATIVES)
    return (word(value, "topic"),)


# -- transactions -----------------------------------------------------------------------------------------------------


def call(value: Any) -> Call:
    """Read a transaction object for `eth_call` and `eth_estimateGas`."""
    fields = mapping(value, "transaction")
    chain_id = fields.get("chainId")
    if chain_id is not None and number(chain_id, "chainId") != CHAIN_ID:
        raise invalid(f"chainId must be {CHAIN_ID}")
    sender, to, gas = fields.get("from"), fields.get("to"), fields.get("gas")
    authorizations = _items(_default(fields.get("authorizationList"), []), "authorizationList", authorization)
    if authorizations and to is None:
        raise invalid("a transaction with authorizations must have a destination")
    return Call(
        sender=ZERO if sender is None else address(sender, "from"),
        to=b"" if to is None or to == "0x" else address(to, "to"),
        data=input_data(fields),
        value=quantity(_default(fields.get("value"), "0x0"), "value"),
        gas=GAS_LIMIT if gas is None else min(quantity(gas, "gas"), GAS_LIMIT),
        access_list=access_list(fields),
        authorization_list=authorizations,
    )


def input_data(fields: Mapping[str, Any]) -> bytes:
    """Read `input`, or its old name `data`; both may be there if they agree."""
    found = [data(fields[name], name) for name in ("input", "data") if fields.get(name) is not None]
    if len(found) == 2 and found[0] != found[1]:
        raise invalid("input and data differ")
    return found[0] if found else b""


def access_list(fields: Mapping[str, Any]) -> tuple[tuple[bytes, tuple[int, ...]], ...]:
    """Read EIP-2930's `accessList`."""

    def entry(item: Any) -> tuple[bytes, tuple[int, ...]]:
        one = mapping(item, "accessList entry")
        keys = _items(
            one.get("storageKeys"), "storageKeys", lambda key: int.from_bytes(word(key, "storage key"), "big")
        )
        return address(one.get("address")), keys

    return _items(_default(fields.get("accessList"), []), "accessList", entry)


def authorization(value: Any) -> Any:
    """Read one signed EIP-7702 authorization."""
    one = mapping(value, "authorization")
    return Authorization(
        number(one.get("chainId"), "chainId"),
        address(one.get("address")),
        number(one.get("nonce"), "nonce"),
        _parity(one),
        number(one.get("r"), "r"),
        number(one.get("s"), "s"),
    )


def _parity(one: Mapping[str, Any]) -> int:
    """Read `yParity`, or its old name `v` (27 and 28 too); both may be there if they agree."""
    found = {name: number(one[name], name) for name in ("yParity", "v") if one.get(name) is not None}
    if "v" in found and found["v"] in (27, 28):
        found["v"] -= 27
    if len(set(found.values())) > 1:
        raise invalid("yParity and v differ")
    return next(iter(found.values())) if found else number(None, "yParity")
