"""Key generation: what honest parties get, each check in its order, and whom it names."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from dealer import make_keys, party_of, sessions_of
from keyquorum.algebra.curve import generator_times
from keyquorum.algebra.field import Q
from keyquorum.algebra.polynomial import interpolate_at_zero
from keyquorum.protocols import dkg
from keyquorum.protocols.dkg import Confirmation, Opening, Shares, confirm, generate
from keyquorum.rounds.errors import Abort, Blame
from keyquorum.rounds.session import Session
from keyquorum.rounds.simulate import Outcome, Tamper, simulate
from tampering import changing, verdicts, with_row

N, T, BATCH = 4, 3, 2
DIMS = {"batch": BATCH, "t": T}
CONFIRM_SID = b"c" * 32


def run(tamper: Tamper | None = None, seed: int = 0, n: int = N) -> Outcome:
    return simulate(sessions_of(range(1, n + 1), lambda p: generate(p, T, BATCH)), seed, tamper=tamper)


def all_blame(outcome: Outcome, culprit: int, reason: str, witnesses: set[int]) -> None:
    """Each witness names the culprit for the reason; nobody else ends with another error."""
    assert set(outcome.errors) == witnesses
    for i, error in outcome.errors.items():
        assert isinstance(error, Blame), i
        assert error.culprits == {culprit}
        assert reason in error.reason


@pytest.mark.parametrize(("n", "t"), [(2, 2), (3, 2), (3, 3), (4, 3), (5, 4), (7, 5), (10, 7)])
def test_any_t_of_n_shares_are_the_key_and_fewer_are_not(n: int, t: int) -> None:
    keys = {i: pending.keys[0] for i, pending in make_keys(n, t).items()}
    X = keys[1].public_key
    for chosen in list(combinations(keys, t))[:20]:
        assert generator_times(interpolate_at_zero({i: keys[i].key_share for i in chosen})) == X
    for chosen in list(combinations(keys, t - 1))[:20]:
        assert interpolate_at_zero({i: keys[i].key_share for i in chosen}) != 0
        assert generator_times(interpolate_at_zero({i: keys[i].key_share for i in chosen})) != X


def test_all_parties_hold_the_same_public_part_and_their_own_share() -> None:
    made = make_keys(N, T, BATCH)
    assert len({pending.digest() for pending in made.values()}) == 1
    for i, pending in made.items():
        assert len(pending.keys) == BATCH
        for key in pending.keys:
            assert (key.party_id, key.t, key.parties) == (i, T, (1, 2, 3, 4))
            assert generator_times(key.key_share) == key.public_shares[i]
            assert sorted(key.public_shares) == [1, 2, 3, 4]
    rows = [[key.public_key for key in pending.keys] for pending in made.values()]
    assert all(row == rows[0] for row in rows)
    assert rows[0][0] != rows[0][1]


def test_party_ids_need_not_be_consecutive() -> None:
    outcome = simulate(sessions_of((3, 7, 40, 65535), lambda p: generate(p, 3, 1)), 0)
    shares = {i: outcome.results[i].keys[0].key_share for i in (3, 40, 65535)}
    assert generator_times(interpolate_at_zero(shares)) == outcome.results[7].keys[0].public_key


@pytest.mark.parametrize(("t", "batch"), [(0, 1), (1, 1), (5, 1), (3, 0), (3, -1), (3, dkg.MAX_BATCH + 1)])
def test_bad_parameters_are_refused_before_anything_is_sent(t: int, batch: int) -> None:
    sessions = sessions_of(range(1, 5), lambda p: generate(p, t, batch))
    for session in sessions.values():
        with pytest.raises(ValueError, match="threshold"):
            session.start()


def test_parties_with_another_threshold_or_batch_do_not_finish() -> None:
    for t, batch in ((2, BATCH), (T, 1), (4, BATCH)):
        sessions = sessions_of(
            range(1, 5), lambda p, t=t, b=batch: generate(p, t if p.me == 4 else T, b if p.me == 4 else BATCH)
        )
        outcome = simulate(sessions, 1)
        assert not outcome.results
        assert all(isinstance(error, Blame) for error in outcome.errors.values())


def test_an_opening_that_was_not_committed_to_is_blamed() -> None:
    def edit(opening: Opening) -> Opening:
        return replace(opening, salt=bytes(32))

    all_blame(run(changing(Opening, DIMS, edit, 2, 2)), 2, "opening", {1, 3, 4})


def cheating_dealer(monkeypatch: pytest.MonkeyPatch, cheat: int, edit) -> None:
    """Party `cheat` deals what `edit` makes of its opening, and commits to that: only later checks can notice."""
    honest = dkg._commit

    def commit(sid: bytes, i: int, opening: Opening) -> bytes:
        return (
            honest(sid, i, edit(opening))
            if i == cheat and not hasattr(opening, "_encoded")
            else honest(sid, i, opening)
        )

    monkeypatch.setattr(dkg, "_commit", commit)


def test_a_commitment_to_something_else_is_blamed_though_all_saw_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    cheating_dealer(monkeypatch, 2, lambda opening: replace(opening, salt=bytes(32)))
    all_blame(run(), 2, "opening", {1, 3, 4})


def test_a_missing_proof_is_blamed_with_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def edit(opening: Opening) -> Opening:
        return replace(opening, z=with_row(opening.z, 1, (opening.z[1] + 1) % Q))

    cheating_dealer(monkeypatch, 2, edit)
    outcome = run(changing(Opening, DIMS, edit, 2, 2))
    all_blame(outcome, 2, "proof of knowledge", {1, 3, 4})
    assert all(error.rows == (1,) for error in outcome.errors.values())


def test_rows_cannot_share_a_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same constant term twice, with the first row's proof copied to the second."""

    def edit(opening: Opening) -> Opening:
        A = [opening.A[0], [opening.A[0][0], *opening.A[1][1:]]]
        return replace(opening, A=A, K=[opening.K[0]] * 2, z=[opening.z[0]] * 2)

    cheating_dealer(monkeypatch, 2, edit)
    all_blame(run(changing(Opening, DIMS, edit, 2, 2)), 2, "proof of knowledge", {1, 3, 4})


