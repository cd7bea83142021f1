"""The committed artifacts are what the committed sources give."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_contracts", ROOT / "tools" / "build_contracts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_compiling_again_gives_the_committed_artifacts(build):
    try:
        build.install()
    except build.BuildError as error:
        pytest.skip(f"the compiler cannot be installed here: {error}")
    assert build.differences(build.compile_all()) == []


def test_a_changed_artifact_is_noticed(build, tmp_path):
    path = build.SHIPPED / "Staking.json"
    assert build.differences({path: path.read_text()}) == []
    assert build.differences({path: path.read_text() + " "}) == ["src/keyquorum/chain/artifacts/Staking.json"]


def test_an_unknown_argument_is_refused(build):
    command = [sys.executable, str(ROOT / "tools" / "build_contracts.py"), "--chekc"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "--check" in result.stderr


def test_a_warning_about_our_own_sources_stops_the_build_and_one_about_the_library_does_not(build):
    def error(severity: str, file: str) -> dict[str, object]:
        return {"severity": severity, "sourceLocation": {"file": file}}

    assert build.concerns_us(error("warning", "src/Staking.sol"))
    assert build.concerns_us(error("error", "@openzeppelin/contracts/x.sol"))
    assert build.concerns_us({"severity": "warning"})
    assert not build.concerns_us(error("warning", "@openzeppelin/contracts/x.sol"))


def test_compiler_and_library_are_pinned_exactly_and_name_no_registry():
    manifest = json.loads((ROOT / "contracts" / "package.json").read_text())
    lock = json.loads((ROOT / "contracts" / "package-lock.json").read_text())
    for name, version in manifest["dependencies"].items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
        assert lock["packages"][f"node_modules/{name}"]["version"] == version
    packages = {path: package for path, package in lock["packages"].items() if path}
    assert packages
    assert all("resolved" not in package and package["integrity"] for package in packages.values())


def test_every_contract_carries_the_licence():
    sources = [*(ROOT / "contracts" / "src").glob("*.sol")]
    assert len(sources) >= 5
    for source in sources:
        assert source.read_text().startswith("// SPDX-License-Identifier: Apache-2.0\n")
