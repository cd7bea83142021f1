"""Our transactions are eth-account's, byte by byte."""

from __future__ import annotations

import pytest
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st

from keyquorum.chain.account import Transaction, sign
from keyquorum.evm.address import address_of_private, to_checksum

KEYS = st.integers(1, 2**256 - 2**129).map(lambda k: k.to_bytes(32, "big"))
SMALL = st.integers(0, 2**64 - 2)


@settings(max_examples=60, deadline=None)
@given(KEYS, SMALL, SMALL, SMALL, st.binary(min_size=20, max_size=20) | st.just(b""), SMALL, st.binary(max_size=300))
def test_raw_transaction_hash_and_address_agree_with_eth_account(key, nonce, fee, gas, to, value, data) -> None:
    ours = sign(Transaction(31337, nonce, fee, 2 * fee, gas, to, value, data), key)
    theirs = Account.from_key(key).sign_transaction({
        "type": 2, "chainId": 31337, "nonce": nonce, "maxPriorityFeePerGas": fee, "maxFeePerGas": 2 * fee, "gas": gas,
        "to": to, "value": value, "data": data,
    })  # fmt: skip
    assert (ours.raw, ours.hash) == (bytes(theirs.raw_transaction), bytes(theirs.hash))
    assert to_checksum(address_of_private(key)) == Account.from_key(key).address


@pytest.mark.parametrize("key", [b"", bytes(32), b"\xff" * 32, b"\x01" * 31, b"\x01" * 33])
def test_what_is_no_private_key_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError):
        address_of_private(key)
