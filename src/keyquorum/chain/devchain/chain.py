"""The development chain itself: one block per transaction, a clock that can be moved, snapshots, and the past.

`DevChain` is synchronous and single-threaded by contract: whoever serves it sees to it that one call runs at a time.
The order of things in `_seal` is the promise of durability: execute, write the block and all its state in one database
transaction, and only then let the head move and the caller know. If anything fails in between, the nodes written so far
are dropped and the chain stands where it stood.

Time: a block's timestamp is the wall clock plus an offset, and always later than its parent's, so that more than one
block per second runs ahead of the clock. The base fee follows EIP-1559 from 1 gwei; blocks of one transaction are
nearly empty, so it decays to a few wei and stays there.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import rlp
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

from keyquorum.chain.devchain.accounts import ACCOUNTS, BALANCE
from keyquorum.chain.devchain.evm import (
    CHAIN_ID,
    GAS_LIMIT,
    TRANSACTION_GAS,
    Call,
    Header,
    Outcome,
    Transaction,
    build_state,
    create_genesis,
    decode_header,
    execute,
    intrinsic_gas,
    open_chain,
)
from keyquorum.chain.devchain.store import Block, Log, Store
from keyquorum.chain.devchain.transactions import INVALID, REFUSED, Waiting, check_payable, decode
from keyquorum.chain.rpc import RpcError

FILE = "chain.sqlite3"
LATEST_TIME = 2**62
HEADERS_KEPT = 512
SNAPSHOTS_KEPT = 1024
ANSWERS_KEPT = 4096
LONGEST_ANSWER_KEPT = 4096


class DevChain:
    """A chain in `directory` (None: in memory), continued where it was left or begun with the funded accounts."""

    chain_id = CHAIN_ID

    def __init__(self, directory: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self.store = Store(directory / FILE if directory is not None else None)
        self.waiting = Waiting()
        self._clock = clock
        self._headers: OrderedDict[bytes, Header] = OrderedDict()
        self._answers: OrderedDict[tuple[bytes, Call], Outcome] = OrderedDict()
        self._snapshots: dict[int, tuple[int, bytes, int]] = {}
        self._last_snapshot = 0
        self._next_time: int | None = None
        self._offset = self.store.number("clock_offset", 0)
        self.head: Header = self._open()
        self._chain = open_chain(self.store.nodes)

    def _open(self) -> Header:
        last = self.store.last()
        if last is not None:
            return decode_header(last.header)
        balances = {bytes.fromhex(address[2:]): BALANCE for address, _ in ACCOUNTS}
        header = create_genesis(self.store.nodes, balances, int(self._clock()))
        encoded = rlp.encode(header)
        self.store.append(Block(0, header.hash, encoded, len(encoded) + 6))
        return header

    def close(self) -> None:
        """Close the file."""
        self.store.close()

    # -- blocks -------------------------------------------------------------------------------------------------------

    def header(self, block: Block) -> Header:
        """Return the decoded header of a stored block."""
        header = self._headers.get(block.hash)
        if header is None:
            header = self._headers[block.hash] = decode_header(block.header)
            if len(self._headers) > HEADERS_KEPT:
                self._headers.popitem(last=False)
        return header

    def next_header(self) -> Header:
        """Return the header of the block that would come next, still empty."""
        timestamp = self._next_time
        if timestamp is None:
            timestamp = max(self.head.timestamp + 1, int(self._clock()) + self._offset)
        return self._chain.create_header_from_parent(
            self.head, timestamp=timestamp, gas_limit=GAS_LIMIT, mix_hash=keccak(self.head.hash)
        )

    def _seal(
        self, header: Header, transaction: Transaction | None = None, edit: Callable[[Any], None] | None = None
    ) -> None:
        vm = self._chain.get_vm(header)
        logs: list[Log] = []
        receipt = computation = None
        try:
            if edit is not None:
                edit(vm.state)
            block = vm.get_block()
            if transaction is not None:
                header, (receipt,), (computation,) = vm.apply_all_transactions((transaction,), header)
                block = vm.set_block_transactions_and_withdrawals(block, header, (transaction,), (receipt,))
            block = vm.mine_block(block).block
            head = block.header
            encoded = rlp.encode(head)
            self.store.nodes[head.hash] = encoded
            if receipt is not None:
                logs = _logs(head.block_number, receipt)
            stored = _block(block, encoded, transaction, receipt, computation)
            offset = self._offset if self._next_time is None else head.timestamp - int(self._clock())
            self.store.append(stored, logs, {"clock_offset": offset})
        except ValidationError as error:
            self.store.nodes.discard()
            raise RpcError(REFUSED, f"invalid transaction: {str(error)[:200]}") from None
        except BaseException:
            self.store.nodes.discard()
            raise
        self.head, self._offset, self._next_time = head, offset, None

    def mine(self, count: int = 1, interval: int = 0) -> None:
        """Add `count` empty blocks, each `interval` seconds after the one before (0: as the clock says)."""
        first = int(self.next_header().timestamp)
        if interval > (LATEST_TIME - first) // max(count, 1):
            raise RpcError(INVALID, "the clock does not move beyond 2^62")
        for position in range(count):
            if interval and position:
                self._next_time = int(self.head.timestamp) + interval
            self._seal(self.next_header())

    def set_balance(self, address: bytes, balance: int) -> None:
        """Give `address` this balance, in a block of its own."""
        self._seal(self.next_header(), edit=lambda state: state.set_balance(address, balance))

    # -- transactions -------------------------------------------------------------------------------------------------

    def submit(self, raw: bytes) -> bytes:
        """Execute a signed transaction in a block of its own, or let it wait for its nonce; return its hash."""
        transaction = decode(raw)
        if self.store.block_of_transaction(transaction.hash) is not None:
            raise RpcError(REFUSED, "already known")
        state = self.state(self.head)
        nonce = int(state.get_nonce(transaction.sender))
        if transaction.nonce < nonce:
            raise RpcError(REFUSED, f"nonce too low: next nonce {nonce}, tx nonce {transaction.nonce}")
        if transaction.nonce > nonce:
            self.waiting.add(transaction)
            return bytes(transaction.hash)
        self._include(transaction, state)
        self._include_waiting(transaction.sender, nonce + 1)
        return bytes(transaction.hash)

    def _include(self, transaction: Transaction, state: Any) -> None:
        header = self.next_header()
        check_payable(transaction, state, header.base_fee_per_gas)
        self._seal(header, transaction)

    def _include_waiting(self, sender: bytes, nonce: int) -> None:
        while (transaction := self.waiting.pop(sender, nonce)) is not None:
            try:
                self._include(transaction, self.state(self.head))
            except RpcError:
                # Its turn came and it cannot pay: dropped, as a pool would.
                return
            nonce += 1

    def nonce(self, address: bytes) -> int:
        """Return the account's next nonce."""
        return int(self.state(self.head).get_nonce(address))

    # -- reading ------------------------------------------------------------------------------------------------------

    def state(self, header: Header) -> Any:
        """Return the state after the block of `header`."""
        return build_state(self._chain, header)

    def call(self, call: Call, header: Header) -> Outcome:
        """Execute `call` on the state after `header`'s block, and forget what it did.

        A block never changes, so a call that succeeded on it is answered from memory: nodes ask the same again and
        again while no block comes.
        """
        key = (header.hash, call)
        known = self._answers.get(key)
        if known is not None:
            return known
        state = self.state(header)
        try:
            outcome = execute(state, replace(call, nonce=state.get_nonce(call.sender)))
        except ValidationError as error:
            raise _refused_call(error) from None
        if outcome.error is None and len(call.data) + len(outcome.output) <= LONGEST_ANSWER_KEPT:
            self._answers[key] = outcome
            if len(self._answers) > ANSWERS_KEPT:
                self._answers.popitem(last=False)
        return outcome

    def estimate(self, call: Call, header: Header) -> int:
        """Return a gas limit with which `call` succeeds after `header`'s block, at most 1.5 % above the least."""
        state = self.state(header)
        call = replace(call, nonce=state.get_nonce(call.sender))
        least = intrinsic_gas(call)
        if call.gas < least:
            raise RpcError(REFUSED, f"gas required exceeds allowance ({call.gas})")

        def run(gas: int) -> Outcome:
            try:
                return execute(state, replace(call, gas=gas))
            except ValidationError as error:
                raise _refused_call(error) from None

        if call.to and not call.data and least == TRANSACTION_GAS and run(least).error is None:
            return least
        high = call.gas
        outcome = run(high)
        if outcome.error is not None:
            raise outcome.error
        low = max(least, outcome.gas_used) - 1
        # A call hands on at most 63/64 of what is left, so this much nearly always suffices.
        guess = (outcome.gas_used + outcome.refund + 2_300) * 64 // 63
        if low < guess < high and run(guess).error is None:
            high = guess
        while high - low > 1 and (high - low) * 200 > 3 * high:
            middle = (high + low) // 2
            if run(middle).error is None:
                high = middle
            else:
                low = middle
        return high

    # -- time and snapshots -------------------------------------------------------------------------------------------

    def increase_time(self, seconds: int) -> int:
        """Move the clock so that the next block is at least `seconds` after the newest; return its whole offset."""
        now = int(self._clock())
        ahead = max(self._offset, self.head.timestamp - now)
        if not 0 <= seconds <= LATEST_TIME - ahead - now:
            raise RpcError(INVALID, "the clock moves only forward, and not beyond 2^62")
        self._offset = ahead + seconds
        self.store.set_number("clock_offset", self._offset)
        return self._offset

    def set_next_timestamp(self, timestamp: int) -> None:
        """Give the next block this timestamp; the clock goes on from there."""
        if not self.head.timestamp < timestamp <= LATEST_TIME:
            raise RpcError(INVALID, f"the next timestamp must be above {self.head.timestamp}")
        self._next_time = timestamp

    def snapshot(self) -> int:
        """Remember the present; return its number for `revert`. Snapshots do not survive the process."""
        self._last_snapshot += 1
        self._snapshots[self._last_snapshot] = (self.head.block_number, self.head.hash, self._offset)
        if len(self._snapshots) > SNAPSHOTS_KEPT:
            del self._snapshots[min(self._snapshots)]
        return self._last_snapshot

    def revert(self, snapshot: int) -> bool:
        """Go back to a snapshot, which is used up with all later ones; False when there is no such snapshot."""
        found = self._snapshots.get(snapshot)
        if found is None:
            return False
        number, block_hash, offset = found
        block = self.store.block(number)
        if block is None or block.hash != block_hash:
            raise AssertionError("a snapshot's block was cut off without the snapshot")
        self.store.truncate(number, {"clock_offset": offset})
        self._snapshots = {name: kept for name, kept in self._snapshots.items() if name < snapshot}
        self.head, self._offset, self._next_time = self.header(block), offset, None
        self.waiting.clear()
        return True


def _refused_call(error: ValidationError) -> RpcError:
    text = str(error)
    return RpcError(REFUSED, "insufficient funds for transfer" if "enough balance" in text else text[:200])


def _logs(number: int, receipt: Any) -> list[Log]:
    return [
        Log(number, position, log.address, tuple(topic.to_bytes(32, "big") for topic in log.topics), bytes(log.data))
        for position, log in enumerate(receipt.logs)
    ]


def _block(block: Any, encoded: bytes, transaction: Any, receipt: Any, computation: Any) -> Block:
    header = block.header
    size = len(rlp.encode(block))
    if transaction is None:
        return Block(header.block_number, header.hash, encoded, size)
    return Block(
        header.block_number,
        header.hash,
        encoded,
        size,
        bytes(transaction.hash),
        transaction.encode(),
        transaction.sender,
        None if transaction.to else computation.msg.storage_address,
        receipt.state_root[0] if receipt.state_root else 0,
    )
