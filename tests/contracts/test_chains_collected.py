"""What is collected does not depend on what happens to be installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_a_fresh_clone_collects_every_test_on_every_chain(tmp_path):
    tests = tmp_path / "tests"
    (tests / "contracts").mkdir(parents=True)
    for source in (*TESTS.glob("*.py"), *TESTS.glob("contracts/*.py")):
        shutil.copy(source, tests / source.relative_to(TESTS))
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", "-p", "no:cacheprovider", str(tests)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    names = done.stdout.split()
    found = {chain: sum(f"[{chain}" in name for name in names) for chain in ("py-evm", "anvil")}
    assert found["anvil"] == found["py-evm"] > 300
