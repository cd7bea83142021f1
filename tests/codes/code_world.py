"""One person's login, a code service inside the test, and a mail server that really speaks SMTP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as email_policy
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP as SmtpServer

from keyquorum.algebra.rng import SeededRng
from keyquorum.auth import email_code, sms_code
from keyquorum.auth.code_assertion import make_answer
from keyquorum.auth.network import network_id
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import Statement
from keyquorum.codes import secrets_file
from keyquorum.codes.config import CodesConfig, EmailSection, LimitsSection, SmppSection, SmsSection
from keyquorum.codes.drivers import Message
from keyquorum.codes.ledger import Ledger
from keyquorum.codes.metrics import Metrics
from keyquorum.codes.service import CodeService, Line
from keyquorum.refusal import Invalid

NOW = 1_800_000_000
NETWORK = network_id(31337, bytes(range(20)))
MAIL = "ada@example.org"
NUMBER = "+4915123456789"
CODE = re.compile(r"\b([0-9]{4}) ([0-9]{4})\b")


def statement_for(key: SessionPrivateKey, now: int = NOW, **changes: Any) -> Statement:
    fields = {
        "network": NETWORK,
        "session": key.public,
        "keys": ("*",),
        "scopes": (2, 3),
        "expires": now + 3600,
        "nonce": "ab" * 16,
        "block": "0x" + "11" * 32,
        "uses": 100,
    }
    return Statement(**fields | changes)


def session(name: str) -> SessionPrivateKey:
    return SessionPrivateKey.generate(SeededRng(name))


def code_in(text: str) -> str:
    (found,) = CODE.findall(text)
    return "".join(found)


def other_code(code: str, step: int = 1) -> str:
    return f"{(int(code) + step) % 10 ** len(code):0{len(code)}}"


class Recorder:
    """A driver that keeps what it is given; `trouble` is raised by `open` or by `send`."""

    host = "recorder.test"

    def __init__(self) -> None:
        self.sent: list[tuple[str, Message]] = []
        self.opened = self.closed = 0
        self.open_trouble: Exception | None = None
        self.send_trouble: Exception | None = None

    async def open(self) -> Recorder:
        if self.open_trouble is not None:
            raise self.open_trouble
        self.opened += 1
        return self

    async def send(self, address: str, message: Message) -> None:
        if self.send_trouble is not None:
            raise self.send_trouble
        self.sent.append((address, message))

    async def close(self) -> None:
        self.closed += 1


@dataclass
class Desk:
    """A service with a recording driver and a clock that the test moves."""

    folder: Path
    limits: LimitsSection = field(default_factory=LimitsSection)
    issuer: str = "mail-a"
    now: int = NOW

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        key_file = self.folder / "issuer.key"
        keys = secrets_file.read(key_file) if key_file.exists() else secrets_file.create(key_file)
        self.mail, self.sms, self.metrics = Recorder(), Recorder(), Metrics()
        self.config = CodesConfig(
            network=NETWORK,
            id=self.issuer,
            name="Codes A",
            key_file=key_file,
            counters_file=self.folder / "counters.sqlite",
            email=EmailSection(host="127.0.0.1", sender="codes@example.org", tls="none"),
            sms=SmsSection(prefixes=["+49"], smpp=SmppSection("127.0.0.1", "x", key_file, "123", tls=False)),
            limits=self.limits,
        )
        self.lines = {
            "email": Line("email", self.mail, email_code.normalise),
            "sms": Line("sms", self.sms, sms_code.normalise, ("+49",)),
        }
        self.service = CodeService(
            self.config, keys, Ledger(self.config.counters_file), self.lines, self.metrics, lambda: self.now
        )

    async def ask(
        self, statement: Statement, address: str = MAIL, channel: str = "email", client: str = "198.51.100.1"
    ) -> dict[str, Any]:
        found = await self.service.request(channel, address, statement.to_json(), client)
        await self.settled()
        return found

    async def settled(self) -> None:
        """Wait until nothing is being sent."""
        while self.service._sending:
            await asyncio.gather(*self.service._sending)
            await asyncio.sleep(0)

    def last_code(self) -> str:
        return code_in(self.mail.sent[-1][1].text)

    async def give(self, key: SessionPrivateKey, name: str, code: str, signature: str | None = None) -> str:
        token = make_answer(key, self.issuer, name, code) if signature is None else signature
        return (await self.service.answer(name, code, token))["assertion"]

    def count(self, metric: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"keyquorum_codes_{metric}_total", labels) or 0.0


async def guess(desk: Desk, key: Any, name: str, code: str) -> str:
    try:
        await desk.give(key, name, code)
    except Invalid as error:
        return error.code
    return "accepted"


async def lock(desk: Desk) -> None:
    """Type ten wrong codes for Ada's address."""
    for round_ in range(2):
        key = session(f"lock {round_}")
        asked = await desk.ask(statement_for(key, expires=desk.now + 3600))
        for step in range(1, 6):
            await guess(desk, key, asked["id"], f"{step:08}")
    await desk.settled()


@pytest.fixture
async def make_desk(tmp_path: Path) -> AsyncIterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(folder: str = "a", **limits: int) -> Desk:
        limits = {"per_client_hour": 1_000_000} | limits
        made.append(Desk(tmp_path / folder, LimitsSection(**limits), issuer=f"mail-{folder}"))
        return made[-1]

    yield make
    for desk in made:
        await desk.service.close()


@pytest.fixture
def desk(make_desk: Callable[..., Desk]) -> Desk:
    return make_desk()


@pytest.fixture
def refused() -> Callable[..., Any]:
    """`with refused("code"): ...`: an Invalid with this code, and with everything a person needs."""

    class Refused:
        def __init__(self, code: str, status: int | None = None) -> None:
            self.code, self.status = code, status

        def __enter__(self) -> None:
            return None

        def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
            assert error is not None, f"nothing was refused, expected {self.code}"
            if not isinstance(error, Invalid):
                return False
            assert error.code == self.code, f"refused as {error}, expected {self.code}"
            assert error.message and error.hint and self.status in (None, error.status)
            return True

    return Refused


# ---- a mail server ----------------------------------------------------------------------------------------------


class Mailboxes:
    """What a real SMTP server received; `refuse` are addresses it knows not."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, EmailMessage]] = []
        self.refuse: set[str] = set()
        self.port = 0
        self._arrived = asyncio.Event()

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address in self.refuse:
            return "550 no such mailbox: " + address
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        mail = message_from_bytes(envelope.content, policy=email_policy)
        assert isinstance(mail, EmailMessage)
        self.mails += [(address, mail) for address in envelope.rcpt_tos]
        self._arrived.set()
        return "250 OK"

    async def wait_for(self, count: int) -> list[tuple[str, EmailMessage]]:
        async with asyncio.timeout(20):
            while len(self.mails) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.mails


@pytest.fixture
async def mailboxes() -> AsyncIterator[Mailboxes]:
    """A mail server without TLS and passwords, on this machine."""
    found = Mailboxes()
    async with smtp_server(found) as port:
        found.port = port
        yield found


class smtp_server:
    """`async with smtp_server(mailboxes, **options) as port`."""

    def __init__(self, mailboxes: Mailboxes, *, ssl: Any = None, **options: Any) -> None:
        self._make = lambda: SmtpServer(mailboxes, hostname="mail.test", **options)
        self._ssl = ssl

    async def __aenter__(self) -> int:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._make, "127.0.0.1", 0, ssl=self._ssl)
        return self._server.sockets[0].getsockname()[1]

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()
