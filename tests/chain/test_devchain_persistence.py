"""What a development chain keeps: every block it told somebody about, whatever happened to the process since."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chain_fixtures import RECORDER, DevChainProcess, deployment, words
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.devchain.chain import FILE, DevChain
from keyquorum.chain.devchain.methods import Methods
from keyquorum.chain.devchain.store import Store, StoreLocked
from keyquorum.chain.rpc import Rpc, RpcUnreachable, Sender, from_quantity

NOBODY = "0x" + "77" * 20


async def everything(rpc: Rpc) -> list[Any]:
    """All blocks with transactions and receipts, all logs, and some state at every height."""
    head = await rpc.block_number()
    calls: list[tuple[str, Any]] = []
    for number in map(hex, range(head + 1)):
        calls += [("eth_getBlockByNumber", (number, True)), ("eth_getBlockReceipts", (number,))]
        calls += [("eth_getBalance", (ACCOUNTS[0][0], number)), ("eth_getTransactionCount", (ACCOUNTS[0][0], number))]
    return [*await rpc.batch(calls), await rpc.get_logs()]


async def test_a_chain_that_was_killed_comes_back_as_it_was(tmp_path: Path) -> None:
    with DevChainProcess(tmp_path) as process:
        async with Rpc(process.url) as rpc:
            sender = Sender(rpc, ACCOUNTS[0][1])
            contract = (await sender.send(None, deployment(RECORDER)))["contractAddress"]
            for value in range(5):
                await sender.send(contract, words(1, value))
            await rpc.call("evm_increaseTime", 10_000)
            snapshot = await rpc.call("evm_snapshot")
            await sender.send(contract, words(1, 99))
            await rpc.call("evm_revert", snapshot)
            await Sender(rpc, ACCOUNTS[1][1]).send(contract, words(1, 7))
            before = await everything(rpc)
        assert process.stop(signal.SIGKILL) == -signal.SIGKILL
    with DevChainProcess(tmp_path) as process:
        async with Rpc(process.url) as rpc:
            assert await everything(rpc) == before
            assert await rpc.eth_call(contract, words(1)) == words(7)
            assert await rpc.call("evm_revert", snapshot) is False
            old = from_quantity((await rpc.block())["timestamp"])
            receipt = await Sender(rpc, ACCOUNTS[0][1]).send(contract, words(1, 8))
            new = from_quantity((await rpc.block())["timestamp"])
            assert old < new < old + 600, "the clock still runs ahead by what it was moved"
            assert len(await rpc.get_logs(contract)) == 7
        assert process.stop(signal.SIGTERM) == 0
    chain = DevChain(tmp_path)
    assert "0x" + chain.head.hash.hex() == receipt["blockHash"]
    chain.close()


async def test_no_acknowledged_transaction_is_lost_when_the_process_is_killed_under_load(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    with DevChainProcess(tmp_path) as process:
        async with Rpc(process.url) as rpc:
            enough = asyncio.Event()

            async def spend(key: bytes) -> None:
                sender = Sender(rpc, key)
                while True:
                    acknowledged.append((await sender.send(NOBODY, value=1))["transactionHash"])
                    if len(acknowledged) == 40:
                        enough.set()

            tasks = [asyncio.create_task(spend(key)) for _, key in ACCOUNTS[:4]]
            await asyncio.wait_for(enough.wait(), 30)
            process.stop(signal.SIGKILL)
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, RpcUnreachable) for result in results)
    chain = DevChain(tmp_path)
    methods = Methods(chain)
    for transaction_hash in acknowledged:
        assert methods.run("eth_getTransactionReceipt", [transaction_hash])["status"] == "0x1"
    assert int(methods.run("eth_getBalance", [NOBODY]), 16) == chain.head.block_number >= len(acknowledged)
    chain.close()


def test_a_second_process_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    chain = DevChain(tmp_path)
    with pytest.raises(StoreLocked):
        DevChain(tmp_path)
    command = [sys.executable, "-m", "keyquorum.chain.devchain", "--port", "0", "--dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, "another process" in done.stderr, "Traceback" in done.stderr) == (2, True, False)
    chain.close()
    DevChain(tmp_path).close()


@pytest.mark.parametrize("content", [b"this is not a database, not at all" * 100, b"SQLite format 3\0" + b"x" * 5000])
def test_a_file_that_is_no_chain_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ValueError, match="not a development chain"):
        DevChain(tmp_path)
    assert (tmp_path / FILE).read_bytes() == content


def test_a_chain_of_another_format_is_refused(tmp_path: Path) -> None:
    chain = DevChain(tmp_path)
    chain.store.set_number("format", 2)
    chain.close()
    with pytest.raises(ValueError, match="format 2"):
        DevChain(tmp_path)


def test_every_commit_reaches_the_disk(tmp_path: Path) -> None:
    store = Store(tmp_path / FILE)
    assert store._sql.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._sql.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_a_crash_before_the_first_block_begins_anew(tmp_path: Path) -> None:
    Store(tmp_path / FILE).close()
    chain = DevChain(tmp_path)
    assert chain.head.block_number == 0
    chain.mine()
    chain.close()
    chain = DevChain(tmp_path)
    assert chain.head.block_number == 1
    chain.close()


def test_a_long_chain_opens_without_executing_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = DevChain(tmp_path)
    chain.mine(50)
    head = chain.head.hash
    chain.close()

    def no_execution(*arguments: Any) -> None:
        raise AssertionError("a block was made")

    monkeypatch.setattr(DevChain, "_seal", no_execution)
    chain = DevChain(tmp_path)
    assert chain.head.hash == head
    assert chain.state(chain.head).get_balance(bytes.fromhex(ACCOUNTS[0][0][2:])) == 10_000 * 10**18
    chain.close()


def test_a_moved_clock_survives_even_before_the_next_block(tmp_path: Path) -> None:
    chain = DevChain(tmp_path, clock=lambda: 1_800_000_000.0)
    chain.increase_time(5000)
    chain.close()
    chain = DevChain(tmp_path, clock=lambda: 1_800_000_001.0)
    assert chain.next_header().timestamp == 1_800_005_001
    chain.close()


def test_a_failed_write_rolls_back_the_block_and_its_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = DevChain(tmp_path)

    def fail(name: str, value: int) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(chain.store, "set_number", fail)
    with pytest.raises(sqlite3.OperationalError):
        chain.mine()
    monkeypatch.undo()
    chain.close()
    chain = DevChain(tmp_path)
    assert chain.head.block_number == 0
    chain.mine()
    assert chain.head.block_number == 1
    chain.close()
