"""E-mail by SMTP submission (RFC 6409), with aiosmtplib: one connection a message, TLS, a password if there is one."""

from __future__ import annotations

import contextlib
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime, localtime, make_msgid, parseaddr

import aiosmtplib

from keyquorum.codes.config import EmailSection
from keyquorum.codes.drivers import Delivery, Message, ProviderDown, Undeliverable, reason_of
from keyquorum.codes.secrets_file import read_secret

SECONDS = 10.0
_TRANSIENT_FROM = 400
_PERMANENT_FROM = 500


class SmtpDriver:
    """One mail server."""

    def __init__(self, settings: EmailSection) -> None:
        """Read the password; raises `ValueError` when its file holds none."""
        self._settings = settings
        self._password = read_secret(settings.password_file) if settings.password_file else None

    @property
    def host(self) -> str:
        """The server, as errors name it."""
        return f"{self._settings.host}:{self._settings.port}"

    async def open(self) -> Delivery:
        """Connect, begin TLS and log in; raise `ProviderDown`."""
        settings = self._settings
        client = aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            username=settings.username or None,
            password=self._password,
            use_tls=settings.tls == "implicit",
            # None would mean "if the server offers it", which whoever is in between can prevent.
            start_tls=settings.tls == "starttls",
            cert_bundle=str(settings.ca_file) if settings.ca_file else None,
            timeout=SECONDS,
        )
        try:
            await client.connect()
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            client.close()
            raise ProviderDown(self.host, reason_of(error)) from None
        return _Mail(client, settings.sender, self.host)

    async def close(self) -> None:
        """Nothing stays open."""


class _Mail:
    """A connection that is ready for one message."""

    def __init__(self, client: aiosmtplib.SMTP, sender: str, host: str) -> None:
        self._client = client
        self._sender = sender
        self._host = host

    async def send(self, address: str, message: Message) -> None:
        """Send one mail; raise `Undeliverable` when it was refused for good, `ProviderDown` otherwise."""
        mail = compose(self._sender, address, message)
        try:
            await self._client.send_message(mail, sender=parseaddr(self._sender)[1], recipients=[address])
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise Undeliverable(",".join(str(one.code) for one in error.recipients)) from None
        except aiosmtplib.SMTPResponseException as error:
            if error.code >= _PERMANENT_FROM:
                raise Undeliverable(str(error.code)) from None
            raise ProviderDown(self._host, f"status {error.code}") from None
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise ProviderDown(self._host, reason_of(error)) from None

    async def close(self) -> None:
        """Say goodbye."""
        with contextlib.suppress(aiosmtplib.SMTPException, OSError):
            await self._client.quit()
        self._client.close()


def compose(sender: str, address: str, message: Message) -> EmailMessage:
    """Return the mail: plain text, marked as automatic (RFC 3834), so that no absence assistant answers it."""
    mail = EmailMessage(policy=SMTP_POLICY)
    mail["From"] = sender
    mail["To"] = address
    mail["Subject"] = message.subject
    mail["Date"] = format_datetime(localtime())
    mail["Message-ID"] = make_msgid(domain=parseaddr(sender)[1].rpartition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.text)
    return mail
