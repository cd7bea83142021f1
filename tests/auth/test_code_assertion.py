"""Codes as a login method: what a node asks of code services' assertions, and that each of its checks is needed."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from keyquorum.algebra.rng import SeededRng
from keyquorum.auth import code_assertion
from keyquorum.auth.code_assertion import CodeSettings, Issuer, check_answer, fingerprint, make_answer, make_assertion
from keyquorum.auth.method import Proven
from keyquorum.auth.network import network_id
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.formats import jws
from keyquorum.refusal import Invalid

MAIL = "ada@example.org"
KEYS = {name: SessionPrivateKey.generate(SeededRng(name)) for name in ("mail-a", "mail-b", "mail-c", "stranger")}
THIEF = SessionPrivateKey.generate(SeededRng("thief"))
AT = 10  # seconds after the statement was made


def issuer(name: str) -> Issuer:
    return Issuer(name, KEYS[name].public.to_jwk())


def conceal(type_number: int, name: bytes) -> bytes:
    return hashlib.sha256(b"%d:" % type_number + name).digest()


@pytest.fixture
def context(world: Any) -> Any:
    settings = CodeSettings(2, [issuer("mail-a"), issuer("mail-b"), issuer("mail-c")])
    return replace(world.context, now=world.now + AT, settings=settings, conceal=conceal)


class Maker:
    """Makes proofs; each test changes the one claim it is about."""

    def __init__(self, world: Any) -> None:
        self.world = world

    def assertion(self, name: str, key: SessionPrivateKey | None = None, **changes: Any) -> str:
        statement = self.world.statement
        claims = {
            "iss": name,
            "network": statement.network,
            "channel": "email",
            "address": MAIL,
            "challenge": statement.challenge,
            "session": statement.session.thumbprint,
            "iat": self.world.now,
            "exp": self.world.now + 600,
        }
        signing_input = jws.make_input("ES256", "keyquorum-code+jws", claims | changes)
        return jws.assemble(signing_input, (key or KEYS[name]).sign(signing_input))

    def proof(self, *names: str, address: str = MAIL, **changes: Any) -> dict[str, Any]:
        return {"address": address, "assertions": [self.assertion(name, **changes) for name in names]}


@pytest.fixture
def maker(world: Any) -> Maker:
    return Maker(world)


async def test_k_of_m_services_prove_the_concealed_address(world: Any, context: Any, maker: Maker) -> None:
    for names in itertools.permutations(("mail-a", "mail-b", "mail-c"), 2):
        proven = await prove_in(context, "email", maker.proof(*names), world.statement)
        assert proven == Proven(20, conceal(20, MAIL.encode()))


async def prove_in(context: Any, name: str, proof: Any, statement: Any) -> Proven:
    """The method's own verify: `prove` would fill the settings in from a context that holds those of all methods."""
    from keyquorum.auth.method import methods

    return await methods()[name].verify(proof, statement, context)


async def test_what_the_service_makes_is_what_the_node_reads(world: Any, context: Any) -> None:
    tokens = [
        make_assertion(KEYS[name], name, "email", MAIL, world.statement, issued_at=world.now + late)
        for name, late in (("mail-a", 0), ("mail-b", 7))
    ]
    proven = await prove_in(context, "email", {"address": MAIL, "assertions": tokens}, world.statement)
    assert proven.id == conceal(20, MAIL.encode())


async def test_sms_is_the_same_with_numbers_and_another_type(world: Any, context: Any, maker: Maker) -> None:
    number = "+4915123456789"
    proof = maker.proof("mail-a", "mail-c", address=number)
    proof["assertions"] = [maker.assertion(name, channel="sms", address=number) for name in ("mail-a", "mail-c")]
    assert await prove_in(context, "sms", proof, world.statement) == Proven(21, conceal(21, number.encode()))


