"""Round messages: frozen dataclasses whose fields declare kind and shape, so their length is a formula.

A protocol writes

    @dataclass(frozen=True, repr=False)
    class Opening(Message):
        A: Annotated[list[list[Point]], points("batch", "t")]
        salt: Annotated[bytes, octets(32)]

and gets an encoding without any length or tag inside: the fields one after the other, each as many items as its
shape says (65 bytes a point, 32 bytes a scalar below q). Both sides know the dimensions (batch, t, ...) before the
run: what a party sends tells what it expects from the others. So `decode` first compares the length, before a byte
is looked at, and no list of a message can be shorter or longer than the protocol says: a peer cannot raise a
threshold, skip a check with an empty list, or make us allocate. Decoding is strict and injective: one value, one
encoding. All message classes register themselves, so that the mutation sweep finds every field of every message.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, lru_cache
from typing import Any, ClassVar, Self, get_type_hints

from keyquorum.algebra import field
from keyquorum.algebra.curve import POINT_BYTES, Point

Dims = Mapping[str, int]


@dataclass(frozen=True)
class Kind:
    """How one item of a field looks: its name, its bytes, and the two directions."""

    name: str
    size: int
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


@dataclass(frozen=True)
class Items:
    """What a field holds: items of one kind, in an array whose dimensions `shape` names; () is a single item."""

    kind: Kind
    shape: tuple[str, ...]

    def count(self, dims: Dims) -> int:
        """Return the number of items for these dimensions."""
        total = 1
        for name in self.shape:
            total *= dims[name]
        return total


Layout = tuple[tuple[str, Items], ...]
_layouts: dict[type[Message], Layout] = {}


SCALAR = Kind("scalar", field.SCALAR_BYTES, field.to_bytes, field.from_bytes_checked)
POINT = Kind("point", POINT_BYTES, Point.to_bytes, Point.from_bytes_checked)


def scalars(*shape: str) -> Items:
    """Declare a field of scalars (0..q-1, 32 bytes each)."""
    return Items(SCALAR, shape)


def points(*shape: str) -> Items:
    """Declare a field of points (65 bytes each, on the curve, never infinity)."""
    return Items(POINT, shape)


def octets(size: int, *shape: str) -> Items:
    """Declare a field of byte strings of exactly `size` bytes each."""
    return Items(_octets(size), shape)


@cache
def _octets(size: int) -> Kind:
    def checked(value: bytes) -> bytes:
        if len(value) != size:
            raise ValueError(f"this field has {size} bytes")
        return bytes(value)

    return Kind("octets", size, checked, checked)


class Message:
    """Base of all round messages; the subclass is a frozen dataclass of `scalars`, `points` and `octets`."""

    registry: ClassVar[dict[str, type[Message]]] = {}

    def __init_subclass__(cls) -> None:
        name = f"{cls.__module__}.{cls.__qualname__}"
        if name in Message.registry:
            raise TypeError(f"a second message named {name}")
        Message.registry[name] = cls

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    @classmethod
    def length(cls, dims: Dims) -> int:
        """Return the number of bytes of the encoding for these dimensions."""
        return _plan(cls, tuple(dims.items()))[0]  # type: ignore[arg-type]  # a class is hashable, mypy asks its instances

    def dims(self) -> dict[str, int]:
        """Return the dimensions of this message; raise `ValueError` when its fields contradict each other."""
        found: dict[str, int] = {}
        for name, items in layout(type(self)):
            values = [getattr(self, name)]
            for dim in items.shape:
                lengths = {len(value) for value in values}
                size = found.setdefault(dim, min(lengths))
                if lengths != {size} or size == 0:
                    raise ValueError(f"{type(self).__name__}.{name}: dimension {dim} is not what it should be")
                values = [inner for value in values for inner in value]
        return found

    def encode(self) -> bytes:
        """Return the encoding; that of a decoded message is the bytes it came from."""
        known: bytes | None = self.__dict__.get("_encoded")
        if known is None:
            known = b"".join(_parts(self))
            object.__setattr__(self, "_encoded", known)
        return known

    @classmethod
    def decode(cls, data: bytes, dims: Dims) -> Self:
        """Return the message with exactly this encoding; raise `ValueError` for any other bytes."""
        total, split, steps = _plan(cls, tuple(dims.items()))  # type: ignore[arg-type]  # as in `length`
        if len(data) != total:
            raise ValueError(f"a {cls.__name__} has {total} bytes here, not {len(data)}")
        items = split(data)
        values: list[Any] = []
        for decode, start, end, sizes in steps:
            if sizes:
                flat = list(map(decode, items[start:end]))
                values.append(flat if len(sizes) == 1 else _nest(flat, sizes))
            else:
                values.append(decode(items[start]))
        message = cls(*values)
        object.__setattr__(message, "_encoded", bytes(data))
        return message


def layout(cls: type[Message]) -> Layout:
    """Return the fields of a message class, name and content, in the order of their encoding."""
    known = _layouts.get(cls)
    if known is None:
        hints = get_type_hints(cls, include_extras=True)
        known = tuple((f.name, hints[f.name].__metadata__[0]) for f in fields(cls))  # type: ignore[arg-type]
        _layouts[cls] = known
    return known


# Cuts an encoding into its items.
Split = Callable[[bytes], tuple[bytes, ...]]
# Of each field: how to read one item, its first item and the one after its last, the sizes of its dimensions.
Steps = tuple[tuple[Callable[[bytes], Any], int, int, tuple[int, ...]], ...]


@lru_cache(maxsize=256)
def _plan(cls: type[Message], dims: tuple[tuple[str, int], ...]) -> tuple[int, Split, Steps]:
    """Return the length of an encoding and how to read it: worked out once for each class and dimensions."""
    sizes, cuts = dict(dims), ""
    first = 0
    steps = []
    for _, items in layout(cls):
        count = items.count(sizes)
        cuts += f"{items.kind.size}s" * count
        steps.append((items.kind.decode, first, first + count, tuple(sizes[name] for name in items.shape)))
        first += count
    cutter = struct.Struct(f">{cuts}")
    return cutter.size, cutter.unpack, tuple(steps)


def spans(cls: type[Message], dims: Dims) -> Iterator[tuple[str, Kind, int]]:
    """Yield every item of a message's encoding: its field, its kind, the offset of its first byte."""
    offset = 0
    for name, items in layout(cls):
        for _ in range(items.count(dims)):
            yield name, items.kind, offset
            offset += items.kind.size


def _parts(message: Message) -> list[bytes]:
    parts: list[bytes] = []
    for name, items in layout(type(message)):
        value, encode = getattr(message, name), items.kind.encode
        if not items.shape:
            parts.append(encode(value))
            continue
        for _ in items.shape[1:]:
            value = [inner for outer in value for inner in outer]
        parts.extend(map(encode, value))
    return parts


def _nest(flat: list[Any], sizes: Sequence[int]) -> Any:
    """Return the items as an array of these dimensions, the last one innermost."""
    for size in reversed(sizes[1:]):
        flat = [flat[at : at + size] for at in range(0, len(flat), size)]
    return flat
