"""Logins with an OpenID Connect provider: its real tokens get in, and every way to bend one is refused."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from keyquorum.auth import oidc
from keyquorum.auth.method import Context, Proven, method, prove
from keyquorum.auth.oidc import Issuer, OidcSettings
from keyquorum.auth.statement import CLOCK_SKEW, MAX_SESSION
from keyquorum.refusal import Invalid
from oidc_kit import CLIENT, ISSUER, Provider, jwk, part, rsa_key, sign


def conceal(type_number: int, name: bytes) -> bytes:
    return hmac.digest(b"secret", bytes([type_number]) + name, hashlib.sha256)


class Door:
    """One node's settings and one provider; `enter` tries a token."""

    def __init__(self, world: Any, **changes: Any) -> None:
        self.world = world
        self.statement = world.statement
        self.provider = Provider()
        google = {"name": "example", "issuer": ISSUER, "client_ids": [CLIENT, "phone.apps.example"]} | changes
        self.settings = OidcSettings([Issuer(**google)])

    @property
    def context(self) -> Context:
        return replace(self.world.context, fetch=self.provider.fetch, conceal=conceal, settings=self.settings)

    def claims(self, **changes: Any) -> dict[str, Any]:
        return self.provider.claims(self.statement.challenge, self.world.now, **changes)

    async def enter(self, token: str | None = None, **claims: Any) -> Proven:
        proof = {"id_token": self.provider.token(self.claims(**claims)) if token is None else token}
        return await method("oidc").verify(proof, self.statement, self.context)


@pytest.fixture
def door(world: Any) -> Door:
    return Door(world)


async def test_an_account_at_the_provider_logs_in(door: Door) -> None:
    proven = await door.enter()
    name = ISSUER.encode() + b"\0" + b"110169484474386276334"
    assert (proven.type, proven.id) == (6, conceal(6, name))
    assert door.provider.asked == [
        (ISSUER + "/.well-known/openid-configuration", False),
        (ISSUER + "/keys", False),
    ]


async def test_the_registry_finds_the_method(door: Door) -> None:
    proof = {"id_token": door.provider.token(door.claims())}
    assert (await prove("oidc", proof, door.statement, door.context)).type == 6


async def test_a_configured_address_of_keys_needs_no_discovery(world: Any) -> None:
    door = Door(world, jwks="https://keys.example/all")
    door.provider.documents = {"https://keys.example/all": {"keys": [jwk(door.provider.key, "one")]}}
    assert await door.enter()
    assert door.provider.asked == [("https://keys.example/all", False)]


# ---- whose ----------------------------------------------------------------------------------------------------------


async def test_the_same_mail_address_with_another_sub_is_another_person(door: Door) -> None:
    one, other = await door.enter(sub="1"), await door.enter(sub="2")
    assert one.id != other.id
    assert (await door.enter(sub="1", email="new@mail.example", email_verified=False)) == one
    assert (await door.enter(sub="1", email=None, email_verified=None)) == one


async def test_the_same_sub_at_another_provider_is_another_person(world: Any) -> None:
    door, other = Door(world), Door(world)
    other.provider = Provider("https://other.example")
    other.settings = OidcSettings([Issuer("other", "https://other.example", [CLIENT])])
    assert (await door.enter()).id != (await other.enter()).id


async def test_two_spellings_of_one_issuer_are_one_identity(world: Any) -> None:
    door = Door(world, spellings=["accounts.example"])
    assert await door.enter(iss="accounts.example") == await door.enter()


async def test_a_spelling_that_is_not_configured_is_another_issuer(door: Door, refused: Callable[..., Any]) -> None:
    for spelling in ("accounts.example", ISSUER + "/", ISSUER.upper(), ISSUER + ":443"):
        with refused("wrong_issuer", 401):
            await door.enter(iss=spelling)


async def test_issuer_and_sub_cannot_run_into_each_other(door: Door) -> None:
    assert oidc.account_name("https://a", "b") != oidc.account_name("https://ab", "")
    with pytest.raises(Invalid):
        await door.enter(sub="a\0b")


