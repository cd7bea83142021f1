"""Strict text forms of bytes: one text for each value, and no second spelling that decodes to the same.

Python's own decoders skip foreign characters, accept missing or superfluous padding and ignore the unused bits of
the last character. Two spellings of one token would let a stranger make a "different" token of an old one, so each
decoder here accepts exactly what its encoder writes. `read` turns the complaints of the strict JSON reader into ours.
"""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

from keyquorum.formats.strict_json import BadJson, Parser, fields
from keyquorum.refusal import Invalid, malformed

Rules = Mapping[str, type | Parser]

_HEX = re.compile("0x(?:[0-9a-f]{2})*")
_HEX_ANY_CASE = re.compile("0x(?:[0-9a-fA-F]{2})*")


def to_base64url(data: bytes) -> str:
    """Return the base64url text of `data`, without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str, what: str) -> bytes:
    """Return the bytes of unpadded base64url; raise `Invalid` when `text` is not the one spelling of them."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise _not_base64url(what) from error
    if to_base64url(data) != text:
        raise _not_base64url(what)
    return data


def _not_base64url(what: str) -> Invalid:
    return malformed("bad_encoding", f"{what} is not base64url without padding", "encode with RFC 4648 section 5")


def to_hex(data: bytes) -> str:
    """Return `0x` and the lower-case hex digits of `data`."""
    return "0x" + data.hex()


def from_hex(value: object, length: int, what: str) -> bytes:
    """Return exactly `length` bytes of `0x` and lower-case hex; raise `Invalid` otherwise."""
    if not isinstance(value, str) or len(value) != 2 + 2 * length or not _HEX.fullmatch(value):
        raise malformed("bad_hex", f"{what} is not 0x and {2 * length} lower-case hex digits")
    return bytes.fromhex(value[2:])


def from_hex_up_to(value: object, limit: int, what: str) -> bytes:
    """Return at most `limit` bytes of `0x` and hex digits of either case; raise `Invalid` otherwise."""
    if not isinstance(value, str) or len(value) > 2 + 2 * limit or not _HEX_ANY_CASE.fullmatch(value):
        raise malformed("bad_hex", f"{what} is not 0x and whole bytes in hex, at most {limit} bytes")
    return bytes.fromhex(value[2:])


def read(value: object, rules: Rules, where: str, may_have: Rules | None = None) -> dict[str, Any]:
    """Return the members of the JSON object `value`, exactly those in `rules`, each parsed by its rule.

    Members of `may_have` may be missing, and are then None. Raises `Invalid` (400) with the code that
    `strict_json.fields` gives.
    """
    try:
        return fields(value, rules, may_have or {}, where=where)
    except BadJson as error:
        raise malformed(error.code, str(error)) from error
