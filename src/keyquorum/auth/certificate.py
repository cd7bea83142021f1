"""Session certificates: the network's word that a session key belongs to a person, as a JWT (ES256K).

After a login each node that verified the proof builds the same header and payload, byte for byte, and t nodes sign
their SHA-256 with the network key by the threshold protocol itself. So the token depends on nothing that differs
between nodes: the issue time is the one in the proof, the id is derived from the challenge, members are sorted. A
repeated login gives the same certificate. Whoever holds the network's public key verifies it: a node that was down at
login as well, and no identity provider is asked again.

Nothing else is signed with the network key over SHA-256: keys on the chain are certified over keccak256, and no PKP
token stands for the network key, so no request can make the nodes sign a certificate's bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from keyquorum.algebra import ecdsa
from keyquorum.algebra.curve import Point
from keyquorum.auth.method import MAX_ID_BYTES, Proven
from keyquorum.auth.scopes import Scope, covers
from keyquorum.auth.session_key import SessionKey
from keyquorum.auth.statement import (
    ALL_KEYS,
    CLOCK_SKEW,
    KEYS,
    MAX_SESSION,
    NETWORK,
    SCOPES,
    TIME,
    USES,
    Statement,
    check_keys,
    check_scopes,
)
from keyquorum.formats import jws
from keyquorum.formats.strict_json import integer, list_of, text
from keyquorum.formats.text import from_hex, read, to_hex
from keyquorum.refusal import Invalid

ALGORITHM = "ES256K"
TYPE = "keyquorum-session+jwt"
MAX_BYTES = 8192
MAX_METHODS = 8
_CLAIMS = {
    "iss": NETWORK,
    "sub": text(43),
    "cnf": dict,
    "iat": TIME,
    "exp": TIME,
    "jti": text(64),
    "methods": list_of(dict, MAX_METHODS, 1),
    "keys": KEYS,
    "scopes": SCOPES,
    "limits": dict,
}
_LIMITS = {"signatures": USES}
_METHOD = {"type": integer(1, 2**53), "id": text(2 + 2 * MAX_ID_BYTES, 4)}


@dataclass(frozen=True, slots=True)
class Certificate:
    """A verified certificate: who (`methods`), by which session key, for which keys and scopes, until when, how often.

    `counted` are (id, uses) of all that a signature by `session` consumes: the certificate and, when `session` is a
    delegate's key, each delegation that led to it (delegation.py); `uses` is the last of them.
    """

    network: str
    session: SessionKey
    issued_at: int
    expires: int
    id: str
    methods: tuple[Proven, ...]
    keys: tuple[str, ...]
    scopes: tuple[int, ...]
    uses: int
    counted: tuple[tuple[str, int], ...]

    @property
    def delegated(self) -> bool:
        """Whether `session` is a delegate's key."""
        return len(self.counted) > 1

    def with_methods(self, methods: tuple[Proven, ...]) -> Certificate:
        """Return the same certificate with only these of its methods."""
        return replace(self, methods=methods)

    def check_time(self, now: int) -> None:
        """Raise `Invalid` unless the certificate is valid at `now`: for every use of a cached one."""
        if self.expires <= now:
            raise Invalid("certificate_expired", "the session has expired", "log in again")


def certificate_input(statement: Statement, proven: Iterable[Proven], old: Certificate | None = None) -> bytes:
    """Return header.payload for a proven statement: the same bytes on every node (spec/auth.md, step 4.1).

    `proven` is one identity or several, in any order. The issue time is that of the login (step 2.4). A step-up of
    `old` keeps its id and its issue time: it is the same session, so whatever ends that one or counts its uses holds
    for this one, and nobody outruns a revocation by proving another identity. Raises `ValueError` when nothing was
    proven or an identity is named twice.
    """
    found = sorted(proven)
    if not 1 <= len(found) <= MAX_METHODS or len(set(found)) != len(found):
        raise ValueError(f"a certificate names 1 to {MAX_METHODS} different identities")
    # 4.1
    claims = {
        "iss": statement.network,
        "sub": statement.session.thumbprint,
        "cnf": {"jwk": statement.session.to_jwk()},
        "iat": max(one.issued_at for one in found) if old is None else old.issued_at,
        "exp": statement.expires,
        "jti": statement.challenge if old is None else old.id,
        "methods": [{"type": one.type, "id": to_hex(one.id)} for one in found],
        "keys": list(statement.keys),
        "scopes": list(statement.scopes),
        "limits": {"signatures": statement.uses},
    }
    return jws.make_input(ALGORITHM, TYPE, claims)


