"""Typed structured data (EIP-712): permits, orders, votes; what most theft by signature has used.

The summary names the type, the application that asks, its chain and contract, and then the fields in the order
of their declaration. Types by which people are known to lose tokens without a transaction come first and in capitals.
The digest is Keccak-256 of 0x1901, the domain's hash and the message's hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from eth_hash.auto import keccak

from keyquorum.evm.address import to_checksum
from keyquorum.formats.strict_json import Rules
from keyquorum.intents import evm_calls
from keyquorum.intents.eip712 import DOMAIN, Hasher, Types, Values, dimension, read_types
from keyquorum.intents.intent import TYPED_DATA, Intent, check_chain
from keyquorum.intents.read_fields import read_fields
from keyquorum.intents.show import item, one_line, quoted, units

KIND = "evm-typed-data"
_FIELDS: Rules = {"types": dict, "primaryType": str, "domain": dict, "message": dict}
_LOGIN = "Keyquorum login"
_PERMIT2 = {
    "PermitSingle",
    "PermitBatch",
    "PermitTransferFrom",
    "PermitBatchTransferFrom",
    "PermitWitnessTransferFrom",
    "PermitBatchWitnessTransferFrom",
}
_MOVES = {"TransferWithAuthorization", "ReceiveWithAuthorization"}
_RELAYED = {"ForwardRequest", "MetaTransaction", "UserOperation", "PackedUserOperation", "Delegation"}
_ORDERS = {"OrderComponents", "Order", "BulkOrder"}


def read(intent: Mapping[str, Any], chain_id: int | None) -> Intent:
    """Return the intent of `{"kind", "typed_data": {"types", "primaryType", "domain", "message"}}`."""
    data = read_fields(intent, {"kind": str, "typed_data": dict})["typed_data"]
    found = read_fields(data, _FIELDS, where="the typed data")
    primary: str = found["primaryType"]
    types = read_types(found["types"], primary)
    values = Values(types)
    domain = values.read(DOMAIN, found["domain"], "domain")
    message = values.read(primary, found["message"], "message")
    if "chainId" in domain:
        check_chain(domain["chainId"], chain_id, "the typed data's domain")
    hasher = Hasher(types)
    digest = keccak(b"\x19\x01" + hasher.struct(DOMAIN, domain) + hasher.struct(primary, message))
    warnings, first = _warnings(types, primary, domain, message)
    summary = one_line(_parts(types, primary, domain, message, first), digest)
    details = {
        "primary_type": primary,
        "domain": _plain(types, DOMAIN, domain),
        "message": _plain(types, primary, message),
        "warnings": warnings,
    }
    return Intent(KIND, digest, summary, TYPED_DATA, details)


def _parts(
    types: Types, primary: str, domain: Mapping[str, Any], message: Mapping[str, Any], first: list[str]
) -> Iterator[str]:
    """Yield the parts of the summary, most important first."""
    yield from first
    name = f" for {quoted(domain['name'], 32)}" if "name" in domain else ""
    yield f"signs {quoted(primary, 32)}{name}"
    yield f"chain {domain['chainId']}" if "chainId" in domain else "NO CHAIN NAMED"
    if "verifyingContract" in domain:
        yield f"contract {to_checksum(domain['verifyingContract'])}"
    for path, kind, value in _leaves(types, primary, message, ""):
        yield f"{path}={_shown(kind, value)}"


def _leaves(types: Types, kind: str, value: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    """Yield (path, type, canonical value) of every elementary value, in the order in which they are hashed."""
    if kind[-1] == "]":
        inner = dimension(kind)[0]
        if not value:
            yield path, kind, value
        for index, entry in enumerate(value):
            yield from _leaves(types, inner, entry, f"{path}[{index}]")
    elif kind in types:
        for name, of in types[kind].items():
            yield from _leaves(types, of, value[name], f"{path}.{name}" if path else name)
    else:
        yield path, kind, value


def _shown(kind: str, value: Any) -> str:
    if kind == "address":
        return to_checksum(value)
    if kind == "string":
        return quoted(value)
    if isinstance(value, bytes):
        return f"0x{value.hex()}" if len(value) <= 32 else f"0x{value[:16].hex()}... ({len(value)} bytes)"
    return str(value).lower()


def _plain(types: Types, kind: str, value: Any) -> Any:
    """Return a canonical value as plain data: bytes as hex text, addresses with their checksum."""
    if kind[-1] == "]":
        inner = dimension(kind)[0]
        return [_plain(types, inner, entry) for entry in value]
    if kind in types:
        return {name: _plain(types, of, value[name]) for name, of in types[kind].items()}
    if kind == "address":
        return to_checksum(value)
    return f"0x{value.hex()}" if isinstance(value, bytes) else value


def _named(call: Any) -> str:
    """Return which function of the permission contract a relayed call is for, "" when it is none that is known."""
    known = evm_calls.describe(bytes(20), call) if isinstance(call, bytes) else None
    return f"{known.function.partition('(')[0]}: " if known else ""


# ---- what is known to be dangerous ------------------------------------------------------------------------------


def _warnings(
    types: Types, primary: str, domain: Mapping[str, Any], message: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """Return warning codes, and the parts of the summary that say them."""
    where = to_checksum(domain["verifyingContract"]) if "verifyingContract" in domain else "an unnamed contract"
    of = {name: (types[primary][name], message[name]) for name in message}

    def account(name: str) -> str | None:
        return to_checksum(of[name][1]) if of.get(name, ("",))[0] == "address" else None

    def number(name: str) -> int | None:
        return of[name][1] if of.get(name, ("",))[0].startswith("uint") and isinstance(of[name][1], int) else None

    spender, amount = account("spender"), number("value")
    if domain.get("name") == _LOGIN:
        return ["login"], ["OPENS A KEYQUORUM SESSION"]
    if primary == "PermissionCall":
        return ["control"], [f"{_named(of.get('call', ('', None))[1])}CHANGES WHO MAY USE A KEY at {where}"]
    if primary in _PERMIT2:
        return ["approval"], [f"LETS {spender or 'somebody'} TAKE TOKENS through Permit2"]
    if primary == "Permit" and of.get("allowed") == ("bool", False):
        return [], [f"forbids {spender} to take units of {where}"]
    if spender is not None:
        worded = units(amount) if amount is not None else "UNLIMITED units"
        return ["approval"], [f"LETS {spender} TAKE {worded} of {where}"]
    if primary in _MOVES and amount is not None:
        return ["transfer"], [f"MOVES {item(amount)} units of {where} to {account('to')}"]
    if primary == "SafeTx":
        verb = "RUNS FOREIGN CODE (delegatecall) of" if number("operation") else "MAKES THE SAFE CALL"
        return ["control"], [f"{verb} {account('to')} as Safe {where}"]
    if primary in _RELAYED:
        return ["control"], ["LETS OTHERS ACT FOR THIS ACCOUNT"]
    if primary in _ORDERS:
        return ["order"], ["OFFERS TOKENS IN AN ORDER"]
    return [], []
