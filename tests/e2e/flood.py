"""A tenant that floods the nodes, in a process of its own: it must not slow down the clock it is measured by."""

from __future__ import annotations

import asyncio
import multiprocessing
import secrets
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from keyquorum import intents
from keyquorum.auth import request as requests
from keyquorum.auth.session_key import SessionPrivateKey

ELSEWHERE = "127.0.0.2"
IN_FLIGHT = 60
TICK = 0.02


@dataclass
class Tenant:
    """Somebody with a session (its secret key and certificate) and a key (token id in hex)."""

    secret: int
    certificate: str
    token: str
    network: str

    def body(self, **changes: Any) -> dict[str, Any]:
        """A request that a node answers; `changes` are what is wrong with it."""
        claims = {
            "network": self.network, "request_id": secrets.token_urlsafe(18), "expires": int(time.time()) + 50,
            "key": self.token, "intent": intents.message_intent("flood"), "runs": [(1, 2, 3)],
        }  # fmt: skip
        made = requests.make(SessionPrivateKey(self.secret), **claims | changes)  # type: ignore[arg-type]
        return {"certificate": self.certificate, "request": made, "run": 0}


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


def invalid(attacker: Tenant, victim: str) -> list[Callable[[], Any]]:
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
        lambda: good(key=victim),
        lambda: good(key="0x" + "12" * 32),
        lambda: good(expires=int(time.time()) - 100),
        lambda: good(network="eip155:1:0x0000000000000000000000000000000000000001"),
        lambda: good(intent={"kind": "raw-digest", "digest": "0x" + "11" * 32}),
        lambda: good(intent={"kind": "evm-transaction", "transaction": "0x02c0"}),
        lambda: good(runs=[(1, 2)]),
        lambda: good(runs=[(1, 2, 9)]),
        lambda: good() | {"run": 1},
    ]


def pour(urls: dict[int, str], tenant: Tenant, victim: str, kind: str, per_second: float, seconds: float) -> Flood:
    """Flood with "valid" requests, "invalid" ones, or both in turn ("mixed")."""
    kinds = invalid(tenant, victim)

    def bodies(number: int) -> Any:
        if kind == "valid" or (kind == "mixed" and number % 2):
            return tenant.body()
        return kinds[number // (2 if kind == "mixed" else 1) % len(kinds)]()

    flood = Flood(urls)
    asyncio.run(flood.run(bodies, per_second, seconds))
    return flood


async def pour_elsewhere(*arguments: Any) -> Flood:
    """Do the same in another process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, pour, *arguments)
