"""rlp: the one decoder between bytes and money."""

from __future__ import annotations

import pytest
import rlp as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from keyquorum.formats import rlp

items = st.recursive(st.binary(max_size=70), lambda inner: st.lists(inner, max_size=4), max_leaves=12)


def depth(item: object) -> int:
    return 1 + max(map(depth, item), default=0) if isinstance(item, list) else 0


@settings(deadline=None)
@given(item=items)
def test_every_item_is_encoded_as_by_another_library_and_read_back(item: rlp.Item) -> None:
    data = rlp.encode(item)
    assert data == reference.encode(item)
    if depth(item) <= rlp.MAX_DEPTH:
        assert rlp.decode(data) == item


@settings(deadline=None, max_examples=400)
@given(
    data=st.binary(max_size=12) | st.binary(min_size=50, max_size=70) | items.map(rlp.encode).map(bytearray).map(bytes)
)
def test_whatever_is_decoded_has_no_other_encoding(data: bytes) -> None:
    try:
        item = rlp.decode(data)
    except ValueError:
        return
    assert rlp.encode(item) == data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", "middle of an item"),
        ("8100", "its own encoding"),
        ("817f", "its own encoding"),
        ("82aa", "longer than"),
        ("b800", "shortest form"),
        ("b837" + "aa" * 55, "shortest form"),
        ("b90038" + "aa" * 56, "shortest form"),
        ("b9", "middle of a length"),
        ("b8", "middle of a length"),
        ("bfffffffffffffffff", "longer than"),
        ("ffffffffffffffffff", "longer than"),
        ("c2", "longer than"),
        ("c281", "longer than"),
        ("c182aaaa", "longer than"),
        ("c3c2aa", "longer than"),
        ("c3c3aaaa", "longer than"),
        ("c0c0", "behind the end"),
        ("8000", "behind the end"),
        ("f800", "shortest form"),
        ("f838" + "c0" * 55, "longer than"),
    ],
)
def test_what_a_lenient_decoder_lets_through_is_refused(data: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rlp.decode(bytes.fromhex(data))


def test_lists_nest_to_a_bound_and_a_bomb_is_refused_at_once() -> None:
    nested: rlp.Item = []
    for _ in range(rlp.MAX_DEPTH - 1):
        nested = [nested]
    assert rlp.decode(rlp.encode(nested)) == nested
    with pytest.raises(ValueError, match="nested"):
        rlp.decode(rlp.encode([nested]))
    bomb = b""
    for _ in range(30_000):
        bomb = rlp._prefix(0xC0, len(bomb)) + bomb if len(bomb) < 50 else b"\xf9\xff\xff" + bomb
    with pytest.raises(ValueError, match=r"nested|longer"):
        rlp.decode(bomb[-131_072:])


@pytest.mark.parametrize("value", [0, 1, 127, 128, 255, 256, 2**64 - 1, 2**256 - 1])
def test_numbers_have_no_leading_zeros_and_a_bound(value: int) -> None:
    assert rlp.to_number(rlp.number(value), value + 1) == value
    with pytest.raises(ValueError, match="below"):
        rlp.to_number(rlp.number(value), value)
    with pytest.raises(ValueError, match="leading zeros"):
        rlp.to_number(b"\0" + rlp.number(value), 2**300)
    with pytest.raises(ValueError, match="not a list"):
        rlp.to_number([rlp.number(value)], 2**300)
