"""For clients: from the dicts, texts and objects of the Ethereum ecosystem to intents, and back to signed bytes.

The builders are as lenient as their users are used to (numbers as integers or hex, addresses in any case, bytes or
hex), because here a person can still be told; what they return is in the strict form, and has been read once by
the same reader as the nodes use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eth_hash.auto import keccak

from keyquorum.algebra import rlp
from keyquorum.algebra.ecdsa import is_low
from keyquorum.algebra.field import Q
from keyquorum.algebra.strict_json import INT64
from keyquorum.intents import eip712, evm_message, evm_transaction, evm_typed_data, raw_digest
from keyquorum.intents.intent import BadIntent
from keyquorum.intents.registry import read
from keyquorum.intents.show import address

_HEX = re.compile("0[xX][0-9a-fA-F]*")
_NAMES = {
    "nonce": "nonce",
    "gasPrice": "max_fee",
    "maxFeePerGas": "max_fee",
    "maxPriorityFeePerGas": "priority_fee",
    "gas": "gas",
    "to": "to",
    "value": "value",
    "data": "data",
    "chainId": "chain_id",
    "accessList": "access_list",
    "authorizationList": "authorizations",
}
_DEFAULTS: dict[str, rlp.Encodable] = {
    "to": b"",
    "value": b"",
    "data": b"",
    "access_list": [],
    "zero_r": b"",
    "zero_s": b"",
}


def transaction_intent(transaction: Mapping[str, Any]) -> dict[str, Any]:
    """Return the intent of an eth-account style transaction dict; raise `BadIntent`.

    The type is that of `type`, or follows from the fields as in eth-account. `from` and `input` (as `data`) are
    accepted as web3.py writes them; `from` is not part of what is signed.
    """
    return _checked(evm_transaction.KIND, transaction="0x" + serialize(transaction).hex())


def serialize(transaction: Mapping[str, Any]) -> bytes:
    """Return the unsigned bytes of an eth-account style transaction dict."""
    given = {name: value for name, value in transaction.items() if name not in ("from", "type")}
    if "input" in given and "data" not in given:
        given["data"] = given.pop("input")
    unknown = set(given) - set(_NAMES)
    if unknown:
        raise _bad(f"unknown transaction fields: {', '.join(sorted(map(str, unknown)))}")
    kind = _transaction_type(transaction)
    price, fee = ("maxFeePerGas", "gasPrice") if kind in (2, 4) else ("gasPrice", "maxFeePerGas")
    if fee in given:
        raise _bad(f"a transaction of type {kind} has no {fee}, but {price}")
    fields = dict(_DEFAULTS)
    for name, value in given.items():
        fields[_NAMES[name]] = _ENCODERS.get(name, _number)(value, name)
    layout = evm_transaction.LAYOUTS[kind]
    missing = [name for name in layout if name not in fields]
    if missing or set(map(_NAMES.__getitem__, given)) - set(layout):
        raise _bad(f"a transaction of type {kind} has the fields {', '.join(layout)}")
    body = rlp.encode([fields[name] for name in layout])
    return body if kind == 0 else bytes([kind]) + body


def _transaction_type(transaction: Mapping[str, Any]) -> int:
    if "type" in transaction:
        kind = _integer(transaction["type"], "type")
    elif "authorizationList" in transaction:
        kind = 4
    elif "maxFeePerGas" in transaction:
        kind = 2
    else:
        kind = 1 if "accessList" in transaction else 0
    if kind not in evm_transaction.LAYOUTS:
        raise BadIntent("unknown_transaction_type", f"transactions of type {kind} are not signed", "use 0, 1, 2 or 4")
    return kind


def message_intent(message: str | bytes) -> dict[str, Any]:
    """Return the intent of a personal message: text as text, bytes as bytes."""
    if isinstance(message, str):
        return _checked(evm_message.KIND, message=message)
    return _checked(evm_message.KIND, bytes="0x" + bytes(message).hex())


def typed_data_intent(typed_data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the intent of EIP-712 data `{types, primaryType, domain, message}`; raise `BadIntent`.

    An absent `EIP712Domain` is derived from the domain, an absent `primaryType` is the only struct no other
    uses, types that nobody uses are left out; none of this changes the digest. Bytes become hex, large
    integers decimal text.
    """
    if not {"types", "domain", "message"} <= set(typed_data):
        raise eip712.bad("typed data has the fields types, primaryType, domain and message")
    data = {name: _plain(value) for name, value in typed_data.items()}
    types = data["types"]
    if not isinstance(types, dict):
        raise eip712.bad("types must be an object")
    types.setdefault(
        eip712.DOMAIN,
        [{"name": name, "type": kind} for name, kind in eip712.DOMAIN_FIELDS.items() if name in data["domain"]],
    )
    used = {name: _leads_to(types, name) for name in types}
    if "primaryType" not in data:
        roots = [name for name in types if not any(name in used[other] for other in types if other != name)]
        roots = [name for name in roots if name != eip712.DOMAIN]
        if len(roots) != 1:
            raise eip712.bad("the primary type does not follow from the types", "give primaryType")
        data["primaryType"] = roots[0]
    wanted = used.get(str(data["primaryType"]), set()) | {eip712.DOMAIN}
    data["types"] = {name: members for name, members in types.items() if name in wanted}
    return _checked(evm_typed_data.KIND, typed_data=data)


