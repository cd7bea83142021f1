"""Names on the chain: EIP-55 addresses, network ids, key ids.

A network is named `eip155:<chain id>:<address of its PubkeyRouter>` (the shape of CAIP-10): two networks on one chain
have different names, and so has the same deployment on a fork with another chain id. Addresses of accounts are 20
bytes inside this package; text with the EIP-55 checksum appears only where people and wallets read it. A key is named
by its token id, `0x` and 64 lower-case hex digits.
"""

from __future__ import annotations

import re
from functools import lru_cache

from eth_hash.auto import keccak

from keyquorum.auth.errors import malformed

ADDRESS_BYTES = 20
_ADDRESS = re.compile("0x[0-9a-fA-F]{40}")
_NETWORK = re.compile("eip155:([1-9][0-9]{0,18}):(0x[0-9a-fA-F]{40})")
_KEY = re.compile("0x[0-9a-f]{64}")


def to_checksum(address: bytes) -> str:
    """Return the EIP-55 text of a 20-byte address."""
    if len(address) != ADDRESS_BYTES:
        raise ValueError("an address has 20 bytes")
    digits = address.hex()
    marks = keccak(digits.encode()).hex()
    return "0x" + "".join(d.upper() if mark >= "8" else d for d, mark in zip(digits, marks, strict=False))


def from_checksum(text: object, what: str = "the address") -> bytes:
    """Return the 20 bytes of an address with a right EIP-55 checksum; raise `AuthError` for any other spelling.

    An address without mixed case carries no checksum and is refused, unless its digits happen to have that form.
    """
    if not isinstance(text, str) or not _ADDRESS.fullmatch(text):
        raise malformed("bad_address", f"{what} is not 0x and 40 hex digits")
    address = bytes.fromhex(text[2:])
    if to_checksum(address) != text:
        raise malformed("bad_address", f"{what} does not have its EIP-55 checksum", "copy the address, do not type it")
    return address


def address_of(public_key: bytes) -> bytes:
    """Return the 20-byte account address of a 65-byte uncompressed public key."""
    return keccak(public_key[1:])[12:]


def network_id(chain_id: int, router: bytes) -> str:
    """Return the id of the network whose PubkeyRouter is at `router` (20 bytes) on chain `chain_id`."""
    name = f"eip155:{chain_id}:{to_checksum(router)}"
    chain_id_of(name)
    return name


@lru_cache(maxsize=64)
def chain_id_of(network: str) -> int:
    """Return the chain id in a network id; raise `AuthError` when it is not the one spelling of a network id."""
    match = _NETWORK.fullmatch(network)
    if match is None:
        raise malformed("bad_network", "a network id is eip155:<chain id>:<PubkeyRouter address>")
    from_checksum(match[2], "the network id's contract")
    return int(match[1])


def is_key_id(value: object) -> bool:
    """Say whether `value` is a token id as text: 0x and 64 lower-case hex digits."""
    return isinstance(value, str) and _KEY.fullmatch(value) is not None
