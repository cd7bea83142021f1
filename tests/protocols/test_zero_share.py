"""Zero seeds: agreed by commit and reveal, and shares that cancel."""

from __future__ import annotations

import pytest

from keyquorum.algebra.field import Q
from keyquorum.algebra.rng import SeededRng
from keyquorum.protocols.zero_share import commit, finish, reveal, share
from keyquorum.rounds.errors import Blame

SID = b"z" * 32


def setup(sid_a: bytes = SID, sid_b: bytes = SID):
    a, commitment_a = commit(sid_a, 1, 2, SeededRng("a"))
    b, commitment_b = commit(sid_b, 2, 1, SeededRng("b"))
    return a, commitment_a, b, commitment_b


def agreed() -> bytes:
    a, commitment_a, b, commitment_b = setup()
    a, opening_a = reveal(a, commitment_b)
    b, opening_b = reveal(b, commitment_a)
    assert finish(a, opening_b) == finish(b, opening_a)
    return finish(a, opening_b)


def test_both_sides_get_the_same_seed() -> None:
    assert len(agreed()) == 32


def test_the_seed_depends_on_both_halves_and_on_the_session() -> None:
    a, *_ = setup()
    other, commitment_other = commit(SID, 2, 1, SeededRng("c"))
    seeds = {agreed()}
    state, _ = reveal(a, commitment_other)
    seeds.add(finish(state, other.opening))
    a2, _, b2, commitment_b2 = setup(b"y" * 32, b"y" * 32)
    seeds.add(finish(reveal(a2, commitment_b2)[0], b2.opening))
    assert len(seeds) == 3


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_malformed_commitment_blames_the_peer(size: int) -> None:
    a, *_ = setup()
    with pytest.raises(Blame) as caught:
        reveal(a, bytes(size))
    assert caught.value.culprits == {2}


@pytest.mark.parametrize(
    "change", [lambda o: o[:-1], lambda o: o + b"\0", lambda o: bytes(64), lambda o: b"", lambda o: o[32:] + o[:32]]
)
def test_an_opening_of_something_else_blames_the_peer(change) -> None:
    a, _, b, commitment_b = setup()
    state, _ = reveal(a, commitment_b)
    with pytest.raises(Blame) as caught:
        finish(state, change(b.opening))
    assert caught.value.culprits == {2}


def test_an_opening_of_a_wrong_length_is_refused_even_when_it_was_committed_to() -> None:
    """Otherwise the halves could be cut differently by the two sides."""
    from keyquorum.algebra.transcript import Tag, tagged_hash

    a, *_ = setup()
    long = bytes(65)
    state, _ = reveal(a, tagged_hash(Tag.ZERO_COMMITMENT, SID, 2, long))
    with pytest.raises(Blame):
        finish(state, long)


def test_echoing_our_own_commitment_and_opening_does_not_open() -> None:
    """The seed would be known to whoever sees one half: both halves the same."""
    a, commitment_a, *_ = setup()
    state, opening_a = reveal(a, commitment_a)
    with pytest.raises(Blame) as caught:
        finish(state, opening_a)
    assert caught.value.culprits == {2}


def test_a_commitment_of_another_session_does_not_open() -> None:
    a, _, b, commitment_b = setup(SID, b"y" * 32)
    with pytest.raises(Blame):
        finish(reveal(a, commitment_b)[0], b.opening)


SIGNERS = (1, 3, 4, 9)
SEEDS = {(i, j): SeededRng(f"{i} {j}").bytes(32) for i in SIGNERS for j in SIGNERS if i < j}


def seeds_of(me: int) -> dict[int, bytes]:
    return {j: SEEDS[min(me, j), max(me, j)] for j in SIGNERS if j != me}


def shares(sid: bytes = SID, context: tuple = (), batch: int = 3) -> dict[int, list[int]]:
    return {i: share(sid, i, SIGNERS, seeds_of(i), batch, *context) for i in SIGNERS}


def test_shares_add_up_to_zero_in_every_row() -> None:
    for row in zip(*shares().values(), strict=True):
        assert sum(row) % Q == 0
        assert 0 not in row


def test_shares_differ_by_row_run_and_context() -> None:
    columns = [shares()[1], shares(b"y" * 32)[1], shares(context=(b"other",))[1]]
    assert len({value for column in columns for value in column}) == 9


def test_fewer_signers_do_not_add_up_to_zero() -> None:
    values = shares()
    assert sum(values[i][0] for i in SIGNERS[:3]) % Q != 0


def test_signers_that_disagree_do_not_add_up_to_zero() -> None:
    values = shares()
    values[1] = share(SID, 1, SIGNERS, seeds_of(1), 3, b"another digest")
    assert sum(value[0] for value in values.values()) % Q != 0


def test_a_contribution_does_not_print_its_secret() -> None:
    a, *_ = setup()
    assert a.opening.hex() not in repr(a)
    assert repr(a.opening) not in repr(a)
