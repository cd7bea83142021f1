"""Sending by SMTP to a server that really speaks it: TLS, passwords, refusals, and nothing in the clear."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from codes.code_world import MAIL, Mailboxes, smtp_server
from keyquorum.codes.config import EmailSection
from keyquorum.codes.drivers import Message, ProviderDown, Undeliverable
from keyquorum.codes.smtp import SmtpDriver

MESSAGE = Message("Codes: a code", "Your code:\n\n    1234 5678\n\n.\nend\n")


def settings(port: int, **changes: Any) -> EmailSection:
    return EmailSection(
        **{"host": "127.0.0.1", "port": port, "sender": "Codes A <codes@example.org>", "tls": "none"} | changes
    )


async def send(section: EmailSection, address: str = MAIL) -> None:
    delivery = await SmtpDriver(section).open()
    try:
        await delivery.send(address, MESSAGE)
    finally:
        await delivery.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a self-signed certificate for this machine, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(1))
        .not_valid_after(now + datetime.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def only_codes(server: Any, session: Any, envelope: Any, mechanism: str, data: LoginPassword) -> AuthResult:
    right = (data.login, data.password) == (b"codes", b"a long password")
    return AuthResult(success=right, handled=right)


async def test_a_mail_arrives_as_plain_text_marked_as_automatic(mailboxes: Mailboxes) -> None:
    await send(settings(mailboxes.port))
    ((address, mail),) = mailboxes.mails
    assert address == MAIL == mail["To"] and mail["From"] == "Codes A <codes@example.org>"
    assert mail["Subject"] == "Codes: a code" and mail["Auto-Submitted"] == "auto-generated"
    assert mail["Message-ID"].endswith("@example.org>") and mail["Date"]
    assert mail.get_content_type() == "text/plain"
    assert mail.get_content().replace("\r\n", "\n") == MESSAGE.text


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_tls_and_a_password_from_a_file(tls: str, certificate: Path, tmp_path: Path) -> None:
    password = tmp_path / "smtp.password"
    password.write_text("a long password\n")
    boxes, context = Mailboxes(), server_context(certificate)
    at_once = {"ssl": context} if tls == "implicit" else {"tls_context": context, "require_starttls": True}
    options = at_once | {"authenticator": only_codes, "auth_required": True}
    # The server counts only STARTTLS as TLS; with TLS from the first byte it must be told that passwords are fine.
    options |= {"auth_require_tls": tls == "starttls"}
    async with smtp_server(boxes, **options) as port:
        section = settings(port, tls=tls, username="codes", password_file=password, ca_file=certificate)
        await send(section)
        assert len(boxes.mails) == 1
        password.write_text("another password\n")
        with pytest.raises(ProviderDown, match="SMTPAuthenticationError"):
            await SmtpDriver(section).open()
        with pytest.raises(ProviderDown):  # a certificate that nobody vouches for
            await SmtpDriver(settings(port, tls=tls)).open()


async def test_a_server_that_offers_no_tls_gets_nothing(mailboxes: Mailboxes) -> None:
    with pytest.raises(ProviderDown, match=f"127.0.0.1:{mailboxes.port}"):
        await SmtpDriver(settings(mailboxes.port, tls="starttls")).open()
    assert mailboxes.mails == []


async def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(ProviderDown, match=r"127\.0\.0\.1:1: SMTP") as caught:
        await SmtpDriver(settings(1)).open()
    assert caught.value.host == "127.0.0.1:1"


async def test_a_mailbox_that_does_not_exist_is_told_by_number_only(mailboxes: Mailboxes) -> None:
    mailboxes.refuse.add(MAIL)
    with pytest.raises(Undeliverable) as caught:
        await send(settings(mailboxes.port))
    assert str(caught.value) == "550" and caught.value.__cause__ is None


@pytest.mark.parametrize(("reply", "error"), [("451 later", ProviderDown), ("554 spam", Undeliverable)])
async def test_a_refusal_of_the_mail_itself_is_for_now_or_for_good(reply: str, error: type[Exception]) -> None:
    class Refusing(Mailboxes):
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            return reply

    async with smtp_server(Refusing()) as port:
        with pytest.raises(error):
            await send(settings(port))


async def test_a_server_that_hangs_up_in_between_is_down() -> None:
    class HangingUp(Mailboxes):
        async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
            server.transport.abort()
            return "250 OK"

    async with smtp_server(HangingUp()) as port:
        with pytest.raises(ProviderDown):
            await send(settings(port))


async def test_a_password_file_must_hold_one(tmp_path: Path) -> None:
    for content in ("", "\n", "a\x00b"):
        (tmp_path / "p").write_text(content)
        with pytest.raises(ValueError, match="holds no password"):
            SmtpDriver(settings(25, username="codes", password_file=tmp_path / "p"))


async def test_the_service_mails_a_code_and_tells_nobody_of_an_unknown_mailbox(
    make_desk: Callable[..., Any], mailboxes: Mailboxes
) -> None:
    from codes.code_world import code_in, session, statement_for
    from keyquorum.auth import email_code
    from keyquorum.codes.service import Line

    desk = make_desk()
    desk.lines["email"] = Line("email", SmtpDriver(settings(mailboxes.port)), email_code.normalise)
    mailboxes.refuse.add("nobody@example.org")
    known, unknown = [await desk.ask(statement_for(session("ada")), address=a) for a in (MAIL, "nobody@example.org")]
    assert set(known) == set(unknown) and known["expires"] == unknown["expires"]
    assert desk.count("messages", channel="email", outcome="undeliverable") == 1
    assert await desk.give(session("ada"), known["id"], code_in(mailboxes.mails[0][1].get_content()))
