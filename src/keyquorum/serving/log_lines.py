"""Lines of a log that never raise and never wait: a full disk, a closed or an unread standard error stops no service.

Lines are handed to a thread; what cannot be written is dropped and counted, and how many is said once lines go through
again. Both kinds of loggers, structlog's and the standard library's, write here.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import queue
import sys
import threading
import time
from typing import Final

import structlog

WAITING: Final = 4096
LAST_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 0.05
STANDARD_ERROR: Final = 2


class LogLines:
    """A text stream onto a file descriptor; `write` keeps at most `waiting` lines that did not go through."""

    def __init__(self, descriptor: int, waiting: int = WAITING) -> None:
        self.lost = 0
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes | None] = queue.Queue(waiting)
        self._told = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, text: str) -> int:
        """Take a piece of the log; what is no whole line is a line all the same."""
        if text.strip():
            try:
                self._lines.put_nowait(text.rstrip("\n").encode(errors="replace") + b"\n")
            except queue.Full:
                self.lost += 1
        return len(text)

    def flush(self) -> None:
        """Do nothing: lines go out as they come."""

    def close(self, seconds: float = LAST_SECONDS) -> None:
        """Write what waits, for so long."""
        try:
            self._lines.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            self._put(line)
            if self.lost > self._told and self._put(_missing(self.lost - self._told)):
                self._told = self.lost

    def _put(self, line: bytes) -> bool:
        while line:
            try:
                line = line[os.write(self._descriptor, line) :]
            except BlockingIOError:
                time.sleep(RETRY_SECONDS)
            except OSError:
                self.lost += 1
                return False
        return True


def _missing(count: int) -> bytes:
    line = {"level": "warning", "event": "lines of the log are missing before this one", "lines": count}
    return json.dumps(line).encode() + b"\n"


def configure_logging() -> LogLines:
    """Log one JSON object a line to standard error, for both kinds of loggers; return the stream."""
    try:
        descriptor = sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):  # replaced by something that is no file
        descriptor = STANDARD_ERROR
    stream = LogLines(descriptor)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_AsJson())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(stream),  # type: ignore[arg-type]
    )
    atexit.register(stream.close)
    return stream


class _AsJson(logging.Formatter):
    """One line for each record, its traceback, if it has one, inside."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"level": record.levelname.lower(), "logger": record.name, "event": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)
