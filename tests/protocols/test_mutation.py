"""The mutation sweep: every field of every message, replaced by everything it could be, one at a time.

One party (the mutant) sends one changed message to another (the victim), or to all. Each run must end as the protocols'
pages say: a typed error with the documented culprit, or a dropped message that leaves the run waiting. Nobody ever
names an honest party, and the victim hands out nothing. Fields are found by the messages' own declarations, so a new
field is swept too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from dealer import DIGEST, deal_inventories, deal_key, make_keys, sessions_of, signing_sessions
from keyquorum.algebra.curve import Point, generator_times
from keyquorum.algebra.field import Q
from keyquorum.algebra.rng import SeededRng
from keyquorum.protocols import dkg, sign
from keyquorum.rounds.errors import Abort, Blame
from keyquorum.rounds.message import Kind, Message, layout, spans
from keyquorum.rounds.session import Envelope, Session
from keyquorum.rounds.simulate import Outcome, simulate

NOBODY, MUTANT = "nobody", "the mutant"
UNSEEN = "unseen"  # no check of this run can tell: a later one must

# What the pages say about a well-formed but wrong value.
DOCUMENTED: dict[tuple[type[Message], str], str] = {
    (dkg.Commitment, "digest"): NOBODY,  # the echo: the parties saw different broadcasts
    (dkg.Opening, "A"): MUTANT,
    (dkg.Opening, "K"): MUTANT,
    (dkg.Opening, "z"): MUTANT,
    (dkg.Opening, "salt"): MUTANT,
    (dkg.Shares, "f"): MUTANT,
    (dkg.Confirmation, "digest"): NOBODY,
    (sign.Commitment, "digest"): NOBODY,  # the echo
    (sign.Names, "names"): MUTANT,
    (sign.Products, "R"): MUTANT,
    (sign.Products, "salt"): MUTANT,
    (sign.Products, "pk"): MUTANT,
    (sign.Products, "Gamma_u"): MUTANT,
    (sign.Products, "Gamma_v"): MUTANT,
    (sign.Products, "psi"): UNSEEN,  # the combined signature is wrong
    (sign.Products, "D_u"): MUTANT,
    (sign.Products, "D_v"): MUTANT,
}


@dataclass(frozen=True)
class Protocol:
    """A protocol to sweep: its messages by (round, private), and how to set up a run."""

    name: str
    parties: tuple[int, ...]
    messages: dict[tuple[int, bool], tuple[type[Message], dict[str, int]]]
    sessions: Callable[[bytes, str], dict[int, Session]]


SID, OLD_SID = b"n" * 32, b"o" * 32
N, T = 3, 2
PENDING = make_keys(N, T)
KEYS = deal_key(4, 3)
SIGNERS = (1, 2, 3)


def _signing(sid: bytes, seed: str) -> dict[int, Session]:
    pools = deal_inventories(SIGNERS, 2)
    if sid == SID:  # the first correlation of each pair was spent by the run before
        for i, pool in pools.items():
            for j in SIGNERS:
                if i != j:
                    pools[j].take(i, [name for name, _ in pool.reserve(j, 1)])
    return signing_sessions(KEYS, pools, SIGNERS, [DIGEST], seed, sid)


SWEPT = [
    Protocol(
        "dkg",
        (1, 2, 3),
        {
            (1, False): (dkg.Commitment, {}),
            (2, False): (dkg.Opening, {"batch": 1, "t": T}),
            (2, True): (dkg.Shares, {"batch": 1}),
        },
        lambda sid, seed: sessions_of((1, 2, 3), lambda p: dkg.generate(p, T, 1), seed, sid),
    ),
    Protocol(
        "confirm",
        (1, 2, 3),
        {(1, False): (dkg.Confirmation, {})},
        lambda sid, seed: sessions_of(
            (1, 2, 3), lambda p: dkg.confirm(p, (PENDING if sid == SID else make_keys(N, T, 1, 9))[p.me]), seed, sid
        ),
    ),
    Protocol(
        "sign",
        SIGNERS,
        {
            (1, False): (sign.Commitment, {}),
            (1, True): (sign.Names, {"batch": 1}),
            (2, True): (sign.Products, {"batch": 1}),
        },
        _signing,
    ),
]

Slot = tuple[int, int, int, bool]  # sender, recipient, round, private


def recorded(protocol: Protocol, sid: bytes, seed: str) -> dict[Slot, Envelope]:
    """Every message of an honest run."""
    seen: dict[Slot, Envelope] = {}

    def watch(envelope: Envelope, to: int) -> list[Envelope]:
        seen[envelope.sender, to, envelope.round, envelope.to is not None] = envelope
        return [envelope]

    outcome = simulate(protocol.sessions(sid, seed), 0, tamper=watch)
    assert sorted(outcome.results) == list(protocol.parties)
    return seen


def replacements(kind: Kind, value: bytes, previous: bytes, anothers: bytes, extra: int) -> Iterator[bytes]:
    """Everything an item is replaced by; `extra` random bit flips on top."""
    size = kind.size
    yield from (previous, anothers, bytes(size), b"\xff" * size)
    rng = SeededRng(value)
    flips = [0, 8 * size - 1, *(int.from_bytes(rng.bytes(4), "big") % (8 * size) for _ in range(extra))]
    for bit in flips:
        yield (int.from_bytes(value, "big") ^ 1 << bit).to_bytes(size, "big")
    if kind.name == "scalar":
        number = int.from_bytes(value, "big")
        for other in (1, Q - 1, Q, Q + 1, (number + 1) % Q, (Q - number) % Q):
            yield other.to_bytes(32, "big")
    if kind.name == "point":
        point = Point.from_bytes_checked(value)
        parity = value[64] & 1
        for other in (-point, generator_times(1), point + generator_times(1)):
            yield other.to_bytes()
        for first in (0, 1, 2, 3, 5, 6 + parity, 7 - parity, 0x84):
            yield bytes([first]) + value[1:]
        yield b"\x04" + bytes(64)
        yield bytes([2 + parity]) + value[1:33] + bytes(32)
        yield bytes(32) + bytes([2 + parity]) + value[1:33]
        yield b"\x04" + value[33:] + value[1:33]


def expected_of(kind: Kind, cls: type[Message], field: str, data: bytes) -> str:
    try:
        kind.decode(data)
    except ValueError:
        return MUTANT
    return DOCUMENTED[cls, field]


@dataclass
class Mutation:
    """One changed message: what it is, what it becomes, and how the victim's run must end."""

    what: str
    slot: tuple[int, bool]
    change: Callable[[Envelope], list[Envelope]]
    expected: set[str]


