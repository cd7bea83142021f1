"""The node's key shares as the protocols use them, in front of the encrypted store.

A share is written as pending, durably, before the other nodes hear that this one has it; it turns active when the
chain shows the key registered. Nothing is ever deleted here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from keyquorum.algebra import field
from keyquorum.algebra.curve import Point
from keyquorum.evm.keys import token_id
from keyquorum.node.storage.store import Store, StoredShare
from keyquorum.protocols.key_share import KeyShare

CACHED = 1024


def id_of(public_key: bytes) -> bytes:
    """Return the 32-byte key id of a 65-byte public key: its token id."""
    return token_id(public_key).to_bytes(32, "big")


class Keys:
    """Key shares of one node."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cache: OrderedDict[tuple[bytes, int], KeyShare] = OrderedDict()

    async def put_pending(self, batch_id: bytes, epoch: int, shares: Sequence[KeyShare]) -> None:
        """Write the shares of one run of key generation; on the disk when this returns."""
        await self._store.put_pending(batch_id, [_to_stored(share, epoch) for share in shares])

    async def activate(self, key_ids: Iterable[bytes]) -> int:
        """Turn pending shares active; return how many changed."""
        return await self._store.activate(key_ids)

    def load(self, key_id: bytes) -> KeyShare:
        """Return the active share of a key; raises `ShareUnknown`, `ShareCorrupt`, `StoreFailed`."""
        stored = self._store.load(key_id)  # asked even for a cached key: a failed disk must stop signing
        place = (key_id, stored.epoch)
        known = self._cache.get(place)
        if known is None:
            known = self._cache[place] = _from_stored(stored)
            while len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return known

    def pending_batches(self, most: int, skip: int = 0) -> dict[bytes, list[bytes]]:
        """Return the public keys of up to `most` batches with pending shares, newest first, after the `skip` newest."""
        return {batch_id: self._pending_keys(batch_id) for batch_id in self._store.tally.newest(most, skip)}

    def pending_count(self) -> int:
        """Return how many batches have pending shares."""
        return self._store.tally.pending

    def pending_since(self, moment: float, most: int) -> int:
        """Return how many batches turned pending after `moment` (Unix seconds) and still are, counting to `most`."""
        return self._store.tally.since(moment, most)

    def waiting(self, purpose: str, most: int, epoch: int | None = None) -> dict[bytes, list[bytes]]:
        """Return the confirmed batches for `purpose` among the `most` newest pending ones, the oldest first.

        With `epoch` only those that were made in it: other parties hold the shares of another.
        """
        newest = self._store.tally.newest(most)[::-1]
        found = {one: self._pending_keys(one, epoch) for one in newest if self.purpose(one) == purpose}
        return {batch_id: keys for batch_id, keys in found.items() if keys}

    def waiting_batch(self, batch_id: bytes, purpose: str) -> list[bytes]:
        """Return the public keys of one batch, if it is confirmed for `purpose` and pending; else nothing."""
        return self._pending_keys(batch_id) if self.purpose(batch_id) == purpose else []

    def state(self, key_id: bytes) -> str:
        """Return "active", "pending" or "unknown"."""
        return self._store.state(key_id) or "unknown"

    def count(self) -> int:
        """Return how many active shares there are."""
        return self._store.tally.active

    def batches(self) -> int:
        """Return how many batches have active shares here."""
        return self._store.tally.active_batches

    def quarantined(self) -> int:
        """Return how many of the active shares are in quarantine."""
        return self._store.active_quarantined

    def check_room(self) -> None:
        """Raise `StoreFailed` when nothing more is written, `StoreFull` when the disk has too little room for keys."""
        self._store.check_room()

    async def confirm(self, batch_id: bytes, purpose: str) -> None:
        """Remember durably that all nodes confirmed this batch, and what it is for."""
        await self._store.mark(f"confirmed/{batch_id.hex()}", purpose.encode())

    def purpose(self, batch_id: bytes) -> str:
        """Return what a confirmed batch is for, "" for one that was not confirmed here."""
        return (self._store.marker(f"confirmed/{batch_id.hex()}") or b"").decode()

    def _pending_keys(self, batch_id: bytes, epoch: int | None = None) -> list[bytes]:
        pending = [share for share in self._store.batch(batch_id) if share.state == "pending"]
        return [share.public_key for share in pending if epoch in (None, share.epoch)]


def _to_stored(share: KeyShare, epoch: int) -> StoredShare:
    public_key = share.public_key.to_bytes()
    return StoredShare(
        token_id=id_of(public_key),
        epoch=epoch,
        party=share.party_id,
        t=share.t,
        parties=share.parties,
        public_key=public_key,
        public_shares={j: point.to_bytes() for j, point in share.public_shares.items()},
        key_share=field.to_bytes(share.key_share),
    )


def _from_stored(stored: StoredShare) -> KeyShare:
    return KeyShare(
        key_share=field.from_bytes_checked(stored.key_share),
        public_key=Point.from_bytes_checked(stored.public_key),
        public_shares={j: Point.from_bytes_checked(data) for j, data in stored.public_shares.items()},
        party_id=stored.party,
        t=stored.t,
        parties=stored.parties,
    )