@pytest.mark.parametrize("sub", [None, "", "x" * 256, 7, ["1"], {"a": 1}, "caf\u00e9", "a\nb", True])
async def test_a_sub_that_is_not_short_plain_text_is_refused(
    door: Door, sub: object, refused: Callable[..., Any]
) -> None:
    with refused("bad_id_token", 400):
        await door.enter(sub=sub)


@pytest.mark.parametrize("sub", ["1", "x" * 255, "auth0|5f7c 8e"])
async def test_every_sub_of_the_standard_is_accepted(door: Door, sub: str) -> None:
    assert await door.enter(sub=sub)


# ---- for whom -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"iss": 5},
        {"iss": [ISSUER]},
        {"iss": ISSUER + ".evil.example"},
    ],
)
async def test_a_token_of_another_issuer_is_refused_and_nobody_is_asked(
    door: Door, claims: dict[str, Any], refused: Callable[..., Any]
) -> None:
    with refused("wrong_issuer", 401):
        await door.enter(**claims)
    assert door.provider.asked == []


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "other.apps.example"},
        {"aud": None},
        {"aud": 5},
        {"aud": []},
        {"aud": [CLIENT, 5], "azp": CLIENT},
        {"aud": ["other.apps.example"]},
        {"aud": CLIENT + " "},
        {"aud": CLIENT.upper()},
        {"aud": CLIENT, "azp": "other.apps.example"},
        {"aud": CLIENT, "azp": ""},
        {"aud": CLIENT, "azp": 5},
        {"aud": [CLIENT, "other.apps.example"]},
        {"aud": [CLIENT, "other.apps.example"], "azp": "other.apps.example"},
        {"aud": ["other.apps.example", "third.apps.example"], "azp": CLIENT},
        {"aud": [CLIENT] * 17, "azp": CLIENT},
    ],
)
async def test_a_token_made_for_another_application_is_refused(
    door: Door, claims: dict[str, Any], refused: Callable[..., Any]
) -> None:
    with refused("wrong_audience", 401):
        await door.enter(**claims)


async def test_an_azp_of_null_is_not_an_absent_one(door: Door, refused: Callable[..., Any]) -> None:
    with refused("wrong_audience"):
        await door.enter(door.provider.token(door.claims() | {"azp": None}))


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": [CLIENT]},
        {"aud": "phone.apps.example"},
        {"aud": CLIENT, "azp": CLIENT},
        {"aud": CLIENT, "azp": "phone.apps.example"},
        {"aud": ["other.apps.example", CLIENT], "azp": CLIENT},
        {"aud": ["other.apps.example"] * 15 + [CLIENT], "azp": CLIENT},
    ],
)
async def test_a_token_for_one_of_our_applications_is_accepted(door: Door, claims: dict[str, Any]) -> None:
    assert await door.enter(**claims)


async def test_one_issuers_application_is_not_the_others(world: Any, refused: Callable[..., Any]) -> None:
    door = Door(world)
    other = Issuer("other", "https://other.example", ["only.there"])
    door.settings = OidcSettings([*door.settings.issuers, other])
    with refused("wrong_audience"):
        await door.enter(aud="only.there")


# ---- when -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"iat": CLOCK_SKEW}, None),
        ({"iat": CLOCK_SKEW + 1}, "clock_skew"),
        ({"nbf": CLOCK_SKEW}, None),
        ({"nbf": CLOCK_SKEW + 1}, "clock_skew"),
        ({"iat": -oidc.MAX_AGE - CLOCK_SKEW}, None),
        ({"iat": -oidc.MAX_AGE - CLOCK_SKEW - 1}, "login_too_old"),
        ({"iat": -300, "exp": 1 - CLOCK_SKEW}, None),
        ({"iat": -300, "exp": -CLOCK_SKEW}, "id_token_expired"),
    ],
)
async def test_the_times_of_a_token_agree_with_the_clock_within_a_minute(
    door: Door, claims: dict[str, int], code: str | None, refused: Callable[..., Any]
) -> None:
    moved = {name: door.world.now + seconds for name, seconds in claims.items()}
    if code is None:
        assert await door.enter(**moved) == await door.enter()
        return
    with refused(code, 401):
        await door.enter(**moved)


