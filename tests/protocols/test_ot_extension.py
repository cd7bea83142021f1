"""OT extension: the relation of the rows, independent columns, the check, and what a burn leaves."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from keyquorum.algebra.rng import SeededRng
from keyquorum.protocols import ot_extension
from keyquorum.protocols.ot_extension import (
    Direction,
    ExtensionReceiver,
    ExtensionSender,
    PadHash,
    ReceiverRows,
    SenderRows,
    request_bytes,
)
from keyquorum.rounds.errors import Blame
from ot_dealer import RECEIVER, SENDER, SID, deal_seeds

DIRECTION = Direction(SID, SENDER, RECEIVER)


def deal(seed: int | str = 0, direction: Direction = DIRECTION) -> tuple[ExtensionSender, ExtensionReceiver]:
    chosen, pairs = deal_seeds(seed)
    return ExtensionSender(direction, chosen), ExtensionReceiver(direction, pairs)


def run(count: int, seed: int = 0) -> tuple[SenderRows, ReceiverRows, bytes]:
    sender, receiver = deal(seed)
    mine, request = receiver.request(0, count, SeededRng(seed))
    return sender.extend(0, count, request), mine, request


@pytest.mark.parametrize("count", [1, 127, 128, 129, 416, 4160])
def test_rows_differ_by_delta_where_the_choice_is_one(count: int) -> None:
    rows, mine, request = run(count)
    assert len(request) == request_bytes(count) == 128 * (-(-count // 128) + 1) * 16 + 16 + 2048
    assert rows.q.shape == mine.t.shape == (count, 2) and mine.x.shape == (count,)
    assert np.array_equal(rows.q, mine.t ^ (mine.x[:, None].astype(np.uint64) * rows.delta))
    assert rows.delta.tobytes() == deal_seeds(0)[0].delta
    assert rows.pad_key == mine.pad_key


def test_choice_bits_look_random() -> None:
    _, mine, _ = run(4160)
    assert 1900 < mine.x.sum() < 2260


def test_both_pads_of_the_sender_and_the_one_of_the_receiver() -> None:
    rows, mine, _ = run(416)
    zero, one = PadHash(rows.pad_key).expand(np.stack((rows.q, rows.q ^ rows.delta))[:, None], 0).copy()[:, 0]
    chosen = PadHash(mine.pad_key).expand(mine.t[None, None], 0)[0, 0]
    assert np.array_equal(chosen, np.where(mine.x[:, None] == 1, one, zero))
    assert not (zero == one).any()


def test_the_pad_hash_is_tmmo_with_the_tweak_of_the_spec() -> None:
    key = bytes(range(32))
    rows = np.frombuffer(SeededRng(1).bytes(2 * 2 * 3 * 16), np.uint64).reshape(2, 2, 3, 2)
    pads = PadHash(key).expand(rows, 5)
    aes = Cipher(algorithms.AES128(key[:16]), modes.ECB()).encryptor()
    for side in range(2):
        for m in range(2):
            for position in range(3):
                inner = int.from_bytes(aes.update(rows[side, m, position].tobytes()), "little")
                for block in range(6):
                    tweak = 8 * position + block | (5 + m) << 64
                    outer = aes.update((inner ^ tweak).to_bytes(16, "little"))
                    expected = (int.from_bytes(outer, "little") ^ inner).to_bytes(16, "little")
                    assert pads[side, m, position, 2 * block : 2 * block + 2].tobytes() == expected


def test_equal_rows_have_unequal_pads_in_every_place() -> None:
    rows = np.ones((1, 40, 416, 2), np.uint64)
    pads = PadHash(bytes(32)).expand(rows, 0).reshape(-1, 2).copy()
    assert len({block.tobytes() for block in pads}) == 40 * 416 * 6
    assert not (PadHash(b"\1" + bytes(31)).expand(rows, 0).reshape(-1, 2) == pads).any()


def columns(direction: Direction, batch: int, seed: int = 0) -> list[bytes]:
    receiver = ExtensionReceiver(direction, deal_seeds(seed)[1])
    return [column.tobytes() for column in receiver._zeros.stretch(batch, 64)]


def test_no_column_repeats_in_another_session_direction_batch_or_place() -> None:
    everything = [
        *columns(DIRECTION, 0),
        *columns(DIRECTION, 1),
        *columns(DIRECTION, 2**64 - 1),
        *columns(Direction(b"\x09" * 32, SENDER, RECEIVER), 0),
        *columns(Direction(SID, RECEIVER, SENDER), 0),
        *columns(Direction(SID, SENDER, 9), 0),
        *columns(Direction(SID, 9, RECEIVER), 0),
    ]
    assert len(set(everything)) == 7 * 128
    blocks = {column[i : i + 16] for column in everything for i in range(0, 64, 16)}
    assert len(blocks) == 7 * 128 * 4


def test_equal_seeds_in_two_places_still_give_different_columns() -> None:
    _, pairs = deal_seeds(0)
    pairs.zeros[:] = pairs.zeros[0]
    receiver = ExtensionReceiver(DIRECTION, pairs)
    assert len({column.tobytes() for column in receiver._zeros.stretch(0, 64)}) == 128


def test_the_last_tile_masks_the_check_values() -> None:
    """Two x that differ only in the masking tile: other check values, the same OTs."""
    sender, receiver = deal()
    data = SeededRng(4).bytes(48)

    class Fixed:
        def bytes(self, count: int) -> bytes:
            return data[:count]

    first, request = receiver.request(0, 256, Fixed())
    data = data[:-16] + bytes(16)
    second, again = deal()[1].request(0, 256, Fixed())
    assert np.array_equal(first.x, second.x) and np.array_equal(first.t, second.t)
    size = 128 * 48
    assert request[size : size + 16] != again[size : size + 16]
    assert sender.extend(0, 256, request).q.shape == (256, 2)


def test_a_wrong_length_blames_the_receiver_and_burns_nothing() -> None:
    sender, receiver = deal()
    for batch, change in enumerate((lambda r: r[:-1], lambda r: r + b"\0", lambda r: b"", lambda r: r + r)):
        _, request = receiver.request(batch, 128, SeededRng(1))
        with pytest.raises(Blame) as caught:
            sender.extend(batch, 128, change(request))
        assert caught.value.culprits == {RECEIVER} and caught.value.burn is None
    _, request = receiver.request(9, 128, SeededRng(1))
    assert sender.extend(9, 128, request).q.any()


def tampered(request: bytes, place: int) -> bytes:
    return request[:place] + bytes([request[place] ^ 1]) + request[place + 1 :]


@pytest.mark.parametrize("place", [0, 5000, 128 * 32 - 1, 128 * 32, 128 * 32 + 15, 128 * 32 + 16, -1])
def test_a_changed_request_blames_the_receiver_and_burns_the_pair(place: int) -> None:
    sender, receiver = deal()
    _, request = receiver.request(0, 128, SeededRng(1))
    with pytest.raises(Blame, match="OT extension check") as caught, sender.using():
        sender.extend(0, 128, tampered(request, place % len(request)))
    assert caught.value.culprits == {RECEIVER} and caught.value.burn == "pair" and caught.value.rows == ()
    assert_gone(sender)


def assert_gone(side: ExtensionSender | ExtensionReceiver) -> None:
    assert side.burned
    seeds = side._seeds
    if isinstance(side, ExtensionSender):
        assert not side._delta.any() and not side._delta_masks.any() and not any(seeds.delta) and not seeds.seeds.any()
        assert side._columns._streams == []
    else:
        assert not seeds.zeros.any() and not seeds.ones.any()
        assert side._zeros._streams == side._ones._streams == []
    used = []
    with pytest.raises(ValueError, match="burned"), side.using():
        used.append(side)
    assert not used


def test_a_burned_side_has_nothing_left_and_refuses() -> None:
    for side in deal():
        side.burn()
        side.burn()
        assert_gone(side)


def test_a_burn_during_a_computation_withholds_the_result_and_erases_afterwards() -> None:
    for side in deal():
        with pytest.raises(ValueError, match="burned"), side.using():
            side.burn()
            # The secrets stay whole while they are in use: half-erased ones would be worse than old ones.
            assert side._seeds.seeds.any() if isinstance(side, ExtensionSender) else side._seeds.zeros.any()
        assert_gone(side)


def test_a_burn_from_another_thread_does_not_wait() -> None:
    sender, _ = deal()
    with pytest.raises(ValueError, match="burned"), sender.using():
        thread = threading.Thread(target=sender.burn)
        thread.start()
        thread.join(timeout=10)
        assert not thread.is_alive()
    assert_gone(sender)


@pytest.mark.parametrize("batch", [3, 2, 0, -1, 2**64])
def test_batch_numbers_only_grow(batch: int) -> None:
    sender, receiver = deal()
    _, request = receiver.request(3, 128, SeededRng(1))
    sender.extend(3, 128, request)
    with pytest.raises(ValueError, match="strictly increase"):
        receiver.request(batch, 128, SeededRng(1))
    with pytest.raises(ValueError, match="strictly increase"):
        sender.extend(batch, 128, request)


def test_a_batch_number_is_spent_by_a_malformed_request() -> None:
    sender, receiver = deal()
    _, request = receiver.request(0, 128, SeededRng(1))
    with pytest.raises(Blame):
        sender.extend(0, 128, request[1:])
    with pytest.raises(ValueError, match="strictly increase"):
        sender.extend(0, 128, request)


@pytest.mark.parametrize("count", [0, -1, ot_extension.MAX_ROWS + 1])
def test_the_number_of_transfers_is_bounded(count: int) -> None:
    sender, receiver = deal()
    with pytest.raises(ValueError, match="1 to"):
        receiver.request(0, count, SeededRng(1))
    with pytest.raises(ValueError, match="1 to"):
        sender.extend(0, count, b"")


@pytest.mark.parametrize(("sender", "receiver"), [(1, 1), (0, 1), (1, 0), (2, -2)])
def test_a_direction_has_two_different_parties(sender: int, receiver: int) -> None:
    with pytest.raises(ValueError, match="different parties"):
        Direction(SID, sender, receiver)


def test_seeds_of_another_shape_are_refused() -> None:
    chosen, _ = deal_seeds(0)
    chosen.seeds = chosen.seeds[:127]
    with pytest.raises(ValueError, match="128 seeds"):
        ExtensionSender(DIRECTION, chosen)


def test_rows_are_erased_and_do_not_show() -> None:
    rows, mine, _ = run(128)
    assert "array" not in repr(rows) + repr(mine)
    rows.erase()
    mine.erase()
    assert not rows.q.any() and not rows.delta.any() and not mine.t.any() and not mine.x.any()
