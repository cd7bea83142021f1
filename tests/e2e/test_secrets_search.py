"""The search for secrets finds them: without this, "nothing was found" would say nothing."""

from __future__ import annotations

import base64
import os

import pytest
from secrets_search import find, is_its_own_file

SECRET = bytes.fromhex("00") + os.urandom(31)
OTHER = os.urandom(32)


@pytest.mark.parametrize("before", range(9))
@pytest.mark.parametrize(
    "write",
    [
        bytes, lambda s: s[::-1], lambda s: s.hex().encode(), lambda s: s.hex().upper().encode(),
        lambda s: str(int.from_bytes(s, "big")).encode(),
    ],
    ids=["raw", "reversed", "hex", "HEX", "decimal"],
)  # fmt: skip
def test_a_planted_secret_is_found_wherever_it_stands(write, before: int) -> None:
    content = os.urandom(1000 + before) + write(SECRET) + os.urandom(before)
    assert find({"a": SECRET, "b": OTHER}, {"file": content, "clean": os.urandom(5000)}) == {("a", "file")}


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
@pytest.mark.parametrize("before", range(4))
def test_a_secret_inside_a_base64_stream_is_found_at_each_alignment(encode, before: int) -> None:
    content = b"..." + encode(os.urandom(before) + SECRET + os.urandom(3))
    assert find({"a": SECRET}, {"file": content}) == {("a", "file")}


def test_small_places_are_searched_without_error() -> None:
    assert find({"a": SECRET}, {str(n): bytes(n) for n in range(20)}) == set()


def test_only_the_file_made_for_a_secret_may_hold_it() -> None:
    assert is_its_own_file("account", "account.key after")
    assert is_its_own_file("store key 2", "node-2/store.key")
    assert not is_its_own_file("share 2 ab", "node-2/store.key")
    assert not is_its_own_file("account", "logs/node-1.log")
