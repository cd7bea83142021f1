"""The JSON-RPC methods that read what happened: blocks, transactions, receipts, logs, and filters for polling clients.

The newest block is also the "safe", "finalized" and "pending" one: this chain has one producer and no forks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keyquorum.chain.devchain import params, views
from keyquorum.chain.devchain.chain import DevChain
from keyquorum.chain.devchain.evm import Header
from keyquorum.chain.devchain.registry import rpc
from keyquorum.chain.devchain.store import Block, Log, LogQuery
from keyquorum.chain.devchain.transactions import REFUSED, parse
from keyquorum.chain.rpc import RpcError

MAX_LOGS = 20_000
MAX_FILTERS = 256
TOO_MUCH = -32005

Json = dict[str, Any]


@dataclass
class _Filter:
    """What a polling client has not seen yet: blocks (`logs` None) or logs after block `seen`."""

    logs: params.LogFilter | None
    seen: int


class Queries:
    """The reading methods of one chain."""

    def __init__(self, chain: DevChain) -> None:
        self._chain = chain
        self._filters: dict[int, _Filter] = {}
        self._last_filter = 0

    # -- finding blocks -----------------------------------------------------------------------------------------------

    def _find(self, block_id: int | str | bytes) -> Block | None:
        store = self._chain.store
        if isinstance(block_id, bytes):
            return store.block_by_hash(block_id)
        number = self._number(block_id)
        return store.block(number) if number <= self._chain.head.block_number else None

    def _number(self, block: int | str) -> int:
        if isinstance(block, int):
            return block
        return 0 if block == "earliest" else int(self._chain.head.block_number)

    def _header_at(self, block: Any) -> Header:
        block_id = params.block_id("latest" if block is None else block)
        if block_id in ("latest", "safe", "finalized", "pending"):
            return self._chain.head
        found = self._find(block_id)
        if found is None:
            raise RpcError(REFUSED, "header not found: no such block")
        return self._chain.header(found)

    def _state_at(self, block: Any) -> Any:
        return self._chain.state(self._header_at(block))

    # -- blocks and transactions --------------------------------------------------------------------------------------

    @rpc("eth_getBlockByNumber", least=1, most=2)
    def block_by_number(self, number: Any, full: Any = False) -> Json | None:
        """Return a block, with transactions in full or as hashes."""
        return self._block_view(self._find(params.block_number(number)), full)

    @rpc("eth_getBlockByHash", least=1, most=2)
    def block_by_hash(self, block_hash: Any, full: Any = False) -> Json | None:
        """Return a block, with transactions in full or as hashes."""
        return self._block_view(self._find(params.word(block_hash)), full)

    def _block_view(self, block: Block | None, full: Any) -> Json | None:
        in_full = params.flag(full, "the second parameter")
        if block is None:
            return None
        header = self._chain.header(block)
        if block.raw is None:
            return views.block_view(block, header, [])
        shown = self._transaction_view(block) if in_full else views.hexed(block.transaction_hash)
        return views.block_view(block, header, [shown])

    @rpc("eth_getBlockTransactionCountByNumber", "eth_getBlockTransactionCountByHash", least=1)
    def block_transaction_count(self, block: Any) -> str | None:
        """Return 0 or 1, or null if there is no such block."""
        found = self._find(params.block_id(block))
        return None if found is None else hex(int(found.raw is not None))

    @rpc("eth_getUncleCountByBlockNumber", "eth_getUncleCountByBlockHash", least=1)
    def uncle_count(self, block: Any) -> str | None:
        """Return 0, or null if there is no such block."""
        return None if self._find(params.block_id(block)) is None else "0x0"

    @rpc("eth_getTransactionByHash", least=1)
    def transaction_by_hash(self, transaction_hash: Any) -> Json | None:
        """Return a transaction, mined or waiting."""
        wanted = params.word(transaction_hash)
        block = self._chain.store.block_of_transaction(wanted)
        if block is not None:
            return self._transaction_view(block)
        waiting = self._chain.waiting.get(wanted)
        return None if waiting is None else views.transaction_view(waiting, None, 0)

    @rpc("eth_getTransactionByBlockNumberAndIndex", "eth_getTransactionByBlockHashAndIndex", least=2)
    def transaction_by_index(self, block: Any, index: Any) -> Json | None:
        """Return a transaction by its place (the index is always 0)."""
        found = self._find(params.block_id(block))
        if params.quantity(index, "index") != 0 or found is None or found.raw is None:
            return None
        return self._transaction_view(found)

    def _transaction_view(self, block: Block) -> Json:
        return views.transaction_view(parse(block.raw or b""), block, self._chain.header(block).base_fee_per_gas)

    @rpc("eth_getTransactionReceipt", least=1)
    def receipt(self, transaction_hash: Any) -> Json | None:
        """Return the receipt of a mined transaction."""
        block = self._chain.store.block_of_transaction(params.word(transaction_hash))
        return None if block is None else self._receipt_view(block)

    @rpc("eth_getBlockReceipts", least=1)
    def block_receipts(self, block: Any) -> list[Json] | None:
        """Return the receipts of a block."""
        found = self._find(params.block_id(block))
        if found is None:
            return None
        return [] if found.raw is None else [self._receipt_view(found)]

    def _receipt_view(self, block: Block) -> Json:
        logs = self._chain.store.logs(LogQuery(block.number, block.number), MAX_LOGS)
        return views.receipt_view(parse(block.raw or b""), block, self._chain.header(block), logs)

    # -- logs and filters ---------------------------------------------------------------------------------------------

    @rpc("eth_getLogs", least=1)
    def logs(self, query: Any) -> list[Json]:
        """Return matching logs in chain order, at most 20,000."""
        return self._logs(params.log_filter(query), 0)

    def _logs(self, query: params.LogFilter, after: int) -> list[Json]:
        if query.block_hash is not None:
            block = self._chain.store.block_by_hash(query.block_hash)
            if block is None:
                raise RpcError(REFUSED, "unknown block")
            first = last = block.number
        else:
            first, last = max(after, self._number(query.first)), self._number(query.last)
        last = min(last, int(self._chain.head.block_number))
        if first > last:
            return []
        found = self._chain.store.logs(LogQuery(first, last, query.addresses, query.topics), MAX_LOGS + 1)
        if len(found) > MAX_LOGS:
            raise RpcError(TOO_MUCH, f"query matches more than {MAX_LOGS} logs: ask for fewer blocks")
        return self._log_views(found)

    def _log_views(self, logs: list[Log]) -> list[Json]:
        shown: list[Json] = []
        block: Block | None = None
        for log in logs:
            if block is None or block.number != log.block:
                block = self._chain.store.block(log.block)
            if block is not None:
                shown.append(views.log_view(log, block, self._chain.header(block)))
        return shown

    def _add_filter(self, logs: params.LogFilter | None) -> str:
        self._last_filter += 1
        self._filters[self._last_filter] = _Filter(logs, int(self._chain.head.block_number))
        if len(self._filters) > MAX_FILTERS:
            del self._filters[min(self._filters)]
        return hex(self._last_filter)

    @rpc("eth_newFilter", least=1)
    def new_filter(self, query: Any) -> str:
        """Open a log filter."""
        return self._add_filter(params.log_filter(query))

    @rpc("eth_newBlockFilter")
    def new_block_filter(self) -> str:
        """Open a filter for new blocks."""
        return self._add_filter(None)

    @rpc("eth_uninstallFilter", least=1)
    def uninstall_filter(self, name: Any) -> bool:
        """Close a filter; false when it is not open."""
        return self._filters.pop(params.quantity(name, "filter"), None) is not None

    def _filter(self, name: Any) -> _Filter:
        found = self._filters.get(params.quantity(name, "filter"))
        if found is None:
            raise RpcError(REFUSED, "filter not found")
        return found

    @rpc("eth_getFilterChanges", least=1)
    def filter_changes(self, name: Any) -> list[Any]:
        """Return what is new since the last call."""
        kept = self._filter(name)
        head = int(self._chain.head.block_number)
        # After a revert the chain may be shorter than what was seen: go on from its new end.
        first, kept.seen = min(kept.seen, head) + 1, head
        if kept.logs is not None:
            return self._logs(kept.logs, first)
        blocks = (self._chain.store.block(number) for number in range(first, head + 1))
        return [views.hexed(block.hash) for block in blocks if block is not None]

    @rpc("eth_getFilterLogs", least=1)
    def filter_logs(self, name: Any) -> list[Json]:
        """Return everything that a log filter matches."""
        kept = self._filter(name)
        if kept.logs is None:
            raise RpcError(REFUSED, "filter not found")
        return self._logs(kept.logs, 0)
