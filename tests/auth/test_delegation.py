"""Delegation: each link lends less, to one key, and only from the session it names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from keyquorum.algebra.rng import SeededRng
from keyquorum.auth import request
from keyquorum.auth.certificate import Certificate
from keyquorum.auth.delegation import Delegation, follow, make, name
from keyquorum.auth.session_key import SessionPrivateKey

KEY, OTHER = "0x" + "ab" * 32, "0x" + "ac" * 32
ROBOT, HELPER, THIEF = (SessionPrivateKey.generate(SeededRng(who)) for who in ("robot", "helper", "thief"))


def lent(world: Any, parent: str, **changes: Any) -> Delegation:
    plain = Delegation(world.network, parent, ROBOT.public, (KEY,), (2,), 5, world.now + 600)
    return replace(plain, **changes)


@pytest.fixture
def held(world: Any) -> Certificate:
    return world.certificate(replace(world.statement, keys=(KEY, OTHER), uses=10))


def test_a_delegate_gets_what_was_lent_and_nothing_else(world: Any, held: Certificate) -> None:
    token = make(world.session, lent(world, held.id))
    found = follow(held, [token], world.now)
    assert (found.session, found.keys, found.scopes, found.uses) == (ROBOT.public, (KEY,), (2,), 5)
    assert found.expires == world.now + 600 and found.methods == held.methods and found.delegated
    assert found.counted == ((held.id, 10), (name(token), 5))


def test_without_delegations_it_is_the_certificate(world: Any, held: Certificate) -> None:
    assert follow(held, [], world.now) == held and not held.delegated


def test_a_delegate_signs_requests_and_the_session_key_no_longer_counts(
    world: Any, held: Certificate, refused: Callable[..., Any]
) -> None:
    found = follow(held, [make(world.session, lent(world, held.id))], world.now)
    what = {"network": world.network, "request_id": "r" * 16, "expires": world.now + 30, "key": KEY, "intent": {}}
    what["runs"] = [(1, 2, 3)]
    assert request.verify(request.make(ROBOT, **what), found, world.network, world.now).key == KEY
    for signer in (world.session, THIEF):
        with refused("bad_signature"):
            request.verify(request.make(signer, **what), found, world.network, world.now)


def chain(world: Any, held: Certificate, depth: int) -> list[str]:
    tokens, signer, parent = [], world.session, held.id
    for link in range(depth):
        delegate = SessionPrivateKey.generate(SeededRng(f"delegate {link}"))
        tokens.append(make(signer, lent(world, parent, session=delegate.public)))
        signer, parent = delegate, name(tokens[-1])
    return tokens


def test_delegates_delegate_on_three_deep(world: Any, held: Certificate, refused: Callable[..., Any]) -> None:
    assert len(follow(held, chain(world, held, 3), world.now).counted) == 4
    for depth in (4, 10):
        with refused("too_deep"):
            follow(held, chain(world, held, depth), world.now)


@pytest.mark.parametrize(
    "change",
    [{"keys": ("*",)}, {"keys": (KEY, "0x" + "ad" * 32)}, {"scopes": (2, 3, 4)}, {"scopes": (1,)}, {"uses": 11},
     {"expires": 1_800_003_601}],
)  # fmt: skip
def test_nothing_is_ever_widened(
    world: Any, held: Certificate, change: dict[str, Any], refused: Callable[..., Any]
) -> None:
    with refused("wider"):
        follow(held, [make(world.session, lent(world, held.id, **change))], world.now)


def test_the_second_link_cannot_undo_the_first(world: Any, held: Certificate, refused: Callable[..., Any]) -> None:
    first = make(world.session, lent(world, held.id))
    for change in ({"keys": (OTHER,)}, {"scopes": (2, 3)}, {"uses": 6}, {"expires": world.now + 601}):
        with refused("wider"):
            second = make(ROBOT, lent(world, name(first), session=HELPER.public, **change))
            follow(held, [first, second], world.now)


def test_a_link_of_another_session_or_network_or_order_is_refused(
    world: Any, held: Certificate, refused: Callable[..., Any]
) -> None:
    first = make(world.session, lent(world, held.id))
    for wrong in (lent(world, "0" * 64), lent(world, held.id, network=world.network.replace("31337", "1"))):
        with refused("wrong_parent"):
            follow(held, [make(world.session, wrong)], world.now)
    with refused("wrong_parent"):
        follow(held, [first, make(ROBOT, lent(world, held.id, session=HELPER.public))], world.now)
    with refused("bad_signature"):
        follow(held, [make(THIEF, lent(world, held.id))], world.now)
    with refused("bad_signature"):
        follow(held, [first, make(world.session, lent(world, name(first)))], world.now)


def test_a_delegation_ends_when_it_says(world: Any, held: Certificate, refused: Callable[..., Any]) -> None:
    token = make(world.session, lent(world, held.id))
    with refused("certificate_expired"):
        follow(held, [token], world.now + 600)


@pytest.mark.parametrize("token", ["", "a.b", None, 5, {}, "é"])
def test_what_is_no_delegation_is_refused(
    world: Any, held: Certificate, token: object, refused: Callable[..., Any]
) -> None:
    with refused("bad_token"):
        follow(held, [token], world.now)


def test_the_twin_of_a_signature_does_not_make_a_second_delegation(world: Any, held: Certificate) -> None:
    token = make(world.session, lent(world, held.id))
    head = token.rpartition(".")[0]
    assert name(head + ".AAAA") == name(token)