async def test_the_method_refuses_without_settings(world: Any, context: Any, maker: Maker) -> None:
    for name in ("email", "sms"):
        with pytest.raises(Invalid) as caught:
            await prove_in(replace(context, settings=None), name, maker.proof("mail-a", "mail-b"), world.statement)
        assert caught.value.code == "not_configured"
        assert caught.value.status == 503 and f"[auth.{name}]" in caught.value.hint


# ---- fewer than k -----------------------------------------------------------------------------------------------


async def test_fewer_than_k_services_prove_nothing(
    world: Any, context: Any, maker: Maker, refused: Callable[..., Any]
) -> None:
    with refused("too_few_assertions"):
        await prove_in(context, "email", maker.proof("mail-a"), world.statement)


async def test_one_service_twice_is_not_two_services(
    world: Any, context: Any, maker: Maker, refused: Callable[..., Any]
) -> None:
    again = maker.assertion("mail-a", iat=world.now + 1)
    for tokens in (maker.proof("mail-a", "mail-a")["assertions"], [maker.assertion("mail-a"), again]):
        with refused("too_few_assertions"):
            await prove_in(context, "email", {"address": MAIL, "assertions": tokens}, world.statement)


async def test_an_unknown_service_counts_for_nothing_even_besides_enough_known_ones(
    world: Any, context: Any, maker: Maker, refused: Callable[..., Any]
) -> None:
    for names in (("mail-a", "stranger"), ("mail-a", "mail-b", "stranger")):
        with refused("unknown_issuer"):
            await prove_in(context, "email", maker.proof(*names), world.statement)


async def test_a_stranger_cannot_sign_in_a_services_name(
    world: Any, context: Any, maker: Maker, refused: Callable[..., Any]
) -> None:
    forged = maker.assertion("mail-b", KEYS["stranger"])
    with refused("bad_assertion"):
        await prove_in(
            context, "email", {"address": MAIL, "assertions": [maker.assertion("mail-a"), forged]}, world.statement
        )
    one_as_two = maker.assertion("mail-b", KEYS["mail-a"])
    with refused("bad_assertion"):
        await prove_in(
            context, "email", {"address": MAIL, "assertions": [maker.assertion("mail-a"), one_as_two]}, world.statement
        )


# ---- for exactly this login -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"address": "eve@example.org"}, "wrong_address"),
        ({"channel": "sms"}, "wrong_address"),
        ({"network": network_id(1, bytes(range(20)))}, "wrong_network"),
        ({"challenge": "00" * 32}, "wrong_challenge"),
        ({"session": THIEF.public.thumbprint}, "wrong_session"),
        ({"exp": 1_800_000_601}, "bad_assertion"),
        ({"exp": 1_800_000_000}, "bad_assertion"),
        ({"iat": 1_800_000_071, "exp": 1_800_000_100}, "clock_skew"),
        ({"iat": 1_799_999_350, "exp": 1_799_999_950}, "assertion_expired"),
    ],
)
async def test_every_claim_must_be_of_this_login(
    world: Any, context: Any, maker: Maker, refused: Callable[..., Any], change: dict[str, Any], code: str
) -> None:
    with refused(code, 401):
        tokens = [maker.assertion("mail-a"), maker.assertion("mail-b", **change)]
        await prove_in(context, "email", {"address": MAIL, "assertions": tokens}, world.statement)


async def test_a_minute_of_difference_between_clocks_is_tolerated(world: Any, context: Any, maker: Maker) -> None:
    for change in (
        {"iat": world.now + AT + 60, "exp": world.now + 600},
        {"iat": world.now - 649 + AT, "exp": world.now - 49},
    ):
        tokens = [maker.assertion(name, **change) for name in ("mail-a", "mail-b")]
        assert await prove_in(context, "email", {"address": MAIL, "assertions": tokens}, world.statement)