@pytest.mark.parametrize("value", [None, "1800000000", 1.8e9, True, -1, 2**41, [1]])
@pytest.mark.parametrize("name", ["iat", "exp"])
async def test_a_time_that_is_no_whole_second_is_refused(
    door: Door, name: str, value: object, refused: Callable[..., Any]
) -> None:
    with refused("bad_id_token", 400):
        await door.enter(**{name: value})


async def test_a_token_lasts_no_longer_session_than_a_day(door: Door, refused: Callable[..., Any]) -> None:
    door.statement = replace(door.statement, expires=door.world.now + MAX_SESSION)
    assert await door.enter()
    with refused("session_too_long"):
        await door.enter(iat=door.world.now - 1)
    door.statement = replace(door.statement, expires=door.world.now)
    with refused("session_too_long"):
        await door.enter()


# ---- for which login ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nonce", [None, "", "0" * 64, 5, ["x"]])
async def test_a_token_for_another_challenge_is_refused_and_nobody_is_asked(
    door: Door, nonce: object, refused: Callable[..., Any]
) -> None:
    with refused("wrong_challenge", 401):
        await door.enter(nonce=nonce)
    with refused("wrong_challenge", 401):
        await door.enter(nonce=door.statement.challenge.upper())
    with refused("wrong_challenge", 401):
        await door.enter(nonce=[door.statement.challenge])
    assert door.provider.asked == []


async def test_a_captured_token_is_worth_nothing_for_any_other_statement(
    door: Door, refused: Callable[..., Any]
) -> None:
    from keyquorum.auth.session_key import SessionPrivateKey

    token = door.provider.token(door.claims())
    for change in (
        {"session": SessionPrivateKey.generate().public},
        {"keys": ("0x" + "1" * 64,)},
        {"scopes": (1,)},
        {"expires": door.statement.expires + 1},
        {"nonce": "cd" * 16},
        {"block": "0x" + "22" * 32},
    ):
        door.statement = replace(door.world.statement, **change)
        with refused("wrong_challenge"):
            await door.enter(token)


# ---- signed by whom -------------------------------------------------------------------------------------------------


async def test_algorithm_none_is_refused(door: Door, refused: Callable[..., Any]) -> None:
    for name in ("none", "None", "NONE", "nOnE"):
        for signature in ("", "AA"):
            token = f"{part({'alg': name, 'typ': 'JWT', 'kid': 'one'})}.{part(door.claims())}.{signature}"
            with refused("bad_id_token", 400):
                await door.enter(token)


async def test_hs256_with_the_public_key_as_its_secret_is_refused(door: Door, refused: Callable[..., Any]) -> None:
    public = door.provider.key.public_key()
    text = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'one'})}.{part(door.claims())}"
    formats = serialization.PublicFormat
    for encoding, form in (
        (serialization.Encoding.PEM, formats.SubjectPublicKeyInfo),
        (serialization.Encoding.PEM, formats.PKCS1),
        (serialization.Encoding.DER, formats.SubjectPublicKeyInfo),
    ):
        mac = hmac.digest(public.public_bytes(encoding, form), text.encode(), hashlib.sha256)
        with refused("bad_id_token", 400):
            await door.enter(f"{text}.{part(mac)}")


