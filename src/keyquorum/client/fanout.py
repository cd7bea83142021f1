"""Ask t nodes the same thing at once, combine what they answer, and try other sets until it works or cannot.

The network elects nobody: whoever wants a signature (the SDK, or a gateway for its users) chooses among the runs that
were signed and drives the retries, and therefore this file. It is trusted with nothing: nodes check every request
themselves, and what comes out is verified before it is returned.

A `Job` says what is asked and what a good answer is; `Fanout.run` does the rest:

1. choose a run (`runs.py`, `choice.py`) and post it to all its signers in parallel;
2. a node that is down, or whose answer is bad, ends the attempt at once: the rest would only wait for it;
3. a node that refuses or is busy ends it after a short grace, in which the others may say the same;
4. when it takes longer than such runs took lately (`patience.py`), one more run is made beside it, and the next only
   when that one is overdue too; whoever says nothing is probed, and a dead one is then known to be down;
5. t good answers are combined; a combination that does not verify makes the whole set suspect;
6. who was silent or lied in one attempt, while another came to an end without him, is remembered for long.

One request has at most `ATTEMPTS` attempts, because each spends the nodes' correlations. When too few candidates
are left, the verdict says why: more than n - t refusals are a refusal, too few live nodes are unavailability.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from keyquorum.client.choice import NodeBook
from keyquorum.client.committee import Committee
from keyquorum.client.errors import BadAnswer, KeyquorumError, Timeout
from keyquorum.client.learned import RUNS_USED_UP, Attempt, Learned
from keyquorum.client.patience import Patience
from keyquorum.client.runs import Run, Runs
from keyquorum.client.transport import NodeError, Transport

__all__ = ["RUNS_USED_UP", "Fanout", "Job"]

ATTEMPTS = 8
GRACE_SECONDS = 0.25
HOPELESS_SECONDS = 0.005
LONGEST_SECONDS = 3.0
PROBE_SECONDS = 3.0
LOOK_SECONDS = 2.0
PROBE_PAUSES = (0.3, 0.6, 1.2, 2.5, 5.0, 10.0)
BACKOFF_SECONDS = 0.05
CULPRIT_WEIGHT = 5.0
# What one node says of another weighs less than that it failed itself; what several say alike weighs more.
HEARSAY_WEIGHT = 0.5

A = TypeVar("A")
T = TypeVar("T")


class Job(ABC, Generic[A, T]):
    """What is asked of t nodes: `path`, the answer's `shape`, and the `runs` by which it may be asked."""

    path: str
    shape: type[A]
    runs: Runs

    @abstractmethod
    def check(self, party: int, answer: A) -> None:
        """Raise `BadAnswer` when one node's answer cannot be part of a good result."""

    @abstractmethod
    def finish(self, answers: Mapping[int, A]) -> T:
        """Combine t checked answers and verify; raise `BadAnswer`, naming the party where it is known."""


