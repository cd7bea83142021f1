"""Logins by e-mail and SMS, for clients: ask several code services for codes, return what was typed, get the proof.

Each service sends a code of its own. `request_codes` asks them, as many as are needed, the next one in place of one
that does not answer; the person then types each code next to the name of the service that sent it, and `answer` makes
the proof for method `email` or `sms`. Show `fingerprint(statement.session)` beside the fields: messages show it too,
and a code that came with another one belongs to somebody else's login.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

import msgspec

from keyquorum.auth import email_code, sms_code
from keyquorum.auth.code_assertion import (
    ISSUER_ID,
    Channel,
    fingerprint,
    make_answer,
    read_assertion,
)
from keyquorum.auth.provider import host_of, origin
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import Statement
from keyquorum.client.errors import BadAnswer, Misconfigured, Refused, Unavailable
from keyquorum.client.transport import NodeDown, NodeError, NodeGarbage, NodeRefused, Transport, encode
from keyquorum.refusal import Invalid

__all__ = ["AskedCode", "CodeRound", "answer", "fingerprint", "hosts_of", "request_codes"]

SECONDS = 20.0
_NORMALISE = {"email": email_code.normalise, "sms": sms_code.normalise}


class _Sent(msgspec.Struct):
    id: str
    issuer: str
    expires: int
    digits: int


class _Asserted(msgspec.Struct):
    assertion: str


@dataclass(frozen=True, slots=True)
class AskedCode:
    """A code under way: from which service (`issuer`, at `url`), how many digits, until when (Unix seconds)."""

    url: str
    issuer: str
    id: str
    digits: int
    expires: int


@dataclass(frozen=True)
class CodeRound:
    """The codes that were asked for one login, and why services were passed over, by URL."""

    channel: Channel
    address: str
    statement: Statement = field(repr=False)
    asked: tuple[AskedCode, ...]
    failed: Mapping[str, str]


async def request_codes(
    urls: Sequence[str],
    channel: Channel,
    address: str,
    statement: Statement,
    *,
    needed: int | None = None,
    seconds: float = SECONDS,
) -> CodeRound:
    """Ask `needed` of the code services at `urls` (all when None) to send a code to `address`.

    The first `needed` are asked at once, each that fails is replaced by the next in the list. Raises `Invalid` when
    the address is none, `Refused` when a service refuses the login itself, `Unavailable` when too few can send.
    """
    address = _NORMALISE[channel](address)
    needed = len(urls) if needed is None else needed
    if not 1 <= needed <= len(urls):
        raise Misconfigured(
            "too_few_services",
            f"{needed} code services are needed and {len(urls)} are known",
            "tell the gateway's operator, or log in another way",
        )
    for url in urls:
        _check_url(url)
    body = encode({"channel": channel, "address": address, "statement": statement.to_json()})
    waiting, asked, failed = list(urls), dict[str, AskedCode](), dict[str, NodeError]()
    async with Transport() as transport:
        while waiting and len(asked) < needed:
            now, waiting = waiting[: needed - len(asked)], waiting[needed - len(asked) :]
            answers = await asyncio.gather(*(_ask(transport, url, body, seconds) for url in now))
            for url, found in zip(now, answers, strict=True):
                if isinstance(found, NodeError):
                    failed[url] = found
                elif found.issuer not in (one.issuer for one in asked.values()):
                    asked[url] = found
    if len(asked) < needed:
        raise _why_not(needed, len(asked), failed)
    reasons = {url: str(error) for url, error in failed.items()}
    return CodeRound(channel, address, statement, tuple(asked.values()), reasons)


async def answer(
    asked: CodeRound, session: SessionPrivateKey, codes: Mapping[str, str], *, seconds: float = SECONDS
) -> dict[str, object]:
    """Return the proof: `codes` holds what the person typed, by issuer; blanks and dashes in it do not matter.

    Raises `Refused` (code `code_refused`) naming the services that did not accept theirs; the others keep their answer,
    so asking again with all codes is right.
    """
    given = {one: codes[one.issuer] for one in asked.asked if one.issuer in codes}
    if not given:
        raise Misconfigured("no_code", "no code was typed", "type the codes next to the services' names")
    async with Transport() as transport:
        answers = await asyncio.gather(
            *(_answer(transport, asked, one, session, code, seconds) for one, code in given.items())
        )
    errors = [(one, found) for one, found in zip(given, answers, strict=True) if isinstance(found, NodeError)]
    for one, error in errors:
        if isinstance(error, NodeRefused):
            names = ", ".join(sorted(other.issuer for other, what in errors if isinstance(what, NodeRefused)))
            raise Refused(error.code, f"{names}: {error.message}", error.hint or None, status=error.status)
        if isinstance(error, NodeGarbage):
            raise BadAnswer("bad_answer", f"{one.issuer} {error.message}")
        raise Unavailable("unavailable", f"{one.issuer}: {error}", needed=len(given), live=len(given) - len(errors))
    return {"address": asked.address, "assertions": [found for found in answers if isinstance(found, str)]}


async def _ask(transport: Transport, url: str, body: bytes, seconds: float) -> AskedCode | NodeError:
    try:
        async with asyncio.timeout(seconds):
            sent = await transport.post(f"{url.rstrip('/')}/v1/codes", body, _Sent)
    except NodeError as error:
        return error
    except TimeoutError:
        return NodeDown("", "did not answer in time")
    if not ISSUER_ID.fullmatch(sent.issuer):
        return NodeGarbage("", "has a name that no service has")
    return AskedCode(url.rstrip("/"), sent.issuer, sent.id, sent.digits, sent.expires)


async def _answer(
    transport: Transport, asked: CodeRound, one: AskedCode, session: SessionPrivateKey, code: str, seconds: float
) -> str | NodeError:
    digits = code.replace(" ", "").replace("-", "")
    body = encode({"code": digits, "session_signature": make_answer(session, one.issuer, one.id, digits)})
    try:
        async with asyncio.timeout(seconds):
            found = await transport.post(f"{one.url}/v1/codes/{quote(one.id, safe='')}/answer", body, _Asserted)
    except NodeError as error:
        return error
    except TimeoutError:
        return NodeDown("", "did not answer in time")
    return found.assertion if _is_for(found.assertion, asked, one) else NodeGarbage("", "signed something else")


def _is_for(token: str, asked: CodeRound, one: AskedCode) -> bool:
    try:
        said, _ = read_assertion(token)
    except Invalid:
        return False
    expected = (one.issuer, asked.channel, asked.address, asked.statement.challenge)
    return (said.issuer, said.channel, said.address, said.challenge) == expected


def _why_not(needed: int, live: int, failed: Mapping[str, NodeError]) -> Refused | Unavailable:
    for error in failed.values():
        if isinstance(error, NodeRefused):
            return Refused(error.code, error.message, error.hint or None, status=error.status)
    reasons = "; ".join(f"{url}: {error}" for url, error in failed.items()) or "services share a name"
    return Unavailable("too_few_services", f"too few code services can send: {reasons}", needed=needed, live=live)


def _check_url(url: str) -> None:
    try:
        origin(url)
    except ValueError:
        raise Misconfigured(
            "bad_service_url",
            "a code service is reached over https (http on this machine)",
            "the gateway's login configuration names it: tell its operator",
        ) from None


def hosts_of(urls: Sequence[str]) -> tuple[str, ...]:
    """Return the hosts of code services, for a person to read before he names his address to them.

    Raises `Misconfigured` when one is no address that would be asked: a gateway names them.
    """
    for url in urls:
        _check_url(url)
    return tuple(host_of(url) for url in urls)