async def test_other_algorithms_are_refused_though_the_key_fits(door: Door, refused: Callable[..., Any]) -> None:
    claims = door.claims()
    for name, hash_ in (("RS384", hashes.SHA384()), ("RS512", hashes.SHA512())):
        with refused("bad_id_token", 400):
            await door.enter(sign({"alg": name, "typ": "JWT", "kid": "one"}, claims, door.provider.key, hash_))
    text = f"{part({'alg': 'PS256', 'typ': 'JWT', 'kid': 'one'})}.{part(claims)}"
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    with refused("bad_id_token", 400):
        await door.enter(f"{text}.{part(door.provider.key.sign(text.encode(), pss, hashes.SHA256()))}")
    # ... and under a header that says RS256, what is signed in another way does not verify.
    text = f"{part({'alg': 'RS256', 'typ': 'JWT', 'kid': 'one'})}.{part(claims)}"
    for signature in (
        door.provider.key.sign(text.encode(), pss, hashes.SHA256()),
        door.provider.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA512()),
        b"",
        bytes(256),
    ):
        with refused("bad_provider_signature", 401):
            await door.enter(f"{text}.{part(signature)}")


async def test_a_strangers_key_and_a_changed_token_are_refused(door: Door, refused: Callable[..., Any]) -> None:
    with refused("bad_provider_signature", 401):
        await door.enter(door.provider.token(door.claims(), rsa_key("stranger")))
    header, _, signature = door.provider.token(door.claims()).split(".")
    with refused("bad_provider_signature", 401):
        await door.enter(f"{header}.{part(door.claims(sub='2'))}.{signature}")


@pytest.mark.parametrize(
    "name", ["jku", "x5u", "jwk", "x5c", "x5t", "x5t#S256", "b64", "zip", "cty", "nonce", "tenant"]
)
async def test_a_header_member_that_is_not_known_is_ignored_and_leads_nowhere(
    door: Door, name: str, refused: Callable[..., Any]
) -> None:
    attacker = rsa_key("stranger")
    value = {
        "jku": "https://evil.example/keys",
        "jwk": jwk(attacker, "one"),
        "b64": False,
        "x5c": ["MII" * 900],
        "zip": 5,
    }
    header = {name: value.get(name, "https://evil.example/keys")}
    assert await door.enter(door.provider.token(door.claims(), **header))
    with refused("bad_provider_signature", 401):
        await door.enter(door.provider.token(door.claims(), attacker, **header))
    assert {url for url, _ in door.provider.asked} <= set(door.provider.documents)


@pytest.mark.parametrize("crit", [["exp"], [], "exp", 0, ["b64"]])
async def test_critical_extensions_are_refused(door: Door, crit: object, refused: Callable[..., Any]) -> None:
    with refused("bad_id_token", 400):
        await door.enter(door.provider.token(door.claims(), crit=crit))
    with refused("bad_id_token", 400):
        await door.enter(sign({"alg": "RS256", "kid": "one", "crit": None}, door.claims(), door.provider.key))
    assert door.provider.asked == []


@pytest.mark.parametrize("kid", ["../../evil", "https://evil.example/key", "' OR 1=1 --", "one\0", "one "])
async def test_a_key_id_is_only_compared(door: Door, kid: str) -> None:
    with pytest.raises(Invalid) as caught:
        await door.enter(door.provider.token(door.claims(), rsa_key("stranger"), kid=kid))
    assert caught.value.code in ("unknown_provider_key", "bad_id_token")
    assert {url for url, _ in door.provider.asked} <= set(door.provider.documents)


@pytest.mark.parametrize("kid", ["", "x" * 257, 5, ["one"], {"a": 1}, True])
async def test_a_key_id_that_is_no_text_is_refused(door: Door, kid: object, refused: Callable[..., Any]) -> None:
    with refused("bad_id_token", 400):
        await door.enter(door.provider.token(door.claims(), kid=kid))
    with refused("bad_id_token", 400):
        await door.enter(sign({"alg": "RS256", "kid": None}, door.claims(), door.provider.key))


