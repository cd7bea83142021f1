"""Fixtures of the contract tests: a chain, and a world of deployed contracts that is as new for every test.

By default the chain is py-evm in this process. A JSON-RPC chain is tested as well when there is one: at the URL in
KEYQUORUM_TEST_RPC, or anvil if `tests/js` has it installed.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from evm import Chain, PyEvmChain, RpcChain  # noqa: E402
from world import World  # noqa: E402

ANVIL = HERE.parent / "js" / "node_modules" / ".bin" / "anvil"
RPC_URL = os.environ.get("KEYQUORUM_TEST_RPC")


def _kinds() -> list[str]:
    return ["py-evm"] + ["url"] * bool(RPC_URL) + ["anvil"] * ANVIL.exists()


@pytest.fixture(scope="session", params=_kinds())
def chain(request: pytest.FixtureRequest) -> Iterator[Chain]:
    if request.param == "py-evm":
        yield PyEvmChain()
    elif request.param == "url":
        assert RPC_URL is not None
        yield RpcChain(RPC_URL)
    else:
        yield from _anvil()


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


def _anvil() -> Iterator[Chain]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(ANVIL), "--port", str(port), "--silent", "--hardfork", "prague"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                chain = RpcChain(f"http://127.0.0.1:{port}")
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, "anvil stopped"
                time.sleep(0.05)
        else:
            raise AssertionError("anvil did not answer within ten seconds")
        yield chain
    finally:
        process.terminate()
        process.wait(timeout=10)
