"""A gateway before a fake network, served over HTTP on a thread of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from fake_network import FakeNetwork
from keyquorum.client import AsyncClient, Network
from keyquorum.gateway.app import Server
from keyquorum.gateway.config import GatewayConfig


@pytest.fixture(scope="module")
def running() -> Iterator[FakeNetwork]:
    with FakeNetwork(4) as network:
        yield network


@pytest.fixture
def network(running: FakeNetwork) -> FakeNetwork:
    running.reset()
    return running


@pytest.fixture
def config(network: FakeNetwork, tmp_path: Path) -> GatewayConfig:
    key_file = tmp_path / "relayer.key"
    key_file.write_text(network.relayer_key.hex())
    return GatewayConfig(
        network=network.id,
        rpc=network.chain.url,
        port=0,
        relayer_key_file=str(key_file),
        owner_mints=True,
        owner_mints_per_client=100,
        pool_reserve=0,
        mints_per_owner=5,
        mints_per_client=100,
        requests_per_second=10_000,
    )


@pytest.fixture
async def server(config: GatewayConfig) -> AsyncIterator[Server]:
    async with Server(config) as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def user(server: Server, network: FakeNetwork) -> AsyncIterator[AsyncClient]:
    """The account, whose every call goes through the gateway."""
    where = Network(network.id, network.chain.url, server.url)
    async with AsyncClient(where, account=network.account, through_gateway=True, timeout=10) as client:
        yield client
