"""An Ethereum account: its address, and its EIP-1559 transactions, signed with libsecp256k1.

eth-account does this too, but takes half a second of processor time to import, and every node of a network that
starts on one machine would pay it; a test holds the two equal, byte by byte.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from coincurve import PrivateKey
from eth_hash.auto import keccak

from keyquorum.algebra import rlp

TYPE = b"\x02"
KEY_BYTES = 32
ADDRESS_BYTES = 20
_ADDRESS = re.compile("0[xX][0-9a-fA-F]{40}")


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


def address_of(private_key: bytes) -> bytes:
    """Return the 20-byte address of the account with a 32-byte key; raises `ValueError` when it is none."""
    if len(private_key) != KEY_BYTES:
        # coincurve would pad a shorter key: another account than the one that was meant.
        raise ValueError("a private key has 32 bytes")
    return keccak(PrivateKey(private_key).public_key.format(compressed=False)[1:])[12:]


def checksum(address: bytes | str) -> str:
    """Return an address (20 bytes or hex) as EIP-55 writes it; `ValueError` if it is none, or mixes cases wrongly."""
    if isinstance(address, str) and not _ADDRESS.fullmatch(address):
        raise ValueError("an address is 0x and 40 hex digits (names such as vitalik.eth are not looked up)")
    raw = bytes.fromhex(address[2:]) if isinstance(address, str) else address
    if len(raw) != ADDRESS_BYTES:
        raise ValueError("an address has 20 bytes")
    digits = raw.hex()
    nibbles = keccak(digits.encode()).hex()
    found = "0x" + "".join(d.upper() if int(n, 16) > 7 else d for d, n in zip(digits, nibbles, strict=False))
    if isinstance(address, str) and address[2:] not in (digits, digits.upper(), found[2:]):
        raise ValueError("the address has a wrong checksum: copy it again")
    return found
