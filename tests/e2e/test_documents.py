"""What the documents tell a newcomer to type runs as it stands there, on a running network."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from keyquorum.cli.local_network import LocalNetwork

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"^```(sh|python|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What starts things that other tests start, or needs a second host.
ELSEWHERE = ("make ", "keyquorum up", "keyquorum node", "keyquorum demo")


def snippets(name: str, language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall((ROOT / name).read_text()) if kind == language]


def home(tmp_path: Path, network: LocalNetwork) -> Path:
    """A folder that looks like the checkout to somebody who typed the commands before."""
    (tmp_path / ".keyquorum").symlink_to(network.folder)
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    return tmp_path


async def run(folder: Path, *command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_the_shell_part_of_the_tour_runs(network: LocalNetwork, tmp_path: Path) -> None:
    blocks = [body for body in snippets("README.md", "sh") if not any(word in body for word in ELSEWHERE)]
    assert blocks
    for body in blocks:
        assert "hello" in await run(home(tmp_path, network), "sh", "-euc", body)


@pytest.mark.parametrize("name", ["README.md", "docs/client.md", "docs/auth/wallet.md", "docs/auth.md"])
async def test_the_python_examples_run(network: LocalNetwork, tmp_path: Path, name: str) -> None:
    blocks = snippets(name, "python")
    assert blocks
    folder = home(tmp_path, network)
    for body in blocks:
        await run(folder, sys.executable, "-c", body)


def at_a_terminal(folder: Path, line: str) -> str:
    """Run a line as somebody types it, who agrees to whatever is asked; return what it prints."""
    person, terminal = os.openpty()
    os.write(person, b"y\n")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    process = subprocess.Popen(
        ["sh", "-euc", line], cwd=folder, stdin=terminal, stderr=terminal, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PATH": path, "TERM": "dumb"},
    )  # fmt: skip
    os.close(terminal)
    said: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):
            while data := os.read(person, 4096):
                said.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    output, _ = process.communicate(timeout=120)
    reader.join(10)
    os.close(person)
    assert process.returncode == 0, (line, output, b"".join(said).decode())
    return output


async def test_the_tour_of_the_command_line_runs_as_it_is_typed(network: LocalNetwork, tmp_path: Path) -> None:
    text = (ROOT / "docs/cli.md").read_text().partition("## A first tour")[2].partition("\n## ")[0]
    lines = [line[2:] for kind, body in BLOCK.findall(text) if kind == "console" for line in body.splitlines()]
    folder = home(tmp_path, network)
    (folder / "README.md").write_text("a file\n")
    filled: dict[str, str] = {"0x<address>": network.account().address}
    for line in (each for each in lines if not each.startswith("keyquorum up")):
        typed = re.sub("0x<[a-z ]+>", lambda found: filled[found[0]], line)
        output = await asyncio.to_thread(at_a_terminal, folder, typed)
        if "keys mint" in line:
            filled["0x<token id>"] = re.search("0x[0-9a-f]{64}", output)[0]  # type: ignore[index]
    assert len(lines) > 8 and "0x<token id>" in filled


def test_every_command_and_setting_is_documented() -> None:
    from keyquorum.cli.main import app
    from keyquorum.node.settings.config import dump_default

    text = "".join((ROOT / "docs" / name).read_text() for name in ("cli.md", "operators.md"))
    groups = [group.name for group in app.registered_groups] + [c.name for c in app.registered_commands]
    assert [name for name in groups if name and name not in text] == []
    default = dump_default(rpc=["http://127.0.0.1:8545"], router="0x" + "11" * 20)
    for line in default.splitlines():
        if "=" in line and line.startswith(("requests", "connections", "runs", "mesh_", "run_seconds")):
            assert "#" in line, line