@pytest.mark.parametrize(
    ("kind", "good"),
    [
        ("JWT", True),
        (None, True),
        ("at+jwt", False),
        ("logout+jwt", False),
        ("jwt", True),
        ("application/jwt", True),
        ("Application/JWT", True),
        ("application/at+jwt", False),
        ("application/application/jwt", False),
        ("text/jwt", False),
        (" jwt", False),
        ("", False),
        (["JWT"], False),
        ("keyquorum-session+jwt", False),
        (5, False),
    ],
)
async def test_only_an_id_token_is_one(door: Door, kind: object, good: bool, refused: Callable[..., Any]) -> None:
    token = door.provider.token(door.claims(), typ=kind)
    if good:
        assert await door.enter(token)
        return
    with refused("bad_id_token", 400):
        await door.enter(token)


# ---- the provider's keys --------------------------------------------------------------------------------------------


async def test_after_a_rotation_the_keys_are_asked_for_once_past_the_cache(door: Door) -> None:
    new = rsa_key("two")
    door.provider.newer[door.provider.jwks] = {"keys": [jwk(door.provider.key, "one"), jwk(new, "two")]}
    assert await door.enter(door.provider.token(door.claims(), new, kid="two"))
    assert [newer for url, newer in door.provider.asked if url == door.provider.jwks] == [False, True]


async def test_an_unknown_key_is_looked_for_exactly_once_more(door: Door, refused: Callable[..., Any]) -> None:
    with refused("unknown_provider_key", 401):
        await door.enter(door.provider.token(door.claims(), kid="ghost"))
    assert [newer for url, newer in door.provider.asked if url == door.provider.jwks] == [False, True]


async def test_a_known_key_is_never_asked_for_past_the_cache(door: Door, refused: Callable[..., Any]) -> None:
    with refused("bad_provider_signature"):
        await door.enter(door.provider.token(door.claims(), rsa_key("stranger")))
    assert not any(newer for _, newer in door.provider.asked)


async def test_a_key_that_the_provider_withdrew_is_refused(door: Door, refused: Callable[..., Any]) -> None:
    token = door.provider.token(door.claims())
    door.provider.documents[door.provider.jwks] = {"keys": [jwk(rsa_key("two"), "two")]}
    with refused("unknown_provider_key"):
        await door.enter(token)


async def test_without_a_key_id_the_only_key_is_meant_but_never_one_of_several(
    door: Door, refused: Callable[..., Any]
) -> None:
    token = door.provider.token(door.claims(), kid=None)
    encryption = jwk(rsa_key("two"), "two", use="enc")
    door.provider.documents[door.provider.jwks] = {"keys": [encryption, jwk(door.provider.key, None)]}
    assert await door.enter(token)
    door.provider.documents[door.provider.jwks] = {"keys": [jwk(door.provider.key, "one"), jwk(rsa_key("two"), "two")]}
    with refused("bad_id_token", 400):
        await door.enter(token)


@pytest.mark.parametrize(
    "changes",
    [
        {"kty": "EC"},
        {"kty": None},
        {"use": "enc"},
        {"use": 5},
        {"alg": "RS512"},
        {"alg": "RSA-OAEP"},
        {"key_ops": ["encrypt"]},
        {"key_ops": "verify"},
        {"n": None},
        {"n": 5},
        {"n": "not base64!"},
        {"e": None},
        {"e": "AQ"},
        {"e": "Aw"},
        {"e": "AQAA"},
        {"e": "AQAC"},
        {"e": "AQAAAAAAAQ"},
    ],
)
async def test_a_key_that_is_not_meant_or_not_fit_for_this_is_none(
    door: Door, changes: dict[str, Any], refused: Callable[..., Any]
) -> None:
    door.provider.documents[door.provider.jwks] = {"keys": [jwk(door.provider.key, "one", **changes)]}
    with refused("unknown_provider_key"):
        await door.enter()


@pytest.mark.parametrize("changes", [{"use": None}, {"alg": None}, {"key_ops": ["verify"]}, {"x5c": ["?"], "foo": 1}])
async def test_what_a_key_does_not_say_is_not_held_against_it(door: Door, changes: dict[str, Any]) -> None:
    door.provider.documents[door.provider.jwks] = {"keys": [jwk(door.provider.key, "one", **changes), {"kty": "oct"}]}
    assert await door.enter()


