"""Signing: valid under an unrelated verifier, each check in its order, whom it names, and what is spent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from coincurve import PublicKey
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from dealer import DIGEST, deal_inventories, deal_key, make_keys, party_of, sessions_of, signing_sessions
from keyquorum.algebra.curve import Point, generator_times
from keyquorum.algebra.ecdsa import HALF_Q
from keyquorum.algebra.field import Q
from keyquorum.algebra.polynomial import lagrange_at_zero
from keyquorum.algebra.rng import SeededRng
from keyquorum.protocols.correlations import Depleted, Name, ReceiverCorrelation
from keyquorum.protocols.sign import (
    MAX_BATCH,
    Commitment,
    Names,
    Products,
    Signature,
    SignatureShare,
    combine,
    sign,
)
from keyquorum.protocols.zero_share import share
from keyquorum.rounds.errors import Abort, Blame
from keyquorum.rounds.session import Session
from keyquorum.rounds.simulate import Outcome, Tamper, simulate
from tampering import changing, verdicts, with_row

SIGNERS = (1, 2, 4)
ROW = {"batch": 1}
KEYS = deal_key(4, 3)
X = KEYS[1].public_key


def digests(count: int) -> list[bytes]:
    return [SeededRng(f"digest {k}").bytes(32) for k in range(count)]


def signature_of(outcome: Outcome, X: Point, digest: bytes, row: int = 0) -> Signature:
    shares = {i: result.rows[row] for i, result in outcome.results.items()}
    Rs = {result.R[row] for result in outcome.results.values()}
    assert len(Rs) == 1
    return combine(shares, Rs.pop(), digest, X)


def check_by_others(signature: Signature, X: Point, digest: bytes) -> None:
    """OpenSSL verifies it, libsecp256k1's recovery through coincurve gives back the key, s is low."""
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), X.to_bytes())
    key.verify(encode_dss_signature(signature.r, signature.s), digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    assert PublicKey.from_signature_and_message(signature.to_bytes(), digest, hasher=None).format(False) == X.to_bytes()
    assert 1 <= signature.s <= HALF_Q


def run(tamper: Tamper | None = None, batch: int = 1, seed: int = 0, inventories=None, keys=KEYS) -> Outcome:
    pools = inventories or deal_inventories(SIGNERS, batch)
    return simulate(signing_sessions(keys, pools, SIGNERS, digests(batch), seed), seed, tamper=tamper)


@pytest.mark.parametrize(("n", "t"), [(2, 2), (3, 2), (3, 3), (4, 3), (5, 2), (7, 5), (10, 7)])
def test_any_t_signers_make_a_signature_that_others_verify(n: int, t: int) -> None:
    keys = {i: pending.keys[0] for i, pending in make_keys(n, t).items()}
    for signers in (tuple(range(1, t + 1)), tuple(range(n - t + 1, n + 1))):
        pools = deal_inventories(signers, 1)
        outcome = simulate(signing_sessions(keys, pools, signers, [DIGEST]), 0)
        signature = signature_of(outcome, keys[1].public_key, DIGEST)
        check_by_others(signature, keys[1].public_key, DIGEST)


def test_the_rows_of_a_batch_are_signatures_of_their_own() -> None:
    outcome = run(batch=5)
    signatures = [signature_of(outcome, X, digest, row) for row, digest in enumerate(digests(5))]
    for signature, digest in zip(signatures, digests(5), strict=True):
        check_by_others(signature, X, digest)
    assert len({signature.r for signature in signatures}) == 5


def test_a_run_spends_exactly_its_correlations() -> None:
    pools = deal_inventories(SIGNERS, 4)
    run(batch=3, inventories=pools)
    for i, pool in pools.items():
        assert all(pool.available(j) == (1, 1) for j in SIGNERS if j != i)


def test_two_runs_never_share_a_nonce() -> None:
    pools = deal_inventories(SIGNERS, 2)
    first = simulate(signing_sessions(KEYS, pools, SIGNERS, [DIGEST], seed=1, sid=b"1" * 32), 0)
    second = simulate(signing_sessions(KEYS, pools, SIGNERS, [DIGEST], seed=2, sid=b"2" * 32), 0)
    assert first.results[1].R != second.results[1].R


# Refusals, before anything is spent.


def refused(error: type[Exception], match: str, signers=SIGNERS, me=1, key=None, hs=(DIGEST,), pools=None) -> None:
    inventories = pools or deal_inventories(tuple(range(1, 6)), 1)
    before = {j: inventories[me].available(j) for j in range(1, 6)}
    party = party_of(me, signers)
    with pytest.raises(error, match=match):
        Session(party, sign(party, key or KEYS[me], list(hs), inventories[me])).start()
    assert {j: inventories[me].available(j) for j in range(1, 6)} == before


@pytest.mark.parametrize(
    "digest", [bytes(32), Q.to_bytes(32, "big"), (Q + 1).to_bytes(32, "big"), b"\xff" * 32, b"\1" * 31, b"\1" * 33, b""]
)
def test_a_digest_that_is_no_number_below_q_is_refused(digest: bytes) -> None:
    refused(ValueError, "digest", hs=(digest,))
    refused(ValueError, "digest", hs=(DIGEST, digest))


@pytest.mark.parametrize("value", [1, Q - 1])
def test_the_smallest_and_the_largest_digest_are_signed(value: int) -> None:
    digest = value.to_bytes(32, "big")
    outcome = simulate(signing_sessions(KEYS, deal_inventories(SIGNERS, 1), SIGNERS, [digest]), 0)
    check_by_others(signature_of(outcome, X, digest), X, digest)


@pytest.mark.parametrize("signers", [(1, 2), (1, 2, 3, 4), (1, 2, 5), (1, 3, 65535)])
def test_other_than_t_holders_are_refused(signers: tuple[int, ...]) -> None:
    refused(ValueError, "signers", signers=signers)


def test_another_partys_share_is_refused() -> None:
    refused(ValueError, "signers", key=KEYS[2])
    refused(ValueError, "signers", me=5, signers=(1, 2, 5), key=KEYS[1])


@pytest.mark.parametrize("count", [0, MAX_BATCH + 1])
def test_an_empty_or_too_large_batch_is_refused(count: int) -> None:
    refused(ValueError, "digests", hs=(DIGEST,) * count)


def test_too_few_correlations_with_one_peer_spend_none_with_another() -> None:
    pools = deal_inventories(tuple(range(1, 6)), 1)
    pools[1].reserve(4, 1)
    refused(Depleted, r"parties \[4\]", pools=pools)


def test_a_missing_zero_seed_spends_nothing() -> None:
    pools = deal_inventories(tuple(range(1, 6)), 1)
    pools[1].drop_zero_seed(2)
    refused(Depleted, r"parties \[2\]", pools=pools)


# Step 1.4: names.


def naming(name: Callable[[bytes], bytes]) -> Tamper:
    return changing(Names, ROW, lambda m: Names([name(m.names[0])]), 2, 1, to=4)


def test_an_unknown_name_is_blamed() -> None:
    outcome = run(naming(lambda n: Name(b"?" * 16, 0, 0).to_bytes()))
    assert verdicts(outcome)[4] == ("names a correlation that is unknown or spent", frozenset({2}))
    assert 4 not in outcome.results


def test_a_name_used_in_an_earlier_run_is_blamed() -> None:
    pools = deal_inventories(SIGNERS, 2)
    seen: list[bytes] = []

    def watch(envelope, to):
        if (envelope.sender, envelope.to, envelope.round) == (2, 4, 1):
            seen.append(envelope.payload)
        return [envelope]

    run(watch, inventories=pools)
    outcome = run(naming(lambda n: seen[0]), inventories=pools, seed=1)
    assert verdicts(outcome)[4] == ("names a correlation that is unknown or spent", frozenset({2}))


def test_a_name_twice_in_a_batch_is_blamed() -> None:
    edit = changing(Names, {"batch": 2}, lambda m: Names([m.names[0]] * 2), 2, 1, to=4)
    assert verdicts(run(edit, batch=2))[4] == ("names a correlation that is unknown or spent", frozenset({2}))


def test_a_good_name_that_was_not_reserved_gives_a_wrong_product() -> None:
    """The receiver cannot know which one the sender keeps; the product check does."""
    pools = deal_inventories(SIGNERS, 2)
    edit = naming(lambda n: Name.from_bytes(n)._replace(position=1).to_bytes())
    assert verdicts(run(edit, inventories=pools))[4] == ("inconsistent product", frozenset({2}))


# Step 3: openings and products.


def product(edit: Callable[[Products], Products], sender: int = 2, to: int | None = 4, batch: int = 1) -> Tamper:
    return changing(Products, {"batch": batch}, edit, sender, 2, to)


def plus(name: str, row: int = 0) -> Callable[[Products], Products]:
    def edit(message: Products) -> Products:
        values = getattr(message, name)
        one = generator_times(1) if isinstance(values[row], Point) else 1
        value = values[row] + one
        return replace(message, **{name: with_row(values, row, value if isinstance(value, Point) else value % Q)})

    return edit


def test_an_opening_of_another_nonce_is_blamed() -> None:
    for edit in (plus("R"), lambda m: replace(m, salt=bytes(32))):
        outcome = run(product(edit))
        assert 4 not in outcome.results
        assert verdicts(outcome) == {4: ("opening does not match its commitment", frozenset({2}))}


@pytest.mark.parametrize("field", ["Gamma_u", "Gamma_v", "D_u", "D_v", "pk"])
def test_every_value_of_a_product_is_checked(field: str) -> None:
    outcome = run(product(plus(field, row=1), batch=3), batch=3)
    assert verdicts(outcome) == {4: ("inconsistent product", frozenset({2}))}
    assert outcome.errors[4].rows == (1,)
    assert 4 not in outcome.results


def test_several_culprits_are_named_together() -> None:
    first, second = product(plus("D_u"), 1), product(plus("D_v"), 2)
    outcome = run(lambda e, to: [y for x in first(e, to) for y in second(x, to)])
    assert outcome.errors[4].culprits == {1, 2}


def test_openings_are_checked_before_products() -> None:
    first, second = product(plus("D_u"), 1), product(plus("R"), 2)
    outcome = run(lambda e, to: [y for x in first(e, to) for y in second(x, to)])
    assert verdicts(outcome)[4] == ("opening does not match its commitment", frozenset({2}))


def test_all_openings_are_checked() -> None:
    first, second = product(plus("R"), 1), product(plus("R"), 2)
    outcome = run(lambda e, to: [y for x in first(e, to) for y in second(x, to)])
    assert verdicts(outcome)[4] == ("opening does not match its commitment", frozenset({1, 2}))


def test_a_sender_that_forces_a_zero_is_blamed_and_crashes_nobody() -> None:
    """With c = 0 and D = -a the honest side's d becomes 0: infinity in the check is a refusal."""
    pools = deal_inventories(SIGNERS, 1)
    (name, half), *_ = pools[2]._as_sender[4]
    chi = pools[4]._as_receiver[2][name].chi
    pools[4]._as_receiver[2][name] = ReceiverCorrelation(chi, half.a_u * chi % Q, half.a_v * chi % Q)
    for field, value in (("D_u", half.a_u), ("D_v", half.a_v)):
        outcome = run(product(lambda m, f=field, v=value: replace(m, **{f: [Q - v]})), inventories=pools)
        assert verdicts(outcome)[4] == ("inconsistent product", frozenset({2}))
        pools = deal_inventories(SIGNERS, 1)
        pools[4]._as_receiver[2][name] = ReceiverCorrelation(chi, half.a_u * chi % Q, half.a_v * chi % Q)


def test_a_point_that_cancels_the_check_is_blamed_and_crashes_nobody() -> None:
    pools = deal_inventories(SIGNERS, 1)
    name = pools[2]._as_sender[4][0][0]
    theirs = pools[4]._as_receiver[2][name]

    def cancel(message: Products) -> Products:
        d_u = (theirs.d_u + theirs.chi * message.D_u[0]) % Q
        return replace(message, Gamma_u=[generator_times(Q - d_u)])

    assert verdicts(run(product(cancel), inventories=pools))[4] == ("inconsistent product", frozenset({2}))


def test_signing_shares_that_do_not_add_up_name_nobody() -> None:
    """A wrong share of x, used consistently everywhere: no product check can tell, the sum can."""
    keys = {**KEYS, 2: replace(KEYS[2], key_share=(KEYS[2].key_share + 1) % Q)}
    outcome = run(keys=keys)
    assert outcome.errors
    assert not outcome.results
    for error in outcome.errors.values():
        assert not isinstance(error, Blame)
        assert "add up to the key" in str(error)


def test_different_zero_seeds_name_nobody() -> None:
    pools = deal_inventories(SIGNERS, 1)
    pools[1].set_zero_seed(2, b"?" * 32)
    outcome = run(inventories=pools)
    assert not outcome.results
    assert all(not isinstance(error, Blame) for error in outcome.errors.values())


@pytest.mark.parametrize("what", ["digest", "key"])
def test_signers_that_disagree_about_digest_or_key_release_nothing_and_name_nobody(what: str) -> None:
    """The session id should have told them apart; if the caller forgot, the shares of zero do."""
    pools = deal_inventories(SIGNERS, 1)
    other = deal_key(4, 3, "another")

    def protocol(party):
        odd = party.me == 4
        key = (other if odd and what == "key" else KEYS)[party.me]
        return sign(party, key, [b"\x22" * 32 if odd and what == "digest" else DIGEST], pools[party.me])

    outcome = simulate(sessions_of(SIGNERS, protocol), 0)
    assert not outcome.results
    for error in outcome.errors.values():
        assert not isinstance(error, Blame)
        assert "add up to the key" in str(error)


def test_a_signing_share_that_is_zero_ends_the_run_and_names_nobody() -> None:
    """Nobody can arrange it without all zero seeds; here the key share is made to fit them."""
    pools = deal_inventories(SIGNERS, 1)
    seeds = {j: pools[1].zero_seed(j) for j in (2, 4)}
    party = party_of(1, SIGNERS)
    zeta = share(party.sid, 1, SIGNERS, seeds, 1, X.to_bytes(), [DIGEST])[0]
    key = replace(KEYS[1], key_share=-zeta * pow(lagrange_at_zero(1, SIGNERS), -1, Q) % Q)
    with pytest.raises(Abort, match="is zero") as caught:
        Session(party, sign(party, key, [DIGEST], pools[1])).start()
    assert not isinstance(caught.value, Blame)
    assert pools[1].available(2) == (1, 1)


@pytest.mark.parametrize("field", ["pk", "R"])
def test_points_that_add_up_to_infinity_end_the_run_and_name_nobody(field: str, monkeypatch) -> None:
    """The checks before make this unreachable, so they are switched off here."""
    from keyquorum.protocols import sign as module

    monkeypatch.setattr(module, "_inconsistent_rows", lambda *_: [])
    monkeypatch.setattr(module, "_opens", lambda *_: True)
    sessions = signing_sessions(KEYS, deal_inventories(SIGNERS, 1), SIGNERS, digests(1))
    first = [e for session in sessions.values() for e in session.start()]
    second = [r for e in first for j in SIGNERS if j != e.sender and e.to in (None, j) for r in sessions[j].receive(e)]
    sent = {e.sender: Products.decode(e.payload, ROW) for e in second}
    five = generator_times(5)
    cheating = {1: five, 2: -getattr(sent[4], field)[0] - five}
    with pytest.raises(Abort, match="infinity") as caught:
        for envelope in second:
            if envelope.to == 4:
                edited = replace(sent[envelope.sender], **{field: [cheating[envelope.sender]]})
                sessions[4].receive(replace(envelope, payload=edited.encode()))
    assert not isinstance(caught.value, Blame)


def test_a_wrong_psi_passes_the_checks_and_fails_only_when_combined() -> None:
    """psi is not checked by the signers (section 5 of the paper): the combined signature is wrong and never shown."""
    outcome = run(product(plus("psi")))
    assert sorted(outcome.results) == [1, 2, 4]
    with pytest.raises(Abort, match="no signature"):
        signature_of(outcome, X, digests(1)[0])


# Step 5: combining.


def shares_of(outcome: Outcome) -> tuple[dict[int, SignatureShare], Point]:
    return {i: result.rows[0] for i, result in outcome.results.items()}, outcome.results[1].R[0]


GOOD = shares_of(run())
D = digests(1)[0]


@pytest.mark.parametrize("part", ["w", "u"])
def test_a_wrong_share_is_never_combined_to_anything(part: str) -> None:
    shares, R = GOOD
    wrong = {**shares, 2: shares[2]._replace(**{part: (getattr(shares[2], part) + 1) % Q})}
    with pytest.raises(Abort) as caught:
        combine(wrong, R, D, X)
    assert not isinstance(caught.value, Blame)


def test_a_missing_share_another_digest_key_or_nonce_are_refused() -> None:
    shares, R = GOOD
    assert combine(shares, R, D, X)
    for bad in (
        ({i: shares[i] for i in (1, 2)}, R, D, X),
        ({}, R, D, X),
        (shares, R, DIGEST, X),
        (shares, R, D, generator_times(5)),
        (shares, R, D, -X),
        (shares, -R, D, X),
        (shares, R + X, D, X),
    ):
        with pytest.raises(Abort):
            combine(*bad)


@pytest.mark.parametrize("zero", ["w", "u"])
def test_sums_that_are_zero_are_refused(zero: str) -> None:
    shares, R = GOOD
    total = sum(getattr(share, zero) for share in shares.values())
    wrong = {**shares, 1: shares[1]._replace(**{zero: (getattr(shares[1], zero) - total) % Q})}
    with pytest.raises(Abort, match=r"no signature$"):
        combine(wrong, R, D, X)


def test_shares_under_which_the_key_would_be_infinite_are_refused() -> None:
    """s R = h G: the formula recovers X = (s R - h G) / r = infinity."""
    k, h = 7, int.from_bytes(D, "big")
    with pytest.raises(Abort, match="under this key"):
        combine({1: SignatureShare(h * pow(k, -1, Q) % Q, 1)}, generator_times(k), D, X)


@pytest.mark.parametrize("digest", [bytes(32), b"\xff" * 32, b"\1" * 31])
def test_combining_for_a_digest_that_nobody_signs_is_refused(digest: bytes) -> None:
    with pytest.raises(ValueError, match="digest"):
        combine(*GOOD, digest, X)


def test_the_sum_of_shares_with_high_s_gives_the_low_one() -> None:
    """w and -w combine to s and q - s: the same signature comes out, and v follows."""
    shares, R = GOOD
    negated = {i: share._replace(w=(Q - share.w) % Q) for i, share in shares.items()}
    first = combine(shares, R, D, X)
    assert combine(negated, -R, D, X) == first


def high_x_point() -> Point:
    """A point whose x is above q: one of 2^127 is, so it is looked up by x and its logarithm stays unknown."""
    x = Q + 1  # q itself gives r = 0
    while True:
        try:
            return Point.from_compressed_checked(b"\x02" + x.to_bytes(32, "big"))
        except ValueError:
            x += 1


@pytest.mark.parametrize("negate", [False, True])
def test_a_nonce_with_x_from_q_upwards_gives_recovery_id_two_or_three(negate: bool) -> None:
    """Nobody can sign with such an R, but X can be chosen to fit: X = (s R - h G) / r."""
    R = -high_x_point() if negate else high_x_point()
    r, s, h = R.x - Q, 12345, int.from_bytes(D, "big")
    inverse = pow(r, -1, Q)
    key = R.times_public(s * inverse) + generator_times(Q - h * inverse % Q)
    signature = combine({1: SignatureShare(s, 1)}, R, D, key)
    assert (signature.r, signature.s, signature.v) == (r, s, 2 + int(R.y_is_odd))
    check_by_others(signature, key, D)
    flipped = combine({1: SignatureShare(Q - s, 1)}, -R, D, key)
    assert flipped == signature


def test_shares_and_signatures_print_no_more_than_they_must() -> None:
    outcome = run()
    assert str(outcome.results[1].rows[0].w) not in repr(outcome.results[1])
    assert repr(Commitment(bytes(32))) == "Commitment(...)"
