"""The faster interpreter beside py-evm's own: the same answer, the same gas, the same error, for any program."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import pytest
from eth.vm.code_stream import CodeStream
from eth.vm.forks.prague.computation import PragueComputation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyquorum.chain.devchain.chain import DevChain
from keyquorum.chain.devchain.evm import Call, execute
from keyquorum.chain.devchain.interpreter import SIMPLE, FastComputation, jump_targets

AT, WORD = b"\xaa" * 20, 2**256
INTERESTING = [0, 1, 33, 255, 256, 2**64, 2**255, WORD - 1]
quick = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


@cache
def chain() -> DevChain:
    return DevChain()


def run(kind: type[Any], code: bytes, gas: int = 200_000, data: bytes = b"") -> tuple[Any, ...]:
    state = chain().state(chain().head)
    state.set_code(AT, code)
    state.computation_class = kind
    outcome = execute(state, Call(bytes(20), AT, data, gas=gas))
    error = outcome.error and (type(outcome.error), str(outcome.error), outcome.error.data)
    return bytes(outcome.output), outcome.gas_used, outcome.refund, error


def both(code: bytes, gas: int = 200_000, data: bytes = b"") -> tuple[Any, ...]:
    """Run on both and return what they agree on."""
    ours = run(FastComputation, code, gas, data)
    assert ours == run(PragueComputation, code, gas, data), code.hex()
    return ours


def push(value: int, size: int = 32) -> bytes:
    return bytes([0x5F + size]) + value.to_bytes(size, "big")


# Stores the four topmost items at 0, 32, ... and returns them.
SHOW = b"".join(push(32 * i, 1) + b"\x52" for i in range(4)) + bytes.fromhex("60805ff3")


def test_every_simple_instruction_on_interesting_numbers():
    """One program for each instruction: all pairs of operands, and what is then on top of the stack."""
    for opcode in SIMPLE:
        if opcode in (0x51, 0x52, 0x56, 0x57) or 0x5F <= opcode <= 0x7F:
            continue
        program = b""
        for at, (top, below) in enumerate(itertools.product(INTERESTING, repeat=2)):
            program += push(3) + push(below) + push(top) + bytes([opcode]) + push(32 * at, 2) + b"\x52"
        size = 32 * len(INTERESTING) ** 2
        output, _, _, error = both(push(7) * 18 + program + push(size, 2) + b"\x5f\xf3", gas=10**6)
        assert (error, len(output)) == (None, size)


def test_the_results_are_words():
    cases = {
        0x01: (WORD - 1, 2, 1),
        0x02: (WORD - 1, WORD - 1, 1),
        0x03: (0, 1, WORD - 1),
        0x10: (1, 2, 1),
        0x11: (1, 2, 0),
        0x14: (5, 5, 1),
        0x1B: (255, 3, 2**255),
        0x1C: (256, WORD - 1, 0),
    }
    for opcode, (top, below, result) in cases.items():
        store = push(below) + push(top) + bytes([opcode]) + bytes.fromhex("5f5260205ff3")
        assert both(store)[0] == result.to_bytes(32, "big")


@pytest.mark.parametrize("size", range(33))
def test_pushes_of_every_size_also_at_the_end_of_the_code(size):
    value = int.from_bytes(bytes(range(1, size + 1)), "big")
    assert both(push(value, size) + bytes.fromhex("5f5260205ff3"))[0] == value.to_bytes(32, "big")
    for cut in range(size + 1):
        both(push(value, size)[: 1 + cut])


def test_a_stack_that_is_full_or_too_short_fails_as_before():
    for opcode in [*SIMPLE, 0x00, 0xFE]:
        for depth in (0, 1, 2, 16, 17):
            both(b"\x5f" * depth + bytes([opcode]))
    for opcode in (0x01, 0x15, 0x50, 0x51, 0x52, 0x5B, 0x5F, 0x60, 0x80, 0x90):
        for depth in (1023, 1024):
            both(b"\x5f" * depth + bytes([opcode]))


def test_running_out_of_gas_at_any_instruction_fails_as_before():
    loop = push(3, 1) + b"\x5b" + push(1, 1) + bytes.fromhex("9003") + bytes.fromhex("80600257")
    loop += bytes.fromhex("5b6001600216191560011b5f5260205ff3")
    needed = both(loop)[1]
    assert needed < 21_300
    for gas in range(21_000, needed + 3):
        result = both(loop, gas)
        assert (result[3] is None) == (gas >= needed)


JUMPS = {
    "a loop": "60055b6001900380600257005b",
    "into pushed data": "6004565b605b00",
    "onto something else": "600356005b00",
    "beyond the end": "61ffff56",
    "far beyond the end": "7f" + "ff" * 32 + "56",
    "not taken, to nowhere": "5f61ffff575b00",
    "taken, to nowhere": "600161ffff57",
    "the condition as bytes": "5f35600657fe5b00",
    "the target as bytes": "5f3556005b00",
}


@pytest.mark.parametrize("name", JUMPS)
def test_jumps_go_where_they_may(name):
    for data in (b"", (5).to_bytes(32, "big"), b"\xff" * 32):
        both(bytes.fromhex(JUMPS[name]), data=data)


def test_memory_grows_and_costs_as_before():
    for offset in (0, 1, 31, 32, 33, 1000, 100_000, 2**40, WORD - 1, WORD - 32):
        for opcode in (0x51, 0x52):
            both(push(1) + push(7) + push(offset) + bytes([opcode, 0x59]) + SHOW)
            both(push(2) + push(64) + b"\x52" + push(1) + push(7) + push(offset) + bytes([opcode, 0x59]) + SHOW)


def instructions() -> st.SearchStrategy[bytes]:
    numbers = st.one_of(st.sampled_from(INTERESTING), st.integers(0, WORD - 1), st.integers(0, 100))
    pushes = numbers.map(lambda n: push(n, max(1, (n.bit_length() + 7) // 8)))
    simple = st.sampled_from(sorted(SIMPLE)).map(lambda opcode: bytes([opcode]))
    # Among them call data, hashes, storage, logs, the code itself, and what no program may do.
    others = st.sampled_from([0x04, 0x06, 0x0B, 0x1A, 0x1D, 0x20, 0x30, 0x35, 0x36, 0x37, 0x39, 0x54, 0x55])
    odd = st.sampled_from([0x58, 0x5A, 0x59, 0x5C, 0x5D, 0x5E, 0xA1, 0xF3, 0xFD, 0xFE, 0x00, 0xF1, 0xFA])
    return st.one_of(pushes, pushes, simple, simple, others.map(lambda o: bytes([o])), odd.map(lambda o: bytes([o])))


@quick
@given(st.lists(instructions(), max_size=60), st.integers(23_000, 80_000), st.binary(max_size=64))
def test_any_program_does_the_same(parts, gas, data):
    both(push(3) * 6 + b"".join(parts) + SHOW, gas, data)


@quick
@given(st.binary(max_size=80))
def test_any_bytes_do_the_same(code):
    both(code, 60_000)


@quick
@given(st.lists(st.one_of(instructions(), st.just(b"\x5b")), max_size=40).map(b"".join))
def test_the_places_to_jump_to_are_those_of_py_evm(code):
    stream = CodeStream(code)
    assert jump_targets(code) == {at for at, op in enumerate(code) if op == 0x5B and stream.is_valid_opcode(at)}


def test_the_chain_runs_on_it():
    assert chain().state(chain().head).computation_class is FastComputation
