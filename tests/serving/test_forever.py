"""A loop that ends takes its process with it; one that its owner ends does not."""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import keyquorum
from keyquorum.serving import forever as module
from keyquorum.serving.forever import PartEnded, forever, until_asked

SOURCE = Path(keyquorum.__file__).parent


@pytest.fixture(autouse=True)
def nobody_is_killed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    killed: list[bool] = []
    monkeypatch.setattr(module, "end_soon", lambda: killed.append(True))
    return killed


async def fails() -> None:
    raise OSError(28, "No space left on device")


async def returns() -> None:
    pass


async def waits_for_what_was_cancelled() -> None:
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(gone.cancel)
    await gone


ENDS: list[tuple[Callable[[], Coroutine[Any, Any, None]], str]] = [
    (fails, "OSError"), (returns, "returned"), (waits_for_what_was_cancelled, "cancelled"),
]  # fmt: skip


@pytest.mark.parametrize(("work", "reason"), ENDS)
async def test_whatever_ends_a_part_ends_the_process(
    work: Callable[[], Coroutine[Any, Any, None]], reason: str, nobody_is_killed: list[bool]
) -> None:
    forever("the part", work())
    with pytest.raises(PartEnded, match=f"the part has ended: .*{reason}"):
        await until_asked(asyncio.Event())
    assert nobody_is_killed == [True]


async def test_a_part_that_its_owner_ends_ends_nothing_else(nobody_is_killed: list[bool]) -> None:
    task = forever("the part", asyncio.sleep(3600))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    asked = asyncio.Event()
    asyncio.get_running_loop().call_soon(asked.set)
    await until_asked(asked)
    assert not nobody_is_killed


async def test_a_part_that_ended_before_anybody_waited_counts(nobody_is_killed: list[bool]) -> None:
    await asyncio.gather(forever("the part", fails()), return_exceptions=True)
    with pytest.raises(PartEnded):
        await until_asked(asyncio.Event())


def test_a_process_that_cannot_stop_in_order_ends_all_the_same() -> None:
    code = "import time; from keyquorum.serving.forever import end_soon; end_soon(7, 0.1); time.sleep(60)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 7


# -- every loop is begun so -------------------------------------------------------------------------------------------

# Loops whose owner notices their end: calls and connections, which end, and the reading of a connection. A client has
# no others.
OWNED = {
    "cli/chain_choice.py:wait_until_final", "cli/local_network.py", "cli/person.py", "algebra/field.py",
    "codes/smpp.py", "chain/devchain/interpreter.py",
    "gateway/relay.py:_send",
    "node/mesh/connection.py:receive", "node/mesh/mesh.py:_serve", "node/services/signing.py:_await_correlations",
    "node/app.py:_open_chain", "node/app.py:_find_roster", "node/keymaking/certification.py:_catch_up",
}  # fmt: skip


def endless_coroutines() -> set[tuple[str, str]]:
    """Every coroutine function with a `while True` in it, as (file, name)."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.AsyncFunctionDef):
                loops = [node for node in ast.walk(function) if isinstance(node, ast.While)]
                if any(isinstance(loop.test, ast.Constant) and loop.test.value for loop in loops):
                    found.add((path.relative_to(SOURCE).as_posix(), function.name))
    return found


def begun_with_forever() -> set[str]:
    names = set()
    for path in SOURCE.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "forever":
                work = call.args[1]
                assert isinstance(work, ast.Call)
                names.add(getattr(work.func, "attr", getattr(work.func, "id", "")))
    return names


def test_every_endless_loop_is_watched_or_its_owner_notices_its_end() -> None:
    watched = begun_with_forever()
    assert {"_watch", "_tick", "_write_for_ever", "_accept", "keep", "_collect"} <= watched
    through = {"_keep_dialling", "_keep_knowing"}  # `keep` is one of them
    left = {
        (file, name)
        for file, name in endless_coroutines()
        if name not in watched | through
        and not file.startswith("client/")
        and file not in OWNED
        and f"{file}:{name}" not in OWNED
    }
    assert left == set()
