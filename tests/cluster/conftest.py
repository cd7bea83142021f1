"""One cluster of four for the whole folder: starting it is the dear part. The tests of a file run in one worker."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

sys.path.insert(0, str(Path(__file__).parent))

from cluster import Cluster, make_cluster
from keyquorum.serving import shell
from keyquorum.serving.buckets import Buckets


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in Path(item.path).parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    # A single test of refusals has more of them than an address may have.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shell, "REFUSALS", 1_000_000)
        async with make_cluster(tmp_path_factory.mktemp("cluster")) as made:
            yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def key(cluster: Cluster):
    """A key that `cluster.user` owns."""
    await cluster.pool_filled()
    async with cluster.client() as client:
        return (await client.mint()).key


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def what_other_tests_did_is_over(cluster: Cluster) -> None:
    """All tests come from one address and spend from the same pools: no test pays for another's."""
    await cluster.restocked()


@pytest.fixture
def refusals_uncounted(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred refusals in a test do not keep those of later tests out of the nodes' records."""
    for node in cluster.nodes.values():
        monkeypatch.setattr(node.audit, "_refusals", Buckets(1e6, 1.0))
