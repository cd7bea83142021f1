"""Commit, then reveal: how a login with a bearer token is bound to one session key.

A bearer token (an OAuth 2 access token that says nothing but "I am valid") proves whoever holds it. Shown to n nodes,
it could be used first by a dishonest one, with a session key of its own. So before any node sees it, the client sends
all of them two hashes: `token_digest`, which names the token, and `binding`, of the token, the session key and the
challenge. A node signs a receipt for the first binding of each token and never for a second. The token is
accepted only together with w receipts of different nodes for exactly this session key and challenge.

Why w = floor((n + t - 1) / 2) + 1. The user's w receipts include at least w - c of honest nodes when c nodes are
dishonest. For another binding the dishonest have their own c and the other n - c - (w - c) honest nodes: n + c - w in
all. With c = t - 1 that is less than w exactly when 2w > n + t - 1. One receipt less and t - 1 nodes could log in as
the user. The price is liveness: 4 of 4 nodes must answer (t = 3), 9 of 10 (t = 7).

The client must check the receipts before it shows the token: a gateway that invents them would be shown a token
that nobody has committed to. Nodes must remember bindings longer than tokens live. Spec: spec/auth.md, "Discord".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coincurve import PrivateKey

from keyquorum.algebra import ecdsa
from keyquorum.algebra.transcript import Tag, tagged_hash
from keyquorum.auth.method import Committee, method
from keyquorum.auth.statement import CLOCK_SKEW, TIME, Statement
from keyquorum.evm.address import address_of_public
from keyquorum.formats.strict_json import integer, list_of, text
from keyquorum.formats.text import Rules, from_hex, read, to_hex
from keyquorum.refusal import UNAVAILABLE, Invalid, malformed

MAX_AGE = 10 * 60
MEMORY_SECONDS = 30 * 24 * 3600
SIGNATURE_BYTES = 65
MAX_RECEIPTS = 100
_MAX_PARTY = 2**16 - 1
_RECEIPT: Rules = {"party": integer(1, _MAX_PARTY), "issued_at": TIME, "signature": text(2 + 2 * SIGNATURE_BYTES)}
_COMMITMENT: Rules = {"method": str, "statement": dict, "token_digest": text(66), "binding": text(66)}
RECEIPTS = list_of(dict, MAX_RECEIPTS, 1)


def receipts_needed(nodes: int, threshold: int) -> int:
    """Return w, the receipts without which a token is not accepted, for `nodes` nodes of which `threshold` sign."""
    if not 1 <= threshold <= nodes:
        raise ValueError("the threshold is from 1 to the number of nodes")
    return (nodes + threshold - 1) // 2 + 1


@dataclass(frozen=True, slots=True)
class Commitment:
    """What a node signs a receipt for: `token_digest` and `binding`, 32 bytes each. Neither leads back to the token."""

    method: str
    statement: Statement
    token_digest: bytes
    binding: bytes

    @classmethod
    def to_token(cls, method: str, token: str, statement: Statement) -> Commitment:
        """Return the commitment to `token`, to be used with `method` for this statement."""
        session = statement.session
        binding = tagged_hash(Tag.BEARER_BINDING, method, token, session.x, session.y, statement.challenge)
        return cls(method, statement, tagged_hash(Tag.BEARER_DIGEST, method, _spelling(token)), binding)

    @classmethod
    def from_json(cls, value: object) -> Commitment:
        """Parse the body of `POST /v1/commitments`; raise `Invalid` for anything else.

        The statement is only of the right form: whether it may be used here and now is for the caller to check.
        """
        fields = read(value, _COMMITMENT, "the commitment")
        if not getattr(method(fields["method"]), "bearer", False):
            raise malformed("no_commitment", "this method needs no commitment", "log in directly")
        return cls(
            fields["method"],
            Statement.from_json(fields["statement"]),
            from_hex(fields["token_digest"], 32, "the token digest"),
            from_hex(fields["binding"], 32, "the binding"),
        )

    def to_json(self) -> dict[str, object]:
        """Return the object that `from_json` reads."""
        return {
            "method": self.method,
            "statement": self.statement.to_json(),
            "token_digest": to_hex(self.token_digest),
            "binding": to_hex(self.binding),
        }

    def receipt_digest(self, epoch: int, party: int, issued_at: int) -> bytes:
        """Return the 32 bytes that party `party` signs at `issued_at` (Unix seconds) as its receipt."""
        return tagged_hash(
            Tag.BEARER_RECEIPT,
            self.statement.network,
            epoch,
            party,
            self.token_digest,
            self.binding,
            issued_at,
        )


@dataclass(frozen=True, slots=True)
class Receipt:
    """A node's word that this is the first binding it saw of a token: 65 bytes r || s || v by its chain account."""

    party: int
    issued_at: int
    signature: bytes

    @classmethod
    def sign(cls, commitment: Commitment, epoch: int, party: int, issued_at: int, secret: bytes) -> Receipt:
        """Sign with the 32-byte secret of the node's chain account.

        The caller has made sure, durably, that it signs no other binding for this token digest.
        """
        digest = commitment.receipt_digest(epoch, party, issued_at)
        compact = PrivateKey(secret).sign_recoverable(digest, hasher=None)
        return cls(party, issued_at, ecdsa.to_ethereum(*ecdsa.from_compact(compact[:64]), compact[64]))

    @classmethod
    def from_json(cls, value: object) -> Receipt:
        """Parse `{"party", "issued_at", "signature"}`; raise `Invalid` for anything else."""
        fields = read(value, _RECEIPT, "the receipt")
        return cls(
            fields["party"],
            fields["issued_at"],
            from_hex(fields["signature"], SIGNATURE_BYTES, "the receipt's signature"),
        )

    def to_json(self) -> dict[str, object]:
        """Return the object that `from_json` reads."""
        return {"party": self.party, "issued_at": self.issued_at, "signature": to_hex(self.signature)}

    def check(self, commitment: Commitment, committee: Committee, now: int) -> None:
        """Raise `Invalid` unless a node of the committee signed this a moment ago for exactly this commitment."""
        # D.2
        if self.party not in committee.accounts:
            raise _bad(f"party {self.party} is not in the committee")
        try:
            digest = commitment.receipt_digest(committee.epoch, self.party, self.issued_at)
            signer = address_of_public(ecdsa.recover(digest, *ecdsa.from_ethereum(self.signature)).to_bytes())
        except ValueError as error:
            raise _bad(f"the signature of party {self.party} is none") from error
        if signer != committee.accounts[self.party]:
            raise _bad(f"party {self.party} did not sign it for this token, session key and challenge")
        # D.3
        if self.issued_at > now + CLOCK_SKEW:
            raise Invalid(
                "clock_skew",
                f"the receipt of party {self.party} is {self.issued_at - now} s ahead of this node's clock",
                f"{CLOCK_SKEW} s of difference are tolerated: the clock of one of the two nodes is wrong",
            )
        if self.issued_at < now - MAX_AGE - CLOCK_SKEW:
            raise Invalid(
                "login_too_old",
                f"the receipt of party {self.party} is {now - self.issued_at} s old",
                f"log in again, and send the token within {MAX_AGE // 60} minutes",
            )


