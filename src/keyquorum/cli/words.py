"""How values are worded for people: times as ISO dates, identities by their login, keys and scopes without brackets.

For `--json` nothing here is used: programs get the values as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

ADDRESS_TYPE = 1
ADDRESS_BYTES = 20
# The types of the permission contract, by the login that proves them.
LOGINS = {3: "passkey", 4: "Discord", 6: "OpenID Connect", 20: "e-mail", 21: "SMS"}
_TIMES = ("expires", "issued_at", "active_at")


def time_of(seconds: int) -> str:
    """Return a time in Unix seconds as `2026-01-31 12:00:00 UTC`."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s"


def identity_of(type_number: int, name: str) -> str:
    """Return an identity of the chain (type, 0x id): an account as its address, others by their login and whole id."""
    from keyquorum.evm.address import checksum

    if type_number == ADDRESS_TYPE and len(name) == 2 + 2 * ADDRESS_BYTES:
        return checksum(name)
    return f"{LOGINS.get(type_number, f'type {type_number}')} {name}"


def scopes_of(scopes: Iterable[int]) -> str:
    """Return scope numbers as people give them."""
    return ", ".join(map(str, scopes)) or "none"


def keys_of(keys: Iterable[str]) -> str:
    """Return which keys a session is for."""
    found = list(keys)
    return "all that the login opens" if found == ["*"] else ", ".join(found)


def session_of(session: Mapping[str, Any]) -> dict[str, Any]:
    """Return a session (the object for programs) as people read it."""
    found = dict(session)
    found["methods"] = ", ".join(identity_of(one["type"], one["id"]) for one in session["methods"])
    found["keys"], found["scopes"] = keys_of(session["keys"]), scopes_of(session["scopes"])
    return found | {name: time_of(found[name]) for name in _TIMES if name in found}
