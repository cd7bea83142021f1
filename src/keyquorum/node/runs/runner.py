"""Drives protocol runs over the mesh: envelopes out, envelopes in, one result or one typed error.

A run exists from `run()` until it ends, its time is up, or it has lost its place (`places.py`). Envelopes that arrive
before this node has started the run (peers are asked by the client at slightly different moments) wait in a small box
per peer, the oldest giving way to new ones; what is not claimed in time, or belongs to no run, is dropped and counted:
it never aborts anything and blames nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from keyquorum.node.runs.places import Place
from keyquorum.rounds.errors import Abort, Blame
from keyquorum.rounds.party import Party
from keyquorum.rounds.session import Envelope, Session

T = TypeVar("T")

EARLY_SECONDS = 5.0
EARLY_PER_PEER = 512
EARLY_BYTES_PER_PEER = 8 << 20
FINISHED_REMEMBERED = 4096
QUEUED_PER_RUN = 4096


class PeerUnreachable(Abort):
    """A party of the run has no live link, so the run was not started; nothing was spent."""

    def __init__(self, parties: frozenset[int]) -> None:
        self.parties = parties
        super().__init__(f"no live link to parties {sorted(parties)}")


class RunTimeout(Abort):
    """A party did not answer in time; its name is only a hint, for the network may be at fault."""

    def __init__(self, silent: frozenset[int]) -> None:
        self.silent = silent
        super().__init__(f"no answer in time from parties {sorted(silent)}")


class AlreadyRun(ValueError):
    """This session id was run before in this process; a retry is a new run with a new attempt number."""


@dataclass
class _Run(Generic[T]):
    session: Session[T]
    peers: tuple[int, ...]
    future: asyncio.Future[T]
    in_thread: bool
    place: Place | None
    absent: set[int]
    queue: asyncio.Queue[Envelope] = field(default_factory=lambda: asyncio.Queue(maxsize=QUEUED_PER_RUN))


@dataclass
class _EarlyBox:
    waiting: OrderedDict[bytes, list[tuple[float, Envelope]]] = field(default_factory=OrderedDict)
    count: int = 0
    size: int = 0


class Runner:
    """All protocol runs of one node; single-threaded, in the event loop."""

    def __init__(
        self,
        send: Callable[[int, Envelope], bool],
        is_up: Callable[[int], bool],
        observe: Callable[[str, float, Abort | None], None] = lambda name, seconds, error: None,
    ) -> None:
        """`send` hands an envelope to the link of a peer and tells whether it was taken.

        `observe(name, seconds, error)` hears of each run that has ended.
        """
        self._send = send
        self._is_up = is_up
        self._runs: dict[bytes, _Run[Any]] = {}
        self._finished: OrderedDict[bytes, None] = OrderedDict()
        self._early: dict[int, _EarlyBox] = {}
        self.dropped = 0
        self.observe = observe

    @property
    def active(self) -> int:
        """How many runs are under way."""
        return len(self._runs)

    @property
    def joined(self) -> int:
        """How many of them every party has joined."""
        return sum(not run.absent for run in self._runs.values())

    def is_up(self, peer: int) -> bool:
        """Whether there is a live link to `peer`."""
        return self._is_up(peer)

    async def run(
        self,
        party: Party,
        protocol: Coroutine[Any, Any, T],
        seconds: float,
        in_thread: bool = False,
        name: str = "run",
        place: Place | None = None,
    ) -> T:
        """Run `protocol` for `party` to its end and return its result.

        `in_thread` moves the arithmetic of long runs off the event loop; `name` is for `observe`; the run ends when it
        loses its `place`, which it cannot once every other party was heard. Raises `AlreadyRun`, `PeerUnreachable`,
        `RunTimeout`, or what the protocol raises (`Abort`, `Blame`).
        """
        peers = tuple(j for j in party.parties if j != party.me)
        if party.sid in self._runs or party.sid in self._finished:
            protocol.close()
            raise AlreadyRun("this run has been made already")
        down = frozenset(j for j in peers if not self._is_up(j))
        if down:
            protocol.close()
            raise PeerUnreachable(down)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        run = _Run(Session(party, protocol), peers, future, in_thread, place, set(peers))
        self._runs[party.sid] = run
        if place is not None:
            place.on_lost = lambda: self._fail(run, RunTimeout(frozenset(run.absent)))
        worker = asyncio.create_task(self._work(party.sid, run)) if in_thread else None
        began = time.monotonic()
        ended: Abort | None = None
        try:
            if worker is None:
                self._step(run, run.session.start)
                for envelope in self._claim_early(party.sid, peers):
                    self._deliver(run, envelope)
            return await asyncio.wait_for(asyncio.shield(run.future), seconds)
        except TimeoutError:
            ended = RunTimeout(frozenset(self._silent(run)))
            raise ended from None
        except Abort as error:
            ended = error
            raise
        finally:
            self.observe(name, time.monotonic() - began, ended)
            if worker is None:
                self._close(party.sid, run)
            else:
                worker.cancel()
                worker.add_done_callback(lambda _: self._close(party.sid, run))
                await asyncio.wait({worker})

    def receive(self, peer: int, envelope: Envelope) -> None:
        """Take an envelope that came over the authenticated link of `peer`."""
        if envelope.sender != peer:
            self.dropped += 1
            return
        run = self._runs.get(envelope.sid)
        if run is not None:
            self._deliver(run, envelope)
        elif envelope.sid in self._finished:
            self.dropped += 1
        else:
            self._keep_early(peer, envelope)

    def peer_down(self, peer: int) -> None:
        """End at once every run that needs `peer`: its messages will not come any more."""
        self._early.pop(peer, None)
        for run in self._runs.values():
            if peer in run.peers:
                self._fail(run, RunTimeout(frozenset({peer})))

    def _deliver(self, run: _Run[Any], envelope: Envelope) -> None:
        if run.future.done():
            return
        run.absent.discard(envelope.sender)
        if not run.absent and run.place is not None:
            run.place.join()
        if not run.in_thread:
            self._step(run, lambda: run.session.receive(envelope))
            return
        try:
            run.queue.put_nowait(envelope)
        except asyncio.QueueFull:
            self.dropped += 1

    async def _work(self, sid: bytes, run: _Run[Any]) -> None:
        await self._step_in_thread(run, run.session.start)
        for envelope in self._claim_early(sid, run.peers):
            self._deliver(run, envelope)
        while not run.future.done():
            envelope = await run.queue.get()
            await self._step_in_thread(run, lambda e=envelope: run.session.receive(e))  # type: ignore[misc]

    def _step(self, run: _Run[Any], step: Callable[[], list[Envelope]]) -> None:
        try:
            self._post(run, step())
        except Exception as error:
            self._fail(run, error)

    async def _step_in_thread(self, run: _Run[Any], step: Callable[[], list[Envelope]]) -> None:
        thread = asyncio.ensure_future(asyncio.to_thread(step))
        try:
            self._post(run, await asyncio.shield(thread))
        except asyncio.CancelledError:
            # A thread cannot be stopped, and what it computes with cannot be closed before it is done.
            await asyncio.wait({thread})
            raise
        except Exception as error:
            self._fail(run, error)

    def _post(self, run: _Run[Any], envelopes: list[Envelope]) -> None:
        for envelope in envelopes:
            for peer in run.peers if envelope.to is None else (envelope.to,):
                if not self._send(peer, envelope):
                    raise RunTimeout(frozenset({peer}))
        if run.session.done and not run.future.done():
            run.future.set_result(run.session.result)

    def _fail(self, run: _Run[Any], error: BaseException) -> None:
        if not run.future.done():
            run.future.set_exception(error)

    def _silent(self, run: _Run[Any]) -> set[int]:
        return set(run.peers) - set(run.session.heard)

    def _close(self, sid: bytes, run: _Run[Any]) -> None:
        self._runs.pop(sid, None)
        run.session.close()
        if run.future.done() and not run.future.cancelled():
            run.future.exception()  # seen: asyncio must not complain about a run nobody awaits any more
        self._finished[sid] = None
        while len(self._finished) > FINISHED_REMEMBERED:
            self._finished.popitem(last=False)

    def _keep_early(self, peer: int, envelope: Envelope) -> None:
        box = self._early.setdefault(peer, _EarlyBox())
        self._expire(box)
        if len(envelope.payload) > EARLY_BYTES_PER_PEER:
            self.dropped += 1
            return
        # The oldest goes: its run is the one that least likely still comes, whoever filled the box.
        while box.count >= EARLY_PER_PEER or box.size + len(envelope.payload) > EARLY_BYTES_PER_PEER:
            self.dropped += len(self._remove(box, next(iter(box.waiting))))
        box.waiting.setdefault(envelope.sid, []).append((time.monotonic(), envelope))
        box.count += 1
        box.size += len(envelope.payload)

    def _claim_early(self, sid: bytes, peers: tuple[int, ...]) -> list[Envelope]:
        claimed = []
        for peer in peers:
            box = self._early.get(peer)
            if box is not None:
                self._expire(box)
                claimed += self._remove(box, sid)
        return claimed

    def _expire(self, box: _EarlyBox) -> None:
        limit = time.monotonic() - EARLY_SECONDS
        while box.waiting:
            sid, kept = next(iter(box.waiting.items()))
            if kept[0][0] > limit:
                return
            self.dropped += len(self._remove(box, sid))

    @staticmethod
    def _remove(box: _EarlyBox, sid: bytes) -> list[Envelope]:
        envelopes = [envelope for _, envelope in box.waiting.pop(sid, [])]
        box.count -= len(envelopes)
        box.size -= sum(len(envelope.payload) for envelope in envelopes)
        return envelopes


def culprits_of(error: Abort) -> frozenset[int]:
    """Return whom an error names: culprits of a `Blame`, the silent or unreachable otherwise, or nobody."""
    if isinstance(error, Blame):
        return error.culprits
    if isinstance(error, RunTimeout):
        return error.silent
    return error.parties if isinstance(error, PeerUnreachable) else frozenset()
