"""Blocks, transactions, receipts and logs as JSON-RPC shows them; nothing is computed here, only rendered.

Quantities are minimal hex, data is even hex, addresses are lower case; every client checks and reformats on its own.
"""

from __future__ import annotations

from typing import Any

from keyquorum.chain.devchain.evm import CHAIN_ID, Header, Transaction
from keyquorum.chain.devchain.store import Block, Log
from keyquorum.chain.devchain.transactions import transaction_type

Json = dict[str, Any]


def hexed(data: bytes | None) -> str | None:
    """Return `0x...`, or null for nothing."""
    return None if data is None else "0x" + data.hex()


def _word(value: int) -> str:
    return f"0x{value:064x}"


def block_view(block: Block, header: Header, transactions: list[Any]) -> Json:
    """Return a block; `transactions` are hashes or full transactions."""
    return {
        "number": hex(header.block_number),
        "hash": hexed(block.hash),
        "parentHash": hexed(header.parent_hash),
        "nonce": hexed(header.nonce),
        "sha3Uncles": hexed(header.uncles_hash),
        "logsBloom": f"0x{header.bloom:0512x}",
        "transactionsRoot": hexed(header.transaction_root),
        "stateRoot": hexed(header.state_root),
        "receiptsRoot": hexed(header.receipt_root),
        "miner": hexed(header.coinbase),
        "difficulty": hex(header.difficulty),
        "totalDifficulty": "0x0",
        "extraData": hexed(header.extra_data),
        "size": hex(block.size),
        "gasLimit": hex(header.gas_limit),
        "gasUsed": hex(header.gas_used),
        "timestamp": hex(header.timestamp),
        "mixHash": hexed(header.mix_hash),
        "baseFeePerGas": hex(header.base_fee_per_gas),
        "withdrawalsRoot": hexed(header.withdrawals_root),
        "withdrawals": [],
        "blobGasUsed": hex(header.blob_gas_used),
        "excessBlobGas": hex(header.excess_blob_gas),
        "parentBeaconBlockRoot": hexed(header.parent_beacon_block_root),
        "requestsHash": hexed(header.requests_hash),
        "uncles": [],
        "transactions": transactions,
    }


def gas_price(transaction: Transaction, base_fee: int) -> int:
    """Return what a unit of gas costs the sender in a block with this base fee."""
    return int(min(transaction.max_fee_per_gas, base_fee + transaction.max_priority_fee_per_gas))


def transaction_view(transaction: Transaction, block: Block | None, base_fee: int) -> Json:
    """Return a transaction, mined in `block` or (None) still waiting."""
    kind = transaction_type(transaction)
    view: Json = {
        "type": hex(kind),
        "hash": hexed(transaction.hash),
        "nonce": hex(transaction.nonce),
        "blockHash": hexed(block.hash) if block else None,
        "blockNumber": hex(block.number) if block else None,
        "transactionIndex": "0x0" if block else None,
        "from": hexed(transaction.sender),
        "to": hexed(transaction.to) if transaction.to else None,
        "value": hex(transaction.value),
        "gas": hex(transaction.gas),
        "input": hexed(transaction.data),
        "r": hex(transaction.r),
        "s": hex(transaction.s),
    }
    if kind == 0:
        view |= {"gasPrice": hex(transaction.gas_price), "v": hex(transaction.v)}
        return view | ({"chainId": hex(CHAIN_ID)} if transaction.chain_id is not None else {})
    parity = hex(transaction.y_parity)
    view |= {"chainId": hex(CHAIN_ID), "v": parity, "yParity": parity, "accessList": _access_list(transaction)}
    if kind == 1:
        return view | {"gasPrice": hex(transaction.gas_price)}
    view |= {
        "maxFeePerGas": hex(transaction.max_fee_per_gas),
        "maxPriorityFeePerGas": hex(transaction.max_priority_fee_per_gas),
        "gasPrice": hex(gas_price(transaction, base_fee) if block else transaction.max_fee_per_gas),
    }
    if kind == 4:
        view["authorizationList"] = [_authorization(one) for one in transaction.authorization_list]
    return view


def _access_list(transaction: Transaction) -> list[Json]:
    return [
        {"address": hexed(address), "storageKeys": [_word(key) for key in keys]}
        for address, keys in transaction.access_list
    ]


def _authorization(one: Any) -> Json:
    return {
        "chainId": hex(one.chain_id),
        "address": hexed(one.address),
        "nonce": hex(one.nonce),
        "yParity": hex(one.y_parity),
        "r": hex(one.r),
        "s": hex(one.s),
    }


def log_view(log: Log, block: Block, header: Header) -> Json:
    """Return a log of `block`'s only transaction."""
    return {
        "address": hexed(log.address),
        "topics": [hexed(topic) for topic in log.topics],
        "data": hexed(log.data),
        "blockNumber": hex(block.number),
        "blockHash": hexed(block.hash),
        "blockTimestamp": hex(header.timestamp),
        "transactionHash": hexed(block.transaction_hash),
        "transactionIndex": "0x0",
        "logIndex": hex(log.position),
        "removed": False,
    }


def receipt_view(transaction: Transaction, block: Block, header: Header, logs: list[Log]) -> Json:
    """Return the receipt of `block`'s transaction."""
    return {
        "type": hex(transaction_type(transaction)),
        "status": hex(block.status or 0),
        "transactionHash": hexed(block.transaction_hash),
        "transactionIndex": "0x0",
        "blockHash": hexed(block.hash),
        "blockNumber": hex(block.number),
        "from": hexed(block.sender),
        "to": hexed(transaction.to) if transaction.to else None,
        "contractAddress": hexed(block.created),
        "cumulativeGasUsed": hex(header.gas_used),
        "gasUsed": hex(header.gas_used),
        "effectiveGasPrice": hex(gas_price(transaction, header.base_fee_per_gas)),
        "logsBloom": f"0x{header.bloom:0512x}",
        "logs": [log_view(log, block, header) for log in logs],
    }
