"""The pool of unspent correlations of one party, in memory only, and the rule that each is used once.

A correlation with peer j is two halves of one random product: the sender holds a_u, a_v, c_u, c_v, the receiver
chi, d_u, d_v, and c_e + d_e = a_e chi mod q (`multiply.py`). It knows no key, no message and no signer set. Its name is
(link, batch, position); the direction is implied by which half one holds. In a run the *sender* chooses: it reserves
the halves it will use and tells their names; the receiver hands out its halves only for names that it holds and that
nobody used before. A name is spent in the moment it is looked at: the values leave the pool with that call, whatever
becomes of the run, and batch numbers of a link only grow, so a spent name cannot come back.

Sender halves leave a pool oldest first, so one number, the cursor, says which of them are gone. Some go in vain: their
run ended before the receiver heard or took up the names. The receiver sets aside what lies before the cursor that it
was told, so that `available` counts only what can still be named, and erases it when no run can name it any more.

One lock guards the pool, because a worker thread adds batches while runs take from it. A batch must be added at
its receiver before its sender may name it. spec/correlations.md
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, Self

from keyquorum.rounds.errors import Abort, Blame

LINK_BYTES = 16
NAME_BYTES = LINK_BYTES + 8 + 4
Direction = Literal["sender", "receiver"]
Cursor = tuple[int, int]
"""Batch and position of the first correlation of a link and direction that its sender may still name."""


class Name(NamedTuple):
    """Which correlation of a pair and direction: 16 bytes of link id, batch number, position in the batch."""

    link: bytes
    batch: int
    position: int

    def to_bytes(self) -> bytes:
        """Return the 28 bytes of the name: link, batch (8), position (4), big-endian."""
        return self.link + self.batch.to_bytes(8, "big") + self.position.to_bytes(4, "big")

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the name in exactly 28 bytes; every such string is one name."""
        if len(data) != NAME_BYTES:
            raise ValueError(f"a name has {NAME_BYTES} bytes")
        batch_end = LINK_BYTES + 8
        return cls(
            bytes(data[:LINK_BYTES]),
            int.from_bytes(data[LINK_BYTES:batch_end], "big"),
            int.from_bytes(data[batch_end:], "big"),
        )


@dataclass(frozen=True, slots=True, repr=False)
class SenderCorrelation:
    """The sender's half: a_u, a_v random, c_u, c_v its shares of the products."""

    a_u: int
    a_v: int
    c_u: int
    c_v: int


@dataclass(frozen=True, slots=True, repr=False)
class ReceiverCorrelation:
    """The receiver's half: chi random, d_u, d_v its shares of the products."""

    chi: int
    d_u: int
    d_v: int


class SenderValues(Protocol):
    """A batch as its sender holds it: columns of equal length."""

    @property
    def batch(self) -> int:
        """The number of the batch on its link."""
        ...

    @property
    def a_u(self) -> Sequence[int]:
        """The sender's random factors of u."""
        ...

    @property
    def a_v(self) -> Sequence[int]:
        """The sender's random factors of v."""
        ...

    @property
    def c_u(self) -> Sequence[int]:
        """The sender's shares of a_u chi."""
        ...

    @property
    def c_v(self) -> Sequence[int]:
        """The sender's shares of a_v chi."""
        ...


class ReceiverValues(Protocol):
    """A batch as its receiver holds it: columns of equal length."""

    @property
    def batch(self) -> int:
        """The number of the batch on its link."""
        ...

    @property
    def chi(self) -> Sequence[int]:
        """The receiver's random factors."""
        ...

    @property
    def d_u(self) -> Sequence[int]:
        """The receiver's shares of a_u chi."""
        ...

    @property
    def d_v(self) -> Sequence[int]:
        """The receiver's shares of a_v chi."""
        ...


class Depleted(Abort):
    """Not enough unspent correlations with `peers`, or no zero seed: try again later. Nothing was spent."""

    def __init__(self, peers: Iterable[int]) -> None:
        self.peers = frozenset(peers)
        super().__init__(f"not enough correlations with parties {sorted(self.peers)}")


