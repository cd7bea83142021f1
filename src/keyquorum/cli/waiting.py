"""Waiting for nodes and gateway to be ready: as long as something changes, and saying what they wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import aiohttp

from keyquorum.client.errors import Unavailable

POLL_SECONDS = 0.05
TELL_SECONDS = 5.0
Tell = Callable[[str], None]


async def _nothing_more() -> str:
    return ""


class ReadyWait:
    """One wait for the services `urls` (by name)."""

    def __init__(
        self, urls: Mapping[str, str], patience: float, logs: Path, tell: Tell,
        progress: Callable[[], Awaitable[str]] = _nothing_more,
    ) -> None:  # fmt: skip
        """`patience`: seconds in which nothing changes; `progress` says how far the chain is, where that takes long."""
        self._urls = dict(urls)
        self._patience = patience
        self._logs = logs
        self._tell = tell
        self._progress = progress
        self._state: dict[str, str] = {}

    async def run(self, check_alive: Callable[[str], None]) -> None:
        """Return when all are ready; `check_alive` raises for one that does not start. Raises `Unavailable`."""
        loop = asyncio.get_running_loop()
        changed, told, waiting = loop.time(), loop.time(), dict(self._urls)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while waiting:
                found = {name: await _look(session, url) for name, url in waiting.items()}
                for name in [name for name, (serves, _) in found.items() if serves]:
                    del waiting[name]
                    reason = found.pop(name)[1]
                    self._tell(f"{name} serves, but {reason}" if reason else f"{name} is ready")
                for name in waiting:
                    check_alive(name)
                now = {name: reason for name, (_, reason) in found.items()} | {"": await self._progress()}
                if now != self._state:
                    self._state, changed = now, loop.time()
                elif waiting and loop.time() - changed > self._patience:
                    raise self._too_long(waiting)
                if waiting and loop.time() - told > TELL_SECONDS and changed > told:
                    told = loop.time()
                    self._tell(self._words(waiting))
                await asyncio.sleep(POLL_SECONDS)

    def _words(self, waiting: Mapping[str, str]) -> str:
        name = next(iter(waiting))
        chain = f" ({self._state['']})" if self._state.get("") else ""
        return f"waiting for {', '.join(waiting)}; {name} says: {self._state.get(name) or 'nothing yet'}{chain}"

    def _too_long(self, waiting: Mapping[str, str]) -> Unavailable:
        name = next(iter(waiting))
        chain = f"; {self._state['']}" if self._state.get("") else ""
        return Unavailable(
            "not_ready",
            f"{name} is not ready, and nothing changed for {self._patience:.0f} s: "
            f"{self._state.get(name) or 'it says nothing'}{chain}",
            f"see {self._logs}",
            needed=len(self._urls),
            live=len(self._urls) - len(waiting),
        )


async def _look(session: aiohttp.ClientSession, url: str) -> tuple[bool, str]:
    """Say whether a service serves, and what it lacks: "" while it does not answer, or lacks nothing."""
    try:
        async with session.get(url + "/readyz", allow_redirects=False) as response:
            if response.status == 200:
                return True, ""
            answer = await response.json()
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return False, ""
    if not isinstance(answer, dict):
        return False, "not ready"
    reasons = answer.get("reasons")
    words = ", ".join(str(reason)[:200] for reason in reasons[:3]) if isinstance(reasons, list) else "not ready"
    return bool(answer.get("serves")), words
