"""Processes that are started again: whatever the terminal, the disk or the system does meanwhile."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from keyquorum.cli import processes
from keyquorum.cli.processes import Running, Service


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "RESTART_PAUSES", (0.0,))


class Ended(Running):
    """A service whose process ends at once with a status, again and again, until `most` were started."""

    def __init__(self, tmp_path: Path, most: int, refusals: list[OSError], *, deaf: bool = False) -> None:
        self.events: list[str] = []
        self.deaf = deaf
        super().__init__(Service("it", "no.such.module", (), tmp_path / "log"), self._hear)
        self.most, self.refusals, self.spawned = most, refusals, 0
        self.enough = asyncio.Event()

    def _hear(self, event: str) -> None:
        self.events.append(event)
        if self.deaf:
            raise OSError(errno.ENOSPC, "No space left on device")

    async def _spawn(self) -> None:
        if self.spawned and self.refusals:
            raise self.refusals.pop()
        self.spawned += 1
        if self.spawned >= self.most:
            self.enough.set()
        self._process = await asyncio.create_subprocess_exec("true" if self.spawned < self.most else "cat",
                                                             stdin=asyncio.subprocess.PIPE)  # fmt: skip


async def test_what_ends_is_started_again(tmp_path: Path) -> None:
    running = Ended(tmp_path, 3, [])
    await running.start()
    await asyncio.wait_for(running.enough.wait(), 60)
    await running.stop()
    assert running.events.count("it ended with status 0") == 2
    assert running.exit_code is not None


async def test_a_terminal_that_is_gone_does_not_end_the_watch(tmp_path: Path) -> None:
    running = Ended(tmp_path, 3, [], deaf=True)
    await running.start()
    await asyncio.wait_for(running.enough.wait(), 60)
    await running.stop()


async def test_a_system_that_starts_nothing_now_is_asked_again(tmp_path: Path) -> None:
    refusals = [OSError(number, "not now") for number in (errno.ENOSPC, errno.EMFILE, errno.ENOMEM)]
    running = Ended(tmp_path, 2, refusals)
    await running.start()
    await asyncio.wait_for(running.enough.wait(), 60)
    await running.stop()
    assert running.events.count("it does not start: not now") == 3


async def test_what_was_stopped_stays_stopped(tmp_path: Path) -> None:
    running = Ended(tmp_path, 1, [])
    await running.start()
    await running.stop()
    assert running.spawned == 1
    assert running.pid is None
