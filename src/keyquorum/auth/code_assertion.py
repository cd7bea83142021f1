"""Code assertions: a code service's signed word that a code it sent to an address came back in the session that asked.

Whoever delivers a code knows it, so no node delivers any: independent services (issuers) do, each with a code of its
own, and a node wants the word of k of them. An assertion names everything it is about: network, channel, address, the
statement's challenge and the session key. A node, or anybody who taps it, can therefore use it for nothing else.

A person types the code into the page that asked for it, and that page's session key signs the answer. So a code is
worthless in every other session, also in one that a thief started for the same address, and knowing a challenge's
id is worth nothing. The message that brings the code shows the session's `fingerprint`, and so does the page: a code
that somebody else asked for shows another one.

Services sign ES256 with P-256 keys, like sessions; a node is told the public keys of its issuers in its settings.
Spec: spec/auth.md, "Codes by e-mail and SMS".
"""

from __future__ import annotations

import re
from base64 import b32encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from keyquorum.algebra.transcript import Tag, tagged_hash
from keyquorum.auth.method import Context, Proven
from keyquorum.auth.session_key import ALGORITHM, SessionKey, SessionPrivateKey
from keyquorum.auth.statement import CLOCK_SKEW, MAX_SESSION, NETWORK, TIME, Statement
from keyquorum.formats import jws
from keyquorum.formats.strict_json import list_of, text
from keyquorum.formats.text import from_base64url, from_hex, read, to_base64url
from keyquorum.refusal import UNAVAILABLE, Invalid, malformed

Channel = Literal["email", "sms"]

ASSERTION_TYPE = "keyquorum-code+jws"
ANSWER_TYPE = "keyquorum-code-answer+jws"
MAX_LIFETIME = 600
MAX_ISSUERS = 16
MAX_ASSERTION_BYTES = 2048
MAX_ANSWER_BYTES = 1024
MAX_ADDRESS = 254
CHALLENGE_ID_BYTES = 16
ISSUER_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}[a-z0-9]|[a-z0-9]")
_FINGERPRINT_CHARACTERS = 12
_CROCKFORD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "0123456789ABCDEFGHJKMNPQRSTVWXYZ")
_COMPRESSED_BYTES = 33
_CLAIMS = {
    "iss": text(64, 1),
    "network": NETWORK,
    "channel": text(8),
    "address": text(MAX_ADDRESS, 1),
    "challenge": text(64),
    "session": text(43),
    "iat": TIME,
    "exp": TIME,
}
_ANSWER = {"issuer": text(64, 1), "id": text(22), "code": text(43)}
_PROOF = {
    "address": text(MAX_ADDRESS, 1),
    "assertions": list_of(text(MAX_ASSERTION_BYTES, 1), MAX_ISSUERS, 1),
}


# ---- whom a node believes ---------------------------------------------------------------------------------------


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A code service: its name in assertions, and its P-256 key (a JWK, or 0x and 66 hex digits, compressed)."""

    id: str
    public_key: str | dict[str, str]

    def key(self) -> SessionKey:
        """Return the public key; raise `Invalid` when it is none."""
        if isinstance(self.public_key, dict):
            return SessionKey.from_jwk(self.public_key)
        encoded = from_hex(self.public_key, _COMPRESSED_BYTES, "an issuer's public key")
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), encoded).public_numbers()
        except ValueError as error:
            raise malformed("bad_session_key", "an issuer's public key is no point of P-256") from error
        return SessionKey.from_coordinates(point.x.to_bytes(32, "big"), point.y.to_bytes(32, "big"))


class CodeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[auth.email]` and `[auth.sms]` of a node: a login needs the word of `required` different `issuers`."""

    required: int
    issuers: list[Issuer]

    def __post_init__(self) -> None:
        if not 1 <= len(self.issuers) <= MAX_ISSUERS or not 1 <= self.required <= len(self.issuers):
            raise ValueError(f"1 to {MAX_ISSUERS} issuers, and `required` at least 1 and at most all of them")
        if not all(ISSUER_ID.fullmatch(one.id) for one in self.issuers):
            raise ValueError("an issuer's id has 1 to 64 lower-case letters, digits, dots and dashes")
        if len({one.id for one in self.issuers}) != len(self.issuers):
            raise ValueError("two issuers have the same id")
        # One service under two names would be two of the k words.
        if len({one.key().thumbprint for one in self.issuers}) != len(self.issuers):
            raise ValueError("two issuers have the same public key")