@pytest.mark.parametrize(
    ("bits", "good"), [(1024, False), (oidc.MIN_RSA_BITS - 1, False), (oidc.MIN_RSA_BITS, True), (3072, True)]
)
async def test_rsa_keys_below_2048_bits_are_too_small(
    door: Door, bits: int, good: bool, refused: Callable[..., Any]
) -> None:
    door.provider.key = rsa_key(f"{bits} bits", bits)
    door.provider.documents[door.provider.jwks] = {"keys": [jwk(door.provider.key, "one")]}
    if good:
        assert await door.enter()
        return
    with refused("unknown_provider_key"):
        await door.enter()


async def test_a_huge_key_is_not_worth_the_time(door: Door, refused: Callable[..., Any]) -> None:
    huge = jwk(door.provider.key, "one", n=part(b"\xff" * (oidc.MAX_RSA_BITS // 8 + 1)))
    door.provider.documents[door.provider.jwks] = {"keys": [huge]}
    with refused("unknown_provider_key"):
        await door.enter()


async def test_a_private_or_foreign_part_beside_a_key_has_no_say(door: Door) -> None:
    numbers = rsa_key("stranger").private_numbers()
    private = {"d": part(numbers.d.to_bytes(256, "big")), "x5u": "https://evil.example/"}
    door.provider.documents[door.provider.jwks] = {"keys": [jwk(door.provider.key, "one", **private)]}
    assert await door.enter()


async def test_a_provider_may_have_many_keys(door: Door) -> None:
    others = [{"kty": "oct", "kid": str(number)} for number in range(oidc._KEYS - 1)]
    door.provider.documents[door.provider.jwks] = {"keys": [*others, jwk(door.provider.key, "one")]}
    assert await door.enter()


async def test_keys_of_other_kinds_may_share_a_key_id(door: Door) -> None:
    ec_key = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    other = {"kty": "EC", "crv": "P-256", "kid": "one", "x": part(ec_key.x.to_bytes(32, "big")), "y": "AA"}
    door.provider.documents[door.provider.jwks] = {"keys": [other, jwk(door.provider.key, "one")]}
    assert await door.enter()


# ---- a provider that answers nonsense -------------------------------------------------------------------------------


def bad_provider(caught: pytest.ExceptionInfo[Invalid]) -> None:
    assert (caught.value.code, caught.value.status) == ("provider_bad_answer", 503)
    assert "accounts.example" in caught.value.message


@pytest.mark.parametrize(
    "answer",
    [None, [], "keys", 5, {}, {"keys": None}, {"keys": {}}, {"keys": ["x"]}, {"keys": [{}] * (oidc._KEYS + 1)}],
)
async def test_keys_of_another_shape_are_the_providers_failure(door: Door, answer: object) -> None:
    door.provider.documents[door.provider.jwks] = answer
    with pytest.raises(Invalid) as caught:
        await door.enter()
    bad_provider(caught)


async def test_two_fitting_keys_with_one_name_are_the_providers_failure(door: Door) -> None:
    door.provider.documents[door.provider.jwks] = {"keys": [jwk(rsa_key("two"), "one"), jwk(door.provider.key, "one")]}
    with pytest.raises(Invalid) as caught:
        await door.enter()
    bad_provider(caught)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"issuer": ISSUER},
        {"issuer": "https://evil.example", "jwks_uri": ISSUER + "/keys"},
        {"issuer": ISSUER, "jwks_uri": "https://evil.example/keys"},
        {"issuer": ISSUER, "jwks_uri": "http://accounts.example/keys"},
        {"issuer": ISSUER, "jwks_uri": "https://accounts.example:8443/keys"},
        {"issuer": ISSUER, "jwks_uri": "https://accounts.example@evil.example/keys"},
        {"issuer": ISSUER, "jwks_uri": "https://accounts.example.evil.example/keys"},
        {"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"},
        {"issuer": ISSUER, "jwks_uri": 5},
        {"issuer": ISSUER + "/", "jwks_uri": ISSUER + "/keys"},
    ],
)
async def test_a_discovery_document_leads_nowhere_but_to_the_issuers_own_host(door: Door, document: object) -> None:
    discovery = ISSUER + "/.well-known/openid-configuration"
    door.provider.documents[discovery] = document
    with pytest.raises(Invalid) as caught:
        await door.enter()
    bad_provider(caught)
    assert door.provider.asked == [(discovery, False)]


