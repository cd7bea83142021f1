"""A trusted dealer, for tests only: keys and correlations out of thin air, so that signing is tested by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from keyquorum.algebra.curve import generator_times
from keyquorum.algebra.field import Q, random_scalar, random_scalars
from keyquorum.algebra.polynomial import evaluate
from keyquorum.algebra.rng import SeededRng
from keyquorum.protocols.correlations import Inventory
from keyquorum.protocols.dkg import generate
from keyquorum.protocols.key_share import KeyShare, PendingKeys
from keyquorum.protocols.sign import SignatureShares, sign
from keyquorum.rounds.party import Party
from keyquorum.rounds.session import Session
from keyquorum.rounds.simulate import simulate

SID = bytes(range(32))
DIGEST = b"\x11" * 32


@dataclass
class DealtSenderBatch:
    batch: int
    a_u: list[int] = field(default_factory=list)
    a_v: list[int] = field(default_factory=list)
    c_u: list[int] = field(default_factory=list)
    c_v: list[int] = field(default_factory=list)


@dataclass
class DealtReceiverBatch:
    batch: int
    chi: list[int] = field(default_factory=list)
    d_u: list[int] = field(default_factory=list)
    d_v: list[int] = field(default_factory=list)


def deal_key(n: int, t: int, seed: int | str = 0, parties: Sequence[int] | None = None) -> dict[int, KeyShare]:
    """One key, shared over parties 1..n (or the given ids)."""
    ids = tuple(parties or range(1, n + 1))
    f = random_scalars(SeededRng(f"key {seed}"), t)
    shares = {j: evaluate(f, j) for j in ids}
    public = {j: generator_times(x) for j, x in shares.items()}
    return {j: KeyShare(shares[j], generator_times(f[0]), public, j, t, ids) for j in ids}


def deal_batch(rng: SeededRng, number: int, size: int) -> tuple[DealtSenderBatch, DealtReceiverBatch]:
    a, b = DealtSenderBatch(number), DealtReceiverBatch(number)
    for _ in range(size):
        a_u, a_v, chi, c_u, c_v = (random_scalar(rng) for _ in range(5))
        for column, value in ((a.a_u, a_u), (a.a_v, a_v), (a.c_u, c_u), (a.c_v, c_v)):
            column.append(value)
        for column, value in ((b.chi, chi), (b.d_u, (a_u * chi - c_u) % Q), (b.d_v, (a_v * chi - c_v) % Q)):
            column.append(value)
    return a, b


def link_of(sender: int, receiver: int) -> bytes:
    return bytes([0, sender, 0, receiver]).rjust(16, b"L")


def deal_correlations(
    inventories: Mapping[int, Inventory], size: int, seed: int | str = 0, number: int = 0
) -> Mapping[int, Inventory]:
    """One batch for each ordered pair of parties, and the pairs' zero seeds."""
    rng = SeededRng(f"correlations {seed} {number}")
    for i, mine in inventories.items():
        for j, theirs in inventories.items():
            if i == j:
                continue
            a, b = deal_batch(rng, number, size)
            theirs.add_receiver(i, link_of(i, j), b)
            mine.add_sender(j, link_of(i, j), a)
            if i < j and number == 0:
                zero_seed = rng.bytes(32)
                mine.set_zero_seed(j, zero_seed)
                theirs.set_zero_seed(i, zero_seed)
    return inventories


def deal_inventories(parties: Sequence[int], size: int, seed: int | str = 0) -> dict[int, Inventory]:
    return dict(deal_correlations({j: Inventory() for j in parties}, size, seed))


def party_of(me: int, parties: Sequence[int], seed: int | str = 0, sid: bytes = SID) -> Party:
    return Party(me, tuple(parties), sid, SeededRng(f"party {me} {seed}"))


def sessions_of(
    parties: Sequence[int], protocol: Callable[[Party], object], seed: int | str = 0, sid: bytes = SID
) -> dict[int, Session]:
    """One session per party, each running protocol(party)."""
    all_parties = {j: party_of(j, parties, seed, sid) for j in parties}
    return {j: Session(party, protocol(party)) for j, party in all_parties.items()}


def signing_sessions(
    keys: Mapping[int, KeyShare],
    inventories: Mapping[int, Inventory],
    signers: Sequence[int],
    digests: Sequence[bytes] = (DIGEST,),
    seed: int | str = 0,
    sid: bytes = SID,
) -> dict[int, Session[SignatureShares]]:
    return sessions_of(signers, lambda p: sign(p, keys[p.me], list(digests), inventories[p.me]), seed, sid)


def make_keys(n: int, t: int, batch: int = 1, seed: int | str = 0) -> dict[int, PendingKeys]:
    """Real key generation by n honest parties."""
    outcome = simulate(sessions_of(range(1, n + 1), lambda p: generate(p, t, batch), seed), seed)
    assert not outcome.errors
    return outcome.results