# ---- assertions -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Assertion:
    """What an issuer says; `session` is the thumbprint, times are Unix seconds. Verified only by `verify_assertion`."""

    issuer: str
    network: str
    channel: str
    address: str
    challenge: str
    session: str
    issued_at: int
    expires: int


def make_assertion(
    key: SessionPrivateKey,
    issuer: str,
    channel: Channel,
    address: str,
    statement: Statement,
    *,
    issued_at: int,
    lifetime: int = MAX_LIFETIME,
) -> str:
    """Return the assertion that a code sent to `address` was returned in the session of `statement`."""
    claims = {
        "iss": issuer,
        "network": statement.network,
        "channel": channel,
        "address": address,
        "challenge": statement.challenge,
        "session": statement.session.thumbprint,
        "iat": issued_at,
        "exp": issued_at + lifetime,
    }
    signing_input = jws.make_input(ALGORITHM, ASSERTION_TYPE, claims)
    return jws.assemble(signing_input, key.sign(signing_input))


def read_assertion(token: object) -> tuple[Assertion, jws.Jws]:
    """Parse an assertion without believing it; raise `Invalid` when it has not the form."""
    parsed = jws.parse(token, algorithm=ALGORITHM, kind=ASSERTION_TYPE, max_bytes=MAX_ASSERTION_BYTES)
    found = read(parsed.claims, _CLAIMS, "the assertion")
    names = {"iss": "issuer", "iat": "issued_at", "exp": "expires"}
    return Assertion(**{names.get(name, name): value for name, value in found.items()}), parsed


def verify_assertion(
    token: object, channel: Channel, address: str, statement: Statement, settings: CodeSettings, now: int
) -> Assertion:
    """Return the assertion in `token`; raise `Invalid` unless a known issuer says it of exactly this login."""
    # C.3
    assertion, parsed = read_assertion(token)
    issuer = next((one for one in settings.issuers if one.id == assertion.issuer), None)
    if issuer is None:
        raise Invalid(
            "unknown_issuer", "this node does not know the code service that signed", "use the services of the network"
        )
    try:
        issuer.key().check(parsed.signing_input, parsed.signature)
    except Invalid as error:
        raise Invalid("bad_assertion", "the assertion is not signed by the code service it names", _AGAIN) from error
    # C.4
    if (assertion.channel, assertion.address) != (channel, address):
        raise Invalid("wrong_address", "the assertion is about another address, or another way to it", _AGAIN)
    if assertion.network != statement.network:
        raise Invalid("wrong_network", "the assertion is for another network", _AGAIN)
    if assertion.challenge != statement.challenge:
        raise Invalid("wrong_challenge", "the assertion is for another statement", _AGAIN)
    if assertion.session != statement.session.thumbprint:
        raise Invalid("wrong_session", "the code was returned in another session", _AGAIN)
    _check_times(assertion, now)
    return assertion


_AGAIN = "ask for new codes with the statement that you send, and type them where you asked"


def _check_times(assertion: Assertion, now: int) -> None:
    # C.5
    if not 0 < assertion.expires - assertion.issued_at <= MAX_LIFETIME:
        raise Invalid("bad_assertion", "the assertion is valid for more than 10 minutes, or never", _AGAIN)
    if assertion.issued_at > now + CLOCK_SKEW:
        raise Invalid(
            "clock_skew",
            f"the assertion is from the future: {assertion.issued_at - now} s ahead of this node's clock",
            f"the clocks of code service and node may differ by {CLOCK_SKEW} s",
        )
    if assertion.expires <= now - CLOCK_SKEW:
        raise Invalid("assertion_expired", "a code was returned more than 10 minutes ago", _AGAIN)


