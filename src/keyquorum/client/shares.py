"""Signature shares as they come over HTTP, and their combination.

A share is (w_i, u_i) together with R, which every signer must report alike. The sum of the w_i divided by the sum of
the u_i is s; `protocols.sign.combine` does that and verifies. Anybody may do this: shares of one run reveal nothing
but the signature.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from keyquorum.algebra.curve import Point
from keyquorum.algebra.field import from_bytes_checked
from keyquorum.client.errors import BadAnswer
from keyquorum.protocols.sign import Signature, SignatureShare, combine
from keyquorum.rounds.errors import Abort

SCALAR_BYTES = 32
POINT_BYTES = 65


class Share(msgspec.Struct):
    """One node's share: `party`, and `w`, `u`, `R` in 0x hex."""

    party: int
    w: str
    u: str
    R: str

    def check(self, party: int) -> None:
        """Raise `BadAnswer` unless the share is of the right form and in the name of the node that sent it."""
        if self.party != party:
            raise BadAnswer("bad_answer", f"node {party} sent a share in the name of party {self.party}", party=party)
        try:
            self.scalars()
            self.point()
        except ValueError:
            raise BadAnswer("bad_answer", f"node {party} sent a share that is none", party=party) from None

    def scalars(self) -> SignatureShare:
        """Return (w, u); raise `ValueError` when they are not two reduced scalars."""
        w, u = (from_bytes_checked(_unhex(text, SCALAR_BYTES)) for text in (self.w, self.u))
        return SignatureShare(w, u)

    def point(self) -> Point:
        """Return R; raise `ValueError` when it is no point."""
        return Point.from_bytes_checked(_unhex(self.R, POINT_BYTES))


def _unhex(text: str, size: int) -> bytes:
    if len(text) != 2 + 2 * size or not text.startswith("0x") or not text.isascii():
        raise ValueError("not 0x and the right number of hex digits")
    data = bytes.fromhex(text[2:])
    if len(data) != size:
        raise ValueError("blanks between hex digits")
    return data


def combine_shares(shares: Mapping[int, Share], digest: bytes, public_key: Point) -> Signature:
    """Return the verified signature; raise `BadAnswer`, naming a party only when it stands alone with its R."""
    points = {party: share.R.lower() for party, share in shares.items()}
    if len(set(points.values())) != 1:
        raise BadAnswer("bad_answer", "the nodes do not agree on R", party=odd_one(points))
    scalars = {party: share.scalars() for party, share in shares.items()}
    try:
        return combine(scalars, next(iter(shares.values())).point(), digest, public_key)
    except Abort:
        raise BadAnswer("bad_answer", "the shares do not make a valid signature: a node gave a wrong one") from None


def odd_one(values: Mapping[int, str]) -> int | None:
    """Return the party that stands alone against at least two others that agree; None when that is nobody."""
    groups: dict[str, list[int]] = {}
    for party, value in values.items():
        groups.setdefault(value, []).append(party)
    if len(groups) != 2 or len(values) < 3:
        return None
    (small, *_) = sorted(groups.values(), key=len)
    return small[0] if len(small) == 1 else None