async def test_an_assertion_does_not_stretch_a_session_beyond_a_day(
    world: Any, context: Any, refused: Callable[..., Any]
) -> None:
    longer = replace(world.statement, expires=world.now + 24 * 3600)

    def proof(issued_at: int) -> dict[str, Any]:
        tokens = [
            make_assertion(KEYS[name], name, "email", MAIL, longer, issued_at=issued_at)
            for name in ("mail-a", "mail-b")
        ]
        return {"address": MAIL, "assertions": tokens}

    assert await prove_in(context, "email", proof(world.now), longer)
    with refused("session_too_long"):
        await prove_in(context, "email", proof(world.now - 1), longer)


async def test_a_captured_proof_proves_nothing_for_any_other_statement(world: Any, context: Any, maker: Maker) -> None:
    """T40: what a node sees, it can use for nothing but the very session that the person opened."""
    proof = maker.proof("mail-a", "mail-b")
    attempts = [
        replace(world.statement, session=THIEF.public),
        replace(world.statement, keys=("0x" + "ab" * 32,)),
        replace(world.statement, scopes=(1, 2, 3, 4, 5, 6)),
        replace(world.statement, scopes=()),
        replace(world.statement, expires=world.statement.expires + 1),
        replace(world.statement, nonce="ac" * 16),
        replace(world.statement, block="0x" + "12" * 32),
        replace(world.statement, uses=world.statement.uses + 1),
    ]
    accepted = 0
    for statement in attempts:
        try:
            await prove_in(context, "email", proof, statement)
            accepted += 1
        except Invalid as error:
            assert error.code == "wrong_challenge"
    assert (len(attempts), accepted) == (8, 0)


async def test_challenge_and_session_are_each_bound(world: Any, context: Any, maker: Maker, refused: Any) -> None:
    stolen = replace(world.statement, session=THIEF.public)
    with refused("wrong_session"):
        await prove_in(context, "email", maker.proof("mail-a", "mail-b", challenge=stolen.challenge), stolen)


async def test_a_mail_proof_is_no_sms_proof_and_the_other_way_round(
    world: Any, context: Any, maker: Maker, refused: Callable[..., Any]
) -> None:
    with refused("bad_mail_or_phone"):
        await prove_in(context, "sms", maker.proof("mail-a", "mail-b"), world.statement)
    number = "+4915123456789"
    tokens = [maker.assertion(name, address=number) for name in ("mail-a", "mail-b")]
    with refused("wrong_address"):
        await prove_in(context, "sms", {"address": number, "assertions": tokens}, world.statement)


# ---- form -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"address": 5},
        {"assertions": []},
        {"assertions": "x"},
        {"assertions": [5, 6]},
        {"assertions": ["x"] * 17},
        {"assertions": ["x" * 2049] * 2},
        {"assertions": ["a.b.c"] * 2},
        {"extra": 1},
        {"address": "a" * 255},
    ],
)
async def test_a_proof_of_another_form_is_refused_before_any_key_is_touched(
    world: Any, context: Any, maker: Maker, change: dict[str, Any]
) -> None:
    with pytest.raises(Invalid) as caught:
        await prove_in(context, "email", maker.proof("mail-a", "mail-b") | change, world.statement)
    assert caught.value.status == 400


async def test_the_address_must_be_in_its_normal_form(
    world: Any, context: Any, maker: Maker, refused: Callable[..., Any]
) -> None:
    for address in ("Ada@example.org", "ada@EXAMPLE.org", " ada@example.org", "ada@bücher.example"):
        tokens = [maker.assertion(name, address=address) for name in ("mail-a", "mail-b")]
        with refused("bad_mail_or_phone", 400):
            await prove_in(context, "email", {"address": address, "assertions": tokens}, world.statement)


def test_a_session_request_or_other_token_is_no_assertion(
    world: Any, maker: Maker, refused: Callable[..., Any]
) -> None:
    claims = {"a": 1}
    for kind in ("keyquorum-request+jws", "keyquorum-code-answer+jws", "JWT"):
        signing_input = jws.make_input("ES256", kind, claims)
        with refused("bad_token"):
            code_assertion.read_assertion(jws.assemble(signing_input, KEYS["mail-a"].sign(signing_input)))


