"""What both logins with an Ethereum account share: when the proof was made, and whether the account signed it.

The time is the one that the proof states under the wallet's signature, so every node reads the same one. A contract
wallet's session is short, since nobody is told when the wallet's owners change. Spec: spec/auth.md 3.4 and 3.6.
"""

from __future__ import annotations

from keyquorum.auth import wallet_signature
from keyquorum.auth.method import ADDRESS_TYPE, Context, Proven
from keyquorum.auth.statement import CLOCK_SKEW, MAX_SESSION, Statement
from keyquorum.refusal import Invalid

MAX_AGE = 20 * 60
MAX_CONTRACT_SESSION = 3600


def check_times(issued_at: int, not_before: int, statement: Statement, now: int) -> None:
    """Raise `Invalid` unless a proof made at `issued_at`, good from `not_before` (Unix seconds), may be used now."""
    if max(issued_at, not_before) > now + CLOCK_SKEW:
        raise Invalid(
            "clock_skew",
            f"the message is from the future: {max(issued_at, not_before) - now} s ahead of this node's clock",
            f"set your clock; {CLOCK_SKEW} s of difference are tolerated",
        )
    if issued_at < now - MAX_AGE - CLOCK_SKEW:
        raise Invalid(
            "login_too_old",
            f"the message was made {now - issued_at} s before this node's time",
            f"log in again, and send the signature within {MAX_AGE // 60} minutes; check your clock",
        )
    if not 0 < statement.expires - issued_at <= MAX_SESSION:
        raise Invalid("session_too_long", "from issued-at to expiry it is more than 24 hours", "ask for less")


async def prove_account(
    address: bytes, digest: bytes, signature: bytes, issued_at: int, statement: Statement, context: Context
) -> Proven:
    """Return the identity of `address` (20 bytes), which signed `digest` (32 bytes); raise `Invalid` otherwise."""
    by_contract = await wallet_signature.check(address, digest, signature, context)
    if by_contract and statement.expires - issued_at > MAX_CONTRACT_SESSION:
        raise Invalid(
            "session_too_long",
            "a contract wallet's session lasts at most one hour",
            "log in again with an expiry within one hour of the issued-at time",
        )
    return Proven(ADDRESS_TYPE, address)