class Fanout:
    """Runs jobs against the committee that `committee()` returns; remembers good and bad experience in `book`."""

    def __init__(
        self,
        committee: Callable[[], Committee],
        transport: Transport,
        book: NodeBook | None = None,
        on_loss: Callable[[], None] = lambda: None,
        longest: float = LONGEST_SECONDS,
    ) -> None:
        """`longest` is for how many seconds the first attempt is waited for at most; each later one twice as long."""
        self._committee = committee
        self._transport = transport
        self.book = book or NodeBook()
        self.patience = Patience()
        self._on_loss = on_loss
        self._longest = longest
        self._probes: dict[int, asyncio.Task[None]] = {}
        self._looking: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Stop watching nodes that are down."""
        tasks, self._probes = [*self._probes.values(), *self._looking], {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def look(self) -> None:
        """Ask every node whether it is ready; who is not is left out until it is, before it fails anybody."""
        nodes = self._committee().nodes
        asked = (self._transport.alive(node.url or "", "/readyz", LOOK_SECONDS) for node in nodes)
        alive = await asyncio.gather(*asked)
        self.saw({node.party: live for node, live in zip(nodes, alive, strict=True)})

    def saw(self, ready: Mapping[int, bool]) -> None:
        """Note which nodes said that they are ready, and which did not."""
        for party, live in ready.items():
            if not live:
                self.watch(party)

    async def run(self, job: Job[A, T], seconds: float, failed: set[frozenset[int]] | None = None) -> T:
        """Return the job's result within `seconds`, or raise a `KeyquorumError`.

        `failed` collects the sets that did not work, for a caller that asks the same again in a new request.
        """
        learned = Learned(self._committee(), failed if failed is not None else set())
        try:
            async with asyncio.timeout(seconds):
                return await _Race(self, job, learned).result()
        except TimeoutError:
            raise Timeout(
                "timeout", f"no answer within {seconds:.1f} s" + (f" ({learned.told})" if learned.told else "")
            ) from None

    async def ask(self, job: Job[A, T], committee: Committee, run: Run, attempt: Attempt[A], number: int) -> None:
        """Ask all signers of `run`; return when all answered, or when it is clear that it will not work."""
        loop = asyncio.get_running_loop()
        urls = committee.urls
        tasks = {asyncio.create_task(self._ask(job, party, urls[party], run.body)): party for party in run.signers}
        pending = set(tasks)
        deadline = loop.time() + self._longest * 2**number
        try:
            while pending:
                done, pending = await asyncio.wait(
                    pending, timeout=max(0.0, deadline - loop.time()), return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    break
                for task in done:
                    attempt.note(tasks[task], task)
                if attempt.failing:
                    deadline = min(deadline, loop.time() + self._grace(job, attempt))
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    def _grace(self, job: Job[A, T], attempt: Attempt[A]) -> float:
        """Return for how many seconds the rest of an attempt that fails is waited for."""
        certain = attempt.down or attempt.bad
        return HOPELESS_SECONDS if certain else min(GRACE_SECONDS, self.patience.of(job.path))

    async def _ask(self, job: Job[A, T], party: int, url: str, body: bytes) -> A:
        answer = await self._transport.post(url + job.path, body, job.shape)
        job.check(party, answer)
        return answer

    # -- nodes that do not answer -------------------------------------------------------------------------------------

    def look_for(self, silent: set[int], learned: Learned) -> None:
        """Look in the background which of the silent are frozen or cut off, not merely slow, and note it."""
        task = asyncio.create_task(self._look_for(sorted(silent), learned))
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def _look_for(self, silent: list[int], learned: Learned) -> None:
        urls = learned.committee.urls
        alive = await asyncio.gather(*(self._transport.alive(urls[p], seconds=PROBE_SECONDS) for p in silent))
        for party in [party for party, lives in zip(silent, alive, strict=True) if not lives]:
            learned.down[party] = "does not respond"
            self.watch(party)

    def watch(self, party: int) -> None:
        """Mark a node as down, and probe it in the background until it is ready again."""
        self.book.down(party)
        self._on_loss()
        if party not in self._probes or self._probes[party].done():
            self._probes[party] = asyncio.create_task(self._probe(party))

    async def _probe(self, party: int) -> None:
        for pause in (*PROBE_PAUSES, *([PROBE_PAUSES[-1]] * 10_000)):
            await asyncio.sleep(pause)
            url = self._committee().urls.get(party)
            if url is None:
                break
            with contextlib.suppress(NodeError):
                if await self._transport.alive(url, "/readyz"):
                    break
        self.book.up(party)


class _Race(Generic[A, T]):
    """One request under way: attempts, at most one of them not overdue, until one of them gives a result."""

    def __init__(self, fanout: Fanout, job: Job[A, T], learned: Learned) -> None:
        self._fanout = fanout
        self._job = job
        self._learned = learned
        self._running: dict[asyncio.Task[None], Attempt[A]] = {}
        self._over: list[Attempt[A]] = []
        self._begun = 0
        self._exhausted = False
        self._look_at = 0.0

    async def result(self) -> T:
        """Return the job's result, or raise why there is none."""
        try:
            while True:
                if all(attempt.overdue for attempt in self._running.values()):
                    self._begin()
                if not self._running:
                    raise self._error()
                pause = max(0.0, self._look_at - self._now())
                done, _ = await asyncio.wait(self._running, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    self._late()
                for task in done:
                    attempt = self._running.pop(task)
                    task.result()
                    if (found := self._finished(attempt)) is not None:
                        return found[0]
                    self._lost(attempt)
                    if attempt.busy and not self._running:
                        await asyncio.sleep(BACKOFF_SECONDS * 2 ** (self._begun - 1))
        finally:
            await _cancel(self._running)

    def _begin(self) -> None:
        """Begin the next attempt, if there is one."""
        if self._begun == ATTEMPTS:
            self._exhausted = True
        if self._exhausted or self._learned.is_hopeless:
            return
        learned, job = self._learned, self._job
        failed = learned.failed | {frozenset(attempt.signers) for attempt in self._running.values()}
        doubts: Counter[int] = Counter()
        for known in (*self._over, *self._running.values()):
            doubts.update(known.doubts)
        run = job.runs.next(self._fanout.book, learned.candidates, learned.committee.threshold, failed, doubts)
        if run is None:
            self._exhausted = True
            return
        attempt: Attempt[A] = Attempt(run.signers, self._now())
        asking = self._fanout.ask(job, learned.committee, run, attempt, self._begun)
        self._running[asyncio.create_task(asking)] = attempt
        self._begun += 1
        self._wait_on()

    def _wait_on(self) -> None:
        self._look_at = self._now() + self._fanout.patience.of(self._job.path, self._begun)

    def _late(self) -> None:
        """Nothing came in time: others are asked as well, where somebody is known for it or the budget has a run."""
        fanout = self._fanout
        self._wait_on()
        silent = set[int]().union(*(attempt.silent for attempt in self._running.values()))
        known = any(map(fanout.book.has_fault, silent))
        if self._exhausted or self._learned.is_hopeless or not (known or fanout.patience.spend()):
            return
        fanout.look_for(silent, self._learned)
        for attempt in self._running.values():
            attempt.overdue = True

    def _finished(self, attempt: Attempt[A]) -> tuple[T] | None:
        """Return the result if the attempt has one, and remember who did well and who did not."""
        if len(attempt.answers) < self._learned.committee.threshold:
            return None
        try:
            result = self._job.finish(attempt.answers)
        except BadAnswer as error:
            if error.party is None:
                attempt.sum_is_bad, self._learned.sum_is_bad = True, error
            else:
                attempt.bad[error.party] = error
            return None
        book = self._fanout.book
        book.good(attempt.signers)
        now = self._now()
        seconds = now - attempt.began
        self._fanout.patience.took(self._job.path, seconds)
        for other in (*self._over, *self._running.values()):
            book.fault(other.faulty(attempt.signers, seconds, now))
            # Words may be true for this one request, and who is late now may be in time the next time.
            late = other.silent if other.overdue else set()
            book.suspect((other.refused.keys() | other.limited.keys() | late) - set(attempt.signers))
        return (result,)

    def _lost(self, attempt: Attempt[A]) -> None:
        """Write what an attempt without a result taught into what the request learned, and into the book."""
        self._over.append(attempt)
        self._learned.add(attempt)
        fanout, book = self._fanout, self._fanout.book
        # Who was cut short because of somebody else was not silent.
        silent = set[int]() if attempt.down or attempt.bad else attempt.silent
        for party in attempt.down:
            fanout.watch(party)
        if silent and not attempt.overdue and not attempt.refused:
            fanout.look_for(silent, self._learned)
        book.suspect(attempt.bad, CULPRIT_WEIGHT)
        if not (attempt.down or attempt.bad or attempt.refused):
            book.suspect(attempt.signers)
        book.suspect((attempt.busy.keys() - attempt.limited.keys()) | silent)
        # What nodes say of each other decides nothing; said by several it is the best hint whom to leave out next.
        accused = Counter(party for error in attempt.busy.values() for party in set(error.parties))
        for party in accused.keys() & set(attempt.signers):
            book.suspect([party], HEARSAY_WEIGHT * accused[party] ** 2)

    def _error(self) -> KeyquorumError:
        learned = self._learned
        if learned.is_hopeless or not self._job.runs.ahead:
            return learned.verdict()
        return learned.used_up(set[int]().union(*(attempt.silent for attempt in self._over if not attempt.failing)))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


async def _cancel(tasks: Mapping[asyncio.Task[None], Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
