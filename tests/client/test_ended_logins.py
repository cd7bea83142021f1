"""What a person has ended stays ended, and what he opens after it does not, whatever the clocks around him say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from keyquorum.auth.method import Context
from keyquorum.auth.request import MAX_LIFETIME, REVOKE
from keyquorum.client import session as sessions
from keyquorum.client import sessions as service
from keyquorum.client.errors import ChainError
from keyquorum.client.network import ChainView
from keyquorum.client.revocations import RevocationJob
from keyquorum.client.sessions import Sessions

NOW = 1_800_000_000
BLOCK = {"number": "0x1", "timestamp": hex(NOW), "hash": "0x" + "11" * 32, "parentHash": "0x" + "22" * 32}
WHO = {"identity": {"type": 1, "id": "0x" + "11" * 20}}


class Endpoint:
    """An endpoint that says `block` of the newest one."""

    name = "it"

    def __init__(self, block: Any) -> None:
        self._block = block

    async def block(self, _: str) -> Any:
        return self._block


def asking(block: Any) -> Any:
    network: Any = None
    endpoint: Any = Endpoint(block)
    return SimpleNamespace(_client=SimpleNamespace(chain=ChainView(network, endpoint)))


@pytest.mark.parametrize("ahead", [-5, 0, 1, 20])
async def test_the_newest_login_there_can_be_is_the_one_of_the_newest_block(ahead: int) -> None:
    newest = await Sessions._newest_login(asking(BLOCK | {"timestamp": hex(NOW + ahead)}))
    assert newest == Context(now=NOW, block_time=NOW + ahead).after_block


@pytest.mark.parametrize(
    "block",
    [
        None, {}, {"number": "0x1"}, BLOCK | {"timestamp": "soon"}, BLOCK | {"timestamp": hex(2**63)},
        BLOCK | {"hash": "0x12"}, BLOCK | {"parentHash": None},
    ],
)  # fmt: skip
async def test_an_endpoint_without_a_newest_block_ends_nothing(block: dict[str, str] | None) -> None:
    with pytest.raises(ChainError):
        await Sessions._newest_login(asking(block))


async def ended(intent: dict[str, Any], reach: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int, int]:
    """Revoke; return up to when the nodes are to end logins, when the request expires, what later logins wait for."""
    jobs: list[RevocationJob] = []
    expiries: list[int] = []

    class Stop(Exception):
        """The nodes were asked."""

    async def run(job: RevocationJob, seconds: float) -> Any:
        jobs.append(job)
        raise Stop

    async def logged_in() -> Any:
        return session

    async def newest() -> int:
        return reach

    async def network_key() -> Any:
        return None

    def ask(kind: str, asked: Any, *, reach: int) -> Any:
        assert (kind, asked) == (REVOKE, intent)
        expiries.append(sessions.revoke_expires(reach))
        return SimpleNamespace(id="r" * 16)

    monkeypatch.setattr(sessions, "time", SimpleNamespace(time=lambda: float(NOW)))
    monkeypatch.setattr(service, "FreshRuns", lambda asked: asked)
    session = SimpleNamespace(claims={"iat": NOW - 1000}, ask=ask)
    client = SimpleNamespace(
        chain=SimpleNamespace(contract=lambda name: SimpleNamespace(address="0x")),
        facts=SimpleNamespace(chain_id=1),
        has_gateway=False,
        _ended_until=0,
        _timeout=1.0,
        _fanout=SimpleNamespace(run=run),
        _logged_in=logged_in,
        _network_key=network_key,
    )
    me: Any = SimpleNamespace(_client=client, _newest_login=newest)
    with pytest.raises(Stop):
        await Sessions._revoke(me, intent)
    return jobs[0]._before, expiries[0], client._ended_until


@pytest.mark.parametrize("ahead", [-100, -1, 0, 3, 86_400])
async def test_a_revocation_ends_the_newest_login_and_the_next_one_waits_for_a_later_block(
    ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach = NOW + ahead
    before, expires, waits_for = await ended(WHO, reach, monkeypatch)
    assert before >= reach
    assert before == expires - MAX_LIFETIME == waits_for


async def test_whoever_ends_one_session_need_not_wait_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, waits_for = await ended({"session": "11" * 32}, NOW + 3, monkeypatch)
    assert waits_for == 0
