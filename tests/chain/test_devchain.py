"""What only our development chain promises: strictness, bounds, its clock, its queue, and a failing disk."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rlp
from eth_account import Account
from eth_hash.auto import keccak

from chain_fixtures import DIVER, RECORDER, REVERTER, assemble, deployment, raises_rpc, words
from keyquorum.chain.devchain import chain as chain_module
from keyquorum.chain.devchain import transactions
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.devchain.chain import DevChain
from keyquorum.chain.devchain.evm import GAS_LIMIT
from keyquorum.chain.devchain.methods import Methods
from keyquorum.chain.devchain.queries import MAX_FILTERS
from keyquorum.chain.devchain.transactions import WAITING_PER_SENDER, WAITING_TOTAL
from keyquorum.chain.rpc import RpcError

GWEI = 10**9
FIRST = Account.from_key(ACCOUNTS[0][1])
NOBODY = bytes.fromhex("77" * 20)
DYNAMIC = {
    "type": 2, "chainId": 31337, "gas": 100_000, "value": 1, "to": NOBODY, "nonce": 0,
    "maxFeePerGas": 3 * GWEI, "maxPriorityFeePerGas": GWEI,
}  # fmt: skip
HEX = "0x" + NOBODY.hex()
HALF = 0x7FFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF_5D576E73_57A4501D_DFE92F46_681B20A0
HEADER = """
    parentHash sha3Uncles miner stateRoot transactionsRoot receiptsRoot logsBloom difficulty number gasLimit gasUsed
    timestamp extraData mixHash nonce baseFeePerGas withdrawalsRoot blobGasUsed excessBlobGas parentBeaconBlockRoot
    requestsHash
"""
AUTHORIZATION = {"chainId": "0x7a69", "address": HEX, "nonce": "0x0", "yParity": "0x0", "r": "0x1", "s": "0x1"}
QUANTITIES = {"difficulty", "number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas"} | {
    "blobGasUsed",
    "excessBlobGas",
}


class Wall:
    """A wall clock that stands still unless moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def chain(wall: Wall) -> Iterator[DevChain]:
    chain = DevChain(clock=wall)
    yield chain
    chain.close()


@pytest.fixture
def methods(chain: DevChain) -> Methods:
    return Methods(chain)


def signed(account: Any = FIRST, **change: Any) -> bytes:
    return bytes(account.sign_transaction(DYNAMIC | change).raw_transaction)


def deploy(methods: Methods, runtime: bytes) -> str:
    creation = {"from": ACCOUNTS[9][0], "data": "0x" + deployment(runtime).hex()}
    receipt = methods.run("eth_getTransactionReceipt", [methods.run("eth_sendTransaction", [creation])])
    address: str = receipt["contractAddress"]
    return address


def record(methods: Methods, contract: str, key: int, value: int) -> None:
    data = "0x" + words(key, value).hex()
    methods.run("eth_sendTransaction", [{"from": ACCOUNTS[8][0], "to": contract, "data": data, "gas": "0x186a0"}])


# -- transactions -----------------------------------------------------------------------------------------------------


def test_signatures_are_recovered_by_libsecp256k1() -> None:
    from eth_keys.backends import get_backend

    assert type(get_backend()).__name__ == "CoinCurveECCBackend"


def replaced(raw: bytes, position: int, value: bytes) -> bytes:
    fields = rlp.decode(raw[1:])
    fields[position] = value
    return raw[:1] + rlp.encode(fields)


