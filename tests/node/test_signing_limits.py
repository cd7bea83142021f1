"""How much one node takes on: runs that wait for correlations count like runs under way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from keyquorum.algebra.rng import SeededRng
from keyquorum.node.runs.places import Places
from keyquorum.node.services.quotas import Quotas
from keyquorum.node.services.signing import RunChoice, Signing
from keyquorum.node.settings.config import QuotasSection
from keyquorum.protocols.correlations import Inventory
from keyquorum.refusal import Refusal
from rosters import roster

MOST = 3


class Runner:
    active = 0

    def is_up(self, peer: int) -> bool:
        return True


async def test_runs_that_wait_for_correlations_are_bounded() -> None:
    parts: list[Any] = [
        None,
        None,
        Runner(),
        Inventory(),
        lambda _: b"boot",
        SeededRng("limits"),
        None,
        Quotas(QuotasSection()),
    ]
    signing = Signing(roster(), *parts, run_seconds=1.0, places=Places(MOST))
    key: Any = None
    runs = [
        asyncio.create_task(signing.run_signing("sign", key, b"", bytes([k]) * 32, RunChoice((1, 2), 0)))
        for k in range(MOST + 2)
    ]
    done, waiting = await asyncio.wait(runs, timeout=0.1)
    assert (len(done), len(waiting)) == (2, MOST)
    for run in done:
        assert isinstance(error := run.exception(), Refusal)
        assert (error.status, error.code) == (429, "busy")
    for run in waiting:
        run.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    again = asyncio.create_task(signing.run_signing("sign", key, b"", b"again" * 6, RunChoice((1, 2), 0)))
    done, _ = await asyncio.wait([again], timeout=0.05)
    assert not done
    again.cancel()
    with pytest.raises(asyncio.CancelledError):
        await again
