"""The command line on a running network, used by people without account and ether: every login that asks somebody."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from eth_account import Account
from eth_account.messages import encode_defunct
from every_way import MAIL, PHONE, REQUIRED, EveryWay

from codes.code_world import code_in, other_code
from provider_kit import Person
from software_ledger import FIRST_PATH, SoftwareLedger

pytestmark = pytest.mark.timeout(300)
URL = re.compile(r"http://\S+\n")
ASKED = re.compile(r"Code of (\d+) digits from (\S+): ")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EveryWay]:
    async with EveryWay(tmp_path_factory.mktemp("terminal")) as found:
        yield found


def new_folder(world: EveryWay, path: Path) -> Path:
    """What somebody has who was only told where the network is."""
    path.mkdir(parents=True, exist_ok=True)
    shutil.copy(world.folder / "network" / "network.json", path)
    return path


class Command:
    """One command: `until` reads what it tells the person, `type` answers, `result` is its exit code and JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said = ""

    @classmethod
    async def start(cls, folder: Path, *arguments: str, **environment: str) -> Command:
        command = [sys.executable, "-m", "keyquorum.cli.main", *arguments, "--json", "--dir", str(folder)]
        pipe, env = asyncio.subprocess.PIPE, os.environ | environment
        return cls(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe, env=env))

    async def until(self, pattern: re.Pattern[str], start: int = 0) -> re.Match[str]:
        assert self._process.stderr is not None
        async with asyncio.timeout(60):
            while (found := pattern.search(self.said, start)) is None:
                chunk = await self._process.stderr.read(4096)
                assert chunk, (self.said, await self.result())
                self.said += chunk.decode()
        return found

    async def type(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        await self._process.stdin.drain()

    async def result(self) -> tuple[int | None, Any]:
        async with asyncio.timeout(60):
            output, rest = await self._process.communicate()
        self.said += rest.decode()
        return self._process.returncode, json.loads(output)


async def run(folder: Path, *arguments: str, code: int = 0) -> Any:
    status, found = await (await Command.start(folder, *arguments)).result()
    assert status == code, found
    return found


async def in_browser(folder: Path, *arguments: str, user: str = "alice") -> Any:
    """Run a command that prints an address, and let somebody go there."""
    command = await Command.start(folder, *arguments, "--no-browser")
    person = Person(user)
    person.open_url((await command.until(URL))[0].strip())
    status, found = await command.result()
    await person.done()
    assert status == 0, found
    return found


async def with_codes(world: EveryWay, channel: str, command: Command, *, wrong_first: bool = False) -> Any:
    """Read the messages that come and type the codes that they bring, each where it is asked for."""
    before = len(world._messages(channel))
    place = 0
    codes: dict[str, str] = {}
    for turn in range(2 * REQUIRED if wrong_first else REQUIRED):
        asked = await command.until(ASKED, place)
        place = asked.end()
        # The questions come when the services have answered, which may be before their messages are delivered.
        for _ in range(1500):
            if codes or len(world._messages(channel)) >= before + REQUIRED:
                break
            await asyncio.sleep(0.02)
        for text in world._messages(channel)[before:]:
            sender = re.search(r"Codes ([ABC])", text)
            assert sender is not None
            codes[f"codes-{sender[1].lower()}"] = code_in(text)
        code = codes[asked[2]]
        await command.type(other_code(code) if wrong_first and turn < REQUIRED else code)
    status, found = await command.result()
    assert status == 0, (found, command.said)
    return found


async def signs(folder: Path, key: dict[str, Any], text: str) -> None:
    signed = await run(folder, "sign", "message", key["token_id"], text)
    assert (
        Account.recover_message(encode_defunct(text=text), signature=signed["signature"]["compact"]) == key["address"]
    )


async def test_a_key_for_an_e_mail_address_gets_a_second_login_and_loses_the_first(
    world: EveryWay, tmp_path: Path
) -> None:
    home = new_folder(world, tmp_path / "home")
    minting = await Command.start(home, "keys", "mint", "--login", "email", "--who", MAIL)
    key = await with_codes(world, "email", minting)
    await signs(home, key, "by mail")
    owner = await run(home, "keys", "show", key["token_id"])
    assert owner["owner"] == owner["address"] == key["address"]

    # The key owns itself: the session asks it for a signature, and the gateway pays.
    added = await in_browser(
        home, "methods", "add", key["token_id"], "--login", "discord", "--scope", "1", "--scope", "6"
    )
    assert added["transaction"]
    listed = (await run(home, "methods", "list", key["token_id"]))["methods"]
    assert [one["type"] for one in listed] == [20, 4]

    # Another machine, the other login: it takes the first away and announces nothing.
    away = new_folder(world, tmp_path / "away")
    session = await in_browser(away, "login", "discord", "--scope", "1", "--scope", "6")
    assert [one["type"] for one in session["methods"]] == [4]
    await signs(away, key, "by Discord")
    mail = listed[0]["id"]
    await run(away, "methods", "remove", key["token_id"], "--type", "20", "--id", mail)
    assert [one["type"] for one in (await run(away, "methods", "list", key["token_id"]))["methods"]] == [4]
    alone = new_folder(world, tmp_path / "alone")
    await with_codes(world, "email", await Command.start(alone, "login", "email", MAIL))
    error = (await run(alone, "sign", "message", key["token_id"], "x", code=3))["error"]
    assert error["code"] in ("not_permitted", "revoked")


async def test_a_delay_is_set_by_the_key_itself_and_what_is_announced_can_be_cancelled(
    world: EveryWay, tmp_path: Path
) -> None:
    home = new_folder(world, tmp_path / "home")
    key = await in_browser(home, "keys", "mint", "--login", "oidc", "--who", "npm", user="dora")
    token = key["token_id"]
    assert (await run(home, "methods", "delay", token, "3600"))["delay"] == 3600
    await run(home, "methods", "add", token, "--address", "0x" + "77" * 20, "--scope", "1")
    found = await run(home, "methods", "list", token)
    (pending,) = found["pending"]
    assert [one["type"] for one in found["methods"]] == [6] and pending["kind"] == "add_method"
    # Any method may cancel, whatever the session may otherwise do.
    small = new_folder(world, tmp_path / "small")
    await in_browser(small, "login", "oidc", "npm", "--scope", "4", user="dora")
    await run(small, "methods", "cancel", token, str(pending["change_id"]))
    assert (await run(home, "methods", "list", token))["pending"] == []


async def test_the_same_login_has_the_same_key_unless_it_asks_for_another(world: EveryWay, tmp_path: Path) -> None:
    home = new_folder(world, tmp_path / "home")
    first = await in_browser(home, "keys", "mint", "--login", "oidc", "--who", "npm", user="emil")
    again = await in_browser(home, "keys", "mint", "--login", "oidc", "--who", "npm", user="emil")
    other = await in_browser(
        home, "keys", "mint", "--login", "oidc", "--who", "npm", "--another", "savings", user="emil"
    )
    assert again["token_id"] == first["token_id"] != other["token_id"]


async def test_codes_by_sms_are_typed_and_a_wrong_one_is_asked_for_again(world: EveryWay, tmp_path: Path) -> None:
    home = new_folder(world, tmp_path / "home")
    login = await Command.start(home, "login", "sms", PHONE, "--scope", "2")
    session = await with_codes(world, "sms", login, wrong_first=True)
    assert [one["type"] for one in session["methods"]] == [21]
    assert re.search(r"[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}", login.said)


async def test_an_address_is_asked_for_and_stays_out_of_the_arguments(world: EveryWay, tmp_path: Path) -> None:
    home = new_folder(world, tmp_path / "home")
    login = await Command.start(home, "login", "email", "--scope", "0")
    await login.until(re.compile("E-mail address: "))
    await login.type(MAIL)
    assert (await with_codes(world, "email", login))["scopes"] == []


async def test_a_ledger_is_a_second_proof_for_a_session_and_sessions_end_everywhere(
    world: EveryWay, tmp_path: Path
) -> None:
    pytest.importorskip("ledgerblue.commTCP", reason="the extra keyquorum[ledger] is not installed")
    home = new_folder(world, tmp_path / "home")
    await in_browser(home, "login", "oidc", "npm", user="frieda")
    device = SoftwareLedger()
    with device.serve() as server:
        proxy = {"LEDGER_PROXY_ADDRESS": "127.0.0.1", "LEDGER_PROXY_PORT": str(server.port)}
        status, both = await (await Command.start(home, "login", "ledger", "--step-up", **proxy)).result()
    assert status == 0, both
    assert [one["type"] for one in both["methods"]] == [1, 6]
    assert both["methods"][0]["id"] == device.keys[FIRST_PATH].address.lower()

    listed = await run(home, "sessions", "list")
    assert [one["id"] for one in listed if one["current"]] == [both["id"]]
    saved = (home / "session.json").read_text()
    assert len((await run(home, "sessions", "revoke", "--all"))["transactions"]) == 2
    (home / "session.json").write_text(saved)
    error = (await run(home, "sessions", "list", code=3))["error"]
    assert "revoked" in error["code"]


async def test_a_provider_that_is_not_offered_is_answered_with_those_that_are(world: EveryWay, tmp_path: Path) -> None:
    home = new_folder(world, tmp_path / "home")
    error = (await run(home, "login", "google", code=2))["error"]
    assert error["code"] == "no_such_provider" and "npm, mock" in error["hint"]
