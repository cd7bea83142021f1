"""Ask t nodes the same thing at once, combine what they answer, and try other sets until it works or cannot.

The network elects nobody: whoever wants a signature (the SDK, or a gateway for its users) chooses the signers and
drives the retries, and therefore this file. It is trusted with nothing: nodes check every request themselves, and
what comes out is verified before it is returned.

A `Job` says what is asked and what a good answer is; `Fanout.run` does the rest:

1. choose a set (`choice.py`) and post to all its members in parallel, with the attempt number;
2. a node that is down, or whose answer is bad, ends the attempt at once: the rest would only wait for it;
3. a node that refuses or is busy ends it after a short grace, in which the others may say the same;
4. a node that says nothing for the attempt's patience is probed; a dead one is then known to be down;
5. t good answers are combined; a combination that does not verify makes the whole set suspect.

One request has at most `ATTEMPTS` attempts, because each spends the nodes' correlations. When too few candidates
are left, the verdict says why: more than n - t refusals are a refusal, too few live nodes are unavailability.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from keyquorum.client.choice import NodeBook
from keyquorum.client.errors import BadAnswer, KeyquorumError, Refused, Timeout, Unavailable
from keyquorum.client.results import Node
from keyquorum.client.runs import Run, Runs
from keyquorum.client.transport import NodeBusy, NodeDown, NodeError, NodeGarbage, NodeRefused, Transport

ATTEMPTS = 8
GRACE_SECONDS = 0.25
HEDGE_SECONDS = 0.005
PATIENCE_SECONDS = 3.0
PROBE_SECONDS = 0.5
LOOK_SECONDS = 2.0
PROBE_PAUSES = (0.3, 0.6, 1.2, 2.5, 5.0, 10.0)
BACKOFF_SECONDS = 0.05
# Refusals that concern who asks, not the node: another node says the same.
LIMITED_CODES = {"quota_exceeded", "too_many_failures"}
RUNS_USED_UP = "runs_used_up"
CULPRIT_WEIGHT = 5.0
HEARSAY_WEIGHT = 2.0

A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True)
class Committee:
    """The nodes of an epoch and how many of them must sign."""

    nodes: tuple[Node, ...]
    threshold: int
    epoch: int = 0

    @property
    def urls(self) -> dict[int, str]:
        """Return the node URLs by party; "" for a node that cannot be reached, to which every request fails."""
        return {node.party: node.url or "" for node in self.nodes}


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


@dataclass
class _Outcome(Generic[A]):
    """What one attempt brought, by party."""

    answers: dict[int, A] = field(default_factory=dict)
    down: dict[int, NodeError] = field(default_factory=dict)
    refused: dict[int, NodeError] = field(default_factory=dict)
    busy: dict[int, NodeError] = field(default_factory=dict)
    bad: dict[int, BadAnswer] = field(default_factory=dict)
    silent: set[int] = field(default_factory=set)

    def note(self, party: int, task: asyncio.Task[A]) -> None:
        error = task.exception()
        if error is None:
            self.answers[party] = task.result()
        elif isinstance(error, NodeDown):
            self.down[party] = error
        elif isinstance(error, NodeRefused):
            self.refused[party] = error
        elif isinstance(error, NodeBusy):
            self.busy[party] = error
        elif isinstance(error, NodeGarbage):
            self.bad[party] = BadAnswer(f"node {party} {error.message}", party=party)
        elif isinstance(error, BadAnswer):
            self.bad[party] = error
        else:
            raise error

    @property
    def allowance(self) -> float | None:
        """Return how long to wait for the rest now, None for as long as the attempt has."""
        if self.down or self.bad:
            return HEDGE_SECONDS
        return GRACE_SECONDS if self.refused or self.busy else None


@dataclass
class _Request:
    """What one request has learned so far."""

    committee: Committee
    failed: set[frozenset[int]] = field(default_factory=set)
    down: dict[int, str] = field(default_factory=dict)
    refused: dict[int, NodeError] = field(default_factory=dict)
    busy: dict[int, NodeError] = field(default_factory=dict)
    bad: dict[int, BadAnswer] = field(default_factory=dict)
    sum_is_bad: BadAnswer | None = None
    limited: dict[int, NodeError] = field(default_factory=dict)

    @property
    def is_limited(self) -> bool:
        """Whether so many nodes say that a quota is used up that asking further sets would only use up more."""
        return len(self.limited) > len(self.committee.nodes) - self.committee.threshold

    @property
    def candidates(self) -> list[int]:
        out = self.down.keys() | self.refused.keys() | self.bad.keys()
        return [node.party for node in self.committee.nodes if node.party not in out]

    @property
    def causes(self) -> dict[int, str]:
        causes = {party: str(error) for party, error in self.busy.items()}
        causes |= {party: f"refused: {error.message}" for party, error in self.refused.items()}
        causes |= {party: error.message for party, error in self.bad.items()}
        return dict(sorted((causes | self.down).items()))

    def used_up(self) -> Unavailable:
        """Return the error when there are nodes left to ask, and no run left that the user signed."""
        told = "; ".join(f"node {party}: {cause}" for party, cause in self.causes.items()) or "no set of nodes finished"
        return Unavailable(
            f"none of the runs that were signed came to an end ({told})",
            needed=self.committee.threshold,
            live=len(self.committee.nodes) - len(self.down),
            causes=self.causes,
            code=RUNS_USED_UP,
            hint="sign the request again, with other signers",
            parties=self.causes,
        )

    def verdict(self) -> KeyquorumError:
        """Return the error that says best why there is no result."""
        n, t = len(self.committee.nodes), self.committee.threshold
        if len(self.refused) > n - t:
            return _refusal(self.refused)
        if self.is_limited:
            return _refusal(self.limited)
        live = n - len(self.down)
        if live < t:
            # Not all of them were asked: the others may answer or not.
            told = f"at most {live} of {n} nodes answer, {t} are needed"
            return Unavailable(told, needed=t, live=live, causes=self.causes)
        if self.sum_is_bad is not None:
            return self.sum_is_bad
        if self.bad and not self.refused:
            return next(iter(self.bad.values()))
        told = "; ".join(f"node {party}: {cause}" for party, cause in self.causes.items()) or "no set of nodes finished"
        return Unavailable(
            f"no {t} of {n} nodes serve this request ({told})",
            needed=t,
            live=live,
            causes=self.causes,
            code="no_quorum",
        )


def _refusal(refused: Mapping[int, NodeError]) -> Refused:
    """Return what most of the refusing nodes say, with the lowest party's words."""
    code, _ = Counter(error.code for _, error in sorted(refused.items())).most_common(1)[0]
    error = next(error for _, error in sorted(refused.items()) if error.code == code)
    parties = tuple(sorted(party for party, each in refused.items() if each.code == code))
    return Refused(error.message, code=code or None, hint=error.hint, status=error.status, parties=parties)


