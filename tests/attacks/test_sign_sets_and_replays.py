"""T15, T16, T21, T22, T23: signer sets, replayed and relabelled messages, accusations, and parties that stop."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dealer import DIGEST, SID, deal_correlations, deal_inventories, deal_key, party_of, signing_sessions
from keyquorum.algebra.field import Q
from keyquorum.protocols.correlations import Depleted
from keyquorum.protocols.sign import Products, combine, sign
from keyquorum.rounds.errors import Abort
from keyquorum.rounds.session import Envelope, Session, session_id
from keyquorum.rounds.simulate import simulate
from tampering import changing, culprits

ALL = (1, 2, 3, 4)
SIGNERS = (1, 2, 4)
KEYS = deal_key(4, 3)
X = KEYS[1].public_key


def signature(outcome) -> bytes:
    shares = {j: result.rows[0] for j, result in outcome.results.items()}
    return combine(shares, next(iter(outcome.results.values())).R[0], DIGEST, X).to_bytes()


@pytest.mark.parametrize(
    "signers",
    [(1, 2), (1, 2, 3, 4), (1, 1, 2), (1, 2, 2), (2, 1, 4), (1, 2, 5), (0, 1, 2), (1, 2, Q), (1, 2, 4 + Q),
     (1, 2, True), (2, 3, 4), ("1", 2, 4), (1,), ()],
)  # fmt: skip
def test_a_bad_set_of_signers_is_refused_before_anything_is_spent(signers: tuple) -> None:
    pools = deal_inventories((1, 2, 3, 4, 5), 1)
    before = {j: pools[1].available(j) for j in range(6)}
    with pytest.raises(ValueError, match=r"part|signers"):
        party = party_of(1, signers)
        Session(party, sign(party, KEYS[1], [DIGEST], pools[1])).start()
    assert {j: pools[1].available(j) for j in range(6)} == before


def test_a_member_of_an_older_committee_is_an_outsider() -> None:
    old = deal_key(5, 3, "old")
    pools = deal_inventories((1, 2, 5), 1)
    party = party_of(1, (1, 2, 5))
    with pytest.raises(ValueError, match="signers"):
        Session(party, sign(party, KEYS[1], [DIGEST], pools[1])).start()
    # Its own share of another key does not help: as a party of this run it is refused by everyone else already.
    party = party_of(5, (1, 2, 5))
    Session(party, sign(party, old[5], [DIGEST], pools[5])).start()
    assert pools[1].available(5) == (1, 1)


def recorded_run(sid: bytes, pools, seed: str = "first") -> tuple[dict, object]:
    seen: dict[tuple, Envelope] = {}

    def watch(envelope: Envelope, to: int) -> list[Envelope]:
        seen[envelope.sender, to, envelope.round, envelope.to] = envelope
        return [envelope]

    return seen, simulate(signing_sessions(KEYS, pools, SIGNERS, [DIGEST], seed, sid), 0, tamper=watch)


def test_messages_of_another_run_are_dropped_and_nobody_is_blamed() -> None:
    """T16: old envelopes, injected everywhere, as often as there are real ones."""
    pools = deal_inventories(SIGNERS, 2)
    old, _ = recorded_run(b"o" * 32, pools)
    stale = [(slot[1], envelope) for slot, envelope in old.items()]

    def inject(envelope: Envelope, to: int) -> list[Envelope]:
        return [envelope, *(past for j, past in stale if j == to)]

    sessions = signing_sessions(KEYS, pools, SIGNERS, [DIGEST])
    outcome = simulate(sessions, 3, tamper=inject)
    assert not outcome.errors
    assert signature(outcome)
    assert all(session.dropped["sid"] > 5 for session in sessions.values())


def test_stale_first_messages_under_the_right_session_id_burn_nothing_but_this_run() -> None:
    """T16: P_2 replays its round 1 of an earlier run to one signer. Only P_2 is ever named; a new run succeeds."""
    pools = deal_inventories(SIGNERS, 3)
    old, _ = recorded_run(b"o" * 32, pools)

    def replay(envelope: Envelope, to: int) -> list[Envelope]:
        if envelope.sender == 2 and envelope.round == 1 and to == 4:
            return [replace(old[2, 4, 1, envelope.to], sid=SID)]
        return [envelope]

    outcome = simulate(signing_sessions(KEYS, pools, SIGNERS, [DIGEST]), 0, tamper=replay)
    assert 4 not in outcome.results
    for error in outcome.errors.values():
        assert culprits(error) <= {2}
        assert getattr(error, "burn", None) is None
    assert signature(simulate(signing_sessions(KEYS, pools, SIGNERS, [DIGEST], "again", b"a" * 32), 0))


def test_parties_with_different_session_ids_wait_and_blame_nobody() -> None:
    pools = deal_inventories(SIGNERS, 2)
    sessions = signing_sessions(KEYS, pools, SIGNERS, [DIGEST])
    sessions[4].close()
    other = party_of(4, SIGNERS, sid=b"t" * 32)
    sessions[4] = Session(other, sign(other, KEYS[4], [DIGEST], pools[4]))
    outcome = simulate(sessions, 0)
    assert not outcome.errors
    assert not outcome.results
    assert sessions[1].dropped["sid"] == 2


def test_key_epoch_request_and_attempt_are_in_the_session_id() -> None:
    base = {
        "chain_id": 1, "contract": "0x01", "purpose": "sign", "epoch": 1, "parties": SIGNERS,
        "parameters": [X.to_bytes(), DIGEST, "request", 0],
    }  # fmt: skip
    others = [
        {"epoch": 2},
        {"parties": (1, 2, 3)},
        {"parameters": [KEYS[1].public_shares[1].to_bytes(), DIGEST, "request", 0]},
        {"parameters": [X.to_bytes(), DIGEST, "request", 1]},
        {"parameters": [X.to_bytes(), DIGEST, "other", 0]},
    ]
    ids = {session_id(**base), *(session_id(**{**base, **other}) for other in others)}
    assert len(ids) == 1 + len(others)


def test_an_accusation_is_one_partys_own_view() -> None:
    """T21: P_2 cheats P_4 only. P_4 names P_2; the others saw nothing and name nobody, whatever P_4 says."""
    cheat = changing(Products, {"batch": 1}, lambda m: replace(m, D_u=[(m.D_u[0] + 1) % Q]), 2, 2, to=4)
    for seed in range(20):
        outcome = simulate(signing_sessions(KEYS, deal_inventories(SIGNERS, 1), SIGNERS, [DIGEST]), seed, tamper=cheat)
        assert outcome.errors[4].culprits == {2}
        assert sorted(outcome.errors) == [4]


def test_withheld_messages_name_nobody() -> None:
    """T21: dropping the messages of an honest party cannot make anyone blame it."""
    for victim in SIGNERS:
        for to in SIGNERS:

            def drop(envelope: Envelope, recipient: int, victim=victim, to=to) -> list[Envelope]:
                return [] if (envelope.sender, recipient) == (victim, to) else [envelope]

            outcome = simulate(signing_sessions(KEYS, deal_inventories(SIGNERS, 1), SIGNERS, [DIGEST]), 1, tamper=drop)
            assert not outcome.errors


def test_a_party_that_stops_says_who_is_missing() -> None:
    """T22, T23: the kernel has no clock; whoever waits can see for whom."""
    sessions = signing_sessions(KEYS, deal_inventories(SIGNERS, 1), SIGNERS, [DIGEST])
    simulate(sessions, 0, tamper=lambda e, to: [] if e.sender == 2 else [e])
    assert sessions[1].heard == {4}
    assert sessions[4].heard == {1}


def test_one_party_that_always_cheats_is_worked_around_with_other_sets() -> None:
    """T22: three attempts over the sets of three of four; P_2 spoils those that it is in."""
    pools = deal_inventories(ALL, 4)

    def spoil(envelope: Envelope, to: int) -> list[Envelope]:
        if envelope.sender == 2 and envelope.round == 2:
            return [replace(envelope, payload=bytes(len(envelope.payload)))]
        return [envelope]

    suspects: set[int] = set()
    for attempt in range(3):
        signers = sorted(sorted(ALL, key=lambda j: (j in suspects, j))[:3])
        sessions = signing_sessions(KEYS, pools, signers, [DIGEST], f"attempt {attempt}", bytes([attempt]) * 32)
        outcome = simulate(sessions, attempt, tamper=spoil)
        if len(outcome.results) == 3:
            assert signature(outcome)
            assert suspects == {2}
            return
        for error in outcome.errors.values():
            suspects |= culprits(error)
    raise AssertionError("no signature within three attempts")


def test_fewer_than_t_parties_get_nothing_out_of_a_run() -> None:
    """T23: with one signer gone the others hold no share, and a new run with fewer is refused."""
    outcome = simulate(
        signing_sessions(KEYS, deal_inventories(SIGNERS, 1), SIGNERS, [DIGEST]),
        0,
        tamper=lambda e, to: [] if 4 in (e.sender, to) else [e],
    )
    assert not outcome.results
    with pytest.raises(ValueError, match="signers"):
        party = party_of(1, (1, 2))
        Session(party, sign(party, KEYS[1], [DIGEST], deal_inventories((1, 2), 1)[1])).start()


def test_t_minus_one_shares_of_a_run_combine_to_nothing_and_t_do() -> None:
    """T20 for signatures: the positive control is the last line."""
    outcome = simulate(signing_sessions(KEYS, deal_inventories(SIGNERS, 1), SIGNERS, [DIGEST]), 0)
    shares = {j: result.rows[0] for j, result in outcome.results.items()}
    R = outcome.results[1].R[0]
    for missing in SIGNERS:
        with pytest.raises(Abort):
            combine({j: share for j, share in shares.items() if j != missing}, R, DIGEST, X)
    assert combine(shares, R, DIGEST, X)


def test_shares_of_different_sets_runs_and_digests_do_not_mix() -> None:
    """F1: no honest answer to one set completes another set's signature."""
    pools = deal_inventories(ALL, 8)
    runs = [
        (signers, digest, simulate(signing_sessions(KEYS, pools, signers, [digest], f"{k}", bytes([k]) * 32), 0))
        for k, (signers, digest) in enumerate(
            [((1, 2, 3), DIGEST), ((1, 2, 3), DIGEST), ((1, 2, 4), DIGEST), ((1, 2, 3), b"\x22" * 32)]
        )
    ]
    for i, (_, digest, first) in enumerate(runs):
        for j, (signers, _, second) in enumerate(runs):
            if i == j:
                continue
            for swapped in signers:
                shares = {k: result.rows[0] for k, result in first.results.items()}
                shares[swapped] = second.results[swapped].rows[0]
                for R in (first.results[1].R[0], second.results[1].R[0]):
                    for h in (DIGEST, digest):
                        with pytest.raises(Abort):
                            combine(shares, R, h, X)


