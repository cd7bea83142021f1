"""Personal messages (EIP-191, version 0x45): "\\x19Ethereum Signed Message:\\n", the length in decimal, the bytes.

The prefix starts with 0x19, so nothing signed here can be a transaction (which starts with a list or a type byte) or
typed data (0x19 0x01). Text and bytes are two ways to write the same message and give the same summary, which
depends on the bytes alone.

A message can be a login: signing it hands somebody the rights of this key. It is not refused, since logging in
somewhere is what wallets do, but it says so first, and `details["login"]` lets rules refuse it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from eth_hash.auto import keccak

from keyquorum.formats.strict_json import hex_bytes
from keyquorum.intents.intent import PERSONAL_MESSAGE, BadIntent, Intent
from keyquorum.intents.read_fields import read_fields
from keyquorum.intents.show import fingerprint, one_line, quoted

KIND = "evm-message"
MAX_BYTES = 64 * 1024
PREFIX = b"\x19Ethereum Signed Message:\n"
_SIGN_IN = re.compile(r"(.{1,300}?) wants you to sign in with your Ethereum account:\n(0x[0-9a-fA-F]{40})\n")
_LIKE_SIGN_IN = re.compile(r"sign\s+in\s+with\s+(your\s+)?ethereum", re.IGNORECASE)
_SESSION = re.compile(r"keyquorum:session:([A-Za-z0-9_-]*)")


def read(intent: Mapping[str, Any], _: int | None) -> Intent:
    """Return the intent of `{"kind", "message": text}` or `{"kind", "bytes": "0x.."}`; a chain has no part in it."""
    found = read_fields(intent, {"kind": str}, {"message": str, "bytes": hex_bytes(max_size=MAX_BYTES)})
    if (found["message"] is None) == (found["bytes"] is None):
        raise BadIntent("bad_message", 'a message has either "message" (text) or "bytes" (hex)', "give one of them")
    content = _encoded(found["message"]) if found["bytes"] is None else found["bytes"]
    digest = message_digest(content)
    shown, login = _text_of(content), None
    if shown is None:
        parts = [f"signs {fingerprint(content)}, that are no text", f"beginning 0x{content[:16].hex()}"]
    else:
        login, parts = _login(shown)
        parts.append(f"signs the message {quoted(shown, 40 if login else 100)}")
    details = {"bytes": "0x" + content.hex(), "text": shown, "login": login, "warnings": ["login"] if login else []}
    return Intent(KIND, digest, one_line(parts, digest), PERSONAL_MESSAGE, details)


def message_digest(content: bytes) -> bytes:
    """Return the digest of EIP-191, version 0x45."""
    return keccak(PREFIX + str(len(content)).encode() + content)


def _encoded(text: str) -> bytes:
    try:
        content = text.encode()
    except UnicodeEncodeError:
        raise BadIntent("bad_message", "the text holds half a surrogate pair", "send whole characters") from None
    if len(content) > MAX_BYTES:
        raise BadIntent("bad_message", f"a message has at most {MAX_BYTES} bytes", "sign a hash of it, as text")
    return content


def _text_of(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _login(text: str) -> tuple[str | None, list[str]]:
    """Return which login the text is, or is made to look like, and the parts that say so."""
    session = _SESSION.search(text)
    if session:
        return "keyquorum", [f"OPENS A KEYQUORUM SESSION for key {quoted(session[1], 44)}"]
    sign_in = _SIGN_IN.match(text)
    if sign_in:
        return "siwe", [f"SIGNS IN to {quoted(sign_in[1])} as {sign_in[2]}"]
    if _LIKE_SIGN_IN.search(text):
        return "siwe", ["LOOKS LIKE A LOGIN"]
    return None, []
