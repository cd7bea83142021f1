"""A faster way through the common instructions: half of what py-evm spends on a transaction is its loop.

py-evm asks its code stream for one instruction after the other. This stream runs the simple ones itself (pushes, stack,
arithmetic, comparisons, jumps, words of memory) and hands out only the others. It also hands out every instruction that
is about to fail or to grow the memory: what an error is and what it costs is py-evm's to say, here is only the plain
case. `tests/chain/test_interpreter.py` runs both side by side.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from eth.vm.code_stream import CodeStream
from eth.vm.forks.prague.computation import PragueComputation

Action = Callable[[list[Any]], None]

WORD = 2**256 - 1
STACK_LIMIT = 1024
STOP, POP, MLOAD, MSTORE, JUMP, JUMPI, JUMPDEST = 0x00, 0x50, 0x51, 0x52, 0x56, 0x57, 0x5B
PUSH0, PUSH1, PUSH32, DUP1, SWAP1 = 0x5F, 0x60, 0x7F, 0x80, 0x90


def _int(item: Any) -> int:
    """Read a stack item: py-evm keeps some as bytes."""
    return item if type(item) is int else int.from_bytes(item, "big")


def _binary(function: Callable[[int, int], int]) -> Action:
    def run(values: list[Any]) -> None:
        top = _int(values.pop())
        values[-1] = function(top, _int(values[-1])) & WORD

    return run


def _unary(function: Callable[[int], int]) -> Action:
    def run(values: list[Any]) -> None:
        values[-1] = function(_int(values[-1]))

    return run


def _dup(place: int) -> Action:
    return lambda values: values.append(values[-place])


def _swap(place: int) -> Action:
    def run(values: list[Any]) -> None:
        values[-1], values[-place] = values[-place], values[-1]

    return run


def _pop(values: list[Any]) -> None:
    values.pop()


def _nothing(values: list[Any]) -> None:
    """Do what JUMPDEST does."""


# Instruction: gas (Prague), stack items it needs, and what it does; None: done by `_Plain` itself.
SIMPLE: dict[int, tuple[int, int, Action | None]] = {
    0x01: (3, 2, _binary(operator.add)),
    0x02: (5, 2, _binary(operator.mul)),
    0x03: (3, 2, _binary(operator.sub)),
    0x10: (3, 2, _binary(operator.lt)),
    0x11: (3, 2, _binary(operator.gt)),
    0x14: (3, 2, _binary(operator.eq)),
    0x15: (3, 1, _unary(lambda value: 0 if value else 1)),
    0x16: (3, 2, _binary(operator.and_)),
    0x17: (3, 2, _binary(operator.or_)),
    0x18: (3, 2, _binary(operator.xor)),
    0x19: (3, 1, _unary(lambda value: WORD - value)),
    0x1B: (3, 2, _binary(lambda count, value: value << count if count < 256 else 0)),
    0x1C: (3, 2, _binary(lambda count, value: value >> count if count < 256 else 0)),
    POP: (2, 1, _pop),
    MLOAD: (3, 1, None),
    MSTORE: (3, 2, None),
    JUMP: (8, 1, None),
    JUMPI: (10, 2, None),
    JUMPDEST: (1, 0, _nothing),
    PUSH0: (2, 0, None),
    **dict.fromkeys(range(PUSH1, PUSH32 + 1), (3, 0, None)),
    **{DUP1 + i: (3, i + 1, _dup(i + 1)) for i in range(16)},
    **{SWAP1 + i: (3, i + 2, _swap(i + 2)) for i in range(16)},
}
# By opcode, as lists are fastest; gas 0 stands for an instruction that is not simple.
GAS = [SIMPLE[opcode][0] if opcode in SIMPLE else 0 for opcode in range(256)]
NEEDED = [SIMPLE[opcode][1] if opcode in SIMPLE else 0 for opcode in range(256)]
ACTIONS = [SIMPLE[opcode][2] if opcode in SIMPLE else None for opcode in range(256)]


@lru_cache(maxsize=256)
def jump_targets(code: bytes) -> frozenset[int]:
    """Return where `code` may be jumped to: every JUMPDEST that is not part of a pushed value."""
    targets, at = set(), 0
    while at < len(code):
        opcode = code[at]
        if opcode == JUMPDEST:
            targets.add(at)
        at += opcode - PUSH0 + 1 if PUSH1 <= opcode <= PUSH32 else 1
    return frozenset(targets)


class FastCode(CodeStream):  # type: ignore[misc]
    """The code of one computation, which runs the simple instructions while it is iterated over."""

    program_counter: int

    def __init__(self, code: bytes, computation: Any) -> None:
        super().__init__(code)
        self._computation = computation

    def __iter__(self) -> Iterator[int]:
        """Yield each instruction that py-evm must run itself; last STOP."""
        code: bytes = self._raw_code_bytes
        pc = self.program_counter
        meter, values = self._computation._gas_meter, self._computation._stack.values
        run = _Plain(code, values, self._computation._memory).run
        while True:
            pc, meter.gas_remaining = run(pc, meter.gas_remaining)
            self.program_counter = pc + 1
            if pc >= len(code):
                break
            yield code[pc]
            pc = self.program_counter
        yield STOP


class _Plain:
    """The plain case of the simple instructions, on the stack and the memory of one computation."""

    __slots__ = ("_code", "_memory", "_targets", "_values")

    def __init__(self, code: bytes, values: list[Any], memory: Any) -> None:
        self._code, self._values, self._memory = code, values, memory
        self._targets = jump_targets(code)

    def run(self, pc: int, gas: int) -> tuple[int, int]:
        """Run from `pc` with `gas`; return the place of the first instruction that was not run, and the gas left."""
        code, values, end = self._code, self._values, len(self._code)
        while pc < end:
            opcode, depth = code[pc], len(values)
            cost = GAS[opcode]
            if not cost or gas < cost or depth < NEEDED[opcode] or depth >= STACK_LIMIT:
                break
            action = ACTIONS[opcode]
            if action is not None:
                action(values)
                pc += 1
            elif opcode >= PUSH0:
                after = pc + opcode - PUSH0 + 1
                if after > end:
                    break
                values.append(int.from_bytes(code[pc + 1 : after], "big"))
                pc = after
            elif opcode >= JUMP:
                after = self._jump(opcode, pc)
                if after < 0:
                    break
                pc = after
            elif self._word(opcode):
                pc += 1
            else:
                break
            gas -= cost
        return pc, gas

    def _jump(self, opcode: int, pc: int) -> int:
        """Return where JUMP or JUMPI leads, or -1 if there is nothing to jump to."""
        values = self._values
        items = 1 if opcode == JUMP else 2
        target = pc + 1
        if items == 1 or _int(values[-2]):
            target = _int(values[-1])
            if target not in self._targets:
                return -1
        del values[-items:]
        return target

    def _word(self, opcode: int) -> bool:
        """Do MLOAD or MSTORE; return whether it was done, which needs memory that is there already."""
        values, memory = self._values, self._memory._bytes
        at = _int(values[-1])
        if at + 32 > len(memory):
            return False
        if opcode == MLOAD:
            values[-1] = int.from_bytes(memory[at : at + 32], "big")
        else:
            memory[at : at + 32] = _int(values[-2]).to_bytes(32, "big")
            del values[-2:]
        return True


class FastComputation(PragueComputation):  # type: ignore[misc]
    """Prague, with the faster code."""

    def __init__(self, state: Any, message: Any, transaction_context: Any) -> None:
        super().__init__(state, message, transaction_context)
        self.code = FastCode(message.code, self)
