"""evm_message: the digest every wallet computes, and a preview that cannot be turned against its reader."""

from __future__ import annotations

import pytest
from eth_account.messages import _hash_eip191_message, encode_defunct
from eth_hash.auto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from keyquorum.intents import BadIntent, Intent, evm_message, message_intent, read

SIWE = """example.com wants you to sign in with your Ethereum account:
0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045

I accept.

URI: https://example.com/login
Version: 1
Chain ID: 1
Nonce: 32891757
Issued At: 2026-09-30T16:25:24.000Z"""


def message(text: str | bytes) -> Intent:
    return read(message_intent(text), 1)


@settings(deadline=None, max_examples=200)
@given(content=st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_the_digest_is_that_of_eth_account_for_any_bytes(content: bytes) -> None:
    intent = message(content)
    assert intent.digest == _hash_eip191_message(encode_defunct(content))
    assert intent.scope == 2
    assert intent.summary.isascii()
    assert intent.summary.isprintable()
    assert len(intent.summary) <= 200


@settings(deadline=None)
@given(text=st.text(max_size=200))
def test_text_and_its_bytes_are_the_same_message(text: str) -> None:
    assert message(text) == message(text.encode())


@pytest.mark.parametrize(
    ("content", "summary"),
    [
        ("", 'signs the message ""'),
        ("Hello, Bob!", 'signs the message "Hello, Bob!"'),
        ("pay\u202e001 EUR\x1b[2K\r\n", 'signs the message "pay\\u202e001 EUR\\u001b[2K\\r\\n"'),
        ('x"; sends 0 ETH', 'signs the message "x\\"; sends 0 ETH"'),
        (
            b"\xff\xfe" * 9,
            f"signs 18 bytes, keccak 0x{keccak(bytes.fromhex('fffe') * 9)[:4].hex()}, that are no text;"
            f" beginning 0x{'fffe' * 8}",
        ),
        ("x" * 101, f'signs the message "{"x" * 100}"... (101 bytes, keccak 0x{keccak(b"x" * 101)[:4].hex()})'),
    ],
)
def test_the_summary_shows_the_message_and_cannot_be_broken_out_of(content: str | bytes, summary: str) -> None:
    assert message(content).summary == summary


def test_messages_that_differ_only_behind_the_preview_look_different() -> None:
    assert message("x" * 5000 + "a").summary != message("x" * 5000 + "b").summary


def test_nothing_that_is_signed_as_a_message_is_a_transaction_or_typed_data() -> None:
    assert evm_message.PREFIX[0] == 0x19
    assert evm_message.PREFIX[1] != 0x01
    for prefix in (b"\x19\x01", b"\x02\xc0", b"\xc0", evm_message.PREFIX):
        assert message(prefix).digest != keccak(prefix)


@pytest.mark.parametrize(
    ("text", "login", "beginning"),
    [
        (
            SIWE,
            "siwe",
            'SIGNS IN to "example.com" as 0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045; signs the message "example.com w',
        ),
        (
            SIWE.replace("https://example.com/login", "keyquorum:session:abc-_9"),
            "keyquorum",
            'OPENS A KEYQUORUM SESSION for key "abc-_9"; signs the message "example.com w',
        ),
        ("keyquorum:session:", "keyquorum", 'OPENS A KEYQUORUM SESSION for key ""; signs'),
        ("note: x WANTS YOU TO SIGN  IN with your ethereum account", "siwe", "LOOKS LIKE A LOGIN; signs the"),
        (" \n" + SIWE, "siwe", "LOOKS LIKE A LOGIN; signs"),
        ("sign here", None, "signs the message"),
    ],
)
def test_a_login_says_so_first(text: str, login: str | None, beginning: str) -> None:
    intent = message(text)
    assert intent.summary.startswith(beginning)
    assert intent.details["login"] == login
    assert intent.details["warnings"] == (["login"] if login else [])


@pytest.mark.parametrize(
    ("intent", "code"),
    [
        ({"kind": "evm-message"}, "bad_message"),
        ({"kind": "evm-message", "message": "a", "bytes": "0x61"}, "bad_message"),
        ({"kind": "evm-message", "message": "\ud800"}, "bad_message"),
        ({"kind": "evm-message", "message": "x" * (evm_message.MAX_BYTES + 1)}, "bad_message"),
        ({"kind": "evm-message", "bytes": "0x" + "00" * (evm_message.MAX_BYTES + 1)}, "bad_value"),
        ({"kind": "evm-message", "message": None}, "wrong_type"),
        ({"kind": "evm-message", "message": 5}, "wrong_type"),
        ({"kind": "evm-message", "bytes": "61"}, "bad_value"),
        ({"kind": "evm-message", "bytes": "0x6"}, "bad_value"),
        ({"kind": "evm-message", "message": "a", "version": 1}, "unknown_field"),
    ],
)
def test_anything_else_is_refused(intent: dict[str, object], code: str) -> None:
    with pytest.raises(BadIntent) as caught:
        read(intent)
    assert caught.value.code == code


def test_the_largest_message_is_read() -> None:
    assert message("x" * evm_message.MAX_BYTES).details["text"] == "x" * evm_message.MAX_BYTES