def _leads_to(types: Mapping[str, Any], struct: str) -> set[str]:
    found: set[str] = set()
    waiting = [struct]
    while waiting:
        name = waiting.pop()
        if name in found or name not in types:
            continue
        found.add(name)
        members = types[name] if isinstance(types[name], list) else []
        waiting += [str(member.get("type")).partition("[")[0] for member in members if isinstance(member, dict)]
    return found


def raw_digest_intent(digest: bytes) -> dict[str, Any]:
    """Return the intent of a bare digest; it takes scope 5."""
    return _checked(raw_digest.KIND, digest="0x" + bytes(digest).hex())


def apply_signature(unsigned: bytes, r: int, s: int, y_parity: int) -> bytes:
    """Return the signed transaction of unsigned bytes, ready to broadcast; raise `ValueError`.

    `y_parity` is 0 or 1; Ethereum cannot express 2 and 3 (R's x beyond q, probability 2^-127): sign again.
    """
    if not 1 <= r < Q or not is_low(s) or y_parity not in (0, 1):
        raise ValueError("r, s or the parity is out of range, or s is high")
    transaction = evm_transaction.decode(unsigned)
    kind, items = evm_transaction.split(unsigned)
    signature = [rlp.number(r), rlp.number(s)]
    if kind == 0:
        v = rlp.number(transaction.chain_id * 2 + 35 + y_parity)
        return rlp.encode([*items[:6], v, *signature])
    return bytes([kind]) + rlp.encode([*items, rlp.number(y_parity), *signature])


def transaction_hash(signed: bytes) -> bytes:
    """Return the hash under which the chain knows a signed transaction."""
    return keccak(signed)


# ---- lenient readers --------------------------------------------------------------------------------------------


def _checked(kind: str, **content: Any) -> dict[str, Any]:
    intent = {"kind": kind, **content}
    read(intent)
    return intent


def _bad(message: str) -> BadIntent:
    return BadIntent("bad_transaction_field", message, "write the transaction as eth-account takes it")


def _integer(value: Any, name: str) -> int:
    if isinstance(value, str) and _HEX.fullmatch(value) and len(value) > 2:
        return int(value, 16)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _bad(f"{name} must be an integer from 0 upwards, or 0x and hex digits")
    return int(value)


def _number(value: Any, name: str) -> bytes:
    return rlp.number(_integer(value, name))


def _bytes(value: Any, name: str) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if not isinstance(value, str) or not _HEX.fullmatch(value) or len(value) % 2:
        raise _bad(f"{name} must be bytes, or 0x and an even number of hex digits")
    return bytes.fromhex(value[2:])


def _address(value: Any, name: str) -> bytes:
    raw = _bytes(value, name)
    if isinstance(value, str) and value[2:] not in (value[2:].lower(), value[2:].upper()) and value != address(raw):
        raise _bad(f"{name} has a wrong checksum")
    return raw


def _to(value: Any, name: str) -> bytes:
    return b"" if value in (None, "", b"", "0x") else _address(value, name)


def _access_list(value: Any, name: str) -> list[rlp.Encodable]:
    return [
        [_address(_part(entry, "address"), name), [_bytes(key, name) for key in _part(entry, "storageKeys")]]
        for entry in _entries(value, name)
    ]


def _authorizations(value: Any, name: str) -> list[rlp.Encodable]:
    return [
        [
            _number(_part(entry, "chainId"), name),
            _address(_part(entry, "address"), name),
            *(_number(_part(entry, part), name) for part in ("nonce", "yParity", "r", "s")),
        ]
        for entry in _entries(value, name)
    ]


def _entries(value: Any, name: str) -> Sequence[Any]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise _bad(f"{name} must be a list")
    return value


def _part(entry: Any, name: str) -> Any:
    """Return a part of a dict, or of an object with snake case names such as eth-account's authorizations."""
    snake = {"chainId": "chain_id", "yParity": "y_parity", "storageKeys": "storage_keys"}.get(name, name)
    found = entry.get(name) if isinstance(entry, Mapping) else getattr(entry, snake, None)
    if found is None:
        raise _bad(f"an entry lacks {name}")
    return found


_ENCODERS: dict[str, Callable[[Any, str], rlp.Encodable]] = {
    "to": _to,
    "data": _bytes,
    "accessList": _access_list,
    "authorizationList": _authorizations,
}


def _plain(value: Any) -> Any:
    """Return `value` in what JSON has: bytes as hex, integers beyond 63 bits as text, sequences as lists."""
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "0x" + bytes(value).hex()
    if type(value) is int and abs(value) >= INT64:
        return str(value)
    return value
