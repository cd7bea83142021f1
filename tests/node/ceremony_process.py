"""A node's part in one ceremony, in a process that ends like a killed one at a named moment."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from dealer import deal_key
from keyquorum.algebra.rng import SeededRng
from keyquorum.node.keymaking.ceremonies import Ceremonies
from keyquorum.node.keymaking.minting_notices import Proposal
from keyquorum.node.keymaking.workshop import POOL, Workshop
from keyquorum.node.storage.keys import Keys
from keyquorum.node.storage.store import Store
from keyquorum.node.storage.vault import KeySource
from rosters import roster

MOMENTS = ("generated", "confirming", "confirmed", "marked")
SOURCE = KeySource("key-file", b"k" * 32)


def killed() -> None:
    os._exit(9)


class Runner:
    """Runs that succeed at once; `at` is told when the shares are made, and before and after they are confirmed."""

    def __init__(self, at: Callable[[str], None]) -> None:
        self._at = at

    def is_up(self, _: int) -> bool:
        return True

    async def run(self, _party: Any, generator: Any, *_: Any, name: str = "dkg/confirm", **__: Any) -> Any:
        generator.close()
        if name == "dkg":
            self._at("generated")
            return SimpleNamespace(keys=[deal_key(4, 3, seed)[1] for seed in range(2)])
        # Whatever is sent from here on, the others may have it.
        self._at("confirming")
        self._at("confirmed")
        return None


async def take_part(store: Store, at: Callable[[str], None]) -> None:
    view: Any = SimpleNamespace(chain_id=31337, addresses={"PubkeyRouter": "0x" + "11" * 20})
    nothing: Any = SimpleNamespace()
    shop = Workshop(
        roster(), view, Keys(store), Runner(at), nothing, lambda *_: True, nothing, SeededRng("x")  # type: ignore[arg-type]
    )  # fmt: skip
    nonces = {j: bytes([j]) * 32 for j in range(1, 5)}
    await Ceremonies(shop, 1.0)._generate_and_confirm(b"r" * 16, Proposal(POOL, 2, 1), nonces)
    at("marked")


if __name__ == "__main__":
    opened = Store(Path(sys.argv[1]), SOURCE)
    asyncio.run(take_part(opened, lambda moment: killed() if moment == sys.argv[2] else None))
