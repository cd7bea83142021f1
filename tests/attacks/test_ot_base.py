"""Attacks on base OT (T11): repeated, reflected and replayed points, and a search for the unchosen seed."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from keyquorum.algebra.curve import Point, PointAtInfinity, generator_times
from keyquorum.algebra.rng import SeededRng
from keyquorum.protocols import base_ot
from keyquorum.protocols.base_ot import choose, finish, respond
from keyquorum.rounds.errors import Blame

SID, OTHER_SID = b"\x05" * 32, b"\x06" * 32
CHOOSER, RESPONDER = 2, 7


@cache
def recorded() -> tuple[base_ot.ChooserState, bytes, base_ot.SeedPairs, bytes]:
    state, request = choose(SID, CHOOSER, RESPONDER, SeededRng(1))
    return state, request, *respond(SID, CHOOSER, RESPONDER, SeededRng(2), request)


def honest() -> tuple[base_ot.ChooserState, bytes, base_ot.SeedPairs, bytes]:
    """One honest run, made once, with a state that is still unused."""
    state, request, pairs, answer = recorded()
    return replace(state, secrets=list(state.secrets)), request, pairs, answer


def points(message: bytes) -> list[bytes]:
    return [message[i : i + 65] for i in range(0, len(message), 65)]


def matching(chosen: base_ot.ChosenSeeds, pairs: base_ot.SeedPairs) -> int:
    return sum(
        np.array_equal(seed, other)
        for seed, zero, one in zip(chosen.seeds, pairs.zeros, pairs.ones, strict=True)
        for other in (zero, one)
    )


@pytest.mark.parametrize("count", [2, 128, 256])
def test_one_answer_point_for_several_branches_is_refused(count: int) -> None:
    state, _, _, answer = honest()
    chunks = points(answer)
    with pytest.raises(Blame) as caught:
        finish(state, b"".join([chunks[0]] * count + chunks[count:]))
    assert caught.value.culprits == {RESPONDER}


@pytest.mark.parametrize("place", [0, 1, 100, 255])
def test_a_responder_that_reflects_a_point_is_refused(place: int) -> None:
    state, request, _, answer = honest()
    chunks = points(answer)
    chunks[place] = points(request)[(place + 128) % 256]
    with pytest.raises(Blame, match="repeats") as caught:
        finish(state, b"".join(chunks))
    assert caught.value.culprits == {RESPONDER}


@pytest.mark.parametrize(
    ("sid", "chooser", "responder"),
    [(OTHER_SID, CHOOSER, RESPONDER), (SID, CHOOSER, 9), (SID, 9, RESPONDER), (SID, RESPONDER, CHOOSER)],
)
def test_a_request_replayed_elsewhere_gives_seeds_nobody_shares(sid: bytes, chooser: int, responder: int) -> None:
    state, request, _, _ = honest()
    pairs, answer = respond(sid, chooser, responder, SeededRng(2), request)
    assert matching(finish(state, answer), pairs) == 0


def test_exchanging_two_transfers_gives_seeds_nobody_shares() -> None:
    state, request, _, _ = honest()
    chunks = points(request)
    pairs, answer = respond(SID, CHOOSER, RESPONDER, SeededRng(2), b"".join(chunks[2:4] + chunks[0:2] + chunks[4:]))
    chosen = finish(state, answer)
    assert matching(chosen, pairs) == 126
    assert not any(np.array_equal(chosen.seeds[k], pair[k]) for k in (0, 1) for pair in (pairs.zeros, pairs.ones))


def test_the_same_choice_point_in_all_transfers_is_refused() -> None:
    _, request, _, _ = honest()
    with pytest.raises(Blame, match="repeats") as caught:
        respond(SID, CHOOSER, RESPONDER, SeededRng(2), request[:130] * 128)
    assert caught.value.culprits == {CHOOSER}


def combinations(terms: list[Point]) -> list[Point]:
    """All sums of up to three of the points with signs."""
    found = []
    for count in (1, 2, 3):
        for chosen in itertools.combinations(terms, count):
            for signs in itertools.product((False, True), repeat=count):
                try:
                    total = -chosen[0] if signs[0] else chosen[0]
                    for point, minus in zip(chosen[1:], signs[1:], strict=True):
                        total = total - point if minus else total + point
                except PointAtInfinity:
                    continue
                found.append(total)
    return found


def test_no_formula_over_the_choosers_view_gives_the_unchosen_seed() -> None:
    state, _, pairs, answer = honest()
    secrets = list(state.secrets)
    chosen = finish(state, answer)
    run = base_ot._Run(SID, CHOOSER, RESPONDER)
    for k in (0, 77):
        c = chosen.delta[k // 8] >> k % 8 & 1
        R, A = state.sent[k], tuple(Point.from_bytes_checked(p) for p in points(answer)[2 * k : 2 * k + 2])
        t = secrets[k]
        masks = [run.mask(k, b, R[1 - b]) for b in (0, 1)]
        view = [A[0].times_public(t), A[1].times_public(t), generator_times(t), *A, *R, *masks]
        shared = {point.digest() for point in combinations(view)}
        seeds = {run.pad(k, b, R, A, digest) for digest in shared for b in (0, 1)}
        assert len(shared) > 500
        both = (pairs.zeros[k].tobytes(), pairs.ones[k].tobytes())
        assert both[c] in seeds
        assert both[1 - c] not in seeds


def test_every_input_of_the_seed_matters() -> None:
    run = base_ot._Run(SID, CHOOSER, RESPONDER)
    P = [generator_times(k) for k in range(1, 7)]
    base = run.pad(0, 0, (P[0], P[1]), (P[2], P[3]), b"s" * 32)
    others = [
        base_ot._Run(OTHER_SID, CHOOSER, RESPONDER).pad(0, 0, (P[0], P[1]), (P[2], P[3]), b"s" * 32),
        base_ot._Run(SID, 9, RESPONDER).pad(0, 0, (P[0], P[1]), (P[2], P[3]), b"s" * 32),
        base_ot._Run(SID, CHOOSER, 9).pad(0, 0, (P[0], P[1]), (P[2], P[3]), b"s" * 32),
        run.pad(1, 0, (P[0], P[1]), (P[2], P[3]), b"s" * 32),
        run.pad(0, 1, (P[0], P[1]), (P[2], P[3]), b"s" * 32),
        run.pad(0, 0, (P[4], P[1]), (P[2], P[3]), b"s" * 32),
        run.pad(0, 0, (P[0], P[4]), (P[2], P[3]), b"s" * 32),
        run.pad(0, 0, (P[0], P[1]), (P[4], P[3]), b"s" * 32),
        run.pad(0, 0, (P[0], P[1]), (P[2], P[4]), b"s" * 32),
        run.pad(0, 0, (P[0], P[1]), (P[2], P[3]), b"t" * 32),
    ]
    assert len({base, *others}) == len(others) + 1


def test_every_input_of_the_branch_mask_matters() -> None:
    run, G = base_ot._Run(SID, CHOOSER, RESPONDER), generator_times(1)
    masks = {
        run.mask(0, 0, G),
        run.mask(1, 0, G),
        run.mask(0, 1, G),
        run.mask(0, 0, generator_times(2)),
        base_ot._Run(OTHER_SID, CHOOSER, RESPONDER).mask(0, 0, G),
        base_ot._Run(SID, 9, RESPONDER).mask(0, 0, G),
        base_ot._Run(SID, CHOOSER, 9).mask(0, 0, G),
    }
    assert len(masks) == 7
