"""The table of long runs in docs/reliability.md is the list of soak tests, and each has a time limit of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIST = """
import pytest
class List:
    def pytest_collection_finish(self, session):
        for item in session.items:
            print("SOAK", item.originalname, item.get_closest_marker("timeout").args[0])
pytest.main(["-q", "-m", "soak", "--collect-only", "-p", "no:cacheprovider", *FILES], plugins=[List()])
"""


def soak_tests() -> tuple[Counter[str], dict[str, int]]:
    """Return how many cases each soak test has, and its limit in seconds."""
    files = [str(path) for path in (ROOT / "tests").glob("*/test_*.py") if "mark.soak" in path.read_text()]
    code = LIST.replace("FILES", repr([file for file in files if not file.endswith(Path(__file__).name)]))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("SOAK ")]
    return Counter(name for _, name, _ in lines), {name: int(limit) for _, name, limit in lines}


def documented() -> dict[str, tuple[int, int, str]]:
    rows = re.findall(
        r"^\| `(test_\w+)` \|.*\| (\d+) \| (\d+) \| ([^|]+) \|$", (ROOT / "docs/reliability.md").read_text(), re.M
    )
    return {name: (int(cases), int(limit), result) for name, cases, limit, result in rows}


def test_the_table_has_every_soak_test_with_its_cases_and_its_limit() -> None:
    counts, limits = soak_tests()
    assert {name: (cases, limit) for name, (cases, limit, _) in documented().items()} == {
        name: (count, limits[name]) for name, count in counts.items()
    }


@pytest.mark.parametrize("row", documented().items(), ids=lambda row: row[0])
def test_a_result_is_a_run_with_a_date_or_says_that_there_was_none(row: tuple[str, tuple[int, int, str]]) -> None:
    assert re.fullmatch(r"not run|\d+ passed, \d+ failed, .* s, \d{4}-\d\d-\d\d", row[1][2])


def test_a_soak_test_without_a_limit_of_its_own_stops_the_collection(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (tmp_path / "test_it.py").write_text("import pytest\n\n@pytest.mark.soak\ndef test_long():\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path)]
    command += ["-o", f"pythonpath={ROOT / 'tests'}", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "a soak test has a time limit of its own" in done.stdout + done.stderr
