"""What key generation leaves behind at one party: its share of each key, and the public part that all hold alike.

`KeyShare.key_share` is the project's only durable secret. `to_bytes` is for storage under encryption; it is strict
in the other direction, and the secret is checked against its public share, so a record that was damaged or belongs
to another party is refused instead of being used. Layout, numbers big-endian: version (1 byte), t, party_id, n, the n
PartyIds (2 bytes each), key_share (32), public_key (65), n public shares (65 each).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from keyquorum.algebra.curve import POINT_BYTES, Point, generator_times
from keyquorum.algebra.field import SCALAR_BYTES, from_bytes_nonzero, to_bytes
from keyquorum.algebra.transcript import Tag, tagged_hash
from keyquorum.rounds.party import check_party_ids

_VERSION = b"\x01"
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class KeyShare:
    """Party `party_id`'s share of one key: x_i, the public key X, and X_j = x_j G of every party; any `t` sign."""

    key_share: int = field(repr=False)
    public_key: Point
    public_shares: Mapping[int, Point] = field(repr=False)
    party_id: int
    t: int
    parties: tuple[int, ...]

    def public_bytes(self) -> bytes:
        """Return what all parties must agree on: X, then X_j by party, 65 bytes each."""
        return self.public_key.to_bytes() + b"".join(self.public_shares[j].to_bytes() for j in self.parties)

    def to_bytes(self) -> bytes:
        """Return the record to be stored, secret included: 39 + 65 + 67 n bytes."""
        numbers = (self.t, self.party_id, len(self.parties), *self.parties)
        head = _VERSION + b"".join(number.to_bytes(2, "big") for number in numbers)
        return head + to_bytes(self.key_share) + self.public_bytes()

    @classmethod
    def from_bytes_checked(cls, data: bytes) -> KeyShare:
        """Return the key share of a record of `to_bytes`; raise `ValueError` for anything else."""
        if data[:1] != _VERSION:
            raise ValueError("not a key share of this version")
        t, party_id, n = (int.from_bytes(data[k : k + 2], "big") for k in (1, 3, 5))
        if len(data) != record_bytes(n):
            raise ValueError("a key share of the wrong length")
        parties = tuple(int.from_bytes(data[k : k + 2], "big") for k in range(7, 7 + 2 * n, 2))
        check_party_ids(parties)
        secret_at = 7 + 2 * n
        points_at = secret_at + SCALAR_BYTES
        secret = from_bytes_nonzero(data[secret_at:points_at])
        points = [Point.from_bytes_checked(data[k : k + POINT_BYTES]) for k in range(points_at, len(data), POINT_BYTES)]
        public_shares = dict(zip(parties, points[1:], strict=True))
        if not 2 <= t <= n or public_shares.get(party_id) != generator_times(secret):
            raise ValueError("a key share that does not fit its public part")
        return cls(secret, points[0], public_shares, party_id, t, parties)


@dataclass(frozen=True)
class PendingKeys:
    """A batch of keys that this party holds but has not yet compared with the others."""

    transcript: bytes
    keys: tuple[KeyShare, ...]

    def digest(self) -> bytes:
        """Return the 32 bytes that all parties compare: transcript, all X, all X_j."""
        return tagged_hash(Tag.DKG_CONFIRMATION, "outcome", self.transcript, [key.public_bytes() for key in self.keys])

    def to_bytes(self) -> bytes:
        """Return the record to be stored, secrets included: transcript, then the keys' records."""
        return self.transcript + b"".join(key.to_bytes() for key in self.keys)

    @classmethod
    def from_bytes_checked(cls, data: bytes) -> PendingKeys:
        """Return the keys of a record of `to_bytes`; raise `ValueError` for anything else."""
        size = record_bytes(int.from_bytes(data[_DIGEST_BYTES + 5 : _DIGEST_BYTES + 7], "big"))
        body = data[_DIGEST_BYTES:]
        if not body or len(body) % size:
            raise ValueError("not a whole number of key shares")
        keys = (KeyShare.from_bytes_checked(body[k : k + size]) for k in range(0, len(body), size))
        return cls(bytes(data[:_DIGEST_BYTES]), tuple(keys))


def record_bytes(n: int) -> int:
    """Return the length of the record of one key held by `n` parties."""
    return 7 + 2 * n + SCALAR_BYTES + POINT_BYTES * (n + 1)
