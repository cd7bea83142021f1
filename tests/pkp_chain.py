"""A chain process with a network's contracts, an active epoch, a network key, and a pool of keys ready to be minted.

Use as `chain_fixtures`: import the fixture `pkp_chain` into a `conftest.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from coincurve import PrivateKey

from chain_fixtures import DevChainProcess
from keyquorum.chain.contracts import interface, load_artifact
from keyquorum.chain.deploy import Deployment, NodeEntry, deploy
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.rpc import Rpc, Sender
from keyquorum.evm.digests import key_batch_digest
from keyquorum.evm.keys import token_id

POOL = 8


@dataclass(frozen=True)
class PkpChain:
    """A chain process with an active network on it whose pool holds `tokens`, ready to be minted."""

    url: str
    deployment: Deployment
    tokens: list[int]
    abi: list[dict[str, Any]]

    @property
    def nft(self) -> str:
        """Address of the token contract."""
        return self.deployment.contracts["PKPNFT"]


@pytest.fixture(scope="session")
def pkp_chain() -> Iterator[PkpChain]:
    with DevChainProcess() as process:
        yield asyncio.run(_found_network(process.url))


async def _found_network(url: str) -> PkpChain:
    network_key = PrivateKey(b"\x11" * 32)
    keys = [PrivateKey(bytes([0x20 + i]) * 32).public_key.format(compressed=False) for i in range(POOL)]
    nodes = [
        NodeEntry(address, f"http://127.0.0.1:740{i}", "127.0.0.1", 7500 + i, bytes([i + 1]) * 32)
        for i, (address, _) in enumerate(ACCOUNTS[1:5])
    ]
    async with Rpc(url) as rpc:
        governor = Sender(rpc, ACCOUNTS[0][1])
        deployment = await deploy(governor, nodes)
        router, address = interface("PubkeyRouter"), deployment.contracts["PubkeyRouter"]
        vote = router.encode("registerNetworkKey", network_key.public_key.format(compressed=False))
        for _, secret in ACCOUNTS[1:5]:
            await Sender(rpc, secret).send(address, vote)
        number = await deployment.bind(rpc, "PubkeyRouter").read("nextBatch")
        digest = key_batch_digest(31337, address, 1, number, keys)
        signature = network_key.sign_recoverable(digest, hasher=None)
        signature = signature[:64] + bytes([27 + signature[64]])
        await governor.send(address, router.encode("registerKeys", keys, number, signature))
    return PkpChain(url, deployment, [token_id(key) for key in keys], load_artifact("PKPNFT")["abi"])
