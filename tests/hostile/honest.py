"""An honest user at work: how long signatures and logins take him, and what fails.

The user's client runs in this process and the attacker in another one, so that the attacker's own work is not in the
figures more than sharing the machine makes unavoidable.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from eth_account import Account

from hostile.pouring import pour
from hostile.scene import Scene
from keyquorum.client.errors import KeyquorumError

PAUSE = 0.15
SETTLING, USUAL = 40, 0.1


@dataclass
class Honest:
    """What an honest user saw: seconds for each signature and each login, and every failure in words."""

    signatures: list[float] = field(default_factory=list)
    logins: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def slow(self) -> tuple[float, float]:
        """The 99th percentiles of signatures and logins, in seconds."""
        return p99(self.signatures), p99(self.logins)


def p99(seconds: Sequence[float]) -> float:
    """Return the 99th percentile; nothing measured is endless."""
    return sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * 0.99))] if seconds else float("inf")


async def live_honestly(scene: Scene, over: asyncio.Event) -> Honest:
    """Sign and log in by turns until it is over, at least three times each."""
    seen = Honest()
    turns = 0
    while turns < 3 or not over.is_set():
        await _timed(seen.signatures, seen.failures, scene.client.sign_message(scene.key, f"message {turns}"))
        await _timed(seen.logins, seen.failures, _log_in(scene))
        turns += 1
        await asyncio.sleep(PAUSE)
    return seen


async def _log_in(scene: Scene) -> None:
    async with scene.net.client(account=Account.create(), timeout=20.0) as client:
        await client.login()


async def _timed(into: list[float], failures: list[str], work: object) -> None:
    began = time.perf_counter()
    try:
        await work  # type: ignore[misc]
    except KeyquorumError as error:
        failures.append(f"{type(error).__name__} {error}"[:120])
    else:
        into.append(time.perf_counter() - began)


async def settle(scene: Scene) -> None:
    """Wait, a bounded time, until signing is as quick as it usually is: what went before must not be in the figures."""
    for _ in range(SETTLING):
        seen = Honest()
        await _timed(seen.signatures, seen.failures, scene.client.sign_message(scene.key, "settled?"))
        if not seen.failures and seen.signatures[0] < USUAL:
            return
        await asyncio.sleep(PAUSE)


async def quiet(scene: Scene, seconds: float) -> Honest:
    """Return what the user sees while nobody else asks for anything."""
    await settle(scene)
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, over.set)
    return await live_honestly(scene, over)


async def beside(scene: Scene, name: str, sources: list[str], seconds: float) -> tuple[Honest, Counter[str]]:
    """Return what the user sees while the load called `name` is poured from `sources`, and what that was answered."""
    over = asyncio.Event()
    user = asyncio.create_task(live_honestly(scene, over))
    running = asyncio.get_running_loop().run_in_executor(scene.attacker, pour, name, scene.target, sources, seconds)
    try:
        answers = await running
    finally:
        over.set()
    return await user, answers