@pytest.mark.parametrize(
    ("raw", "fragment"),
    [
        (b"", "empty"),
        (b"\x00", "not supported"),
        (b"\x05\xc0", "not supported"),
        (b"\x03" + rlp.encode([b""] * 14), "blob"),
        (b"\x02", "malformed"),
        (b"\x02\xc0", "malformed"),
        (b"\xc0", "malformed"),
        (b"\xf8" * 5000, "malformed"),
        (b"\xc1" * 100_000, "malformed"),
        (signed() + b"\0", "malformed"),
        (signed()[:-1], "malformed"),
        (replaced(signed(), 1, b"\0"), "malformed"),
        (replaced(signed(), 5, b"\1" * 19), "malformed"),
        (replaced(signed(), 6, b"\xff" * 33), "out of range"),
        (replaced(signed(), 3, b"\xff" * 33), "out of range"),
        (replaced(signed(), 1, b"\xff" * 8), "max value"),
        (replaced(signed(), 9, b"\x05"), "invalid"),
        (replaced(signed(), 10, b""), "invalid"),
        (replaced(signed(), 10, b"\xff" * 32), "invalid"),
        (replaced(signed(), 11, (HALF + 1).to_bytes(32, "big")), "half"),
        (b"\x02\xf9\x00" + signed()[2:], "malformed"),
        (b"\x02" + rlp.encode(rlp.decode(signed()[1:]))[:-33] + b"\x81\x05", "malformed"),
        (signed(chainId=1), "invalid chain id"),
        (signed(maxFeePerGas=1, maxPriorityFeePerGas=1), "less than block base fee"),
        (signed(value=10_000 * 10**18), "insufficient funds for gas"),
        (signed(gas=30_000_001), "exceeds block gas limit"),
        (replaced(signed(), 8, [[b"", []]]), "invalid"),
        (signed(maxPriorityFeePerGas=4 * GWEI), "higher than max fee"),
        (signed(data=b"\1" * 3000), "intrinsic gas too low"),
        (signed(to=b"", data=b"\0" * 49_153, gas=10_000_000), "initcode"),
        (signed(to=b"", data=b"\0" * 100, gas=53_407), "intrinsic gas too low"),
        (b"\x02" + b"\0" * 200_000, "oversized"),
    ],
)  # fmt: skip
def test_a_malformed_or_invalid_transaction_is_refused_by_name(chain: DevChain, raw: bytes, fragment: str) -> None:
    with pytest.raises(RpcError, match=fragment):
        chain.submit(raw)
    assert chain.head.block_number == 0


def test_nesting_is_refused_before_the_recursive_decoder_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert transactions.parse(signed(accessList=[{"address": HEX, "storageKeys": ["0x" + "01" * 32]}] * 3))

    def reached() -> None:
        raise AssertionError("the decoder was reached")

    monkeypatch.setattr(transactions.DevVM, "get_transaction_builder", reached)
    deep = rlp.encode([[[[[b"1"]]]]])
    for raw in (deep, b"\x02" + deep, b"\xc1" * 100_000, b"\x01" + b"\xf9\xff\xff" * 100):
        with raises_rpc(-32602, "malformed"):
            transactions.parse(raw)


def test_initcode_gas_is_counted_to_the_last_unit(chain: DevChain) -> None:
    chain.submit(signed(to=b"", data=b"\0" * 100, gas=53_408))
    assert chain.head.gas_used == 53_000 + 100 * 4 + 4 * 2


def test_a_set_code_transaction_needs_a_destination_and_an_authorization(chain: DevChain) -> None:
    authorization = FIRST.sign_authorization({"chainId": 31337, "address": HEX, "nonce": 1})
    raw = signed(type=4, authorizationList=[authorization])
    for position, value in ((5, b""), (9, [])):
        with pytest.raises(RpcError):
            chain.submit(replaced(raw, position, value))


def test_a_contract_account_cannot_send_unless_its_code_is_a_delegation(chain: DevChain) -> None:
    sender = bytes.fromhex(FIRST.address[2:])
    chain._seal(chain.next_header(), edit=lambda state: state.set_code(sender, b"\0"))
    with raises_rpc(-32000, "not an eoa"):
        chain.submit(signed())
    chain._seal(chain.next_header(), edit=lambda state: state.set_code(sender, b"\xef\x01\0" + NOBODY))
    chain.submit(signed())
    assert chain.head.block_number == 3


def test_the_same_transaction_twice_is_already_known(chain: DevChain) -> None:
    chain.submit(signed())
    with raises_rpc(-32000, "already known"):
        chain.submit(signed())
    chain.submit(signed(nonce=5))
    with raises_rpc(-32000, "already known"):
        chain.submit(signed(nonce=5))


def test_a_waiting_transaction_is_replaced_only_for_a_better_price(chain: DevChain) -> None:
    first = chain.submit(signed(nonce=1))
    with raises_rpc(-32000, "underpriced"):
        chain.submit(signed(nonce=1, value=2, maxFeePerGas=3 * GWEI + 1))
    second = chain.submit(signed(nonce=1, value=2, maxFeePerGas=4 * GWEI))
    assert chain.waiting.get(first) is None
    chain.submit(signed())
    assert chain.store.block_of_transaction(second) is not None
    assert chain.store.block_of_transaction(first) is None
    assert chain.waiting.get(second) is None