class Inventory:
    """All unspent correlations and zero seeds of one local party, by peer; safe for use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._as_sender: dict[int, deque[tuple[Name, SenderCorrelation]]] = {}
        self._as_receiver: dict[int, dict[Name, ReceiverCorrelation]] = {}
        self._aside: dict[int, dict[Name, ReceiverCorrelation]] = {}
        self._newest: dict[tuple[Direction, int, bytes], int] = {}
        self._dropped: set[tuple[Direction, int, bytes]] = set()
        self._zero_seeds: dict[int, bytes] = {}

    def add_sender(self, peer: int, link: bytes, batch: SenderValues) -> None:
        """Add our halves of a batch that we sent to `peer`, once the peer has acknowledged it.

        Raises `ValueError` for a batch number that this link has used or passed, and for a link that was dropped.
        """
        # 1.1
        columns = zip(batch.a_u, batch.a_v, batch.c_u, batch.c_v, strict=True)
        new = [(Name(link, batch.batch, k), SenderCorrelation(*row)) for k, row in enumerate(columns)]
        with self._lock:
            self._admit("sender", peer, link, batch.batch)
            self._as_sender.setdefault(peer, deque()).extend(new)

    def add_receiver(self, peer: int, link: bytes, batch: ReceiverValues) -> None:
        """Add our halves of a batch that `peer` sent to us, before acknowledging it. Raises as `add_sender`."""
        # 1.1
        columns = zip(batch.chi, batch.d_u, batch.d_v, strict=True)
        new = {Name(link, batch.batch, k): ReceiverCorrelation(*row) for k, row in enumerate(columns)}
        with self._lock:
            self._admit("receiver", peer, link, batch.batch)
            self._as_receiver.setdefault(peer, {}).update(new)

    def reserve(self, peer: int, count: int) -> list[tuple[Name, SenderCorrelation]]:
        """Take `count` of our sender halves with `peer` out of the pool, oldest first; raises `Depleted`."""
        return self.reserve_each((peer,), count)[peer]

    def reserve_each(self, peers: Sequence[int], count: int) -> dict[int, list[tuple[Name, SenderCorrelation]]]:
        """Take `count` sender halves with each of `peers`, or none at all; raises `Depleted` naming who lacks some."""
        with self._lock:
            # 2.1
            short = [peer for peer in peers if len(self._as_sender.get(peer, ())) < count]
            if short:
                raise Depleted(short)
            # 2.2
            return {peer: [self._as_sender[peer].popleft() for _ in range(count)] for peer in peers}

    def take(self, peer: int, names: Sequence[Name]) -> list[ReceiverCorrelation]:
        """Take our receiver halves of the correlations that `peer` named out of the pool; raises as `take_each`."""
        return self.take_each({peer: names})[peer]

    def take_each(self, named: Mapping[int, Sequence[Name]]) -> dict[int, list[ReceiverCorrelation]]:
        """Take our receiver halves of what each peer named out of the pool.

        Raises `Blame` for the peers that named one that we do not hold with them: unknown, spent, named twice, another
        peer's. Everything named is spent all the same.
        """
        # 3.1
        with self._lock:
            taken = {
                peer: [self._pop(self._as_receiver, peer, name) or self._pop(self._aside, peer, name) for name in names]
                for peer, names in named.items()
            }
        # 3.2
        held = {peer: [half for half in halves if half is not None] for peer, halves in taken.items()}
        culprits = {peer for peer in named if len(held[peer]) != len(named[peer])}
        if culprits:
            rows = {row for peer in culprits for row, half in enumerate(taken[peer]) if half is None}
            raise Blame(culprits, "names a correlation that is unknown or spent", sorted(rows))
        return held

    def drop_link(self, peer: int, link: bytes, direction: Direction) -> None:
        """Destroy every unspent half of this pair, link and direction, and refuse its batches from now on."""
        # 4.1
        with self._lock:
            self._dropped.add((direction, peer, link))
            self._newest.pop((direction, peer, link), None)
        self._drop(peer, direction, lambda name: name.link == link)

    def drop_batch(self, peer: int, link: bytes, batch: int, direction: Direction) -> None:
        """Destroy every unspent half of one batch."""
        # 4.1
        self._drop(peer, direction, lambda name: (name.link, name.batch) == (link, batch))

    def cursor(self, peer: int, link: bytes) -> Cursor:
        """Return the cursor of what we send to `peer` on this link: every name before it is reserved or was dropped."""
        # 5.1
        with self._lock:
            for name, _ in self._as_sender.get(peer, ()):
                if name.link == link:
                    return name.batch, name.position
            return self._newest.get(("sender", peer, link), -1) + 1, 0

    def set_aside(self, peer: int, link: bytes, before: Cursor) -> int:
        """Stop counting as available what `peer` says it has reserved or lost; return how many. It can still be taken.

        Raises `ValueError`, and changes nothing, for a cursor beyond what was added on this link.
        """
        with self._lock:
            # 5.2
            if before > (self._newest.get(("receiver", peer, link), -1) + 1, 0):
                raise ValueError("a cursor beyond the newest batch")
            # 5.3
            pool = self._as_receiver.get(peer, {})
            gone = [name for name in pool if name.link == link and name[1:] < before]
            self._aside.setdefault(peer, {}).update((name, pool.pop(name)) for name in gone)
        return len(gone)

    def retire(self, peer: int, link: bytes, before: Cursor) -> int:
        """Erase what was set aside before this cursor; return how many. Naming it from now on is a fault of `peer`."""
        # 5.4
        with self._lock:
            aside = self._aside.get(peer, {})
            gone = [name for name in aside if name.link == link and name[1:] < before]
            for name in gone:
                del aside[name]
        return len(gone)

    def held(self, peer: int) -> int:
        """Return how many receiver halves we hold with `peer`, those set aside included."""
        with self._lock:
            return len(self._as_receiver.get(peer, ())) + len(self._aside.get(peer, ()))

    def available(self, peer: int) -> tuple[int, int]:
        """Return how many halves we hold with `peer` that a run can still reserve: (as sender, as receiver)."""
        with self._lock:
            return len(self._as_sender.get(peer, ())), len(self._as_receiver.get(peer, ()))

    def set_zero_seed(self, peer: int, seed: bytes) -> None:
        """Keep the pair's seed for zero shares (32 bytes), in place of an earlier one."""
        if len(seed) != 32:
            raise ValueError("a zero seed has 32 bytes")
        with self._lock:
            self._zero_seeds[peer] = bytes(seed)

    def zero_seed(self, peer: int) -> bytes:
        """Return the pair's seed for zero shares; raises `Depleted` when there is none."""
        with self._lock:
            seed = self._zero_seeds.get(peer)
        if seed is None:
            raise Depleted((peer,))
        return seed

    def drop_zero_seed(self, peer: int) -> None:
        """Forget the pair's seed for zero shares."""
        with self._lock:
            self._zero_seeds.pop(peer, None)

    def _admit(self, direction: Direction, peer: int, link: bytes, batch: int) -> None:
        # 1.2
        key = (direction, peer, link)
        if len(link) != LINK_BYTES or key in self._dropped or not self._newest.get(key, -1) < batch < 1 << 64:
            raise ValueError("a batch of a dropped link, or one whose number does not grow")
        self._newest[key] = batch

    @staticmethod
    def _pop(pools: dict[int, dict[Name, ReceiverCorrelation]], peer: int, name: Name) -> ReceiverCorrelation | None:
        return pools.get(peer, {}).pop(name, None)

    def _drop(self, peer: int, direction: Direction, doomed: Callable[[Name], bool]) -> None:
        with self._lock:
            if direction == "sender":
                kept = [entry for entry in self._as_sender.get(peer, ()) if not doomed(entry[0])]
                self._as_sender[peer] = deque(kept)
            else:
                for pools in (self._as_receiver, self._aside):
                    pool = pools.get(peer, {})
                    pools[peer] = {name: half for name, half in pool.items() if not doomed(name)}
