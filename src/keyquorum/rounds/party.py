"""What a protocol function sees of the world: who it is, who the others are, and three ways to make a round.

A protocol is one `async` function that awaits nothing but a `Party`'s rounds. No event loop is involved: each round
is an object that goes out through `yield` to whoever drives the coroutine (`session.py`), and the others' messages
come back as the value of the `await`. Everything a protocol must not repeat (buffering, duplicates, decoding, blame
for malformed bytes, the echo of broadcasts) is done there, so protocol files hold mathematics only.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeVar

from keyquorum.algebra.rng import Rng
from keyquorum.rounds.message import Message

SID_BYTES = 32
MAX_PARTY_ID = 65535

M = TypeVar("M", bound=Message)
N = TypeVar("N", bound=Message)


@dataclass(frozen=True)
class Incoming:
    """What the others sent in one round, decoded, by sender."""

    broadcast: dict[int, Any]
    private: dict[int, Any]


@dataclass(frozen=True)
class Outgoing:
    """What one party sends in one round: the same to all, its own to each, or both."""

    broadcast: Message | None
    private: Mapping[int, Message] | None

    def __await__(self) -> Generator[Outgoing, Incoming, Incoming]:
        return (yield self)


@dataclass(frozen=True)
class Party:
    """P_me among `parties` (sorted PartyIds, 1..65535) in the run `sid` (32 bytes); `rng` is its randomness.

    Raises `ValueError` for ids that are not such integers, unsorted or repeated ones, fewer than two, or without `me`.
    """

    me: int
    parties: tuple[int, ...]
    sid: bytes
    rng: Rng = field(repr=False)

    def __post_init__(self) -> None:
        check_party_ids(self.parties)
        if type(self.me) is not int or self.me not in self.parties:
            raise ValueError("a party takes part in its own run")
        if not isinstance(self.sid, bytes) or len(self.sid) != SID_BYTES:
            raise ValueError(f"a session id has {SID_BYTES} bytes")

    @cached_property
    def others(self) -> tuple[int, ...]:
        """All parties but this one, sorted."""
        return tuple(j for j in self.parties if j != self.me)

    async def broadcast(self, message: M) -> dict[int, M]:
        """Make one round: send `message` to all; return everyone's by sender, one's own included."""
        incoming = await Outgoing(message, None)
        return self._with_own(message, incoming)

    async def scatter(self, messages: Mapping[int, M]) -> dict[int, M]:
        """Make one round: send each other party its own message; return what each sent to us."""
        self._check_private(messages)
        incoming = await Outgoing(None, messages)
        return incoming.private

    async def exchange(self, message: M, messages: Mapping[int, N]) -> tuple[dict[int, M], dict[int, N]]:
        """Make one round of both: a broadcast (own included in the answer) and a private message to each."""
        self._check_private(messages)
        incoming = await Outgoing(message, messages)
        return self._with_own(message, incoming), incoming.private

    def _with_own(self, message: M, incoming: Incoming) -> dict[int, M]:
        return {j: message if j == self.me else incoming.broadcast[j] for j in self.parties}

    def _check_private(self, messages: Mapping[int, Message]) -> None:
        if tuple(sorted(messages)) != self.others:
            raise ValueError("a private round has one message for each other party")


def check_party_ids(parties: tuple[int, ...]) -> None:
    """Raise `ValueError` unless `parties` are at least two increasing PartyIds.

    Ids are Shamir coordinates: 0 would be the secret itself and two equal ones make interpolation divide by zero. They
    come from the chain; they are bounded here so that distinct also means distinct modulo q.
    """
    if any(type(j) is not int or not 1 <= j <= MAX_PARTY_ID for j in parties):
        raise ValueError(f"a party id is an integer in 1..{MAX_PARTY_ID}")
    if len(parties) < 2 or any(a >= b for a, b in pairwise(parties)):
        raise ValueError("parties are at least two, sorted and distinct")
