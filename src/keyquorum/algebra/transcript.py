"""Tagged, typed, length-prefixed hashing: the one way this project turns values into a hash.

Every use has its own `Tag`, so a hash made for one purpose means nothing for another, and every input
is preceded by its type and length, so two different lists of values never become the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import StrEnum, unique

type_bytes, type_text, type_number, type_list = b"b", b"s", b"i", b"l"
_SMALL_BYTES = 1024

Hashable = bytes | bytearray | memoryview | str | int | Sequence["Hashable"]


@unique
class Tag(StrEnum):
    """The registry of hash purposes; `unique` refuses a second use of a value."""

    SESSION_ID = "keyquorum/1/session-id"
    ECHO = "keyquorum/1/rounds/echo"
    DKG_COMMITMENT = "keyquorum/1/dkg/commitment"
    DKG_CONFIRMATION = "keyquorum/1/dkg/confirmation"
    SCHNORR_CHALLENGE = "keyquorum/1/proofs/schnorr"
    BASE_OT_POINT = "keyquorum/1/base-ot/hash-to-point"
    BASE_OT_PAD = "keyquorum/1/base-ot/pad"
    EXTENSION_SEED = "keyquorum/1/ot-extension/seed"
    EXTENSION_CHECK = "keyquorum/1/ot-extension/check-key"
    EXTENSION_PADS = "keyquorum/1/ot-extension/pad-key"
    GADGET = "keyquorum/1/multiply/gadget"
    MULTIPLY_THETA = "keyquorum/1/multiply/theta"
    MULTIPLY_MU = "keyquorum/1/multiply/mu"
    ZERO_COMMITMENT = "keyquorum/1/zero-share/commitment"
    ZERO_SEED = "keyquorum/1/zero-share/seed"
    ZERO_SHARE = "keyquorum/1/zero-share/share"
    SIGN_COMMITMENT = "keyquorum/1/sign/commitment"
    SIGN_REQUEST = "keyquorum/1/sign/request"
    LOGIN_CHALLENGE = "keyquorum/1/auth/login-challenge"
    REQUEST_PAYLOAD = "keyquorum/1/auth/request-payload"
    BEARER_DIGEST = "keyquorum/1/auth/token-digest"
    BEARER_BINDING = "keyquorum/1/auth/token-binding"
    BEARER_RECEIPT = "keyquorum/1/auth/token-receipt"
    DELEGATION = "keyquorum/1/auth/delegation"
    PASSKEY_ID = "keyquorum/1/auth/passkey-id"
    CONCEALED_ID = "keyquorum/1/auth/concealed-id"
    IDENTITY_POINT = "keyquorum/1/identity-secret/point"
    IDENTITY_PROOF = "keyquorum/1/identity-secret/proof"
    IDENTITY_KEY = "keyquorum/1/identity-secret/secret"
    CODE_ANSWER = "keyquorum/1/auth/code-answer"
    KEY_BATCH = "keyquorum/1/chain/key-batch"
    LINK = "keyquorum/1/node/link"


def _framed(kind: bytes, content: bytes) -> bytes:
    return kind + len(content).to_bytes(8, "big") + content


def _encode_number(value: int) -> bytes:
    if value < 0:
        raise ValueError("only numbers from 0 upwards are hashed")
    size = (value.bit_length() + 7) // 8
    return type_number + size.to_bytes(8, "big") + value.to_bytes(size, "big")


def encode(value: Hashable) -> bytes:
    """Return the injective encoding of `value`: type, 8-byte big-endian length, content."""
    # By exact type first: almost everything that is hashed is bytes or a number.
    kind = type(value)
    if kind is bytes:
        return type_bytes + len(value).to_bytes(8, "big") + value  # type: ignore[arg-type,operator]
    if kind is int:
        return _encode_number(value)  # type: ignore[arg-type]
    if isinstance(value, str):
        return _framed(type_text, value.encode())
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _framed(type_bytes, bytes(value))
    if isinstance(value, int):
        raise TypeError("a bool, or any other kind of integer, is not hashed: say what it means")
    return _framed(type_list, b"".join(map(encode, value)))


def tagged_hash(tag: Tag, *values: Hashable) -> bytes:
    """Return the 32-byte SHA-256 of `tag` and `values`, each typed and length-prefixed.

    Integers must not be negative.
    """
    state = _TAGGED[tag].copy()
    update = state.update
    for value in values:
        if isinstance(value, memoryview) or (isinstance(value, bytearray | bytes) and len(value) > _SMALL_BYTES):
            # Large arrays are fed as they lie: no copy of megabytes to put a prefix before them.
            size = value.nbytes if isinstance(value, memoryview) else len(value)
            update(type_bytes + size.to_bytes(8, "big"))
            update(value)
        else:
            update(encode(value))
    return state.digest()


# The hash of the tag alone, made once: every use starts from a copy of it.
_TAGGED = {tag: hashlib.sha256(encode(tag.value)) for tag in Tag}


def expand(tag: Tag, length: int, *values: Hashable) -> bytes:
    """Return `length` bytes of SHAKE-256 keyed by the tagged hash of `values`."""
    return hashlib.shake_256(tagged_hash(tag, *values)).digest(length)
