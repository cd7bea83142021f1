"""Calls of strangers' contracts that always return: init code around the call, for an `eth_call` without destination.

Such a contract may halt in every way there is, or return a megabyte. Asked directly, endpoints would tell that in
errors with words of their own, and two programs in one quorum would disagree about a plain no. So the call is made by a
few instructions that are ours, with an amount of gas that is ours, and whatever it does comes back as data: one byte 0
and the word that the contract returned, or nothing, if it halted or returned anything but one word. (The byte is there
since nothing may be deployed that begins with 0xEF, and what init code returns is deployed, as far as the EVM knows.)

Nothing of it stays: it is an `eth_call`.
"""

from __future__ import annotations

WORD = 32
# What the contract may burn: validating a P-256 signature in Solidity takes 350,000, deploying a wallet as much again.
INNER_GAS = 1_000_000
# And on top: a creation (53,000), up to 10,000 bytes of data (16 each), and what is needed after a contract burnt all.
OUTER_GAS = INNER_GAS + 250_000

_STOP, _EQ, _AND, _CODECOPY, _EXTCODESIZE, _EXTCODECOPY = b"\x00", b"\x14", b"\x16", b"\x39", b"\x3b", b"\x3c"
_RETURNDATASIZE, _RETURNDATACOPY, _MSTORE8, _JUMPI, _JUMPDEST = b"\x3d", b"\x3e", b"\x53", b"\x57", b"\x5b"
_PUSH0, _DUP1, _DUP4, _CREATE, _RETURN, _STATICCALL = b"\x5f", b"\x80", b"\x83", b"\xf0", b"\xf3", b"\xfa"


def call(address: bytes, data: bytes) -> bytes:
    """Return init code that calls the contract at `address` (20 bytes) with `data`, read-only, with `INNER_GAS`.

    Its answer is for `answer` to read.
    """
    ask = _PUSH0 + _PUSH0 + _push(len(data), 2) + _PUSH0 + b"\x73" + address + _push(INNER_GAS, 3) + _STATICCALL
    is_word = _RETURNDATASIZE + _push(WORD, 1) + _EQ + _AND
    return _around(ask + is_word, _push(WORD, 1) + _PUSH0 + _push(1, 1) + _RETURNDATACOPY, data)


def creation(init_code: bytes) -> bytes:
    """Return init code that deploys the contract of `init_code` and gives back its code, if that is one word."""
    make = _push(len(init_code), 2) + _PUSH0 + _PUSH0 + _CREATE
    is_word = _DUP1 + _EXTCODESIZE + _push(WORD, 1) + _EQ
    return _around(make + is_word, _push(WORD, 1) + _PUSH0 + _push(1, 1) + _DUP4 + _EXTCODECOPY, init_code)


def answer(returned: bytes) -> bytes:
    """Return the word (32 bytes) in what the init code returned, or nothing."""
    return returned[1:] if len(returned) == 1 + WORD else b""


def _around(question: bytes, take: bytes, data: bytes) -> bytes:
    """Return code that puts `data` at 0 in memory, runs `question`, and if it left a truth, `take` to 1."""
    load = _push(len(data), 2), _PUSH0 + _CODECOPY
    at_yes = len(load[0]) + 3 + len(load[1]) + len(question) + 4
    yes = _JUMPDEST + _PUSH0 + _PUSH0 + _MSTORE8 + take + _push(1 + WORD, 1) + _PUSH0 + _RETURN
    where = _push(at_yes + len(yes), 2)
    return load[0] + where + load[1] + question + _push(at_yes, 1) + _JUMPI + _STOP + yes + data


def _push(number: int, size: int) -> bytes:
    """Return the instruction that pushes `number` in `size` bytes."""
    return bytes([0x5F + size]) + number.to_bytes(size, "big")