def test_the_queue_of_a_sender_is_bounded(chain: DevChain) -> None:
    for nonce in range(1, WAITING_PER_SENDER + 1):
        chain.submit(signed(nonce=nonce))
    with raises_rpc(-32000, "nonce too high"):
        chain.submit(signed(nonce=WAITING_PER_SENDER + 1))
    chain.submit(signed())
    assert chain.head.block_number == WAITING_PER_SENDER + 1


def test_the_queue_of_all_senders_is_bounded(chain: DevChain) -> None:
    class Fake:
        max_fee_per_gas = 1

        def __init__(self, number: int) -> None:
            self.sender, self.nonce, self.hash = bytes([number % 200]), number, number.to_bytes(4, "big")

    for number in range(WAITING_TOTAL):
        chain.waiting.add(Fake(number))
    with raises_rpc(-32000, "full"):
        chain.waiting.add(Fake(WAITING_TOTAL))


def test_a_waiting_transaction_that_cannot_pay_when_its_turn_comes_is_dropped(chain: DevChain) -> None:
    later = chain.submit(signed(nonce=1, value=9_999 * 10**18))
    last = chain.submit(signed(nonce=2))
    chain.submit(signed(value=9_000 * 10**18))
    assert chain.head.block_number == 1
    assert chain.store.block_of_transaction(later) is None
    chain.submit(signed(nonce=1))
    assert chain.store.block_of_transaction(last) is not None


def test_unlocked_accounts_do_not_mix_kinds_of_fees(methods: Methods) -> None:
    for extra in ({"maxFeePerGas": "0x1"}, {"accessList": [{"address": HEX, "storageKeys": []}]}):
        with raises_rpc(-32602, "gasprice"):
            methods.run("eth_sendTransaction", [{"from": FIRST.address, "to": HEX, "gasPrice": "0x1"} | extra])


# -- blocks -----------------------------------------------------------------------------------------------------------