def test_a_retry_uses_fresh_correlations_and_an_empty_pool_refuses() -> None:
    pools = deal_inventories(SIGNERS, 1)
    simulate(signing_sessions(KEYS, pools, SIGNERS, [DIGEST]), 0, tamper=lambda e, to: [] if e.round == 2 else [e])
    party = party_of(1, SIGNERS)
    with pytest.raises(Depleted):
        Session(party, sign(party, KEYS[1], [DIGEST], pools[1])).start()
    deal_correlations(pools, 1, number=1)
    assert signature(simulate(signing_sessions(KEYS, pools, SIGNERS, [DIGEST], "again", b"a" * 32), 0))


def test_a_dishonest_majority_cannot_frame_the_honest_minority() -> None:
    """P_1 and P_2 cheat everyone: P_4, honest, is named by nobody, and names only them."""
    edits = [
        changing(Products, {"batch": 1}, lambda m: replace(m, psi=m.D_u, D_v=m.psi), 1, 2, to=4),
        changing(Products, {"batch": 1}, lambda m: replace(m, Gamma_u=m.Gamma_v), 2, 2),
    ]
    for seed in range(20):
        outcome = simulate(
            signing_sessions(KEYS, deal_inventories(SIGNERS, 1), SIGNERS, [DIGEST]),
            seed,
            tamper=lambda e, to: [y for x in edits[0](e, to) for y in edits[1](x, to)],
        )
        assert 4 not in outcome.results
        assert all(culprits(error) <= {1, 2} for error in outcome.errors.values())
        assert culprits(outcome.errors.get(4, Abort())) in ({1, 2}, set())
