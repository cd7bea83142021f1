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
from keyquorum.node.storage import login_store
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


async def test_the_file_of_logins_is_in_its_folder_before_anything_is_written_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power loss would take a new file with the first token that it bound, and the node would bind it again."""
    order: list[str] = []
    flush, commit = login_store.flush_folder, LoginStore.commit

    def flushed(folder: Path) -> None:
        assert (folder / login_store.FILE).exists()
        order.append("folder")
        flush(folder)

    async def committed(self: LoginStore, *asked: object) -> object:
        order.append("token")
        return await commit(self, *asked)  # type: ignore[arg-type]

    monkeypatch.setattr(login_store, "flush_folder", flushed)
    monkeypatch.setattr(LoginStore, "commit", committed)
    with contextlib.closing(LoginStore(tmp_path)) as store:
        await store.commit(COMMITMENT.token_digest, COMMITMENT.binding, NOW)
    assert order == ["folder", "token"]
