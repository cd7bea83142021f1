"""A stranger's contract answers one word or nothing, whatever it does, on every chain and without one error."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from chain_fixtures import DIVER, REVERTER, SPINNER, anvil_chain, any_chain, assemble, deployment, dev_chain, js_tools  # noqa: F401
from keyquorum.chain import guarded_call
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.errors import Reverted, as_error
from keyquorum.chain.guarded_call import INNER_GAS, OUTER_GAS
from keyquorum.chain.rpc import Rpc, Sender

MAGIC = bytes.fromhex("1626ba7e") + bytes(28)
SAYS_YES = assemble(f"0x{MAGIC.hex()} PUSH0 MSTORE 0x20 PUSH0 RETURN")
# Every way in which a contract can end without an answer of one word.
HALTS = {
    "invalid": bytes.fromhex("fe"),
    "undefined": bytes.fromhex("0c"),
    "reverts": REVERTER,
    "reverts without data": assemble("PUSH0 PUSH0 REVERT"),
    "never ends": SPINNER,
    "calls itself": DIVER,
    "stack underflow": assemble("ADD"),
    "stack overflow": assemble("start: PUSH0 @start JUMP"),
    "jumps nowhere": assemble("0x07 JUMP"),
    "writes": assemble("0x01 PUSH0 SSTORE PUSH0 PUSH0 RETURN"),
    "reads what was not returned": bytes.fromhex("60205f5f3e"),
    "much memory": assemble("0xffffffff PUSH0 RETURN"),
    "nothing": assemble("STOP"),
    "two words": assemble("0x40 PUSH0 RETURN"),
    "31 bytes": assemble("0x1f PUSH0 RETURN"),
    "20,000 bytes": assemble("0x4e20 PUSH0 RETURN"),
}
BEGINS_WITH_EF = assemble(f"0x{'ef' * 32} PUSH0 MSTORE 0x20 PUSH0 RETURN")


@dataclass
class Asked:
    rpc: Rpc

    async def deploy(self, code: bytes) -> bytes:
        receipt = await Sender(self.rpc, ACCOUNTS[0][1]).send(None, deployment(code))
        return bytes.fromhex(receipt["contractAddress"][2:])

    async def run(self, code: bytes) -> bytes:
        """Run guarded code; an error of any kind fails the test, since its words would be the endpoint's own."""
        return guarded_call.answer(await self.rpc.eth_call(None, code, gas=OUTER_GAS))


@pytest.fixture
async def asked(any_chain: str):  # noqa: F811
    async with Rpc(any_chain) as rpc:
        yield Asked(rpc)


async def test_one_word_comes_back_as_it_is(asked: Asked) -> None:
    for word in (SAYS_YES, BEGINS_WITH_EF):
        answer = await asked.run(guarded_call.call(await asked.deploy(word), b"question"))
        assert answer == (MAGIC if word is SAYS_YES else b"\xef" * 32)


async def test_whatever_else_a_contract_does_is_nothing_and_never_an_error(asked: Asked) -> None:
    for what, code in HALTS.items():
        answer = await asked.run(guarded_call.call(await asked.deploy(code), b"\x01" * 8000))
        assert answer == b"", what


async def test_an_account_without_code_says_nothing(asked: Asked) -> None:
    assert await asked.run(guarded_call.call(b"\x77" * 20, b"")) == b""


async def test_the_contract_sees_the_question_and_the_bounded_gas(asked: Asked) -> None:
    echo = await asked.deploy(assemble("0x04 CALLDATALOAD PUSH0 MSTORE 0x20 PUSH0 RETURN"))
    assert await asked.run(guarded_call.call(echo, b"abcd" + MAGIC)) == MAGIC
    meter = await asked.deploy(assemble("GAS PUSH0 MSTORE 0x20 PUSH0 RETURN"))
    gas = int.from_bytes(await asked.run(guarded_call.call(meter, b"\x01" * 9000)), "big")
    assert INNER_GAS - 100 < gas < INNER_GAS  # the same however long the question is


async def test_a_constructor_answers_one_word_or_nothing_too(asked: Asked) -> None:
    assert await asked.run(guarded_call.creation(SAYS_YES)) == MAGIC
    for what, code in HALTS.items():
        assert await asked.run(guarded_call.creation(code)) == b"", what


async def test_asked_directly_every_halt_is_told_apart_from_a_failure_of_the_endpoint(asked: Asked) -> None:
    for what, code in HALTS.items():
        if what in ("nothing", "two words", "31 bytes", "20,000 bytes", "writes"):
            continue
        address = "0x" + (await asked.deploy(code)).hex()
        with pytest.raises(Reverted):
            await asked.rpc.eth_call(address, b"", gas=100_000)
            pytest.fail(what)


@pytest.mark.parametrize(("code", "message", "data"), [
    (3, "execution reverted: no", "0x08c379a0"),
    (-32000, "execution reverted", None),
    (-32000, "out of gas", None),
    (-32003, "out of gas", "0x"),
    (-32000, "invalid opcode: INVALID", None),
    (-32000, "invalid opcode: opcode 0xfe not defined", None),
    (-32000, "invalid jump destination", None),
    (-32000, "stack underflow (0 <=> 2)", None),
    (-32000, "stack limit reached 1024 (1023)", None),
    (-32000, "write protection", None),
    (-32000, "gas uint64 overflow", None),
    (-32000, "execution aborted (timeout = 5s)", None),
    (-32000, "invalid code: must not begin with 0xef", None),
    (-32015, "VM execution error.", "Bad instruction fe"),
    (-32015, "VM execution error.", "Reverted 0x08c379a0"),
    (-32000, "BadInstruction", None),
    (-32000, "StackUnderflow", None),
    (-32000, "EVM error: InvalidFEOpcode", None),
    (-32603, "EVM error OpcodeNotFound", None),
    (-32003, "out of gas: gas required exceeds: 100000", None),
    (-32603, "VM Exception while processing transaction: invalid opcode", {"data": "0x"}),
    (-32000, "Transaction processing could not be completed due to an exception: Out of gas", None),
    (-32000, "EVM error: OutOfGas", None),
])  # fmt: skip
def test_every_programs_words_for_a_halt_are_known(code: int, message: str, data: object) -> None:
    error = as_error({"code": code, "message": message, "data": data}, "eth_call")
    assert isinstance(error, Reverted)
    assert error.revert_data in (b"", bytes.fromhex("08c379a0"))


@pytest.mark.parametrize(("code", "message"), [
    (-32000, "header not found"),
    (-32000, "missing trie node"),
    (-32000, "state is not available"),
    (-32005, "limit exceeded"),
    (-32005, "daily request count exceeded, request rate limited"),
    (-32601, "the method eth_call does not exist/is not available"),
    (-32602, "invalid argument 0: json: cannot unmarshal"),
    (-32603, "internal error"),
    (-32002, "request timed out"),
    (-32000, "insufficient funds for gas * price + value"),
    (429, "Too Many Requests"),
])  # fmt: skip
def test_what_the_endpoint_could_not_do_is_no_answer(code: int, message: str) -> None:
    assert not isinstance(as_error({"code": code, "message": message}, "eth_call"), Reverted)


def test_of_other_methods_the_same_words_are_no_halt() -> None:
    for method in ("eth_sendRawTransaction", "eth_getCode", "eth_blockNumber"):
        assert not isinstance(as_error({"code": -32000, "message": "out of gas"}, method), Reverted)
