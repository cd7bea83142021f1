"""Delegation: a session lends a part of what it may do to another key, offline, without asking anybody.

A delegation is a compact JWS (ES256) by the session key; it names the delegate's public key and what that key may do,
which is never more than what the signer may: fewer keys, fewer scopes, an earlier expiry, fewer uses. The delegate can
delegate on, three deep at most. A node gets the certificate and the delegations in order, and ends up with a
`Certificate` for the last key that is the intersection of all. Whatever revokes the session, revokes all of it.
spec/auth.md section 7
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from keyquorum.algebra.transcript import Tag, tagged_hash
from keyquorum.auth.certificate import Certificate, check_narrower
from keyquorum.auth.session_key import ALGORITHM, SessionKey, SessionPrivateKey
from keyquorum.auth.statement import KEYS, NETWORK, SCOPES, TIME, USES, check_keys, check_scopes
from keyquorum.formats import jws
from keyquorum.formats.strict_json import text
from keyquorum.formats.text import read
from keyquorum.refusal import Invalid

TYPE = "keyquorum-delegation+jws"
MAX_DEPTH = 3
MAX_BYTES = 8192
_RULES = {
    "network": NETWORK,
    "parent": text(64),
    "session": dict,
    "keys": KEYS,
    "scopes": SCOPES,
    "uses": USES,
    "exp": TIME,
}


@dataclass(frozen=True, slots=True)
class Delegation:
    """What is lent to `session`; `parent` is the id of the certificate or delegation it is taken from."""

    network: str
    parent: str
    session: SessionKey
    keys: tuple[str, ...]
    scopes: tuple[int, ...]
    uses: int
    expires: int


def make(signer: SessionPrivateKey, lent: Delegation) -> str:
    """Return the signed delegation; raise `Invalid` when a node could not read it."""
    claims = {
        "network": lent.network,
        "parent": lent.parent,
        "session": lent.session.to_jwk(),
        "keys": list(lent.keys),
        "scopes": list(lent.scopes),
        "uses": lent.uses,
        "exp": lent.expires,
    }
    _read(claims)
    signing_input = jws.make_input(ALGORITHM, TYPE, claims)
    return jws.assemble(signing_input, signer.sign(signing_input))


def name(token: str) -> str:
    """Return the id of a delegation, 64 hex digits: a hash of what is signed, since ES256 signatures have a twin."""
    return name_of(token.rpartition(".")[0].encode())


def name_of(signing_input: bytes) -> str:
    """Return the id of the delegation whose header and payload these are."""
    return tagged_hash(Tag.DELEGATION, signing_input).hex()


def follow(certificate: Certificate, delegations: Sequence[object], now: int) -> Certificate:
    """Return what the last delegate may do under a verified certificate; raise `Invalid` when a link does not hold.

    With no delegations it is the certificate itself.
    """
    # 7.1
    if len(delegations) > MAX_DEPTH:
        raise Invalid("too_deep", f"there are more than {MAX_DEPTH} delegations", "delegate from the session itself")
    held, parent = certificate, certificate.id
    for token in delegations:
        held = _step(held, parent, token)
        parent = held.counted[-1][0]
    held.check_time(now)
    return held


def _step(held: Certificate, parent: str, token: object) -> Certificate:
    # 7.2
    parsed = jws.parse(token, algorithm=ALGORITHM, kind=TYPE, max_bytes=MAX_BYTES)
    held.session.check(parsed.signing_input, parsed.signature)
    lent = _read(parsed.claims)
    # 7.3
    if lent.network != held.network or lent.parent != parent:
        raise Invalid("wrong_parent", "the delegation belongs to another session", "delegate from this session")
    # 7.4
    check_narrower(held, lent)
    return replace(
        held,
        session=lent.session,
        keys=lent.keys,
        scopes=lent.scopes,
        expires=lent.expires,
        uses=lent.uses,
        counted=(*held.counted, (name_of(parsed.signing_input), lent.uses)),
    )


def _read(claims: object) -> Delegation:
    fields = read(claims, _RULES, "the delegation")
    check_keys(tuple(fields["keys"]))
    check_scopes(tuple(fields["scopes"]))
    return Delegation(
        network=fields["network"],
        parent=fields["parent"],
        session=SessionKey.from_jwk(fields["session"]),
        keys=tuple(fields["keys"]),
        scopes=tuple(fields["scopes"]),
        uses=fields["uses"],
        expires=fields["exp"],
    )
