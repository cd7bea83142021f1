"""The summary of a transaction: what, how much, to whom, where, at what cost; and how long it takes to make."""

from __future__ import annotations

import statistics
import time
from typing import Any

import pytest
from eth_account import Account
from eth_hash.auto import keccak

from keyquorum.intents import read
from keyquorum.intents.build import serialize

KEY = Account.from_key(bytes([7]) * 32)
TO = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045"
OTHER = "0x" + "11" * 20
SELF = f"{KEY.address[:8]}...{KEY.address[-6:]}"
PLAIN = {
    "chainId": 1,
    "nonce": 5,
    "gas": 21_000,
    "to": TO,
    "value": 1_500_000_000_000_000_001,
    "maxFeePerGas": 30 * 10**9,
    "maxPriorityFeePerGas": 10**9,
}
LEGACY = {"gasPrice": 10**9, "maxFeePerGas": ..., "maxPriorityFeePerGas": ...}
ACCESS = [{"address": OTHER, "storageKeys": ["0x" + "00" * 31 + "01", "0x" + "ff" * 32]}]


def intent_of(raw: bytes) -> dict[str, str]:
    return {"kind": "evm-transaction", "transaction": "0x" + raw.hex()}


def raw_of(**changes: Any) -> bytes:
    return serialize({name: value for name, value in {**PLAIN, **changes}.items() if value is not ...})


def authorization(**changes: Any) -> Any:
    return KEY.sign_authorization({"chainId": 1, "address": OTHER, "nonce": 6, **changes})


TYPE_4 = {"authorizationList": [authorization()]}


@pytest.mark.parametrize(
    ("changes", "summary"),
    [
        ({}, f"sends 1.500000000000000001 ETH to {TO}; chain 1; nonce 5; max fee 0.00063 ETH"),
        ({**LEGACY, "chainId": 137}, f"sends 1.500000000000000001 POL to {TO}; chain 137; nonce 5;"
            " max fee 0.000021 POL"),
        (
            {"to": ..., "data": b"code", "value": 0},
            "CREATES A CONTRACT with 0 ETH; code 4 bytes, keccak 0x2dc081a8; chain 1; nonce 5; max fee 0.00063 ETH",
        ),
        (
            {"data": bytes.fromhex("12345678aa"), "accessList": ACCESS},
            f"calls 0x12345678 of {TO} with 1.500000000000000001 ETH; chain 1; nonce 5; max fee 0.00063 ETH;"
            " data 5 bytes, keccak 0xba317000; access list of 1",
        ),
        ({"data": b"abc", "value": 0}, f"calls the fallback of {TO} with 0 ETH; chain 1; nonce 5; max fee 0.00063 ETH;"
            " data 3 bytes, keccak 0x4e03657a"),
        (
            {**TYPE_4, "value": 0},
            f"DELEGATES ACCOUNT {SELF} to {OTHER}; sends 0 ETH to {TO}; chain 1; nonce 5;"
            " max fee 0.00063 ETH",
        ),
        (
            {"authorizationList": [authorization(chainId=0)], "to": KEY.address},
            f"DELEGATES ACCOUNT {SELF} to {OTHER} ON EVERY CHAIN;"
            " sends 1.500000000000000001 ETH to it; chain 1; nonce 5; max fee 0.00063 ETH",
        ),
        (
            {"authorizationList": [authorization(address="0x" + "00" * 20)], "value": 0},
            f"ENDS THE DELEGATION of {SELF}; sends 0 ETH to {TO}; chain 1; nonce 5;"
            " max fee 0.00063 ETH",
        ),
        (
            {"authorizationList": [authorization(), authorization()], "value": 0, "to": KEY.address},
            f"DELEGATES 2 ACCOUNTS, first {SELF} to {OTHER}; sends 0 ETH to it; chain 1; nonce 5;"
            " max fee 0.00063 ETH",
        ),
    ],
)  # fmt: skip
def test_the_summary_says_what_how_much_to_whom_where_and_at_what_cost(changes: dict[str, Any], summary: str) -> None:
    assert read(intent_of(raw_of(**changes))).summary == summary


@pytest.mark.parametrize(
    ("changes", "warnings"),
    [
        ({}, []),
        ({"to": ...}, ["contract_creation"]),
        (TYPE_4, ["delegation"]),
        ({"data": keccak(b"approve(address,uint256)")[:4] + bytes(64)}, ["approval"]),
    ],
)
def test_dangers_are_named_in_the_details(changes: dict[str, Any], warnings: list[str]) -> None:
    assert read(intent_of(raw_of(**changes))).details["warnings"] == warnings


def test_even_the_longest_amounts_leave_room_for_what_matters() -> None:
    raw = raw_of(
        value=2**255, gas=2**64 - 1, maxFeePerGas=2**190, maxPriorityFeePerGas=0, nonce=2**64 - 2, chainId=2**62
    )
    summary = read(intent_of(raw)).summary
    assert summary.startswith("sends 57896044618658097711785492504343953926634992332820282019728.7920039565648199")
    assert TO in summary
    assert "; and more (0x" in summary
    assert len(summary) <= 200


def test_reading_a_transaction_takes_microseconds() -> None:
    for transaction in (intent_of(raw_of()), intent_of(raw_of(data=bytes(68)))):
        times = []
        for _ in range(200):
            started = time.perf_counter()
            read(transaction, 1)
            times.append(time.perf_counter() - started)
        assert statistics.median(times) < 1.5e-3, "ten times what is expected"