def step_up(old: Certificate, statement: Statement, proven: Proven) -> list[Proven]:
    """Return the identities for a certificate by which `proven` joins those of `old`; raise `Invalid`.

    Whoever proved the first identity agreed to the first certificate's keys, scopes, expiry and uses, with that very
    session key. The new statement must stay within all of them, or a second method would widen what the first allowed.
    """
    # 4.6
    if old.delegated or statement.session != old.session:
        raise Invalid("wrong_session", "the certificate is for another session key", "log in with both methods anew")
    check_narrower(old, statement)
    return [*(one for one in old.methods if one != proven), proven]


class Grant(Protocol):
    """What a certificate, a statement and a delegation have in common."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Token ids, or only "*"."""
        ...

    @property
    def scopes(self) -> tuple[int, ...]:
        """Scope numbers."""
        ...

    @property
    def expires(self) -> int:
        """Unix seconds."""
        ...

    @property
    def uses(self) -> int:
        """Number of signatures."""
        ...


def check_narrower(wide: Grant, narrow: Grant) -> None:
    """Raise `Invalid` unless `narrow` allows nothing that `wide` does not."""
    wrong = [
        word
        for word, holds in (
            ("keys", wide.keys == (ALL_KEYS,) or set(narrow.keys) <= set(wide.keys)),
            ("scopes", all(covers(wide.scopes, Scope(number)) for number in narrow.scopes)),
            ("expiry", narrow.expires <= wide.expires),
            ("uses", narrow.uses <= wide.uses),
        )
        if not holds
    ]
    if wrong:
        raise Invalid("wider", f"this asks for more than what it builds on: {', '.join(wrong)}", "ask for less")


def digest(signing_input: bytes) -> bytes:
    """Return the 32 bytes that the network key signs."""
    # 4.2
    return hashlib.sha256(signing_input).digest()


def assemble(signing_input: bytes, r: int, s: int) -> str:
    """Return the certificate; raise `ValueError` unless r and s are scalars other than 0 and s is low."""
    signature = ecdsa.to_compact(r, s)
    if ecdsa.from_compact(signature) != (r, s) or not ecdsa.is_low(s):
        raise ValueError("s must be in the lower half")
    return jws.assemble(signing_input, signature)


def verify(token: object, network: str, network_key: Point, now: int) -> Certificate:
    """Return the certificate in `token`; raise `Invalid` unless it is this network's and valid at `now`."""
    # 4.3
    parsed = jws.parse(token, algorithm=ALGORITHM, kind=TYPE, max_bytes=MAX_BYTES)
    _check_signature(parsed, network_key)
    # 4.4
    certificate = _read(parsed.claims)
    if certificate.network != network:
        raise Invalid("wrong_network", "the certificate is of another network", "log in at this network")
    # The issue time is the chain's, so it is compared with nothing but times of the chain.
    if certificate.expires > now + MAX_SESSION + CLOCK_SKEW:
        raise Invalid("bad_certificate", "the certificate is valid for more than 24 hours", "log in again")
    # 4.5
    certificate.check_time(now)
    return certificate


def _check_signature(parsed: jws.Jws, network_key: Point) -> None:
    r, s = (int.from_bytes(half, "big") for half in (parsed.signature[:32], parsed.signature[32:]))
    if not ecdsa.verify(network_key, digest(parsed.signing_input), r, s):
        raise Invalid("bad_certificate", "the certificate is not signed by the network key", "log in again")


def _read(claims: object) -> Certificate:
    fields = read(claims, _CLAIMS, "the certificate")
    session = SessionKey.from_jwk(read(fields["cnf"], {"jwk": dict}, "cnf")["jwk"])
    if fields["sub"] != session.thumbprint:
        raise Invalid("bad_certificate", "sub is not the thumbprint of the session key", "log in again")
    uses = read(fields["limits"], _LIMITS, "limits")["signatures"]
    certificate = Certificate(
        network=fields["iss"],
        session=session,
        issued_at=fields["iat"],
        expires=fields["exp"],
        id=fields["jti"],
        methods=tuple(map(_read_method, fields["methods"])),
        keys=tuple(fields["keys"]),
        scopes=tuple(fields["scopes"]),
        uses=uses,
        counted=((fields["jti"], uses),),
    )
    check_keys(certificate.keys)
    check_scopes(certificate.scopes)
    return certificate


def _read_method(value: object) -> Proven:
    fields = read(value, _METHOD, "a method")
    return Proven(fields["type"], from_hex(fields["id"], len(fields["id"]) // 2 - 1, "a method's id"))
