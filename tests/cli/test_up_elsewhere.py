"""`up` on a chain that is not its own: another chain id, blocks that count later, and files that a person changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

from chain_fixtures import js_tools, running_anvil  # noqa: F401
from keyquorum.cli.chain_choice import ChainChoice
from keyquorum.cli.local_network import LocalNetwork
from keyquorum.client import Misconfigured


@pytest.fixture
def lagging_chain(js_tools: Path) -> Iterator[str]:  # noqa: F811
    """An anvil of chain id 1337 with a block each second, of which the last eight do not count yet."""
    with running_anvil(js_tools, "--chain-id", "1337", "--slots-in-an-epoch", "4", "--block-time", "1") as url:
        yield url


async def test_a_network_comes_up_where_blocks_count_later(lagging_chain: str, tmp_path: Path) -> None:
    folder, said = tmp_path / "net", list[str]()
    choice = ChainChoice(lagging_chain, finality="finalized", development_accounts=True)
    network = LocalNetwork(folder, 2, chain=choice, progress=said.append)
    async with network, network.client() as client:
        assert client.facts.id.startswith("eip155:1337:")
        minted = await client.mint()
        assert await client.sign_message(minted.key, "hello")
    assert any("blocks to go" in line for line in said), said
    settings = (folder / "node-1" / "node.toml").read_text()
    assert 'finality = "finalized"' in settings
    assert "mints_per_method = 100 " in (folder / "gateway" / "gateway.toml").read_text()
    assert json.loads((folder / "local.json").read_text())["finality"] == "finalized"

    # What a person wrote into a generated file is not lost: the gateway's port moves, so the file would change.
    (folder / "node-1" / "node.toml").write_text(settings + "# mine\n")
    with pytest.raises(Misconfigured) as caught:
        async with LocalNetwork(folder, 2, chain=ChainChoice(lagging_chain), port=_another(network)):
            pass
    assert caught.value.code == "edited_settings"
    assert (folder / "node-1" / "node.toml").read_text().endswith("# mine\n")


def _another(network: LocalNetwork) -> int:
    """A port that the network does not use; nobody binds it, because the start is refused before."""
    used = {int(url.rpartition(":")[2]) for url in [*network.nodes.values(), network.gateway_url]}
    return next(port for port in range(31_999, 20_000, -1) if port not in used)
