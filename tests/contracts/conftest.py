"""Fixtures of the contract tests: a chain, and a world of deployed contracts that is as new for every test.

Every test runs on py-evm in this process and on anvil, which `js_tools` installs; where it cannot, those tests skip and
say why. KEYQUORUM_TEST_RPC adds the JSON-RPC chain at that URL.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from chains import Chain, PyEvmChain, RpcChain  # noqa: E402
from world import World  # noqa: E402

from chain_fixtures import js_tools, running_anvil  # noqa: E402, F401

RPC_URL = os.environ.get("KEYQUORUM_TEST_RPC")
# What a test is collected for must not depend on what happens to be installed: who looks later installs first.
KINDS = ("py-evm", "anvil", *(("url",) if RPC_URL else ()))


@pytest.fixture(scope="session", params=KINDS)
def chain(request: pytest.FixtureRequest) -> Iterator[Chain]:
    if request.param == "py-evm":
        yield PyEvmChain()
    elif request.param == "url":
        assert RPC_URL is not None
        yield RpcChain(RPC_URL)
    else:
        with running_anvil(request.getfixturevalue("js_tools")) as url:
            yield RpcChain(url)


@pytest.fixture(scope="session")
def prepared(chain: Chain) -> tuple[World, Any]:
    world = World(chain)
    return world, chain.snapshot()


@pytest.fixture
def world(prepared: tuple[World, Any]) -> World:
    """The contracts, an active epoch of four nodes, a network key, and a pool of eight keys."""
    world, snapshot = prepared
    world.chain.restore(snapshot)
    world.next_secret = 2000
    return world


@pytest.fixture
def reverts() -> Callable[..., Any]:
    """`with reverts("ErrorName", *values)`: the block is refused with exactly this error."""
    return _reverts


class _reverts:
    def __init__(self, name: str, *values: Any) -> None:
        self._name, self._values = name, values

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        from keyquorum.chain.contracts import Reverted

        assert error is not None, f"expected {self._name}, but nothing was refused"
        if not isinstance(error, Reverted):
            return False
        assert error.name == self._name, str(error)
        assert not self._values or error.values == self._values, str(error)
        return True
