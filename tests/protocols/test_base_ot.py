"""Base OT: both get what they should, and every malformed message names its author."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from keyquorum.algebra.curve import Point, generator_times
from keyquorum.algebra.rng import SeededRng
from keyquorum.protocols import base_ot
from keyquorum.protocols.base_ot import MESSAGE_BYTES, choose, finish, respond
from keyquorum.rounds.errors import Blame

SID = b"\x05" * 32
CHOOSER, RESPONDER = 2, 7


@cache
def recorded() -> tuple[base_ot.ChooserState, bytes, base_ot.SeedPairs, bytes]:
    state, request = choose(SID, CHOOSER, RESPONDER, SeededRng(1))
    return state, request, *respond(SID, CHOOSER, RESPONDER, SeededRng(2), request)


def honest() -> tuple[base_ot.ChooserState, bytes, base_ot.SeedPairs, bytes]:
    """One honest run, made once, with a state that is still unused."""
    state, request, pairs, answer = recorded()
    return replace(state, secrets=list(state.secrets)), request, pairs, answer


def run(seed: int, sid: bytes = SID) -> tuple[base_ot.ChosenSeeds, base_ot.SeedPairs]:
    rng = SeededRng(seed)
    state, request = choose(sid, CHOOSER, RESPONDER, rng.fork("chooser"))
    pairs, answer = respond(sid, CHOOSER, RESPONDER, rng.fork("responder"), request)
    return finish(state, answer), pairs


@pytest.mark.parametrize("seed", range(3))
def test_the_chooser_gets_the_chosen_seeds_and_only_those(seed: int) -> None:
    chosen, pairs = run(seed)
    bits = np.unpackbits(np.frombuffer(chosen.delta, np.uint8), bitorder="little")
    assert 30 < bits.sum() < 98
    for k, bit in enumerate(bits):
        both = (pairs.zeros[k], pairs.ones[k])
        assert np.array_equal(chosen.seeds[k], both[bit])
        assert not np.array_equal(chosen.seeds[k], both[1 - bit])


def test_all_256_seeds_differ() -> None:
    _, pairs = run(1)
    assert len({seed.tobytes() for seed in (*pairs.zeros, *pairs.ones)}) == 256


def test_messages_have_the_length_the_spec_says() -> None:
    state, request, _, answer = honest()
    assert len(request) == len(answer) == MESSAGE_BYTES == 16640
    assert state.delta.hex() not in repr(state)


def test_every_setup_has_choice_bits_of_its_own() -> None:
    rng = SeededRng(1)
    deltas = {bytes(choose(SID, CHOOSER, RESPONDER, rng)[0].delta) for _ in range(4)}
    assert len(deltas) == 4


def test_a_state_is_used_once() -> None:
    state, _, _, answer = honest()
    finish(state, answer)
    with pytest.raises(ValueError, match="used before"):
        finish(state, answer)


@pytest.mark.parametrize(("chooser", "responder"), [(1, 1), (0, 1), (1, 0), (-1, 2)])
def test_parties_are_two_different_ones(chooser: int, responder: int) -> None:
    with pytest.raises(ValueError, match="different parties"):
        choose(SID, chooser, responder, SeededRng(1))


def test_results_are_erased_and_do_not_show() -> None:
    chosen, pairs = run(1)
    for text in (repr(chosen), repr(pairs)):
        assert "array" not in text and "bytearray" not in text
    chosen.erase()
    pairs.erase()
    assert not any(chosen.delta) and not chosen.seeds.any() and not pairs.zeros.any() and not pairs.ones.any()


def put(place: int, point: bytes) -> Callable[[bytes], bytes]:
    return lambda message: message[: 65 * place] + point + message[65 * (place + 1) :]


def repeat(source: int, target: int) -> Callable[[bytes], bytes]:
    return lambda message: put(target, message[65 * source : 65 * source + 65])(message)


GENERATOR = generator_times(1)
MALFORMED: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "a byte short": lambda m: m[:-1],
    "a byte long": lambda m: m + b"\0",
    "twice as long": lambda m: m + m,
    "zeros": lambda m: bytes(len(m)),
    "infinity as zeros": put(17, bytes(65)),
    "infinity as 00": put(17, b"\x04" + bytes(64)),
    "x not below p": put(255, b"\x04" + b"\xff" * 64),
    "not on the curve": put(0, b"\x04" + GENERATOR.to_bytes()[1:64] + bytes([GENERATOR.to_bytes()[64] ^ 1])),
    "hybrid encoding": put(3, bytes([6 + GENERATOR.y_is_odd]) + GENERATOR.to_bytes()[1:]),
    "compressed and padded": put(3, GENERATOR.to_compressed() + bytes(32)),
    "both branches the same": repeat(6, 7),
    "two OTs the same": repeat(0, 200),
    "first and last the same": repeat(255, 0),
}


@pytest.mark.parametrize("how", MALFORMED)
def test_a_malformed_request_blames_the_chooser(how: str) -> None:
    _, request, _, _ = honest()
    with pytest.raises(Blame) as caught:
        respond(SID, CHOOSER, RESPONDER, SeededRng(2), MALFORMED[how](request))
    assert caught.value.culprits == {CHOOSER} and caught.value.burn is None


@pytest.mark.parametrize("how", MALFORMED)
def test_a_malformed_answer_blames_the_responder(how: str) -> None:
    state, _, _, answer = honest()
    with pytest.raises(Blame) as caught:
        finish(state, MALFORMED[how](answer))
    assert caught.value.culprits == {RESPONDER} and caught.value.burn is None


def test_a_branch_at_infinity_blames_the_chooser() -> None:
    _, request, _, _ = honest()
    other = Point.from_bytes_checked(request[65:130])
    mask = base_ot._Run(SID, CHOOSER, RESPONDER).mask(0, 0, other)
    with pytest.raises(Blame, match="infinity") as caught:
        respond(SID, CHOOSER, RESPONDER, SeededRng(2), put(0, (-mask).to_bytes())(request))
    assert caught.value.culprits == {CHOOSER}
