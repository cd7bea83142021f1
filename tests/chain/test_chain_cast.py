"""Foundry's cast against the development chain: deploy, send each type, call, read receipts, logs and blocks."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chain_fixtures import RECORDER, REVERTER, deployment, words
from keyquorum.chain.devchain.accounts import ACCOUNTS
from pkp_chain import PkpChain

KEY = "0x" + ACCOUNTS[7][1].hex()
USER = ACCOUNTS[7][0]
NOBODY = "0x" + "77" * 20


class Cast:
    """Runs cast against one URL."""

    def __init__(self, binary: Path, url: str) -> None:
        self._binary, self._url = binary, url

    def fails(self, *arguments: str) -> str:
        done = self._run(arguments)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def text(self, *arguments: str) -> str:
        done = self._run(arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def send(self, *arguments: str) -> dict[str, Any]:
        receipt: dict[str, Any] = json.loads(self.text("send", "--json", "--private-key", KEY, *arguments))
        return receipt

    def _run(self, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        command = [self._binary, arguments[0], "--rpc-url", self._url, *arguments[1:]]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def cast(js_tools: Path, pkp_chain: PkpChain) -> Cast:
    binary = js_tools / "node_modules" / ".bin" / "cast"
    if not binary.exists():
        pytest.skip("no cast for this platform on npm")
    return Cast(binary, pkp_chain.url)


def test_cast_deploys_sends_calls_and_reads(cast: Cast) -> None:
    assert cast.text("chain-id") == "31337"
    created = cast.send("--create", "0x" + deployment(RECORDER).hex())
    contract = created["contractAddress"]
    assert cast.text("code", contract) == "0x" + RECORDER.hex()
    sent = cast.send(contract, "0x" + words(1, 42).hex())
    assert sent["status"] == "0x1"
    assert cast.text("call", contract, "--data", "0x" + words(1).hex()) == "0x" + words(42).hex()
    assert cast.text("storage", contract, "1") == "0x" + words(42).hex()
    assert json.loads(cast.text("receipt", "--json", sent["transactionHash"]))["logs"] == sent["logs"]
    (log,) = json.loads(cast.text("logs", "--json", "--from-block", "0", "--address", contract))
    assert log["data"] == "0x" + words(42).hex()
    assert int(cast.text("nonce", USER)) >= 2
    assert json.loads(cast.text("block", "--json", "latest"))["hash"] == sent["blockHash"]
    assert json.loads(cast.text("block", "--json", "--full", sent["blockNumber"]))["number"] == sent["blockNumber"]
    assert json.loads(cast.text("tx", "--json", sent["transactionHash"]))["type"] == "0x2"
    assert int(cast.text("gas-price")) > int(cast.text("base-fee"))
    assert int(cast.text("estimate", NOBODY, "--value", "1")) == 21_000


def test_cast_sends_legacy_and_set_code_transactions(cast: Cast) -> None:
    before = int(cast.text("balance", NOBODY))
    assert cast.send("--legacy", "--value", "3", NOBODY)["type"] == "0x0"
    assert int(cast.text("balance", NOBODY)) == before + 3
    delegated = cast.send("--auth", NOBODY, NOBODY)
    assert delegated["type"] == "0x4"
    assert cast.text("code", USER) == "0xef0100" + NOBODY[2:]
    cast.send("--auth", "0x" + "00" * 20, NOBODY)
    assert cast.text("code", USER) == "0x"


def test_cast_shows_the_reason_of_a_revert(cast: Cast) -> None:
    contract = cast.send("--create", "0x" + deployment(REVERTER).hex())["contractAddress"]
    assert "not today" in cast.fails("call", contract, "f()")
    assert "not today" in cast.fails("send", "--private-key", KEY, contract, "f()")
    assert "insufficient funds" in cast.fails("send", "--private-key", "0x" + "01" * 32, "--value", "1", NOBODY).lower()


def test_cast_reads_a_key(cast: Cast, pkp_chain: PkpChain) -> None:
    minted = cast.send(pkp_chain.nft, "mintNext(uint256)", "2")
    token = str(int(minted["logs"][0]["topics"][1], 16))
    assert int(token) in pkp_chain.tokens
    assert cast.text("call", pkp_chain.nft, "ownerOf(uint256)(address)", token) == USER
    cast.send(pkp_chain.nft, "transferFrom(address,address,uint256)", USER, NOBODY, token)
    assert cast.text("call", pkp_chain.nft, "ownerOf(uint256)(address)", token).lower() == NOBODY
