"""Shares are on the disk before anybody can hear of them: killed between any two lines, a node loses none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ceremony_process import MOMENTS, SOURCE

from keyquorum.node.keymaking.workshop import POOL
from keyquorum.node.storage.keys import Keys
from keyquorum.node.storage.store import Store

SCRIPT = Path(__file__).with_name("ceremony_process.py")


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_node_killed_at_any_moment_has_what_the_others_may_believe_it_has(tmp_path: Path, moment: str) -> None:
    Store.create(tmp_path, SOURCE).close()
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), moment], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 9, done.stderr.decode()
    store = Store(tmp_path, SOURCE)
    keys = Keys(store)
    batches = keys.pending_batches(9)
    # Before the confirmation begins nobody has heard of the shares, so they may be missing; from then on never.
    assert [len(public_keys) for public_keys in batches.values()] == ([] if moment == "generated" else [2])
    # The batch may be certified only once all confirmed it, and is found again for that.
    assert list(keys.waiting(POOL, 9)) == (list(batches) if moment == "marked" else [])
    assert store.check() == []
    store.close()
