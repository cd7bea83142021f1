"""Scopes: what a certificate or a grant on the chain allows, by number, as in the permission contract's bitmap.

Bit i of a bitmap is scope i; bit 0 is unused. `SIGN_ANYTHING` covers every kind of message whose meaning a node can
decode and show; a raw digest has no meaning to show, so nothing implies it, not even ownership. No scope at all
identifies a person and lets him sign nothing. In a grant on the chain, bit 32 + i is scope i on one condition: the
session has proven a second method that may do the same on this key.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class Scope(IntEnum):
    """The scopes that exist; the value is the bit in the contract's bitmap."""

    SIGN_ANYTHING = 1
    SIGN_PERSONAL_MESSAGE = 2
    SIGN_TRANSACTION = 3
    SIGN_TYPED_DATA = 4
    SIGN_RAW_DIGEST = 5
    MANAGE_PERMISSIONS = 6
    DECRYPT = 7
    EXPORT = 8


# Scope s of a grant counts alone; 32 + s counts when a second method of the session may do the same on the key.
TOGETHER = 32

# How a wallet's screen words each scope. Only characters that an EIP-4361 statement may contain.
WORDS = {
    Scope.SIGN_ANYTHING: "sign any message, transaction or typed data",
    Scope.SIGN_PERSONAL_MESSAGE: "sign personal messages",
    Scope.SIGN_TRANSACTION: "sign transactions",
    Scope.SIGN_TYPED_DATA: "sign typed data",
    Scope.SIGN_RAW_DIGEST: "sign RAW DIGESTS, whose meaning nobody can show",
    Scope.MANAGE_PERMISSIONS: "CHANGE WHO MAY USE the keys",
    Scope.DECRYPT: "decrypt what was encrypted to the keys",
    Scope.EXPORT: "TAKE THE KEYS OUT of the network",
}
_IMPLIED_BY_ANYTHING = frozenset({Scope.SIGN_PERSONAL_MESSAGE, Scope.SIGN_TRANSACTION, Scope.SIGN_TYPED_DATA})
OWNER_SCOPES = frozenset(Scope) - {Scope.SIGN_RAW_DIGEST}


def covers(granted: Iterable[int], needed: Scope) -> bool:
    """Say whether the `granted` scope numbers allow `needed`: itself, or `SIGN_ANYTHING` for what that implies."""
    numbers = frozenset(granted)
    return needed in numbers or (Scope.SIGN_ANYTHING in numbers and needed in _IMPLIED_BY_ANYTHING)


def check_grant(numbers: Iterable[int]) -> tuple[int, ...]:
    """Return the bits of a grant, ascending, each once; raise `ValueError` unless each is a scope or 32 + a scope."""
    found = sorted(set(numbers))
    meant = {bit for scope in Scope for bit in (scope, TOGETHER + scope)}
    if unknown := [number for number in found if isinstance(number, bool) or number not in meant]:
        raise ValueError(
            f"there is no scope {unknown[0]}: a grant has scopes from 1 to {max(Scope)}, or {TOGETHER} + a scope"
            " for what counts only together with a second method"
        )
    return tuple(found)


def from_bitmap(bitmap: int) -> frozenset[Scope]:
    """Return the scopes that a contract's bitmap gives alone; bits without a meaning here allow nothing."""
    return frozenset(scope for scope in Scope if bitmap >> scope & 1)


def from_bitmap_together(bitmap: int) -> frozenset[Scope]:
    """Return the scopes that the bitmap gives together with a second method: alone, or by bit 32 + scope."""
    return from_bitmap(bitmap) | from_bitmap(bitmap >> TOGETHER)
