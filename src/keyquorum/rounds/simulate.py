"""A network in a loop: all parties of a run in one process, messages in a seeded random order, with faults.

Nothing in a session waits for the outside, so a simulation is: take a random message off the wire, deliver it, put
what comes out on the wire. The same seed gives the same run. Faults have a *budget* for the whole run rather than a
probability per message, so that every run ends: with each party holding a result, an error, or nothing because a
message it needed was lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from keyquorum.algebra.rng import SeededRng
from keyquorum.rounds.errors import Abort
from keyquorum.rounds.session import Envelope, Session

T = TypeVar("T")

# What reaches `to` instead of the envelope: nothing, it, or others.
Tamper = Callable[[Envelope, int], Iterable[Envelope]]


@dataclass
class Outcome(Generic[T]):
    """How a simulated run ended, by party: `results`, `errors`, and who was left waiting (in neither)."""

    results: dict[int, T] = field(default_factory=dict)
    errors: dict[int, Abort] = field(default_factory=dict)
    delivered: int = 0
    lost: int = 0


@dataclass
class _Wire:
    """Messages under way, each with its recipient, taken off in a random order."""

    rng: SeededRng
    parties: tuple[int, ...]
    tamper: Tamper | None
    flying: list[tuple[int, Envelope]] = field(default_factory=list)

    def post(self, envelopes: Iterable[Envelope]) -> None:
        for envelope in envelopes:
            for to in self.parties if envelope.to is None else (envelope.to,):
                if to != envelope.sender:
                    arriving = self.tamper(envelope, to) if self.tamper else (envelope,)
                    self.flying += [(to, each) for each in arriving]

    def take(self) -> tuple[int, Envelope]:
        position = self.below(len(self.flying))
        self.flying[position], self.flying[-1] = self.flying[-1], self.flying[position]
        return self.flying.pop()

    def below(self, bound: int) -> int:
        return int.from_bytes(self.rng.bytes(8), "big") % bound


def simulate(
    sessions: Mapping[int, Session[T]],
    seed: int | str,
    *,
    duplicates: int = 0,
    losses: int = 0,
    retransmit: bool = False,
    tamper: Tamper | None = None,
) -> Outcome[T]:
    """Run `sessions` (by party) against each other and say how it ended.

    `duplicates` and `losses` are budgets: so many messages arrive twice, or not at all (with `retransmit`: later).
    `tamper` sees each message with its recipient and returns what arrives in its place. An error of one party stops
    that party only; errors that are not `Abort` (a refusal, a bug) end the simulation.
    """
    wire = _Wire(SeededRng(f"simulate {seed}"), tuple(sorted(sessions)), tamper)
    outcome: Outcome[T] = Outcome()
    try:
        for party, session in sessions.items():
            _act(outcome, wire, party, session, session.start)
        while wire.flying:
            to, envelope = wire.take()
            if losses and wire.below(8) == 0:
                losses -= 1
                outcome.lost += 1
                if retransmit:
                    wire.flying.append((to, envelope))
                continue
            if duplicates and wire.below(4) == 0:
                duplicates -= 1
                wire.flying.append((to, envelope))
            outcome.delivered += 1
            _act(outcome, wire, to, sessions[to], partial(sessions[to].receive, envelope))
    except BaseException:
        for session in sessions.values():
            session.close()
        raise
    return outcome


def _act(
    outcome: Outcome[T], wire: _Wire, party: int, session: Session[T], action: Callable[[], list[Envelope]]
) -> None:
    try:
        wire.post(action())
    except Abort as error:
        outcome.errors[party] = error
    if session.done:
        outcome.results[party] = session.result
