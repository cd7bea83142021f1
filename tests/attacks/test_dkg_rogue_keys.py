"""T01, T02, T07: a dealer that wants more than its share of a key."""

from __future__ import annotations

import resource
import time
from dataclasses import replace

import pytest

from dealer import SID, make_keys, party_of, sessions_of
from keyquorum.algebra.curve import Point, PointAtInfinity, generator_times, sum_points
from keyquorum.algebra.field import Q, random_scalars
from keyquorum.algebra.polynomial import evaluate
from keyquorum.algebra.rng import SeededRng
from keyquorum.protocols import dkg
from keyquorum.protocols.dkg import Commitment, Opening, Shares, generate
from keyquorum.protocols.proofs import Proof, prove
from keyquorum.rounds.errors import Abort, Blame
from keyquorum.rounds.session import Envelope, Session
from keyquorum.rounds.simulate import simulate

N, T = 4, 3
DIMS = {"batch": 1, "t": T}
CHEAT = 2
TARGET = generator_times(0xBADC0DE)


def honest_opening(party, f: list[int], length: int = T, row: int = 0) -> Opening:
    A = [generator_times(a) for a in f[:length]]
    proof = prove(party.rng, f[0], A[0], party.sid, party.me, row)
    return Opening([A], [proof.K], [proof.z], bytes(32))


def run_with_cheat(opening_of, f: list[int], seed: int = 0):
    """P_2 commits to and sends what `opening_of` makes, and shares of f; the rest of it is honest."""
    opening = opening_of(party_of(CHEAT, range(1, N + 1), seed))

    async def dealing(party):
        await party.broadcast(Commitment(dkg._commit(SID, party.me, opening)))
        dummy = honest_opening(party, f)
        return await party.exchange(dummy, {j: Shares([evaluate(f, j)]) for j in party.others})

    def tamper(envelope: Envelope, to: int) -> list[Envelope]:
        opens = (envelope.sender, envelope.round, envelope.to) == (CHEAT, 2, None)
        return [replace(envelope, payload=opening.encode()) if opens else envelope]

    sessions = sessions_of(range(1, N + 1), lambda p: dealing(p) if p.me == CHEAT else generate(p, T, 1), seed)
    return simulate(sessions, seed, tamper=tamper)


def nobody_finishes_and_nobody_honest_is_named(outcome) -> None:
    honest = [j for j in range(1, N + 1) if j != CHEAT]
    assert not set(outcome.results) & set(honest)
    assert any(isinstance(outcome.errors.get(j), Blame) for j in honest)
    for j in honest:
        if isinstance(outcome.errors.get(j), Blame):
            assert outcome.errors[j].culprits == {CHEAT}


@pytest.mark.parametrize("length", [1, T - 1, T + 1, 2 * T])
def test_a_polynomial_of_another_length_is_blamed(length: int) -> None:
    f = random_scalars(SeededRng("long"), max(length, T))
    outcome = run_with_cheat(lambda party: honest_opening(party, f, length), f)
    nobody_finishes_and_nobody_honest_is_named(outcome)
    assert "malformed Opening" in {getattr(error, "reason", "") for error in outcome.errors.values()}


@pytest.mark.parametrize("size", [0, 1, 65, 65 * 10**6])
def test_a_list_of_a_million_points_costs_nothing(size: int) -> None:
    """Refused by its length, whenever it comes: before a byte of it is parsed or copied."""
    party = party_of(1, range(1, N + 1))
    session = Session(party, generate(party, T, 1))
    session.start()
    payload = bytes(size)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    session.receive(Envelope(SID, 2, CHEAT, None, payload, b""))  # early: kept or dropped
    with pytest.raises(Blame) as caught:
        session.receive(Envelope(SID, 1, CHEAT, None, payload + b"\0" * 33, b""))
    assert caught.value.culprits == {CHEAT}
    assert time.process_time() - begin < 0.5
    # The concatenation above is ours; the session adds less than 10 MB to it.
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * 1024 < len(payload) + 10 * 2**20


def rogue_opening(party, others: Point, f: list[int]) -> Opening:
    """A_0 = target - sum of the others' A_0: nobody knows its logarithm, so the proof is a guess."""
    A0 = TARGET - others
    z, e = random_scalars(party.rng, 2)
    K = generator_times(z) - A0.times_public(e)
    return Opening([[A0, *(generator_times(a) for a in f[1:])]], [K], [z], bytes(32))


def others_constant_terms(seed: int) -> Point:
    """What the honest dealers of this seed contribute: a rushing cheat could not know it, ours does."""
    firsts = [random_scalars(party_of(j, range(1, N + 1), seed).rng, T)[0] for j in range(1, N + 1) if j != CHEAT]
    return sum_points(generator_times(a) for a in firsts)


def rogue_runs(count: int) -> None:
    for seed in range(count):
        others = others_constant_terms(seed)
        f = random_scalars(SeededRng(f"rogue {seed}"), T)
        outcome = run_with_cheat(lambda party, o=others, f=f: rogue_opening(party, o, f), f, seed)
        nobody_finishes_and_nobody_honest_is_named(outcome)
        assert "no valid proof of knowledge" in {getattr(e, "reason", "") for e in outcome.errors.values()}


def test_a_key_that_cancels_the_others_is_not_accepted() -> None:
    rogue_runs(40)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_key_that_cancels_the_others_is_not_accepted_in_a_thousand_runs() -> None:
    rogue_runs(1000)


