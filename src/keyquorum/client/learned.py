"""What one request has learned of the nodes: what each attempt brought, whom that leaves, what it all amounts to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from keyquorum.client.committee import Committee
from keyquorum.client.errors import BadAnswer, KeyquorumError, Refused, Unavailable
from keyquorum.client.transport import NodeBusy, NodeDown, NodeError, NodeGarbage, NodeRefused

RUNS_USED_UP = "runs_used_up"
# Refusals that concern who asks, not the node: another node says the same.
LIMITED_CODES = {"quota_exceeded", "too_many_failures", "too_many_refusals"}
# Of one that alone has not answered, beside one of several.
ALONE = 3.0
CLEARLY = 2.0

A = TypeVar("A")


@dataclass
class Attempt(Generic[A]):
    """One run that was asked for: by whom, since when (seconds), and what it has brought, by party."""

    signers: tuple[int, ...]
    began: float
    answers: dict[int, A] = field(default_factory=dict)
    down: dict[int, NodeError] = field(default_factory=dict)
    refused: dict[int, NodeError] = field(default_factory=dict)
    busy: dict[int, NodeError] = field(default_factory=dict)
    bad: dict[int, BadAnswer] = field(default_factory=dict)
    sum_is_bad: bool = False
    overdue: bool = False

    def note(self, party: int, task: asyncio.Task[A]) -> None:
        """Note what a node answered."""
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
            self.bad[party] = BadAnswer("bad_answer", f"node {party} {error.message}", party=party)
        elif isinstance(error, BadAnswer):
            self.bad[party] = error
        else:
            raise error

    @property
    def failing(self) -> bool:
        """Whether it is clear already that nothing will come of it."""
        return bool(self.down or self.refused or self.busy or self.bad)

    @property
    def silent(self) -> set[int]:
        """Who has not answered."""
        heard = self.answers.keys() | self.down.keys() | self.refused.keys() | self.busy.keys() | self.bad.keys()
        return set(self.signers) - heard

    @property
    def limited(self) -> dict[int, NodeError]:
        """Who said that a quota is used up."""
        return {party: error for party, error in self.busy.items() if error.code in LIMITED_CODES}

    @property
    def doubts(self) -> dict[int, float]:
        """How much it says against each node: if only one is silent, it is that one; else each may be why."""
        if self.sum_is_bad:
            return dict.fromkeys(self.signers, 1.0)
        return dict.fromkeys(self.silent, ALONE if self.answers and not self.failing else 1.0)

    def faulty(self, served: Collection[int], seconds: float, now: float) -> set[int]:
        """Return who was at fault, seen from another attempt in which `served` answered the same well in `seconds`.

        Silence is a fault when it lasted clearly longer than that: where all are slow, the first attempt is as good.
        """
        found = set(self.bad)
        if self.sum_is_bad:
            found |= set(self.signers)
        elif self.overdue and not self.failing and now - self.began > CLEARLY * seconds:
            found |= self.silent
        return found - set(served)


@dataclass
class Learned:
    """What all attempts of one request brought; `failed` are the sets that did not work."""

    committee: Committee
    failed: set[frozenset[int]] = field(default_factory=set)
    down: dict[int, str] = field(default_factory=dict)
    refused: dict[int, NodeError] = field(default_factory=dict)
    busy: dict[int, NodeError] = field(default_factory=dict)
    bad: dict[int, BadAnswer] = field(default_factory=dict)
    limited: dict[int, NodeError] = field(default_factory=dict)
    sum_is_bad: BadAnswer | None = None

    def add(self, attempt: Attempt[A]) -> None:
        """Note an attempt that failed."""
        self.failed.add(frozenset(attempt.signers))
        self.refused |= attempt.refused
        self.bad |= attempt.bad
        self.busy = attempt.busy
        self.limited |= attempt.limited
        self.down |= {party: error.message for party, error in attempt.down.items()}

    @property
    def is_limited(self) -> bool:
        """Whether so many nodes say that a quota is used up that asking further sets would only use up more."""
        return len(self.limited) > len(self.committee.nodes) - self.committee.threshold

    @property
    def candidates(self) -> list[int]:
        """Who may still be asked."""
        out = self.down.keys() | self.refused.keys() | self.bad.keys()
        return [node.party for node in self.committee.nodes if node.party not in out]

    @property
    def is_hopeless(self) -> bool:
        """Whether nothing can come of further attempts."""
        return self.is_limited or len(self.candidates) < self.committee.threshold

    @property
    def causes(self) -> dict[int, str]:
        """Why nodes did not serve, by party."""
        causes = {party: str(error) for party, error in self.busy.items()}
        causes |= {party: f"refused: {error.message}" for party, error in self.refused.items()}
        causes |= {party: error.message for party, error in self.bad.items()}
        return dict(sorted((causes | self.down).items()))

    @property
    def told(self) -> str:
        """The causes as a person reads them; empty when there are none."""
        return "; ".join(f"node {party}: {cause}" for party, cause in self.causes.items())

    def used_up(self, silent: Iterable[int]) -> Unavailable:
        """Return the error when there are nodes left to ask, and no run left that the user signed."""
        causes = dict.fromkeys(silent, "did not answer in time") | self.causes
        told = "; ".join(f"node {party}: {cause}" for party, cause in sorted(causes.items()))
        return Unavailable(
            RUNS_USED_UP,
            f"none of the runs that were signed came to an end ({told or 'no set of nodes finished'})",
            "sign the request again, with other signers",
            needed=self.committee.threshold,
            live=len(self.committee.nodes) - len(self.down),
            causes=causes,
            parties=causes,
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
            return Unavailable("unavailable", told, needed=t, live=live, causes=self.causes)
        if self.sum_is_bad is not None:
            return self.sum_is_bad
        if self.bad and not self.refused:
            return next(iter(self.bad.values()))
        return Unavailable(
            "no_quorum",
            f"no {t} of {n} nodes serve this request ({self.told or 'no set of nodes finished'})",
            needed=t,
            live=live,
            causes=self.causes,
        )


def _refusal(refused: Mapping[int, NodeError]) -> Refused:
    """Return what most of the refusing nodes say, with the lowest party's words."""
    code, _ = Counter(error.code for _, error in sorted(refused.items())).most_common(1)[0]
    error = next(error for _, error in sorted(refused.items()) if error.code == code)
    parties = tuple(sorted(party for party, each in refused.items() if each.code == code))
    return Refused(code, error.message, error.hint, error.status, refused_by=parties)
