"""A call without destination runs a constructor and returns what it returns, on our chain and on anvil alike."""

from __future__ import annotations

import pytest

from chain_fixtures import CLOCK, RECORDER, deployment, words
from keyquorum.chain.deploy import contract_address
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.rpc import Reverted, Rpc, RpcError, RpcUnreachable, Sender

# PUSH1 42, PUSH0, MSTORE, PUSH1 32, PUSH0, RETURN
ANSWERS_42 = bytes.fromhex("602a5f5260205ff3")
REVERTS_WITH_42 = bytes.fromhex("602a5f5260205ffd")
# TIMESTAMP and NUMBER
WHEN = bytes.fromhex("425f524360205260405ff3")


@pytest.fixture
async def rpc(any_chain: str):
    async with Rpc(any_chain, timeout=30) as client:
        yield client


async def test_the_answer_is_what_the_constructor_returns(rpc: Rpc) -> None:
    assert await rpc.probe(ANSWERS_42) == words(42)
    assert await rpc.probe(deployment(RECORDER)) == RECORDER
    assert await rpc.probe(bytes.fromhex("00")) == b""


async def test_a_constructor_that_reverts_is_told_from_one_that_answers(rpc: Rpc) -> None:
    with pytest.raises(Reverted) as caught:
        await rpc.probe(REVERTS_WITH_42)
    assert caught.value.revert_data == words(42)


async def test_nothing_stays_of_it(rpc: Rpc) -> None:
    address, _ = ACCOUNTS[0]
    at = contract_address(address, 0)
    assert await rpc.eth_call(None, deployment(RECORDER), sender=address) == RECORDER
    assert await rpc.call("eth_getCode", at, "latest") == "0x"
    assert await rpc.call("eth_getTransactionCount", address, "latest") == "0x0"
    assert await rpc.block_number() == 0


async def test_an_account_that_has_deployed_before_may_ask_too(rpc: Rpc) -> None:
    address, key = ACCOUNTS[0]
    await Sender(rpc, key).send(None, deployment(CLOCK))
    assert await rpc.eth_call(None, ANSWERS_42, sender=address) == words(42)


async def test_it_runs_in_the_block_that_was_asked_for(rpc: Rpc) -> None:
    await rpc.call("evm_mine")
    first = await rpc.block("latest")
    await rpc.call("evm_increaseTime", 1000)
    await rpc.call("evm_mine")
    assert first is not None
    for block in ("latest", int(first["number"], 16)):
        shown = await rpc.block(block)
        assert shown is not None
        assert await rpc.probe(WHEN, block) == words(int(shown["timestamp"], 16), int(shown["number"], 16))


async def test_too_long_a_constructor_is_refused(rpc: Rpc) -> None:
    assert await rpc.probe(ANSWERS_42 + bytes(49_152 - len(ANSWERS_42))) == words(42)
    with pytest.raises((RpcError, RpcUnreachable)):
        await rpc.probe(ANSWERS_42 + bytes(49_153 - len(ANSWERS_42)))
