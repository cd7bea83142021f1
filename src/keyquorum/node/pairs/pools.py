"""Keeps correlations ready with every linked peer, in both directions, without getting in the way of signing.

The receiver of a direction drives it (spec/mesh.md section 4): it asks for a batch when its pool falls below the low
mark, until it is above the high one; the sender's pool follows, because both hold the two halves of the same
correlations. A batch has three messages: request, reply, verdict. The reply tells the receiver that the sender's
check passed, the verdict tells the sender the same of the receiver's; the receiver adds its half before the verdict
leaves, so a name that the sender can reserve is always one that the receiver knows.

A run that ends before its names are taken up costs the sender its halves while the receiver keeps its own. Therefore
the sender tells its cursor (`wire.Cursor`) once a second when it has moved. The receiver counts only what lies from
there on, so that it refills what its *sender* lacks, and erases the rest when every run that could name it is over.

One batch per peer and direction is under way at a time, and a handful in all, the emptiest pool first; a peer that
takes its time loses its place among those, so that slow ones cannot keep the others from being served. Production
waits while `pause_hint()` says that signing is under way, unless a pool is nearly empty. Every number a peer can choose
is bounded here: how much it may ask for, how much is kept for it, and how long it may think.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from keyquorum.algebra.rng import Rng
from keyquorum.node.mesh import wire
from keyquorum.node.mesh.mesh import Mesh
from keyquorum.node.pairs.background import Background
from keyquorum.node.pairs.links import Links, PairLink
from keyquorum.protocols.correlations import Cursor
from keyquorum.protocols.multiply import PendingBatch, SenderBatch
from keyquorum.rounds.errors import Blame
from keyquorum.serving.forever import forever

TICK: Final = 0.05
PENDING_AT_ONCE: Final = 4
PATIENCE_SECONDS: Final = 60.0
SLOT_SECONDS: Final = 2.0
LONGEST_PAUSE: Final = 1.0
FIRST_REFUSAL_PAUSE: Final = 1.0
LONGEST_REFUSAL_PAUSE: Final = 30.0
TELL_SECONDS: Final = 1.0
MARK_SECONDS: Final = 5.0
RETIRE_SECONDS: Final = 60.0
HELD_AT_MOST: Final = 8
"""Receiver halves of one peer, in high marks: failed runs may leave seven while they wait to be retired."""

log = logging.getLogger("keyquorum.pools")


@dataclass(frozen=True)
class Levels:
    """Correlations for each peer and direction: refill below `low` up to `high`, `batch` at a time."""

    low: int
    high: int
    batch: int = 64

    @classmethod
    def for_nodes(cls, n: int, batch: int = 64) -> Levels:
        """Return marks for a network of `n`: about 1,000 correlations in each role, at least one batch a peer."""
        high = max(batch, min(4 * batch, 1024 // max(1, n - 1) // batch * batch))
        return cls(high // 2, high, batch)


@dataclass
class _Work:
    """What is under way on one link."""

    next_batch: int = 0
    asked: PendingBatch | None = field(default=None, repr=False)
    asking: bool = False
    slot_until: float = 0.0
    filling: bool = True
    extending: bool = False
    held: SenderBatch | None = field(default=None, repr=False)
    refusal_pause: float = FIRST_REFUSAL_PAUSE
    not_before: float = 0.0
    rejection_pause: float = FIRST_REFUSAL_PAUSE
    no_service_before: float = 0.0
    deadline: float | None = None
    told: Cursor = (0, 0)
    tell_after: float = 0.0
    heard: Cursor = (0, 0)
    marked: tuple[float, Cursor] = (-MARK_SECONDS, (0, 0))
    marks: deque[tuple[float, Cursor]] = field(default_factory=deque)


class Pools:
    """Fills the inventory of `links`; counters are in `counts`."""

    def __init__(
        self,
        mesh: Mesh,
        links: Links,
        levels: Levels,
        background: Background,
        rng: Rng,
        retire_after: float = RETIRE_SECONDS,
        pause_hint: Callable[[], bool] = lambda: False,
    ) -> None:
        """Listen to the links; must be made before the mesh starts.

        `retire_after` (seconds) must exceed the time from the arrival of a run's first message to the end of that run;
        `pause_hint()` says that signing is under way.
        """
        self.levels = levels
        self.clock: Callable[[], float] = time.monotonic
        self.pause_hint = pause_hint
        self.counts: Counter[str] = Counter()
        self._mesh = mesh
        self._links = links
        self._inventory = links.inventory
        self._background = background
        self._rng = rng
        self._retire_after = retire_after
        self._work: dict[bytes, _Work] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticker: asyncio.Task[None] | None = None
        links.on_ready.append(self._ready)
        links.on_gone.append(self._gone)
        mesh.route(wire.BatchRequest, self._requested)
        mesh.route(wire.BatchReply, self._replied)
        mesh.route(wire.BatchVerdict, self._judged)
        mesh.route(wire.Cursor, self._heard)

    def start(self) -> None:
        """Begin to fill; until then nothing is asked for."""
        self._ticker = forever("the filling of pools", self._tick())

    async def close(self) -> None:
        """Stop; what is under way is abandoned."""
        tasks = [*self._tasks, *([self._ticker] if self._ticker else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def available(self) -> dict[int, tuple[int, int]]:
        """Return for each linked peer how many correlations are ready: (as sender, as receiver)."""
        return {link.peer: self._inventory.available(link.peer) for link in self._links.all_ready()}

    def filled(self, peer: int) -> bool:
        """Whether both directions with `peer` hold at least the low mark."""
        return self._links.ready(peer) is not None and min(self._inventory.available(peer)) >= self.levels.low

    # The receiver's side: asking

    async def _tick(self) -> None:
        while True:
            now = self.clock()
            for link in self._links.all_ready():
                work = self._work[link.link_id]
                if work.deadline is not None and now > work.deadline:
                    self.counts["unanswered"] += 1
                    self._links.destroy(link, "a batch was not answered")
                    continue
                self._tell(link, work, now)
                self._retire(link, work, now)
            for link in self._choose(now):
                work = self._work[link.link_id]
                work.asking, work.slot_until = True, now + SLOT_SECONDS
                self._spawn(self._ask(link))
            await asyncio.sleep(TICK)

    def _choose(self, now: float) -> list[PairLink]:
        """Return the links to ask now, the emptiest pool first."""
        under_way = sum(work.asking and now < work.slot_until for work in self._work.values())
        needy = []
        for link in self._links.all_ready():
            work, ready = self._work[link.link_id], self._inventory.available(link.peer)[1]
            work.filling = ready < self.levels.low or (work.filling and ready < self.levels.high)
            full = self._inventory.held(link.peer) >= HELD_AT_MOST * self.levels.high
            if (
                work.filling
                and not full
                and not work.asking
                and now >= work.not_before
                and not self._should_wait(ready)
            ):
                needy.append((ready, link.peer, link))
        return [link for _, _, link in sorted(needy)[: max(0, PENDING_AT_ONCE - under_way)]]

    async def _ask(self, link: PairLink) -> None:
        work = self._work.get(link.link_id)
        if work is None or link.receiver is None:
            return
        batch, work.next_batch = work.next_batch, work.next_batch + 1
        try:
            pending, request = await self._background.run(link.receiver.request, batch, self.levels.batch, self._rng)
        except ValueError:
            if not link.receiver.burned:
                raise
            return  # the connection ended meanwhile, and with it the link
        if self._work.get(link.link_id) is not work:
            return
        work.asked = pending
        work.deadline = self.clock() + PATIENCE_SECONDS
        self._mesh.send(link.peer, wire.BatchRequest(link.link_id, batch, self.levels.batch, request))

    def _replied(self, peer: int, frame: wire.BatchReply) -> None:
        link, work = self._find(peer, frame.link)
        if link is None or work is None or work.asked is None or work.asked.batch != frame.batch:
            self.counts["frames_dropped"] += 1
            return
        pending, work.asked, work.deadline = work.asked, None, None
        if not frame.payload:
            self.counts["refused_by_peer"] += 1
            work.asking = False
            work.not_before = self.clock() + work.refusal_pause
            work.refusal_pause = min(2 * work.refusal_pause, LONGEST_REFUSAL_PAUSE)
            return
        work.refusal_pause = FIRST_REFUSAL_PAUSE
        self._spawn(self._accept(link, work, pending, frame.payload))

    async def _accept(self, link: PairLink, work: _Work, pending: PendingBatch, reply: bytes) -> None:
        if link.receiver is None:
            return
        try:
            batch = await self._background.run(link.receiver.accept, pending, reply)
        except Blame as error:
            if self._work.get(link.link_id) is work:
                self._mesh.send(link.peer, wire.BatchVerdict(link.link_id, pending.batch, False))
            await self._links.blame(link, error)
            work.not_before = self.clock() + self._links.strikes.wait(link.peer)
        except ValueError:
            if not link.receiver.burned:
                raise
        else:
            if self._work.get(link.link_id) is work:
                # 4.4
                self._inventory.add_receiver(link.peer, link.link_id, batch)
                self._mesh.send(link.peer, wire.BatchVerdict(link.link_id, pending.batch, True))
                self.counts["received"] += batch.size
        finally:
            work.asking = False

    # The sender's side: answering

    def _requested(self, peer: int, frame: wire.BatchRequest) -> None:
        link, work = self._find(peer, frame.link)
        if link is None or work is None:
            self.counts["frames_dropped"] += 1
        elif work.extending or work.held is not None or self._has_enough(link, work):
            self.counts["refused_by_us"] += 1
            self._mesh.send(peer, wire.BatchReply(frame.link, frame.batch, b""))
        else:
            work.extending = True
            self._spawn(self._extend(link, work, frame))

    async def _extend(self, link: PairLink, work: _Work, frame: wire.BatchRequest) -> None:
        if link.sender is None:
            return
        try:
            await self._give_way(link.peer)
            held, reply = await self._background.run(
                link.sender.extend, frame.batch, frame.size, frame.payload, self._rng
            )
        except Blame as error:
            if error.burn is None:
                self.counts["malformed"] += 1
                self._links.destroy(link, "malformed request for a batch")
            else:
                await self._links.blame(link, error)
        except ValueError:
            # A batch number that does not grow, or our own object burned meanwhile: either way this link is over.
            self._links.destroy(link, "a batch number that does not grow")
        else:
            if self._work.get(link.link_id) is work:
                work.held = held
                self._mesh.send(link.peer, wire.BatchReply(link.link_id, frame.batch, reply))
        finally:
            work.extending = False

    def _judged(self, peer: int, frame: wire.BatchVerdict) -> None:
        link, work = self._find(peer, frame.link)
        if link is None or work is None or work.held is None or work.held.batch != frame.batch:
            self.counts["frames_dropped"] += 1
            return
        held, work.held = work.held, None
        if not frame.accepted:
            # We did not cheat, so it has no reason to; it must not keep us at work for nothing.
            self.counts["rejected_by_peer"] += 1
            work.no_service_before = self.clock() + work.rejection_pause
            work.rejection_pause *= 2
            return
        # 4.5
        self._inventory.add_sender(link.peer, link.link_id, held)
        self.counts["sent"] += held.size

    # Both sides: which names are gone

    def _tell(self, link: PairLink, work: _Work, now: float) -> None:
        """As sender: tell the cursor when it has moved."""
        if now < work.tell_after:
            return
        # 4.8
        cursor = self._inventory.cursor(link.peer, link.link_id)
        if cursor > work.told and self._mesh.send(link.peer, wire.Cursor(link.link_id, *cursor)):
            work.told, work.tell_after = cursor, now + TELL_SECONDS

    def _heard(self, peer: int, frame: wire.Cursor) -> None:
        """As receiver: stop counting on what the sender cannot name any more."""
        link, work = self._find(peer, frame.link)
        cursor = (frame.batch, frame.position)
        if link is None or work is None or cursor <= work.heard:
            self.counts["frames_dropped"] += 1
            return
        try:
            # 4.9
            self._inventory.set_aside(peer, link.link_id, cursor)
        except ValueError:
            self.counts["malformed"] += 1
        else:
            work.heard = cursor

    def _retire(self, link: PairLink, work: _Work, now: float) -> None:
        """As receiver: erase what was set aside so long ago that no run can name it."""
        # Few marks, however often the peer reports; one is never older than the report it stands for.
        if work.heard > work.marked[1] and now >= work.marked[0] + MARK_SECONDS:
            work.marked = (now, work.heard)
            work.marks.append(work.marked)
        # 4.10
        while work.marks and now >= work.marks[0][0] + self._retire_after:
            self.counts["retired"] += self._inventory.retire(link.peer, link.link_id, work.marks.popleft()[1])

    # Both sides

    def _has_enough(self, link: PairLink, work: _Work) -> bool:
        """Bound what a peer makes us do and hold: its marks may differ from ours, but not without end."""
        if self.clock() < work.no_service_before:
            return True
        return self._inventory.available(link.peer)[0] >= 2 * self.levels.high

    def _should_wait(self, ready: int) -> bool:
        return ready >= self.levels.low // 2 and self.pause_hint()

    async def _give_way(self, peer: int) -> None:
        for _ in range(int(LONGEST_PAUSE / TICK)):
            if not self._should_wait(self._inventory.available(peer)[0]):
                return
            await asyncio.sleep(TICK)

    def _find(self, peer: int, link_id: bytes) -> tuple[PairLink | None, _Work | None]:
        return self._links.ready(peer, link_id), self._work.get(link_id)

    def _ready(self, link: PairLink) -> None:
        self._work[link.link_id] = _Work()

    def _gone(self, link: PairLink) -> None:
        self._work.pop(link.link_id, None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.counts["failed"] += 1
            log.error("making correlations failed", exc_info=task.exception())
