"""The frames that nodes exchange, and how a frame becomes WebSocket messages and comes back.

A frame is a msgpack array whose first element is the kind; fields are positional, their types and lengths are checked
before anything looks at them, and an unknown kind or an additional field is refused. The sender of a frame is never
inside it: it is the peer whose TLS key was pinned (`tls.py`), so nobody can speak for another node.

**Sizes.** A message on the socket is at most `FRAME_LIMIT`; a larger frame travels as `Part`s of `PART_BYTES` and may
reach `MESSAGE_LIMIT` in all: the largest is the reply to a batch of 64 correlations, 2.6 MB. Cutting has two reasons
besides the bound: a signing message waits for one part rather than for a whole reply (2.6 MB take 0.2 s at 100 Mbit/s),
and a peer's claim about a length reserves nothing. There are two lanes, `URGENT` and `BULK`, each with at most one
unfinished frame per peer, so memory per peer is bounded by two messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import msgspec

from keyquorum.node.settings.bounds import LARGEST_BATCH

VERSION = 1
PART_BYTES = 64 << 10
FRAME_LIMIT = 128 << 10
MESSAGE_LIMIT = 4 << 20
URGENT, BULK = 0, 1

Bytes16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Party = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Body = Annotated[bytes, msgspec.Meta(max_length=MESSAGE_LIMIT - 1024)]


class WireError(ValueError):
    """A peer sent bytes that are no frame of this version; the text never quotes them."""


class Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What all kinds have in common: the lane they travel in."""

    lane: ClassVar[int] = URGENT


class Hello(Frame, frozen=True, tag=1):
    """The first frame of each side: which network, who speaks to whom, and which process of that node.

    `boot` is drawn when a process starts, `connection` counts the connections of that process: the four values of both
    sides name a connection for ever (`links.py`).
    """

    version: Number
    network: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    sender: Party
    recipient: Party
    boot: Bytes16
    connection: Number
    epoch: Number


class Bye(Frame, frozen=True, tag=2):
    """Why the connection is about to be closed; for the other side's log only."""

    reason: Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[a-z0-9 ,.:_-]*\Z")]


class Ping(Frame, frozen=True, tag=3):
    """Asks for a `Pong` with the same number."""

    number: Number


class Pong(Frame, frozen=True, tag=4):
    """Answers a `Ping`."""

    number: Number


class Part(Frame, frozen=True, tag=5):
    """A piece of a larger frame: pieces of one lane arrive in order, `total` bytes in all."""

    of_lane: Annotated[int, msgspec.Meta(ge=URGENT, le=BULK)]
    total: Annotated[int, msgspec.Meta(gt=PART_BYTES, le=MESSAGE_LIMIT)]
    content: Annotated[bytes, msgspec.Meta(min_length=1, max_length=PART_BYTES)]


class Round(Frame, frozen=True, tag=16):
    """A message of a protocol run: an envelope of `rounds` without its sender and recipient."""

    sid: Bytes32
    round: Annotated[int, msgspec.Meta(ge=0, le=255)]
    broadcast: bool
    payload: Body
    echo: Annotated[bytes, msgspec.Meta(max_length=32)]


class Notice(Frame, frozen=True, tag=17):
    """A message between the same parts of two nodes outside a run: `topic` says which part, `payload` is its own."""

    topic: Annotated[str, msgspec.Meta(min_length=1, max_length=32, pattern=r"^[a-z0-9./-]+\Z")]
    reference: Annotated[bytes, msgspec.Meta(max_length=64)]
    payload: Body


class Setup(Frame, frozen=True, tag=32):
    """A step of a pair's setup (spec/mesh.md section 3); step 0 says that there will be none."""

    link: Bytes16
    step: Annotated[int, msgspec.Meta(ge=0, le=3)]
    payload: Annotated[bytes, msgspec.Meta(max_length=64 << 10)]


class BatchRequest(Frame, frozen=True, tag=33):
    """The receiver of a direction asks its sender for a batch of correlations."""

    lane: ClassVar[int] = BULK
    link: Bytes16
    batch: Number
    size: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_BATCH)]
    payload: Body


class BatchReply(Frame, frozen=True, tag=34):
    """The sender's answer, or nothing (`payload` empty) when it makes no more for this peer now."""

    lane: ClassVar[int] = BULK
    link: Bytes16
    batch: Number
    payload: Body


class BatchVerdict(Frame, frozen=True, tag=35):
    """The receiver accepted the reply and holds its half, or threw the batch away."""

    lane: ClassVar[int] = BULK
    link: Bytes16
    batch: Number
    accepted: bool


class Cursor(Frame, frozen=True, tag=36):
    """The sender of a direction says which names it has used up or lost: all before this batch and position.

    Urgent, hence behind every round message that was sent before it.
    """

    link: Bytes16
    batch: Number
    position: Annotated[int, msgspec.Meta(ge=0, lt=LARGEST_BATCH)]


AnyFrame = Hello | Bye | Ping | Pong | Part | Round | Notice | Setup | BatchRequest | BatchReply | BatchVerdict | Cursor

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(AnyFrame)


def encode(frame: Frame) -> bytes:
    """Return the msgpack bytes of `frame`; raises `ValueError` when they exceed `MESSAGE_LIMIT`."""
    content = _encoder.encode(frame)
    if len(content) > MESSAGE_LIMIT:
        raise ValueError(f"a {type(frame).__name__} of {len(content)} bytes is too large for the mesh")
    return content


def decode(content: bytes | bytearray | memoryview) -> Frame:
    """Return the frame in `content`; raises `WireError` for anything else."""
    try:
        frame: Frame = _decoder.decode(content)
    except (msgspec.DecodeError, RecursionError) as error:
        # A ValidationError names the place, never the value; other texts could quote content.
        reason = str(error) if isinstance(error, msgspec.ValidationError) else "not msgpack"
        raise WireError(f"malformed frame: {reason[:120]}") from None
    return frame


def pieces(content: bytes, lane: int) -> Iterator[bytes]:
    """Cut an encoded frame into WebSocket messages: itself when it is small, `Part`s otherwise."""
    if len(content) <= PART_BYTES:
        yield content
        return
    view = memoryview(content)
    for start in range(0, len(content), PART_BYTES):
        yield _encoder.encode(Part(lane, len(content), bytes(view[start : start + PART_BYTES])))


class Assembler:
    """Puts the parts of one peer together again; at most one unfinished frame in each lane."""

    def __init__(self) -> None:
        self._total = [0, 0]
        self._buffer = [bytearray(), bytearray()]

    def take(self, frame: Frame) -> Frame | None:
        """Return the frame that is complete with this one, or None while parts are missing.

        Raises `WireError` for parts that contradict each other or hide a part or a frame of the other lane.
        """
        if not isinstance(frame, Part):
            return frame
        lane, buffer = frame.of_lane, self._buffer[frame.of_lane]
        if buffer and frame.total != self._total[lane]:
            raise WireError("malformed frame: parts of different frames")
        if len(buffer) + len(frame.content) > frame.total:
            raise WireError("malformed frame: more parts than announced")
        self._total[lane] = frame.total
        buffer += frame.content
        if len(buffer) < frame.total:
            return None
        self._buffer[lane] = bytearray()
        whole = decode(buffer)
        if isinstance(whole, Part) or whole.lane != lane:
            raise WireError("malformed frame: a frame in the wrong lane")
        return whole
