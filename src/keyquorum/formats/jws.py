"""Compact JWS (RFC 7515), the strict subset that this project uses.

`BASE64URL(header) . BASE64URL(payload) . BASE64URL(signature)`. What a token's header says never chooses how it is
verified: the caller says which algorithm and which type it expects, and the header must be exactly those two members.
So there is no `none`, no algorithm confusion, no `kid`, `jku`, `jwk`, `x5u` or `crit` to be led astray by. Each part
has one spelling only, JSON is strict (no duplicate names, no NaN, bounded depth), and sizes are checked before
anything is decoded. This file verifies nothing: it gives the bytes that the signature is over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from keyquorum.formats.strict_json import BadJson, loads
from keyquorum.formats.text import from_base64url, read, to_base64url
from keyquorum.refusal import malformed

SIGNATURE_BYTES = 64
_HEADER_BYTES = 256
_HEADER = {"alg": str, "typ": str}
_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Jws:
    """A parsed token: `claims` is the payload's JSON object, `payload` its bytes, `signature` 64 unverified bytes."""

    claims: dict[str, object]
    payload: bytes
    signing_input: bytes
    signature: bytes


def make_input(algorithm: str, kind: str, claims: Mapping[str, object]) -> bytes:
    """Return header.payload as ASCII: sorted members, no spaces, so the same claims give the same bytes everywhere."""
    header = canonical({"alg": algorithm, "typ": kind})
    return f"{to_base64url(header)}.{to_base64url(canonical(claims))}".encode()


def canonical(value: Mapping[str, object]) -> bytes:
    """Return the one JSON text of `value` that this project writes: sorted members, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def assemble(signing_input: bytes, signature: bytes) -> str:
    """Return the token of `make_input`'s bytes and a 64-byte signature."""
    if len(signature) != SIGNATURE_BYTES:
        raise ValueError("a signature has 64 bytes")
    return f"{signing_input.decode()}.{to_base64url(signature)}"


def parse(token: object, *, algorithm: str, kind: str, max_bytes: int) -> Jws:
    """Parse a token whose header is exactly `{"alg": algorithm, "typ": kind}`; raise `Invalid` for all else.

    `max_bytes` bounds the whole token. The signature is not verified here.
    """
    if not isinstance(token, str) or len(token) > max_bytes:
        raise malformed("bad_token", f"the token is not a string of at most {max_bytes} characters")
    parts = token.split(".", 3)
    if len(parts) != 3:
        raise malformed("bad_token", "a token has exactly three parts, separated by dots")
    header = read(_loads(from_base64url(parts[0], "the header"), _HEADER_BYTES), _HEADER, "the header")
    if header["alg"] != algorithm or header["typ"] != kind:
        raise malformed("bad_token", f"the token's header must say alg {algorithm} and typ {kind}, and nothing else")
    payload = from_base64url(parts[1], "the payload")
    signature = from_base64url(parts[2], "the signature")
    if len(signature) != SIGNATURE_BYTES:
        raise malformed("bad_token", "the token's signature has not exactly 64 bytes")
    claims = _loads(payload, max_bytes)
    if not isinstance(claims, dict):
        raise malformed("wrong_type", "the token's payload is not a JSON object")
    return Jws(claims, payload, f"{parts[0]}.{parts[1]}".encode(), signature)


def _loads(data: bytes, max_bytes: int) -> object:
    try:
        return loads(data, max_bytes, max_depth=_MAX_DEPTH)
    except BadJson as error:
        raise malformed(error.code, str(error)) from error
