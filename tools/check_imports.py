"""Hold the one direction of the house: between packages, between the rooms of one, and never in a circle of files."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOUSE = {
    "formats": set[str](),
    "algebra": set[str](),
    "evm": {"formats"},
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
# The rooms inside a package, each with those it may import from; files beside the rooms may import from all of them.
ROOMS = {
    "node": {
        "settings": set[str](),
        "storage": {"settings"},
        "chain": {"storage"},
        "mesh": {"settings", "storage"},
        "pairs": {"mesh", "storage"},
        "runs": set[str](),
        "services": {"settings", "storage", "chain", "runs"},
        "keymaking": {"storage", "chain", "runs", "services"},
    }
}
# The facade gives itself to its parts; until the client is put together from parts, these know each other.
ROUND = {"keyquorum.client.async_client", "keyquorum.client.permissions", "keyquorum.client.sessions"}
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


def upward(root: Path) -> list[str]:
    """Return one line for each import inside a package that goes from a room to one that it may not see."""
    found = []
    for package, rooms in ROOMS.items():
        base = root / "src/keyquorum" / package
        for path in sorted(base.glob("*/**/*.py")):
            here = path.relative_to(base).parts[0]
            for name in imports_of(path.read_text()):
                there = name.removeprefix(f"keyquorum.{package}.").split(".")[0]
                if not name.startswith(f"keyquorum.{package}.") or there in rooms.get(here, set()) | {here}:
                    continue
                found.append(f"{package}/{path.relative_to(base).as_posix()} imports {name}")
    return found


def circles(root: Path) -> list[str]:
    """Return one line for each file that imports itself by way of others; imports inside functions count as well."""
    base = root / "src"
    files = {".".join(path.relative_to(base).with_suffix("").parts): path for path in base.glob("keyquorum/**/*.py")}
    arrows = {name: _files_of(imports_of(path.read_text()), files) - {name} for name, path in files.items()}
    found = []
    for name in sorted(arrows):
        reached, ahead = set[str](), list(arrows[name])
        while ahead:
            one = ahead.pop()
            if one not in reached:
                reached.add(one)
                ahead += arrows[one]
        if name in reached and name not in ROUND:
            found.append(f"{name} imports itself by way of others")
    return found


def _files_of(names: Iterator[str], files: dict[str, Path]) -> set[str]:
    return {found for name in names for found in (name, name.rpartition(".")[0]) if found in files}


if __name__ == "__main__":
    wrong = violations(ROOT) + upward(ROOT) + circles(ROOT)
    print("\n".join(wrong) or "imports go one way")
    sys.exit(bool(wrong))
