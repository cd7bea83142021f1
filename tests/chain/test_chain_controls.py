"""The methods that move a chain take what viem's, hardhat's and foundry's own clients send."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chain_fixtures import BIN, DevChainProcess
from devchain_kit import HEX
from keyquorum.chain.devchain.chain import DevChain
from keyquorum.chain.devchain.methods import Methods
from keyquorum.chain.devchain.registry import METHODS, is_open_to_pages

CONTROLS = {name for name in METHODS if name.startswith(("evm_", "anvil_", "hardhat_"))}


@pytest.fixture
def url() -> Iterator[str]:
    with DevChainProcess() as process:
        yield process.url


def test_viem_and_hardhats_helpers_move_the_chain(js_tools: Path, url: str) -> None:
    done = subprocess.run(
        [BIN / "node", "controls.mjs"], cwd=js_tools, env=os.environ | {"RPC_URL": url},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert set(json.loads(done.stdout.splitlines()[-1])) >= CONTROLS, "a control method that no client was seen to send"


@pytest.fixture
def cast(js_tools: Path, url: str) -> Callable[..., str]:
    binary = js_tools / "node_modules" / ".bin" / "cast"
    if not binary.exists():
        pytest.skip("no cast for this platform on npm")

    def run(*arguments: str) -> str:
        command = [binary, *arguments, "--rpc-url", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout.strip().strip('"')

    return run


def test_cast_moves_the_chain(cast: Callable[..., str]) -> None:
    snapshot = cast("rpc", "evm_snapshot")
    first = cast("block-number")
    calls = [
        ("evm_mine",), ("anvil_mine",), ("anvil_mine", "2"), ("anvil_mine", "0x1", "0x0"),
        ("hardhat_mine", "0x2", "0x3c"), ("evm_increaseTime", "60"), ("evm_increaseTime", "0x3c"),
        ("anvil_setBalance", HEX, "0x5"), ("hardhat_setBalance", HEX, "1000000"),
    ]  # fmt: skip
    for call in calls:
        cast("rpc", *call)
    then = int(cast("block", "latest", "--field", "timestamp")) + 500
    cast("rpc", "evm_setNextBlockTimestamp", str(then))
    cast("rpc", "evm_mine")
    assert int(cast("block", "latest", "--field", "timestamp")) == then
    assert cast("balance", HEX) == "1000000"
    assert {call[0] for call in calls} | {"evm_snapshot", "evm_setNextBlockTimestamp", "evm_revert"} == CONTROLS
    assert cast("rpc", "evm_revert", snapshot) == "true"
    assert cast("block-number") == first


def test_blocks_are_mined_an_interval_apart(methods: Methods, chain: DevChain) -> None:
    start = chain.head.timestamp
    methods.run("anvil_mine", ["0x3", "0x3c"])
    assert (chain.head.block_number, chain.head.timestamp) == (3, start + 1 + 120)
    methods.run("evm_mine", [{"blocks": 2, "timestamp": hex(start + 1000)}])
    assert (chain.head.block_number, chain.head.timestamp) == (5, start + 1001)
    methods.run("hardhat_mine", [None, None])
    assert chain.head.block_number == 6


@pytest.mark.parametrize("parameters", [["0x2", hex(2**62)], ["0x3e8", hex(2**61)], ["0x1", "0x0", "0x0"], ["1e3"]])
def test_what_cannot_be_mined_changes_nothing(methods: Methods, chain: DevChain, parameters: list[str]) -> None:
    before = chain.head
    with pytest.raises(Exception, match=r"2\^62|takes 0 to 2|hex"):
        methods.run("hardhat_mine", parameters)
    assert chain.head == before


def test_no_page_may_move_the_chain() -> None:
    assert CONTROLS
    assert {name for name in METHODS if not is_open_to_pages(name)} == CONTROLS | {
        "eth_sendTransaction", "eth_sign", "personal_sign",
    }  # fmt: skip
