"""The frames of the mesh: strict both ways, cut and put together within bounds."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyquorum.node.mesh import wire
from keyquorum.node.settings.bounds import LARGEST_BATCH
from keyquorum.protocols.multiply import reply_bytes, request_bytes

LINK = bytes(range(16))
FRAMES = [
    wire.Hello(1, "eip155:1:0x00", 1, 2, LINK, 3, 4),
    wire.Bye("another session of this party is alive"),
    wire.Ping(7),
    wire.Pong(7),
    wire.Round(b"s" * 32, 2, True, b"payload", b"e" * 32),
    wire.Notice("minting/propose", b"ref", b"payload"),
    wire.Setup(LINK, 1, b"points"),
    wire.BatchRequest(LINK, 0, 64, b"columns"),
    wire.BatchReply(LINK, 0, b"corrections"),
    wire.BatchVerdict(LINK, 0, True),
    wire.Cursor(LINK, 3, 0),
]


def put_together(content: bytes, lane: int) -> wire.Frame | None:
    assembler = wire.Assembler()
    result = None
    for piece in wire.pieces(content, lane):
        assert result is None and len(piece) < wire.FRAME_LIMIT
        result = assembler.take(wire.decode(piece))
    return result


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_every_kind_comes_back_as_it_was(frame: wire.Frame) -> None:
    assert wire.decode(wire.encode(frame)) == frame


def test_every_kind_is_covered_by_these_tests() -> None:
    assert {type(frame) for frame in FRAMES} | {wire.Part} == set(wire.AnyFrame.__args__)


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_with_a_field_more_or_fewer_is_refused(frame: wire.Frame) -> None:
    fields = msgspec.msgpack.decode(wire.encode(frame))
    for changed in ([*fields, 0], fields[:-1]):
        with pytest.raises(wire.WireError):
            wire.decode(msgspec.msgpack.encode(changed))


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_field_of_another_type_is_refused(frame: wire.Frame) -> None:
    fields = msgspec.msgpack.decode(wire.encode(frame))
    for place in range(1, len(fields)):
        for value in (None, [], {}, 1.5, -1, {"a": 1}):
            changed = [*fields[:place], value, *fields[place + 1 :]]
            with pytest.raises(wire.WireError):
                wire.decode(msgspec.msgpack.encode(changed))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        b"\x91" * 100_000,
        msgspec.msgpack.encode([99, 1]),
        msgspec.msgpack.encode({"kind": 3, "number": 1}),
        msgspec.msgpack.encode([3, 2**63]),
        wire.encode(wire.Ping(1)) + b"\x00",
        msgspec.msgpack.encode([1, 1, "n", 0, 2, LINK, 3, 4]),
        msgspec.msgpack.encode([32, LINK + b"x", 1, b""]),
        msgspec.msgpack.encode([2, "line\n"]),
        msgspec.msgpack.encode([17, "topic\n", b"", b""]),
        msgspec.msgpack.encode([33, LINK, 0, LARGEST_BATCH + 1, b""]),
    ],
)
def test_what_is_no_frame_is_refused(content: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(content)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.lists(st.integers(0, 255), max_size=20).map(msgspec.msgpack.encode))
def test_any_bytes_are_a_frame_or_a_wire_error(content: bytes) -> None:
    try:
        frame = wire.decode(content)
    except wire.WireError:
        return
    assert wire.decode(wire.encode(frame)) == frame


@pytest.mark.parametrize("size", [1, wire.PART_BYTES - 64, wire.PART_BYTES, wire.PART_BYTES + 1, 1_000_000])
def test_a_frame_of_any_size_travels_in_bounded_pieces(size: int) -> None:
    frame = wire.Round(b"s" * 32, 1, False, bytes(size), b"")
    assert put_together(wire.encode(frame), frame.lane) == frame


def test_the_largest_batch_fits_and_nothing_much_larger_does() -> None:
    size = LARGEST_BATCH
    for frame in (
        wire.BatchReply(LINK, 1, bytes(reply_bytes(size))),
        wire.BatchRequest(LINK, 1, size, bytes(request_bytes(size))),
    ):
        assert put_together(wire.encode(frame), frame.lane) == frame
    with pytest.raises(ValueError, match="too large"):
        wire.encode(wire.Round(b"s" * 32, 1, False, bytes(wire.MESSAGE_LIMIT), b""))


def test_two_lanes_may_interleave() -> None:
    bulk = wire.BatchReply(LINK, 1, bytes(300_000))
    urgent = wire.Round(b"s" * 32, 1, False, bytes(200_000), b"")
    assembler, found = wire.Assembler(), []
    lanes = [list(wire.pieces(wire.encode(frame), frame.lane)) for frame in (bulk, urgent)]
    while any(lanes):
        for lane in lanes:
            if lane:
                found.append(assembler.take(wire.decode(lane.pop(0))))
    assert [frame for frame in found if frame is not None] == [urgent, bulk]


def parts_of(frame: wire.Frame) -> list[wire.Part]:
    return [wire.decode(piece) for piece in wire.pieces(wire.encode(frame), frame.lane)]  # type: ignore[misc]


BIG = wire.BatchReply(LINK, 1, bytes(200_000))


def test_parts_of_different_frames_are_refused() -> None:
    assembler = wire.Assembler()
    first, second = parts_of(BIG)[:2]
    assembler.take(first)
    with pytest.raises(wire.WireError, match="different frames"):
        assembler.take(msgspec.structs.replace(second, total=second.total + 1))


def test_more_parts_than_announced_are_refused() -> None:
    assembler = wire.Assembler()
    part = wire.Part(wire.BULK, wire.PART_BYTES + 1, bytes(wire.PART_BYTES))
    assembler.take(part)
    with pytest.raises(wire.WireError, match="more parts"):
        assembler.take(part)


def test_a_frame_hidden_in_the_other_lane_is_refused() -> None:
    *most, last = (msgspec.structs.replace(part, of_lane=wire.URGENT) for part in parts_of(BIG))
    assembler = wire.Assembler()
    assert [assembler.take(part) for part in most] == [None] * len(most)
    with pytest.raises(wire.WireError, match="wrong lane"):
        assembler.take(last)


def test_a_part_inside_parts_is_refused() -> None:
    inner = msgspec.msgpack.encode(wire.Part(wire.URGENT, wire.PART_BYTES + 1, bytes(wire.PART_BYTES)))
    assembler = wire.Assembler()
    with pytest.raises(wire.WireError, match="wrong lane"):
        for start in range(0, len(inner), wire.PART_BYTES):
            assembler.take(wire.Part(wire.URGENT, len(inner), inner[start : start + wire.PART_BYTES]))


def test_an_announced_length_over_the_limit_is_refused() -> None:
    with pytest.raises(wire.WireError):
        wire.decode(msgspec.msgpack.encode([5, wire.URGENT, wire.MESSAGE_LIMIT + 1, b"x"]))


def test_an_error_never_quotes_content() -> None:
    secret = "correct horse battery staple"
    for content in ([2, secret.upper()], [3, secret], [16, secret.encode(), 1, True, b"", b""]):
        with pytest.raises(wire.WireError) as caught:
            wire.decode(msgspec.msgpack.encode(content))
        assert "horse" not in str(caught.value).lower()