def test_one_wrong_share_to_one_party_is_blamed_by_it_with_its_row() -> None:
    def edit(shares: Shares) -> Shares:
        return Shares(with_row(shares.f, 1, (shares.f[1] + 1) % Q))

    outcome = run(changing(Shares, {"batch": BATCH}, edit, 2, 2, to=4))
    all_blame(outcome, 2, "share", {4})
    assert outcome.errors[4].rows == (1,)


def test_a_polynomial_other_than_the_committed_one_is_blamed_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def edit(opening: Opening) -> Opening:
        A = with_row(opening.A, 0, [*opening.A[0][:2], opening.A[0][2] + generator_times(1)])
        return replace(opening, A=A)

    cheating_dealer(monkeypatch, 2, edit)
    outcome = run(changing(Opening, DIMS, edit, 2, 2))
    all_blame(outcome, 2, "share", {1, 3, 4})
    assert all(error.rows == (0,) for error in outcome.errors.values())


def test_several_culprits_are_named_together() -> None:
    def wrong(shares: Shares) -> Shares:
        return Shares([(f + 1) % Q for f in shares.f])

    first = changing(Shares, {"batch": BATCH}, wrong, 2, 2, to=4)
    second = changing(Shares, {"batch": BATCH}, wrong, 3, 2, to=4)
    outcome = run(lambda e, to: [y for x in first(e, to) for y in second(x, to)])
    assert outcome.errors[4].culprits == {2, 3}


def test_errors_that_cancel_leave_the_right_share() -> None:
    """Two colluding dealers shift their shares in opposite directions: P_4's key share is what it should be."""

    def shifted(by: int):
        return lambda shares: Shares([(f + by) % Q for f in shares.f])

    up = changing(Shares, {"batch": BATCH}, shifted(5), 2, 2, to=4)
    down = changing(Shares, {"batch": BATCH}, shifted(-5), 3, 2, to=4)
    outcome = run(lambda e, to: [y for x in up(e, to) for y in down(x, to)])
    assert not outcome.errors
    key = outcome.results[4].keys[0]
    assert key == run().results[4].keys[0]


def test_openings_are_checked_before_proofs_and_proofs_before_shares() -> None:
    def bad_proof(opening: Opening) -> Opening:
        return replace(opening, z=[(z + 1) % Q for z in opening.z])

    def bad_share(shares: Shares) -> Shares:
        return Shares([(f + 1) % Q for f in shares.f])

    proof = changing(Opening, DIMS, bad_proof, 2, 2)
    share = changing(Shares, {"batch": BATCH}, bad_share, 3, 2)
    outcome = run(lambda e, to: [y for x in proof(e, to) for y in share(x, to)])
    # The changed proof no longer opens the commitment; P_3's wrong shares are not looked at any more.
    assert verdicts(outcome)[1] == ("opening does not match its commitment", frozenset({2}))
    assert verdicts(outcome)[4] == ("opening does not match its commitment", frozenset({2}))


