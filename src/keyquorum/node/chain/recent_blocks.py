"""The newest blocks of the chain, by hash: whether a block that somebody names is recent is answered from memory.

Each block that the node sees as the newest is put on top, if it names the one below as its parent. What lies between,
or deeper, is read when it is first needed: one batch for each newest block at most, so a stranger who names blocks that
do not exist costs no more than one who names none. After a reorganisation nothing is known but the newest block.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from keyquorum.chain.block import Block
from keyquorum.chain.rpc import Rpc
from keyquorum.node.chain.chain_quorum import read_blocks

RECENT_BLOCKS = 256


class Ask(Protocol):
    """How the endpoints are asked: see `Quorum.ask`."""

    async def __call__(self, question: Callable[[Rpc], Awaitable[list[Block]]]) -> list[Block]:
        """Return what enough endpoints answer."""
        ...


class RecentBlocks:
    """At most `most` blocks, each the parent of the next."""

    def __init__(self, most: int = RECENT_BLOCKS) -> None:
        self._most = most
        self._newest: Block | None = None
        # In the order of their numbers, without a gap; the newest block may be further up.
        self._chain: list[Block] = []
        self._by_hash: dict[bytes, Block] = {}

    def find(self, block_hash: bytes) -> Block | None:
        """Return the block with this hash (32 bytes), if it is known and on the chain."""
        return self._by_hash.get(block_hash)

    def add(self, newest: Block) -> None:
        """Put the newest block on top; the one that is there already changes nothing."""
        if self._newest is not None and newest.hash == self._newest.hash:
            return
        self._newest = newest
        top = self._chain[-1] if self._chain else None
        if top is not None and newest.number > top.number + 1:
            return  # blocks lie between; `complete` reads them
        self._keep([*self._chain, newest] if top is not None and newest.parent == top.hash else [newest])

    async def complete(self, ask: Ask) -> None:
        """Read what is missing of the newest blocks; raises what `ask` raises, and then nothing has changed."""
        newest = self._newest
        if newest is None:
            return
        first = max(newest.number - self._most + 1, 0)
        chain = self._chain if self._chain and self._chain[-1].number >= first else []
        known = {block.number: block for block in chain}
        missing = [number for number in range(first, newest.number) if number not in known]
        known |= {block.number: block for block in await ask(lambda rpc: read_blocks(rpc, missing))} if missing else {}
        if self._newest is newest:
            self._keep(_linked(newest, known))

    def _keep(self, chain: list[Block]) -> None:
        self._chain = chain[-self._most :]
        self._by_hash = {block.hash: block for block in self._chain}


def _linked(newest: Block, known: dict[int, Block]) -> list[Block]:
    """Return `newest` and those below it, in the order of numbers, as far down as each is the next one's parent."""
    chain = [newest]
    while (below := known.get(chain[-1].number - 1)) is not None and below.hash == chain[-1].parent:
        chain.append(below)
    return chain[::-1]
