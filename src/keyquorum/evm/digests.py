"""What the network key signs for our contracts, and the marks under which they keep what is revoked.

Each function computes what the contract of that name does: `PubkeyRouter.batchDigest`, `Sessions.revocationDigest`,
`Sessions.sessionMark` and its two siblings. spec/contracts.md
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from eth_abi.abi import encode
from eth_hash.auto import keccak

from keyquorum.evm.address import uncompressed

REVOCATION_TYPE = keccak(b"keyquorum.revocation.v1")
KEY_BATCH_TYPE = keccak(b"keyquorum.key-batch.v1")
MARKS_CACHED = 4096


def key_batch_digest(chain_id: int, router: str, epoch: int, batch: int, public_keys: Sequence[bytes]) -> bytes:
    """Return what the network key signs to admit `public_keys` (65 bytes each) as number `batch`."""
    keys = keccak(b"".join(map(uncompressed, public_keys)))
    types = ("bytes32", "uint256", "address", "uint256", "uint64", "bytes32")
    return keccak(encode(types, (KEY_BATCH_TYPE, chain_id, router, epoch, batch, keys)))


def revocation_digest(chain_id: int, contract: str, what: bytes, before: int) -> bytes:
    """Return what the network key signs to revoke `what` (a mark, 32 bytes) issued until `before` (Unix seconds).

    `contract` is the address of `Sessions`.
    """
    types = ("bytes32", "uint256", "address", "bytes32", "uint64")
    return keccak(encode(types, (REVOCATION_TYPE, chain_id, contract, _word(what), before)))


@lru_cache(MARKS_CACHED)
def session_mark(name: bytes) -> bytes:
    """Return the mark of one certificate or delegation, whose id has 32 bytes."""
    return keccak(encode(("string", "bytes32"), ("session", _word(name))))


@lru_cache(MARKS_CACHED)
def identity_mark(type_number: int, identity: bytes) -> bytes:
    """Return the mark of whoever has proven this identity, as the permission contract names it."""
    return keccak(encode(("string", "uint256", "bytes"), ("identity", type_number, identity)))


def key_mark(token: int) -> bytes:
    """Return the mark of a key by its token id."""
    return keccak(encode(("string", "uint256"), ("key", token)))


def _word(value: bytes) -> bytes:
    if len(value) != 32:
        raise ValueError("32 bytes are needed")
    return bytes(value)
