"""Session keys: one form, one name, one owner."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from keyquorum.algebra.rng import SeededRng
from keyquorum.auth.session_key import SessionKey, SessionPrivateKey
from keyquorum.formats.text import from_base64url, to_base64url
from keyquorum.refusal import Invalid

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
KEY = SessionPrivateKey.generate(SeededRng("a session key"))
JWK = KEY.public.to_jwk()


def test_a_jwk_survives_the_round_trip() -> None:
    assert SessionKey.from_jwk(json.loads(json.dumps(JWK))) == KEY.public


def test_the_example_key_of_rfc_7515_a_3_parses_and_its_example_signature_verifies() -> None:
    key = SessionKey.from_jwk(
        {
            "kty": "EC",
            "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        }
    )
    signing_input = (
        b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290"
        b"Ijp0cnVlfQ"
    )
    signature = from_base64url(
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q", "the signature"
    )
    key.check(signing_input, signature)


def test_the_thumbprint_is_the_hash_of_the_members_in_lexical_order() -> None:
    text = json.dumps(dict(sorted(JWK.items())), separators=(",", ":")).encode()
    assert KEY.public.thumbprint == to_base64url(hashlib.sha256(text).digest())


@pytest.mark.parametrize(
    "change",
    [
        {"kty": "OKP"},
        {"kty": "ec"},
        {"crv": "P-384"},
        {"crv": "secp256k1"},
        {"x": JWK["x"] + "="},
        {"x": JWK["x"][:-1]},
        {"x": JWK["x"][:-2]},
        {"x": JWK["x"] + "AA"},
        {"x": to_base64url(b"\0" + from_base64url(JWK["x"], "x"))},
        {"x": 5},
        {"x": None},
        {"x": "+" * 43},
        {"x": "é" * 43},
        {"y": JWK["x"]},
        {"x": to_base64url(bytes(32)), "y": to_base64url(bytes(32))},
        {"d": "AA"},
        {"alg": "ES256"},
        {"use": "sig"},
        {"kid": "1"},
    ],
)
def test_a_jwk_of_any_other_form_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        SessionKey.from_jwk(JWK | change)


@pytest.mark.parametrize("name", ["kty", "crv", "x", "y"])
def test_a_jwk_that_lacks_a_member_is_refused(name: str, refused: Callable[..., Any]) -> None:
    with refused("missing_field", 400):
        SessionKey.from_jwk({k: v for k, v in JWK.items() if k != name})


@pytest.mark.parametrize("value", [None, [], "key", 5, True])
def test_a_jwk_that_is_no_object_is_refused(value: object, refused: Callable[..., Any]) -> None:
    with refused("wrong_type", 400):
        SessionKey.from_jwk(value)


def test_the_last_character_of_a_coordinate_has_no_unused_bits_set(refused: Callable[..., Any]) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = JWK["x"][:-1] + alphabet[alphabet.index(JWK["x"][-1]) ^ 1]
    with refused("bad_encoding", 400):
        SessionKey.from_jwk(JWK | {"x": twin})


def test_coordinates_beyond_the_prime_are_refused_although_they_name_a_point(refused: Callable[..., Any]) -> None:
    x = 5
    y = pow(x**3 - 3 * x + 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B, (P + 1) // 4, P)
    SessionKey.from_coordinates(x.to_bytes(32, "big"), y.to_bytes(32, "big"))
    with refused("bad_session_key", 400):
        SessionKey.from_coordinates((x + P).to_bytes(32, "big"), y.to_bytes(32, "big"))


def test_coordinates_of_another_length_are_refused_even_if_they_join_to_64_bytes(refused: Callable[..., Any]) -> None:
    joined = KEY.public.x + KEY.public.y
    with refused("bad_session_key", 400):
        SessionKey.from_coordinates(joined[:31], joined[31:])
    for length in (0, 31, 33):
        with refused("bad_session_key", 400):
            SessionKey.from_coordinates(KEY.public.x, (KEY.public.y + bytes(1))[:length])


def test_signatures_are_64_bytes_that_openssl_accepts_and_repeat_exactly() -> None:
    signature = KEY.sign(b"a message")
    assert len(signature) == 64 and KEY.sign(b"a message") == signature
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    public = ec.derive_private_key(int.from_bytes(KEY.secret_bytes(), "big"), ec.SECP256R1()).public_key()
    public.verify(encode_dss_signature(r, s), b"a message", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(encode_dss_signature(r, s), b"another", ec.ECDSA(hashes.SHA256()))


def test_a_signature_made_by_openssl_verifies_here() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    numbers = private.public_key().public_numbers()
    key = SessionKey.from_coordinates(numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big"))
    r, s = decode_dss_signature(private.sign(b"m", ec.ECDSA(hashes.SHA256())))
    key.check(b"m", r.to_bytes(32, "big") + s.to_bytes(32, "big"))


GOOD = KEY.sign(b"m")


@pytest.mark.parametrize(
    ("message", "signature"),
    [
        (b"n", GOOD),
        (b"m", GOOD[:63]),
        (b"m", GOOD + b"\0"),
        (b"m", GOOD[:32] + b"\0" + GOOD[32:]),
        (b"m", GOOD[32:] + GOOD[:32]),
        (b"m", bytes(64)),
        (b"m", GOOD[:32] + bytes(32)),
        (b"m", bytes(32) + GOOD[32:]),
        (b"m", GOOD[:32] + N.to_bytes(32, "big")),
        (b"m", b"\xff" * 64),
        (b"m", b""),
        (b"m", SessionPrivateKey.generate(SeededRng("another")).sign(b"m")),
    ],
)
def test_a_signature_that_does_not_hold_is_refused(
    message: bytes, signature: bytes, refused: Callable[..., Any]
) -> None:
    KEY.public.check(b"m", GOOD)
    with refused("bad_signature", 401):
        KEY.public.check(message, signature)


def test_the_private_key_shows_only_its_public_name() -> None:
    assert KEY.secret_bytes().hex() not in repr(KEY) and KEY.public.thumbprint in repr(KEY)
    assert SessionPrivateKey(int.from_bytes(KEY.secret_bytes(), "big")).public == KEY.public
    assert SessionPrivateKey.generate().public != SessionPrivateKey.generate().public


@pytest.mark.parametrize("secret", [0, N, -1, 2**300])
def test_a_secret_outside_the_group_is_refused_and_not_quoted(secret: int) -> None:
    with pytest.raises(ValueError, match="session secret") as caught:
        SessionPrivateKey(secret)
    assert secret == 0 or str(secret) not in str(caught.value)
