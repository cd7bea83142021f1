"""What two nodes hold together while they are connected, made anew for every connection and only in memory.

Right after the mesh reports a peer up, both sides run base OTs in both directions and agree on a seed for shares of
zero (spec/mesh.md section 3):

    1. each: its points as chooser of the direction in which it will be sender, and its commitment to the zero seed
    2. each: its answer as responder of the other direction, and the opening of its commitment
    3. each: ready

A node that has its peer in quarantine (`strikes.py`) says so instead; the connection stays, without correlations.

A link has a name that can never come back: the hash of both processes' boot ids and connection counters. When the
connection ends, everything of the link ends with it: Delta, seeds, zero seed, batches under way, and every unspent
correlation, in both directions. The protocol demands that only while a check is outstanding; doing it always
is one rule instead of two, costs a setup of some 60 ms, and leaves nothing that could outlive its context.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from keyquorum.algebra.rng import Rng
from keyquorum.algebra.transcript import Tag, tagged_hash
from keyquorum.node.mesh import mesh as meshes
from keyquorum.node.mesh import wire
from keyquorum.node.pairs.background import Background
from keyquorum.node.storage.strikes import Strikes
from keyquorum.protocols import base_ot, zero_share
from keyquorum.protocols.correlations import Inventory
from keyquorum.protocols.multiply import CorrelationReceiver, CorrelationSender
from keyquorum.rounds.errors import Blame

State = Literal["down", "waiting", "setup", "ready", "quarantined", "refused"]
SETUP_SECONDS: Final = 60.0
SETUPS_AT_ONCE: Final = 10
SETUP_EVERY: Final = 10.0

log = logging.getLogger("keyquorum.links")


@dataclass
class PairLink:
    """One connection's shared state with `peer`; `link_id` names its correlations."""

    peer: int
    link_id: bytes
    sid: bytes
    state: State = "waiting"
    sender: CorrelationSender | None = field(default=None, repr=False)
    receiver: CorrelationReceiver | None = field(default=None, repr=False)
    inbox: asyncio.Queue[wire.Setup] = field(default_factory=lambda: asyncio.Queue(3), repr=False)
    peer_is_ready: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    zero_seed: bytes | None = field(default=None, repr=False)
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    def burn(self) -> None:
        """Destroy Delta and the seeds of both directions."""
        for side in (self.sender, self.receiver):
            if side is not None:
                side.burn()


