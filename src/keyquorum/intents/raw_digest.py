"""A bare digest: 32 bytes that a node signs without knowing what they mean.

Whoever may have this signed may have anything signed, a transfer of everything included, so it takes a scope of
its own that no other scope and no ownership implies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keyquorum.formats.strict_json import Rules, hex_bytes
from keyquorum.intents.intent import RAW_DIGEST, Intent
from keyquorum.intents.read_fields import read_fields

KIND = "raw-digest"
_FIELDS: Rules = {"kind": str, "digest": hex_bytes(32)}


def read(intent: Mapping[str, Any], _: int | None) -> Intent:
    """Return the intent of `{"kind", "digest": "0x<32 bytes>"}`."""
    digest: bytes = read_fields(intent, _FIELDS)["digest"]
    summary = f"SIGNS A RAW DIGEST 0x{digest.hex()}, whose meaning no node can see"
    return Intent(KIND, digest, summary, RAW_DIGEST, {"warnings": ["raw_digest"]})
