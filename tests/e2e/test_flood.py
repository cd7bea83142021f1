"""T49: one tenant asks for a hundred times its quota, valid and invalid, and it is its own problem.

Invalid requests cost no correlation. The flood gets what its quota holds and 429 with a time to wait for the rest; the
other tenant has no failure meanwhile. How much slower it is depends on who else uses the machine, so that is printed,
and only measured: its p99 before and during.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from eth_account import Account
from live import Live, check_message

from keyquorum import intents
from keyquorum.auth import request as requests
from keyquorum.cli.local_network import LocalNetwork
from keyquorum.client.results import Key, token_hex
from keyquorum.client.session import Session

QUOTA, BURST_SECONDS = 2.0, 30.0
FACTOR = 100
ELSEWHERE = "127.0.0.2"
IN_FLIGHT = 400
TICK = 0.05


@dataclass
class Tenant:
    """Somebody with a key and a session."""

    session: Session
    key: Key
    network: str

    def body(self, **changes: Any) -> dict[str, Any]:
        """A request that a node answers; `changes` are what is wrong with it."""
        claims = {
            "network": self.network, "request_id": secrets.token_urlsafe(18), "expires": int(time.time()) + 50,
            "key": token_hex(self.key.token_id), "intent": intents.message_intent("flood"),
        }  # fmt: skip
        made = requests.make(self.session.key, **claims | changes)  # type: ignore[arg-type]
        return {"certificate": self.session.certificate, "request": made, "run": {"signers": [1, 2, 3], "attempt": 0}}


@dataclass
class Flood:
    """Asks three nodes for each of many requests, from a network address of its own, and counts the answers."""

    urls: dict[int, str]
    answers: Counter[tuple[int, str]] = field(default_factory=Counter)
    per_node: Counter[int] = field(default_factory=Counter)
    waits: set[int] = field(default_factory=set)
    asked: int = 0

    async def run(self, bodies: Callable[[int], Any], per_second: float, seconds: float) -> None:
        """Send `bodies(number)`, so many a second; when the nodes are too slow for that, as many as they take."""
        connector = aiohttp.TCPConnector(limit=0, local_addr=(ELSEWHERE, 0))
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
            flying: set[asyncio.Task[None]] = set()
            began, number = time.monotonic(), 0
            while (elapsed := time.monotonic() - began) < seconds:
                while number < elapsed * per_second and len(flying) < IN_FLIGHT:
                    task = asyncio.create_task(self._ask(http, bodies(number)))
                    flying.add(task)
                    task.add_done_callback(flying.discard)
                    number += 1
                number = max(number, int(elapsed * per_second) - IN_FLIGHT)
                await asyncio.sleep(TICK)
            await asyncio.gather(*flying)

    async def _ask(self, http: aiohttp.ClientSession, body: Any) -> None:
        self.asked += 1
        await asyncio.gather(*(self._ask_one(http, party, body) for party in (1, 2, 3)))

    async def _ask_one(self, http: aiohttp.ClientSession, party: int, body: Any) -> None:
        options = {"data": body} if isinstance(body, bytes) else {"json": body}
        try:
            async with http.post(self.urls[party] + "/v1/sign", **options) as response:
                answer = await response.json()
                self.answers[response.status, answer.get("error", {}).get("code", "")] += 1
                self.per_node[party] += response.status == 200
                if "Retry-After" in response.headers:
                    self.waits.add(int(response.headers["Retry-After"]))
        except aiohttp.ClientError:
            self.answers[0, "no connection"] += 1


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
        return Tenant(await client.login(), (await client.mint()).key, client.facts.id)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def key(live: Live) -> Key:
    key = (await live.client.mint()).key
    await live.client.sign_message(key, "warm up")
    return key


def invalid(attacker: Tenant, victim: Key) -> list[Callable[[], Any]]:
    """Each a request that must cost nothing, and that gets as far as it can."""
    good = attacker.body

    def tampered() -> Any:
        body, other = good(), good()
        signed, signature = body["request"].rpartition(".")[0], other["request"].rpartition(".")[2]
        return body | {"request": f"{signed}.{signature}"}

    def forged_certificate() -> Any:
        body = good()
        signed = body["certificate"].rpartition(".")[0]
        return body | {"certificate": f"{signed}." + body["request"].rpartition(".")[2]}

    return [
        lambda: b"{" * 100,
        lambda: b"{}",
        tampered,
        forged_certificate,
        lambda: good(key=token_hex(victim.token_id)),
        lambda: good(key="0x" + "12" * 32),
        lambda: good(expires=int(time.time()) - 100),
        lambda: good(network="eip155:1:0x0000000000000000000000000000000000000001"),
        lambda: good(intent={"kind": "raw-digest", "digest": "0x" + "11" * 32}),
        lambda: good(intent={"kind": "evm-transaction", "transaction": "0x02c0"}),
        lambda: good() | {"run": {"signers": [1, 2], "attempt": 0}},
        lambda: good() | {"run": {"signers": [1, 2, 9], "attempt": 0}},
        lambda: good() | {"run": {"signers": [1, 2, 3], "attempt": 8}},
    ]


async def test_invalid_requests_cost_no_correlation(live: Live, attacker: Tenant, key: Key) -> None:
    kinds = invalid(attacker, key)
    before = await live.stock()
    flood = Flood(live.network.nodes)
    await flood.run(lambda number: kinds[number % len(kinds)](), QUOTA * FACTOR, 3.0)
    assert flood.asked > 5 * len(kinds)
    assert all(400 <= status < 500 for status, _ in flood.answers), flood.answers
    assert await live.stock() == before
    # Not one of them was counted against the quota of who is behind it either.
    await asyncio.sleep(1.0)
    honest = Flood(live.network.nodes)
    await honest.run(lambda _: attacker.body(), 5.0, 1.0)
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


@pytest.mark.parametrize(("duration", "pause"), [(8.0, 0.3), pytest.param(1800.0, 0.7, marks=pytest.mark.soak)])
async def test_a_flood_is_the_floods_own_problem(
    live: Live, attacker: Tenant, key: Key, duration: float, pause: float
) -> None:
    quiet = asyncio.Event()
    asyncio.get_running_loop().call_later(min(duration, 20.0) / 2, quiet.set)
    before = await signed_all_along(live, key, quiet, pause)
    over, flood, kinds = asyncio.Event(), Flood(live.network.nodes), invalid(attacker, key)
    beside = asyncio.create_task(signed_all_along(live, key, over, pause))
    await flood.run(lambda n: attacker.body() if n % 2 else kinds[n // 2 % len(kinds)](), QUOTA * FACTOR, duration)
    over.set()
    during = await beside
    ratio = p99(during) / p99(before)
    print(f"\nflood: {flood.asked} requests in {duration:g} s, answers {dict(flood.answers)}")
    print(f"the other tenant: p99 {p99(before) * 1e3:.1f} ms before, {p99(during) * 1e3:.1f} ms during: x {ratio:.2f}")
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
