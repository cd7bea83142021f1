"""Drives one party's run of a protocol by hand: envelopes in, envelopes out, one result or one typed error.

A session advances its coroutine as soon as the current round is complete: one message of each expected part
(broadcast, private) from each other party. The network may reorder and repeat as it likes, so the rules are:

* A peer can be at most one round ahead, because its next round needs our message of this one. Envelopes of the
  current and the next round are kept, at most one per sender and part; anything else is dropped and counted, as is
  what carries another session id, comes from a stranger or is meant for someone else. Dropping never ends a run and
  blames nobody: such envelopes can be made or replayed by anybody, or by an honest peer at the wrong moment.
* Two *different* envelopes of one sender for one slot can come from nobody else (the link is authenticated and the
  sender is taken from it): `Blame`. So can bytes that do not decode: this is the one place where a peer's malformed
  bytes turn into blame.
* Broadcast over pairwise links is only a promise, so each envelope carries the hash of all broadcasts of the round
  before, as its sender saw them (Goldwasser-Lindell echo). A mismatch is an `Abort` that names nobody: either side,
  or the broadcaster, may be lying. The last round has no next message; a protocol whose output outlives the run
  ends with a round of its own that compares it.

After an error the session is closed: the coroutine is gone, and with it the secrets in its frame; every later envelope
is dropped. There is no clock here: who gives up waiting calls `close`.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from keyquorum.algebra.transcript import Hashable, Tag, tagged_hash
from keyquorum.rounds.errors import Abort, Blame
from keyquorum.rounds.message import Dims, Message
from keyquorum.rounds.party import Incoming, Outgoing, Party, check_party_ids

PROTOCOL_VERSION = 1
EARLY_LIMIT = 4 << 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message on its way. `to` None is a broadcast; `echo` is empty in round 1 and 32 bytes afterwards.

    The receiver of an envelope sets `sender` from the authenticated channel, never from what was sent.
    """

    sid: bytes
    round: int
    sender: int
    to: int | None
    payload: bytes = field(repr=False)
    echo: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Expected:
    """What the envelopes of one part of a round must decode to."""

    kind: type[Message]
    dims: Dims


# A slot of the inbox: round, sender, whether the part is private.
Slot = tuple[int, int, bool]


