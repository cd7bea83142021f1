"""The node's key shares as the protocols use them, in front of the encrypted store.

A share is written as pending, durably, before the other nodes hear that this one has it; it turns active when the
chain shows the key registered. Nothing is ever deleted here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from keyquorum.algebra import field
from keyquorum.algebra.curve import Point
from keyquorum.chain.contracts import token_id
from keyquorum.node.store import ShareUnknown, Store, StoredShare
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

    def pending_batches(self) -> dict[bytes, list[bytes]]:
        """Return the public keys of every batch that has pending shares, by batch id, in their order."""
        batches: dict[bytes, list[bytes]] = {}
        for share in self._store.list_shares("pending"):
            batches.setdefault(share.batch_id, []).append(share.public_key)
        return batches

    def pending_since(self, moment: float) -> int:
        """Return how many batches turned pending after `moment` (Unix seconds), and still are."""
        return len({share.batch_id for share in self._store.list_shares("pending") if share.created >= moment})

    def state(self, key_id: bytes) -> str:
        """Return "active", "pending" or "unknown"."""
        try:
            self._store.load(key_id)
        except ShareUnknown:
            pending = any(share.token_id == key_id for share in self._store.list_shares("pending"))
            return "pending" if pending else "unknown"
        return "active"

    def count(self) -> int:
        """Return how many active shares there are."""
        return len(self._store.list_shares("active"))

    async def confirm(self, batch_id: bytes, purpose: str) -> None:
        """Remember durably that all nodes confirmed this batch, and what it is for."""
        await self._store.mark(f"confirmed/{batch_id.hex()}", purpose.encode())

    def confirmed(self) -> dict[bytes, str]:
        """Return what each confirmed batch is for, by batch id."""
        marks = self._store.markers("confirmed/")
        return {bytes.fromhex(name.rpartition("/")[2]): purpose.decode() for name, purpose in marks.items()}


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
