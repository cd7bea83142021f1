"""Login requests: a statement and its proof, signed by the very session key that the statement is for.

It is a request like any other (`request.py`) of kind `login`. Its id is the statement's challenge, and it is signed by
the statement's session key, so whoever sees it can neither show the nodes the same statement with something else nor
use up the attempts of its owner. A step-up carries the certificate that it builds on: without the session key nobody
adds an identity to a session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keyquorum.auth import request as requests
from keyquorum.auth.request import LOGIN, NO_KEY, Request
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import Statement
from keyquorum.formats.text import Rules, read
from keyquorum.refusal import malformed

_INTENT: Rules = {"statement": dict, "method": str, "proof": dict}
_STEP_UP: Rules = {"certificate": str}


@dataclass(frozen=True, slots=True)
class Login:
    """A login whose request is verified and whose proof is not: `certificate` is the one to step up, or None."""

    request: Request
    statement: Statement
    method: str
    proof: dict[str, object]
    certificate: str | None


def make(
    session: SessionPrivateKey,
    statement: Statement,
    method: str,
    proof: Mapping[str, object],
    *,
    expires: int,
    runs: Sequence[Sequence[int]],
    certificate: str | None = None,
) -> str:
    """Return the signed login; raise `Invalid` when a node could not read it. Arguments as for `request.make`."""
    intent = {"statement": statement.to_json(), "method": method, "proof": dict(proof)}
    return requests.make(
        session,
        network=statement.network,
        request_id=statement.challenge,
        expires=expires,
        key=NO_KEY,
        intent=intent | ({} if certificate is None else {"certificate": certificate}),
        kind=LOGIN,
        runs=runs,
    )


def verify(token: object, network: str, now: int) -> Login:
    """Return the login in `token`; raise `Invalid` unless its statement's session key signed it for here and now.

    The statement is not checked beyond its form, and the proof not at all.
    """
    parsed = requests.parse(token)
    # 5.7
    intent = read(parsed.claims.get("intent"), _INTENT, "the intent of a login", _STEP_UP)
    statement = Statement.from_json(intent["statement"])
    request = requests.check(parsed, statement.session, network, now, kind=LOGIN)
    if request.key != NO_KEY:
        raise malformed("bad_key", 'a login names no key: "*"')
    # 5.8
    if request.id != statement.challenge:
        raise malformed("bad_request_id", "the id of a login is the challenge of its statement")
    return Login(request, statement, intent["method"], intent["proof"], intent["certificate"])
