"""Run every attack against a fresh local network and print a table: `make attacks`.

    python -m hostile [NAME ...] [--seconds 6] [--json]

Exit status 1 when an attack succeeded or an honest user failed meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from hostile import ALL
from hostile.attack import ATTACKS, Attack
from hostile.honest import Honest, beside, quiet
from hostile.scene import ELSEWHERE, Scene, close_scene, open_scene
from keyquorum.cli.local_network import LocalNetwork

NODES = 4
GATEWAY = {"owner_mints_per_client": 60, "commitments_per_client": 60, "logins_per_client": 200,
           "gas_per_client": 20_000_000}  # fmt: skip
"""A local network trusts every address of its machine, from which the strangers here come too: not so in these."""
LOGIN = {"auth": {"discord": {"application_id": "1200000000000000000"}}}
"""Commitments are taken where a method with bearer tokens is configured."""


@dataclass
class Row:
    """One line of the table; times in milliseconds, 0 where nothing is timed."""

    attack: str
    role: str
    got: str
    succeeded: bool
    sign: float = 0.0
    login: float = 0.0
    sign_quiet: float = 0.0
    login_quiet: float = 0.0


async def run_trick(scene: Scene, attack: Attack) -> Row:
    """Play a trick."""
    assert attack.run is not None
    outcome = await attack.run(scene)
    return Row(attack.name, attack.role, outcome.got, outcome.succeeded)


async def run_load(scene: Scene, attack: Attack, addresses: int, seconds: float) -> Row:
    """Pour a load from so many addresses, and time an honest user before and during it."""
    before = await quiet(scene, seconds / 2)
    during, answers = await beside(scene, attack.name, ELSEWHERE[:addresses], seconds)
    failures = before.failures + during.failures
    got = f"{len(failures)} failures: {failures[0]}" if failures else told(answers)
    broken = any(answer.startswith("BROKEN") for answer in answers)
    granted = attack.grants is not None and answers["ok"] > attack.grants * addresses
    name = f"{attack.name}, {addresses} address{'es' * (addresses > 1)}"
    return Row(name, attack.role, got, bool(failures) or granted or broken, *_times(during, before))


def told(answers: Counter[str]) -> str:
    """Return what a load was answered, the most frequent answers first."""
    return ", ".join(f"{name} {count}" for name, count in answers.most_common(4)) or "nothing"


def _times(during: Honest, before: Honest) -> list[float]:
    return [round(seconds * 1e3, 1) for seconds in (*during.slow, *before.slow)]


async def run_all(names: list[str], seconds: float) -> list[Row]:
    """Run the named attacks (all) against one fresh network."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        async with LocalNetwork(Path(folder) / "net", NODES, gateway=GATEWAY, login=LOGIN) as net:
            scene = await open_scene(net)
            try:
                for attack in [ATTACKS[name] for name in names or ATTACKS]:
                    print(f"... {attack.role}: {attack.name}", file=sys.stderr, flush=True)
                    rows += await _rows(scene, attack, seconds)
            finally:
                await close_scene(scene)
    return rows


async def _rows(scene: Scene, attack: Attack, seconds: float) -> list[Row]:
    try:
        if attack.run is not None:
            return [await run_trick(scene, attack)]
        return [await run_load(scene, attack, addresses, seconds) for addresses in (1, 4)]
    except Exception as error:  # an attack that breaks is not one that failed
        return [Row(attack.name, attack.role, f"BROKEN: {type(error).__name__} {error}"[:120], True)]


def show(rows: list[Row]) -> None:
    """Print the table."""
    print("| attack | role | what it got | sign p99, ms (quiet) | login p99, ms (quiet) |\n|---|---|---|---|---|")
    for row in rows:
        sign = f"{row.sign:g} ({row.sign_quiet:g})" if row.sign_quiet else ""
        login = f"{row.login:g} ({row.login_quiet:g})" if row.login_quiet else ""
        print(f"| {row.attack} | {row.role} | {'**SUCCEEDED** ' * row.succeeded}{row.got} | {sign} | {login} |")


def main() -> int:
    """Read the arguments, run, print."""
    assert ALL, "registers the attacks"
    parser = argparse.ArgumentParser(description="Attack a fresh local network.")
    parser.add_argument("names", nargs="*", help="only these attacks", metavar="NAME")
    parser.add_argument("--seconds", type=float, default=6.0, help="how long each load lasts")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in ATTACKS]:
        parser.error(f"there is no attack {unknown[0]!r}; there are: {', '.join(ATTACKS)}")
    rows = asyncio.run(run_all(asked.names, asked.seconds))
    print(json.dumps([asdict(row) for row in rows])) if asked.json else show(rows)
    return int(any(row.succeeded for row in rows))


if __name__ == "__main__":
    sys.exit(main())
