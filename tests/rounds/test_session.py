"""The kernel's rules: what counts, what is dropped, what ends a run, and whom it names."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from keyquorum.rounds.errors import Abort, Blame
from keyquorum.rounds.message import Message
from keyquorum.rounds.party import Party
from keyquorum.rounds.session import Envelope, Session, session_id
from rounds.toss import Hash, Number, mixed, party, toss, tossing


def started(n: int = 3, protocol=toss) -> tuple[dict[int, Session], dict[int, list[Envelope]]]:
    sessions = tossing(n, protocol)
    return sessions, {i: session.start() for i, session in sessions.items()}


def test_a_run_by_hand_gives_everyone_the_same_result() -> None:
    sessions, first = started()
    second = {i: [] for i in sessions}
    for i, session in sessions.items():
        for j in session.party.others:
            second[i] += session.receive(first[j][0])
    for i, session in sessions.items():
        assert not session.done
        with pytest.raises(ValueError, match="no result"):
            _ = session.result
        for j in session.party.others:
            assert session.receive(second[j][0]) == []
        assert session.done, i
    assert len({session.result for session in sessions.values()}) == 1


def test_each_party_says_whom_it_has_heard_in_this_round() -> None:
    sessions, first = started()
    assert sessions[1].heard == frozenset()
    sessions[1].receive(first[3][0])
    assert sessions[1].heard == {3}


def test_a_round_of_both_parts_waits_for_both() -> None:
    sessions, first = started(2, mixed)
    to_all, private = first[2]
    assert sessions[1].receive(to_all) == []
    assert sessions[1].heard == frozenset()
    assert sessions[1].receive(private)[0].round == 2


def test_messages_of_the_next_round_wait_for_their_turn() -> None:
    sessions, first = started()
    ahead = sessions[2].receive(first[1][0]) + sessions[2].receive(first[3][0])
    assert sessions[1].receive(ahead[0]) == []
    assert sessions[1].round == 1
    sessions[1].receive(first[2][0])
    sessions[1].receive(first[3][0])
    assert sessions[1].round == 2
    assert sessions[1].heard == {2}


def test_messages_before_our_own_start_are_kept() -> None:
    sessions = tossing()
    first = {i: sessions[i].start() for i in (2, 3)}
    assert sessions[1].receive(first[2][0]) == sessions[1].receive(first[3][0]) == []
    assert [envelope.round for envelope in sessions[1].start()] == [1, 2]


def test_round_zero_does_not_exist() -> None:
    session = Session(party(1), toss(party(1)))
    assert session.receive(Envelope(session.party.sid, 0, 2, None, b"", b"")) == []
    assert session.dropped == {"part": 1}
    session.close()


def _next(envelope: Envelope, rounds: int = 1) -> Envelope:
    return replace(envelope, round=envelope.round + rounds)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda e: replace(e, sid=b"t" * 32), "sid"),
        (lambda e: replace(e, sender=4), "sender"),
        (lambda e: replace(e, sender=1), "sender"),
        (lambda e: replace(e, sender=0), "sender"),
        (lambda e: replace(e, to=3), "recipient"),
        (lambda e: replace(e, to=1), "part"),
        (lambda e: _next(e, -1), "late"),
        (lambda e: _next(e, 2), "too early"),
        (lambda e: _next(e, 1 << 40), "too early"),
        (lambda e: replace(_next(e), payload=bytes((4 << 20) + 1)), "too large"),
    ],
)
def test_what_does_not_belong_is_dropped_counted_and_changes_nothing(change, reason: str) -> None:
    sessions, first = started()
    assert sessions[1].receive(change(first[2][0])) == []
    assert sessions[1].dropped == {reason: 1}
    assert not sessions[1].closed
    sessions[1].receive(first[2][0])
    assert sessions[1].receive(first[3][0]) != []


def test_an_early_message_of_a_part_that_the_round_does_not_have_is_dropped() -> None:
    sessions, first = started()
    sessions[1].receive(replace(_next(first[2][0]), to=1))
    sessions[1].receive(first[2][0])
    sessions[1].receive(first[3][0])
    assert sessions[1].dropped == {"part": 1}
    assert sessions[1].round == 2


def test_a_message_of_a_finished_round_is_late() -> None:
    sessions, first = started()
    for j in (2, 3):
        sessions[1].receive(first[j][0])
    assert sessions[1].receive(replace(first[2][0], payload=b"x")) == []
    assert sessions[1].dropped == {"late": 1}


@pytest.mark.parametrize("early", [False, True])
def test_a_repeated_message_counts_once(early: bool) -> None:
    sessions, first = started()
    envelope = _next(first[2][0]) if early else first[2][0]
    for _ in range(3):
        assert sessions[1].receive(envelope) == []
    assert sessions[1].dropped == {"repeated": 2}


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("field", ["payload", "echo"])
def test_two_different_messages_for_one_round_blame_their_sender(early: bool, field: str) -> None:
    sessions, first = started()
    envelope = _next(first[2][0]) if early else first[2][0]
    sessions[1].receive(envelope)
    with pytest.raises(Blame, match="two different messages") as caught:
        sessions[1].receive(replace(envelope, **{field: b"another".ljust(32)}))
    assert caught.value.culprits == {2}


@pytest.mark.parametrize("early", [False, True])
def test_malformed_bytes_blame_their_sender(early: bool) -> None:
    sessions, first = started()
    if early:
        sessions[1].receive(replace(_next(first[2][0]), payload=b"short"))
        sessions[1].receive(first[2][0])
    with pytest.raises(Blame, match="malformed") as caught:
        sessions[1].receive(first[3][0] if early else replace(first[2][0], payload=b"short"))
    assert caught.value.culprits == {2}


def test_a_wrong_echo_ends_the_run_and_names_nobody() -> None:
    sessions, first = started()
    second = [envelope for j in (1, 3) for envelope in sessions[2].receive(first[j][0])]
    for j in (2, 3):
        sessions[1].receive(first[j][0])
    with pytest.raises(Abort) as caught:
        sessions[1].receive(replace(second[0], echo=bytes(32)))
    assert not isinstance(caught.value, Blame)


def test_the_echo_covers_every_broadcast_of_the_round_before() -> None:
    """P_3 tells P_1 and P_2 different things: each refuses the other's next message."""
    sessions, first = started()
    lie = replace(first[3][0], payload=bytes(32))
    sessions[1].receive(first[2][0])
    mine = sessions[1].receive(lie)
    sessions[2].receive(first[1][0])
    yours = sessions[2].receive(first[3][0])
    for session, envelope in ((sessions[1], yours[0]), (sessions[2], mine[0])):
        with pytest.raises(Abort, match="different broadcasts") as caught:
            session.receive(envelope)
        assert not isinstance(caught.value, Blame)


