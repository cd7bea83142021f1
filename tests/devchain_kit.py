"""A development chain in this process, without HTTP, on a wall clock that a test moves: fixtures and shortcuts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from eth_account import Account

from chain_fixtures import deployment, words
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.devchain.chain import DevChain
from keyquorum.chain.devchain.methods import Methods

GWEI = 10**9
FIRST = Account.from_key(ACCOUNTS[0][1])
NOBODY = bytes.fromhex("77" * 20)
DYNAMIC = {
    "type": 2, "chainId": 31337, "gas": 100_000, "value": 1, "to": NOBODY, "nonce": 0,
    "maxFeePerGas": 3 * GWEI, "maxPriorityFeePerGas": GWEI,
}  # fmt: skip
HEX = "0x" + NOBODY.hex()


class Wall:
    """A wall clock that stands still unless moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def chain(wall: Wall) -> Iterator[DevChain]:
    chain = DevChain(clock=wall)
    yield chain
    chain.close()


@pytest.fixture
def methods(chain: DevChain) -> Methods:
    return Methods(chain)


def signed(account: Any = FIRST, **change: Any) -> bytes:
    return bytes(account.sign_transaction(DYNAMIC | change).raw_transaction)


def deploy(methods: Methods, runtime: bytes) -> str:
    creation = {"from": ACCOUNTS[9][0], "data": "0x" + deployment(runtime).hex()}
    receipt = methods.run("eth_getTransactionReceipt", [methods.run("eth_sendTransaction", [creation])])
    address: str = receipt["contractAddress"]
    return address


def record(methods: Methods, contract: str, key: int, value: int) -> None:
    data = "0x" + words(key, value).hex()
    methods.run("eth_sendTransaction", [{"from": ACCOUNTS[8][0], "to": contract, "data": data, "gas": "0x186a0"}])
