"""Several endpoints of one chain, believed only when enough of them say the same.

One endpoint that lies could make a node sign for whom the chain never permitted; it has happened to others, by
poisoned answers from some endpoints while the honest ones were kept busy. So every question goes to all endpoints at
once, and counts when `needed` of them (more than half, unless the operator says otherwise) give the same answer.
Fewer that can be reached, or that agree, is no answer at all: there is no falling back to the one that still talks.
The newest block is the highest that `needed` endpoints know, so one that lags is ignored and one that runs ahead with
blocks of its own finds no company. With a single endpoint its operator is believed: run your own, or name three.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from keyquorum.chain.block import Block, read_block
from keyquorum.chain.rpc import Reverted, Rpc, RpcError, RpcUnreachable

T = TypeVar("T")

PATIENCE = 0.5
SLOW_SECONDS = 10.0


class ChainUnavailable(Exception):
    """No fresh view of the chain that enough endpoints of this node agree on; nothing is decided without one."""


class Unusable(ChainUnavailable):
    """Endpoints answer, but not in the form that was asked for: there is no contract of ours at that block."""


class Disagree(ChainUnavailable):
    """Enough endpoints answered, and too few of them the same."""


async def read_blocks(rpc: Rpc, numbers: Sequence[int]) -> list[Block]:
    """Return the blocks of these numbers, as far as the endpoint knows them."""
    answers = await rpc.batch([("eth_getBlockByNumber", (hex(number), False)) for number in numbers])
    for answer in answers:
        if isinstance(answer, RpcError):
            raise answer
    return [block for answer in answers if (block := Block.parse(answer)) is not None]


@dataclass(frozen=True)
class _Answer:
    """What an endpoint said: a value, or that the EVM reverted, with this data."""

    value: Any
    reverted: Reverted | None = None

    def same_as(self, other: _Answer) -> bool:
        if self.reverted is not None or other.reverted is not None:
            mine, its = self.reverted, other.reverted
            return mine is not None and its is not None and mine.revert_data == its.revert_data
        return bool(self.value == other.value)


class Quorum:
    """The endpoints of one node."""

    def __init__(self, rpcs: Sequence[Rpc], needed: int | None = None) -> None:
        """Believe what `needed` of `rpcs` agree on, by default more than half; `ValueError` if they cannot."""
        self._rpcs = list(rpcs)
        self.needed = len(self._rpcs) // 2 + 1 if needed is None else needed
        if not 1 <= self.needed <= max(1, len(self._rpcs)):
            raise ValueError(f"of {len(self._rpcs)} endpoints {self.needed} cannot agree")
        self.chain_id = 0
        self._slow_until: dict[Rpc, float] = {}

    async def close(self) -> None:
        """Close the connections to the endpoints."""
        for rpc in self._rpcs:
            await rpc.close()

    async def open(self) -> int:
        """Learn the chain id, and hold every endpoint to it from now on; raises `ChainUnavailable`."""
        self.chain_id = await self.ask(lambda rpc: rpc.chain_id())
        return self.chain_id

    async def ask(self, question: Callable[[Rpc], Awaitable[T]]) -> T:
        """Return the answer that enough endpoints give; raises `Reverted` when that is what they say.

        Raises `Disagree` when enough answered, but not the same, `Unusable` when too few agree and one of them
        answered nonsense, `ChainUnavailable` otherwise.
        """
        votes: list[tuple[_Answer, int]] = []
        errors: list[Exception] = []
        async with aclosing(self._each(question)) as answers:
            async for answer in answers:
                if isinstance(answer, Exception):
                    errors.append(answer)
                    continue
                count = 1 + sum(known for vote, known in votes if vote.same_as(answer))
                votes = [(vote, known) for vote, known in votes if not vote.same_as(answer)] + [(answer, count)]
                if count >= self.needed:
                    if answer.reverted is not None:
                        raise answer.reverted
                    return answer.value  # type: ignore[no-any-return]
        raise self._too_few(errors, answers=sum(count for _, count in votes))

    async def newest(self) -> Block:
        """Return the highest block that enough endpoints know.

        All are heard, not only the quickest: one that answers fast and old must not hold this node back at a block
        before a revocation. Those that take longer than a moment are not waited for again for a while.
        """
        known, errors = await self._newest_of_each()
        if len(known) < self.needed:
            raise self._too_few(errors)
        known.sort(key=lambda block: block.number, reverse=True)
        highest = known[self.needed - 1]
        if known.count(highest) >= self.needed:
            return highest
        # Some are ahead of it: what do they say of that height?
        block = await self.ask(lambda rpc: read_block(rpc, highest.number))
        if block is None or block.number != highest.number:
            raise Unusable(f"the endpoints do not know their block {highest.number}")
        return block

    async def _newest_of_each(self) -> tuple[list[Block], list[Exception]]:
        tasks = {asyncio.ensure_future(self._one(rpc, _newest_block)): rpc for rpc in self._rpcs}
        known: list[Block] = []
        errors: list[Exception] = []
        now = asyncio.get_running_loop().time()
        patience, pending = None, set(tasks)
        while pending:
            done, pending = await asyncio.wait(pending, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                answer = task.result()
                errors.append(answer) if isinstance(answer, Exception) else known.append(answer.value)
            enough = len(known) >= self.needed
            only_slow = all(self._slow_until.get(tasks[task], 0.0) > now for task in pending)
            if enough and (only_slow or not done):
                break
            patience = PATIENCE if enough else None
        for task in pending:
            task.cancel()
            self._slow_until.setdefault(tasks[task], 0.0)
            if self._slow_until[tasks[task]] <= now:
                self._slow_until[tasks[task]] = now + SLOW_SECONDS
        return known, errors

    async def _each(self, question: Callable[[Rpc], Awaitable[T]]) -> AsyncGenerator[_Answer | Exception, None]:
        """Yield each endpoint's answer or failure as it comes; those that are not waited for are given up."""
        tasks = [asyncio.ensure_future(self._one(rpc, question)) for rpc in self._rpcs]
        try:
            for done in asyncio.as_completed(tasks):
                yield await done
        finally:
            for task in tasks:
                task.cancel()

    async def _one(self, rpc: Rpc, question: Callable[[Rpc], Awaitable[T]]) -> _Answer | Exception:
        try:
            if self.chain_id not in (0, await rpc.chain_id()):
                return RpcUnreachable(f"{rpc.name} serves another chain than {self.chain_id}")
            return _Answer(await question(rpc))
        except Reverted as error:
            return _Answer(None, error)
        except (RpcUnreachable, RpcError, ValueError) as error:
            return error

    def _too_few(self, errors: list[Exception], answers: int = 0) -> ChainUnavailable:
        """Return the error for `answers` endpoints that answered without agreeing, and what the others said."""
        kind: type[ChainUnavailable]
        kind = Unusable if any(isinstance(error, ValueError) for error in errors) else ChainUnavailable
        if answers >= self.needed:
            kind = Disagree
        reasons = [str(error) for error in errors]
        if len(self._rpcs) > 1:
            do_not = ", these do not" if answers > 1 else ""
            reasons.insert(0, f"{self.needed} of {len(self._rpcs)} endpoints must agree{do_not}")
        return kind("; ".join(reasons) or "no endpoint is configured")


async def _newest_block(rpc: Rpc) -> Block:
    block = await read_block(rpc, "latest")
    if block is None:
        raise RpcUnreachable(f"{rpc.name} has no newest block")
    return block
