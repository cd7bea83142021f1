"""What the development chain promises of transactions, blocks, time and snapshots, whatever else anvil does."""

from __future__ import annotations

import pytest
import rlp
from eth_hash.auto import keccak

from chain_fixtures import RECORDER, raises_rpc, words
from devchain_kit import FIRST, GWEI, HEX, NOBODY, Wall, deploy, record, signed
from keyquorum.chain.devchain import chain as chain_module
from keyquorum.chain.devchain import transactions
from keyquorum.chain.devchain.chain import DevChain
from keyquorum.chain.devchain.methods import Methods
from keyquorum.chain.devchain.transactions import WAITING_PER_SENDER, WAITING_TOTAL
from keyquorum.chain.rpc import RpcError

HALF = 0x7FFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF_5D576E73_57A4501D_DFE92F46_681B20A0
HEADER = """
    parentHash sha3Uncles miner stateRoot transactionsRoot receiptsRoot logsBloom difficulty number gasLimit gasUsed
    timestamp extraData mixHash nonce baseFeePerGas withdrawalsRoot blobGasUsed excessBlobGas parentBeaconBlockRoot
    requestsHash
"""
QUANTITIES = {"difficulty", "number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas"} | {
    "blobGasUsed",
    "excessBlobGas",
}


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
