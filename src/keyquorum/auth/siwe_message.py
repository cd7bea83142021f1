"""The text of Sign-In with Ethereum (EIP-4361), read and written strictly.

`parse` accepts the ABNF of the EIP and nothing else: LF line ends only, fields in their order, ASCII, addresses with
their EIP-55 checksum. Where the grammar leaves room that has been used to fool people or parsers it is narrower: the
domain is not empty, a chain id has no leading zeros, times are upper-case RFC 3339 without leap seconds, the text is
at most 8 KiB. `format` writes what `parse` reads: `parse(text).format() == text` for every text that is accepted.
Judging the fields is not done here.
"""

from __future__ import annotations

import re
from calendar import timegm
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from keyquorum.evm.address import from_checksum, to_checksum
from keyquorum.refusal import Invalid, malformed

MAX_CHARACTERS = 8192
_Text = TypeVar("_Text", str, str | None)

# RFC 3986, by the names of its grammar. Every class is spelt out, so nothing beyond ASCII passes anywhere.
_UNRESERVED = r"A-Za-z0-9\-._~"
_SUB_DELIMS = r"!$&'()*+,;="
_PCT = r"%[0-9A-Fa-f]{2}"
_PCHAR = rf"(?:[{_UNRESERVED}{_SUB_DELIMS}:@]|{_PCT})"
_SCHEME = r"[A-Za-z][A-Za-z0-9+\-.]*"
_H16 = r"[0-9A-Fa-f]{1,4}"
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LS32 = rf"(?:{_H16}:{_H16}|{_OCTET}(?:\.{_OCTET}){{3}})"
_IPV6 = "|".join(
    [
        rf"(?:{_H16}:){{6}}{_LS32}",
        rf"::(?:{_H16}:){{5}}{_LS32}",
        rf"(?:{_H16})?::(?:{_H16}:){{4}}{_LS32}",
        rf"(?:(?:{_H16}:){{0,1}}{_H16})?::(?:{_H16}:){{3}}{_LS32}",
        rf"(?:(?:{_H16}:){{0,2}}{_H16})?::(?:{_H16}:){{2}}{_LS32}",
        rf"(?:(?:{_H16}:){{0,3}}{_H16})?::{_H16}:{_LS32}",
        rf"(?:(?:{_H16}:){{0,4}}{_H16})?::{_LS32}",
        rf"(?:(?:{_H16}:){{0,5}}{_H16})?::{_H16}",
        rf"(?:(?:{_H16}:){{0,6}}{_H16})?::",
    ]
)
_IP_FUTURE = rf"[vV][0-9A-Fa-f]+\.[{_UNRESERVED}{_SUB_DELIMS}:]+"
_REG_NAME = rf"(?:[{_UNRESERVED}{_SUB_DELIMS}]|{_PCT})"
_USERINFO = rf"(?:[{_UNRESERVED}{_SUB_DELIMS}:]|{_PCT})*"
_IP_LITERAL = rf"\[(?:{_IPV6}|{_IP_FUTURE})\]"


def _authority(reg_name: str) -> str:
    return rf"(?:{_USERINFO}@)?(?:{_IP_LITERAL}|{reg_name})(?::[0-9]*)?"


_FIRST_WORDS = " wants you to sign in with your Ethereum account:"
_FIRST = re.compile(rf"(?:({_SCHEME})://)?({_authority(f'{_REG_NAME}+')}){_FIRST_WORDS}")
_URI = re.compile(
    rf"{_SCHEME}:(?://{_authority(f'{_REG_NAME}*')}(?:/{_PCHAR}*)*|/(?:{_PCHAR}+(?:/{_PCHAR}*)*)?|{_PCHAR}+(?:/{_PCHAR}*)*|)"
    rf"(?:\?(?:{_PCHAR}|[/?])*)?(?:\#(?:{_PCHAR}|[/?])*)?"
)
_STATEMENT = re.compile(rf"[{_UNRESERVED}{_SUB_DELIMS}:/?#\[\]@ ]*")
_REQUEST_ID = re.compile(f"{_PCHAR}*")
_NONCE = re.compile("[A-Za-z0-9]{8,}")
_CHAIN_ID = re.compile("[0-9]{1,78}")
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]{1,9})?(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)


@dataclass(frozen=True, slots=True)
class SiweMessage:
    """The fields of one message, as text except `address` (20 bytes) and `chain_id`; None where a field is absent."""

    domain: str
    address: bytes
    uri: str
    chain_id: int
    nonce: str
    issued_at: str
    scheme: str | None = None
    statement: str | None = None
    expiration_time: str | None = None
    not_before: str | None = None
    request_id: str | None = None
    resources: tuple[str, ...] | None = None

    def format(self) -> str:
        """Return the text that a wallet signs."""
        scheme = "" if self.scheme is None else f"{self.scheme}://"
        lines = [f"{scheme}{self.domain}{_FIRST_WORDS}", to_checksum(self.address), ""]
        lines += [] if self.statement is None else [self.statement]
        lines += ["", f"URI: {self.uri}", "Version: 1", f"Chain ID: {self.chain_id}", f"Nonce: {self.nonce}"]
        lines += [f"Issued At: {self.issued_at}"]
        for name, value in (
            ("Expiration Time", self.expiration_time),
            ("Not Before", self.not_before),
            ("Request ID", self.request_id),
        ):
            lines += [] if value is None else [f"{name}: {value}"]
        if self.resources is not None:
            lines += ["Resources:", *(f"- {resource}" for resource in self.resources)]
        return "\n".join(lines)