async def prove_address(
    proof: object,
    channel: Channel,
    type_number: int,
    normalise: Callable[[str], str],
    statement: Statement,
    context: Context,
) -> Proven:
    """Return the address that k issuers of `context.settings` speak for; raise `Invalid` otherwise.

    `proof` is `{"address", "assertions"}`. The time is the latest at which an issuer signed.
    """
    settings = _settings_in(context, channel)
    # C.1
    fields = read(proof, _PROOF, "the proof")
    address = fields["address"]
    if normalise(address) != address:
        raise malformed(
            "bad_mail_or_phone", "the address is not in its normal form", "small letters, A-labels, no blanks"
        )
    # C.2
    if len(fields["assertions"]) < settings.required:
        raise _too_few(settings)
    found = [
        verify_assertion(token, channel, address, statement, settings, context.now) for token in fields["assertions"]
    ]
    # C.6
    if len({one.issuer for one in found}) != len(found):
        raise _too_few(settings)
    issued_at = max(one.issued_at for one in found)
    if not 0 < statement.expires - issued_at <= MAX_SESSION:
        raise Invalid("session_too_long", "from the last code to the expiry it is more than 24 hours", "ask for less")
    # C.7
    return Proven(type_number, context.conceal(type_number, address.encode()))


def _settings_in(context: Context, channel: Channel) -> CodeSettings:
    if not isinstance(context.settings, CodeSettings):
        raise Invalid(
            "not_configured",
            f"this node knows no code services for {channel}",
            f"use another method, or ask the operator for the section [auth.{channel}]",
            UNAVAILABLE,
        )
    return context.settings


def _too_few(settings: CodeSettings) -> Invalid:
    return Invalid(
        "too_few_assertions",
        f"{settings.required} different code services must say that their code was returned, each once",
        "type the codes of more services",
    )


# ---- answers ----------------------------------------------------------------------------------------------------


def code_hash(issuer: str, challenge_id: str, code: str) -> str:
    """Return what an answer signs of the code, base64url: H(code-answer, issuer, id, code)."""
    return to_base64url(tagged_hash(Tag.CODE_ANSWER, issuer, challenge_id, code))


def make_answer(key: SessionPrivateKey, issuer: str, challenge_id: str, code: str) -> str:
    """Return the session's signature that it gives `code` as the answer to `issuer`'s challenge."""
    claims = {"issuer": issuer, "id": challenge_id, "code": code_hash(issuer, challenge_id, code)}
    signing_input = jws.make_input(ALGORITHM, ANSWER_TYPE, claims)
    return jws.assemble(signing_input, key.sign(signing_input))


def check_answer(token: object, session: SessionKey, issuer: str, challenge_id: str, code: str) -> None:
    """Raise `Invalid` unless `session` signed exactly this code for this challenge of this issuer."""
    parsed = jws.parse(token, algorithm=ALGORITHM, kind=ANSWER_TYPE, max_bytes=MAX_ANSWER_BYTES)
    found = read(parsed.claims, _ANSWER, "the answer")
    session.check(parsed.signing_input, parsed.signature)
    if found != {"issuer": issuer, "id": challenge_id, "code": code_hash(issuer, challenge_id, code)}:
        raise Invalid("bad_signature", "the answer is signed for another code or challenge", "sign what you send")


def fingerprint(session: SessionKey) -> str:
    """Return the 12 characters that message and page show of a session key, in groups of 4: 60 bits of its name.

    Crockford's base32 (no I, L, O, U) of the beginning of the RFC 7638 thumbprint. Two sessions that look alike
    cannot be made within a code's ten minutes.
    """
    digest = from_base64url(session.thumbprint, "the thumbprint")
    letters = b32encode(digest).decode()[:_FINGERPRINT_CHARACTERS].translate(_CROCKFORD)
    return "-".join(letters[i : i + 4] for i in range(0, _FINGERPRINT_CHARACTERS, 4))
