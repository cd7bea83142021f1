"""Passkeys from the command line: the gateway's page asks the browser, and hands back the proof and nothing else.

A passkey answers only to the page that it was made at, so the command opens that page. The session key and the
statement are made here; the page gets the statement in the fragment of its address, which is not sent to the gateway,
asks the person, and sends the proof to a server on this machine (`client/loopback.py`), again in a fragment.

What somebody else's page could do. Opening the gateway's page with a statement of its own session key: the page shows
what would be granted and the session's fingerprint, which this command shows too, and the proof then goes to this
machine, not to that page. Sending a proof of its own here: the server takes only an answer with this login's `state`,
and nodes take only a proof of this statement. A proof by itself is worth nothing without the session key,
which never leaves this process.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from keyquorum.auth.statement import Statement
from keyquorum.cli.person import Person
from keyquorum.client.errors import BadAnswer, Misconfigured, Refused
from keyquorum.client.loopback import Loopback
from keyquorum.formats.strict_json import BadJson, loads
from keyquorum.formats.text import from_base64url, to_base64url
from keyquorum.refusal import Invalid

MAX_PROOF = 16 * 1024
_LOOPBACK_NAMES = {"127.0.0.1", "::1"}


async def prove(page: str, statement: Statement, person: Person, seconds: float) -> dict[str, Any]:
    """Let the page at `page` prove `statement` with a passkey; return the proof. Raises `KeyquorumError`."""
    async with Loopback() as loopback:
        person.open(address(page, statement, loopback))
        answer = await loopback.answer(seconds)
    if "error" in answer:
        raise Refused("login_denied", "the login was cancelled at the page", "log in again and agree")
    try:
        proof = loads(from_base64url(answer.get("proof", ""), "the proof"), MAX_PROOF)
    except (Invalid, BadJson):
        proof = None
    if not isinstance(proof, dict):
        raise BadAnswer(
            "bad_answer", "the page did not send a proof", "log in again; the gateway's page may be of another version"
        )
    return proof


def address(page: str, statement: Statement, loopback: Loopback) -> str:
    """Return the page's address with the login to prove in its fragment."""
    said = to_base64url(json.dumps(statement.to_json(), separators=(",", ":")).encode())
    back = quote(loopback.redirect_uri, safe="")
    return f"{page}#terminal={back}&state={loopback.state}&statement={said}"


def page_of(gateway: str, rp_id: str) -> str:
    """Return the address at which a gateway's page may use passkeys of `rp_id`; raise `Misconfigured`.

    Browsers know no passkeys at numeric addresses: a gateway on this machine is called by its name.
    """
    parts = urlsplit(gateway)
    host = parts.hostname or ""
    if rp_id == "localhost" and host in _LOOPBACK_NAMES:
        host = "localhost"
    if not rp_id or not (host == rp_id or host.endswith(f".{rp_id}")):
        raise Misconfigured(
            "no_passkeys",
            f"one cannot log in with a passkey at {host or 'this gateway'}",
            "log in another way, or at a gateway that offers passkeys",
        )
    place = host if parts.port is None else f"{host}:{parts.port}"
    return urlunsplit((parts.scheme, place, parts.path.rstrip("/") + "/", "", ""))
