"""Every attack that we know, against one running network: none gets anything, and no honest user fails meanwhile.

How much slower an honest user gets depends on who else uses the machine, so that is printed and not judged; `make
attacks` measures it for longer, and its table stands in docs/threat-model.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hostile import ALL
from hostile.__main__ import GATEWAY, LOGIN, run_load, run_trick, show
from hostile.attack import ATTACKS
from hostile.scene import Scene, close_scene, open_scene
from keyquorum.cli.local_network import LocalNetwork

SECONDS = 1.5
ADDRESSES = 4
TRICKS = [name for name, attack in ATTACKS.items() if attack.run is not None]
LOADS = [name for name, attack in ATTACKS.items() if attack.pour is not None]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with LocalNetwork(tmp_path_factory.mktemp("strangers") / "net", 4, gateway=GATEWAY, login=LOGIN) as net:
        made = await open_scene(net)
        yield made
        await close_scene(made)


def test_every_module_of_attacks_is_played() -> None:
    folder = Path(__file__).parents[1] / "hostile"
    modules = {
        path.stem for path in folder.glob("*.py") if "@trick(" in path.read_text() or "@load(" in path.read_text()
    }
    assert modules == {module.__name__.rpartition(".")[2] for module in ALL}


def test_the_threat_model_names_every_attack() -> None:
    page = (Path(__file__).parents[2] / "docs/threat-model.md").read_text()
    assert [name for name in ATTACKS if name not in page] == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", TRICKS)
async def test_a_trick_gets_nothing(scene: Scene, name: str) -> None:
    row = await run_trick(scene, ATTACKS[name])
    assert not row.succeeded, row.got


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", LOADS)
async def test_no_honest_user_fails_under_a_load(scene: Scene, name: str) -> None:
    row = await run_load(scene, ATTACKS[name], ADDRESSES, SECONDS)
    show([row])
    assert not row.succeeded, row.got
