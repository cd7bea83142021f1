"""The runs of one request: which sets of signers the user has signed, and which of them is made next.

A request names its runs (spec/auth.md, section 5), so nobody but the user chooses who signs. Whoever holds the session
key signs one set, and again with one more each time he learned something (`FreshRuns`). Whoever asks through a gateway
signs eight sets ahead, spread so that whichever nodes fail, one of them is likely to be without them (`spread`); the
gateway has only these (`SignedRuns`) and says so when none is left.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, cycle, islice
from math import comb
from typing import Any

from keyquorum.auth.request import MAX_RUNS
from keyquorum.client.choice import Doubts, NodeBook
from keyquorum.client.transport import encode

Signers = tuple[int, ...]
SEARCHED = 300
STRIDES = 2
LOST_TOGETHER = 3
FEW = 8


@dataclass(frozen=True)
class Asked:
    """A request that can be signed again: its id, and `sign(runs)`, the body for a node without `run`."""

    id: str
    sign: Callable[[Sequence[Signers]], dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """One run: who signs, and the body that asks each of them."""

    signers: Signers
    body: bytes


class Runs(ABC):
    """Where the runs of one request come from; `request_id` orders nodes that are equally good.

    `ahead`: they were signed ahead by somebody else, who must sign again when none is left.
    """

    request_id: str
    ahead = False

    @abstractmethod
    def next(
        self, book: NodeBook, candidates: Sequence[int], t: int, failed: Collection[frozenset[int]], doubts: Doubts
    ) -> Run | None:
        """Return the best run that was not made yet, of `candidates` only; None when nothing more is signed.

        `failed` are sets that did not work, `doubts` what this request has against nodes.
        """


class FreshRuns(Runs):
    """Runs that are signed when they are needed: a node sees no set but those it is in, and those before."""

    def __init__(self, asked: Asked) -> None:
        self.request_id = asked.id
        self._sign = asked.sign
        self._made: list[Signers] = []

    def next(
        self, book: NodeBook, candidates: Sequence[int], t: int, failed: Collection[frozenset[int]], doubts: Doubts
    ) -> Run | None:
        """Return a run of the best signers; None after the eighth."""
        if len(self._made) == MAX_RUNS:
            return None
        signers = book.choose(candidates, t, self.request_id, failed, doubts)
        self._made.append(signers)
        return Run(signers, encode(self._sign(self._made) | {"run": len(self._made) - 1}))


class SignedRuns(Runs):
    """Runs that somebody else has signed; each is made once."""

    ahead = True

    def __init__(self, request_id: str, body: Mapping[str, Any], runs: Sequence[Signers]) -> None:
        """`body` is what a node is sent, without `run`."""
        self.request_id = request_id
        self._body = dict(body)
        self._left = dict(enumerate(runs))

    def next(
        self, book: NodeBook, candidates: Sequence[int], t: int, failed: Collection[frozenset[int]], doubts: Doubts
    ) -> Run | None:
        """Return the run of the least suspect signers."""
        able = {number: set(signers) for number, signers in self._left.items() if set(signers) <= set(candidates)}
        if not able:
            return None

        def rank(number: int) -> tuple[bool, tuple[int, float], int]:
            return frozenset(able[number]) in failed, book.badness(able[number], doubts), number

        number = min(able, key=rank)
        return Run(self._left.pop(number), encode(self._body | {"run": number}))


def spread(
    parties: Collection[int], t: int, request_id: str, avoid: Collection[int] = (), count: int = MAX_RUNS
) -> list[Signers]:
    """Return `count` sets of t of the `parties`, such that as many losses as possible leave one of them whole.

    The nodes in `avoid` are in none of them as long as t others are left, then in the later ones. Each next set is the
    one that survives most of the losses (of one node, then of two, of three) that no set before survives. Among equals
    the order is a hash of the request id. When there are fewer sets than `count` they begin again: what failed may have
    passed.
    """
    order = sorted(
        parties, key=lambda party: (party in avoid, hashlib.sha256(f"{request_id}|{party}".encode()).digest())
    )
    good = [party for party in order if party not in avoid]
    found = _cover(good, t, count)
    found += [signers for signers in _cover(order, t, count) if signers not in found]
    return list(islice(cycle(found[:count]), count))


def fresh(runs: Sequence[Signers], used: Collection[tuple[int, Signers]]) -> list[Signers]:
    """Return `runs` turned around so that few are under a number that they were `used` under: nodes repeat those."""
    turns = [[*runs[start:], *runs[:start]] for start in range(len(runs))]
    return min(turns, key=lambda turn: len(set(enumerate(turn)) & set(used)))


def _cover(order: Sequence[int], t: int, count: int) -> list[Signers]:
    return [tuple(sorted(order[place] for place in places)) for places in _pattern(len(order), t, count)]


@cache
def _pattern(n: int, t: int, count: int) -> tuple[Signers, ...]:
    """Return at most `count` different sets of t of the places 0..n-1; the first is 0..t-1."""
    left = list(_some_sets(n, t))
    found: list[Signers] = []
    survived: set[frozenset[int]] = set()
    while left and len(found) < count:
        best = max(left, key=lambda places: _gain(n, places, survived))
        left.remove(best)
        found.append(best)
        survived |= _survives(n, best)
    return tuple(found)


def _some_sets(n: int, t: int) -> Iterable[Signers]:
    if comb(n, t) <= SEARCHED:
        return combinations(range(n), t)
    # Too many to try: blocks around a circle, at several strides.
    blocks = [[(start + stride * i) % n for i in range(t)] for stride in range(1, STRIDES + 1) for start in range(n)]
    return dict.fromkeys(tuple(sorted(block)) for block in blocks if len(set(block)) == t)


def _survives(n: int, places: Signers) -> set[frozenset[int]]:
    """Return the losses of up to three nodes (fewer, where there are many nodes) that leave these whole."""
    others = [place for place in range(n) if place not in places]
    most = max(1, LOST_TOGETHER - len(others) // FEW)
    return {frozenset(lost) for size in range(1, most + 1) for lost in combinations(others, size)}


def _gain(n: int, places: Signers, survived: Collection[frozenset[int]]) -> tuple[int, ...]:
    new = [len(lost) for lost in _survives(n, places) if lost not in survived]
    return tuple(new.count(size) for size in range(1, LOST_TOGETHER + 1))
