"""Recursive Length Prefix, strictly: each value has one encoding, and every other byte string is refused.

Ethereum Yellow Paper, appendix B. An item is a byte string or a list of items. The decoder refuses whatever a
lenient one would let through to mean the same as something else: a length in the long form that fits the short
one or has leading zeros, a single byte below 0x80 with a prefix, bytes behind the end, an item longer than its list.
"""

from __future__ import annotations

from collections.abc import Sequence

MAX_DEPTH = 8  # transactions need 4: transaction, access list, entry, keys

Item = bytes | list["Item"]
Encodable = bytes | Sequence["Encodable"]


def decode(data: bytes) -> Item:
    """Return the one item `data` encodes; raise `ValueError` unless `encode` of it gives exactly `data`."""
    item, end = _item(data, 0, len(data), 0)
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes behind the end")
    return item


def _item(data: bytes, start: int, limit: int, depth: int) -> tuple[Item, int]:
    """Return the item at `start` and where it ends, at most at `limit`."""
    if start >= limit:
        raise ValueError("ends in the middle of an item")
    prefix = data[start]
    if prefix < 0x80:
        return data[start : start + 1], start + 1
    base = 0x80 if prefix < 0xC0 else 0xC0
    begin, length = start + 1, prefix - base
    if length > 55:
        begin, length = _long_length(data, begin, length - 55, limit)
    end = begin + length
    if end > limit:
        raise ValueError("an item is longer than what is around it")
    if base == 0xC0:
        return _items(data, begin, end, depth + 1), end
    if length == 1 and data[begin] < 0x80:
        raise ValueError("a byte below 0x80 is its own encoding")
    return data[begin:end], end


def _long_length(data: bytes, begin: int, size: int, limit: int) -> tuple[int, int]:
    if begin + size > limit:
        raise ValueError("ends in the middle of a length")
    length = int.from_bytes(data[begin : begin + size], "big")
    if data[begin] == 0 or length <= 55:
        raise ValueError("a length is not in its shortest form")
    return begin + size, length


def _items(data: bytes, begin: int, end: int, depth: int) -> list[Item]:
    if depth > MAX_DEPTH:
        raise ValueError(f"lists are nested deeper than {MAX_DEPTH}")
    items: list[Item] = []
    while begin < end:
        item, begin = _item(data, begin, end, depth)
        items.append(item)
    return items


def encode(item: Encodable) -> bytes:
    """Return the encoding of a byte string or of a sequence of items."""
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _prefix(0x80, len(item)) + item
    content = b"".join(map(encode, item))
    return _prefix(0xC0, len(content)) + content


def _prefix(base: int, length: int) -> bytes:
    if length <= 55:
        return bytes([base + length])
    size = number(length)
    return bytes([base + 55 + len(size)]) + size


def number(value: int) -> bytes:
    """Return the byte string of a number from 0 upwards: big-endian, without leading zeros, nothing for 0."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def to_number(item: Item, below: int) -> int:
    """Return the number of a byte string; raise `ValueError` for a list, a leading zero, or `below` and more."""
    if not isinstance(item, bytes):
        raise ValueError("must be a number, not a list")
    if item[:1] == b"\0":
        raise ValueError("must be a number without leading zeros")
    value = int.from_bytes(item, "big")
    if value >= below:
        raise ValueError(f"must be below 2^{below.bit_length() - 1}")
    return value
