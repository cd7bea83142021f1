"""What an attack is, and the list of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hostile.scene import Scene, Target

STRANGER, NODE, GATEWAY, PAGE, ENDPOINT, MINTER = "stranger", "node", "gateway", "web page", "chain endpoint", "minter"


@dataclass(frozen=True)
class Outcome:
    """What an attack got: `succeeded` when it was worth it for the attacker, `got` in words."""

    succeeded: bool
    got: str


Trick = Callable[[Scene], Awaitable[Outcome]]
Load = Callable[[Target, list[str], float], Awaitable[Counter[str]]]


@dataclass(frozen=True)
class Attack:
    """One attack: what `role` tries; `run` for a trick, `pour` (from network addresses, for seconds) for a load.

    `grants`: how often a load may be told yes for each address before that alone is a success; None: as often as it
    likes.
    """

    name: str
    role: str
    run: Trick | None = None
    pour: Load | None = None
    grants: int | None = None


ATTACKS: dict[str, Attack] = {}


def trick(role: str, name: str) -> Callable[[Trick], Trick]:
    """Register a trick."""

    def register(run: Trick) -> Trick:
        ATTACKS[name] = Attack(name, role, run=run)
        return run

    return register


def load(role: str, name: str, grants: int | None = None) -> Callable[[Load], Load]:
    """Register a load."""

    def register(pour: Load) -> Load:
        ATTACKS[name] = Attack(name, role, pour=pour, grants=grants)
        return pour

    return register
