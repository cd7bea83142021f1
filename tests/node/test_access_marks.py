"""What a session's revocation hangs on is hashed once for a session and key, whatever it signs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from keyquorum.auth import certificate as certificates
from keyquorum.auth import request as requests
from keyquorum.auth import revocation
from keyquorum.auth.certificate import Certificate
from keyquorum.auth.method import Proven
from keyquorum.auth.session_key import SessionKey
from keyquorum.evm import digests
from keyquorum.node.services.access import MARKS_CACHED, Access, _marks_of
from keyquorum.refusal import Invalid

KEYS = tuple(f"0x{number:064x}" for number in (1, 2))


def certificate(name: str = "ab" * 32) -> Certificate:
    key: Any = SimpleNamespace()
    session = SessionKey(b"x" * 32, b"y" * 32, key)
    return Certificate("n", session, 1000, 2000, name, (Proven(1, b"me", 999),), KEYS, (1,), 5, ((name, 5),))


class View:
    """The chain's times for the marks it is asked about."""

    def __init__(self) -> None:
        self.asked: list[list[bytes]] = []
        self.times: dict[bytes, int] = {}

    async def revoked_before(self, marks: list[bytes]) -> list[int]:
        self.asked.append(marks)
        return [self.times.get(mark, 0) for mark in marks]


async def test_marks_are_made_once_for_a_session_and_key_and_asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    real = revocation.marks_of
    monkeypatch.setattr(revocation, "marks_of", lambda held, key: made.append(key) or real(held, key))
    _marks_of.cache_clear()
    view: Any = View()
    access = Access(view)
    for _ in range(10):
        for key in KEYS:
            await access.alive(certificate(), key)
    assert made == list(KEYS)
    assert len(view.asked) == 20
    assert [[*ends, *methods] for ends, methods in (real(certificate(), key) for key in KEYS)] == view.asked[-2:]


async def test_a_revocation_counts_at_once_for_marks_that_are_remembered() -> None:
    view: Any = View()
    access = Access(view)
    await access.alive(certificate(), KEYS[0])
    view.times[digests.key_mark(int(KEYS[0], 16))] = 1000
    with pytest.raises(Invalid, match="revoked"):
        await access.alive(certificate(), KEYS[0])
    await access.alive(certificate(), KEYS[1])


def test_what_is_remembered_is_bounded() -> None:
    assert _marks_of.cache_info().maxsize == MARKS_CACHED


async def test_a_certificate_that_is_remembered_ends_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked once and then known by its hash: its times are looked at each time, by the clock of that moment."""
    held = certificate()
    checked: list[int] = []
    monkeypatch.setattr(certificates, "verify", lambda token, network, key, now: checked.append(now) or held)

    async def network_key() -> Any:
        return object()

    view: Any = SimpleNamespace(network="n", network_key=network_key)
    access = Access(view)
    for now in (held.issued_at, held.expires - 1):
        assert await access.certificate("token", now) is held
    with pytest.raises(Invalid):
        await access.certificate("token", held.expires)
    assert checked == [held.issued_at]


def test_the_marks_of_a_long_list_are_hashed_once() -> None:
    for mark in (digests.session_mark, digests.identity_mark):
        assert mark.cache_info().maxsize == digests.MARKS_CACHED


async def test_a_revocation_may_reach_a_block_that_this_node_has_yet_to_see(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its expiry is as far ahead as the chain's clock; whoever asks for anything else has no such room."""
    now, held = 1_800_000_000, certificate()
    allowed: list[int] = []

    def verify(*_: Any, kind: str, ahead: int = 0) -> str:
        allowed.append(ahead)
        if ahead < 100:
            raise Invalid("clock_skew", "too late", "")
        return kind

    async def head() -> Any:
        return SimpleNamespace(newest_time=now - 7)

    async def refresh() -> Any:
        return SimpleNamespace(newest_time=now + 100)

    monkeypatch.setattr(requests, "verify", verify)
    view: Any = SimpleNamespace(network="n", head=head, refresh=refresh)
    assert await Access(view)._request("token", held, requests.REVOKE, now) == requests.REVOKE
    assert allowed == [0, 100]
    with pytest.raises(Invalid):
        await Access(view)._request("token", held, requests.SIGN, now)
    assert allowed == [0, 100, 0]