def test_a_block_hash_is_the_hash_of_its_header_and_commits_to_the_transaction(methods: Methods) -> None:
    methods.run("eth_sendRawTransaction", ["0x" + signed().hex()])
    block = methods.run("eth_getBlockByNumber", ["latest", False])

    def field(name: str) -> bytes:
        if name in QUANTITIES:
            value = int(block[name], 16)
            return value.to_bytes((value.bit_length() + 7) // 8, "big")
        return bytes.fromhex(block[name][2:])

    assert "0x" + keccak(rlp.encode([field(name) for name in HEADER.split()])).hex() == block["hash"]
    parent = methods.run("eth_getBlockByNumber", ["0x0", False])
    assert block["parentHash"] == parent["hash"]
    header = rlp.encode([field(name) for name in HEADER.split()])
    body = rlp.encode([rlp.decode(header), [signed()], [], []])
    assert int(block["size"], 16) == len(body)


def test_the_base_fee_decays_to_its_floor_and_stays(chain: DevChain) -> None:
    chain.mine(200)
    floor = chain.head.base_fee_per_gas
    chain.mine(5)
    assert 0 < floor < 10
    assert chain.head.base_fee_per_gas == floor


def test_the_parameters_of_history_are_checked(methods: Methods) -> None:
    methods.run("anvil_mine", ["0x5"])
    assert methods.run("eth_feeHistory", ["0x2", "0x3"])["oldestBlock"] == "0x2"
    assert "reward" not in methods.run("eth_feeHistory", [2, "latest"])
    assert methods.run("eth_feeHistory", [100, "latest", [1, 99.5]])["reward"] == [["0x0", "0x0"]] * 6
    with raises_rpc(-32000, "beyond head"):
        methods.run("eth_feeHistory", ["0x2", "0x63"])
    for points in ("50", [None], [1] * 101):
        with raises_rpc(-32602):
            methods.run("eth_feeHistory", ["0x2", "latest", points])


def test_balances_can_be_given(methods: Methods) -> None:
    methods.run("anvil_setBalance", [HEX, hex(12345)])
    methods.run("hardhat_setBalance", ["0x" + "78" * 20, hex(5)])
    assert methods.run("eth_getBalance", [HEX, "latest"]) == hex(12345)
    assert methods.run("eth_getBalance", [HEX, "earliest"]) == "0x0"


def test_not_too_many_blocks_at_a_time(methods: Methods) -> None:
    methods.run("hardhat_mine", [])
    assert methods.run("eth_blockNumber", []) == "0x1"
    with raises_rpc(-32602, "at most"):
        methods.run("anvil_mine", [10**6])


# -- time and snapshots -----------------------------------------------------------------------------------------------


def test_timestamps_follow_the_wall_clock_and_never_stand_still(chain: DevChain, wall: Wall) -> None:
    start = chain.head.timestamp
    assert start == int(wall.now)
    chain.mine(3)
    assert chain.head.timestamp == start + 3
    wall.now += 100
    chain.mine()
    assert chain.head.timestamp == start + 100
    wall.now -= 50
    chain.mine()
    assert chain.head.timestamp == start + 101


def test_a_chosen_timestamp_moves_the_clock_and_must_lie_ahead(chain: DevChain, wall: Wall) -> None:
    start = chain.head.timestamp
    chain.set_next_timestamp(start + 1000)
    assert chain.next_header().timestamp == start + 1000
    chain.mine()
    wall.now += 7
    chain.mine()
    assert chain.head.timestamp == start + 1007
    for bad in (start + 1007, 0, 2**63):
        with raises_rpc(-32602, "timestamp"):
            chain.set_next_timestamp(bad)
    for bad in (-1, 2**62):
        with raises_rpc(-32602, "forward"):
            chain.increase_time(bad)


def test_moving_the_clock_counts_from_the_newest_block_when_that_is_ahead(chain: DevChain) -> None:
    chain.mine(20)
    newest = chain.head.timestamp
    assert chain.increase_time(100) == 120
    chain.mine()
    assert chain.head.timestamp == newest + 100


def test_mining_at_a_timestamp(methods: Methods, chain: DevChain) -> None:
    wanted = chain.head.timestamp + 77
    methods.run("evm_mine", [wanted])
    assert chain.head.timestamp == wanted


def test_a_snapshot_is_used_up_with_all_later_ones(methods: Methods, chain: DevChain) -> None:
    methods.run("evm_increaseTime", [50])
    outer = methods.run("evm_snapshot", [])
    chain.mine()
    inner = methods.run("evm_snapshot", [])
    methods.run("evm_increaseTime", [1000])
    chain.submit(signed(nonce=1))
    assert methods.run("evm_revert", [outer]) is True
    assert methods.run("evm_revert", [inner]) is False
    assert methods.run("evm_revert", [outer]) is False
    assert chain.head.block_number == 0
    assert methods.run("evm_increaseTime", [0]) == 50
    chain.submit(signed())
    assert chain.head.block_number == 1, "the queue was emptied"


def test_snapshots_are_bounded_and_forgotten_oldest_first(chain: DevChain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_module, "SNAPSHOTS_KEPT", 2)
    first, second, _ = chain.snapshot(), chain.snapshot(), chain.snapshot()
    assert chain.revert(first) is False
    assert chain.revert(second) is True


def test_the_past_after_a_revert_is_another_past(methods: Methods, chain: DevChain) -> None:
    contract = deploy(methods, RECORDER)
    snapshot = methods.run("evm_snapshot", [])
    blocks = methods.run("eth_newBlockFilter", [])
    record(methods, contract, 1, 5)
    record(methods, contract, 1, 6)
    methods.run("eth_getFilterChanges", [blocks])
    methods.run("evm_revert", [snapshot])
    record(methods, contract, 1, 7)
    assert len(methods.run("eth_getFilterChanges", [blocks])) <= 1
    logs = methods.run("eth_getLogs", [{"fromBlock": "earliest"}])
    assert [int(log["data"], 16) for log in logs] == [7]
    assert methods.run("eth_call", [{"to": contract, "data": "0x" + words(1).hex()}, "0x2"]) == "0x" + words(7).hex()
    assert methods.run("eth_getBlockByNumber", ["0x3", False]) is None


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
    from chain_fixtures import CLOCK

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
    from keyquorum.chain.devchain.registry import METHODS

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
    from keyquorum.chain.devchain.registry import METHODS

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