def test_proofs_are_checked_before_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    def bad_proof(opening: Opening) -> Opening:
        return replace(opening, z=[(z + 1) % Q for z in opening.z])

    def bad_share(shares: Shares) -> Shares:
        return Shares([(f + 1) % Q for f in shares.f])

    cheating_dealer(monkeypatch, 2, bad_proof)
    proof = changing(Opening, DIMS, bad_proof, 2, 2)
    share = changing(Shares, {"batch": BATCH}, bad_share, 3, 2)
    outcome = run(lambda e, to: [y for x in proof(e, to) for y in share(x, to)])
    assert verdicts(outcome)[1] == ("no valid proof of knowledge", frozenset({2}))


class SumIsZero:
    """Randomness that makes P_1's polynomial -(x - 2): its share for P_2 is 0."""

    def __init__(self) -> None:
        self.first = [(2).to_bytes(48, "big"), (Q - 1).to_bytes(48, "big")]

    def bytes(self, count: int) -> bytes:
        return self.first.pop(0) if self.first else b"\x07" * count


def test_a_share_that_is_zero_is_a_share_like_any_other() -> None:
    sessions = sessions_of((1, 2), lambda p: generate(replace(p, rng=SumIsZero()) if p.me == 1 else p, 2, 1))
    zero_seen = []

    def watch(envelope, to):
        if envelope.sender == 1 and envelope.to == 2:
            zero_seen.append(envelope.payload == bytes(32))
        return [envelope]

    outcome = simulate(sessions, 0, tamper=watch)
    assert zero_seen == [True]
    assert sorted(outcome.results) == [1, 2]


def test_a_joint_point_at_infinity_is_nobodys_fault() -> None:
    """Both draw f and -f: the key would be 0. No honest run ever gets here."""

    class Negative(SumIsZero):
        def __init__(self) -> None:
            self.first = [(Q - 2).to_bytes(48, "big"), (1).to_bytes(48, "big")]

    rngs = {1: SumIsZero(), 2: Negative()}
    outcome = simulate(sessions_of((1, 2), lambda p: generate(replace(p, rng=rngs[p.me]), 2, 1)), 0)
    for error in outcome.errors.values():
        assert not isinstance(error, Blame)
        assert "infinity" in str(error)
    assert sorted(outcome.errors) == [1, 2]


def confirming(pending, tamper: Tamper | None = None) -> Outcome:
    return simulate(
        sessions_of(sorted(pending), lambda p: confirm(p, pending[p.me]), sid=CONFIRM_SID), 0, tamper=tamper
    )


def test_equal_keys_are_confirmed() -> None:
    pending = make_keys(N, T, BATCH)
    outcome = confirming(pending)
    assert {i: tuple(keys) for i, keys in outcome.results.items()} == {i: p.keys for i, p in pending.items()}


def test_confirmation_can_be_repeated() -> None:
    pending = make_keys(N, T)
    assert len(confirming(pending).results) == len(confirming(pending).results) == N


def other_share(p):
    shares = {**p.keys[1].public_shares, 2: generator_times(3)}
    return replace(p, keys=(p.keys[0], replace(p.keys[1], public_shares=shares)))


@pytest.mark.parametrize(
    "change",
    [
        lambda p: replace(p, transcript=bytes(32)),
        lambda p: replace(p, keys=(replace(p.keys[0], public_key=generator_times(3)), *p.keys[1:])),
        other_share,
        lambda p: replace(p, keys=p.keys[:1]),
        lambda p: replace(p, keys=p.keys[::-1]),
    ],
)
def test_any_difference_ends_the_confirmation_and_names_nobody(change) -> None:
    pending = make_keys(N, T, BATCH)
    pending[3] = change(pending[3])
    outcome = confirming(pending)
    assert sorted(outcome.errors) == [1, 2, 3, 4]
    for error in outcome.errors.values():
        assert isinstance(error, Abort)
        assert not isinstance(error, Blame)


def test_a_wrong_confirmation_to_one_party_stops_that_party_only() -> None:
    pending = make_keys(N, T)
    lie = changing(Confirmation, {}, lambda m: Confirmation(bytes(32)), 2, 1, to=4)
    outcome = confirming(pending, lie)
    assert sorted(outcome.errors) == [4]
    assert sorted(outcome.results) == [1, 2, 3]


@pytest.mark.parametrize(("me", "ids"), [(1, (1, 2)), (1, (1, 2, 4)), (1, (1, 2, 3, 4)), (2, (1, 2, 3))])
def test_others_than_the_makers_cannot_confirm(me: int, ids: tuple[int, ...]) -> None:
    pending = make_keys(3, 2)[1]
    party = party_of(me, ids)
    with pytest.raises(ValueError, match="made them"):
        Session(party, confirm(party, pending)).start()
