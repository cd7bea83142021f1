"""Ethereum transactions of types 0 (EIP-155), 1 (EIP-2930), 2 (EIP-1559) and 4 (EIP-7702).

An unsigned transaction is what Ethereum itself hashes for the signature: for type 0 the RLP list of 6 fields and
(chain id, 0, 0), for the others a type byte and the RLP list without y parity, r, s. The digest is Keccak-256 of
exactly the bytes received, and those have exactly one meaning: RLP is decoded strictly, each field has its range,
and the layouts below are the only ones. Refused on purpose: transactions without a chain id (any chain could
replay them), blobs (type 3: the signer would vouch for data it has not seen), and every type not yet known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from eth_hash.auto import keccak

from keyquorum.algebra.ecdsa import recover
from keyquorum.evm.address import to_checksum
from keyquorum.formats import rlp
from keyquorum.formats.strict_json import Rules, hex_bytes
from keyquorum.intents import evm_calls
from keyquorum.intents.intent import TRANSACTION, BadIntent, Intent, check_chain
from keyquorum.intents.read_fields import read_fields
from keyquorum.intents.show import coins, fingerprint, one_line, short

KIND = "evm-transaction"
MAX_BYTES = 128 * 1024  # what nodes of Ethereum relay
MAX_AUTHORIZATIONS = 64
AUTHORIZATION_MAGIC = b"\x05"
_FIELDS: Rules = {"kind": str, "transaction": hex_bytes(max_size=MAX_BYTES)}

AccessList = tuple[tuple[bytes, tuple[bytes, ...]], ...]


@dataclass(frozen=True)
class Authorization:
    """EIP-7702: `authority` (who signed it) lets its account run the code at `code`; chain 0 is every chain."""

    chain_id: int
    code: bytes
    nonce: int
    authority: bytes


@dataclass(frozen=True)
class Transaction:
    """A decoded transaction. `max_fee` and `priority_fee` are per gas; types 0 and 1 have one price for both."""

    type: int
    chain_id: int
    nonce: int
    max_fee: int
    priority_fee: int
    gas: int
    to: bytes
    value: int
    data: bytes
    access_list: AccessList = ()
    authorizations: tuple[Authorization, ...] = ()

    @property
    def max_cost(self) -> int:
        """Wei the sender can lose to fees."""
        return self.gas * self.max_fee


LAYOUTS: dict[int, tuple[str, ...]] = {
    0: ("nonce", "max_fee", "gas", "to", "value", "data", "chain_id", "zero_r", "zero_s"),
    1: ("chain_id", "nonce", "max_fee", "gas", "to", "value", "data", "access_list"),
    2: ("chain_id", "nonce", "priority_fee", "max_fee", "gas", "to", "value", "data", "access_list"),
}
LAYOUTS[4] = (*LAYOUTS[2], "authorizations")


# ---- decoding ---------------------------------------------------------------------------------------------------


def read(intent: Mapping[str, Any], chain_id: int | None) -> Intent:
    """Return the intent of `{"kind", "transaction": "0x.."}`; `chain_id` None lets any chain be signed for."""
    raw: bytes = read_fields(intent, _FIELDS)["transaction"]
    transaction = decode(raw)
    check_chain(transaction.chain_id, chain_id, "the transaction")
    digest = keccak(raw)
    call = _call(transaction)
    summary = one_line(_parts(transaction, call), digest)
    return Intent(KIND, digest, summary, TRANSACTION, _details(transaction, call))


def decode(raw: bytes) -> Transaction:
    """Return the transaction of unsigned bytes, or raise `BadIntent`. The chain id is only checked for its range."""
    kind, items = split(raw)
    layout = LAYOUTS[kind]
    if len(items) != len(layout):
        raise _wrong_count(kind, len(items))
    found: dict[str, Any] = {"priority_fee": None}
    for name, item in zip(layout, items, strict=True):
        try:
            found[name] = _PARSERS[name](item)
        except ValueError as error:
            raise _bad_field(name, str(error)) from None
    if kind == 0 and (found.pop("zero_r"), found.pop("zero_s")) != (0, 0):
        raise BadIntent("already_signed", "the transaction carries a signature", "send the unsigned transaction")
    if found["priority_fee"] is None:
        found["priority_fee"] = found["max_fee"]
    transaction = Transaction(type=kind, **found)
    _check_together(transaction)
    return transaction


def split(raw: bytes) -> tuple[int, list[rlp.Item]]:
    """Return the type and the fields, not yet looked at, of a transaction; raise `BadIntent` if it has neither."""
    first = raw[0] if raw else 0x80
    if first >= 0xC0:
        kind, body = 0, raw
    elif first in LAYOUTS and first != 0:
        kind, body = first, raw[1:]
    else:
        raise _unknown_type(first)
    try:
        items = rlp.decode(body)
    except ValueError as error:
        raise BadIntent("bad_rlp", f"the transaction is not strict RLP: {error}", "serialise it again") from None
    if not isinstance(items, list):
        raise BadIntent("bad_rlp", "the transaction is not an RLP list", "serialise it again")
    return kind, items


def _unknown_type(first: int) -> BadIntent:
    if first == 3:
        return BadIntent(
            "unknown_transaction_type", "blob transactions (type 3) are not signed", "use types 0, 1, 2 or 4"
        )
    if first < 0x80:
        return BadIntent(
            "unknown_transaction_type", f"there is no transaction type {first} here", "use types 0, 1, 2 or 4"
        )
    return BadIntent("bad_rlp", "the transaction is neither a list nor typed", "serialise it again")


def _wrong_count(kind: int, count: int) -> BadIntent:
    expected = len(LAYOUTS[kind])
    if kind == 0 and count == 6:
        return BadIntent(
            "not_replay_protected", "the transaction names no chain", "append chain id, 0, 0 (EIP-155) before signing"
        )
    if kind and count == expected + 3:
        return BadIntent("already_signed", "the transaction carries a signature", "send the unsigned transaction")
    return BadIntent("bad_field_count", f"a transaction of type {kind} has {expected} fields, this one {count}")


def _bad_field(name: str, problem: str) -> BadIntent:
    return BadIntent("bad_transaction_field", f"{name.replace('_', ' ')}: {problem}", "correct that field")


def _check_together(transaction: Transaction) -> None:
    check_chain(transaction.chain_id, None, "the transaction")
    if transaction.priority_fee > transaction.max_fee:
        raise BadIntent("bad_fee", "the priority fee is above the maximum fee", "lower it to at most the maximum")
    if transaction.max_cost + transaction.value >= 2**256:
        raise BadIntent("bad_fee", "value and fees together exceed 256 bits", "no account can pay this")
    if transaction.type == 4:
        if not transaction.to:
            raise _bad_field("to", "a type 4 transaction creates no contract")
        for entry in transaction.authorizations:
            if entry.chain_id not in (0, transaction.chain_id):
                raise _bad_field("authorizations", f"one is for chain {entry.chain_id} and would be skipped")


def _number(below: int) -> Callable[[rlp.Item], int]:
    return lambda item: rlp.to_number(item, below)


def _bytes(item: rlp.Item) -> bytes:
    if not isinstance(item, bytes):
        raise ValueError("must be bytes, not a list")
    return item


def _sized(item: rlp.Item, size: int) -> bytes:
    if len(_bytes(item)) != size:
        raise ValueError(f"must have {size} bytes, not {len(item)}")
    return _bytes(item)


def _list(item: rlp.Item, count: int | None = None) -> list[rlp.Item]:
    if not isinstance(item, list):
        raise ValueError("must be a list, not bytes")
    if count is not None and len(item) != count:
        raise ValueError(f"must have {count} parts, not {len(item)}")
    return item


def _to(item: rlp.Item) -> bytes:
    return b"" if item == b"" else _sized(item, 20)


def _access_list(item: rlp.Item) -> AccessList:
    pairs = [_list(entry, 2) for entry in _list(item)]
    return tuple((_sized(where, 20), tuple(_sized(key, 32) for key in _list(keys))) for where, keys in pairs)


def _authorizations(item: rlp.Item) -> tuple[Authorization, ...]:
    entries = _list(item)
    if not 1 <= len(entries) <= MAX_AUTHORIZATIONS:
        raise ValueError(f"there must be 1 to {MAX_AUTHORIZATIONS} of them")
    return tuple(map(_authorization, entries))


def _authorization(item: rlp.Item) -> Authorization:
    chain, code, nonce, parity, r, s = _list(item, 6)
    content = (rlp.to_number(chain, 2**256), _sized(code, 20), rlp.to_number(nonce, 2**64 - 1))
    digest = keccak(AUTHORIZATION_MAGIC + rlp.encode([chain, code, nonce]))
    try:
        key = recover(digest, rlp.to_number(r, 2**256), rlp.to_number(s, 2**256), rlp.to_number(parity, 2))
    except ValueError:
        raise ValueError("one has no valid signature and would be skipped") from None
    return Authorization(*content, keccak(key.to_bytes()[1:])[12:])


_PARSERS: dict[str, Callable[[rlp.Item], Any]] = {
    "chain_id": _number(2**64),
    "nonce": _number(2**64 - 1),  # EIP-2681
    "max_fee": _number(2**256),
    "priority_fee": _number(2**256),
    "gas": _number(2**64),
    "to": _to,
    "value": _number(2**256),
    "data": _bytes,
    "access_list": _access_list,
    "authorizations": _authorizations,
    "zero_r": _number(2**256),
    "zero_s": _number(2**256),
}


# ---- what it does -----------------------------------------------------------------------------------------------


def _call(transaction: Transaction) -> evm_calls.Call | None:
    if not transaction.to:
        return None
    return evm_calls.describe(transaction.to, transaction.data)


def _parts(transaction: Transaction, call: evm_calls.Call | None) -> list[str]:
    """Return the parts of the summary, most important first."""
    parts = _delegations(transaction)
    value = coins(transaction.value, transaction.chain_id)
    data = transaction.data
    if not transaction.to:
        parts += [f"CREATES A CONTRACT with {value}", f"code {fingerprint(data)}"]
    elif call is not None:
        parts += call.parts
        parts += [f"sends {value} along"] if transaction.value else []
    elif data:
        selector = f"0x{data[:4].hex()}" if len(data) >= 4 else "the fallback"
        parts += [f"calls {selector} of {_recipient(transaction)} with {value}"]
    else:
        parts += [f"sends {value} to {_recipient(transaction)}"]
    parts += [
        f"chain {transaction.chain_id}",
        f"nonce {transaction.nonce}",
        f"max fee {coins(transaction.max_cost, transaction.chain_id)}",
    ]
    if data and transaction.to and not (call and call.complete):
        parts.append(f"data {fingerprint(data)}")
    if transaction.access_list:
        parts.append(f"access list of {len(transaction.access_list)}")
    return parts


def _recipient(transaction: Transaction) -> str:
    entries = transaction.authorizations
    return "it" if entries and transaction.to == entries[0].authority else to_checksum(transaction.to)


def _delegations(transaction: Transaction) -> list[str]:
    entries = transaction.authorizations
    if not entries:
        return []
    # The authority signed for itself and is mostly the sender, so its ends will do; the code is what is dangerous.
    first, authority = entries[0], short(entries[0].authority)
    everywhere = " ON EVERY CHAIN" if any(entry.chain_id == 0 for entry in entries) else ""
    if len(entries) == 1 and not any(first.code):
        return [f"ENDS THE DELEGATION of {authority}{everywhere}"]
    verb = "DELEGATES ACCOUNT" if len(entries) == 1 else f"DELEGATES {len(entries)} ACCOUNTS, first"
    return [f"{verb} {authority} to {to_checksum(first.code)}{everywhere}"]


def _details(transaction: Transaction, call: evm_calls.Call | None) -> dict[str, Any]:
    warnings = ["delegation"] if transaction.authorizations else []
    warnings += [] if transaction.to else ["contract_creation"]
    warnings += [call.warning] if call and call.warning else []
    return {
        "type": transaction.type,
        "chain_id": transaction.chain_id,
        "nonce": transaction.nonce,
        "max_fee_per_gas": transaction.max_fee,
        "max_priority_fee_per_gas": transaction.priority_fee,
        "gas": transaction.gas,
        "to": to_checksum(transaction.to) if transaction.to else None,
        "value": transaction.value,
        "data": "0x" + transaction.data.hex(),
        "access_list": [
            {"address": "0x" + where.hex(), "storage_keys": ["0x" + key.hex() for key in keys]}
            for where, keys in transaction.access_list
        ],
        "authorizations": [
            {
                "chain_id": entry.chain_id,
                "address": to_checksum(entry.code),
                "nonce": entry.nonce,
                "authority": to_checksum(entry.authority),
            }
            for entry in transaction.authorizations
        ],
        "function": call.function if call else None,
        "warnings": warnings,
    }
