"""Addresses and names of keys, beside what other libraries make of them."""

from __future__ import annotations

from hashlib import sha256

import pytest
from eth_account import Account
from eth_keys import keys as eth_keys
from eth_utils import keccak, to_checksum_address

from keyquorum.evm.address import address_of_private, address_of_public, checksum, from_checksum, to_checksum
from keyquorum.evm.keys import eth_address, is_key_id, token_id
from keyquorum.refusal import Invalid

KEYS = [sha256(bytes([number])).digest() for number in range(20)]


def public(key: bytes) -> bytes:
    return b"\4" + bytes(eth_keys.PrivateKey(key).public_key.to_bytes())


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_both_halves_of_a_key_have_the_address_that_others_give_it(key: bytes) -> None:
    expected = Account.from_key(key).address
    assert to_checksum(address_of_private(key)) == to_checksum(address_of_public(public(key))) == expected
    assert eth_address(public(key)) == expected
    assert token_id(public(key)) == int.from_bytes(keccak(public(key)), "big")


@pytest.mark.parametrize("wrong", [b"", KEYS[0], public(KEYS[0])[1:], b"\3" + bytes(64), bytes(65), bytes(66)])
def test_what_is_no_public_key_has_no_address(wrong: bytes) -> None:
    """Above all a secret, whose 32 bytes would be hashed to the address of nobody."""
    for function in (address_of_public, eth_address, token_id):
        with pytest.raises(ValueError, match="65 bytes"):
            function(wrong)


@pytest.mark.parametrize("wrong", [b"", bytes(31), bytes(33), bytes(32), b"\xff" * 32])
def test_what_is_no_private_key_has_no_address(wrong: bytes) -> None:
    with pytest.raises(ValueError):
        address_of_private(wrong)


def test_a_person_may_leave_the_checksum_out_and_a_program_may_not() -> None:
    right = to_checksum_address(b"\xab" * 20)
    assert checksum(right) == checksum(right.lower()) == checksum("0X" + right[2:].upper()) == right
    assert from_checksum(right) == b"\xab" * 20
    swapped = "0x" + right[2:].swapcase()
    for text in (right.lower(), "0x" + right[2:].upper(), swapped, right[:-1], right + "0", right[2:], None, 5):
        with pytest.raises(Invalid) as caught:
            from_checksum(text)
        assert (caught.value.code, caught.value.status) == ("bad_address", 400)
    for text in (swapped, right[:-1], right + "0", right[2:], "vitalik.eth"):
        with pytest.raises(ValueError, match="address"):
            checksum(text)
    for raw in (bytes(19), bytes(21)):
        with pytest.raises(ValueError, match="20 bytes"):
            to_checksum(raw)


def test_a_key_id_has_one_spelling() -> None:
    assert is_key_id("0x" + "0a" * 32)
    for wrong in ("0x" + "0A" * 32, "0a" * 32, "0x" + "0a" * 31, "0x" + "0a" * 33, "0x" + "0a" * 32 + "\n", None, 10):
        assert not is_key_id(wrong)