def with_payload(payload: bytes) -> Callable[[Envelope], list[Envelope]]:
    return lambda envelope: [replace(envelope, payload=payload)]


def field_mutations(
    protocol: Protocol, new: dict, old: dict, sender: int, victim: int, extra: int
) -> Iterator[Mutation]:
    third = next(j for j in protocol.parties if j not in (sender, victim))
    for (round_, private), (cls, dims) in protocol.messages.items():
        payload = new[sender, victim, round_, private].payload
        previous = old[sender, victim, round_, private].payload
        anothers = new[third, victim, round_, private].payload
        for field, kind, start in spans(cls, dims):
            end = start + kind.size
            for data in replacements(kind, payload[start:end], previous[start:end], anothers[start:end], extra):
                if data != payload[start:end]:
                    changed = with_payload(payload[:start] + data + payload[end:])
                    what = f"{protocol.name} {cls.__name__}.{field} at {start}: {data.hex()}"
                    yield Mutation(what, (round_, private), changed, {expected_of(kind, cls, field, data)})


def message_mutations(protocol: Protocol, new: dict, old: dict, sender: int, victim: int) -> Iterator[Mutation]:
    third = next(j for j in protocol.parties if j not in (sender, victim))
    for (round_, private), (cls, _) in protocol.messages.items():
        envelope = new[sender, victim, round_, private]
        payload = envelope.payload
        swaps = [other.payload for slot, other in new.items() if slot[2:] != (round_, private)]
        lengths = [
            b"",
            payload[:-1],
            payload[:-32],
            payload[:-65],
            payload + b"\0",
            payload + bytes(32),
            payload + bytes(65),
        ]
        slot = (round_, private)
        for data in (*lengths, payload * 2, payload * 100, *swaps):
            if len(data) != len(payload):
                yield Mutation(
                    f"{protocol.name} {cls.__name__}: length {len(data)}", slot, with_payload(data), {MUTANT}
                )
        outcomes = {f for (c, _), f in DOCUMENTED.items() if c is cls}
        wrong = {MUTANT} if MUTANT in outcomes else outcomes
        for data in (old[sender, victim, round_, private].payload, new[third, victim, round_, private].payload):
            if data != payload:
                what = f"{protocol.name} {cls.__name__}: another whole message"
                yield Mutation(what, slot, with_payload(data), wrong)
        for echo in (b"", bytes(32), b"\xff" * 32, envelope.echo[:-1], envelope.echo + b"\0"):
            if echo != envelope.echo:
                change = lambda e, echo=echo: [replace(e, echo=echo)]  # noqa: E731
                yield Mutation(f"{protocol.name} {cls.__name__}: echo", slot, change, {NOBODY})
        for name, changes in {
            "session": {"sid": OLD_SID}, "sender": {"sender": 77}, "recipient": {"to": third},
            "past round": {"round": round_ - 1}, "far round": {"round": round_ + 2},
        }.items():  # fmt: skip
            change = lambda e, changes=changes: [replace(e, **changes)]  # noqa: E731
            # A message of round 2 labelled 1 may meet a victim that is still in round 1: a second, different message.
            expected = {"waiting", MUTANT} if name == "past round" and round_ > 1 else {"waiting"}
            yield Mutation(f"{protocol.name} {cls.__name__}: other {name}", slot, change, expected)
        # In the next round's place it meets the mutant's real message of that round, where there is one.
        yield Mutation(
            f"{protocol.name} {cls.__name__}: next round",
            slot,
            lambda e: [replace(e, round=e.round + 1)],
            {"waiting", MUTANT},
        )
        yield Mutation(
            f"{protocol.name} {cls.__name__}: second version",
            slot,
            lambda e: [e, replace(e, payload=bytes([e.payload[0] ^ 1]) + e.payload[1:])],
            {MUTANT, "done", NOBODY},
        )
        yield Mutation(f"{protocol.name} {cls.__name__}: repeated", slot, lambda e: [e, e], {"done"})
        yield Mutation(f"{protocol.name} {cls.__name__}: missing", slot, lambda e: [], {"waiting"})


