"""Hashing is injective: other values, other bytes; other purpose, other hash."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyquorum.algebra.transcript import Tag, encode, expand, tagged_hash

values = st.recursive(
    st.binary(max_size=6) | st.text(max_size=4) | st.integers(min_value=0, max_value=1 << 70),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(st.lists(values, max_size=4), st.lists(values, max_size=4))
def test_equal_bytes_mean_equal_values(a: list, b: list) -> None:
    assert (encode(a) == encode(b)) == (a == b)
    assert (tagged_hash(Tag.ECHO, *a) == tagged_hash(Tag.ECHO, *b)) == (a == b)


def test_a_hash_is_sha256_of_the_encodings_in_a_row() -> None:
    expected = hashlib.sha256(encode(Tag.ECHO.value) + encode(b"ab") + encode(7) + encode("x") + encode([b"c"]))
    assert tagged_hash(Tag.ECHO, b"ab", 7, "x", [b"c"]) == expected.digest()


def test_the_same_bytes_hash_the_same_however_they_are_held() -> None:
    wide = memoryview(bytes(range(16))).cast("Q")
    assert tagged_hash(Tag.ECHO, wide) == tagged_hash(Tag.ECHO, bytearray(range(16)))


def test_tags_are_unique_and_separate_purposes() -> None:
    assert len({tag.value for tag in Tag}) == len(list(Tag))
    assert len({tagged_hash(tag, b"x") for tag in Tag}) == len(list(Tag))


def test_a_bool_and_a_negative_number_are_refused() -> None:
    with pytest.raises(TypeError, match="bool"):
        encode(True)
    with pytest.raises(ValueError, match="upwards"):
        encode(-1)


def test_expansion_is_a_stream_of_the_hash() -> None:
    assert expand(Tag.ECHO, 64, b"x")[:32] == expand(Tag.ECHO, 32, b"x")
    assert expand(Tag.ECHO, 32, b"x") != expand(Tag.ZERO_SHARE, 32, b"x")
