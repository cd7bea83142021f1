"""What a node does again and again: a bad round is said once a minute, and never ends the loop."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from keyquorum.node import app
from keyquorum.node.repeated import SAID_AGAIN_SECONDS, Repeated
from keyquorum.node.storage.database import DAMAGED, StoreFailed, Writer, connect, explain
from keyquorum.rounds.errors import Abort
from keyquorum.serving import forever
from keyquorum.serving.forever import PartEnded, until_asked


async def fails(error: BaseException) -> None:
    raise error


async def test_the_same_fault_is_said_once_a_minute_and_another_at_once() -> None:
    now = [0.0]
    rounds = Repeated(lambda: now[0])
    with capture_logs() as lines:
        for _ in range(240):
            await rounds.attempt(fails(Abort("nobody answers")))
            now[0] += 0.25
        await rounds.attempt(fails(Abort("somebody answers")))
        now[0] = SAID_AGAIN_SECONDS
        await rounds.attempt(fails(Abort("nobody answers")))
    assert [line["reason"] for line in lines] == ["nobody answers", "somebody answers", "nobody answers"]
    assert {line["event"] for line in lines} == {"not this time"}


async def test_a_failed_disk_is_said_as_the_manual_has_it_with_reason_and_advice() -> None:
    with capture_logs() as lines:
        await Repeated().attempt(fails(StoreFailed("the store failed: disk is full", "make room")))
    assert lines == [{"event": "the store has failed", "log_level": "error", "reason": "the store failed: disk is full",
                      "hint": "make room"}]  # fmt: skip
    manual = (Path(__file__).parents[2] / "docs" / "operators.md").read_text()
    assert "`the store has failed`" in manual


async def test_what_nobody_foresaw_is_named_by_its_type_only() -> None:
    with capture_logs() as lines:
        await Repeated().attempt(fails(KeyError("a secret")))
        await Repeated().attempt(fails(ZeroDivisionError("a secret")))
    assert "secret" not in str(lines[1])
    assert lines[1]["reason"] == "ZeroDivisionError"


async def test_a_node_whose_watch_ends_ends_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forever, "end_soon", lambda: None)
    rounds: Any = SimpleNamespace(attempt=lambda work: fails(SystemError("not foreseen")))
    monkeypatch.setattr(app, "Repeated", lambda: rounds)
    node = app.Node.__new__(app.Node)
    monkeypatch.setattr(app.Node, "_look", lambda self: None)
    watch = app.forever("the watch of the chain", node._watch())
    with pytest.raises(PartEnded, match="the watch of the chain"):
        await until_asked(asyncio.Event())
    assert watch.done()


# -- what is said of a disk -------------------------------------------------------------------------------------------


def failure(name: str, code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError(name)
    error.sqlite_errorcode, error.sqlite_errorname = code, name
    return error


@pytest.mark.parametrize(("error", "advice"), [
    (failure("SQLITE_FULL", sqlite3.SQLITE_FULL), "make room"),
    (OSError(errno.ENOSPC, "No space left on device"), "make room"),
    (failure("SQLITE_IOERR_FSYNC", sqlite3.SQLITE_IOERR | 4 << 8), "system's log"),
    (failure("SQLITE_READONLY", sqlite3.SQLITE_READONLY), "read and write"),
    (OSError(errno.EACCES, "Permission denied"), "read and write"),
    (failure("SQLITE_CORRUPT", sqlite3.SQLITE_CORRUPT), "restore data/"),
    (failure("SQLITE_NOTADB", sqlite3.SQLITE_NOTADB), "restore data/"),
])  # fmt: skip
def test_every_error_of_a_disk_has_the_systems_reason_and_advice_that_helps(
    error: Exception, advice: str, tmp_path: Path
) -> None:
    reason, hint = explain(error, tmp_path)
    assert (getattr(error, "sqlite_errorname", None) or error.strerror) in reason  # type: ignore[attr-defined]
    assert "MiB are free" in reason
    assert advice in hint
    assert "node init" not in hint.replace("Never `node init`", "")


def test_nobody_is_told_to_make_another_node_of_a_damaged_one() -> None:
    assert "Never `node init`" in DAMAGED


def test_a_writer_that_full_disk_stopped_says_so(tmp_path: Path) -> None:
    writer = Writer(lambda: connect(tmp_path / "x.sqlite"), tmp_path)
    writer.submit(lambda c: c.execute("CREATE TABLE t (v BLOB)") and None).result()
    writer.submit(lambda c: c.execute("PRAGMA max_page_count = 2").fetchall()).result()
    with pytest.raises(StoreFailed, match=r"full \(SQLITE_FULL\)") as failed:
        writer.submit(lambda c: c.execute("INSERT INTO t VALUES (zeroblob(100000))") and None).result()
    assert "make room" in failed.value.hint
    writer.close()


def test_a_writer_whose_thread_ends_is_a_failed_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(lambda: connect(tmp_path / "x.sqlite"), tmp_path)

    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("threading.excepthook", lambda *_: None)
    monkeypatch.setattr(writer, "_commit", broken)
    writer.submit(lambda c: None)
    writer._thread.join(10)
    assert writer.failure is not None
    assert "MemoryError" in str(writer.failure)


# -- the end of a process ---------------------------------------------------------------------------------------------

PROCESS = """
import asyncio, functools, sys
from keyquorum.node import __main__, app
from keyquorum.serving import forever

async def fails():
    raise OSError(28, "No space left on device")

class Node:
    def __init__(self, config): pass
    async def start(self): forever.forever("the part", fails())
    wait = app.Node.wait
    async def stop(self): await asyncio.sleep(stopping)

app.Node, app.load = Node, lambda path: None
forever.end_soon = functools.partial(forever.end_soon, seconds=0.5)
stopping = float(sys.argv.pop())
sys.argv += ["--config", "node.toml"]
sys.exit(__main__.main())
"""


@pytest.mark.parametrize("stopping", ["0", "3600"])
def test_a_node_one_of_whose_parts_ends_exits_with_the_reason_even_if_another_does_not_stop(stopping: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROCESS, stopping], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert '"event": "a part of the node has ended"' in done.stderr
    assert '"part": "the part"' in done.stderr
    assert '"reason": "OSError"' in done.stderr
