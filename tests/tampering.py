"""Cheating parties for the simulator: change, repeat or replace messages on their way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from keyquorum.rounds.errors import Abort, Blame
from keyquorum.rounds.message import Message
from keyquorum.rounds.session import Envelope
from keyquorum.rounds.simulate import Outcome, Tamper


def changing(
    kind: type[Message],
    dims: dict[str, int],
    edit: Callable[[Message], Message],
    sender: int,
    in_round: int,
    to: int | None = None,
) -> Tamper:
    """`sender` changes its message of `kind` in `in_round`, towards `to` or everyone."""

    def tamper(envelope: Envelope, recipient: int) -> Iterable[Envelope]:
        mine = (envelope.sender, envelope.round) == (sender, in_round) and to in (None, recipient)
        if not mine or len(envelope.payload) != kind.length(dims):
            return [envelope]
        edited = edit(kind.decode(envelope.payload, dims))
        return [replace(envelope, payload=edited.encode())]

    return tamper


def with_row(values: list, row: int, value: object) -> list:
    """The list with one item replaced."""
    return [*values[:row], value, *values[row + 1 :]]


def verdicts(outcome: Outcome) -> dict[int, tuple[str, frozenset[int]]]:
    """What each party that failed said, and whom it named."""
    return {i: (str(e).split(":")[0], culprits(e)) for i, e in outcome.errors.items()}


def culprits(error: Abort) -> frozenset[int]:
    return error.culprits if isinstance(error, Blame) else frozenset()
