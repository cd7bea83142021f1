"""A real network of four node processes: it signs, heals itself, and comes back from its folder with its keys."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from eth_account import Account
from eth_account.messages import encode_defunct

from keyquorum.cli.local_network import LocalNetwork
from keyquorum.client import AsyncClient, KeyquorumError, Misconfigured, Unavailable

KEYQUORUM = (sys.executable, "-c", "from keyquorum.cli.main import main; main()")
DEMO_MEMBERS = {
    "nodes", "threshold", "token_id", "public_key", "address", "message", "signature", "transaction",
    "signature_after_loss", "refused_below_threshold", "seconds",
}  # fmt: skip


async def sign_soon(client: AsyncClient, key: Any, seconds: float) -> Any:
    """Sign, asking again while too few nodes are up."""
    give_up = time.monotonic() + seconds
    while True:
        try:
            return await client.sign_message(key, "again")
        except KeyquorumError:
            if time.monotonic() > give_up:
                raise
            await asyncio.sleep(0.2)


async def test_a_network_heals_itself_and_comes_back_from_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    events: list[str] = []
    async with LocalNetwork(folder, 4, progress=events.append) as network:
        async with network.client() as client:
            minted = await client.mint()
            assert await client.sign_message(minted.key, "hello")
            with pytest.raises(Misconfigured, match="already running"):
                await LocalNetwork(folder, 4).start()

            # Nobody asked for this death, so the node is started again, and signs with its old share.
            victim = network.pid("node-2")
            assert victim is not None
            os.kill(victim, signal.SIGKILL)
            assert await client.sign_message(minted.key, "meanwhile")
            give_up = time.monotonic() + 30
            while network.pid("node-2") in (None, victim) and time.monotonic() < give_up:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            await network.wait_ready([2])
            assert any("started again" in event for event in events)

            # Asked to be dead, it stays so; below the threshold nothing is signed.
            await network.kill_node(2)
            await network.kill_node(3)
            with pytest.raises(Unavailable, match="2 of 4"):
                await client.sign_message(minted.key, "x")
            await network.restart_node(2)
            assert await sign_soon(client, minted.key, 30)
        ports = network.nodes
    assert network.pid("node-1") is None

    # A port that somebody took meanwhile is replaced, and the registry says so.
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", int(ports[1].rpartition(":")[2])))
        squatter.listen()
        async with LocalNetwork(folder, 4) as network, network.client() as client:
            assert network.nodes[1] != ports[1]
            assert network.nodes[2] == ports[2]
            assert [key.token_id for key in await client.keys()] == [minted.key.token_id]
            assert [node.url for node in (await client.network()).nodes] == list(network.nodes.values())
            signed = await sign_soon(client, minted.key, 30)
            assert Account.recover_message(encode_defunct(text="again"), signature=signed.compact) == minted.key.address
    with pytest.raises(Misconfigured, match="4 nodes, not 7"):
        await LocalNetwork(folder, 7).start()


def test_the_demo_prints_one_object_whose_signatures_hold_for_other_libraries() -> None:
    done = subprocess.run([*KEYQUORUM, "demo", "--json"], capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == DEMO_MEMBERS
    assert set(found["seconds"]) == {"up", "mint", "sign", "send", "total"}
    assert (found["nodes"], found["threshold"], found["refused_below_threshold"]) == (4, 3, True)
    assert found["transaction"]["status"] == 1
    assert Account.recover_transaction(found["transaction"]["raw"]) == found["address"]
    message = encode_defunct(text=found["message"])
    for name in ("signature", "signature_after_loss"):
        assert Account.recover_message(message, signature=found[name]) == found["address"]
        openssl_verify(bytes.fromhex(found["public_key"][2:]), found["message"], bytes.fromhex(found[name][2:]))


def openssl_verify(public_key: bytes, message: str, signature: bytes) -> None:
    from eth_hash.auto import keccak

    digest = keccak(f"\x19Ethereum Signed Message:\n{len(message.encode())}{message}".encode())
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), public_key)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    algorithm = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
    key.verify(utils.encode_dss_signature(r, s), digest, algorithm)
    with pytest.raises(InvalidSignature):
        key.verify(utils.encode_dss_signature(r, s), keccak(digest), algorithm)


def test_up_stops_everything_on_ctrl_c_and_leaves_no_process(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    process = subprocess.Popen(
        [*KEYQUORUM, "up", "--nodes", "2", "--dir", str(folder), "--json"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    found = json.loads(process.stdout.readline())
    assert (found["nodes"], found["threshold"]) == (2, 2)
    children = pids_mentioning(str(folder))
    assert len(children) == 5  # up itself, chain is among: chain, two nodes, gateway
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    process.stdout.close()
    assert not pids_mentioning(str(folder))


def pids_mentioning(text: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found
