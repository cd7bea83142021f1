"""Hold the one direction of the house: which package may import which, and what pure code never imports."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOUSE = {
    "formats": set[str](),
    "algebra": set[str](),
    "evm": {"algebra", "formats"},
    "rounds": {"algebra"},
    "protocols": {"algebra", "rounds"},
    "intents": {"algebra", "formats", "evm"},
    "auth": {"algebra", "formats", "evm", "intents"},
    "chain": {"algebra", "formats", "evm"},
    "serving": set[str](),
    "codes": {"algebra", "formats", "evm", "auth", "chain", "serving"},
    "client": {"algebra", "formats", "evm", "intents", "auth", "chain", "protocols.sign", "rounds.errors"},
    "gateway": {"algebra", "formats", "evm", "intents", "auth", "chain", "client", "serving"},
    "node": {"algebra", "formats", "evm", "rounds", "protocols", "intents", "auth", "chain", "serving"},
    "cli": {
        "algebra",
        "formats",
        "evm",
        "rounds",
        "protocols",
        "intents",
        "auth",
        "chain",
        "client",
        "codes",
        "gateway",
    }
    | {"node", "serving"},
}
# Rooms without a door of their own: everybody stands on them.
GROUND = {"__version__", "refusal"}
PURE = {"formats", "evm", "algebra", "rounds", "protocols", "intents", "auth"}
IMPURE = {"asyncio", "time", "secrets", "os", "socket", "logging", "random"}
EXCEPTIONS = {("algebra/rng.py", "os")}


def imports_of(source: str) -> Iterator[str]:
    """Yield the dotted names that a module imports, wherever in it; `from a import b` gives a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def violations(root: Path) -> list[str]:
    """Return one line for each import that goes the wrong way; a package without a rule may import nothing of ours."""
    found = []
    for path in sorted((root / "src/keyquorum").glob("*/**/*.py")):
        place = path.relative_to(root / "src/keyquorum").as_posix()
        package = place.split("/")[0]
        allowed = HOUSE.get(package, set()) | {package} | GROUND
        for name in imports_of(path.read_text()):
            head, _, inside = name.partition(".")
            ours = head == "keyquorum" and inside and not any(f"{inside}.".startswith(f"{good}.") for good in allowed)
            foreign = package in PURE and head in IMPURE and (place, head) not in EXCEPTIONS
            if ours or foreign or name.startswith("."):
                found.append(f"{place} imports {name}")
    return found


if __name__ == "__main__":
    wrong = violations(ROOT)
    print("\n".join(wrong) or "imports go one way")
    sys.exit(bool(wrong))
