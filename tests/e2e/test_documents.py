"""What the documents tell a newcomer to type runs as it stands there, on a running network."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from keyquorum.cli.local_network import LocalNetwork

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
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
    context = (
        "from eth_account import Account\naccount = Account.from_key(open('.keyquorum/account.key').read().strip())\n"
    )
    for body in blocks:
        if "import" in body:
            await run(folder, sys.executable, "-c", context + body)


def test_every_command_and_setting_is_documented() -> None:
    from keyquorum.cli.main import app
    from keyquorum.node.config import dump_default

    text = "".join((ROOT / "docs" / name).read_text() for name in ("cli.md", "operators.md"))
    groups = [group.name for group in app.registered_groups] + [c.name for c in app.registered_commands]
    assert [name for name in groups if name and name not in text] == []
    default = dump_default(rpc=["http://127.0.0.1:8545"], router="0x" + "11" * 20)
    for line in default.splitlines():
        if "=" in line and line.startswith(("requests", "connections", "runs", "mesh_", "run_seconds")):
            assert "#" in line, line
