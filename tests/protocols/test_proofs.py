"""A proof verifies for its statement and its context, and for nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyquorum.algebra.curve import generator_times
from keyquorum.algebra.field import Q
from keyquorum.algebra.rng import SeededRng
from keyquorum.protocols.proofs import Proof, prove, verify

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
