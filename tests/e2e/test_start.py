"""A network starts, whatever the order in which its processes, links and pools become ready."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyquorum.cli.local_network import LocalNetwork

PATIENCE = 60.0


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("nodes", [2, 4, 7])
async def test_a_network_starts_every_time(tmp_path: Path, nodes: int) -> None:
    """The nodes link up in another order each time; making the first keys must not wait for a time limit."""
    for number in range(20):
        network = LocalNetwork(tmp_path / str(number), nodes, ready_seconds=PATIENCE)
        async with network, network.client() as client:
            assert await client.sign_message((await client.mint()).key, "up")
