"""The settings of a code service: one TOML file, read strictly; no secret stands in it.

Paths are relative to the folder of the file. Codes never travel in the clear: a provider or a caller that is not on
this machine is spoken to over TLS, by the service itself or by its trusted proxy, and a file that says otherwise is
refused. A provider without TLS is reached through the local end of a tunnel.
"""

from __future__ import annotations

import ipaddress
import re
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from keyquorum.auth.code_assertion import ISSUER_ID
from keyquorum.auth.email_code import normalise as normalise_mail
from keyquorum.auth.network import chain_id_of
from keyquorum.codes.drivers import is_loopback
from keyquorum.serving import settings
from keyquorum.serving.settings import Section

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
# Names and senders go into messages as they are: only what both an SMS and a header can hold.
Words = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 .-]{0,39}\Z")]
_PREFIX = re.compile(r"\+[0-9]{0,14}")


class EmailSection(Section, frozen=True):
    """Sending by SMTP."""

    host: str
    sender: str
    port: Port = 587
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    username: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        _check_plain("email.tls", self.tls != "none", self.host)
        name, address = parseaddr(self.sender)
        if normalise_mail(address) != address or not re.fullmatch(r"[A-Za-z0-9 .-]*", name):
            raise ValueError("email.sender is not `Name <address@example.org>` in plain letters")
        if bool(self.username) != (self.password_file is not None):
            raise ValueError("email.username and email.password_file come together")


class HttpSmsSection(Section, frozen=True):
    """Sending SMS by an HTTP API of Twilio's shape."""

    account: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
    token_file: Path
    sender: Annotated[str, msgspec.Meta(pattern=r"^(\+[0-9]{7,15}|[0-9]{3,8}|[A-Za-z0-9 ]{1,11})\Z")]
    base_url: str = "https://api.twilio.com"

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if (
            parts.scheme not in ("https", "http")
            or not parts.hostname
            or parts.query
            or parts.fragment
            or parts.username
        ):
            raise ValueError("sms.http.base_url is no https URL")
        _check_plain("sms.http.base_url", parts.scheme == "https", parts.hostname)


class SmppSection(Section, frozen=True):
    """Sending SMS to a message centre by SMPP 3.4."""

    host: str
    system_id: Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,15}\Z")]
    password_file: Path
    sender: Annotated[str, msgspec.Meta(pattern=r"^(\+[0-9]{7,15}|[0-9]{3,8}|[A-Za-z0-9 ]{1,11})\Z")]
    port: Port = 3550
    tls: bool = True
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        _check_plain("sms.smpp.tls", self.tls, self.host)


class SmsSection(Section, frozen=True):
    """Sending by SMS: exactly one of the two ways. `prefixes` says to which countries, since each message costs."""

    prefixes: Annotated[list[str], msgspec.Meta(min_length=1, max_length=300)]
    http: HttpSmsSection | None = None
    smpp: SmppSection | None = None

    def __post_init__(self) -> None:
        if (self.http is None) == (self.smpp is None):
            raise ValueError("[sms] needs exactly one of [sms.http] and [sms.smpp]")
        if not all(map(_PREFIX.fullmatch, self.prefixes)):
            raise ValueError('sms.prefixes are the beginnings of numbers, such as "+49"; "+" is every country')


class LimitsSection(Section, frozen=True):
    """What one address, one client, and everybody together may cost. Spans slide; they are not calendar days."""

    per_address_hour: Count = 5
    per_address_day: Count = 15
    failures_per_day: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    per_client_hour: Count = 20
    per_range_day: Count = 30
    per_day: Count = 5000
    requests_per_second: Count = 20
    connections: Count = 512
    connections_per_address: Count = 64
    open_challenges: Count = 10_000
    sending: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 64


class CodesConfig(Section, frozen=True):
    """Every setting of a code service; `load` is the only way in."""

    network: str
    id: str
    name: Words
    key_file: Path
    counters_file: Path
    host: str = "127.0.0.1"
    port: Port = 7490
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: list[str] = []
    pages: list[str] = []
    digits: Annotated[int, msgspec.Meta(ge=6, le=10)] = 8
    email: EmailSection | None = None
    sms: SmsSection | None = None
    limits: LimitsSection = LimitsSection()

    def __post_init__(self) -> None:
        chain_id_of(self.network)
        if not ISSUER_ID.fullmatch(self.id):
            raise ValueError("id has 1 to 64 lower-case letters, digits, dots and dashes")
        if self.email is None and self.sms is None:
            raise ValueError("a code service needs a section [email] or [sms]")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key come together")
        for proxy in self.trusted_proxies:
            ipaddress.ip_network(proxy)
        if self.tls_cert is None and not self.trusted_proxies:
            _check_plain("host", False, self.host)


def _check_plain(setting: str, has_tls: bool, host: str) -> None:
    if not has_tls and not is_loopback(host):
        raise ValueError(f"{setting}: codes go to another machine over TLS only; use a tunnel or proxy on this one")


def load(path: Path) -> CodesConfig:
    """Return the settings in `path`, paths made absolute; raise `ConfigError` that names the file and the fault."""
    folder = path.resolve().parent

    def decode(kind: type, value: Any) -> Any:
        if kind is Path and isinstance(value, str) and value:
            return folder / Path(value).expanduser()
        raise ValueError(f"expected a path, got {type(value).__name__}")

    raw = settings.read(path)
    with settings.checking(path):
        return msgspec.convert(raw, CodesConfig, dec_hook=decode)
