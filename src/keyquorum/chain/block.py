"""A block as an endpoint tells it: only what is looked at, and only in the form that blocks have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keyquorum.chain.rpc import Rpc, from_hex, from_quantity

NUMBERS = 1 << 63
"""Numbers and times of blocks are smaller: whatever else an endpoint says is no block."""


@dataclass(frozen=True)
class Block:
    """What is looked at of a block; `parent` is the hash of the block before it."""

    number: int
    hash: bytes
    time: int
    parent: bytes = b""

    @classmethod
    def parse(cls, value: dict[str, Any] | None) -> Block | None:
        """Read an endpoint's block; None for none. Raises `ValueError` for what is not a block."""
        if value is None:
            return None
        block = cls(
            from_quantity(value.get("number")),
            from_hex(value.get("hash")),
            from_quantity(value.get("timestamp")),
            from_hex(value.get("parentHash")),
        )
        if len(block.hash) != 32 or len(block.parent) != 32:
            raise ValueError("a block's hash has 32 bytes")
        if max(block.number, block.time) >= NUMBERS:
            raise ValueError("a block's number and time have 63 bits")
        return block


async def read_block(rpc: Rpc, tag: int | str) -> Block | None:
    """Return a block by number, hash (0x...) or tag; None when the endpoint does not know it."""
    return Block.parse(await rpc.block(tag))