# ---- settings ---------------------------------------------------------------------------------------------------


def compressed(key: SessionPrivateKey) -> str:
    return "0x" + bytes([2 + (key.public.y[-1] & 1)]).hex() + key.public.x.hex()


def test_a_key_is_written_as_a_jwk_or_compressed() -> None:
    for key in KEYS.values():
        assert Issuer("a", compressed(key)).key() == Issuer("a", key.public.to_jwk()).key() == key.public


A, B = (compressed(KEYS[name]) for name in ("mail-a", "mail-b"))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"required": 0, "issuers": [{"id": "a", "public_key": A}]}, "required"),
        ({"required": 2, "issuers": [{"id": "a", "public_key": A}]}, "required"),
        ({"required": 1, "issuers": []}, "issuers"),
        ({"required": 1, "issuers": [{"id": "a", "public_key": A}, {"id": "a", "public_key": B}]}, "same id"),
        ({"required": 1, "issuers": [{"id": "a", "public_key": A}, {"id": "b", "public_key": A}]}, "same public key"),
        (
            {
                "required": 1,
                "issuers": [{"id": "a", "public_key": A}, {"id": "b", "public_key": KEYS["mail-a"].public.to_jwk()}],
            },
            "same public key",
        ),
        ({"required": 1, "issuers": [{"id": "A b", "public_key": A}]}, "id"),
        ({"required": 1, "issuers": [{"id": "a", "public_key": "0x02" + "ff" * 32}]}, "P-256"),
        ({"required": 1, "issuers": [{"id": "a", "public_key": "0x04" + "ff" * 32}]}, "P-256"),
        ({"required": 1, "issuers": [{"id": "a", "public_key": A[:-2]}]}, "hex"),
        ({"required": 1, "issuers": [{"id": "a", "public_key": A, "weight": 2}]}, "weight"),
        ({"required": 1, "issuers": [{"id": "a", "public_key": A}], "k": 1}, "k"),
        ({"required": 1, "issuers": [{"id": f"i{i}", "public_key": A} for i in range(17)]}, "16"),
    ],
)
def test_settings_that_do_not_mean_k_of_m_are_refused(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=words):
        msgspec.convert(raw, CodeSettings)


# ---- answers and fingerprints -----------------------------------------------------------------------------------


def test_an_answer_is_for_one_code_of_one_challenge_of_one_issuer(world: Any, refused: Callable[..., Any]) -> None:
    token = make_answer(world.session, "mail-a", "id1", "12345678")
    check_answer(token, world.session.public, "mail-a", "id1", "12345678")
    for given in (("mail-b", "id1", "12345678"), ("mail-a", "id2", "12345678"), ("mail-a", "id1", "12345679")):
        with refused("bad_signature"):
            check_answer(token, world.session.public, *given)
    with refused("bad_signature"):
        check_answer(token, THIEF.public, "mail-a", "id1", "12345678")
    assert "12345678" not in token


def test_a_fingerprint_is_twelve_unmistakable_characters_of_the_thumbprint(world: Any) -> None:
    shown = fingerprint(world.session.public)
    assert len(shown) == 14 and set(shown) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ-")
    assert shown != fingerprint(THIEF.public)
    digest = hashlib.sha256(
        b'{"crv":"P-256","kty":"EC","x":"%b","y":"%b"}'
        % tuple(world.session.public.to_jwk()[name].encode() for name in "xy")
    ).digest()
    number = int.from_bytes(digest[:8], "big") >> 4
    letters = "".join("0123456789ABCDEFGHJKMNPQRSTVWXYZ"[number >> 5 * i & 31] for i in reversed(range(12)))
    assert shown.replace("-", "") == letters
