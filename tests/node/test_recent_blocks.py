"""Blocks that are known stay known: nothing that is seen a second time is read a second time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from keyquorum.chain.block import Block
from keyquorum.chain.rpc import Rpc
from keyquorum.node.chain.recent_blocks import RecentBlocks


def block(number: int, fork: int = 0) -> Block:
    return Block(number, bytes([fork, number]) * 16, 1000 + number, bytes([fork, number - 1]) * 16)


async def never(_: Callable[[Rpc], Awaitable[list[Block]]]) -> list[Block]:
    raise AssertionError("blocks that were known are read again")


def test_the_newest_block_seen_again_forgets_nothing() -> None:
    recent = RecentBlocks()
    for number in range(1, 6):
        recent.add(block(number))
        recent.add(block(number))
    assert [recent.find(block(number).hash) for number in range(1, 6)] == [block(number) for number in range(1, 6)]


async def test_the_newest_block_seen_again_costs_no_reading_of_what_lies_below() -> None:
    recent = RecentBlocks(3)
    for number in (1, 2, 3, 3):
        recent.add(block(number))
    await recent.complete(never)


def test_another_block_of_the_same_height_is_a_reorganisation() -> None:
    recent = RecentBlocks()
    recent.add(block(1))
    recent.add(block(2))
    recent.add(block(2, fork=1))
    assert recent.find(block(1).hash) is recent.find(block(2).hash) is None
    assert recent.find(block(2, fork=1).hash) is not None
