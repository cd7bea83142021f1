"""The whole way: three code services as processes, real mail, codes typed, and a proof that a node accepts."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codes.code_world import MAIL, NETWORK, Mailboxes, code_in, other_code, session, statement_for
from keyquorum.auth.code_assertion import CodeSettings, fingerprint
from keyquorum.auth.email_code import METHOD as EMAIL
from keyquorum.auth.method import Context, prove
from keyquorum.client.codes import CodeRound, answer, request_codes
from keyquorum.client.errors import Misconfigured, Refused, Unavailable
from keyquorum.codes import folder
from keyquorum.refusal import Invalid

ADA, THIEF = session("ada"), session("thief")


class Process:
    """One code service: its folder, its process, where it listens, what nodes know of it."""

    def __init__(self, path: Path, name: str, mail_port: int) -> None:
        self.name = name
        self.config, keys = folder.create(
            path / name,
            network=NETWORK,
            issuer=name,
            name=f"Codes {name[-1]}",
            port=0,
            smtp=("127.0.0.1", mail_port, "none"),
            sender=f"Codes <codes@{name}.example>",
        )
        self.public_key = keys.public_key
        self.url = ""

    async def start(self) -> None:
        command = (sys.executable, "-m", "keyquorum.codes", "--config", self.config)
        self.log = (self.config.parent / "log").open("ab")
        self._process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=self.log)
        assert self._process.stdout is not None
        line = (await asyncio.wait_for(self._process.stdout.readline(), 30)).decode()
        assert line.startswith("code service on "), (self.config.parent / "log").read_text()
        self.url = line.removeprefix("code service on ").strip()

    async def stop(self) -> int:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        self.log.close()
        return await asyncio.wait_for(self._process.wait(), 30)


@pytest.fixture
async def services(mailboxes: Mailboxes, tmp_path: Path) -> AsyncIterator[list[Process]]:
    found = [Process(tmp_path, f"mail-{letter}", mailboxes.port) for letter in "abc"]
    await asyncio.gather(*(one.start() for one in found))
    yield found
    await asyncio.gather(*(one.stop() for one in found))


def now() -> int:
    return int(time.time())


def context_for(services: list[Process], required: int = 2) -> Context:
    raw = {"required": required, "issuers": [{"id": one.name, "public_key": one.public_key} for one in services]}
    settings = msgspec.convert(raw, CodeSettings)
    return Context(
        now=now(), block_time=now(), settings=settings, conceal=lambda number, name: bytes([number]) + name[:31]
    )


def codes_of(asked: CodeRound, mailboxes: Mailboxes) -> dict[str, str]:
    """What the person reads: the code of each service, in the mails that show this session."""
    shown = fingerprint(asked.statement.session)
    mails = {mail["From"].split("@")[1].removesuffix(".example>"): mail.get_content() for _, mail in mailboxes.mails}
    return {one.issuer: code_in(mails[one.issuer]) for one in asked.asked if shown in mails[one.issuer]}


async def test_two_of_three_services_mail_codes_and_a_node_believes_them(
    services: list[Process], mailboxes: Mailboxes
) -> None:
    statement = statement_for(ADA, now())
    asked = await request_codes([one.url for one in services], "email", "Ada@Example.org", statement, needed=2)
    assert [one.issuer for one in asked.asked] == ["mail-a", "mail-b"] and asked.failed == {}
    await mailboxes.wait_for(2)
    assert {address for address, _ in mailboxes.mails} == {MAIL}
    codes = codes_of(asked, mailboxes)
    proof = await answer(asked, ADA, {name: f"{code[:4]} {code[4:]}" for name, code in codes.items()})
    proven = await prove("email", proof, statement, context_for(services))
    assert proven.type == 20 and abs(proven.issued_at - now()) < 30
    with pytest.raises(Invalid) as caught:
        await EMAIL.verify(proof, statement, context_for(services, required=3))
    assert caught.value.code == "too_few_assertions"
    with pytest.raises(Invalid) as caught:
        await EMAIL.verify(proof, statement_for(THIEF, now()), context_for(services))
    assert caught.value.code == "wrong_challenge"
    logs = "".join((one.config.parent / "log").read_text() for one in services)
    assert '"outcome": "sent"' in logs
    assert not [secret for secret in (MAIL, "example.org", *codes.values()) if secret in logs]


async def test_a_service_that_is_gone_is_replaced_by_the_next(services: list[Process], mailboxes: Mailboxes) -> None:
    assert await services[0].stop() == 0
    asked = await request_codes([one.url for one in services], "email", MAIL, statement_for(ADA, now()), needed=2)
    assert [one.issuer for one in asked.asked] == ["mail-b", "mail-c"] and list(asked.failed) == [services[0].url]
    await mailboxes.wait_for(2)
    proof = await answer(asked, ADA, codes_of(asked, mailboxes))
    assert await EMAIL.verify(proof, asked.statement, context_for(services))
    with pytest.raises(Unavailable, match="too few code services"):
        await request_codes([one.url for one in services], "email", MAIL, statement_for(ADA, now()))


async def test_a_wrong_code_is_named_and_the_right_one_still_works(
    services: list[Process], mailboxes: Mailboxes
) -> None:
    asked = await request_codes([one.url for one in services[:2]], "email", MAIL, statement_for(ADA, now()))
    await mailboxes.wait_for(2)
    codes = codes_of(asked, mailboxes)
    with pytest.raises(Refused, match="mail-b: the code is not accepted") as caught:
        await answer(asked, ADA, codes | {"mail-b": other_code(codes["mail-b"])})
    assert caught.value.code == "code_refused"
    with pytest.raises(Refused, match="mail-a, mail-b"):
        await answer(asked, THIEF, codes)
    proof = await answer(asked, ADA, codes)
    assert await EMAIL.verify(proof, asked.statement, context_for(services))
    with pytest.raises(Misconfigured, match="no code"):
        await answer(asked, ADA, {})


async def test_wrong_codes_outlive_a_restart(services: list[Process], mailboxes: Mailboxes) -> None:
    one = services[0]
    for _ in range(2):
        asked = await request_codes([one.url], "email", MAIL, statement_for(ADA, now()))
        for step in range(5):
            with pytest.raises(Refused):
                await answer(asked, ADA, {one.name: f"{step:08}"})
    mails = await mailboxes.wait_for(3)
    assert [mail for _, mail in mails if "10 wrong codes" in mail.get_content()]
    await one.stop()
    await one.start()
    asked = await request_codes([one.url, services[1].url], "email", MAIL, statement_for(ADA, now()))
    mails = await mailboxes.wait_for(4)
    assert len(mails) == 4 and [mail for _, mail in mails if "mail-b" in mail["From"]]
    with pytest.raises(Refused, match="mail-a"):
        await answer(asked, ADA, {"mail-a": "12345678"})


async def test_a_mail_server_that_is_down_is_named_and_other_services_go_on(
    services: list[Process], mailboxes: Mailboxes, tmp_path: Path
) -> None:
    broken = Process(tmp_path, "mail-d", 1)
    await broken.start()
    try:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1, which sends this service's messages"):
            await request_codes([broken.url], "email", MAIL, statement_for(ADA, now()))
        asked = await request_codes([broken.url, services[0].url], "email", MAIL, statement_for(ADA, now()), needed=1)
        assert [one.issuer for one in asked.asked] == ["mail-a"]
    finally:
        await broken.stop()


async def test_a_client_sends_codes_only_where_nobody_listens() -> None:
    for url in ("http://codes.example", "ftp://127.0.0.1", "codes.example", "http://127.0.0.1.evil.example"):
        with pytest.raises(Misconfigured, match="https"):
            await request_codes([url], "email", MAIL, statement_for(ADA, now()))
    with pytest.raises(Misconfigured, match="needed"):
        await request_codes([], "email", MAIL, statement_for(ADA, now()))
    with pytest.raises(Invalid) as caught:
        await request_codes(["http://127.0.0.1:1"], "email", "nonsense", statement_for(ADA, now()))
    assert caught.value.code == "bad_mail_or_phone"


async def test_what_a_person_reads_says_what_is_granted(services: list[Process], mailboxes: Mailboxes) -> None:
    await request_codes([services[2].url], "email", MAIL, statement_for(ADA, now(), scopes=(6,), uses=3))
    ((_, mail),) = await mailboxes.wait_for(1)
    text: Any = mail.get_content()
    assert "CHANGE WHO MAY USE the keys" in text and "at most 3 signatures" in text
    assert fingerprint(ADA.public) in text and re.search(r"Never read this code to anyone", text)
    assert mail["Subject"] == "Codes c: a code for your Keyquorum login" and code_in(text) not in mail["Subject"]