def _spelling(token: str) -> str:
    """Return what all spellings have in common that a careless provider might take for one and the same token.

    A token under two names could be committed to twice. Decoders of base64 ignore the unused bits of the last
    character of a part, databases may compare without case; what is left of a random token is random enough.
    """
    return ".".join(part[:-1] for part in token.lower().split("."))


def check_receipts(receipts: Sequence[Receipt], commitment: Commitment, committee: Committee, now: int) -> int:
    """Return the latest time of the receipts, in Unix seconds; raise `Invalid` unless they are w good ones.

    One bad receipt refuses all: an honest client has checked them, and a node has no reason to search.
    """
    # D.1
    if not committee.accounts:
        raise Invalid("not_ready", "the node does not know its committee yet", "try again in a moment", UNAVAILABLE)
    needed = receipts_needed(len(committee.accounts), committee.threshold)
    parties = {receipt.party for receipt in receipts}
    if len(parties) != len(receipts):
        raise _bad("one party appears twice")
    if len(receipts) < needed:
        raise Invalid(
            "too_few_receipts",
            f"the token comes with {len(receipts)} receipts, {needed} are needed",
            f"commit to the token at all nodes before you show it: {needed} of {len(committee.accounts)} must answer",
        )
    for receipt in receipts:
        receipt.check(commitment, committee, now)
    return max(receipt.issued_at for receipt in receipts)


def parse_receipts(values: Sequence[Mapping[str, object]]) -> list[Receipt]:
    """Return the receipts of a proof's list; raise `Invalid` when one has another form."""
    return [Receipt.from_json(value) for value in values]


def _bad(why: str) -> Invalid:
    return Invalid(
        "bad_receipt", f"a receipt does not hold: {why}", "commit with a fresh token, and send only checked receipts"
    )