class Links:
    """The pair links of one node: set up on connect, destroyed on disconnect."""

    def __init__(
        self, mesh: meshes.Mesh, inventory: Inventory, strikes: Strikes, background: Background, rng: Rng
    ) -> None:
        """Listen to the mesh; must be made before it starts."""
        self.inventory = inventory
        self.strikes = strikes
        self.counts: Counter[str] = Counter()
        self.on_ready: list[Callable[[PairLink], None]] = []
        self.on_gone: list[Callable[[PairLink], None]] = []
        self._mesh = mesh
        self._background = background
        self._rng = rng
        self._links: dict[int, PairLink] = {}
        self._allowance: dict[int, tuple[float, float]] = {}
        mesh.on_up.append(self._up)
        mesh.on_down.append(self._down)
        mesh.route(wire.Setup, self._take)

    def ready(self, peer: int, link_id: bytes | None = None) -> PairLink | None:
        """Return the link to `peer` if it is set up (and, if given, has this name), or None."""
        link = self._links.get(peer)
        if link is None or link.state != "ready" or link_id not in (None, link.link_id):
            return None
        return link

    def all_ready(self) -> list[PairLink]:
        """Return every link that is set up."""
        return [link for link in self._links.values() if link.state == "ready"]

    def states(self) -> dict[int, State]:
        """Return what each connected peer's link is doing, for people and metrics."""
        return {peer: link.state for peer, link in self._links.items()}

    async def blame(self, link: PairLink, error: Blame) -> None:
        """Act on a failed check of the peer: note it; destroy the link if the check says so or it is the last straw."""
        self.counts["strikes"] += 1
        log.warning("party %d: %s", link.peer, error.reason)
        if error.burn != "batch":
            self.destroy(link, "a check of the OT extension failed")
        await self.strikes.add(link.peer)
        if self.strikes.is_quarantined(link.peer) and self._links.get(link.peer) is link:
            self.destroy(link, "too many failed checks")

    def destroy(self, link: PairLink, why: str) -> None:
        """Destroy everything of a link and drop its connection; the next one starts afresh."""
        self._end(link)
        if self._links.get(link.peer) is link:
            self._mesh.drop(link.peer, why)

    async def pardon(self, peer: int) -> None:
        """End the quarantine of `peer`, by order of the operator, and set its link up."""
        await self.strikes.pardon(peer)
        if self._links.get(peer) is not None:
            self._mesh.drop(peer, "pardoned: set up afresh")

    def _up(self, peer: int) -> None:
        found = self._mesh.link(peer)
        if found is None:
            return
        sid = _name(found)
        link = self._links[peer] = PairLink(peer, sid[:16], sid)
        if self.strikes.is_quarantined(peer):
            link.state = "quarantined"
            self._post(link, 0, b"")
            return
        link.task = asyncio.create_task(self._set_up(link))

    def _down(self, peer: int) -> None:
        link = self._links.pop(peer, None)
        if link is not None:
            self._end(link)

    def _end(self, link: PairLink) -> None:
        if link.task is not None and link.task is not asyncio.current_task():
            link.task.cancel()
        link.burn()
        was_ready, link.state = link.state == "ready", "down"
        self.inventory.drop_link(link.peer, link.link_id, "sender")
        self.inventory.drop_link(link.peer, link.link_id, "receiver")
        if was_ready:
            self.inventory.drop_zero_seed(link.peer)
            for callback in self.on_gone:
                callback(link)

    def _take(self, peer: int, frame: wire.Setup) -> None:
        link = self._links.get(peer)
        if link is None or frame.link != link.link_id or link.state not in ("waiting", "setup"):
            self.counts["setup_frames_dropped"] += 1
        elif frame.step == 0:
            self._end(link)
            link.state = "refused"
            log.warning("party %d refuses to set up: it has this node in quarantine", peer)
        elif frame.step == 3:
            # At once, not when a task gets its turn: the peer's first request may be the next frame.
            link.peer_is_ready.set()
            self._complete(link)
        elif link.inbox.full():
            self.destroy(link, "malformed setup")
        else:
            link.inbox.put_nowait(frame)

    async def _set_up(self, link: PairLink) -> None:
        try:
            await asyncio.sleep(max(self._setup_pause(link.peer), self.strikes.wait(link.peer)))
            link.state = "setup"
            async with asyncio.timeout(SETUP_SECONDS):
                await self._exchange(link)
                self._complete(link)
                await link.peer_is_ready.wait()
        except Blame as error:
            # Malformed rather than a failed check: nothing was at stake yet, so no strike, only a fresh start.
            self.counts["setups_failed"] += 1
            log.warning("party %d: %s", link.peer, error.reason)
            self.destroy(link, "malformed setup")
        except TimeoutError:
            self.counts["setups_failed"] += 1
            self.destroy(link, "setup took too long")

    def _complete(self, link: PairLink) -> None:
        if link.state == "setup" and link.zero_seed is not None and link.peer_is_ready.is_set():
            self.inventory.set_zero_seed(link.peer, link.zero_seed)
            link.zero_seed, link.state = None, "ready"
            self.counts["setups"] += 1
            for callback in self.on_ready:
                callback(link)

    async def _exchange(self, link: PairLink) -> None:
        """Run our side of the three steps: fill in both roles of `link` and its zero seed."""
        me, peer, sid, rng, run = self._mesh.party, link.peer, link.sid, self._rng, self._background.run
        # 3.1
        state, points = await run(base_ot.choose, sid, me, peer, rng)
        mine, commitment = zero_share.commit(sid, me, peer, rng)
        self._post(link, 1, commitment + points)
        # 3.2
        theirs = await self._expect(link, 1)
        revealed, opening = zero_share.reveal(mine, theirs[: zero_share.COMMITMENT_BYTES])
        pairs, answer = await run(base_ot.respond, sid, peer, me, rng, theirs[zero_share.COMMITMENT_BYTES :])
        link.receiver = CorrelationReceiver(sid, peer, me, pairs)
        self._post(link, 2, opening + answer)
        # 3.3
        theirs = await self._expect(link, 2)
        seed = zero_share.finish(revealed, theirs[: zero_share.OPENING_BYTES])
        seeds = await run(base_ot.finish, state, theirs[zero_share.OPENING_BYTES :])
        link.sender = CorrelationSender(sid, me, peer, seeds)
        link.zero_seed = seed
        self._post(link, 3, b"")

    def _post(self, link: PairLink, step: int, payload: bytes) -> None:
        self._mesh.send(link.peer, wire.Setup(link.link_id, step, payload))

    async def _expect(self, link: PairLink, step: int) -> bytes:
        frame = await link.inbox.get()
        if frame.step != step:
            raise Blame({link.peer}, "setup out of order")
        return frame.payload

    def _setup_pause(self, peer: int) -> float:
        """Take one setup from the peer's allowance; return how long to wait before it."""
        now = time.monotonic()
        left, at = self._allowance.get(peer, (float(SETUPS_AT_ONCE), now))
        left = min(float(SETUPS_AT_ONCE), left + (now - at) / SETUP_EVERY) - 1
        self._allowance[peer] = (left, now)
        return max(0.0, -left * SETUP_EVERY)


def _name(found: meshes.Link) -> bytes:
    """Return the 32 bytes that name a connection: each side contributes a process and a counter of its own."""
    hellos = sorted((found.ours, found.theirs), key=lambda hello: hello.sender)
    values = [(hello.sender, hello.boot, hello.connection) for hello in hellos]
    return tagged_hash(Tag.LINK, wire.VERSION, found.ours.network, *values)
