"""Transactions of an Ethereum account (EIP-1559), signed with libsecp256k1.

eth-account does this too, but takes half a second of processor time to import, and every node of a network that
starts on one machine would pay it; a test holds the two equal, byte by byte.
"""

from __future__ import annotations

from dataclasses import dataclass

from coincurve import PrivateKey
from eth_hash.auto import keccak

from keyquorum.formats import rlp

TYPE = b"\x02"


@dataclass(frozen=True)
class Transaction:
    """The fields of a type-2 transaction with an empty access list; `to` is 20 bytes, or none to deploy."""

    chain_id: int
    nonce: int
    priority_fee: int
    max_fee: int
    gas: int
    to: bytes
    value: int
    data: bytes

    def fields(self) -> list[rlp.Encodable]:
        """Return the fields in the order of EIP-1559."""
        head = (self.chain_id, self.nonce, self.priority_fee, self.max_fee, self.gas)
        return [*map(rlp.number, head), self.to, rlp.number(self.value), self.data, []]


@dataclass(frozen=True)
class Signed:
    """A transaction as it is sent, and its hash."""

    raw: bytes
    hash: bytes


def sign(transaction: Transaction, private_key: bytes) -> Signed:
    """Sign with a 32-byte key; raises `ValueError` when it is none."""
    fields = transaction.fields()
    digest = keccak(TYPE + rlp.encode(fields))
    signature = PrivateKey(private_key).sign_recoverable(digest, hasher=None)
    r, s = (int.from_bytes(signature[k : k + 32], "big") for k in (0, 32))
    raw = TYPE + rlp.encode([*fields, *map(rlp.number, (signature[64], r, s))])
    return Signed(raw, keccak(raw))
