"""T49: one tenant asks for a hundred times its quota, valid and invalid, and it is its own problem.

Invalid requests cost no correlation. The flood gets what its quota holds and 429 with a time to wait for the rest; the
other tenant has no failure meanwhile. How much slower it is depends on who else uses the machine, so that is printed,
and only measured: its p99 before and during.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from eth_account import Account
from flood import Tenant, invalid, pour_elsewhere
from live import Live, check_message

from keyquorum.cli.local_network import LocalNetwork
from keyquorum.client.results import Key, token_hex

QUOTA, BURST_SECONDS = 2.0, 30.0
FACTOR = 100


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    folder: Path = tmp_path_factory.mktemp("flood") / "net"
    async with Live(LocalNetwork(folder, 4, settings={"signatures_per_second": QUOTA})) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def attacker(live: Live) -> Tenant:
    account = Account.create()
    await live.fund(account.address)
    async with live.network.client(account=account) as client:
        session, minted = await client.login(), (await client.mint()).key
        secret = int.from_bytes(session.key.secret_bytes(), "big")
        return Tenant(secret, session.certificate, token_hex(minted.token_id), client.facts.id)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def key(live: Live) -> Key:
    key = (await live.client.mint()).key
    await live.client.sign_message(key, "warm up")
    return key


async def test_invalid_requests_cost_no_correlation(live: Live, attacker: Tenant, key: Key) -> None:
    before, victim = await live.stock(), token_hex(key.token_id)
    flood = await pour_elsewhere(live.network.nodes, attacker, victim, "invalid", QUOTA * FACTOR, 3.0)
    assert flood.asked > 5 * len(invalid(attacker, victim))
    assert all(400 <= status < 500 for status, _ in flood.answers), flood.answers
    await live.spent_nothing_since(before)
    # Not one of them was counted against the quota of who is behind it either.
    await asyncio.sleep(1.0)
    honest = await pour_elsewhere(live.network.nodes, attacker, victim, "valid", 5.0, 1.0)
    assert set(honest.answers) == {(200, "")}, honest.answers


async def signed_all_along(live: Live, key: Key, until: asyncio.Event, pause: float) -> list[float]:
    """Sign again and again until told to stop; return how long each took. A failure is a failure of the test."""
    seconds = []
    while not until.is_set():
        began = time.perf_counter()
        signed = await live.client.sign_message(key, f"message {len(seconds)}")
        seconds.append(time.perf_counter() - began)
        check_message(key, f"message {len(seconds) - 1}", signed)
        await asyncio.sleep(pause)
    return seconds


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.99)]


@pytest.mark.parametrize(
    ("duration", "pause"), [(8.0, 0.3), pytest.param(1800.0, 0.7, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]
)
async def test_a_flood_is_the_floods_own_problem(
    live: Live, attacker: Tenant, key: Key, duration: float, pause: float
) -> None:
    quiet = asyncio.Event()
    asyncio.get_running_loop().call_later(min(duration, 20.0) / 2, quiet.set)
    before = await signed_all_along(live, key, quiet, pause)
    over = asyncio.Event()
    beside = asyncio.create_task(signed_all_along(live, key, over, pause))
    asked = (live.network.nodes, attacker, token_hex(key.token_id), "mixed", QUOTA * FACTOR, duration)
    flood = await pour_elsewhere(*asked)
    over.set()
    during = await beside
    ratio = p99(during) / p99(before)
    print(f"\nflood: {flood.asked} requests in {duration:g} s, answers {dict(flood.answers)}")
    print(f"the other tenant: p99 {p99(before) * 1e3:.1f} ms before, {p99(during) * 1e3:.1f} ms during: x {ratio:.2f}")
    print(f"slowest during, ms: {[round(s * 1e3) for s in sorted(during)[-8:]]}")
    assert len(before) > 5
    assert len(during) > 5
    granted = QUOTA * (BURST_SECONDS + duration + 5.0)
    assert all(0 < count <= granted for count in flood.per_node.values()), flood.per_node
    assert any(code in ("quota_exceeded", "too_many_requests") for _, code in flood.answers), flood.answers
    assert flood.waits
    assert max(flood.waits) <= 60
    for party in live.network.nodes:
        async with live.http.get(live.network.nodes[party] + "/readyz") as response:
            assert response.status == 200
