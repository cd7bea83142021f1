"""Names of keys: the token id, a number on the chain, and `0x` with 64 lower-case hex digits wherever it is text."""

from __future__ import annotations

import re

from eth_hash.auto import keccak

from keyquorum.evm.address import address_of_public, to_checksum, uncompressed

_KEY = re.compile("0x[0-9a-f]{64}")


def token_id(public_key: bytes) -> int:
    """Return the token id of an uncompressed public key (65 bytes)."""
    return int.from_bytes(keccak(uncompressed(public_key)), "big")


def eth_address(public_key: bytes) -> str:
    """Return the checksummed Ethereum address of an uncompressed public key (65 bytes)."""
    return to_checksum(address_of_public(public_key))


def is_key_id(value: object) -> bool:
    """Say whether `value` is a token id as text."""
    return isinstance(value, str) and _KEY.fullmatch(value) is not None