async def test_a_provider_that_is_down_is_named(door: Door) -> None:
    del door.provider.documents[door.provider.jwks]
    with pytest.raises(Invalid) as caught:
        await door.enter()
    assert (caught.value.code, caught.value.status) == ("provider_unavailable", 503)


# ---- form -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a",
        "a.b",
        "..",
        "a.b.c.d",
        "x" * 100_000,
        ("A" * 600) + ".e30.AA",
        "e30.e30.AA",
        "W10.e30.AA",
        "!!.e30.AA",
        "e30=.e30.AA",
        "e30.e30.AA.",
    ],
)
async def test_text_that_is_no_token_is_malformed(door: Door, token: str) -> None:
    with pytest.raises(Invalid) as caught:
        await door.enter(token)
    assert caught.value.status == 400
    assert door.provider.asked == []


async def test_a_token_has_three_parts_of_bounded_length(door: Door, refused: Callable[..., Any]) -> None:
    header, claims, signature = door.provider.token(door.claims()).split(".")
    long_header = sign({"alg": "RS256", "kid": "x" * 256, "x5t": "y" * 8192}, door.claims(), door.provider.key)
    for token in (
        f"{header}.{claims}",
        f"{header}.{claims}.{signature}.",
        f"{header}.{claims}.{signature}.{signature}",
        long_header,
        f"{header}.{claims}.{part(bytes(769))}",
    ):
        with refused("bad_id_token", 400):
            await door.enter(token)
    assert door.provider.asked == []


async def test_a_hundred_kilobytes_of_good_token_are_too_many(door: Door, refused: Callable[..., Any]) -> None:
    assert await door.enter(groups=["x"] * 2000)
    with refused("bad_value", 400):
        await door.enter(groups=["x" * 1000] * 100)


async def test_a_claim_or_header_given_twice_is_refused_though_it_is_signed(
    door: Door, refused: Callable[..., Any]
) -> None:
    good = json.dumps(door.claims())
    for twice in ('"sub": "2"', '"aud": "x"', '"nonce": "x"', '"foo": 1, "foo": 2'):
        claims = (good[:-1] + ", " + twice + "}").encode()
        with refused("duplicate_key", 400):
            await door.enter(door.provider.token(claims))
    header = b'{"alg": "none", "alg": "RS256", "kid": "one"}'
    with refused("duplicate_key", 400):
        await door.enter(sign(header, door.claims(), door.provider.key))


