"""Login method `oidc`: an id_token of Google, or of any other OpenID Connect provider the operator configured.

The token is a JWT signed by the provider (OpenID Connect Core 1.0, sections 2 and 3.1.3.7). It is bound to the login by
its `nonce`, which the client set to the statement's challenge when it sent the user there: a node that sees the
token has nothing for another session key. The token's own words never choose how it is verified. `iss` only selects one
of the configured issuers; the algorithm is RS256; the keys come from the issuer's configured address, or from its
discovery document, and from nowhere that the token names (`jku`, `x5u`, `jwk` are ignored like every header member that
is not known, `crit` is refused). The identity is (issuer, sub); the e-mail address is never looked at, because
addresses are changed, reused and claimed.

The signature is checked by joserfc, given one RSA key, the one algorithm, and bytes. Everything around it is checked
here and first, so that the provider is asked only about tokens that would be accepted. Clients read the token that they
get with the same `read_id_token`. Spec: spec/auth.md, "OpenID Connect".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from keyquorum.auth.method import Context, Fetch, Proven
from keyquorum.auth.provider import bad_answer, host_of, not_configured, origin
from keyquorum.auth.statement import CLOCK_SKEW, MAX_SESSION, MAX_TIME, Statement
from keyquorum.formats.strict_json import BadJson, integer, loads, text
from keyquorum.formats.text import Rules, from_base64url, read
from keyquorum.refusal import Invalid, malformed

if TYPE_CHECKING:
    from joserfc.jwk import RSAKey

OIDC_TYPE = 6
MAX_AGE = 10 * 60
MAX_CHARACTERS = 16 * 1024
MAX_HEADER = 8 * 1024
MAX_SIGNATURE = 1024
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 6144
DISCOVERY = "/.well-known/openid-configuration"
_PROOF: Rules = {"id_token": text(MAX_CHARACTERS, 1)}
_TIME = integer(0, MAX_TIME)
_SUB = re.compile(r"[ -~]{1,255}")
_KID = re.compile(r"[!-~]{1,256}")
_AUDIENCES = 16
_KEYS = 64

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z")]
Words = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[auth.oidc.issuers]]`: a provider whose id_tokens are accepted.

    `issuer` is the `iss` of its tokens, and the name that identities are made of: changing it changes everybody's
    identity. `spellings` are further values of `iss` that mean the same. `jwks` is where its keys are; empty: found by
    discovery, and then on the issuer's own host only. `client_ids` are the applications whose users may log in.
    """

    name: Name
    issuer: str
    client_ids: Annotated[list[Words], msgspec.Meta(min_length=1, max_length=32)]
    jwks: str = ""
    spellings: Annotated[list[Words], msgspec.Meta(max_length=4)] = []

    def __post_init__(self) -> None:
        origin(self.issuer)
        if self.jwks:
            origin(self.jwks)

    @property
    def spelled(self) -> tuple[str, ...]:
        """Return every `iss` that means this issuer."""
        return (self.issuer, *self.spellings)


class OidcSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[auth.oidc]`."""

    issuers: Annotated[list[Issuer], msgspec.Meta(min_length=1, max_length=32)]

    def __post_init__(self) -> None:
        names = [issuer.name for issuer in self.issuers]
        spelled = [each for issuer in self.issuers for each in issuer.spelled]
        if len(set(names)) != len(names) or len(set(spelled)) != len(spelled):
            raise ValueError("each issuer and each name of one is given once")


class Oidc:
    """The method; see the head of this file."""

    name = "oidc"
    type_number = OIDC_TYPE
    settings_type = OidcSettings
    summary = "an account at Google or another OpenID Connect provider (id_token, RS256)"
    proof_schema: Mapping[str, object] = {
        "type": "object",
        "required": ["id_token"],
        "additionalProperties": False,
        "properties": {"id_token": {"type": "string", "maxLength": MAX_CHARACTERS}},
    }

    async def verify(self, proof: object, challenge: Statement, context: Context) -> Proven:
        """Return the account that the provider vouches for, for exactly this statement; raise `Invalid` otherwise."""
        settings = context.settings
        if not isinstance(settings, OidcSettings):
            raise not_configured(self.name, "accounts of OpenID Connect providers: it knows none")
        # O.1
        token = read_id_token(read(proof, _PROOF, "the proof")["id_token"])
        issuer = _check_issuer(token.claims, settings)
        _check_audience(token, issuer)
        _check_times(token.claims, challenge, context.now)
        # O.5
        if token.claims.get("nonce") != challenge.challenge:
            raise Invalid("wrong_challenge", "the id_token's nonce is not this statement's challenge", _AGAIN)
        subject = _subject(token.claims)
        await _check_signature(token, issuer, context.fetch)
        # O.9
        return Proven(OIDC_TYPE, context.conceal(OIDC_TYPE, account_name(issuer.issuer, subject)))


METHOD = Oidc()
_AGAIN = "log in at the provider again, with the statement that you send"


def account_name(issuer: str, subject: str) -> bytes:
    """Return the name of an account from which `Context.conceal` makes its identity: issuer, NUL, sub."""
    return issuer.encode() + b"\0" + subject.encode()


@dataclass(frozen=True, slots=True)
class IdToken:
    """An id_token of the right form, not verified: `signature` (unchecked) is over the bytes `signed`."""

    kid: str | None
    claims: Mapping[str, Any] = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def audiences(self) -> tuple[object, ...]:
        """The members of `aud`, which is one text or a list; they may be anything."""
        found = self.claims.get("aud")
        return tuple(found) if isinstance(found, list) else (found,)


def read_id_token(token: str) -> IdToken:
    """Return what a token says; raise `Invalid` (400) when it is no id_token that could be accepted.

    Of the header only `alg`, `typ`, `kid` and `crit` are looked at (RFC 7515, section 4: others are ignored).
    """
    # O.1
    parts = token.split(".", 3)
    if len(parts) != 3 or len(token) > MAX_CHARACTERS or len(parts[0]) > MAX_HEADER or len(parts[2]) > MAX_SIGNATURE:
        raise _bad_form("it is not three parts of the expected lengths")
    header, claims = (_object(from_base64url(part, "the id_token")) for part in parts[:2])
    signature = from_base64url(parts[2], "the id_token's signature")
    if header.get("alg") != "RS256":
        raise _bad_form("its algorithm is not RS256")
    if "crit" in header:
        raise _bad_form("its header has critical extensions, and none is known here")
    if not _is_jwt(header.get("typ", "JWT")):
        raise _bad_form("its type is not JWT")
    kid = header.get("kid")
    if "kid" in header and not (isinstance(kid, str) and _KID.fullmatch(kid)):
        raise _bad_form("its key id is not 1 to 256 characters")
    return IdToken(kid, claims, f"{parts[0]}.{parts[1]}".encode(), signature)


def _is_jwt(kind: object) -> bool:
    """Say whether a `typ` means JWT: a media type, in any case, "application/" may be left out (RFC 7515, 4.1.9)."""
    return isinstance(kind, str) and kind.isascii() and kind.lower().removeprefix("application/") == "jwt"


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = loads(data, MAX_CHARACTERS, max_depth=8, allow_floats=True)
    except BadJson as error:
        raise malformed(error.code, f"the id_token: {error}") from error
    if not isinstance(value, dict):
        raise _bad_form("it does not hold JSON objects")
    return value


def _bad_form(why: str) -> Invalid:
    return malformed("bad_id_token", f"this is no id_token that can be accepted: {why}", "send the provider's id_token")


def _check_issuer(claims: Mapping[str, Any], settings: OidcSettings) -> Issuer:
    # O.2
    for issuer in settings.issuers:
        if claims.get("iss") in issuer.spelled:
            return issuer
    known = ", ".join(issuer.name for issuer in settings.issuers)
    raise Invalid("wrong_issuer", "the id_token is from a provider that this node does not accept", f"use: {known}")


def _check_audience(token: IdToken, issuer: Issuer) -> None:
    # O.3
    audiences, party = token.audiences, token.claims.get("azp")
    ours = len(audiences) <= _AUDIENCES and any(client in audiences for client in issuer.client_ids)
    # With several audiences the token names the one it was made for; without that name nobody knows.
    asked_by_us = party in issuer.client_ids if "azp" in token.claims or len(audiences) > 1 else True
    if not ours or not asked_by_us or not all(isinstance(each, str) for each in audiences):
        raise Invalid(
            "wrong_audience",
            "the id_token was made for another application",
            "log in with the client id that this network's login page uses",
        )


def _check_times(claims: Mapping[str, Any], statement: Statement, now: int) -> None:
    # O.4
    issued_at, expires, not_before = (_time(claims, name) for name in ("iat", "exp", "nbf"))
    if issued_at is None or expires is None:
        raise _bad_form("it has no iat or no exp")
    ahead = max(issued_at, not_before or 0) - now
    if ahead > CLOCK_SKEW:
        raise Invalid(
            "clock_skew",
            f"the id_token is from the future: {ahead} s ahead of this node's clock",
            f"{CLOCK_SKEW} s of difference are tolerated: the provider's or this node's clock is wrong",
        )
    if expires <= now - CLOCK_SKEW:
        raise Invalid("id_token_expired", "the id_token has expired", _AGAIN)
    if issued_at < now - MAX_AGE - CLOCK_SKEW:
        raise Invalid(
            "login_too_old",
            f"the id_token was made {now - issued_at} s before this node's time",
            f"log in again, and send the token within {MAX_AGE // 60} minutes",
        )
    if not 0 < statement.expires - issued_at <= MAX_SESSION:
        raise Invalid("session_too_long", "from issued-at to expiry it is more than 24 hours", "ask for less")


def _time(claims: Mapping[str, Any], name: str) -> int | None:
    try:
        return None if name not in claims else int(_TIME(claims[name]))
    except ValueError as error:
        raise _bad_form(f"its {name} is no time in whole seconds") from error


def _subject(claims: Mapping[str, Any]) -> str:
    # O.6
    subject = claims.get("sub")
    if not isinstance(subject, str) or not _SUB.fullmatch(subject):
        raise _bad_form("its sub is not 1 to 255 ASCII characters")
    return subject


async def _check_signature(token: IdToken, issuer: Issuer, fetch: Fetch) -> None:
    # Some hundredths of a second to import, which a node without providers never spends.
    from joserfc.jws import JWSRegistry

    key = await _key(token.kid, issuer, fetch)
    # O.8
    # Over the bytes that came: joserfc's own reader of the header would refuse members that it does not know.
    if not JWSRegistry.algorithms["RS256"].verify(token.signed, token.signature, key):
        raise Invalid(
            "bad_provider_signature", f"{issuer.name} did not sign this id_token", "send the id_token unchanged"
        )


async def _key(kid: str | None, issuer: Issuer, fetch: Fetch) -> RSAKey:
    """Return the issuer's key of that id, asking past the cache once when it is not known."""
    # O.7
    url = issuer.jwks or await _discover(issuer, fetch)
    for newer in (False, True):
        key = _choose(_published(url, await fetch(url, newer=newer)), kid, url)
        if key is not None:
            return key
    raise Invalid(
        "unknown_provider_key",
        f"the id_token is signed with a key that {issuer.name} does not publish for RS256",
        "log in again; when the provider has just changed its keys, in a minute",
    )


async def _discover(issuer: Issuer, fetch: Fetch) -> str:
    url = issuer.issuer.rstrip("/") + DISCOVERY
    document = await fetch(url)
    if not isinstance(document, dict) or document.get("issuer") != issuer.issuer:
        raise bad_answer(url, "describes another issuer than the configured one")
    found = document.get("jwks_uri")
    try:
        same_host = isinstance(found, str) and origin(found) == origin(issuer.issuer)
    except ValueError:
        same_host = False
    if not same_host:
        raise bad_answer(url, "keeps its keys at another host: the operator must name their address as `jwks`")
    return str(found)


def _published(url: str, document: object) -> list[dict[str, Any]]:
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or len(keys) > _KEYS or not all(isinstance(key, dict) for key in keys):
        raise bad_answer(url, "did not answer with a set of keys")
    return keys


def _choose(keys: list[dict[str, Any]], kid: str | None, url: str) -> RSAKey | None:
    """Return the one key with that id (without an id: the only one) that may sign id_tokens; None if there is none."""
    found = [key for key in keys if (kid is None or key.get("kid") == kid) and _may_sign(key)]
    if len(found) > 1 and kid is None:
        raise _bad_form(f"it names no key, and {host_of(url)} has several")
    if len(found) > 1:
        raise bad_answer(url, "publishes two keys with the same id")
    if not found:
        return None
    from joserfc.jwk import RSAKey

    # Only the numbers: whatever else stands beside them has no say.
    return RSAKey.import_key({"kty": "RSA", "n": found[0]["n"], "e": found[0]["e"]})


def _may_sign(key: Mapping[str, Any]) -> bool:
    """Say whether a JWK (RFC 7517) is an RSA key of sound size that is meant for RS256 signatures."""
    operations = key.get("key_ops", ["verify"])
    meant = key.get("use", "sig") == "sig" and key.get("alg", "RS256") == "RS256"
    if key.get("kty") != "RSA" or not meant or not isinstance(operations, list) or "verify" not in operations:
        return False
    modulus, exponent = (_number(key.get(name)) for name in "ne")
    return MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS and exponent % 2 == 1 and 2**16 < exponent < 2**32


def _number(value: object) -> int:
    try:
        return int.from_bytes(from_base64url(value, "a number"), "big") if isinstance(value, str) else 0
    except Invalid:
        return 0
