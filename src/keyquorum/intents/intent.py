"""What every kind of intent becomes: an `Intent`, or a `BadIntent` that says why not.

An intent is what a person agrees to: the transaction or message itself, never a bare hash of it. Each node reads
it for itself and so knows three things that no client and no gateway can talk it into: the digest to sign, the
scope it takes, and one line that says what it does. The line goes back with the signature share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from keyquorum.algebra.field import from_bytes_nonzero
from keyquorum.refusal import MALFORMED, Invalid

# The scope numbers of the permission contract that intents take (spec/intents.md, "Scopes").
PERSONAL_MESSAGE = 2
TRANSACTION = 3
TYPED_DATA = 4
RAW_DIGEST = 5

MAX_CHAIN_ID = 2**63 - 37  # EIP-2294: so that the v of EIP-155 stays below 2^64

Reader = Callable[[Mapping[str, Any], int | None], "Intent"]


@dataclass(frozen=True)
class Intent:
    """A strictly decoded intent.

    `digest` are the 32 bytes ECDSA signs. `summary` is one line of at most 200 printable ASCII characters, a
    function of the signed content alone. `scope` is the number a grant needs to hold (1, SignAnything, covers
    2 to 4). `details` holds the decoded content for rules and logs: only numbers, strings, booleans, None, lists and
    dicts; amounts are integers in the smallest unit.
    """

    kind: str
    digest: bytes
    summary: str
    scope: int
    details: Mapping[str, Any] = field(repr=False)

    def __post_init__(self) -> None:
        # ECDSA reduces the digest modulo q: two digests would share a signature, and 0 has forgeries for free.
        try:
            from_bytes_nonzero(self.digest)
        except ValueError:
            raise BadIntent("bad_digest", "the digest must be from 1 to the group order - 1") from None


class BadIntent(Invalid):
    """An intent that no node signs (400)."""

    def __init__(self, code: str, message: str, hint: str = "see spec/intents.md for the accepted forms") -> None:
        super().__init__(code, message, hint, MALFORMED)


def check_chain(found: int, policy: int | None, what: str) -> None:
    """Raise `BadIntent` unless chain id `found` is one, and `policy` (None: any chain) allows it."""
    if not 1 <= found <= MAX_CHAIN_ID:
        raise BadIntent("bad_chain", f"the chain id of {what} must be from 1 to {MAX_CHAIN_ID}", "name the chain")
    if policy is not None and found != policy:
        raise BadIntent(
            "wrong_chain", f"{what} is for chain {found}, this network signs for chain {policy}", "use that chain's id"
        )
