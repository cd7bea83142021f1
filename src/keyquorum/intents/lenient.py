"""How people and libraries write a transaction's fields: read here once, for what is estimated and for what is signed.

Lenient in notation (integers, decimal digits or hex; bytes or hex; objects or dicts; ethers' names beside
eth-account's), never in meaning: where two names of one value are given, both must say the same, whatever their order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from keyquorum.evm.address import ADDRESS_BYTES, to_checksum
from keyquorum.intents.intent import BadIntent

# Another name of a field -> the name that eth-account has for it.
ALIASES = {"input": "data", "gasLimit": "gas"}
NUMBERS = frozenset({"type", "nonce", "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas", "gas", "value", "chainId"})
MAX_DIGITS = 80

_HEX = re.compile("0[xX][0-9a-fA-F]*")
_DECIMAL = re.compile("[0-9]+")
_NOBODY = (None, "", b"", "0x")
_V = {0: 0, 1: 1, 27: 0, 28: 1}
_SNAKE = {"chainId": "chain_id", "yParity": "y_parity", "storageKeys": "storage_keys"}


class AccessEntry(NamedTuple):
    """One entry of an access list: an address (20 bytes) and its storage keys (32 bytes each)."""

    address: bytes
    storage_keys: tuple[bytes, ...]


class Authorization(NamedTuple):
    """One signed authorization (EIP-7702) as it stands in a transaction."""

    chain_id: int
    address: bytes
    nonce: int
    y_parity: int
    r: int
    s: int


def bad(message: str) -> BadIntent:
    """Return the error for a transaction's field that cannot be meant."""
    return BadIntent("bad_transaction_field", message, "write the transaction as eth-account or ethers takes it")


def one_name(transaction: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same fields under eth-account's names; raise `BadIntent` where two names of one field differ."""
    found: dict[str, Any] = {}
    given: dict[str, str] = {}
    for name, value in transaction.items():
        field = ALIASES.get(name, name)
        if field in found and read_field(field, found[field]) != read_field(field, value):
            raise bad(f"{given[field]} and {name} are two names of one field, and differ: leave one of them out")
        found[field], given[field] = value, name
    return found


def read_field(name: str, value: Any) -> Any:
    """Return the value of a field (eth-account's name): int, bytes, or tuples; raise `BadIntent` naming the field."""
    reader: Callable[[Any, str], Any] = _READERS.get(name, read_integer)
    return reader(value, name)


def read_integer(value: Any, name: str) -> int:
    """Read an integer from 0 upwards, given as such, as decimal digits or as 0x hex."""
    if isinstance(value, str) and len(value) <= MAX_DIGITS:
        if _HEX.fullmatch(value) and len(value) > 2:
            return int(value, 16)
        if _DECIMAL.fullmatch(value):
            return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise bad(f"{name} must be an integer from 0 upwards, as a number, in decimal digits, or in 0x and hex digits")
    return int(value)


def read_bytes(value: Any, name: str) -> bytes:
    """Read bytes given as such or as 0x hex."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if not isinstance(value, str) or not _HEX.fullmatch(value) or len(value) % 2:
        raise bad(f"{name} must be bytes, or 0x and an even number of hex digits")
    return bytes.fromhex(value[2:])


def read_address(value: Any, name: str) -> bytes:
    """Read an address: 20 bytes, or 0x and 40 hex digits, whose mixed case is the checksum of EIP-55."""
    raw = value if isinstance(value, str) and not _HEX.fullmatch(value) else read_bytes(value, name)
    if len(raw) != ADDRESS_BYTES or isinstance(raw, str):
        raise bad(f"{name} must be an address, 0x and 40 hex digits (names such as vitalik.eth are not looked up)")
    if isinstance(value, str) and value[2:] not in (value[2:].lower(), value[2:].upper()) and value != to_checksum(raw):
        raise bad(f"{name} has a wrong checksum: copy the address again")
    return raw


def _to(value: Any, name: str) -> bytes:
    return b"" if value in _NOBODY else read_address(value, name)


def _access_list(value: Any, name: str) -> tuple[AccessEntry, ...]:
    return tuple(
        AccessEntry(
            read_address(_part(entry, "address", name), name),
            tuple(read_bytes(key, name) for key in _entries(_part(entry, "storageKeys", name), name)),
        )
        for entry in _entries(value, name)
    )


def _authorizations(value: Any, name: str) -> tuple[Authorization, ...]:
    return tuple(_authorization(entry, name) for entry in _entries(value, name))


def _authorization(entry: Any, name: str) -> Authorization:
    signature = _maybe(entry, "signature")
    parts = entry if signature is None else signature
    number = read_integer
    return Authorization(
        number(_part(entry, "chainId", name), name),
        read_address(_part(entry, "address", name), name),
        number(_part(entry, "nonce", name), name),
        _parity(parts, name),
        _agreed(entry, parts, "r", name),
        _agreed(entry, parts, "s", name),
    )


def _parity(parts: Any, name: str) -> int:
    """Return the parity, from `yParity` or its old name `v` (0, 1, 27 or 28); both must agree."""
    given = {one: read_integer(found, name) for one in ("yParity", "v") if (found := _maybe(parts, one)) is not None}
    if not given:
        raise bad(f"an entry of {name} lacks yParity")
    old = given.get("v", given.get("yParity", 0))
    parity = given.get("yParity", _V.get(old, old))
    if "v" in given and _V.get(old) != parity:
        raise bad(f"yParity and v of an entry of {name} differ")
    return parity


def _agreed(entry: Any, parts: Any, part: str, name: str) -> int:
    found = read_integer(_part(parts, part, name), name)
    if parts is not entry and (outside := _maybe(entry, part)) is not None and read_integer(outside, name) != found:
        raise bad(f"{part} of an entry of {name} is given twice, and differs")
    return found


def _entries(value: Any, name: str) -> Sequence[Any]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise bad(f"{name} must be a list")
    return value


def _maybe(entry: Any, name: str) -> Any:
    """Return a part of a dict, or of an object with snake case names such as eth-account's authorizations."""
    return entry.get(name) if isinstance(entry, Mapping) else getattr(entry, _SNAKE.get(name, name), None)


def _part(entry: Any, part: str, name: str) -> Any:
    found = _maybe(entry, part)
    if found is None:
        raise bad(f"an entry of {name} lacks {part}")
    return found


_READERS: dict[str, Callable[[Any, str], Any]] = {
    "to": _to,
    "from": read_address,
    "data": read_bytes,
    "accessList": _access_list,
    "authorizationList": _authorizations,
}