def ending(outcome: Outcome, victim: int, sender: int, what: str) -> str:
    """How the victim's run ended, after the checks that hold for every party."""
    for party, error in outcome.errors.items():
        if isinstance(error, Blame):
            assert error.culprits <= {sender}, f"{what}: {party} names an honest party"
    if victim in outcome.results:
        assert victim not in outcome.errors
        return "done"
    if victim not in outcome.errors:
        return "waiting"
    return MUTANT if isinstance(outcome.errors[victim], Blame) else NOBODY


def check(protocol: Protocol, mutation: Mutation, sender: int, victim: int, everyone: bool, seed: int) -> None:
    def tamper(envelope: Envelope, to: int) -> list[Envelope]:
        hit = envelope.sender == sender and (everyone or to == victim)
        return (
            mutation.change(envelope)
            if hit and (envelope.round, envelope.to is not None) == mutation.slot
            else [envelope]
        )

    outcome = simulate(protocol.sessions(SID, "new"), seed, tamper=tamper)
    ended = ending(outcome, victim, sender, mutation.what)
    allowed = {"done" if e == UNSEEN else e for e in mutation.expected}
    if NOBODY in allowed and ended == "waiting":
        # Another party saw the difference first, and stopped before its next message.
        assert outcome.errors, mutation.what
        return
    assert ended in allowed, f"{mutation.what}: {ended}, not {allowed}"
    if UNSEEN in mutation.expected and ended == "done":
        shares = {j: result.rows[0] for j, result in outcome.results.items()}
        with pytest.raises(Abort):
            sign.combine(shares, outcome.results[victim].R[0], DIGEST, KEYS[1].public_key)


def sweep(protocol: Protocol, sender: int, victim: int, extra: int, seed: int) -> int:
    new, old = recorded(protocol, SID, "new"), recorded(protocol, OLD_SID, "old")
    count = 0
    for mutation in field_mutations(protocol, new, old, sender, victim, extra):
        private = mutation.slot[1]
        for everyone in (False,) if private else (False, True):
            check(protocol, mutation, sender, victim, everyone, seed)
            count += 1
    for mutation in message_mutations(protocol, new, old, sender, victim):
        check(protocol, mutation, sender, victim, False, seed)
        count += 1
    return count


@pytest.mark.parametrize("protocol", SWEPT, ids=lambda protocol: protocol.name)
def test_every_mutation_of_every_field_ends_as_documented(protocol: Protocol) -> None:
    assert sweep(protocol, sender=2, victim=1, extra=0, seed=1) > 30


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("protocol", SWEPT, ids=lambda protocol: protocol.name)
@pytest.mark.parametrize("seed", range(3))
def test_every_mutation_between_every_two_parties_in_many_orders(protocol: Protocol, seed: int) -> None:
    for sender in protocol.parties:
        for victim in protocol.parties:
            if sender != victim:
                sweep(protocol, sender, victim, extra=8, seed=seed)


def test_the_sweep_knows_every_field_of_every_message() -> None:
    declared = {
        (cls, name)
        for cls in Message.registry.values()
        if cls.__module__.startswith("keyquorum.")
        for name, _ in layout(cls)
    }
    assert declared == set(DOCUMENTED)
    assert {cls for cls, _ in declared} == {cls for protocol in SWEPT for cls, _ in protocol.messages.values()}
