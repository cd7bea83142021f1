"""The registry: a method is one file, and everything else learns of it by itself."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keyquorum import auth, evm, formats
from keyquorum.auth.method import Method, Proven, methods, prove
from keyquorum.auth.scopes import WORDS, Scope
from keyquorum.refusal import Invalid

EIGHTH = """
from keyquorum.auth.method import Proven

class Eighth:
    name = "NAME"
    type_number = TYPE
    settings_type = None
    summary = "an eighth method"
    proof_schema = {"type": "object"}

    async def verify(self, proof, challenge, context):
        return Proven(8, b"id", context.now)

METHOD = Eighth()
"""


@pytest.fixture
def add_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    monkeypatch.setattr(auth, "__path__", [*auth.__path__, str(tmp_path)])
    added: list[str] = []

    def add(module: str, source: str) -> None:
        (tmp_path / f"{module}.py").write_text(source)
        added.append(f"keyquorum.auth.{module}")
        methods.cache_clear()

    yield add
    methods.cache_clear()
    for name in added:
        sys.modules.pop(name, None)
        if hasattr(auth, name.rsplit(".", 1)[1]):
            delattr(auth, name.rsplit(".", 1)[1])


def test_siwe_is_a_method_of_type_1() -> None:
    assert isinstance(methods()["siwe"], Method) and methods()["siwe"].type_number == 1


async def test_an_eighth_method_is_one_file(world: Any, add_method: Callable[[str, str], None]) -> None:
    before = set(methods())
    add_method("eighth_method", EIGHTH.replace("NAME", "eighth").replace("TYPE", "8"))
    assert set(methods()) == before | {"eighth"}
    assert await prove("eighth", None, world.statement, world.context) == Proven(8, b"id")


async def test_every_proof_counts_as_made_the_second_after_the_block_it_names(
    world: Any, add_method: Callable[[str, str], None]
) -> None:
    add_method("early_method", EIGHTH.replace("NAME", "early").replace("TYPE", "8"))
    for seconds in (30, 0, -1, -58):
        context = replace(world.context, block_time=world.now + seconds)
        proven = await prove("early", None, world.statement, context)
        assert proven.issued_at == world.now + seconds + 1


async def test_a_method_proves_only_identities_of_its_own_type(
    world: Any, add_method: Callable[[str, str], None], refused: Callable[..., Any]
) -> None:
    add_method("liar_method", EIGHTH.replace("NAME", "liar").replace("TYPE", "9"))
    with refused("wrong_method"):
        await prove("liar", None, world.statement, world.context)


def test_two_methods_of_one_name_are_a_bug(add_method: Callable[[str, str], None]) -> None:
    add_method("second_siwe", EIGHTH.replace("NAME", "siwe").replace("TYPE", "1"))
    with pytest.raises(AssertionError, match="another one has its name"):
        methods()


def test_what_is_called_a_method_and_is_none_is_a_bug(add_method: Callable[[str, str], None]) -> None:
    add_method("half_method", 'METHOD = "siwe"')
    with pytest.raises(AssertionError, match="not a login method"):
        methods()


@pytest.mark.parametrize("name", ["", "SIWE", "siwe ", "../siwe", "errors", None, 5, ["siwe"], {}])
async def test_an_unknown_method_is_refused_with_the_names_of_those_that_exist(world: Any, name: object) -> None:
    with pytest.raises(Invalid, match="no such login method") as caught:
        await prove(name, {}, world.statement, world.context)
    assert caught.value.status == 400 and "siwe" in caught.value.hint


def spec() -> str:
    return (Path(__file__).parents[2] / "spec" / "auth.md").read_text()


def test_the_spec_lists_exactly_the_methods_that_exist() -> None:
    listed = re.findall(r"^\| `([a-z-]+)` \| ([0-9]{1,2}) \|", spec(), re.MULTILINE)
    assert listed == [(name, str(one.type_number)) for name, one in methods().items()]


def test_the_spec_lists_every_scope_with_its_number() -> None:
    listed = re.findall(r"^\| ([0-9]) \| `([a-z_]+)` \|", spec(), re.MULTILINE)
    assert listed == [(str(int(scope)), scope.name.lower()) for scope in Scope]
    assert set(WORDS) == set(Scope)


def sources() -> str:
    """What this package says, and what it has from the rooms below that refuse in its name."""
    folders = (Path(package.__file__).parent for package in (auth, formats, evm))
    return "".join(path.read_text() for folder in folders for path in folder.glob("*.py"))


def test_the_spec_explains_every_error_code() -> None:
    source = sources()
    raised = set(re.findall(r'(?:Invalid|malformed|_deny)\(\s*"([a-z_]+)"', source))
    explained = set(re.findall(r"^\| `([a-z_]+)` \| [0-9]{3} \|", spec(), re.MULTILINE))
    assert raised == explained


def test_the_spec_gives_every_error_code_its_status() -> None:
    source = sources()
    status = dict(re.findall(r"^\| `([a-z_]+)` \| ([0-9]{3}) \|", spec(), re.MULTILINE))
    for call, expected in (("Invalid", {"401", "403", "503"}), ("malformed", {"400"}), ("_deny", {"403"})):
        for code in re.findall(rf'{call}\(\s*"([a-z_]+)"', source):
            assert status[code] in expected, code


def test_the_steps_of_the_spec_are_those_that_the_code_names() -> None:
    source = "".join(path.read_text() for path in Path(auth.__file__).parent.glob("*.py"))
    named = [
        step
        for line in re.findall(r"^ *# ((?:[0-9]+|[A-Z])\.[0-9]+(?:, (?:[0-9]+|[A-Z])\.[0-9]+)*)$", source, re.MULTILINE)
        for step in line.split(", ")
    ]
    written = re.findall(r"^- \*\*((?:[0-9]+|[A-Z])\.[0-9]+)\*\*", spec(), re.MULTILINE)
    assert sorted(set(named)) == sorted(written)


def test_the_slow_wallet_library_is_not_loaded_for_verifying() -> None:
    program = (
        "import sys; import keyquorum.auth.siwe, keyquorum.auth.request, keyquorum.auth.permission;"
        "from keyquorum.auth.method import methods; methods();"
        "sys.exit(any(name.split('.')[0] in ('eth_account', 'web3', 'aiohttp', 'asyncio') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_auth_touches_neither_clock_nor_disk_nor_network() -> None:
    for path in Path(auth.__file__).parent.glob("*.py"):
        imported = re.findall(r"^\s*(?:from|import) ([a-z_0-9.]+)", path.read_text(), re.MULTILINE)
        roots = {name.split(".")[0] for name in imported}
        assert not roots & {"time", "os", "pathlib", "socket", "aiohttp", "asyncio", "sqlite3", "secrets", "random"}, (
            path
        )
        house = {name.split(".")[1] for name in imported if name.startswith("keyquorum.")}
        assert house <= {"algebra", "auth", "evm", "formats", "intents", "refusal"}, path
