"""One fake network for all tests of the client; each test starts with good nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from fake_network import FakeNetwork
from keyquorum.client import AsyncClient, Key


@pytest.fixture(scope="module")
def running() -> Iterator[FakeNetwork]:
    with FakeNetwork(4) as network:
        yield network


@pytest.fixture
def network(running: FakeNetwork) -> FakeNetwork:
    running.reset()
    return running


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, nobody is thought silent, and no others are asked, since an answer takes long."""
    for name in ("FIRST", "LEAST", "MOST"):
        monkeypatch.setattr(f"keyquorum.client.patience.{name}", 10.0)


@pytest.fixture
async def client(network: FakeNetwork) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(network.network, account=network.account, timeout=10) as client:
        yield client


@pytest.fixture
async def key(client: AsyncClient, network: FakeNetwork) -> Key:
    """A key of the account; the nodes' notes start after the login."""
    minted = await client.mint()
    await client.login()
    for node in network.nodes.values():
        node.calls.clear()
    return minted.key
