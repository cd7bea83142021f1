"""A run that loses a test fails, and says which; a whole run has at least as many tests as it once had."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from roll_call import FLOOR, complaints

TESTS = Path(__file__).resolve().parents[1]
LOSES_ONE = """
import sys
sys.path.insert(0, {tests!r})
from roll_call import RollCall

def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(RollCall(config), "roll-call")

def pytest_runtest_protocol(item):
    return True if item.name == {lost!r} else None  # says that it was run, and reports nothing
"""
THREE = "def test_a(): pass\ndef test_b(): pass\ndef test_c(): pass\n"


def run(folder: Path, lost: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(LOSES_ONE.format(tests=str(TESTS), lost=lost))
    (folder / "test_three.py").write_text(THREE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "test_three.py"]
    own = {
        name: value for name, value in os.environ.items() if name != "KEYQUORUM_NO_SKIP"
    }  # three tests are no whole run
    return subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "two workers"])
def test_a_lost_test_fails_the_run(tmp_path: Path, workers: tuple[str, ...]) -> None:
    done = run(tmp_path, "test_b", *workers)
    assert done.returncode == 1, done.stdout
    assert "3 tests collected, 2 of them ran" in done.stdout
    assert "1 tests were collected and never ran, the first: test_three.py::test_b" in done.stdout


def test_a_failure_is_named_when_it_happens(tmp_path: Path) -> None:
    done = run(tmp_path, "none", "--deselect", "test_three.py::test_c")
    assert "failed just now" not in done.stdout
    (tmp_path / "test_two.py").write_text("def test_a(): assert False\ndef test_b(): pass\n")
    done = run(tmp_path, "none", "test_two.py")
    assert done.stdout.index("failed just now: test_two.py::test_a (call)") < done.stdout.index("FAILURES")


def test_a_whole_run_passes(tmp_path: Path) -> None:
    done = run(tmp_path, "none")
    assert done.returncode == 0, done.stdout
    assert "3 tests collected, 3 of them ran" in done.stdout


def test_fewer_tests_than_there_were_are_a_complaint() -> None:
    assert complaints({"a", "b"}, {"a", "b"}, 3) == [
        "only 2 tests were collected; there are at least 3 (tests/floor.txt)"
    ]
    assert complaints({"a", "b", "c"}, {"a", "b", "c"}, 3) == []


def test_the_floor_is_a_number_of_tests() -> None:
    assert int(FLOOR.read_text()) > 6000
