"""No test binds a port that it only looked at, and two who look at once never get the same."""

from __future__ import annotations

import ast
import re
import socket
import subprocess
import sys
from pathlib import Path

from keyquorum.cli.ports import PORTS, HeldPorts, Ports

ROOT = Path(__file__).parents[2]
LISTENS = re.compile(r"listen\(|create_server\(|start_server\(")
PROBE = """
def free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]
"""
ASK = """
from pathlib import Path
from keyquorum.cli.ports import HeldPorts
print(HeldPorts(Path({folder!r})).take({port}))
"""


def probes(text: str) -> list[str]:
    """The functions that ask for the number of a port on which they do not listen: whoever comes next may have it."""
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    bodies = {node.name: ast.unparse(node) for node in functions}
    return [
        name
        for name, body in bodies.items()
        if "socket.socket(" in body and "getsockname()" in body and not LISTENS.search(body)
    ]


def test_a_port_is_never_looked_at_and_bound_later() -> None:
    assert probes(PROBE) == ["free_port"]
    places = [path for root in ("src", "tests", "tools") for path in (ROOT / root).rglob("*.py")]
    own = [path for path in places if "node_modules" not in path.parts and path != Path(__file__)]
    assert len(own) > 300
    found = {str(path.relative_to(ROOT)): probes(path.read_text()) for path in own}
    assert {name: functions for name, functions in found.items() if functions} == {}


def test_a_held_port_is_nobody_elses(tmp_path: Path) -> None:
    one, two = HeldPorts(tmp_path), HeldPorts(tmp_path)
    port = one.any()
    assert port in PORTS
    assert not one.take(port)
    assert not two.take(port)
    command = [sys.executable, "-c", ASK.format(folder=str(tmp_path), port=port)]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout == "False\n"
    one.close()
    assert two.take(port)
    two.close()


def test_a_port_where_somebody_listens_is_not_held(tmp_path: Path) -> None:
    held = HeldPorts(tmp_path)
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        taken = int(squatter.getsockname()[1])
        assert not held.take(taken)
    assert Ports.choose(3, {}, held) != Ports.choose(3, {}, held)
    held.close()
