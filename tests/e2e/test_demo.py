"""`keyquorum demo --json`: what it prints is checked with libraries that share no code with the project."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_hash.auto import keccak
from live import HALF_ORDER, openssl_verifies

KEYQUORUM = Path(sys.executable).parent / "keyquorum"
MEMBERS = {
    "nodes", "threshold", "token_id", "public_key", "address", "message", "signature", "transaction",
    "signature_after_loss", "refused_below_threshold", "seconds",
}  # fmt: skip


def unhex(text: str) -> bytes:
    assert text.startswith("0x")
    return bytes.fromhex(text[2:])


def run_demo(nodes: int) -> dict[str, Any]:
    done = subprocess.run(
        [KEYQUORUM, "demo", "--nodes", str(nodes), "--json"],
        capture_output=True,
        text=True,
        timeout=170 if nodes <= 4 else 570,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.parametrize(
    ("nodes", "threshold"), [(4, 3), pytest.param(7, 5, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
def test_everything_that_the_demo_claims_holds_for_other_libraries(nodes: int, threshold: int) -> None:
    found = run_demo(nodes)
    assert set(found) == MEMBERS
    assert set(found["seconds"]) == {"up", "mint", "sign", "send", "total"}
    assert all(isinstance(each, float) and each > 0 for each in found["seconds"].values())
    assert (found["nodes"], found["threshold"]) == (nodes, threshold)
    assert found["refused_below_threshold"] is True

    public_key, address = unhex(found["public_key"]), found["address"]
    assert len(public_key) == 65 and public_key[0] == 4
    assert unhex(found["token_id"]) == keccak(public_key)
    assert unhex(address) == keccak(public_key[1:])[12:]

    signatures = [unhex(found[name]) for name in ("signature", "signature_after_loss")]
    for signature in signatures:
        assert len(signature) == 65 and int.from_bytes(signature[32:64], "big") <= HALF_ORDER
        assert Account.recover_message(encode_defunct(text=found["message"]), signature=signature) == address
        assert openssl_verifies(public_key, found["message"], signature)
        assert not openssl_verifies(public_key, found["message"] + "!", signature)
    assert signatures[0][:32] != signatures[1][:32]

    transaction = found["transaction"]
    assert set(transaction) == {"raw", "hash", "status"}
    assert transaction["status"] == 1
    assert Account.recover_transaction(transaction["raw"]) == address
    assert unhex(transaction["hash"]) == keccak(unhex(transaction["raw"]))