async def test_a_second_spelling_of_a_token_is_refused(door: Door, refused: Callable[..., Any]) -> None:
    header, claims, signature = door.provider.token(door.claims()).split(".")
    last = signature[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = signature[:-1] + alphabet[alphabet.index(last) ^ 1]
    for other in (twin, signature + "==", signature + "=", signature + "\n"):
        with refused("bad_encoding", 400):
            await door.enter(f"{header}.{claims}.{other}")


@pytest.mark.parametrize("claims", [b"[]", b"null", b'"x"', b"{", b"\xff", b'{"a": NaN}', b"[" * 50 + b"]" * 50])
async def test_claims_that_are_no_json_object_are_malformed(door: Door, claims: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        await door.enter(door.provider.token(claims))
    assert caught.value.status == 400


async def test_claims_nobody_reads_may_be_fractions(door: Door) -> None:
    assert await door.enter(score=0.5)


@pytest.mark.parametrize("proof", [None, [], "x", {}, {"id_token": 5}, {"id_token": "x", "issuer": ISSUER}])
async def test_a_proof_of_any_other_form_is_malformed(door: Door, proof: object) -> None:
    with pytest.raises(Invalid) as caught:
        await method("oidc").verify(proof, door.statement, door.context)
    assert caught.value.status == 400


async def test_no_part_of_a_token_is_in_an_error(door: Door) -> None:
    tokens = [
        door.provider.token(door.claims(sub="canary-sub", **changes))
        for changes in ({"nonce": "canary"}, {"aud": "canary"}, {"iss": "canary"}, {"iat": "canary"})
    ]
    tokens += [
        door.provider.token(door.claims(sub="canary"), rsa_key("stranger")),
        door.provider.token(door.claims(sub="canary"), kid="canary"),
        door.provider.token(door.claims(sub="canary"), alg="canary"),
    ]
    for token in tokens:
        with pytest.raises(Invalid) as caught:
            await door.enter(token)
        words = repr((str(caught.value), caught.value.message, caught.value.hint))
        assert "canary" not in words
        assert not any(piece in words for piece in token.split("."))


# ---- settings -------------------------------------------------------------------------------------------------------


async def test_without_settings_the_method_says_so(door: Door) -> None:
    with pytest.raises(Invalid) as caught:
        proof = {"id_token": door.provider.token(door.claims())}
        await method("oidc").verify(proof, door.statement, replace(door.context, settings=None))
    assert (caught.value.code, caught.value.status) == ("not_configured", 503)


GOOD = {"name": "google", "issuer": "https://accounts.google.com", "client_ids": ["a"]}


@pytest.mark.parametrize(
    "issuers",
    [
        [],
        [{}],
        [GOOD | {"issuer": "accounts.google.com"}],
        [GOOD | {"issuer": "http://accounts.google.com"}],
        [GOOD | {"issuer": "https://"}],
        [GOOD | {"issuer": "https://user@accounts.google.com"}],
        [GOOD | {"issuer": "https://accounts.google.com?x"}],
        [GOOD | {"issuer": "https://accounts.google.com#x"}],
        [GOOD | {"issuer": "https://accounts google.com"}],
        [GOOD | {"issuer": "https://accounts.google.com\\@evil"}],
        [GOOD | {"jwks": "http://www.googleapis.com/oauth2/v3/certs"}],
        [GOOD | {"jwks": "certs"}],
        [GOOD | {"client_ids": []}],
        [GOOD | {"client_ids": [""]}],
        [GOOD | {"name": "Google"}],
        [GOOD | {"colour": "red"}],
        [GOOD, GOOD | {"issuer": "https://b"}],
        [GOOD, GOOD | {"name": "b"}],
        [GOOD, GOOD | {"name": "b", "issuer": "https://b", "spellings": ["https://accounts.google.com"]}],
    ],
)
def test_settings_that_cannot_be_meant_are_refused(issuers: list[dict[str, Any]]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"issuers": issuers}, OidcSettings)


def test_settings_for_google_a_second_provider_and_one_on_the_own_machine_are_read() -> None:
    google = GOOD | {"jwks": "https://www.googleapis.com/oauth2/v3/certs", "spellings": ["accounts.google.com"]}
    apple = {"name": "apple", "issuer": "https://appleid.apple.com", "client_ids": ["com.example.wallet"]}
    local = {"name": "local", "issuer": "http://127.0.0.1:9000", "client_ids": ["x"]}
    found = msgspec.convert({"issuers": [google, apple, local]}, OidcSettings)
    assert [issuer.name for issuer in found.issuers] == ["google", "apple", "local"]


def test_the_library_is_loaded_only_when_a_token_is_verified() -> None:
    import subprocess
    import sys

    program = "import sys, keyquorum.auth.oidc; sys.exit('joserfc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_an_rsa_key_is_really_what_the_tests_sign_with() -> None:
    assert isinstance(rsa_key("one"), rsa.RSAPrivateKey) and rsa_key("2047 bits", 2047).key_size == 2047
