"""A proof verifies for its statement and its context, and for nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyquorum.algebra.curve import Point, generator_times, hash_to_point
from keyquorum.algebra.field import Q
from keyquorum.algebra.rng import SeededRng
from keyquorum.algebra.transcript import Tag
from keyquorum.protocols.proofs import EqualityProof, Proof, prove, prove_equal, verify, verify_equal

X = generator_times(42)
CONTEXT = (b"sid", 3, 7)
PROOF = prove(SeededRng("proof"), 42, X, *CONTEXT)


def test_a_proof_verifies() -> None:
    assert verify(X, PROOF, *CONTEXT)


@pytest.mark.parametrize("context", [(b"dis", 3, 7), (b"sid", 4, 7), (b"sid", 3, 8), (b"sid", 3), (), (b"sid", 37)])
def test_a_proof_copied_to_another_context_does_not(context: tuple) -> None:
    assert not verify(X, PROOF, *context)


def test_a_proof_of_another_statement_does_not() -> None:
    assert not verify(generator_times(43), PROOF, *CONTEXT)
    assert not verify(-X, PROOF, *CONTEXT)


def test_every_part_of_the_proof_matters() -> None:
    assert not verify(X, replace(PROOF, z=(PROOF.z + 1) % Q), *CONTEXT)
    assert not verify(X, replace(PROOF, K=PROOF.K + X), *CONTEXT)
    assert not verify(X, replace(PROOF, K=-PROOF.K), *CONTEXT)


def test_an_infinite_side_is_refused_without_an_error() -> None:
    assert not verify(X, replace(PROOF, z=0), *CONTEXT)


def test_knowledge_cannot_be_feigned_by_choosing_the_answer_first() -> None:
    """z and e at will give K = z G - e X, but then the challenge is another."""
    z, e = 1234, 5678
    assert not verify(X, Proof(generator_times(z) - X.times_public(e), z), *CONTEXT)


def test_two_proofs_of_the_same_share_nothing() -> None:
    other = prove(SeededRng("other"), 42, X, *CONTEXT)
    assert other.K != PROOF.K
    assert other.z != PROOF.z
    assert verify(X, other, *CONTEXT)


# -- equal logarithms -------------------------------------------------------------------------------------------------

BASE = hash_to_point(Tag.IDENTITY_POINT, "test")
Y = BASE.times_public(42)
EQUAL = prove_equal(SeededRng("equal"), 42, X, BASE, Y, *CONTEXT)


def test_a_proof_of_equality_verifies_for_its_context_only() -> None:
    assert verify_equal(X, BASE, Y, EQUAL, *CONTEXT)
    for context in ((b"sid", 4, 7), (b"sid", 3), ()):
        assert not verify_equal(X, BASE, Y, EQUAL, *context)


@pytest.mark.parametrize("statement", [
    (generator_times(43), BASE, Y), (X, BASE + X, Y), (X, BASE, BASE.times_public(43)), (X, BASE, -Y), (-X, BASE, -Y),
    (Y, BASE, X),
])  # fmt: skip
def test_a_proof_of_equality_is_for_its_statement_only(statement: tuple[Point, Point, Point]) -> None:
    assert not verify_equal(*statement, EQUAL, *CONTEXT)


@pytest.mark.parametrize("change", [
    {"z": (EQUAL.z + 1) % Q}, {"z": 0}, {"K": -EQUAL.K}, {"L": -EQUAL.L}, {"K": EQUAL.K + X}, {"L": EQUAL.L + BASE},
    {"K": EQUAL.L, "L": EQUAL.K},
])  # fmt: skip
def test_every_part_of_a_proof_of_equality_matters(change: dict[str, object]) -> None:
    assert not verify_equal(X, BASE, Y, replace(EQUAL, **change), *CONTEXT)  # type: ignore[arg-type]


def test_unequal_logarithms_have_no_proof_even_for_who_knows_both() -> None:
    """Each equation alone can be met by who knows one logarithm; both at once not, whichever is used for z."""
    other = BASE.times_public(43)
    for x in (42, 43):
        assert not verify_equal(X, BASE, other, prove_equal(SeededRng("liar"), x, X, BASE, other, *CONTEXT), *CONTEXT)
    one_sided = prove(SeededRng("liar"), 42, X, *CONTEXT)
    assert not verify_equal(X, BASE, other, EqualityProof(one_sided.K, EQUAL.L, one_sided.z), *CONTEXT)
