"""Ending sessions: t nodes agree with the network key, and the contract `Sessions` makes it known to all nodes.

The revoker signs a request (kind "revoke") that names one session, one identity or one key. Each of t nodes checks for
itself that the asking session may demand that, and signs its share over (mark, time); the sum is a signature
of the network key that anybody may deliver to the chain. From the next block on every node refuses what is dead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from keyquorum.algebra.curve import Point
from keyquorum.auth.revocation import FOREVER, Revocation
from keyquorum.client.errors import BadAnswer
from keyquorum.client.fanout import Job
from keyquorum.client.runs import Runs
from keyquorum.client.shares import Share, combine_shares, odd_one
from keyquorum.evm.digests import revocation_digest

LATER = 300


@dataclass(frozen=True)
class SignedRevocation:
    """A revocation with the network key's signature: r, s, v, 65 bytes, as the contract takes it."""

    what: bytes
    before: int
    signature: bytes

    def to_json(self) -> dict[str, Any]:
        """Return `{what, before, signature}`; `before` as text, since it may be 2^64 - 1."""
        return {"what": "0x" + self.what.hex(), "before": str(self.before), "signature": "0x" + self.signature.hex()}


class RevocationAnswer(msgspec.Struct):
    """A node's answer to `POST /v1/revocations`."""

    share: Share
    what: str
    before: int


class RevocationJob(Job[RevocationAnswer, SignedRevocation]):
    """Ask t nodes to sign a revocation; the result is verified under the network key."""

    path = "/v1/revocations"
    shape = RevocationAnswer

    def __init__(
        self,
        runs: Runs,
        what: Revocation,
        *,
        before: int,
        chain_id: int,
        sessions: str,
        network_key: Point,
    ) -> None:
        """`runs` are of a request of kind `revoke`; `sessions` is the contract's address.

        `before` is the time that follows from the request, or from the first of several that say the same.
        """
        self.runs = runs
        self._what = what
        self._before = before
        self._place = (chain_id, sessions)
        self._network_key = network_key

    def check(self, party: int, answer: RevocationAnswer) -> None:
        """Refuse a share in another's name, and a time that does not follow from the request."""
        answer.share.check(party)
        if answer.what != "0x" + self._what.mark.hex():
            raise BadAnswer("bad_answer", f"node {party} would revoke something else", party=party)
        # A request that is signed again, with further runs, expires later.
        if not self._before <= answer.before <= min(FOREVER, self._before + LATER):
            raise BadAnswer(
                "bad_answer", f"node {party} would revoke up to another time than was asked for", party=party
            )

    def finish(self, answers: Mapping[int, RevocationAnswer]) -> SignedRevocation:
        """Return the verified revocation."""
        times = {party: str(answer.before) for party, answer in answers.items()}
        if len(set(times.values())) != 1:
            raise BadAnswer("bad_answer", "the nodes do not agree on the time", party=odd_one(times))
        before = next(iter(answers.values())).before
        digest = revocation_digest(*self._place, self._what.mark, before)
        found = combine_shares({party: answer.share for party, answer in answers.items()}, digest, self._network_key)
        signature = found.r.to_bytes(32, "big") + found.s.to_bytes(32, "big") + bytes([27 + (found.v & 1)])
        return SignedRevocation(self._what.mark, before, signature)
