"""`keyquorum login passkey` at a terminal, with a real Chromium: the page proves what the person agreed to."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import Statement
from keyquorum.client.codes import fingerprint
from keyquorum.formats.text import to_base64url

FINGERPRINT = re.compile(r"\b[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}\b")


@pytest.fixture
def folder(world: Any, tmp_path: Path) -> Path:
    """A folder with nothing but the way to the network: no account, no ether."""
    (tmp_path / "network.json").write_text(json.dumps(world.server.gateway.network_file() | {"gateway": world.url}))
    return tmp_path


class Command:
    """A `keyquorum` command that waits for a browser; `url` is the address it printed, `shown` the fingerprint."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said = ""

    @classmethod
    async def start(cls, folder: Path, *arguments: str) -> Command:
        command = [sys.executable, "-m", "keyquorum.cli.main", *arguments, "--json", "--dir", str(folder)]
        pipe = asyncio.subprocess.PIPE
        return cls(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe))

    async def url(self) -> str:
        assert self._process.stderr is not None
        async with asyncio.timeout(30):
            while not self.said.endswith("\n") or "http" not in self.said:
                line = await self._process.stderr.readline()
                assert line, self.said + str(await self.result())
                self.said += line.decode()
        return self.said.split()[-1]

    @property
    def shown(self) -> str:
        return FINGERPRINT.findall(self.said)[0]

    async def result(self) -> tuple[int | None, Any]:
        async with asyncio.timeout(60):
            output, _ = await self._process.communicate()
        return self._process.returncode, json.loads(output)


async def run(folder: Path, *arguments: str) -> Any:
    code, found = await (await Command.start(folder, *arguments)).result()
    assert code == 0, found
    return found


async def visit(device: Any, url: str) -> str:
    """Open an address afresh and return what the page asks, or says."""
    await device.page.goto("about:blank")
    await device.page.goto(url)
    await device.page.wait_for_function("() => document.getElementById('ask').open || document.querySelector('.error')")
    asked = await device.page.evaluate("() => document.getElementById('ask').open")
    return str(await device.page.text_content("#ask-text" if asked else "#status"))


async def agree(device: Any, name: str = "") -> str:
    """Press the button of the dialog; return what the terminal's own page says."""
    await device.page.fill("#ask-fields input", name)
    await device.page.click("#ask-ok")
    await device.page.wait_for_url("http://127.0.0.1:*/callback")
    await device.page.wait_for_function("() => !document.body.textContent.includes('One moment')")
    return str(await device.page.text_content("body"))


async def test_a_new_passkey_makes_a_key_and_logs_in_again_at_a_terminal(
    world: Any, new_device: Any, folder: Path
) -> None:
    device = await new_device()
    minting = await Command.start(folder, "keys", "mint", "--login", "passkey", "--no-browser")
    asked = await visit(device, await minting.url())
    assert minting.shown in asked and "CHANGE WHO MAY USE" in asked and "1000 signatures" in asked
    assert "You can close this window" in await agree(device, "from a terminal")
    code, minted = await minting.result()
    assert code == 0, minted
    shown = await run(folder, "keys", "show", minted["token_id"])
    assert shown["owner"] == shown["address"] == minted["address"]

    # The same passkey, later, on a machine that knows nothing.
    (folder / "session.json").unlink()
    login = await Command.start(folder, "login", "passkey", "--scope", "2", "--hours", "0.5", "--no-browser")
    asked = await visit(device, await login.url())
    assert login.shown in asked and "sign personal messages, with EVERY key" in asked and "30 minutes" in asked
    await agree(device)
    code, session = await login.result()
    assert (code, session["scopes"]) == (0, [2]) and session["methods"][0]["type"] == 3
    signed = await run(folder, "sign", "message", minted["token_id"], "by passkey")
    compact = signed["signature"]["compact"]
    assert Account.recover_message(encode_defunct(text="by passkey"), signature=compact) == minted["address"]
    assert not device.problems


async def test_a_person_who_does_not_agree_is_not_logged_in(new_device: Any, folder: Path) -> None:
    device = await new_device()
    login = await Command.start(folder, "login", "passkey", "--no-browser")
    await visit(device, await login.url())
    await device.page.get_by_text("Cancel", exact=True).click()
    code, found = await login.result()
    assert (code, found["error"]["code"]) == (3, "login_denied")
    assert not (folder / "session.json").exists()


def question(world: Any, back: str, **changes: Any) -> str:
    """What a malicious page could open: the gateway's page with a statement of its own session key."""
    network = world.server.gateway.network_file()["network"]
    thief = SessionPrivateKey.generate()
    statement = Statement(network, thief.public, ("*",), (1, 5), 2**33, "ab" * 16, "0x" + "11" * 32).to_json()
    said = to_base64url(json.dumps(statement | changes).encode())
    return f"{world.url}/#terminal={quote(back, safe='')}&state=x&statement={said}"


@pytest.mark.parametrize(
    "back",
    [
        "https://evil.example/callback",
        "http://127.0.0.1.evil.example:80/callback",
        "http://127.0.0.1:80@evil.example/callback",
        "http://127.0.0.1:80/callback?x",
        "http://127.0.0.1:80/other",
        "http://localhost:80/callback",
        "javascript:alert(1)",
        "",
    ],
)
async def test_the_page_hands_logins_to_programs_on_this_computer_only(world: Any, new_device: Any, back: str) -> None:
    device = await new_device()
    assert "only to a program on this computer" in await visit(device, question(world, back))
    assert device.page.url.startswith(world.url) and "terminal" not in device.page.url


async def test_what_a_foreign_page_asks_for_is_shown_before_a_passkey_is_touched(world: Any, new_device: Any) -> None:
    device = await new_device()
    asked = await visit(device, question(world, "http://127.0.0.1:9/callback"))
    assert "RAW DIGESTS" in asked and "just started the program yourself" in asked
    assert FINGERPRINT.search(asked)
    assert not await device.credentials()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network": "eip155:1:0x0000000000000000000000000000000000000000"}, "another network"),
        ({"scopes": [1, 9]}, "rights that do not exist"),
        ({"scopes": ["toString"]}, "rights that do not exist"),
        ({"expires": 5}, "expired"),
    ],
)
async def test_a_question_that_cannot_be_shown_truly_is_refused(
    world: Any, new_device: Any, changes: dict[str, Any], said: str
) -> None:
    device = await new_device()
    assert said in await visit(device, question(world, "http://127.0.0.1:9/callback", **changes))


def test_the_terminal_and_the_page_show_the_same_fingerprint() -> None:
    assert FINGERPRINT.fullmatch(fingerprint(SessionPrivateKey.generate().public))
