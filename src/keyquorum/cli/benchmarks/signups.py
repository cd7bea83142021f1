"""Figures of people who arrive: login to certificate, verified login to address, sign-ups under a steady load.

The logins are of wallets made up on the spot (a Google account costs the nodes the same, and the provider its own
time). They are prepared before the clock starts: what is measured is what the network does.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from eth_account import Account

from keyquorum.auth import certificate as certificates
from keyquorum.auth import request as requests
from keyquorum.auth.statement import Statement
from keyquorum.cli.local_network import LocalNetwork
from keyquorum.client.async_client import AsyncClient
from keyquorum.client.errors import KeyquorumError
from keyquorum.client.session import Session, sign_statement

NODES = 4
WARM_UP = 5
CHECKS = 300
CLIENTS = 8
KEYS_READY = 256


@dataclass(frozen=True)
class Arrivals:
    """Seconds, and sign-ups in a second."""

    login_p50: float
    verify_cpu: float
    address_p50: float
    address_p95: float
    rate: float
    loaded_p95: float
    failures: int


async def measure(
    folder: Path, samples: int, per_second: float, seconds: float, progress: Callable[[str], None]
) -> Arrivals:
    """Start a network in `folder`; `samples` logins one by one, then `per_second` sign-ups for `seconds`."""
    settings = {"mint_batch": 64, "mint_low": KEYS_READY}
    progress("starting 4 nodes, a chain and a gateway, and waiting for keys")
    async with LocalNetwork(folder, NODES, settings=settings) as network, network.client() as client:
        await _pool(client, KEYS_READY)
        progress(f"{samples} people, one after the other")
        logins, addresses = await _one_by_one(network, samples)
        verify = _verification(client, await client.login())
        progress(f"{per_second:g} people a second for {seconds:g} s")
        await _pool(client, KEYS_READY)
        times, failures, took = await _steady(network, per_second, seconds)
    if failures:
        progress(f"failed: {dict(failures)}")
    ordered = sorted(times) or [float("inf")]
    return Arrivals(
        login_p50=median(logins),
        verify_cpu=verify,
        address_p50=median(addresses),
        address_p95=sorted(addresses)[int(len(addresses) * 0.95)],
        rate=len(times) / took,
        loaded_p95=ordered[int(len(ordered) * 0.95)],
        failures=failures.total(),
    )


async def _pool(client: AsyncClient, wanted: int, patience: float = 60.0) -> None:
    """Wait until so many keys are ready."""
    give_up = time.monotonic() + patience
    while (await client.network()).pool < wanted and time.monotonic() < give_up:  # noqa: ASYNC110 - polls the chain
        await asyncio.sleep(0.2)


def _person() -> Callable[[Statement], Any]:
    account = Account.create()

    async def prove(statement: Statement) -> dict[str, str]:
        return sign_statement(account, statement, "localhost")

    return prove


async def _one_by_one(network: LocalNetwork, samples: int) -> tuple[list[float], list[float]]:
    """Return the seconds from proof to certificate, and from certificate to address."""
    logins, addresses = [], []
    async with network.client(account=None, through_gateway=True) as client:
        for _ in range(WARM_UP + samples):
            prove, proven = _person(), 0.0

            async def timed(statement: Statement, prove: Callable[..., Any] = prove) -> Any:
                nonlocal proven
                proof = await prove(statement)
                proven = time.perf_counter()
                return proof

            await client.login_with("siwe", timed)
            certified = time.perf_counter()
            await client.sign_up()
            logins.append(certified - proven)
            addresses.append(time.perf_counter() - certified)
    return logins[WARM_UP:], addresses[WARM_UP:]


def _verification(client: AsyncClient, session: Session) -> float:
    """Return the CPU seconds of what each node does first: check a certificate it does not know, and a request."""
    key = client.facts.network_key
    assert key is not None  # noqa: S101 - a login has succeeded
    now = int(time.time())
    asked = session.ask(requests.SIGN, {"kind": "evm-message", "message": "hello"}, "0x" + "11" * 32).sign([(1, 2, 3)])
    began = time.process_time()
    for _ in range(CHECKS):
        certificate = certificates.verify(asked["certificate"], client.facts.id, key, now)
        requests.verify(asked["request"], certificate, client.facts.id, now)
    return (time.process_time() - began) / CHECKS


async def _steady(network: LocalNetwork, per_second: float, seconds: float) -> tuple[list[float], Counter[str], float]:
    """Return the seconds from verified login to address of each sign-up, why others failed, and how long all took.

    People arrive at a fixed rate, however long the others take: a network that is too slow shows in every figure.
    """
    clients = [await network.client(account=None, through_gateway=True).__aenter__() for _ in range(CLIENTS)]
    people = [_person() for _ in range(int(per_second * seconds))]
    times: list[float] = []
    failures: Counter[str] = Counter()

    async def arrive(at: float, number: int) -> None:
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        client = clients[number % CLIENTS]
        try:
            session = await client.login_with("siwe", people[number])
            start = time.perf_counter()
            client.use_session(session)
            await client.sign_up()
            times.append(time.perf_counter() - start)
        except KeyquorumError as error:
            failures[error.code] += 1

    try:
        began = time.perf_counter()
        await asyncio.gather(*(arrive(began + k / per_second, k) for k in range(len(people))))
        took = time.perf_counter() - began
    finally:
        await asyncio.gather(*(client.close() for client in clients))
    return times, failures, took
