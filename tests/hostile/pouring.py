"""The attacker's process: it stays for all loads of a scene, so that its start is in nobody's figures."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostile.scene import Target

NICE = 5


def new_attacker() -> ProcessPoolExecutor:
    """Return the process, which starts with the first load."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=os.nice, initargs=(NICE,))


def pour(name: str, target: Target, sources: list[str], seconds: float) -> Counter[str]:
    """Pour the load called `name` from these addresses, and count what it was answered; runs in the attacker."""
    from hostile import loads, loads_of_members
    from hostile.attack import ATTACKS

    assert loads and loads_of_members, "registers them"
    attack = ATTACKS[name].pour
    assert attack is not None
    return asyncio.run(attack(target, sources, seconds))
