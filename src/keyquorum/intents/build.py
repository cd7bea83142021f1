"""For clients: from the dicts, texts and objects of the Ethereum ecosystem to intents, and back to signed bytes.

The builders are as lenient as their users are used to (numbers as integers or hex, addresses in any case, bytes or
hex), because here a person can still be told; what they return is in the strict form, and has been read once by
the same reader as the nodes use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eth_hash.auto import keccak

from keyquorum.algebra.ecdsa import is_low
from keyquorum.algebra.field import Q
from keyquorum.formats import rlp
from keyquorum.formats.strict_json import INT64
from keyquorum.intents import eip712, evm_message, evm_transaction, evm_typed_data, lenient, raw_digest
from keyquorum.intents.intent import BadIntent
from keyquorum.intents.registry import read

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
_TYPED_DATA = ("types", "primaryType", "domain", "message")
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

    The type is that of `type`, or follows from the fields as in eth-account. `input` and `gasLimit` are accepted for
    `data` and `gas`; `from` is not part of what is signed.
    """
    return _checked(evm_transaction.KIND, transaction="0x" + serialize(transaction).hex())


def serialize(transaction: Mapping[str, Any]) -> bytes:
    """Return the unsigned bytes of an eth-account style transaction dict."""
    given = lenient.one_name(transaction)
    kind = _transaction_type(given)
    names = {name: value for name, value in given.items() if name not in ("from", "type")}
    layout = evm_transaction.LAYOUTS[kind]
    price, fee = ("maxFeePerGas", "gasPrice") if kind in (2, 4) else ("gasPrice", "maxFeePerGas")
    if fee in names:
        raise lenient.bad(f"a transaction of type {kind} has no {fee}, but {price}")
    known = {name: field for name, field in _NAMES.items() if field in layout and name != fee}
    if foreign := sorted(map(str, set(names) - set(known))):
        raise lenient.bad(f"a transaction of type {kind} has no {', '.join(foreign)}: it has {', '.join(known)}")
    fields = _DEFAULTS | {known[name]: _encoded(lenient.read_field(name, value)) for name, value in names.items()}
    if missing := [name for name, field in known.items() if field not in fields]:
        raise lenient.bad(f"a transaction of type {kind} lacks {', '.join(missing)}")
    body = rlp.encode([fields[name] for name in layout])
    return body if kind == 0 else bytes([kind]) + body


def _encoded(value: Any) -> rlp.Encodable:
    """Return what RLP has for a value that was read: numbers become bytes, tuples lists."""
    if isinstance(value, int):
        return rlp.number(value)
    return value if isinstance(value, bytes) else [_encoded(one) for one in value]


def _transaction_type(transaction: Mapping[str, Any]) -> int:
    if "type" in transaction:
        kind = lenient.read_integer(transaction["type"], "type")
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

    An absent `EIP712Domain` is derived from the domain, an absent `primaryType` is the only struct no other uses. Types
    that nobody uses and members that no type declares are left out: they are not signed. None of this changes the
    digest. An undeclared member of the *domain* is refused: encoders do not agree about it. Bytes become hex, large
    integers decimal text.
    """
    if not {"types", "domain", "message"} <= set(typed_data):
        raise eip712.bad("typed data has the fields types, primaryType, domain and message")
    data = {name: _plain(typed_data[name]) for name in _TYPED_DATA if name in typed_data}
    if not isinstance(data["types"], dict):
        raise eip712.bad("types must be an object")
    types = {name: _members(members) for name, members in data["types"].items()}
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
    primary = str(data["primaryType"])
    wanted = used.get(primary, set()) | {eip712.DOMAIN}
    data["types"] = {name: members for name, members in types.items() if name in wanted}
    data["message"] = _declared(data["types"], primary, data["message"], eip712.MAX_DEPTH)
    return _checked(evm_typed_data.KIND, typed_data=data)


def _members(members: Any) -> Any:
    """Return a struct's members with only what counts of each, name and type; what is malformed stays as it is."""
    if not isinstance(members, list):
        return members
    return [{k: one[k] for k in ("name", "type") if k in one} if isinstance(one, dict) else one for one in members]


def _declared(types: Mapping[str, Any], kind: Any, value: Any, depth: int) -> Any:
    """Return `value` without members that its type does not declare, at any depth; what is malformed stays as it is."""
    kind = str(kind)
    if depth < 0:
        return value
    if isinstance(value, list) and kind.endswith("]"):
        return [_declared(types, kind.rpartition("[")[0], one, depth - 1) for one in value]
    members = types.get(kind)
    if not isinstance(value, dict) or not isinstance(members, list):
        return value
    of = {str(one.get("name")): one.get("type") for one in members if isinstance(one, dict)}
    return {name: _declared(types, of[name], inner, depth - 1) for name, inner in value.items() if name in of}


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


def _checked(kind: str, **content: Any) -> dict[str, Any]:
    intent = {"kind": kind, **content}
    read(intent)
    return intent


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
