"""The JSON-RPC methods over a `DevChain`: each reads its parameters, asks the chain, and renders the answer.

`Methods.run(method, params)` is the only entrance. A method is registered by its wire name with the number of its
parameters; everything that is wrong ends in an `RpcError`: -32601 for a method that does not exist, -32602 for
parameters, 3 for a revert, -32000 for what the chain refuses, -32005 for too much at once. What only reads history is
in `queries.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eth_utils.crypto import keccak

import keyquorum
from keyquorum.chain.devchain import params, views
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.devchain.chain import DevChain
from keyquorum.chain.devchain.evm import CHAIN_ID, Header
from keyquorum.chain.devchain.queries import Json, Queries
from keyquorum.chain.devchain.registry import METHODS, rpc
from keyquorum.chain.devchain.signing import sign_message, sign_transaction
from keyquorum.chain.devchain.store import Block
from keyquorum.chain.devchain.transactions import REFUSED, parse
from keyquorum.chain.rpc import RpcError

MAX_MINED = 1_000
MAX_HISTORY = 1_024
NO_METHOD = -32601
TIP = 10**9


class Methods(Queries):
    """The methods of one chain."""

    def __init__(self, chain: DevChain) -> None:
        super().__init__(chain)
        self._keys = {bytes.fromhex(address[2:]): key for address, key in ACCOUNTS}

    def run(self, method: str, parameters: Sequence[Any]) -> Any:
        """Return the result of a call; `RpcError` when there is none."""
        entry = METHODS.get(method)
        if entry is None:
            raise RpcError(NO_METHOD, f"the method {method[:100]} does not exist or is not available")
        name, least, most = entry
        if not least <= len(parameters) <= most:
            raise params.invalid(f"{method} takes {least} to {most} parameters, not {len(parameters)}")
        return getattr(self, name)(*parameters)

    # -- the node -----------------------------------------------------------------------------------------------------

    @rpc("web3_clientVersion")
    def client_version(self) -> str:
        """Return the name and version of this program."""
        return f"keyquorum-devchain/{keyquorum.__version__}"

    @rpc("web3_sha3", least=1)
    def sha3(self, value: Any) -> str:
        """Return the Keccak-256 of some bytes."""
        return "0x" + bytes(keccak(params.data(value))).hex()

    @rpc("net_version")
    def net_version(self) -> str:
        """Return the chain id in decimal."""
        return str(CHAIN_ID)

    @rpc("net_listening")
    def net_listening(self) -> bool:
        """Return true: it answers."""
        return True

    @rpc("net_peerCount")
    def peer_count(self) -> str:
        """Return zero: this chain has no peers."""
        return "0x0"

    @rpc("eth_syncing")
    def syncing(self) -> bool:
        """Return false: there is nothing to catch up with."""
        return False

    @rpc("eth_chainId")
    def get_chain_id(self) -> str:
        """Return the chain id."""
        return hex(CHAIN_ID)

    @rpc("eth_blockNumber")
    def head_number(self) -> str:
        """Return the number of the newest block."""
        return hex(self._chain.head.block_number)

    # -- accounts -----------------------------------------------------------------------------------------------------

    @rpc("eth_getBalance", least=1, most=2)
    def balance(self, address: Any, block: Any = None) -> str:
        """Return a balance in wei."""
        return hex(self._state_at(block).get_balance(params.address(address)))

    @rpc("eth_getCode", least=1, most=2)
    def code(self, address: Any, block: Any = None) -> str:
        """Return a contract's code."""
        return "0x" + bytes(self._state_at(block).get_code(params.address(address))).hex()

    @rpc("eth_getStorageAt", least=2, most=3)
    def storage(self, address: Any, slot: Any, block: Any = None) -> str:
        """Return one 32-byte storage word."""
        value = int(self._state_at(block).get_storage(params.address(address), params.quantity(slot, "slot")))
        return f"0x{value:064x}"

    @rpc("eth_getTransactionCount", least=1, most=2)
    def transaction_count(self, address: Any, block: Any = None) -> str:
        """Return an account's next nonce; what only waits for an earlier nonce does not count as pending."""
        return hex(self._state_at(block).get_nonce(params.address(address)))

    # -- execution ----------------------------------------------------------------------------------------------------

    def _context(self, block: Any) -> Header:
        """Return the header to execute after: `pending` sees the next block's number and time."""
        return self._chain.next_header() if block == "pending" else self._header_at(block)

    @rpc("eth_call", least=1, most=3)
    def call(self, transaction: Any, block: Any = None, overrides: Any = None) -> str:
        """Execute without a transaction and return the output."""
        if overrides:
            raise params.invalid("state overrides are not supported")
        outcome = self._chain.call(params.call(transaction), self._context(block))
        if outcome.error is not None:
            raise outcome.error
        return "0x" + outcome.output.hex()

    @rpc("eth_estimateGas", least=1, most=3)
    def estimate(self, transaction: Any, block: Any = None, overrides: Any = None) -> str:
        """Return a gas limit with which the transaction succeeds in the next block."""
        if overrides:
            raise params.invalid("state overrides are not supported")
        return hex(self._chain.estimate(params.call(transaction), self._context("pending" if block is None else block)))

    # -- fees ---------------------------------------------------------------------------------------------------------

    @rpc("eth_gasPrice")
    def gas_price(self) -> str:
        """Return a gas price for transactions without EIP-1559 fields."""
        return hex(self._chain.next_header().base_fee_per_gas + TIP)

    @rpc("eth_maxPriorityFeePerGas")
    def priority_fee(self) -> str:
        """Return the tip that is suggested (any will do)."""
        return hex(TIP)

    @rpc("eth_blobBaseFee")
    def blob_base_fee(self) -> str:
        """Return the floor: there are no blobs here."""
        return "0x1"

    @rpc("eth_feeHistory", least=2, most=3)
    def fee_history(self, count: Any, newest: Any, percentiles: Any = None) -> Json:
        """Return base fees and tips of a range of blocks, and the base fee of the block after it."""
        wanted = params.number(count, "blockCount")
        last = self._number(params.block_number(newest))
        if last > self._chain.head.block_number:
            raise RpcError(REFUSED, "request beyond head block")
        points = percentiles or []
        if not isinstance(points, list) or len(points) > 100 or not all(isinstance(p, int | float) for p in points):
            raise params.invalid("rewardPercentiles must be a list of at most 100 numbers")
        first = max(0, last + 1 - min(wanted, MAX_HISTORY))
        blocks = [block for number in range(first, last + 1) if (block := self._chain.store.block(number))]
        headers = [self._chain.header(block) for block in blocks]
        at_head = last == self._chain.head.block_number
        after = self._chain.next_header() if at_head else self._header_at(hex(last + 1))
        history: Json = {
            "oldestBlock": hex(first),
            "baseFeePerGas": [hex(header.base_fee_per_gas) for header in [*headers, after]],
            "gasUsedRatio": [header.gas_used / header.gas_limit for header in headers],
            "baseFeePerBlobGas": ["0x1"] * (len(blocks) + 1),
            "blobGasUsedRatio": [0.0] * len(blocks),
        }
        if points:
            history["reward"] = [
                [hex(self._tip(block, header))] * len(points) for block, header in zip(blocks, headers, strict=True)
            ]
        return history

    def _tip(self, block: Block, header: Header) -> int:
        if block.raw is None:
            return 0
        return views.gas_price(parse(block.raw), header.base_fee_per_gas) - int(header.base_fee_per_gas)

    # -- sending ------------------------------------------------------------------------------------------------------

    @rpc("eth_sendRawTransaction", least=1)
    def send_raw(self, raw: Any) -> str:
        """Execute a signed transaction; return its hash."""
        return "0x" + self._chain.submit(params.data(raw)).hex()

    @rpc("eth_accounts")
    def accounts(self) -> list[str]:
        """Return the unlocked accounts."""
        return [address.lower() for address, _ in ACCOUNTS]

    def _key(self, address: Any) -> bytes:
        key = self._keys.get(params.address(address, "from"))
        if key is None:
            raise RpcError(REFUSED, "unknown account: only the development accounts are unlocked")
        return key

    @rpc("eth_sendTransaction", least=1, unlocked=True)
    def send(self, transaction: Any) -> str:
        """Sign with an unlocked account and execute; return the hash."""
        fields = params.mapping(transaction, "transaction")
        key, call = self._key(fields.get("from")), params.call(transaction)
        nonce, gas = fields.get("nonce"), fields.get("gas")
        base_fee = int(self._chain.next_header().base_fee_per_gas)
        raw = sign_transaction(
            key,
            fields,
            call,
            nonce=self._chain.nonce(call.sender) if nonce is None else params.quantity(nonce, "nonce"),
            gas=self._chain.estimate(call, self._context("pending")) if gas is None else call.gas,
            fees=(2 * base_fee + TIP, TIP),
        )
        return "0x" + self._chain.submit(raw).hex()

    @rpc("eth_sign", least=2, unlocked=True)
    def sign(self, address: Any, message: Any) -> str:
        """Sign a message (EIP-191) with an unlocked account."""
        return "0x" + sign_message(self._key(address), params.data(message)).hex()

    @rpc("personal_sign", least=2, most=3, unlocked=True)
    def personal_sign(self, message: Any, address: Any, _password: Any = None) -> str:
        """Sign a message (EIP-191) with an unlocked account."""
        return "0x" + sign_message(self._key(address), params.data(message)).hex()

    # -- development --------------------------------------------------------------------------------------------------

    @rpc("evm_increaseTime", least=1)
    def increase_time(self, seconds: Any) -> int:
        """Move the clock forward; return its total offset in seconds."""
        return self._chain.increase_time(params.number(seconds, "seconds"))

    @rpc("evm_setNextBlockTimestamp", least=1)
    def set_next_timestamp(self, timestamp: Any) -> None:
        """Give the next block this timestamp."""
        self._chain.set_next_timestamp(params.number(timestamp, "timestamp"))

    @rpc("evm_mine", most=1)
    def mine(self, timestamp: Any = None) -> str:
        """Add an empty block, at `timestamp` if given; or as an object's `blocks` and `timestamp` say."""
        fields = timestamp if isinstance(timestamp, dict) else {"timestamp": timestamp}
        count, at = self._count(fields.get("blocks")), fields.get("timestamp")
        if at is not None and count:
            self._chain.set_next_timestamp(params.number(at, "timestamp"))
        self._chain.mine(count)
        return "0x0"

    @rpc("anvil_mine", "hardhat_mine", most=2)
    def mine_many(self, count: Any = None, interval: Any = None) -> None:
        """Add empty blocks, at most 1,000, `interval` seconds apart (0 or nothing: as the clock says)."""
        self._chain.mine(self._count(count), 0 if interval is None else params.number(interval, "interval"))

    def _count(self, count: Any) -> int:
        wanted = 1 if count is None else params.number(count, "count")
        if wanted > MAX_MINED:
            raise params.invalid(f"at most {MAX_MINED} blocks at a time")
        return wanted

    @rpc("evm_snapshot")
    def snapshot(self) -> str:
        """Remember the present."""
        return hex(self._chain.snapshot())

    @rpc("evm_revert", least=1)
    def revert(self, snapshot: Any) -> bool:
        """Go back to a snapshot; false when there is no such snapshot."""
        return self._chain.revert(params.number(snapshot, "snapshot"))

    @rpc("anvil_setBalance", "hardhat_setBalance", least=2)
    def set_balance(self, address: Any, balance: Any) -> None:
        """Give an account a balance, in a block of its own."""
        self._chain.set_balance(params.address(address), params.number(balance, "balance"))