def test_without_the_proof_check_the_rogue_key_would_be_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the attack above works, and the proof is what stops it (shares go wrong only afterwards)."""
    monkeypatch.setattr(dkg, "verify", lambda *_: True)
    f = random_scalars(SeededRng("rogue 0"), T)
    seen: list[Point] = []

    def assemble(party, t, row, openings, shares):
        seen.append(sum_points(openings[j].A[row][0] for j in party.parties))
        raise Abort("enough seen")

    monkeypatch.setattr(dkg, "_assemble", assemble)
    run_with_cheat(lambda party: rogue_opening(party, others_constant_terms(0), f), f)
    assert seen
    assert set(seen) == {TARGET}


def test_two_polynomials_one_proven_and_one_opened_do_not_pass() -> None:
    """The proof is for one constant term, the opening contains another, the shares fit the second."""
    f, g = random_scalars(SeededRng("first"), T), random_scalars(SeededRng("second"), T)

    def opening(party) -> Opening:
        return replace(honest_opening(party, f), A=[[generator_times(a) for a in g]])

    nobody_finishes_and_nobody_honest_is_named(run_with_cheat(opening, g))


def test_colluders_below_the_threshold_cannot_move_the_key_after_the_commitments() -> None:
    """Two colluders open something else than they committed to, once they saw the others' openings."""
    f = random_scalars(SeededRng("late"), T)

    def protocol(party):
        async def late(party):
            await party.broadcast(Commitment(SeededRng("nothing").bytes(32)))
            return await party.exchange(honest_opening(party, f), {j: Shares([evaluate(f, j)]) for j in party.others})

        return late(party) if party.me in (2, 3) else generate(party, T, 1)

    outcome = simulate(sessions_of(range(1, N + 1), protocol), 0)
    assert not set(outcome.results) & {1, 4}
    for j in (1, 4):
        if isinstance(outcome.errors.get(j), Blame):
            assert outcome.errors[j].culprits <= {2, 3}


def copying(what: str, copy_session: bytes = SID):
    """P_2 repeats P_1's opening (what="opening": with its commitment too), or only its constant term and proof."""

    def tamper(envelope: Envelope, to: int) -> list[Envelope]:
        if envelope.sender == 1 and envelope.to is None:
            seen[envelope.round] = envelope.payload
        if envelope.sender == CHEAT and envelope.to is None and envelope.round in seen:
            return [replace(envelope, payload=copied(envelope))]
        return [envelope]

    def copied(envelope: Envelope) -> bytes:
        if what == "opening" or envelope.round == 1:
            return seen[envelope.round]
        own, theirs = (Opening.decode(p, DIMS) for p in (envelope.payload, seen[2]))
        A = [[theirs.A[0][0], *own.A[0][1:]]]
        return Opening(A, theirs.K, theirs.z, theirs.salt).encode()

    seen: dict[int, bytes] = {}
    return tamper


@pytest.mark.parametrize("what", ["opening", "proof"])
def test_copied_commitments_openings_and_proofs_are_refused_and_the_original_is_not_blamed(what: str) -> None:
    for seed in range(10):
        outcome = simulate(sessions_of(range(1, N + 1), lambda p: generate(p, T, 1)), seed, tamper=copying(what))
        # P_2 itself is honest here and sees that its broadcasts were changed.
        for error in outcome.errors.values():
            if isinstance(error, Blame):
                assert error.culprits == {CHEAT}
        assert not set(outcome.results) - {CHEAT}


@pytest.mark.parametrize("context", [(b"o" * 32, CHEAT, 0), (SID, 1, 0), (SID, CHEAT, 1), (SID, CHEAT)])
def test_a_proof_made_for_another_session_dealer_or_row_is_refused(context: tuple) -> None:
    f = random_scalars(SeededRng("copied"), T)

    def opening(party) -> Opening:
        proof: Proof = prove(party.rng, f[0], generator_times(f[0]), *context)
        return replace(honest_opening(party, f), K=[proof.K], z=[proof.z])

    outcome = run_with_cheat(opening, f)
    nobody_finishes_and_nobody_honest_is_named(outcome)


def test_a_whole_run_cannot_be_replayed_under_another_session_id() -> None:
    """All of P_2's envelopes come from an earlier run, relabelled."""
    old: dict[tuple, Envelope] = {}

    def record(envelope: Envelope, to: int) -> list[Envelope]:
        old[envelope.sender, envelope.round, envelope.to] = envelope
        return [envelope]

    simulate(sessions_of(range(1, N + 1), lambda p: generate(p, T, 1), sid=b"o" * 32), 0, tamper=record)

    def replay(envelope: Envelope, to: int) -> list[Envelope]:
        if envelope.sender != CHEAT:
            return [envelope]
        past = old[envelope.sender, envelope.round, envelope.to]
        return [replace(past, sid=SID, echo=envelope.echo)]

    outcome = simulate(sessions_of(range(1, N + 1), lambda p: generate(p, T, 1)), 0, tamper=replay)
    assert not set(outcome.results) - {CHEAT}
    for error in outcome.errors.values():
        if isinstance(error, Blame):
            assert error.culprits == {CHEAT}


def test_an_infinite_constant_term_has_no_encoding() -> None:
    """A_0 = infinity would make the dealer's part of the key 0; every way to write it is refused by the decoder."""
    for data in (bytes(65), b"\x04" + bytes(64), b"\x00" + bytes(64)):
        with pytest.raises(ValueError, match="point"):
            Point.from_bytes_checked(data)
    with pytest.raises(PointAtInfinity):
        generator_times(0)


def test_keys_of_many_runs_are_spread_evenly() -> None:
    """Low bits of the keys of 300 rows: no bias that a binomial test at 6 sigma would see."""
    made = make_keys(3, 2, 300)[1].keys
    for bit in range(4):
        ones = sum(key.public_key.x >> bit & 1 for key in made)
        assert 98 < ones < 202
    assert len({key.public_key for key in made}) == 300
    assert all(0 < key.key_share < Q for key in made)
