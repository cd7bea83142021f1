"""What nodes tell each other to make keys: the notices of a ceremony and of a certification (`minting.py`).

Notices come over authenticated links from nodes that may cheat, so they are decoded strictly; what they say is checked
where it is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from keyquorum.algebra import field as scalar
from keyquorum.node.runs.runner import PeerUnreachable, RunTimeout
from keyquorum.protocols.sign import SignatureShare
from keyquorum.rounds.errors import Blame

GATHER_SECONDS = 10.0
Notify = Callable[[int, str, bytes, bytes], bool]


class Proposal(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The leader's wish: how many keys, and what for."""

    purpose: str
    size: int
    epoch: int


class Start(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Everybody's nonces: the ceremony begins."""

    proposal: Proposal
    nonces: dict[int, bytes]


class Ask(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The leader's request to certify a confirmed batch as number `number`."""

    number: int
    signers: list[int]
    nonce: bytes


class Answer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A signer's share of the certification."""

    w: bytes
    u: bytes
    R: bytes


class Certified(NamedTuple):
    """A batch's number and the network key's signature (r, s, v: 65 bytes) under which it is registered."""

    number: int
    compact: bytes


def share_of(party: int, data: bytes) -> SignatureShare:
    """Return the share in a party's `Answer`; raise `Blame` when there is none in it."""
    try:
        answer = decode(data, Answer)
        return SignatureShare(scalar.from_bytes_checked(answer.w), scalar.from_bytes_checked(answer.u))
    except (ValueError, msgspec.DecodeError):
        raise Blame({party}, "its share of a certification is none") from None


def decode(data: bytes, kind: type[Any]) -> Any:
    """Return a notice; raise `msgspec.DecodeError` when it is not one of that kind."""
    return msgspec.msgpack.decode(data, type=kind)


@dataclass
class _Gathering:
    wanted: frozenset[int]
    got: dict[int, bytes] = field(default_factory=dict)
    complete: asyncio.Event = field(default_factory=asyncio.Event)


class Gatherings:
    """Answers of other nodes that a leader waits for, by topic and reference."""

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._open: dict[tuple[str, bytes], _Gathering] = {}

    async def gather(
        self, topic: str, reference: bytes, wanted: list[int], ask_topic: str, ask: bytes
    ) -> dict[int, bytes]:
        """Send `ask` to all `wanted` and return what each answers; raises `PeerUnreachable`, `RunTimeout`."""
        gathering = self._open[topic, reference] = _Gathering(frozenset(wanted))
        try:
            for peer in wanted:
                if not self._notify(peer, ask_topic, reference, ask):
                    raise PeerUnreachable(frozenset({peer}))
            await asyncio.wait_for(gathering.complete.wait(), GATHER_SECONDS)
        except TimeoutError:
            raise RunTimeout(gathering.wanted - set(gathering.got)) from None
        finally:
            del self._open[topic, reference]
        return gathering.got

    def take(self, peer: int, topic: str, reference: bytes, payload: bytes) -> bool:
        """Take a notice if it is about something that is gathered; of a node, the first answer counts."""
        gathering = self._open.get((topic, reference))
        if gathering is None:
            return False
        if peer in gathering.wanted and peer not in gathering.got:
            gathering.got[peer] = payload
            if len(gathering.got) == len(gathering.wanted):
                gathering.complete.set()
        return True
