"""Child processes that are started, watched, restarted when they die, and stopped with their parent.

Each runs in a session of its own, so that Ctrl-C in the terminal reaches only the parent, which then stops them in
order; each dies with the parent (`child.py`). Output goes to a log file. A process that ends without being asked to is
started again after a growing pause, if its service says so: that is what makes a killed node come back by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keyquorum.cli.child import PARENT_VARIABLE

STOP_SECONDS = 5.0
RESTART_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)
SETTLED_SECONDS = 30.0
LOG_TAIL = 5
LOG_TAIL_BYTES = 4096


@dataclass(frozen=True)
class Service:
    """A module to run with arguments, and where its output goes."""

    name: str
    module: str
    arguments: tuple[str, ...]
    log: Path
    restart: bool = True


class Running:
    """One service with its process and the task that watches it."""

    def __init__(self, service: Service, on_event: Callable[[str], None]) -> None:
        self.service = service
        self._on_event = on_event
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._wanted = False
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The process id, None while it is not running."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def exit_code(self) -> int | None:
        """How the process ended, None while it runs."""
        return self._process.returncode if self._process is not None else None

    async def start(self) -> None:
        """Start the process; does nothing while it runs."""
        if self.pid is not None:
            return
        self._wanted = True
        await self._spawn()
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch())

    async def _spawn(self) -> None:
        environment = os.environ | {
            PARENT_VARIABLE: str(os.getpid()),
            "PYTHONUNBUFFERED": "1",
            # One process per core is the parallelism here; a thread pool of the numerics would only fight over them.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self.service.log.parent.mkdir(parents=True, exist_ok=True)
        with self.service.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "keyquorum.cli.child", self.service.module, *self.service.arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    async def _watch(self) -> None:
        """Start the process again whenever it ends unasked; nothing but its owner ends this."""
        loop = asyncio.get_running_loop()
        failures = 0
        while self._process is not None:
            started = loop.time()
            code = await self._process.wait()
            if not self._wanted:
                return
            self._say(f"{self.service.name} ended with status {code}")
            if not self.service.restart:
                return
            failures = 0 if loop.time() - started > SETTLED_SECONDS else failures + 1
            while not await self._again(failures):
                failures += 1
            if not self._wanted:
                return

    async def _again(self, failures: int) -> bool:
        """Start it after a pause; False when the system does not let it start now: no room, no memory, no handles."""
        await asyncio.sleep(RESTART_PAUSES[min(failures, len(RESTART_PAUSES) - 1)])
        if not self._wanted:
            return True
        try:
            await self._spawn()
        except OSError as error:
            self._say(f"{self.service.name} does not start: {error.strerror}")
            return False
        self.restarts += 1
        self._say(f"{self.service.name} was started again")
        return True

    def _say(self, event: str) -> None:
        # A terminal that is gone, or a full disk behind it, must not be the end of what is watched.
        with contextlib.suppress(OSError, ValueError):
            self._on_event(event)

    async def kill(self) -> None:
        """End the process at once (SIGKILL) and leave it ended."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Ask the process to end, and end it when it does not."""
        await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        self._wanted = False
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None

    def log_tail(self) -> str:
        """Return the last lines of the log, for an error message."""
        try:
            with self.service.log.open("rb") as log:
                log.seek(max(0, self.service.log.stat().st_size - LOG_TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-LOG_TAIL:])
