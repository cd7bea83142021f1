"""End-to-end tests: real processes, started as `keyquorum up` starts them. The tests of a file run in one worker.

`network` is one network of four nodes for every test that leaves it as it was. `worn` is a second one, for the tests
that kill its nodes; its tests run in the order of their file. At the end of each, what the run left behind is searched
for the secrets of the run (`secrets_search.py`).
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

from live import Live
from secrets_search import search_and_stop

from chain_fixtures import js_tools  # noqa: F401
from keyquorum.cli.local_network import LocalNetwork

LOOP = pytest.mark.asyncio(loop_scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in Path(item.path).parents and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(LOOP, append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    made = Live(LocalNetwork(tmp_path_factory.mktemp("e2e") / "net", 4))
    async with made:
        yield made
        await search_and_stop(made)


@pytest.fixture(scope="session")
def network(live: Live) -> LocalNetwork:
    return live.network


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def worn(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    made = Live(LocalNetwork(tmp_path_factory.mktemp("worn") / "net", 4))
    async with made:
        yield made
