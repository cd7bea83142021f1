"""Messages: lengths are formulas, decoding is strict, one value has one encoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest

from keyquorum.algebra.curve import Point, generator_times
from keyquorum.algebra.field import Q, to_bytes
from keyquorum.rounds.message import Message, layout, octets, points, scalars, spans


@dataclass(frozen=True, repr=False)
class Sample(Message):
    P: Annotated[list[list[Point]], points("batch", "t")]
    s: Annotated[list[int], scalars("batch")]
    salt: Annotated[bytes, octets(5)]
    names: Annotated[list[bytes], octets(3, "batch")]
    one: Annotated[int, scalars()]


G2, G3 = generator_times(2), generator_times(3)
DIMS = {"batch": 2, "t": 3}
SAMPLE = Sample([[G2, G3, G2], [G3, G3, G2]], [0, Q - 1], b"salty", [b"abc", b"def"], 7)


def test_encoding_is_the_fields_in_order_without_lengths() -> None:
    grid = b"".join(point.to_bytes() for point in (G2, G3, G2, G3, G3, G2))
    assert SAMPLE.encode() == grid + to_bytes(0) + to_bytes(Q - 1) + b"salty" + b"abcdef" + to_bytes(7)


def test_length_is_a_formula_of_the_dimensions() -> None:
    assert Sample.length(DIMS) == 6 * 65 + 2 * 32 + 5 + 6 + 32 == len(SAMPLE.encode())


def test_decoding_gives_the_same_message_and_keeps_its_bytes() -> None:
    decoded = Sample.decode(SAMPLE.encode(), DIMS)
    assert decoded == SAMPLE
    assert decoded.encode() == SAMPLE.encode()
    assert decoded.dims() == DIMS


@pytest.mark.parametrize("change", [-65, -1, 1, 65])
def test_any_other_length_is_refused(change: int) -> None:
    data = SAMPLE.encode()
    with pytest.raises(ValueError, match="bytes here"):
        Sample.decode(data[:change] if change < 0 else data + bytes(change), DIMS)


@pytest.mark.parametrize("dims", [{"batch": 1, "t": 3}, {"batch": 2, "t": 2}, {"batch": 3, "t": 2}])
def test_lists_of_another_length_are_refused(dims: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="bytes here"):
        Sample.decode(SAMPLE.encode(), dims)


@pytest.mark.parametrize("bad", [Q, Q + 1, (1 << 256) - 1])
def test_a_scalar_from_q_upwards_is_refused(bad: int) -> None:
    data = SAMPLE.encode()
    with pytest.raises(ValueError, match="below"):
        Sample.decode(data[:-32] + bad.to_bytes(32, "big"), DIMS)


@pytest.mark.parametrize("first", [0, 2, 3, 5, 6, 7])
def test_a_point_in_another_form_is_refused(first: int) -> None:
    data = bytearray(SAMPLE.encode())
    data[0] = first
    with pytest.raises(ValueError, match="point"):
        Sample.decode(bytes(data), DIMS)


def test_a_point_off_the_curve_is_refused() -> None:
    data = bytearray(SAMPLE.encode())
    data[64] ^= 1
    with pytest.raises(ValueError, match="point"):
        Sample.decode(bytes(data), DIMS)


@pytest.mark.parametrize(
    "fields",
    [
        ([[G2, G3, G2], [G3, G3]], [0, 1], [b"abc", b"def"]),
        ([[G2], [G3]], [0], [b"abc", b"def"]),
        ([], [], []),
        ([[], []], [0, 1], [b"abc", b"def"]),
    ],
)
def test_our_own_message_with_contradictory_dimensions_is_our_fault(fields: tuple) -> None:
    P, s, names = fields
    with pytest.raises(ValueError, match="dimension"):
        Sample(P, s, b"salty", names, 7).dims()


def test_our_own_octets_of_a_wrong_length_are_our_fault() -> None:
    with pytest.raises(ValueError, match="5 bytes"):
        Sample([[G2]], [1], b"salt", [b"abc"], 7).encode()


def test_every_item_of_every_field_has_its_place() -> None:
    places = list(spans(Sample, DIMS))
    assert [name for name, _, _ in places] == ["P"] * 6 + ["s"] * 2 + ["salt"] + ["names"] * 2 + ["one"]
    ends = [offset + kind.size for _, kind, offset in places]
    assert [offset for _, _, offset in places] == [0, *ends[:-1]]
    assert ends[-1] == Sample.length(DIMS)
    assert [name for name, _ in layout(Sample)] == ["P", "s", "salt", "names", "one"]


def test_messages_register_themselves_once() -> None:
    assert Message.registry[f"{__name__}.Sample"] is Sample
    with pytest.raises(TypeError, match="second message"):
        type("Sample", (Message,), {"__module__": __name__, "__qualname__": "Sample"})


def test_a_message_prints_no_content() -> None:
    assert repr(SAMPLE) == "Sample(...)"
