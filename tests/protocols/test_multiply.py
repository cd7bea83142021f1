"""Random multiplication: right products at every size, the paper's formulas in plain integers, refusals and burns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from keyquorum.algebra.field import Q, from_bytes_wrapping
from keyquorum.algebra.limbs import ints_of
from keyquorum.algebra.rng import SeededRng, SystemRng
from keyquorum.algebra.transcript import Tag, expand, tagged_hash
from keyquorum.protocols import base_ot, multiply
from keyquorum.protocols.multiply import (
    CorrelationReceiver,
    CorrelationSender,
    ReceiverBatch,
    SenderBatch,
    reply_bytes,
    request_bytes,
)
from keyquorum.protocols.ot_extension import PadHash, SenderRows
from keyquorum.rounds.errors import Blame
from ot_dealer import RECEIVER, SENDER, SID, deal_pair, deal_seeds

GADGET = [from_bytes_wrapping(expand(Tag.GADGET, 416 * 48, 416)[48 * k : 48 * k + 48]) for k in range(416)]


def assert_right(mine: SenderBatch, theirs: ReceiverBatch) -> None:
    assert mine.batch == theirs.batch and mine.size == theirs.size
    for a, c, d in ((mine.a_u, mine.c_u, theirs.d_u), (mine.a_v, mine.c_v, theirs.d_v)):
        assert len(a) == len(c) == len(d) == len(theirs.chi) == mine.size
        for k in range(mine.size):
            assert (c[k] + d[k] - a[k] * theirs.chi[k]) % Q == 0
            assert all(0 <= value < Q for value in (a[k], c[k], d[k], theirs.chi[k]))


@pytest.mark.parametrize(("size", "seeds"), [(1, 20), (2, 3), (15, 2), (16, 5), (17, 2), (64, 3)])
def test_every_correlation_is_a_product(size: int, seeds: int) -> None:
    for seed in range(seeds):
        sender, receiver = deal_pair(seed)
        rng = SeededRng(seed)
        for batch in (0, 5):
            pending, request = receiver.request(batch, size, rng)
            mine, reply = sender.extend(batch, size, request, rng)
            assert len(request) == request_bytes(size) and len(reply) == reply_bytes(size)
            assert_right(mine, receiver.accept(pending, reply))


def test_the_largest_batch_works_with_the_systems_randomness() -> None:
    sender, receiver = deal_pair("large")
    pending, request = receiver.request(1, 256, SystemRng())
    mine, reply = sender.extend(1, 256, request, SystemRng())
    theirs = receiver.accept(pending, reply)
    assert_right(mine, theirs)
    everything = [*mine.a_u, *mine.a_v, *mine.c_u, *mine.c_v, *theirs.chi, *theirs.d_u, *theirs.d_v]
    assert len(set(everything)) == 7 * 256


def test_from_base_ot_to_products() -> None:
    rng = SeededRng(1)
    state, request = base_ot.choose(SID, SENDER, RECEIVER, rng)
    pairs, answer = base_ot.respond(SID, SENDER, RECEIVER, rng, request)
    sender = CorrelationSender(SID, SENDER, RECEIVER, base_ot.finish(state, answer))
    receiver = CorrelationReceiver(SID, SENDER, RECEIVER, pairs)
    pending, request = receiver.request(0, 4, rng)
    mine, reply = sender.extend(0, 4, request, rng)
    assert_right(mine, receiver.accept(pending, reply))


def test_several_batches_may_be_under_way_at_once() -> None:
    sender, receiver = deal_pair(0)
    rng = SeededRng(1)
    asked = [receiver.request(batch, 2, rng) for batch in range(3)]
    made = [sender.extend(batch, 2, request, rng) for batch, (_, request) in enumerate(asked)]
    for (pending, _), (mine, reply) in reversed(list(zip(asked, made, strict=True))):
        assert_right(mine, receiver.accept(pending, reply))


def test_lengths_are_those_of_the_spec() -> None:
    assert request_bytes(64) == 128 * (416 * 64 // 8 + 16) + 16 + 2048
    assert reply_bytes(64) == 64 * (416 * 96 + 64)
    assert request_bytes(1) == 128 * 5 * 16 + 16 + 2048


def test_the_gadget_is_416_different_scalars_from_a_hash_of_nothing() -> None:
    assert len(set(GADGET)) == 416
    bits = np.eye(416)
    assert [multiply.gadget().dot_bits(bits[k : k + 1])[0] for k in (0, 1, 415)] == [GADGET[0], GADGET[1], GADGET[415]]


def test_the_reply_is_the_papers_formulas_in_plain_integers() -> None:
    """An independent sender and receiver, one number at a time, from nothing but the pads."""
    sender, receiver = deal_pair(0)
    pending, request = receiver.request(3, 2, SeededRng(1))
    assert pending.rows is not None
    rows, x = pending.rows, pending.rows.x.reshape(2, 416).tolist()
    key, t = rows.pad_key, rows.t.copy()
    delta = np.frombuffer(deal_seeds(0)[0].delta, np.uint64)
    q = t ^ (rows.x[:, None].astype(np.uint64) * delta)
    mine, reply = sender.extend(3, 2, request, SeededRng(2))
    theirs = receiver.accept(pending, reply)
    wide = SeededRng(2).bytes(2 * 3 * 48)
    a = [from_bytes_wrapping(wide[i : i + 48]) for i in range(0, len(wide), 48)]
    pads = PadHash(key).expand(np.stack((q, q ^ delta)).reshape(2, 2, 416, 2), 0)
    alpha = [ints_of(pads[b].reshape(-1, 4)) for b in (0, 1)]
    for m in range(2):
        sent = reply[m * 416 * 96 : (m + 1) * 416 * 96]
        a_tilde = [int.from_bytes(sent[i : i + 32], "little") for i in range(0, len(sent), 32)]
        challenge = expand(Tag.MULTIPLY_THETA, 96, key, m, sent)
        theta = (from_bytes_wrapping(challenge[:48]), from_bytes_wrapping(challenge[48:]), 1)
        eta = int.from_bytes(reply[2 * 416 * 96 + 32 * m :][:32], "big")
        assert eta == sum(t * a[3 * m + e] for e, t in enumerate(theta)) % Q
        mu, again, c, d = [], [], [0, 0, 0], [0, 0, 0]
        for position in range(416):
            place, beta = 3 * (416 * m + position), x[m][position]
            alpha_0, alpha_1 = alpha[0][place : place + 3], alpha[1][place : place + 3]
            w = [a_tilde[3 * position + e] ^ alpha_1[e] for e in range(3)]
            assert all((w[e] - alpha_0[e] - a[3 * m + e]) % Q == 0 for e in range(3))
            got = w if beta else alpha_0
            mu.append(sum(t * v for t, v in zip(theta, alpha_0, strict=True)) % Q)
            again.append((sum(t * v for t, v in zip(theta, got, strict=True)) - beta * eta) % Q)
            c = [c[e] - GADGET[position] * alpha_0[e] for e in range(3)]
            d = [d[e] + GADGET[position] * got[e] for e in range(3)]
        assert mu == again
        digits = b"".join((v >> 32 * k & 0xFFFFFFFF).to_bytes(4, "little") for k in range(8) for v in mu)
        assert reply[2 * 416 * 96 + 64 + 32 * m :][:32] == tagged_hash(Tag.MULTIPLY_MU, key, m, digits)
        assert (mine.a_u[m], mine.a_v[m]) == (a[3 * m], a[3 * m + 1])
        assert (mine.c_u[m], mine.c_v[m]) == (c[0] % Q, c[1] % Q)
        assert (theirs.d_u[m], theirs.d_v[m]) == (d[0] % Q, d[1] % Q)
        assert theirs.chi[m] == sum(g for g, b in zip(GADGET, x[m], strict=True) if b) % Q


@pytest.mark.parametrize("size", [0, -1, 257, 10**9])
def test_a_size_out_of_range_is_refused_and_spends_nothing(size: int) -> None:
    sender, receiver = deal_pair(0)
    with pytest.raises(ValueError, match="1 to 256"):
        receiver.request(0, size, SeededRng(1))
    with pytest.raises(ValueError, match="1 to 256"):
        sender.extend(0, size, b"", SeededRng(1))
    pending, request = receiver.request(0, 1, SeededRng(1))
    mine, reply = sender.extend(0, 1, request, SeededRng(1))
    assert_right(mine, receiver.accept(pending, reply))


def test_batch_numbers_only_grow_on_both_sides() -> None:
    sender, receiver = deal_pair(0)
    _, request = receiver.request(4, 1, SeededRng(1))
    sender.extend(4, 1, request, SeededRng(1))
    for batch in (4, 3, 0):
        with pytest.raises(ValueError, match="strictly increase"):
            receiver.request(batch, 1, SeededRng(1))
        with pytest.raises(ValueError, match="strictly increase"):
            sender.extend(batch, 1, request, SeededRng(1))


def test_a_pending_batch_is_used_once_and_erased() -> None:
    sender, receiver = deal_pair(0)
    pending, request = receiver.request(0, 1, SeededRng(1))
    rows = pending.rows
    assert rows is not None
    _, reply = sender.extend(0, 1, request, SeededRng(1))
    receiver.accept(pending, reply)
    assert not rows.t.any() and not rows.x.any()
    with pytest.raises(ValueError, match="used before"):
        receiver.accept(pending, reply)


def test_a_failed_batch_is_used_up_too() -> None:
    sender, receiver = deal_pair(0)
    pending, request = receiver.request(0, 1, SeededRng(1))
    rows = pending.rows
    assert rows is not None
    _, reply = sender.extend(0, 1, request, SeededRng(1))
    with pytest.raises(Blame):
        receiver.accept(pending, reply[:-1] + bytes([reply[-1] ^ 1]))
    assert not rows.t.any() and not rows.x.any()
    with pytest.raises(ValueError, match="used before"):
        receiver.accept(pending, reply)
    assert not receiver.burned


def test_a_batch_of_another_pair_is_the_callers_mistake() -> None:
    sender, receiver = deal_pair(0)
    pending, request = receiver.request(0, 1, SeededRng(1))
    mine, reply = sender.extend(0, 1, request, SeededRng(1))
    other = CorrelationReceiver(SID, SENDER, 9, deal_seeds(0)[1])
    with pytest.raises(ValueError, match="another pair"):
        other.accept(pending, reply)
    assert_right(mine, receiver.accept(pending, reply))


def test_a_reply_has_exactly_one_length() -> None:
    sender, receiver = deal_pair(0)
    for batch, change in enumerate((lambda r: r[:-1], lambda r: r + b"\0", lambda r: b"", lambda r: r + r)):
        pending, request = receiver.request(batch, 2, SeededRng(1))
        _, reply = sender.extend(batch, 2, request, SeededRng(1))
        with pytest.raises(Blame, match="wrong length") as caught:
            receiver.accept(pending, change(reply))
        assert caught.value.culprits == {SENDER} and caught.value.burn == "batch"


def test_no_value_of_eta_from_q_upwards_is_accepted() -> None:
    sender, receiver = deal_pair(0)
    for batch, value in enumerate((Q, Q + 1, 2**256 - 1)):
        pending, request = receiver.request(batch, 2, SeededRng(1))
        _, reply = sender.extend(batch, 2, request, SeededRng(1))
        place = 2 * 416 * 96 + 32
        with pytest.raises(Blame, match="malformed scalar") as caught:
            receiver.accept(pending, reply[:place] + value.to_bytes(32, "big") + reply[place + 32 :])
        assert caught.value.culprits == {SENDER} and caught.value.burn == "batch"


def test_a_burned_pair_refuses_everything() -> None:
    sender, receiver = deal_pair(0)
    pending, request = receiver.request(0, 1, SeededRng(1))
    _, reply = sender.extend(0, 1, request, SeededRng(1))
    sender.burn()
    receiver.burn()
    assert sender.burned and receiver.burned
    with pytest.raises(ValueError, match="burned"):
        sender.extend(1, 1, request, SeededRng(1))
    with pytest.raises(ValueError, match="burned"):
        receiver.request(1, 1, SeededRng(1))
    with pytest.raises(ValueError, match="burned"):
        receiver.accept(pending, reply)


def test_a_burn_while_the_reply_is_computed_withholds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sender, receiver = deal_pair(0)
    _, request = receiver.request(0, 1, SeededRng(1))
    real = multiply._mus

    def burn_and_go_on(*arguments: object) -> bytes:
        sender.burn()
        return real(*arguments)

    monkeypatch.setattr(multiply, "_mus", burn_and_go_on)
    with pytest.raises(ValueError, match="burned"):
        sender.extend(0, 1, request, SeededRng(1))


def test_the_senders_rows_are_erased_when_the_reply_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    sender, receiver = deal_pair(0)
    _, request = receiver.request(0, 1, SeededRng(1))
    kept: list[SenderRows] = []
    real = multiply._extend

    def keep(batch: int, size: int, rows: SenderRows, rng: SeededRng) -> tuple[SenderBatch, bytes]:
        kept.append(rows)
        assert rows.q.any() and rows.delta.any()
        return real(batch, size, rows, rng)

    monkeypatch.setattr(multiply, "_extend", keep)
    sender.extend(0, 1, request, SeededRng(1))
    assert not kept[0].q.any() and not kept[0].delta.any() and not sender.burned


def test_secrets_do_not_show() -> None:
    sender, receiver = deal_pair(0)
    pending, request = receiver.request(0, 1, SeededRng(1))
    shown = repr(pending)
    mine, reply = sender.extend(0, 1, request, SeededRng(1))
    theirs = receiver.accept(pending, reply)
    shown += repr(mine) + repr(theirs) + repr(sender) + repr(receiver)
    assert "array" not in shown
    assert not any(str(value) in shown for value in (*mine.a_u, *mine.c_u, *theirs.chi, *theirs.d_u))


def test_fresh_randomness_gives_other_factors_with_the_same_seeds() -> None:
    sender, receiver = deal_pair(0)
    seen = set()
    for batch in range(3):
        pending, request = receiver.request(batch, 2, SeededRng(batch))
        mine, reply = sender.extend(batch, 2, request, SeededRng(f"s{batch}"))
        seen |= {*mine.a_u, *mine.a_v, *receiver.accept(pending, reply).chi}
    assert len(seen) == 3 * 6


def test_a_pending_batch_cannot_be_copied_into_a_second_use() -> None:
    sender, receiver = deal_pair(0)
    pending, request = receiver.request(0, 1, SeededRng(1))
    twin = replace(pending)
    _, reply = sender.extend(0, 1, request, SeededRng(1))
    receiver.accept(pending, reply)
    with pytest.raises(Blame):
        receiver.accept(twin, reply)