class Fanout:
    """Runs jobs against the committee that `committee()` returns; remembers good and bad experience in `book`."""

    def __init__(
        self,
        committee: Callable[[], Committee],
        transport: Transport,
        book: NodeBook | None = None,
        on_loss: Callable[[], None] = lambda: None,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._committee = committee
        self._transport = transport
        self.book = book or NodeBook()
        self._on_loss = on_loss
        self._patience = patience
        self._probes: dict[int, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Stop watching nodes that are down."""
        probes, self._probes = list(self._probes.values()), {}
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)

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
                self._watch(party)

    async def run(self, job: Job[A, T], seconds: float, failed: set[frozenset[int]] | None = None) -> T:
        """Return the job's result within `seconds`, or raise a `KeyquorumError`.

        `failed` collects the sets that did not work, for a caller that asks the same again in a new request.
        """
        request = _Request(self._committee(), failed if failed is not None else set())
        try:
            async with asyncio.timeout(seconds):
                return await self._attempts(job, request)
        except TimeoutError:
            told = "; ".join(f"node {party}: {cause}" for party, cause in request.causes.items())
            raise Timeout(f"no answer within {seconds:.1f} s" + (f" ({told})" if told else "")) from None

    async def _attempts(self, job: Job[A, T], request: _Request) -> T:
        for attempt in range(ATTEMPTS):
            t = request.committee.threshold
            candidates = request.candidates
            if len(candidates) < t:
                break
            run = job.runs.next(self.book, candidates, t, request.failed, {})
            if run is None:
                raise request.used_up()
            signers = run.signers
            outcome = await self._attempt(job, request.committee, run, attempt)
            if len(outcome.answers) == t:
                try:
                    result = job.finish(outcome.answers)
                except BadAnswer as error:
                    self._blame(request, signers, error)
                    continue
                self.book.good(signers)
                return result
            await self._learn(request, signers, outcome)
            if request.is_limited:
                break
            if outcome.busy:
                await asyncio.sleep(BACKOFF_SECONDS * 2**attempt)
        raise request.verdict()

    async def _attempt(self, job: Job[A, T], committee: Committee, run: Run, attempt: int) -> _Outcome[A]:
        """Ask all signers of `run`; return when all answered, or when it is clear that it will not work."""
        loop = asyncio.get_running_loop()
        urls = committee.urls
        tasks = {asyncio.create_task(self._ask(job, party, urls[party], run.body)): party for party in run.signers}
        pending = set(tasks)
        outcome: _Outcome[A] = _Outcome()
        deadline = loop.time() + self._patience * 2**attempt
        try:
            while pending:
                done, pending = await asyncio.wait(
                    pending, timeout=max(0.0, deadline - loop.time()), return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    break
                for task in done:
                    outcome.note(tasks[task], task)
                if (allowance := outcome.allowance) is not None:
                    deadline = min(deadline, loop.time() + allowance)
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        outcome.silent = {tasks[task] for task in pending}
        return outcome

    async def _ask(self, job: Job[A, T], party: int, url: str, body: bytes) -> A:
        answer = await self._transport.post(url + job.path, body, job.shape)
        job.check(party, answer)
        return answer

    async def _learn(self, request: _Request, signers: Sequence[int], outcome: _Outcome[A]) -> None:
        """Write what a failed attempt taught into the request and the book."""
        request.failed.add(frozenset(signers))
        request.refused |= outcome.refused
        request.bad |= outcome.bad
        request.busy = outcome.busy
        limited = {party: error for party, error in outcome.busy.items() if error.code in LIMITED_CODES}
        request.limited |= limited
        for party, error in outcome.down.items():
            request.down[party] = error.message
        if outcome.silent and not outcome.down and not outcome.bad and not outcome.refused:
            for party in await self._unresponsive(request.committee, outcome.silent):
                request.down[party] = "does not respond"
        for party in request.down:
            self._watch(party)
        self.book.suspect(outcome.bad, CULPRIT_WEIGHT)
        if not (outcome.down or outcome.bad or outcome.refused):
            self.book.suspect(signers)
        self.book.suspect((outcome.busy.keys() - limited.keys()) | outcome.silent)
        # What nodes say of each other decides nothing, but it is the best hint whom to leave out next.
        for error in outcome.busy.values():
            self.book.suspect(set(error.parties) & set(signers), HEARSAY_WEIGHT)

    def _blame(self, request: _Request, signers: Sequence[int], error: BadAnswer) -> None:
        """Note that t answers did not combine."""
        request.failed.add(frozenset(signers))
        if error.party is None:
            request.sum_is_bad = error
            self.book.suspect(signers)
        else:
            request.bad[error.party] = error
            self.book.suspect([error.party], CULPRIT_WEIGHT)

    async def _unresponsive(self, committee: Committee, parties: set[int]) -> list[int]:
        """Return those of `parties` whose health page does not answer: frozen or cut off, not merely slow."""
        order, urls = sorted(parties), committee.urls
        alive = await asyncio.gather(*(self._transport.alive(urls[p], seconds=PROBE_SECONDS) for p in order))
        return [party for party, lives in zip(order, alive, strict=True) if not lives]

    def _watch(self, party: int) -> None:
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
