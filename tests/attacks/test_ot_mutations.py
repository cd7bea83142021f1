"""Every field of every message of a correlation in turn replaced (T08): the documented blame, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from keyquorum.algebra.rng import SeededRng
from keyquorum.protocols.multiply import CorrelationReceiver, CorrelationSender, reply_bytes, request_bytes
from keyquorum.rounds.errors import Blame
from ot_dealer import RECEIVER, SENDER, SID, deal_pair, deal_seeds

SIZE, BATCH = 2, 6
COLUMN = (416 * SIZE // 128 + 2) * 16
REQUEST_FIELDS = {
    **{f"U[{i}]": (i * COLUMN, (i + 1) * COLUMN) for i in (0, 1, 63, 127)},
    "U": (0, 128 * COLUMN),
    "masking tile of U[5]": (6 * COLUMN - 16, 6 * COLUMN),
    "x~": (128 * COLUMN, 128 * COLUMN + 16),
    **{f"T~[{i}]": (128 * COLUMN + 16 * (i + 1), 128 * COLUMN + 16 * (i + 2)) for i in (0, 64, 127)},
}
CORRECTIONS = SIZE * 416 * 96
REPLY_FIELDS = {
    "a~ u": (0, 32),
    "a~ v": (32, 64),
    "a~ check": (64, 96),
    "a~ of the last position": (CORRECTIONS - 32, CORRECTIONS),
    "a~": (0, CORRECTIONS),
    "eta[0]": (CORRECTIONS, CORRECTIONS + 32),
    "eta[1]": (CORRECTIONS + 32, CORRECTIONS + 64),
    "mu[0]": (CORRECTIONS + 64, CORRECTIONS + 96),
    "mu[1]": (CORRECTIONS + 96, CORRECTIONS + 128),
}


@cache
def messages(pair: str, batch: int, sid: bytes = SID) -> tuple[bytes, bytes]:
    sender, receiver = deal_pair(pair, sid)
    rng = SeededRng(f"{pair} {batch}")
    _, request = receiver.request(batch, SIZE, rng)
    return request, sender.extend(batch, SIZE, request, rng)[1]


def changes(message: bytes, field: tuple[int, int], which: int) -> Iterator[tuple[str, bytes]]:
    """All replacements of one field, each different from the message itself."""
    start, end = field
    old = message[start:end]
    news = {
        "first bit flipped": bytes([old[0] ^ 1]) + old[1:],
        "last bit flipped": old[:-1] + bytes([old[-1] ^ 128]),
        "zero": bytes(len(old)),
        "ones": b"\xff" * len(old),
        "truncated": old[:-1],
        "extended": old + b"\0",
        "of the previous batch": messages("this", BATCH - 1)[which][start:end],
        "of another pair": messages("that", BATCH)[which][start:end],
        "of another session": messages("this", BATCH, b"\x77" * 32)[which][start:end],
        "of another place": old[1:] + old[:1],
    }
    for name, new in news.items():
        assert new != old
        yield name, message[:start] + new + message[end:]


@pytest.mark.parametrize("field", REQUEST_FIELDS)
def test_a_changed_request_blames_the_receiver(field: str) -> None:
    request = messages("this", BATCH)[0]
    assert len(request) == request_bytes(SIZE)
    for name, changed in changes(request, REQUEST_FIELDS[field], 0):
        sender, _ = deal_pair("this")
        with pytest.raises(Blame) as caught:
            sender.extend(BATCH, SIZE, changed, SeededRng(1))
        burns = len(changed) == len(request)
        assert caught.value.culprits == {RECEIVER}, name
        assert caught.value.burn == ("pair" if burns else None), name
        assert sender.burned == burns, name


@pytest.mark.parametrize("field", REPLY_FIELDS)
def test_a_changed_reply_blames_the_sender(field: str) -> None:
    reply = messages("this", BATCH)[1]
    assert len(reply) == reply_bytes(SIZE)
    for name, changed in changes(reply, REPLY_FIELDS[field], 1):
        _, receiver = deal_pair("this")
        pending, _ = receiver.request(BATCH, SIZE, SeededRng(f"this {BATCH}"))
        with pytest.raises(Blame) as caught:
            receiver.accept(pending, changed)
        assert caught.value.culprits == {SENDER} and caught.value.burn == "batch", name
        assert caught.value.rows == () and not receiver.burned, name


def whole_requests() -> dict[str, tuple[int, int, bytes, bytes | None]]:
    """(batch, size, request, burn) that do not belong together."""
    request, reply = messages("this", BATCH)
    return {
        "the previous batch's": (BATCH, SIZE, messages("this", BATCH - 1)[0], "pair"),
        "the right one under the next number": (BATCH + 1, SIZE, request, "pair"),
        "another pair's": (BATCH, SIZE, messages("that", BATCH)[0], "pair"),
        "another session's": (BATCH, SIZE, messages("this", BATCH, b"\x77" * 32)[0], "pair"),
        "for another size": (BATCH, SIZE + 1, request, None),
        "a reply": (BATCH, SIZE, reply, None),
        "empty": (BATCH, SIZE, b"", None),
    }


@pytest.mark.parametrize("what", whole_requests())
def test_a_request_from_elsewhere_blames_the_receiver(what: str) -> None:
    batch, size, request, burn = whole_requests()[what]
    sender, _ = deal_pair("this")
    with pytest.raises(Blame) as caught:
        sender.extend(batch, size, request, SeededRng(1))
    assert caught.value.culprits == {RECEIVER} and caught.value.burn == burn


REPLIES: dict[str, Callable[[], bytes]] = {
    "the previous batch's": lambda: messages("this", BATCH - 1)[1],
    "another pair's": lambda: messages("that", BATCH)[1],
    "another session's": lambda: messages("this", BATCH, b"\x77" * 32)[1],
    "the request": lambda: messages("this", BATCH)[0],
    "empty": lambda: b"",
    "zeros": lambda: bytes(reply_bytes(SIZE)),
    "correlations exchanged": lambda: exchanged(messages("this", BATCH)[1]),
}


def exchanged(reply: bytes) -> bytes:
    """Both correlations whole, in the other order."""
    half, end = CORRECTIONS // 2, CORRECTIONS
    a, eta, mu = reply[:end], reply[end : end + 64], reply[end + 64 :]
    return a[half:] + a[:half] + eta[32:] + eta[:32] + mu[32:] + mu[:32]


@pytest.mark.parametrize("what", REPLIES)
def test_a_reply_from_elsewhere_blames_the_sender(what: str) -> None:
    _, receiver = deal_pair("this")
    pending, _ = receiver.request(BATCH, SIZE, SeededRng(f"this {BATCH}"))
    with pytest.raises(Blame) as caught:
        receiver.accept(pending, REPLIES[what]())
    assert caught.value.culprits == {SENDER} and caught.value.burn == "batch"


def test_the_unchanged_messages_are_accepted() -> None:
    request, reply = messages("this", BATCH)
    sender, receiver = deal_pair("this")
    sender.extend(BATCH, SIZE, request, SeededRng(1))
    pending, again = receiver.request(BATCH, SIZE, SeededRng(f"this {BATCH}"))
    assert again == request
    receiver.accept(pending, reply)


@pytest.mark.parametrize("direction", [(RECEIVER, SENDER), (SENDER, 9), (9, RECEIVER)])
def test_the_same_seeds_in_another_direction_do_not_fit(direction: tuple[int, int]) -> None:
    chosen, pairs = deal_seeds("this")
    _, request = CorrelationReceiver(SID, SENDER, RECEIVER, pairs).request(0, SIZE, SeededRng(1))
    with pytest.raises(Blame, match="OT extension check"):
        CorrelationSender(SID, *direction, chosen).extend(0, SIZE, request, SeededRng(1))


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(20))
def test_any_flipped_bit_of_either_message_is_blamed(seed: int) -> None:
    rng = SeededRng(seed)
    request, reply = messages("this", BATCH)
    for _ in range(200):
        place = int.from_bytes(rng.bytes(8), "big")
        for which, message in enumerate((request, reply)):
            at, bit = place % len(message), place >> 60 & 7
            changed = message[:at] + bytes([message[at] ^ 1 << bit]) + message[at + 1 :]
            sender, receiver = deal_pair("this")
            with pytest.raises(Blame) as caught:
                if which == 0:
                    sender.extend(BATCH, SIZE, changed, rng)
                else:
                    receiver.accept(receiver.request(BATCH, SIZE, SeededRng(f"this {BATCH}"))[0], changed)
            assert caught.value.culprits == ({RECEIVER} if which == 0 else {SENDER})
