"""A log that cannot be written, or that nobody reads, stops nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keyquorum.serving.log_lines import LogLines

CODE = """
import logging, sys, structlog
from keyquorum.serving.log_lines import configure_logging
configure_logging()
for number in range(int(sys.argv[1])):
    structlog.get_logger("one").warning("not this time", number=number)
    try:
        raise OSError("nothing works")
    except OSError:
        logging.getLogger("other").exception("it went wrong")
print("lived")
"""


def run(stderr: int, lines: int = 20) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", CODE, str(lines)], stdout=subprocess.PIPE, stderr=stderr, timeout=60, check=False
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_under_the_log_stops_nothing() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    done = run(full)
    os.close(full)
    assert (done.returncode, done.stdout) == (0, b"lived\n")


def test_a_log_that_nobody_reads_stops_nothing() -> None:
    reader, writer = os.pipe()
    done = run(writer, 20_000)
    os.close(reader)
    os.close(writer)
    assert (done.returncode, done.stdout) == (0, b"lived\n")


def test_a_closed_log_stops_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run(writer)
    os.close(writer)
    assert (done.returncode, done.stdout) == (0, b"lived\n")


def test_every_line_is_one_json_object_whole_and_in_order(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        run(log.fileno())
    lines = [json.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    assert [line["number"] for line in lines if "number" in line] == list(range(20))
    assert sum("OSError: nothing works" in line.get("traceback", "") for line in lines) == 20


def test_how_many_lines_are_missing_is_told_when_the_log_works_again() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    while True:
        try:
            os.write(writer, b"x" * 65536)
        except BlockingIOError:
            break
    stream = LogLines(writer, waiting=3)
    for number in range(10):
        stream.write(f"line {number}\n")
    assert stream.lost >= 6
    content = b""
    while b"missing" not in content:
        content += os.read(reader, 1 << 20)
    stream.close()
    os.close(reader)
    os.close(writer)
    (told,) = [json.loads(line) for line in content.splitlines() if line.startswith(b"{")]
    assert told["lines"] == stream.lost
