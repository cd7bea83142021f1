"""What the development chain's methods do with calls, logs, a failing disk, and any parameter there is."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from eth_hash.auto import keccak

from chain_fixtures import CLOCK, DIVER, RECORDER, REVERTER, assemble, raises_rpc, words
from devchain_kit import FIRST, HEX, NOBODY, Wall, deploy, record, signed
from keyquorum.chain.devchain import chain as chain_module
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.devchain.chain import DevChain
from keyquorum.chain.devchain.evm import GAS_LIMIT
from keyquorum.chain.devchain.methods import Methods
from keyquorum.chain.devchain.queries import MAX_FILTERS
from keyquorum.chain.devchain.registry import METHODS
from keyquorum.chain.rpc import RpcError

AUTHORIZATION = {"chainId": "0x7a69", "address": HEX, "nonce": "0x0", "yParity": "0x0", "r": "0x1", "s": "0x1"}


# -- execution --------------------------------------------------------------------------------------------------------


def test_a_call_leaves_nothing_behind(methods: Methods, chain: DevChain) -> None:
    contract = deploy(methods, RECORDER)
    before = dict(chain.store.nodes._pending)
    methods.run("eth_call", [{"to": contract, "data": "0x" + words(1, 2).hex()}])
    methods.run("eth_estimateGas", [{"to": contract, "data": "0x" + words(1, 2).hex()}])
    assert chain.store.nodes._pending == before == {}
    assert methods.run("eth_call", [{"to": contract, "data": "0x" + words(1).hex()}]) == "0x" + words(0).hex()


def test_the_same_call_on_the_same_block_is_executed_once(
    methods: Methods, chain: DevChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract, reverter = deploy(methods, RECORDER), deploy(methods, REVERTER)
    executed = 0
    real = chain_module.execute

    def counted(*arguments: Any) -> Any:
        nonlocal executed
        executed += 1
        return real(*arguments)

    def read(key: int = 1, to: str = contract, **more: str) -> int:
        return int(methods.run("eth_call", [{"to": to, "data": "0x" + words(key).hex()} | more]), 16)

    monkeypatch.setattr(chain_module, "execute", counted)
    assert (read(), read(), executed) == (0, 0, 1)
    read(2)
    read(1, gas="0xffff")
    read(1, **{"from": FIRST.address})
    assert executed == 4, "what differs is executed"
    record(methods, contract, 1, 5)
    executed = 0
    assert (read(), read(), executed) == (5, 5, 1), "a new block is a new answer"
    for _ in range(2):
        with pytest.raises(RpcError):
            read(1, reverter)
    assert executed == 3, "refusals are not kept"
    kept = len(chain._answers)
    monkeypatch.setattr(chain_module, "ANSWERS_KEPT", kept)
    for key in range(10, 20):
        read(key)
    assert len(chain._answers) == kept
    monkeypatch.setattr(chain_module, "LONGEST_ANSWER_KEPT", 63)
    executed = 0
    assert (read(99), read(99), executed) == (0, 0, 2), "long answers are not kept"


def test_a_pending_call_sees_the_next_block(methods: Methods, chain: DevChain, wall: Wall) -> None:
    contract = deploy(methods, CLOCK)
    head = chain.head
    wall.now += 500
    seen = bytes.fromhex(methods.run("eth_call", [{"to": contract}, "pending"])[2:])
    numbers = [int.from_bytes(seen[start : start + 32], "big") for start in range(0, 160, 32)]
    assert numbers[0] == head.block_number + 1
    assert numbers[1] == int(wall.now)
    assert numbers[3] == int.from_bytes(head.hash, "big")
    assert numbers[4] == int.from_bytes(keccak(head.hash), "big")


def test_a_call_without_funds_says_so(methods: Methods) -> None:
    for method in ("eth_call", "eth_estimateGas"):
        with raises_rpc(-32000, "insufficient funds"):
            methods.run(method, [{"from": HEX, "to": HEX, "value": "0x1"}])


def test_an_estimate_within_too_little_gas_is_refused(methods: Methods) -> None:
    with raises_rpc(-32000, "allowance"):
        methods.run("eth_estimateGas", [{"from": FIRST.address, "to": HEX, "gas": "0x5207"}])


def test_an_estimate_for_deep_calls_suffices(methods: Methods) -> None:
    contract = deploy(methods, DIVER)
    call = {"from": FIRST.address, "to": contract, "gas": hex(2_000_000)}
    estimate = methods.run("eth_estimateGas", [call])
    receipt = methods.run("eth_getTransactionReceipt", [methods.run("eth_sendTransaction", [call | {"gas": estimate}])])
    assert receipt["status"] == "0x1"


def test_estimates_count_access_lists_and_authorizations(methods: Methods) -> None:
    call = {"from": FIRST.address, "to": HEX}
    listed = call | {"accessList": [{"address": HEX, "storageKeys": ["0x" + "00" * 32]}]}
    assert int(methods.run("eth_estimateGas", [listed]), 16) >= 21_000 + 2_400 + 1_900
    assert int(methods.run("eth_estimateGas", [call | {"authorizationList": [AUTHORIZATION]}]), 16) >= 21_000 + 25_000
    assert methods.run("eth_call", [listed | {"authorizationList": [AUTHORIZATION]}]) == "0x"


# -- logs -------------------------------------------------------------------------------------------------------------


def test_a_filter_longer_than_a_logs_topics_does_not_match(methods: Methods) -> None:
    contract = deploy(methods, RECORDER)
    record(methods, contract, 1, 5)
    for topics, count in (([], 1), ([None, None], 1), ([None] * 3, 0), ([[]], 1), ([[None]], 1)):
        query = {"fromBlock": "0x0", "topics": topics}
        assert len(methods.run("eth_getLogs", [query])) == count, topics


def test_too_many_logs_are_refused(methods: Methods, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = deploy(methods, RECORDER)
    for value in range(3):
        record(methods, contract, 1, value)
    monkeypatch.setattr("keyquorum.chain.devchain.queries.MAX_LOGS", 2)
    with raises_rpc(-32005, "fewer blocks"):
        methods.run("eth_getLogs", [{"fromBlock": "0x0"}])


def test_ranges_beyond_the_head_or_backwards_are_empty(methods: Methods) -> None:
    assert methods.run("eth_getLogs", [{"fromBlock": "0x10", "toBlock": "0xffffffffffffffffffff"}]) == []
    assert methods.run("eth_getLogs", [{"fromBlock": "latest", "toBlock": "earliest"}]) == []
    with raises_rpc(-32000, "unknown block"):
        methods.run("eth_getLogs", [{"blockHash": "0x" + "00" * 32}])


def test_filters_are_bounded_and_forgotten_oldest_first(methods: Methods) -> None:
    names = [methods.run("eth_newBlockFilter", []) for _ in range(MAX_FILTERS + 1)]
    with raises_rpc(-32000, "filter not found"):
        methods.run("eth_getFilterChanges", [names[0]])
    assert methods.run("eth_getFilterChanges", [names[1]]) == []
    with raises_rpc(-32000, "filter not found"):
        methods.run("eth_getFilterLogs", [names[1]])
    logs = methods.run("eth_newFilter", [{"fromBlock": "0x0"}])
    record(methods, deploy(methods, RECORDER), 1, 2)
    assert len(methods.run("eth_getFilterLogs", [logs])) == 1


def test_log_search_uses_an_index(chain: DevChain) -> None:
    statement = "EXPLAIN QUERY PLAN SELECT * FROM logs WHERE block BETWEEN ? AND ? AND {} ORDER BY block, position"
    for condition in ("address IN (?)", "topic0 IN (?)"):
        plan = chain.store._sql.execute(statement.format(condition), (0, 9, b"")).fetchall()
        assert any("USING INDEX logs_by" in row[3] for row in plan), plan


# -- failing disk -----------------------------------------------------------------------------------------------------


def test_a_block_that_cannot_be_written_does_not_exist(
    chain: DevChain, methods: Methods, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = chain.head
    real = chain.store.nodes.write

    def full_disk() -> None:
        real()
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(chain.store.nodes, "write", full_disk)
    with pytest.raises(sqlite3.OperationalError):
        chain.submit(signed())
    monkeypatch.undo()
    assert chain.head.hash == head.hash
    assert chain.store.nodes._pending == {}
    assert not chain.store._sql.in_transaction
    assert methods.run("eth_getBalance", [HEX, "latest"]) == "0x0"
    chain.submit(signed())
    assert methods.run("eth_getBalance", [HEX, "latest"]) == "0x1"


def test_the_node_cache_is_bounded_and_harmless_to_lose(chain: DevChain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyquorum.chain.devchain.store.CACHED_NODES", 4)
    for nonce in range(5):
        chain.submit(signed(nonce=nonce))
        assert len(chain.store.nodes._cache) <= 4
    assert chain.state(chain.head).get_balance(NOBODY) == 5


def test_headers_are_decoded_once_and_few_are_kept(chain: DevChain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyquorum.chain.devchain.chain.HEADERS_KEPT", 2)
    chain.mine(5)
    for number in range(6):
        block = chain.store.block(number)
        assert block is not None
        assert chain.header(block).hash == block.hash
    assert len(chain._headers) == 2


# -- every method, any parameter --------------------------------------------------------------------------------------

JUNK: list[Any] = [
    None, True, 0, -1, 1.5, 2**63, "", "0x", "0xzz", "0x" + "f" * 64, "0x" + "0" * 63, "latest", "0x0", "0x1", HEX,
    "0x" + "ab" * 32, "0x" + "é" * 3, [], [[]], [None], {}, {"from": 1}, {"to": HEX}, {"address": [1]},
    {"topics": ["0x"]}, {"topics": [[["0x"]]]}, {"blockHash": "0x"}, {"blockNumber": "0x0"}, {"data": "0x1"},
    {"to": HEX, "data": "0x", "input": "0x01"}, {"chainId": "0x1"}, {"accessList": [{}]}, {"gas": "0x0"},
    {"authorizationList": [{}], "to": HEX}, {"from": ACCOUNTS[0][0], "value": "0x" + "f" * 64}, {"fromBlock": 5},
    {"blockHash": "0x" + "00" * 32, "fromBlock": "0x0"}, {"authorizationList": [1]},
]  # fmt: skip


def test_no_parameter_makes_any_method_fail_otherwise_than_by_an_rpc_error(methods: Methods) -> None:
    refused = 0
    for name, (_, least, most) in METHODS.items():
        for count in range(least, most + 1):
            for junk in JUNK if count else [None]:
                for other in [HEX, "0x0", "latest"] if count > 1 else [None]:
                    parameters = [junk, other, junk][:count]
                    for arranged in (parameters, parameters[::-1]):
                        try:
                            json.dumps(methods.run(name, arranged))
                        except RpcError as error:
                            refused += 1
                            assert error.code in (-32602, -32000, -32005, 3), (name, arranged, error)
    assert refused > 1000
    with raises_rpc(-32601, "does not exist"):
        methods.run("eth_mining", [])
    with raises_rpc(-32602, "parameters"):
        methods.run("eth_chainId", [1])


@pytest.mark.parametrize(
    ("method", "parameters", "fragment"),
    [
        ("eth_getLogs", [{"blockHash": "0x" + "00" * 32, "fromBlock": "0x0"}], "either blockhash or a range"),
        ("eth_getLogs", [{"blockHash": "0x" + "00" * 32, "toBlock": "0x0"}], "either blockhash or a range"),
        ("eth_getLogs", [{"address": [HEX] * 1001}], "at most 1000"),
        ("eth_getLogs", [{"topics": [["0x" + "00" * 32] * 1001]}], "at most 1000"),
        ("eth_getLogs", [{"topics": [None] * 5}], "at most 4"),
        ("eth_call", [{"authorizationList": [AUTHORIZATION]}], "destination"),
        ("eth_call", [{"to": HEX, "accessList": [{"address": HEX, "storageKeys": []}] * 1001}], "at most 1000"),
        ("evm_increaseTime", [2**256], "out of range"),
        ("anvil_mine", [-1], "out of range"),
        ("eth_call", [{"to": HEX, "authorizationList": [AUTHORIZATION | {"r": 2**256}]}], "out of range"),
    ],
)
def test_parameters_out_of_bounds_are_refused_by_name(
    methods: Methods, method: str, parameters: list[Any], fragment: str
) -> None:
    with raises_rpc(-32602, fragment):
        methods.run(method, parameters)


def test_a_call_never_has_more_gas_than_a_block(methods: Methods) -> None:
    gas = deploy(methods, assemble("GAS PUSH0 MSTORE 0x20 PUSH0 RETURN"))
    seen = int(methods.run("eth_call", [{"to": gas, "gas": "0x" + "f" * 16}]), 16)
    assert GAS_LIMIT - 22_000 < seen < GAS_LIMIT


def test_the_specification_names_every_method() -> None:
    page = (Path(__file__).parents[2] / "spec" / "devchain.md").read_text()
    assert set(re.findall(r"`((?:anvil|eth|evm|hardhat|net|personal|web3)_\w+)`", page)) == set(METHODS)


def test_what_would_change_the_meaning_is_refused_rather_than_ignored(methods: Methods) -> None:
    for method in ("eth_call", "eth_estimateGas"):
        with raises_rpc(-32602, "overrides"):
            methods.run(method, [{"to": HEX}, "latest", {HEX: {"balance": "0x1"}}])
        with raises_rpc(-32602, "differ"):
            methods.run(method, [{"to": HEX, "data": "0x", "input": "0x01"}])
        with raises_rpc(-32602, "chainid"):
            methods.run(method, [{"to": HEX, "chainId": "0x1"}])
