"""Figures of a whole network of real processes on this machine: start, key generation, latency, throughput, memory."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from keyquorum.cli.local_network import LocalNetwork
from keyquorum.client.async_client import AsyncClient
from keyquorum.client.errors import KeyquorumError
from keyquorum.client.results import Key

NODES = 4
DKG_BATCH = 64
DKG_BATCHES = 4
WARM_UP = 20
REST_SECONDS = 2.0


@dataclass(frozen=True)
class Figures:
    """Medians of one run; times in seconds, memory in bytes."""

    up: float
    keys_per_second: float
    latency_p50: float
    latency_p99: float
    rate: float
    failures: int
    memory_per_node: int


async def measure(
    folder: Path, samples: int, clients: int, sustained: float, progress: Callable[[str], None]
) -> Figures:
    """Start a network in `folder`, measure it, stop it.

    `samples` signatures one after the other give the latency, `clients` at a time for `sustained` seconds the rate.
    """
    settings = {"mint_batch": DKG_BATCH, "mint_low": 1}
    progress("starting 4 nodes, a chain and a gateway")
    async with LocalNetwork(folder, NODES, settings=settings) as network, network.client() as client:
        key = (await client.mint()).key
        await client.sign_message(key, "warm up")
        await _rest()
        memory = max(_resident(network.pid(f"node-{party}")) for party in network.nodes)
        progress(f"{samples} signatures, one after the other")
        times = await _one_by_one(client, key, samples)
        await _rest()
        progress(f"{clients} clients at a time for {sustained:g} s")
        rate, failures = await _together(client, key, clients, sustained)
        up = network.seconds["up"]
    progress(f"{DKG_BATCHES} batches of {DKG_BATCH} keys")
    keys = await _key_rate(folder / "keys")
    return Figures(up, keys, median(times), times[int(len(times) * 0.99)], rate, failures, memory)


async def _rest() -> None:
    await asyncio.sleep(REST_SECONDS)


async def _one_by_one(client: AsyncClient, key: Key, samples: int) -> list[float]:
    times = []
    for k in range(WARM_UP + samples):
        began = time.perf_counter()
        await client.sign_message(key, f"message {k}")
        times.append(time.perf_counter() - began)
    return sorted(times[WARM_UP:])


async def _together(client: AsyncClient, key: Key, clients: int, seconds: float) -> tuple[float, int]:
    """Return signatures per second and how many calls failed."""
    done = failures = 0
    began = time.perf_counter()

    async def work(number: int) -> None:
        nonlocal done, failures
        while time.perf_counter() - began < seconds:
            try:
                await client.sign_message(key, f"client {number}, message {done}")
                done += 1
            except KeyquorumError:
                failures += 1

    await asyncio.gather(*(work(number) for number in range(clients)))
    return done / (time.perf_counter() - began), failures


async def _key_rate(folder: Path) -> float:
    """Return keys per second of the slowest node in each batch, median over the batches.

    From the first message until the batch is on every node's disk and confirmed by all.
    """
    settings = {"mint_batch": DKG_BATCH, "mint_low": DKG_BATCH * (DKG_BATCHES - 1) + 1}
    async with LocalNetwork(folder, NODES, settings=settings) as network:
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            ceremonies = {party: _ceremonies(folder, party) for party in network.nodes}
            if min(map(len, ceremonies.values())) >= DKG_BATCHES:
                break
            await asyncio.sleep(0.2)
    slowest = [max(batch) for batch in zip(*ceremonies.values(), strict=False)]
    return DKG_BATCH / float(median(slowest))


def _ceremonies(folder: Path, party: int) -> list[float]:
    found = []
    for line in (folder / "logs" / f"node-{party}.log").read_text().splitlines():
        if '"keys made"' in line:
            event = json.loads(line)
            found += [event["seconds"]] if event["purpose"] == "pool" else []
    return found


def _resident(pid: int | None) -> int:
    """Return the resident memory of a process (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024
