"""Addresses: 20 bytes in the code, text with the checksum of EIP-55 where people and wallets read them."""

from __future__ import annotations

import re
from functools import lru_cache

from coincurve import PrivateKey
from eth_hash.auto import keccak

from keyquorum.refusal import malformed

ADDRESS_BYTES = 20
KEY_BYTES = 32
PUBLIC_KEY_BYTES = 65
_STRICT = re.compile("0x[0-9a-fA-F]{40}")
_ANY = re.compile("0[xX][0-9a-fA-F]{40}")


@lru_cache(maxsize=4096)
def to_checksum(address: bytes) -> str:
    """Return the EIP-55 text of a 20-byte address."""
    if len(address) != ADDRESS_BYTES:
        raise ValueError("an address has 20 bytes")
    digits = address.hex()
    marks = keccak(digits.encode()).hex()
    return "0x" + "".join(d.upper() if mark >= "8" else d for d, mark in zip(digits, marks, strict=False))


def from_checksum(text: object, what: str = "the address") -> bytes:
    """Return the 20 bytes of an address with a right EIP-55 checksum; raise `Invalid` for any other spelling.

    An address without mixed case carries no checksum and is refused, unless its digits happen to have that form.
    """
    if not isinstance(text, str) or not _STRICT.fullmatch(text):
        raise malformed("bad_address", f"{what} is not 0x and 40 hex digits")
    address = bytes.fromhex(text[2:])
    if to_checksum(address) != text:
        raise malformed("bad_address", f"{what} does not have its EIP-55 checksum", "copy the address, do not type it")
    return address


def checksum(address: bytes | str) -> str:
    """Return an address (20 bytes or hex) as EIP-55 writes it; `ValueError` if it is none, or mixes cases wrongly.

    For what a person types or a library gives: hex in one case has no checksum and is taken.
    """
    if isinstance(address, bytes):
        return to_checksum(address)
    if not _ANY.fullmatch(address):
        raise ValueError("an address is 0x and 40 hex digits (names such as vitalik.eth are not looked up)")
    digits = address[2:]
    found = to_checksum(bytes.fromhex(digits))
    if digits not in (digits.lower(), digits.upper(), found[2:]):
        raise ValueError("the address has a wrong checksum: copy it again")
    return found


def address_of_public(public_key: bytes) -> bytes:
    """Return the 20-byte address of the account with a 65-byte uncompressed public key; `ValueError` if it is none."""
    return keccak(uncompressed(public_key)[1:])[12:]


def address_of_private(private_key: bytes) -> bytes:
    """Return the 20-byte address of the account with a 32-byte key; raises `ValueError` when it is none."""
    if len(private_key) != KEY_BYTES:
        # coincurve would pad a shorter key: another account than the one that was meant.
        raise ValueError("a private key has 32 bytes")
    return address_of_public(PrivateKey(private_key).public_key.format(compressed=False))


def uncompressed(public_key: bytes) -> bytes:
    """Return the key as it is if it has the form of an uncompressed public key; raises `ValueError` otherwise."""
    if len(public_key) != PUBLIC_KEY_BYTES or public_key[0] != 4:
        raise ValueError("an uncompressed public key has 65 bytes and starts with 04")
    return bytes(public_key)
