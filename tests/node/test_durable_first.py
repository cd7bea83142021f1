"""What a node says, it has written down before: killed in between, it says the same again."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from durable_process import COMMITMENT, NOW, PEER, SOURCE, STATEMENT

from keyquorum.auth.commitment import Commitment
from keyquorum.node.storage.login_store import LoginStore, OtherBinding
from keyquorum.node.storage.store import Store
from keyquorum.node.storage.strikes import Strikes

SCRIPT = Path(__file__).with_name("durable_process.py")


def killed_while(work: str, folder: Path) -> None:
    asked = [sys.executable, str(SCRIPT), str(folder), work]
    done = subprocess.run(asked, capture_output=True, timeout=120, check=False)
    assert done.returncode == 9, done.stderr.decode()


async def test_a_token_is_bound_on_the_disk_before_its_receipt_is_made(tmp_path: Path) -> None:
    killed_while("receipt", tmp_path)
    other = Commitment.to_token("discord", "a-token.of-somebody.here", replace(STATEMENT, nonce="cd" * 16))
    with contextlib.closing(LoginStore(tmp_path)) as store:
        with pytest.raises(OtherBinding):
            await store.commit(other.token_digest, other.binding, NOW)
        await store.commit(COMMITMENT.token_digest, COMMITMENT.binding, NOW)


def test_a_peer_in_quarantine_stays_there_and_a_pardon_holds(tmp_path: Path) -> None:
    Store.create(tmp_path, SOURCE).close()
    for work, quarantined in (("strikes", [PEER]), ("pardon", [])):
        killed_while(work, tmp_path)
        with contextlib.closing(Store(tmp_path, SOURCE)) as store:
            assert Strikes(store, clock=lambda: NOW).quarantined() == quarantined
