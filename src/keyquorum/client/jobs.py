"""The signing job: what t nodes are asked to sign, and what their answers must be.

The client reads the intent itself and computes summary and digest. A node whose summary or digest differs would sign,
or show, something else than the user meant: its answer is refused before it is combined with anything.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from keyquorum.algebra.curve import Point
from keyquorum.client.errors import BadAnswer
from keyquorum.client.fanout import Job
from keyquorum.client.results import Signed
from keyquorum.client.runs import Runs
from keyquorum.client.shares import Share, combine_shares


class SignAnswer(msgspec.Struct):
    """A node's answer to `POST /v1/sign`."""

    share: Share
    summary: str
    digest: str


class SignJob(Job[SignAnswer, Signed]):
    """Ask t nodes to sign what a request says; the result is verified under `public_key`."""

    path = "/v1/sign"
    shape = SignAnswer

    def __init__(self, runs: Runs, *, digest: bytes, summary: str, public_key: Point) -> None:
        """`runs` are of a request of kind `sign`."""
        self.runs = runs
        self._digest = digest
        self._digest_hex = "0x" + digest.hex()
        self._summary = summary
        self._public_key = public_key

    def check(self, party: int, answer: SignAnswer) -> None:
        """Refuse another digest or summary than our own, and a share in another's name."""
        answer.share.check(party)
        if answer.digest != self._digest_hex:
            raise BadAnswer("bad_answer", f"node {party} signs another digest than the intent's", party=party)
        if answer.summary != self._summary:
            raise BadAnswer("bad_answer", f"node {party} summarises the intent differently", party=party)

    def finish(self, answers: Mapping[int, SignAnswer]) -> Signed:
        """Return the verified signature."""
        shares = {party: answer.share for party, answer in answers.items()}
        found = combine_shares(shares, self._digest, self._public_key)
        return Signed(
            r=found.r,
            s=found.s,
            v=found.v,
            digest=self._digest,
            summary=self._summary,
            public_key=self._public_key.to_bytes(),
            signers=tuple(sorted(answers)),
        )
