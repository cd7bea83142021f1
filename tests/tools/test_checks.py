"""The tools that hold spec, code and house together: the tree passes, and each tool notices what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from check_imports import circles, upward, violations
from check_spec_steps import differences, steps_of_code, steps_of_page

ROOT = Path(__file__).resolve().parents[2]


def test_spec_and_code_have_the_same_steps() -> None:
    assert differences(ROOT) == []


def test_imports_go_one_way() -> None:
    assert violations(ROOT) == upward(ROOT) == circles(ROOT) == []


PAGE = "# Title\n\n**1.1** first\n\n**1.2** second, see **3.3** and\ntext **9.9** inside\n"
CODE = 'x = 1  # 1.1\n# 1.2, 2.1: why\n"""\n# 7.7\n"""\n# 3.3 is a sentence\n# see 4.4\n'


def test_steps_are_read_from_line_starts_and_bare_comments_only() -> None:
    assert steps_of_page(PAGE) == ["1.1", "1.2"]
    assert steps_of_code(CODE) == {"1.1", "1.2", "2.1"}


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("page", "code", "found"),
    [
        ("**1.1** a\n", "# 1.1\n", []),
        ("**1.1** a\n**1.2** b\n", "# 1.1\n", ["spec/p.md step 1.2 is not in protocols/p.py"]),
        ("**1.1** a\n", "# 1.1\n# 1.2\n", ["protocols/p.py step 1.2 is not in spec/p.md"]),
        ("**1.1** a\n**1.1** b\n", "# 1.1\n", ["spec/p.md has step 1.1 twice"]),
        (None, "# 1.1\n", ["protocols/p.py step 1.1 is not in spec/p.md"]),
        ("**1.1** a\n", None, ["spec/p.md step 1.1 is not in protocols/p.py"]),
    ],
)
def test_each_difference_between_page_and_file_is_found(tmp_path: Path, page, code, found: list[str]) -> None:
    files = {"spec/p.md": page, "src/keyquorum/protocols/p.py": code}
    assert differences(tree(tmp_path, {name: text for name, text in files.items() if text is not None})) == found


@pytest.mark.parametrize(
    ("place", "line", "wrong"),
    [
        ("protocols/x.py", "from keyquorum.rounds.errors import Abort", False),
        ("protocols/x.py", "from keyquorum.node.storage.store import Store", True),
        ("protocols/x.py", "import asyncio", True),
        ("protocols/x.py", "def f():\n    import time", True),
        ("protocols/x.py", "from os import path", True),
        ("protocols/x.py", "from . import dkg", True),
        ("rounds/x.py", "from keyquorum.protocols.dkg import generate", True),
        ("algebra/x.py", "from keyquorum.rounds.errors import Abort", True),
        ("algebra/x.py", "import os", True),
        ("algebra/rng.py", "import os", False),
        ("rounds/deep/x.py", "import random", True),
        ("intents/x.py", "from keyquorum.auth import siwe", True),
        ("auth/x.py", "from keyquorum.intents import evm", False),
        ("node/x.py", "import asyncio", False),
        ("node/x.py", "from keyquorum.client import Client", True),
        ("client/x.py", "from keyquorum.protocols.sign import combine", False),
        ("client/x.py", "from keyquorum.protocols.signature import x", True),
        ("client/x.py", "import keyquorum.protocols.dkg", True),
        ("client/x.py", "from keyquorum import node", True),
        ("client/x.py", "from keyquorum import __version__", False),
        ("newcomer/x.py", "from keyquorum.algebra import field", True),
    ],
)
def test_each_import_in_the_wrong_direction_is_found(tmp_path: Path, place: str, line: str, wrong: bool) -> None:
    assert bool(violations(tree(tmp_path, {f"src/keyquorum/{place}": line}))) is wrong


@pytest.mark.parametrize(
    ("place", "source", "wrong"),
    [
        ("mesh/links.py", "from keyquorum.node.storage.store import Store", False),
        ("mesh/links.py", "from keyquorum.node.mesh import wire", False),
        ("mesh/links.py", "from keyquorum.node.services.signing import Signing", True),
        ("mesh/links.py", "from keyquorum.node.app import Node", True),
        ("mesh/links.py", "def late():\n    from keyquorum.node.keymaking import minting", True),
        ("app.py", "from keyquorum.node.services.signing import Signing", False),
        ("attic/x.py", "from keyquorum.node.storage.store import Store", True),
    ],
)
def test_a_room_of_a_package_imports_from_those_above_it_only(
    tmp_path: Path, place: str, source: str, wrong: bool
) -> None:
    assert bool(upward(tree(tmp_path, {f"src/keyquorum/node/{place}": source}))) is wrong


def test_no_file_imports_itself_by_way_of_others(tmp_path: Path) -> None:
    one = "from keyquorum.a.two import x\n"
    two = "if TYPE_CHECKING:\n    from keyquorum.a import three\n"
    three = "def late():\n    import keyquorum.a.one\n"
    files = {"one": one, "two": two, "three": three, "four": one}
    found = circles(tree(tmp_path, {f"src/keyquorum/a/{name}.py": text for name, text in files.items()}))
    assert [line.split()[0].rpartition(".")[2] for line in found] == ["one", "three", "two"]