def test_the_echo_covers_our_own_broadcast() -> None:
    sessions, first = started(2)
    sessions[1].receive(first[2][0])
    other = sessions[2].receive(replace(first[1][0], payload=bytes(32)))
    with pytest.raises(Abort, match="different broadcasts"):
        sessions[1].receive(other[0])


def test_after_an_error_the_session_is_closed_and_its_coroutine_gone() -> None:
    sessions, first = started()
    coroutine = sessions[1]._protocol
    with pytest.raises(Blame):
        sessions[1].receive(replace(first[2][0], payload=b""))
    assert sessions[1].closed
    assert coroutine.cr_frame is None  # type: ignore[attr-defined]
    assert sessions[1].receive(first[3][0]) == []
    assert sessions[1].dropped == {"closed": 1}
    assert not sessions[1].done


def test_closing_ends_a_run_that_waits() -> None:
    sessions, first = started()
    sessions[1].close()
    assert sessions[1].receive(first[2][0]) == []
    with pytest.raises(ValueError, match="starts once"):
        sessions[1].start()


def test_a_session_starts_once_and_not_after_it_was_closed() -> None:
    sessions, _ = started()
    with pytest.raises(ValueError, match="starts once"):
        sessions[1].start()
    unborn = Session(party(1), toss(party(1)))
    unborn.close()
    with pytest.raises(ValueError, match="starts once"):
        unborn.start()


def test_the_limit_on_early_messages_does_not_apply_to_this_rounds() -> None:
    _, first = started()
    session = Session(party(1), toss(party(1)), early_limit=8)
    session.receive(first[2][0])
    assert session.dropped == {"too large": 1}
    session.start()
    session.receive(first[2][0])
    assert session.heard == {2}


def test_after_the_end_everything_is_late() -> None:
    sessions, first = started(2)
    second = sessions[2].receive(first[1][0])
    sessions[1].receive(first[2][0])
    sessions[1].receive(second[0])
    assert sessions[1].done
    assert sessions[1].receive(replace(second[0], payload=b"x")) == []
    assert sessions[1].dropped == {"late": 1}


def test_a_protocol_that_awaits_something_foreign_is_a_bug() -> None:
    async def foreign(p: Party) -> None:
        await asyncio.sleep(0)

    p = party(1)
    session = Session(p, foreign(p))
    with pytest.raises(TypeError, match="nothing but the rounds"):
        session.start()
    assert session.closed


@pytest.mark.parametrize("second", [Number([1, 2]), Number([]), Hash(bytes(32))])
def test_our_own_private_messages_have_one_shape(second: Message) -> None:
    async def uneven(p: Party) -> None:
        await p.scatter({2: Number([1]), 3: second})

    p = party(1)
    with pytest.raises(ValueError, match="one shape"):
        Session(p, uneven(p)).start()


def test_the_content_of_an_envelope_is_not_printed() -> None:
    assert "secret" not in repr(Envelope(b"", 1, 1, 2, b"secret", b"secret"))


BASE = {
    "chain_id": 1, "contract": "0xAB", "purpose": "sign", "epoch": 1, "parties": (1, 2), "parameters": [b"key"],
    "nonces": {1: b"a" * 32, 2: b"b" * 32},
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"chain_id": 2}, {"contract": "0xAC"}, {"purpose": "dkg"}, {"epoch": 2}, {"parties": (1, 3), "nonces": None},
        {"parameters": [b"yek"]}, {"parameters": [b"k", b"ey"]}, {"nonces": {1: b"b" * 32, 2: b"b" * 32}},
        {"nonces": None},
    ],
)  # fmt: skip
def test_a_session_id_depends_on_everything_that_the_parties_must_agree_on(change: dict) -> None:
    assert session_id(**{**BASE, **change}) != session_id(**BASE)


def test_a_session_id_does_not_depend_on_the_spelling_of_an_address_or_the_order_of_a_mapping() -> None:
    same = {"contract": "0xab", "nonces": {2: b"b" * 32, 1: b"a" * 32}}
    assert session_id(**{**BASE, **same}) == session_id(**BASE)
    assert len(session_id(**BASE)) == 32


@pytest.mark.parametrize(
    "change", [{"parties": (2, 1)}, {"parties": (0, 1)}, {"nonces": {1: b"a" * 32}}, {"nonces": {1: b"a", 2: b"b"}}]
)
def test_a_session_id_of_bad_parties_or_nonces_is_refused(change: dict) -> None:
    with pytest.raises(ValueError, match=r"part|nonce"):
        session_id(**{**BASE, **change})
