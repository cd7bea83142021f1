"""How content is worded in a summary: exact amounts, checksummed addresses, and strings that cannot lie.

A summary is made of parts, most important first, joined by "; ". It is printable ASCII and at most 200 characters.
A part is shown whole or not at all: a number cut short would be a smaller number. Whatever is left out is
replaced by the beginning of the digest, so that two intents do not look alike because their ends were cut.
Strings of strangers stand in quotes with every control, non-ASCII and bidirectional character escaped, so they
can neither leave their quotes nor turn the line around.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from eth_hash.auto import keccak

from keyquorum.evm.address import to_checksum

MAX_SUMMARY = 200
MAX_QUOTED = 60
UNLIMITED_FROM = 2**128

# The native coin of chains people know by name; of any other chain only the unit is certain.
_COINS = dict.fromkeys((1, 10, 324, 8453, 42161, 59144, 534352, 17000, 560048, 11155111, 84532, 421614, 31337), "ETH")
_COINS |= {56: "BNB", 100: "xDAI", 137: "POL", 43114: "AVAX"}
_UNKNOWN_COIN = "native coins"


def short(raw: bytes) -> str:
    """Return the ends of an address: for one whose exact value nobody could use to cheat."""
    whole = to_checksum(raw)
    return f"{whole[:8]}...{whole[-6:]}"


def coins(wei: int, chain_id: int) -> str:
    """Return `wei` in coins of 10^18, with every digit and no others, and the coin's name."""
    whole, rest = divmod(wei, 10**18)
    digits = f"{whole}.{rest:018d}".rstrip("0").rstrip(".")
    return f"{digits} {_COINS.get(chain_id, _UNKNOWN_COIN)}"


def units(amount: int) -> str:
    """Return a token amount in its smallest units; 2^128 and above is what approvals use for no limit."""
    return f"{amount} units" if amount < UNLIMITED_FROM else "UNLIMITED units"


def item(number: int) -> str:
    """Return a number whole while it is an amount; of what must be a hash, the ends, 80 bits together."""
    if number < UNLIMITED_FROM:
        return str(number)
    digits = f"{number:064x}"
    return f"0x{digits[:12]}...{digits[-8:]}"


def fingerprint(data: bytes) -> str:
    """Return the length of `data` and the first 4 bytes of its Keccak-256 hash, to compare by eye."""
    return f"{len(data)} bytes, keccak 0x{keccak(data)[:4].hex()}"


def quoted(text: str, limit: int = MAX_QUOTED) -> str:
    """Return `text` in quotes and JSON escapes, in at most `limit` characters plus length and hash if it is cut."""
    whole = _escaped(text[: limit + 1])
    if len(text) <= limit and len(whole) <= limit:
        return f'"{whole}"'
    shown = ""
    for character in text:
        escaped = _escaped(character)
        if len(shown) + len(escaped) > limit:
            break
        shown += escaped
    return f'"{shown}"... ({fingerprint(text.encode())})'


def _escaped(text: str) -> str:
    return json.dumps(text)[1:-1].replace("\x7f", "\\u007f")


def one_line(parts: Iterable[str], digest: bytes) -> str:
    """Return the parts in their order, joined; when they are too long, those that fit and part of the digest."""
    more = f"; and more (0x{digest[:4].hex()})"
    line = kept = ""
    for part in parts:
        line = f"{line}; {part}" if line else part
        if len(line) > MAX_SUMMARY:
            return kept + more
        if len(line) <= MAX_SUMMARY - len(more):
            kept = line
    return line
