"""What any EVM development chain must do, run on ours and on anvil: one text, two judges."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account

from chain_fixtures import CLOCK, DIVER, RECORDER, REVERTER, SPINNER, VAULT, deployment, words
from keyquorum.chain.devchain.accounts import ACCOUNTS, MNEMONIC
from keyquorum.chain.rpc import Reverted, Rpc, RpcError, Sender, from_hex, from_quantity

GWEI = 10**9
FIRST = Account.from_key(ACCOUNTS[0][1])
SECOND = Account.from_key(ACCOUNTS[1][1])
NOBODY = "0x" + "77" * 20
BASE = {"chainId": 31337, "gas": 100_000, "value": 0, "to": bytes.fromhex(NOBODY[2:])}
DYNAMIC = BASE | {"type": 2, "maxFeePerGas": 3 * GWEI, "maxPriorityFeePerGas": GWEI}


@pytest.fixture
async def rpc(any_chain: str):
    async with Rpc(any_chain, timeout=30) as client:
        yield client


async def deploy(rpc: Rpc, runtime: bytes) -> str:
    receipt = await Sender(rpc, ACCOUNTS[9][1]).send(None, deployment(runtime))
    address: str = receipt["contractAddress"]
    assert await rpc.call("eth_getCode", address, "latest") == "0x" + runtime.hex()
    return address


def signed(account: Any, **fields: Any) -> bytes:
    return bytes(account.sign_transaction(fields).raw_transaction)


async def send(rpc: Rpc, account: Any, **fields: Any) -> dict[str, Any]:
    return await rpc.wait_receipt(await rpc.send_raw(signed(account, **fields)), 5)


async def test_the_ten_accounts_of_the_mnemonic_are_funded(rpc: Rpc) -> None:
    Account.enable_unaudited_hdwallet_features()
    for index, (address, key) in enumerate(ACCOUNTS):
        derived = Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}")
        assert (derived.address, bytes(derived.key)) == (address, key)
        assert await rpc.balance(address) == 10_000 * 10**18
    listed = await rpc.call("eth_accounts")
    assert [address.lower() for address in listed] == [address.lower() for address, _ in ACCOUNTS]


async def test_the_chain_says_who_it_is(rpc: Rpc) -> None:
    assert await rpc.chain_id() == 31337
    assert await rpc.call("net_version") == "31337"
    assert await rpc.call("net_listening") is True
    assert await rpc.call("eth_syncing") is False
    assert await rpc.block_number() == 0
    assert "/" in await rpc.call("web3_clientVersion")
    empty = "0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert await rpc.call("web3_sha3", "0x") == empty


@pytest.mark.parametrize("kind", [0, 1, 2, 4])
async def test_a_transaction_of_each_type_moves_value_and_is_read_back(rpc: Rpc, kind: int) -> None:
    fields = dict(BASE, value=5, nonce=0)
    storage_key = "0x" + "01" * 32
    if kind in (0, 1):
        fields["gasPrice"] = 3 * GWEI
    else:
        fields |= {"maxFeePerGas": 3 * GWEI, "maxPriorityFeePerGas": GWEI}
    if kind:
        fields |= {"type": kind, "accessList": [{"address": NOBODY, "storageKeys": [storage_key]}]}
    if kind == 4:
        authorization = SECOND.sign_authorization({"chainId": 31337, "address": "0x" + "99" * 20, "nonce": 0})
        fields["authorizationList"] = [authorization]
    receipt = await send(rpc, FIRST, **fields)
    assert receipt["status"] == "0x1"
    assert receipt["type"] == hex(kind)
    assert receipt["effectiveGasPrice"] == hex(3 * GWEI if kind in (0, 1) else await _base_fee(rpc, receipt) + GWEI)
    expected = {0: 21_000, 1: 25_300, 2: 25_300, 4: 50_300}[kind]
    # EIP-7702: each authorization costs 25,000, of which 12,500 come back if the account exists.
    assert from_quantity(receipt["gasUsed"]) == expected - (10_060 if kind == 4 else 0)
    assert await rpc.balance(NOBODY) == 5
    seen = await rpc.call("eth_getTransactionByHash", receipt["transactionHash"])
    assert (seen["type"], seen["from"], seen["value"], seen["nonce"]) == (
        hex(kind),
        FIRST.address.lower(),
        "0x5",
        "0x0",
    )
    assert from_quantity(seen["chainId"]) == 31337
    if kind:
        assert seen["accessList"] == [{"address": NOBODY, "storageKeys": [storage_key]}]
    if kind == 4:
        assert await rpc.call("eth_getCode", SECOND.address, "latest") == "0xef0100" + "99" * 20
        assert await rpc.call("eth_getTransactionCount", SECOND.address, "latest") == "0x1"
        assert seen["authorizationList"][0]["address"] == "0x" + "99" * 20


async def _base_fee(rpc: Rpc, receipt: dict[str, Any]) -> int:
    block = await rpc.block(receipt["blockHash"])
    assert block is not None
    return from_quantity(block["baseFeePerGas"])


async def test_a_delegated_account_runs_the_code_it_delegates_to(rpc: Rpc) -> None:
    recorder = await deploy(rpc, RECORDER)
    authorization = SECOND.sign_authorization({"chainId": 31337, "address": recorder, "nonce": 0})
    receipt = await send(rpc, FIRST, **(DYNAMIC | {"type": 4, "authorizationList": [authorization]}), nonce=0)
    assert receipt["status"] == "0x1"
    done = await Sender(rpc, ACCOUNTS[2][1]).send(SECOND.address, words(3, 4))
    assert done["logs"][0]["address"].lower() == SECOND.address.lower()
    assert int.from_bytes(await rpc.eth_call(SECOND.address, words(3)), "big") == 4
    # An account with a delegation still sends transactions.
    assert (await send(rpc, SECOND, **DYNAMIC, nonce=1))["status"] == "0x1"


async def test_a_legacy_transaction_without_chain_id_is_taken(rpc: Rpc) -> None:
    receipt = await send(rpc, FIRST, gas=21_000, gasPrice=3 * GWEI, nonce=0, to=BASE["to"], value=1)
    assert receipt["status"] == "0x1"
    seen = await rpc.call("eth_getTransactionByHash", receipt["transactionHash"])
    assert seen["v"] in ("0x1b", "0x1c")


async def test_a_contract_is_created_called_and_read_at_any_block(rpc: Rpc) -> None:
    recorder = await deploy(rpc, RECORDER)
    sender = Sender(rpc, ACCOUNTS[0][1])
    blocks = [from_quantity((await sender.send(recorder, words(1, value)))["blockNumber"]) for value in (10, 20, 30)]
    for block, value in zip(blocks, (10, 20, 30), strict=True):
        assert int.from_bytes(await rpc.eth_call(recorder, words(1), block), "big") == value
    assert int.from_bytes(await rpc.eth_call(recorder, words(1), blocks[0] - 1), "big") == 0
    for tag in ("latest", "pending", "safe", "finalized"):
        if tag in ("latest", "pending"):
            assert int.from_bytes(await rpc.eth_call(recorder, words(1), tag), "big") == 30
    block_hash = (await rpc.block(blocks[1]))["hash"]
    call = {"to": recorder, "data": "0x" + words(1).hex()}
    assert await rpc.call("eth_call", call, {"blockHash": block_hash}) == "0x" + words(20).hex()
    assert await rpc.call("eth_getStorageAt", recorder, "0x1", hex(blocks[0])) == "0x" + words(10).hex()
    assert await rpc.call("eth_getCode", recorder, "earliest") == "0x"


async def test_a_block_that_does_not_exist_is_an_error_or_null(rpc: Rpc) -> None:
    assert await rpc.block(1000) is None
    assert await rpc.block("0x" + "ab" * 32) is None
    assert await rpc.receipt("0x" + "ab" * 32) is None
    assert await rpc.call("eth_getTransactionByHash", "0x" + "ab" * 32) is None
    with pytest.raises(RpcError):
        await rpc.balance(NOBODY, 1000)
    with pytest.raises(RpcError):
        await rpc.eth_call(NOBODY, b"", 1000)


async def test_a_revert_carries_its_data_in_calls_estimates_and_receipts(rpc: Rpc) -> None:
    reverter = await deploy(rpc, REVERTER)
    with pytest.raises(Reverted) as caught:
        await rpc.eth_call(reverter, b"")
    assert caught.value.code == 3
    assert caught.value.revert_data[:4].hex() == "08c379a0"
    assert b"not today" in caught.value.revert_data
    assert "not today" in caught.value.message
    sender = Sender(rpc, ACCOUNTS[0][1])
    with pytest.raises(Reverted) as before:
        await sender.send(reverter)
    assert before.value.receipt is None
    with pytest.raises(Reverted) as after:
        await sender.send(reverter, gas=100_000)
    assert after.value.receipt is not None
    assert after.value.receipt["status"] == "0x0"
    assert b"not today" in after.value.revert_data
    assert (await sender.send(NOBODY, value=1))["status"] == "0x1", "the nonce goes on after a revert"


async def test_the_block_context_is_the_one_asked_for(rpc: Rpc) -> None:
    clock = await deploy(rpc, CLOCK)
    head = await rpc.block()
    assert head is not None
    number, timestamp, chain_id, _, _ = _words(await rpc.eth_call(clock, b"", head["number"]))
    assert (number, timestamp, chain_id) == (from_quantity(head["number"]), from_quantity(head["timestamp"]), 31337)


def _words(data: bytes) -> list[int]:
    return [int.from_bytes(data[start : start + 32], "big") for start in range(0, len(data), 32)]


async def test_an_estimate_suffices_and_is_not_wasteful(rpc: Rpc) -> None:
    recorder = await deploy(rpc, RECORDER)
    data = words(7, 8)
    call = {"from": FIRST.address, "to": recorder, "data": "0x" + data.hex()}
    estimate = from_quantity(await rpc.call("eth_estimateGas", call))
    fields = DYNAMIC | {"to": bytes.fromhex(recorder[2:]), "data": data, "gas": estimate}
    receipt = await send(rpc, FIRST, **fields, nonce=0)
    assert receipt["status"] == "0x1"
    assert estimate <= from_quantity(receipt["gasUsed"]) * 1.2
    assert await rpc.call("eth_estimateGas", {"from": FIRST.address, "to": NOBODY, "value": "0x1"}) == "0x5208"


@pytest.mark.parametrize(
    ("change", "words_of_refusal"),
    [
        ({"chainId": 1}, ("chain",)),
        ({"gas": 20_999}, ("intrinsic gas",)),
        ({"gas": 100_000_000}, ("gas",)),
        ({"value": 20_000 * 10**18}, ("funds",)),
        ({"maxFeePerGas": 1, "maxPriorityFeePerGas": 1}, ("fee",)),
    ],
)
async def test_an_unfit_transaction_is_refused_and_changes_nothing(
    rpc: Rpc, change: dict[str, Any], words_of_refusal: tuple[str, ...]
) -> None:
    with pytest.raises(RpcError) as caught:
        await rpc.send_raw(signed(FIRST, **(DYNAMIC | {"nonce": 0} | change)))
    assert all(word in caught.value.message.lower() for word in words_of_refusal), caught.value
    assert await rpc.block_number() == 0
    assert await rpc.call("eth_getTransactionCount", FIRST.address, "pending") == "0x0"


async def test_a_used_nonce_is_too_low(rpc: Rpc) -> None:
    await send(rpc, FIRST, **DYNAMIC, nonce=0)
    with pytest.raises(RpcError, match=r"(?i)nonce too low"):
        await rpc.send_raw(signed(FIRST, **(DYNAMIC | {"value": 9}), nonce=0))


async def test_transactions_ahead_of_their_nonce_wait_for_it(rpc: Rpc) -> None:
    hashes = [await rpc.send_raw(signed(FIRST, **DYNAMIC, nonce=nonce)) for nonce in (2, 1)]
    assert await rpc.block_number() == 0
    assert (await rpc.call("eth_getTransactionByHash", hashes[0]))["blockHash"] is None
    assert await rpc.receipt(hashes[0]) is None
    last = await send(rpc, FIRST, **DYNAMIC, nonce=0)
    assert last["status"] == "0x1"
    for transaction_hash in hashes:
        assert (await rpc.wait_receipt(transaction_hash, 5))["status"] == "0x1"
    assert await rpc.call("eth_getTransactionCount", FIRST.address, "latest") == "0x3"


async def test_logs_are_found_by_address_topic_range_and_block(rpc: Rpc) -> None:
    one, two = await deploy(rpc, RECORDER), await deploy(rpc, RECORDER)
    sender = Sender(rpc, ACCOUNTS[0][1])
    first = await rpc.block_number()
    for contract, key, value in ((one, 1, 5), (two, 1, 6), (one, 2, 5), (one, 3, 7)):
        receipt = await sender.send(contract, words(key, value))
    topic = ["0x" + words(number).hex() for number in range(8)]

    async def values(**query: Any) -> list[int]:
        logs = await rpc.get_logs(**query)
        assert [from_quantity(log["blockNumber"]) for log in logs] == sorted(
            from_quantity(x["blockNumber"]) for x in logs
        )
        return [int(log["data"], 16) for log in logs]

    assert await values() == [5, 6, 5, 7]
    assert await values(address=one) == [5, 5, 7]
    assert await values(address=[one, two]) == [5, 6, 5, 7]
    assert await values(topics=[topic[1]]) == [5, 6]
    assert await values(topics=[None, topic[5]]) == [5, 5]
    assert await values(topics=[[topic[2], topic[3]], [topic[5], topic[7]]]) == [5, 7]
    assert await values(address=one, topics=[topic[1], topic[6]]) == []
    assert await values(from_block=first + 2, to_block=first + 3) == [6, 5]
    assert await values(block_hash=receipt["blockHash"]) == [7]
    log = (await rpc.get_logs(address=two))[0]
    assert log["topics"] == [topic[1], topic[6]]
    assert log["logIndex"] == "0x0"
    assert log["removed"] is False
    assert from_hex(log["transactionHash"])


async def test_filters_give_each_log_and_block_once(rpc: Rpc) -> None:
    recorder = await deploy(rpc, RECORDER)
    logs = await rpc.call("eth_newFilter", {"address": recorder})
    blocks = await rpc.call("eth_newBlockFilter")
    receipt = await Sender(rpc, ACCOUNTS[0][1]).send(recorder, words(1, 2))
    assert [log["transactionHash"] for log in await rpc.call("eth_getFilterChanges", logs)] == [
        receipt["transactionHash"]
    ]
    assert await rpc.call("eth_getFilterChanges", logs) == []
    assert await rpc.call("eth_getFilterChanges", blocks) == [receipt["blockHash"]]
    assert await rpc.call("eth_getFilterChanges", blocks) == []
    assert await rpc.call("eth_uninstallFilter", logs) is True
    assert await rpc.call("eth_uninstallFilter", logs) is False


async def test_time_moves_forward_when_told(rpc: Rpc) -> None:
    before = from_quantity((await rpc.block())["timestamp"])
    await rpc.call("evm_increaseTime", 1000)
    await rpc.call("evm_mine")
    after = from_quantity((await rpc.block())["timestamp"])
    assert 1000 <= after - before <= 1030
    await rpc.call("evm_setNextBlockTimestamp", after + 500)
    await send(rpc, FIRST, **DYNAMIC, nonce=0)
    assert from_quantity((await rpc.block())["timestamp"]) == after + 500
    await rpc.call("evm_mine")
    assert after + 500 <= from_quantity((await rpc.block())["timestamp"]) <= after + 530
    with pytest.raises(RpcError):
        await rpc.call("evm_setNextBlockTimestamp", after)


async def test_a_snapshot_brings_back_state_blocks_and_nonces_once(rpc: Rpc) -> None:
    recorder = await deploy(rpc, RECORDER)
    sender = Sender(rpc, ACCOUNTS[0][1])
    await sender.send(recorder, words(1, 1))
    head = await rpc.block()
    outer = await rpc.call("evm_snapshot")
    gone = await sender.send(recorder, words(1, 2))
    await sender.send(recorder, words(1, 3))
    assert await rpc.call("evm_revert", outer) is True
    assert (await rpc.block())["hash"] == head["hash"]
    assert int.from_bytes(await rpc.eth_call(recorder, words(1)), "big") == 1
    assert await rpc.receipt(gone["transactionHash"]) is None
    assert len(await rpc.get_logs(recorder)) == 1
    # The sender's own count of nonces is now wrong, and it finds out by itself.
    await Sender(rpc, ACCOUNTS[0][1]).send(recorder, words(1, 4))
    assert int.from_bytes(await rpc.eth_call(recorder, words(1)), "big") == 4


async def test_a_sender_survives_a_chain_that_went_back(rpc: Rpc) -> None:
    sender = Sender(rpc, ACCOUNTS[0][1])
    snapshot = await rpc.call("evm_snapshot")
    await sender.send(NOBODY, value=1)
    await rpc.call("evm_revert", snapshot)
    await Sender(rpc, ACCOUNTS[0][1]).send(NOBODY, value=1)
    await Sender(rpc, ACCOUNTS[0][1]).send(NOBODY, value=1)
    assert (await sender.send(NOBODY, value=1))["status"] == "0x1"


async def test_unlocked_accounts_send_without_a_signature(rpc: Rpc) -> None:
    for fees in ({}, {"gasPrice": hex(3 * GWEI)}, {"maxFeePerGas": hex(3 * GWEI), "maxPriorityFeePerGas": "0x1"}):
        transaction = {"from": FIRST.address, "to": NOBODY, "value": "0x1"} | fees
        receipt = await rpc.wait_receipt(await rpc.call("eth_sendTransaction", transaction), 5)
        assert receipt["status"] == "0x1"
    assert await rpc.balance(NOBODY) == 3
    with pytest.raises(RpcError):
        await rpc.call("eth_sendTransaction", {"from": NOBODY, "to": NOBODY})
    message = "0x" + b"hello".hex()
    signature = await rpc.call("personal_sign", message, FIRST.address)
    assert await rpc.call("eth_sign", FIRST.address, message) == signature
    from eth_account.messages import encode_defunct

    assert Account.recover_message(encode_defunct(b"hello"), signature=signature) == FIRST.address


async def test_blocks_receipts_and_fee_history_agree(rpc: Rpc) -> None:
    sender = Sender(rpc, ACCOUNTS[0][1])
    for _ in range(3):
        receipt = await sender.send(NOBODY, value=1)
    block = await rpc.call("eth_getBlockByNumber", receipt["blockNumber"], True)
    assert block["transactions"][0]["hash"] == receipt["transactionHash"]
    assert block["transactions"][0]["blockHash"] == block["hash"] == receipt["blockHash"]
    assert await rpc.call("eth_getBlockReceipts", block["number"]) == [await rpc.receipt(receipt["transactionHash"])]
    by_place = await rpc.call("eth_getTransactionByBlockNumberAndIndex", block["number"], "0x0")
    assert by_place["hash"] == receipt["transactionHash"]
    assert await rpc.call("eth_getTransactionByBlockNumberAndIndex", block["number"], "0x1") is None
    assert await rpc.call("eth_getBlockTransactionCountByHash", block["hash"]) == "0x1"
    history = await rpc.call("eth_feeHistory", "0x3", "latest", [50])
    assert history["oldestBlock"] == "0x1"
    assert len(history["baseFeePerGas"]) == 4
    assert history["baseFeePerGas"][2] == block["baseFeePerGas"]
    assert [from_quantity(tip[0]) for tip in history["reward"]] == [GWEI] * 3
    assert 0 < history["gasUsedRatio"][0] < 0.01


async def test_value_goes_to_contracts_and_leaves_the_sender(rpc: Rpc) -> None:
    vault = await deploy(rpc, VAULT)
    before = await rpc.balance(FIRST.address)
    receipt = await Sender(rpc, ACCOUNTS[0][1]).send(vault, value=10**18)
    paid = from_quantity(receipt["gasUsed"]) * from_quantity(receipt["effectiveGasPrice"])
    assert await rpc.balance(vault) == 10**18
    assert await rpc.balance(FIRST.address) == before - 10**18 - paid
    assert await rpc.balance(FIRST.address, from_quantity(receipt["blockNumber"]) - 1) == before


async def test_a_loop_without_end_runs_out_of_gas(rpc: Rpc) -> None:
    spinner = await deploy(rpc, SPINNER)
    with pytest.raises(RpcError):
        await rpc.call("eth_call", {"to": spinner, "gas": hex(200_000)}, "latest")
    with pytest.raises(Reverted) as caught:
        await Sender(rpc, ACCOUNTS[0][1]).send(spinner, gas=100_000)
    assert from_quantity(caught.value.receipt["gasUsed"]) == 100_000


async def test_calls_nest_as_deep_as_gas_allows(rpc: Rpc) -> None:
    diver = await deploy(rpc, DIVER)
    receipt = await Sender(rpc, ACCOUNTS[0][1]).send(diver, gas=29_000_000)
    assert receipt["status"] == "0x1"
