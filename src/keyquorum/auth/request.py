"""Signed requests: what a session key signs each time it uses a key, and once to log in.

A request is a compact JWS (ES256). Its payload names the network, a request id, an expiry within a minute, the kind of
request, the key, the intent, and the `runs` that may serve it: sets of signers, in the order of the attempts. So nobody
but the user chooses who signs, and how often: a node that sees a request first can start none but these runs.

The id makes a repeat harmless: a node answers the same id with the same payload (`Request.payload_digest`) and the same
run with the same answer, and another payload under a used id with a refusal. The runs and the expiry are no part of
that payload, so the same request can be signed again with other runs when these failed. Nothing depends on the
signature's bytes, which for ES256 are not unique.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keyquorum.algebra.transcript import Tag, tagged_hash
from keyquorum.auth.certificate import Certificate
from keyquorum.auth.session_key import ALGORITHM, SessionKey, SessionPrivateKey
from keyquorum.auth.statement import CLOCK_SKEW, NETWORK, TIME
from keyquorum.evm.keys import is_key_id
from keyquorum.formats import jws
from keyquorum.formats.strict_json import integer, list_of
from keyquorum.formats.text import Rules, read
from keyquorum.refusal import Invalid, malformed

TYPE = "keyquorum-request+jws"
SIGN, MINT, REVOKE, SESSIONS, LOGIN = "sign", "mint", "revoke", "sessions", "login"
KINDS = frozenset({SIGN, MINT, REVOKE, SESSIONS, LOGIN})
# These make no run, so they name none.
RUNLESS = frozenset({MINT, SESSIONS})
NO_KEY = "*"
MAX_LIFETIME = 60
MAX_BYTES = 512 * 1024
MAX_RUNS = 8
MAX_SIGNERS = 100
_RUNS = list_of(list_of(integer(1, 65535), MAX_SIGNERS, 1), MAX_RUNS)
_RULES: Rules = {
    "network": NETWORK, "id": str, "exp": TIME, "kind": str, "key": str, "intent": dict, "runs": _RUNS,
}  # fmt: skip
_ID = re.compile("[A-Za-z0-9_-]{16,64}")


@dataclass(frozen=True, slots=True)
class Request:
    """A verified request: `key` is a token id, or "*" where the kind names none; `intent` unread JSON.

    `runs` are the signer sets of the attempts, PartyIds ascending; `payload_digest` (32 bytes) tells repeats apart.
    """

    id: str
    expires: int
    kind: str
    key: str
    intent: dict[str, object]
    runs: tuple[tuple[int, ...], ...]
    payload_digest: bytes


def make(
    session: SessionPrivateKey,
    *,
    network: str,
    request_id: str,
    expires: int,
    key: str,
    intent: Mapping[str, object],
    kind: str = SIGN,
    runs: Sequence[Sequence[int]] = (),
) -> str:
    """Return the signed request; raise `Invalid` when a node could not read it.

    `request_id` is 16 to 64 of A-Z a-z 0-9 _ -, fresh for each new thing to sign; `expires` Unix seconds, at most a
    minute ahead; `runs` 1 to 8 signer sets (PartyIds, ascending), none where the kind makes no run.
    """
    claims = {
        "network": network,
        "id": request_id,
        "exp": expires,
        "kind": kind,
        "key": key,
        "intent": dict(intent),
        "runs": [list(signers) for signers in runs],
    }
    _read(claims, b"")
    signing_input = jws.make_input(ALGORITHM, TYPE, claims)
    return jws.assemble(signing_input, session.sign(signing_input))


def verify(
    token: object,
    certificate: Certificate,
    network: str,
    now: int,
    max_bytes: int = MAX_BYTES,
    *,
    kind: str = SIGN,
    ahead: int = 0,
) -> Request:
    """Return the request in `token`; raise `Invalid` unless the certificate's session key signed it for here and now.

    It must be of this `kind`: what was signed to list sessions must not mint a key. `ahead` as in `check`.

    The certificate must have been verified; its times are checked again, since it may come from a cache.
    """
    # 5.1
    certificate.check_time(now)
    if certificate.network != network:
        raise Invalid("wrong_network", "the certificate is of another network", "log in at this network")
    return check(parse(token, max_bytes), certificate.session, network, now, kind=kind, ahead=ahead)


def parse(token: object, max_bytes: int = MAX_BYTES) -> jws.Jws:
    """Return a request that nobody has verified; raise `Invalid` when it is not of the form of one."""
    return jws.parse(token, algorithm=ALGORITHM, kind=TYPE, max_bytes=max_bytes)


def check(parsed: jws.Jws, signer: SessionKey, network: str, now: int, *, kind: str, ahead: int = 0) -> Request:
    """Return the request; raise `Invalid` unless `signer` signed it, for this network, this moment and this kind.

    It may expire by `ahead` seconds later than others: those by which the chain's clock is ahead of `now`.
    """
    # 5.2
    signer.check(parsed.signing_input, parsed.signature)
    # 5.3
    request = _read(parsed.claims, _payload_digest(parsed.claims))
    if parsed.claims["network"] != network:
        raise Invalid("wrong_network", "the request is for another network", "sign it for this network's id")
    if request.kind != kind:
        raise malformed("bad_kind", f"this is a request to {request.kind}, not to {kind}", "send it where it belongs")
    # 5.4
    if request.expires > now + ahead + MAX_LIFETIME + CLOCK_SKEW:
        raise Invalid(
            "clock_skew",
            f"the request expires {request.expires - now} s from this node's time, more than {MAX_LIFETIME} s and the "
            f"tolerated difference of clocks ({CLOCK_SKEW} s)",
            "let requests expire within a minute, and set the client's clock",
        )
    if request.expires <= now - CLOCK_SKEW:
        raise Invalid(
            "request_expired",
            f"the request expired {now - request.expires} s before this node's time",
            f"sign a new request; if this one was new, set the client's clock ({CLOCK_SKEW} s are tolerated)",
        )
    return request


def _read(claims: Mapping[str, object], payload_digest: bytes) -> Request:
    fields = read(claims, _RULES, "the request")
    if not _ID.fullmatch(fields["id"]):
        raise malformed("bad_request_id", "a request id is 16 to 64 letters, digits, dashes or underscores")
    if fields["kind"] not in KINDS:
        raise malformed("bad_kind", "there is no such kind of request", f"use one of: {', '.join(sorted(KINDS))}")
    if not is_key_id(fields["key"]) and (fields["kind"] == SIGN or fields["key"] != NO_KEY):
        raise malformed("bad_key", "the key is not a token id: 0x and 64 lower-case hex digits")
    # 5.5
    if bool(fields["runs"]) == (fields["kind"] in RUNLESS):
        raise malformed("bad_runs", f"a request names 1 to {MAX_RUNS} runs, one to mint or to list sessions names none")
    if any(signers != sorted(set(signers)) for signers in fields["runs"]):
        raise malformed("bad_runs", "the signers of a run are PartyIds, ascending, each once")
    return Request(
        id=fields["id"],
        expires=fields["exp"],
        kind=fields["kind"],
        key=fields["key"],
        intent=fields["intent"],
        runs=tuple(map(tuple, fields["runs"])),
        payload_digest=payload_digest,
    )


def _payload_digest(claims: Mapping[str, object]) -> bytes:
    # 5.6
    payload = {name: value for name, value in claims.items() if name not in ("exp", "runs")}
    return tagged_hash(Tag.REQUEST_PAYLOAD, jws.canonical(payload))
