"""Revocation: who may end which session, and what is left of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils import keccak

from keyquorum.auth.certificate import Certificate
from keyquorum.auth.method import Proven
from keyquorum.auth.revocation import FOREVER, Revocation, apply, check_authority, marks_of, read_revocation

KEY = "0x" + "ab" * 32
PASSKEY = Proven(3, b"passkey")


@pytest.fixture
def held(world: Any) -> Certificate:
    return world.certificate(world.statement, Proven(1, world.address, world.now), PASSKEY)


def test_a_revocation_names_one_thing(world: Any) -> None:
    assert read_revocation({"session": "cd" * 32}) == Revocation(session="cd" * 32)
    assert read_revocation({"identity": {"type": 3, "id": "0x0102"}}) == Revocation(identity=(3, b"\1\2"))
    assert read_revocation({"key": KEY}) == Revocation(key=KEY)


@pytest.mark.parametrize("intent", [
    {}, {"session": "cd" * 32, "key": KEY}, {"session": "cd"}, {"session": 5}, {"key": "*"}, {"key": 1},
    {"identity": {"type": 3}}, {"identity": {"type": 0, "id": "0x01"}}, {"identity": {"type": 1, "id": "0x"}},
    {"identity": []}, {"other": 1},
])  # fmt: skip
def test_a_revocation_of_another_form_is_refused(intent: dict[str, object]) -> None:
    from keyquorum.refusal import Invalid

    with pytest.raises(Invalid) as caught:
        read_revocation(intent)
    assert caught.value.status == 400


def test_the_marks_are_those_of_the_contract() -> None:
    assert Revocation(session="cd" * 32).mark == keccak(encode(["string", "bytes32"], ["session", b"\xcd" * 32]))
    assert Revocation(identity=(3, b"x")).mark == keccak(encode(["string", "uint256", "bytes"], ["identity", 3, b"x"]))
    assert Revocation(key=KEY).mark == keccak(encode(["string", "uint256"], ["key", int(KEY, 16)]))


def test_a_session_ends_for_good_and_the_others_up_to_now() -> None:
    assert Revocation(session="cd" * 32).before(65, 3) == FOREVER
    assert Revocation(key=KEY).before(65, 3) == Revocation(identity=(3, b"x")).before(65, 3) == 5
    assert Revocation(key=KEY).before(65, 7) == 7


def test_who_may_end_what(held: Certificate, refused: Callable[..., Any]) -> None:
    check_authority(Revocation(session=held.id), held)
    check_authority(Revocation(identity=(3, b"passkey")), held)
    check_authority(Revocation(key=KEY), held, may_manage=True)
    check_authority(Revocation(session="cd" * 32), held, certified=[PASSKEY])
    for what in (Revocation(session="cd" * 32), Revocation(identity=(3, b"other")), Revocation(key=KEY)):
        with refused("not_yours", 403):
            check_authority(what, held)
    with refused("not_yours", 403):
        check_authority(Revocation(session="cd" * 32), held, certified=[Proven(3, b"other")])


def test_a_delegate_may_end_only_what_was_lent(held: Certificate, refused: Callable[..., Any]) -> None:
    delegate = replace(held, counted=(*held.counted, ("ef" * 32, 1)))
    check_authority(Revocation(session="ef" * 32), delegate)
    for what in (Revocation(session=held.id), Revocation(identity=(3, b"passkey"))):
        with refused("not_yours", 403):
            check_authority(what, delegate, certified=[PASSKEY])


def test_every_mark_that_can_end_a_session_is_asked_for(held: Certificate) -> None:
    delegate = replace(held, counted=(*held.counted, ("ef" * 32, 1)))
    whole, methods = marks_of(delegate, KEY)
    assert whole == [Revocation(session=held.id).mark, Revocation(session="ef" * 32).mark, Revocation(key=KEY).mark]
    assert methods == [Revocation(identity=(one.type, one.id)).mark for one in held.methods]
    assert len(marks_of(held, "*")[0]) == 1


def test_a_revoked_session_is_dead(held: Certificate, refused: Callable[..., Any]) -> None:
    assert apply(held, [0, held.issued_at - 1], [0, 0]) == held
    for time in (held.issued_at, held.issued_at + 1, FOREVER):
        with refused("session_revoked", 401):
            apply(held, [0, time], [0, 0])


def test_a_revoked_identity_leaves_the_others(held: Certificate, refused: Callable[..., Any]) -> None:
    assert apply(held, [0], [held.issued_at, 0]).methods == (PASSKEY,)
    with refused("session_revoked", 401):
        apply(held, [0], [held.issued_at, held.issued_at])