class Session(Generic[T]):
    """One party's side of one run; `start` once, then `receive` until `done` or an error."""

    def __init__(self, party: Party, protocol: Coroutine[Any, Any, T], early_limit: int = EARLY_LIMIT) -> None:
        """Envelopes of the next round larger than `early_limit` bytes are dropped."""
        self.party = party
        self.round = 0
        self.done = False
        self.closed = False
        self.dropped: Counter[str] = Counter()
        self.expected: dict[bool, Expected] = {}
        self._protocol = protocol
        self._early_limit = early_limit
        self._result: T | None = None
        self._raw: dict[Slot, Envelope] = {}
        self._read: dict[bool, dict[int, Message]] = {}
        self._own_broadcast: bytes | None = None
        self._echo = b""

    @property
    def result(self) -> T:
        """What the protocol returned; raises `ValueError` before it has."""
        if not self.done:
            raise ValueError("this run has no result")
        return self._result  # type: ignore[return-value]

    @property
    def heard(self) -> frozenset[int]:
        """The other parties whose messages of the current round are all here."""
        return frozenset(j for j in self.party.others if all(j in read for read in self._read.values()))

    def start(self) -> list[Envelope]:
        """Run to the first round and return its envelopes; raises what the protocol raises (`ValueError`: refused)."""
        if self.round or self.closed:
            raise ValueError("a session starts once")
        return self._guarded(lambda: self._step(None) + self._advance())

    def receive(self, envelope: Envelope) -> list[Envelope]:
        """Take one envelope and return those that it makes us send; raises `Abort` or `Blame` and is closed then."""
        slot = (envelope.round, envelope.sender, envelope.to is not None)
        reason = self._why_drop(envelope, slot)
        if reason is not None:
            self.dropped[reason] += 1
            return []
        return self._guarded(lambda: self._accept(slot, envelope))

    def close(self) -> None:
        """End the run here and now; its coroutine and everything it has received are gone."""
        self.closed = True
        self._protocol.close()
        self._raw.clear()
        self._read.clear()

    def _guarded(self, action: Callable[[], list[Envelope]]) -> list[Envelope]:
        try:
            return action()
        except BaseException:
            self.close()
            raise

    def _why_drop(self, envelope: Envelope, slot: Slot) -> str | None:
        """Return why an envelope does not count, or None; the order is that of who could have made it."""
        party, ahead = self.party, envelope.round - self.round
        if self.closed:
            return "closed"
        if envelope.sid != party.sid:
            return "sid"
        if envelope.sender == party.me or envelope.sender not in party.parties:
            return "sender"
        if envelope.to is not None and envelope.to != party.me:
            return "recipient"
        if ahead < 0 or self.done:
            return "late"
        if ahead > 1:
            return "too early"
        if ahead == 1 and len(envelope.payload) > self._early_limit:
            return "too large"
        if ahead == 0 and slot[2] not in self.expected:
            return "part"
        return "repeated" if self._raw.get(slot) == envelope else None

    def _accept(self, slot: Slot, envelope: Envelope) -> list[Envelope]:
        if slot in self._raw:
            raise Blame({envelope.sender}, "two different messages for one round")
        self._raw[slot] = envelope
        if envelope.round != self.round:
            return []
        self._decode(slot, envelope)
        return self._advance()

    def _decode(self, slot: Slot, envelope: Envelope) -> None:
        _, sender, private = slot
        expected = self.expected[private]
        try:
            message = expected.kind.decode(envelope.payload, expected.dims)
        except ValueError:
            raise Blame({sender}, f"malformed {expected.kind.__name__}") from None
        if not hmac.compare_digest(envelope.echo, self._echo):
            raise Abort("the parties saw different broadcasts in the round before")
        self._read[private][sender] = message

    def _advance(self) -> list[Envelope]:
        sent: list[Envelope] = []
        missing = len(self.party.others)
        while not self.done:
            for got in self._read.values():
                if len(got) < missing:
                    return sent
            read = {private: {j: part[j] for j in self.party.others} for private, part in self._read.items()}
            self._finish_round()
            sent += self._step(Incoming(read.get(False, {}), read.get(True, {})))
        return sent

    def _finish_round(self) -> None:
        """Hash this round's broadcasts for the echo and forget its envelopes."""
        broadcasts = {j: self._raw[self.round, j, False].payload for j in self._read.get(False, ())}
        if self._own_broadcast is not None:
            broadcasts[self.party.me] = self._own_broadcast
        seen = [value for j in sorted(broadcasts) for value in (j, broadcasts[j])]
        self._echo = tagged_hash(Tag.ECHO, self.party.sid, self.round, *seen)
        self._raw = {slot: kept for slot, kept in self._raw.items() if slot[0] != self.round}

    def _step(self, incoming: Incoming | None) -> list[Envelope]:
        try:
            outgoing = self._protocol.send(incoming)
        except StopIteration as stop:
            self._result, self.done = stop.value, True
            return []
        if not isinstance(outgoing, Outgoing):
            raise TypeError("a protocol awaits nothing but the rounds of its party")
        self.round += 1
        sent = self._envelopes(outgoing)
        for slot, envelope in sorted(self._raw.items()):
            if slot[2] in self.expected:
                self._decode(slot, envelope)
            else:
                self.dropped["part"] += 1
        return sent

    def _envelopes(self, outgoing: Outgoing) -> list[Envelope]:
        party, private, sent = self.party, outgoing.private or {}, []
        self.expected, self._own_broadcast = {}, None
        if outgoing.broadcast is not None:
            self._own_broadcast = self._expect(outgoing.broadcast, private=False)
            sent.append(Envelope(party.sid, self.round, party.me, None, self._own_broadcast, self._echo))
        for j, message in private.items():
            payload = self._expect(message, private=True)
            sent.append(Envelope(party.sid, self.round, party.me, j, payload, self._echo))
        self._read = {part: {} for part in self.expected}
        return sent

    def _expect(self, message: Message, private: bool) -> bytes:
        """Encode our message of one part and expect the others' to be of the same shape."""
        payload, kind = message.encode(), type(message)
        if private not in self.expected:
            self.expected[private] = Expected(kind, message.dims())
        known = self.expected[private]
        if kind is not known.kind or len(payload) != kind.length(known.dims):
            raise ValueError("the messages of one round have one shape")
        return payload


def session_id(
    *,
    chain_id: int,
    contract: str,
    purpose: str,
    epoch: int,
    parties: Sequence[int],
    parameters: Sequence[Hashable],
    nonces: Mapping[int, bytes] | None = None,
) -> bytes:
    """Return the 32-byte id that a run's every message carries.

    It fixes the protocol version, the network (chain, address of its registry), what the run is for, the epoch, the
    parties, the parameters of that purpose (for a signature: key, digests, request, attempt), and, where the purpose
    needs freshness, one nonce (32 bytes) of every party. Raises `ValueError` for bad parties or incomplete nonces.
    """
    check_party_ids(tuple(parties))
    fresh = dict(nonces or {})
    if nonces is not None and (sorted(fresh) != list(parties) or any(len(nonce) != 32 for nonce in fresh.values())):
        raise ValueError("a fresh session id takes one nonce of 32 bytes from every party")
    values = (PROTOCOL_VERSION, chain_id, contract.lower(), purpose, epoch, list(parties), list(parameters))
    return tagged_hash(Tag.SESSION_ID, *values, [fresh[j] for j in sorted(fresh)])