def parse(text: str) -> SiweMessage:
    """Read a message by the ABNF of EIP-4361; raise `Invalid` at the first line that does not follow it."""
    if len(text) > MAX_CHARACTERS:
        raise malformed("bad_siwe", f"the message is longer than {MAX_CHARACTERS} characters")
    lines = _Lines(text.split("\n"))
    first = _FIRST.fullmatch(lines.next("the first line"))
    if first is None:
        raise _bad("the first line is not '[scheme://]domain' and the words of the standard")
    address = from_checksum(lines.next("the address"), "the message's address")
    lines.empty()
    statement = lines.statement()
    uri = _match(_URI, lines.field("URI"), "URI")
    if lines.field("Version") != "1":
        raise _bad("the version is not 1")
    chain_id = _number(lines.field("Chain ID"))
    nonce = _match(_NONCE, lines.field("Nonce"), "Nonce")
    message = SiweMessage(
        scheme=first[1],
        domain=first[2],
        address=address,
        statement=statement,
        uri=uri,
        chain_id=chain_id,
        nonce=nonce,
        issued_at=_time(lines.field("Issued At"), "Issued At"),
        expiration_time=_time(lines.optional("Expiration Time"), "Expiration Time"),
        not_before=_time(lines.optional("Not Before"), "Not Before"),
        request_id=_match(_REQUEST_ID, lines.optional("Request ID"), "Request ID"),
        resources=lines.resources(),
    )
    lines.end()
    return message


def to_time(seconds: int) -> str:
    """Return Unix seconds as RFC 3339 text in UTC, ending in Z."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_time(text: str, what: str = "the time") -> tuple[int, bool]:
    """Return the Unix seconds of a strict RFC 3339 time, rounded down, and whether it was a whole second."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise _bad(f"{what} is not an RFC 3339 time")
    *numbers, fraction, sign, hours, minutes = match.groups()
    try:
        moment = datetime(*map(int, numbers))  # type: ignore[arg-type]
    except ValueError as error:
        raise _bad(f"{what} does not exist in the calendar") from error
    offset = 0
    if sign:
        if int(hours) > 23 or int(minutes) > 59:
            raise _bad(f"{what} has an offset that does not exist")
        offset = int(timedelta(hours=int(hours), minutes=int(minutes)).total_seconds()) * (-1 if sign == "-" else 1)
    return timegm(moment.timetuple()) - offset, not (fraction or "").strip(".0")


class _Lines:
    """The lines of a message with a cursor."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._next = 0

    def next(self, what: str) -> str:
        if self._next == len(self._lines):
            raise _bad(f"the message ends before {what}")
        self._next += 1
        return self._lines[self._next - 1]

    def empty(self) -> None:
        if self.next("an empty line"):
            raise _bad(f"line {self._next} must be empty")

    def statement(self) -> str | None:
        """Read `[ statement LF ] LF`: what follows the empty line tells an empty statement from an absent one."""
        line = self.next("the statement")
        if not line and self._peek().startswith("URI: "):
            return None
        if not _STATEMENT.fullmatch(line):
            raise _bad("the statement has a character that the standard excludes")
        self.empty()
        return line

    def field(self, name: str) -> str:
        line = self.next(name)
        if not line.startswith(f"{name}: "):
            raise _bad(f"line {self._next} must start with '{name}: '")
        return line[len(name) + 2 :]

    def optional(self, name: str) -> str | None:
        return self.field(name) if self._peek().startswith(f"{name}: ") else None

    def resources(self) -> tuple[str, ...] | None:
        if self._peek() != "Resources:":
            return None
        self.next("Resources:")
        found = []
        while self._peek().startswith("- "):
            found.append(_match(_URI, self.next("a resource")[2:], "a resource"))
        return tuple(found)

    def end(self) -> None:
        if self._next != len(self._lines):
            raise _bad(f"line {self._next + 1} is unknown, repeated or out of order")

    def _peek(self) -> str:
        return self._lines[self._next] if self._next < len(self._lines) else ""


def _number(text: str) -> int:
    if not _CHAIN_ID.fullmatch(text) or (text[0] == "0" and text != "0"):
        raise _bad("the chain id is not a number")
    return int(text)


def _time(text: _Text, what: str) -> _Text:
    if text is not None:
        from_time(text, what)
    return text


def _match(pattern: re.Pattern[str], text: _Text, what: str) -> _Text:
    if text is not None and not pattern.fullmatch(text):
        raise _bad(f"the value of {what} has not the form of the standard")
    return text


def _bad(why: str) -> Invalid:
    return malformed("bad_siwe", why, "build the message with this project's client, or follow EIP-4361 exactly")
