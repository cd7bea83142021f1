"""Chains for the contract tests: one in this process on py-evm, one behind any JSON-RPC URL; both do the same.

A chain has `accounts` (the well-known development accounts, funded), `deploy`, `send`, `call`, `logs`, `balance`,
`nonce`, `time`, `advance`, `snapshot` and `restore`. A refused transaction or call raises `contracts.Reverted`.
"""

from __future__ import annotations

import itertools
import json
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from eth.chains.base import MiningChain
from eth.consensus.noproof import NoProofConsensus
from eth.db.atomic import AtomicDB
from eth.db.backends.memory import MemoryDB
from eth.vm.forks import PragueVM
from eth.vm.spoof import SpoofTransaction
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils import to_canonical_address

from keyquorum.chain.contracts import decode_error
from keyquorum.evm.address import checksum

MNEMONIC = "test test test test test test test test test test test junk"
CHAIN_ID = 31337
GAS = 16_000_000
FEE = 10**10


@cache
def accounts() -> tuple[LocalAccount, ...]:
    Account.enable_unaudited_hdwallet_features()
    return tuple(Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{i}") for i in range(10))


@dataclass(frozen=True)
class Receipt:
    """What a mined transaction did; logs as JSON-RPC gives them."""

    gas_used: int
    contract_address: str | None
    logs: list[dict[str, Any]]
    block: int


class Chain(Protocol):
    chain_id: int

    def deploy(self, code: bytes, account: LocalAccount | None = None) -> str: ...
    def send(
        self, to: str | None, data: bytes = b"", account: LocalAccount | None = None, value: int = 0, gas: int = GAS
    ) -> Receipt: ...
    def call(self, to: str | None, data: bytes, sender: str | None = None) -> bytes: ...
    def delegate(self, account: LocalAccount, to: str) -> None: ...
    def logs(self, address: str) -> list[dict[str, Any]]: ...
    def balance(self, address: str) -> int: ...
    def nonce(self, address: str) -> int: ...
    def code(self, address: str) -> bytes: ...
    def time(self) -> int: ...
    def advance(self, seconds: int) -> None: ...
    def snapshot(self) -> Any: ...
    def restore(self, snapshot: Any) -> None: ...


def sign(account: LocalAccount, nonce: int, to: str | None, data: bytes, value: int, fee: int, gas: int) -> bytes:
    transaction = {
        "chainId": CHAIN_ID,
        "type": 2,
        "nonce": nonce,
        "to": to or b"",
        "value": value,
        "data": data,
        "gas": gas,
        "maxFeePerGas": fee,
        "maxPriorityFeePerGas": 0,
    }
    return bytes(account.sign_transaction(transaction).raw_transaction)


def sign_delegation(account: LocalAccount, nonce: int, to: str, payer_nonce: int, fee: int) -> bytes:
    """A transaction of the first account that gives `account` the code at `to` (EIP-7702)."""
    authorization = account.sign_authorization({"chainId": CHAIN_ID, "address": to, "nonce": nonce})
    transaction = {
        "chainId": CHAIN_ID,
        "type": 4,
        "nonce": payer_nonce,
        "to": account.address,
        "value": 0,
        "gas": 200_000,
        "maxFeePerGas": fee,
        "maxPriorityFeePerGas": 0,
        "authorizationList": [authorization],
    }
    return bytes(accounts()[0].sign_transaction(transaction).raw_transaction)


class PyEvmChain:
    """Prague rules in this process, one block per transaction; a snapshot copies the key-value store."""

    chain_id = CHAIN_ID

    def __init__(self) -> None:
        vm = PragueVM.configure(consensus_class=NoProofConsensus)
        self._class = MiningChain.configure(vm_configuration=((0, vm),), chain_id=CHAIN_ID)
        self._store = MemoryDB()
        funds = {"balance": 10**22, "nonce": 0, "code": b"", "storage": {}}
        genesis = {"difficulty": 0, "gas_limit": 60_000_000, "timestamp": 1_700_000_000}
        state = {to_canonical_address(account.address): funds for account in accounts()}
        self._chain = self._class.from_genesis(AtomicDB(self._store), genesis, state)
        self._logs: list[dict[str, Any]] = []

    def deploy(self, code: bytes, account: LocalAccount | None = None) -> str:
        address = self.send(None, code, account).contract_address
        assert address is not None
        return address

    def send(
        self, to: str | None, data: bytes = b"", account: LocalAccount | None = None, value: int = 0, gas: int = GAS
    ) -> Receipt:
        account = account or accounts()[0]
        return self._send(sign(account, self.nonce(account.address), to, data, value, FEE, gas), create=not to)

    def delegate(self, account: LocalAccount, to: str) -> None:
        payer = self.nonce(accounts()[0].address)
        self._send(sign_delegation(account, self.nonce(account.address), to, payer, FEE))

    def _send(self, raw: bytes, create: bool = False) -> Receipt:
        transaction = self._chain.get_vm().get_transaction_builder().decode(raw)
        _, receipt, computation = self._chain.apply_transaction(transaction)
        block = self._chain.mine_block().number
        if computation.is_error:
            raise decode_error(bytes(computation.output))
        logs = [_log(*entry, block, index) for index, entry in enumerate(computation.get_log_entries())]
        self._logs += logs
        created = checksum(computation.msg.storage_address) if create else None
        return Receipt(receipt.gas_used, created, logs, block)

    def call(self, to: str | None, data: bytes, sender: str | None = None) -> bytes:
        origin = to_canonical_address(sender or accounts()[0].address)
        nonce, receiver = self._state().get_nonce(origin), b"" if to is None else _raw(to)
        unsigned = self._chain.create_unsigned_transaction(
            nonce=nonce, gas_price=FEE, gas=30_000_000, to=receiver, value=0, data=data
        )
        # In the newest block, as JSON-RPC does it; py-evm's own way is the block after it, at another time.
        head = self._chain.get_canonical_head()
        vm = self._chain.get_vm(head)
        free = head.copy(base_fee_per_gas=0)
        state = vm.build_state(vm.chaindb.db, free, vm.chain_context, vm.previous_hashes)
        computation = state.costless_execute_transaction(SpoofTransaction(unsigned, from_=origin))
        if computation.is_error:
            raise decode_error(bytes(computation.output))
        return bytes(computation.output)

    def logs(self, address: str) -> list[dict[str, Any]]:
        return [log for log in self._logs if log["address"].lower() == address.lower()]

    def balance(self, address: str) -> int:
        return int(self._state().get_balance(_raw(address)))

    def nonce(self, address: str) -> int:
        return int(self._state().get_nonce(_raw(address)))

    def code(self, address: str) -> bytes:
        return bytes(self._state().get_code(_raw(address)))

    def time(self) -> int:
        return int(self._chain.get_canonical_head().timestamp)

    def advance(self, seconds: int) -> None:
        self._chain.set_header_timestamp(self.time() + seconds)
        self._chain.mine_block()

    def next_at(self, moment: int) -> None:
        """Give the next block a time; only this chain can."""
        self._chain.set_header_timestamp(moment)

    def snapshot(self) -> Any:
        return dict(self._store.kv_store), list(self._logs)

    def restore(self, snapshot: Any) -> None:
        store, logs = snapshot
        self._store = MemoryDB(dict(store))
        self._chain = self._class(AtomicDB(self._store))
        self._logs = list(logs)

    def _state(self) -> Any:
        return self._chain.get_vm(self._chain.get_canonical_head()).state


class RpcChain:
    """Any development chain with the well-known accounts, one block per transaction, and `evm_snapshot`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._ids = itertools.count(1)
        self._from_block = int(self._rpc("eth_blockNumber"), 16)
        self.chain_id = int(self._rpc("eth_chainId"), 16)

    def deploy(self, code: bytes, account: LocalAccount | None = None) -> str:
        address = self.send(None, code, account).contract_address
        assert address is not None
        return address

    def send(
        self, to: str | None, data: bytes = b"", account: LocalAccount | None = None, value: int = 0, gas: int = GAS
    ) -> Receipt:
        account = account or accounts()[0]
        fee = 2 * int(self._rpc("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
        raw = sign(account, self.nonce(account.address), to, data, value, fee, gas)
        receipt = self._mine(raw)
        if int(receipt["status"], 16) == 0:
            self._call(to, data, account.address, value, receipt["blockNumber"])
            raise AssertionError("the transaction failed, the same call does not")
        created = checksum(receipt["contractAddress"]) if receipt["contractAddress"] else None
        return Receipt(int(receipt["gasUsed"], 16), created, receipt["logs"], int(receipt["blockNumber"], 16))

    def delegate(self, account: LocalAccount, to: str) -> None:
        payer = self.nonce(accounts()[0].address)
        raw = sign_delegation(account, self.nonce(account.address), to, payer, 10 * FEE)
        assert int(self._mine(raw)["status"], 16) == 1

    def _mine(self, raw: bytes) -> dict[str, Any]:
        name = self._rpc("eth_sendRawTransaction", "0x" + raw.hex())
        for _ in range(500):
            if receipt := self._rpc("eth_getTransactionReceipt", name):
                return dict(receipt)
            time.sleep(0.01)
        raise AssertionError("not mined within five seconds")

    def call(self, to: str | None, data: bytes, sender: str | None = None) -> bytes:
        return self._call(to, data, sender or accounts()[0].address, 0, "latest")

    def logs(self, address: str) -> list[dict[str, Any]]:
        return list(self._rpc("eth_getLogs", {"address": address, "fromBlock": hex(self._from_block)}))

    def balance(self, address: str) -> int:
        return int(self._rpc("eth_getBalance", address, "latest"), 16)

    def nonce(self, address: str) -> int:
        return int(self._rpc("eth_getTransactionCount", address, "latest"), 16)

    def code(self, address: str) -> bytes:
        return bytes.fromhex(self._rpc("eth_getCode", address, "latest")[2:])

    def time(self) -> int:
        return int(self._rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def advance(self, seconds: int) -> None:
        self._rpc("evm_setNextBlockTimestamp", self.time() + seconds)
        self._rpc("evm_mine")

    def snapshot(self) -> Any:
        return [self._rpc("evm_snapshot")]

    def restore(self, snapshot: Any) -> None:
        # A snapshot is good for one revert, so another is taken in its place.
        assert self._rpc("evm_revert", snapshot[0]) is True
        snapshot[0] = self._rpc("evm_snapshot")

    def _call(self, to: str | None, data: bytes, sender: str, value: int, block: str) -> bytes:
        transaction = {"from": sender, "data": "0x" + data.hex(), "value": hex(value), "gas": hex(GAS)}
        if to:
            transaction["to"] = to
        return bytes.fromhex(self._rpc("eth_call", transaction, block)[2:])

    def _rpc(self, method: str, *params: Any) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as response:
            reply: Mapping[str, Any] = json.load(response)
        if "error" in reply:
            raise _rpc_error(method, reply["error"])
        return reply["result"]


def _rpc_error(method: str, error: Mapping[str, Any]) -> Exception:
    data = error.get("data")
    data = data.get("data") if isinstance(data, Mapping) else data
    if isinstance(data, str) and data.startswith("0x") and len(data) > 2:
        return decode_error(bytes.fromhex(data[2:]))
    return RuntimeError(f"{method}: {error}")


def _log(address: bytes, topics: Any, data: bytes, block: int, index: int) -> dict[str, Any]:
    return {
        "address": checksum(address),
        "topics": ["0x" + topic.to_bytes(32, "big").hex() for topic in topics],
        "data": "0x" + data.hex(),
        "blockNumber": hex(block),
        "logIndex": hex(index),
    }


def _raw(address: str) -> bytes:
    return bytes.fromhex(address[2:])
