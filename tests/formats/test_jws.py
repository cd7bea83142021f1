"""Compact JWS: one spelling, one header, and the header decides nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyquorum.formats import jws
from keyquorum.formats.text import from_base64url, from_hex, from_hex_up_to, to_base64url
from keyquorum.refusal import Invalid

ALGORITHM, KIND = "ES256", "keyquorum-request+jws"
HEADER = b'{"alg":"ES256","typ":"keyquorum-request+jws"}'
SIGNATURE = bytes(range(64))


def token(header: bytes = HEADER, payload: bytes = b'{"a":1}', signature: bytes = SIGNATURE) -> str:
    return ".".join(map(to_base64url, (header, payload, signature)))


def parse(text: object, max_bytes: int = 1000) -> jws.Jws:
    return jws.parse(text, algorithm=ALGORITHM, kind=KIND, max_bytes=max_bytes)


def test_what_was_made_is_read_back_with_the_bytes_that_were_signed() -> None:
    signing_input = jws.make_input(ALGORITHM, KIND, {"b": [1, {"d": "é", "c": None}], "a": "x"})
    parsed = parse(jws.assemble(signing_input, SIGNATURE))
    assert parsed.claims == {"a": "x", "b": [1, {"c": None, "d": "é"}]}
    assert parsed.signing_input == signing_input and parsed.signature == SIGNATURE
    assert parsed.payload == b'{"a":"x","b":[1,{"c":null,"d":"\\u00e9"}]}'


def test_members_of_the_header_may_come_in_either_order() -> None:
    assert parse(token(b'{"typ":"keyquorum-request+jws","alg":"ES256"}')).claims == {"a": 1}


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "typ": KIND},
        {"alg": "None", "typ": KIND},
        {"alg": "HS256", "typ": KIND},
        {"alg": "ES256K", "typ": KIND},
        {"alg": "es256", "typ": KIND},
        {"alg": ["ES256"], "typ": KIND},
        {"alg": None, "typ": KIND},
        {"alg": "ES256", "typ": "JWT"},
        {"alg": "ES256", "typ": "keyquorum-session+jwt"},
        {"alg": "ES256"},
        {"typ": KIND},
        {},
        *(
            {"alg": "ES256", "typ": KIND, name: value}
            for name, value in {
                "kid": "1",
                "jku": "https://evil.example/keys",
                "jwk": {"kty": "EC"},
                "x5u": "https://evil.example",
                "x5c": [],
                "crit": ["b64"],
                "b64": False,
                "zip": "DEF",
                "cty": "JWT",
            }.items()
        ),
    ],
)
def test_any_other_header_is_refused(header: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        parse(token(json.dumps(header).encode()))
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (token(b'{"alg":"none","alg":"ES256","typ":"keyquorum-request+jws"}'), "duplicate_key"),
        (token(payload=b'{"a":1,"a":2}'), "duplicate_key"),
        (token(payload=b'{"a":NaN}'), "not_a_number"),
        (token(payload=b'{"a":1} x'), "syntax"),
        (token(payload=b"[1]"), "wrong_type"),
        (token(payload=b'"a"'), "wrong_type"),
        (token(payload=b""), "syntax"),
        (token(payload=b'{"a":' + b"[" * 40 + b"]" * 40 + b"}"), "too_deep"),
        (token(HEADER + b" " * 300), "too_large"),
        (token(b"[]"), "wrong_type"),
        (token(signature=SIGNATURE[:63]), "bad_token"),
        (token(signature=SIGNATURE + b"\0"), "bad_token"),
        (token(signature=b""), "bad_token"),
        (token() + ".", "bad_token"),
        (token() + "." + token(), "bad_token"),
        (token().rsplit(".", 1)[0], "bad_token"),
        ("", "bad_token"),
        ("..", "syntax"),
        (b"bytes", "bad_token"),
        (None, "bad_token"),
        (5, "bad_token"),
        ({"payload": ""}, "bad_token"),
        (token() + "=", "bad_encoding"),
        (token() + "\n", "bad_encoding"),
        (" " + token(), "bad_encoding"),
        (token().replace(".", "=.", 1), "bad_encoding"),
        (token(signature=b"\xff" * 64).replace("_", "/"), "bad_encoding"),
        (token(signature=b"\xff" * 64)[:-1] + "x", "bad_encoding"),
        (token()[:-1] + "é", "bad_encoding"),
    ],
)
def test_any_other_spelling_is_refused(text: object, code: str, refused: Callable[..., Any]) -> None:
    with refused(code, 400):
        parse(text)


def test_a_token_longer_than_its_bound_is_refused_before_it_is_read(refused: Callable[..., Any]) -> None:
    exact = len(token())
    assert parse(token(), max_bytes=exact)
    with refused("bad_token", 400):
        parse(token(), max_bytes=exact - 1)


def test_only_a_signature_of_64_bytes_is_put_together() -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        jws.assemble(b"a.b", bytes(63))


@given(st.binary(max_size=70))
def test_base64url_has_one_spelling_the_one_of_the_standard_library(data: bytes) -> None:
    text = to_base64url(data)
    assert from_base64url(text, "it") == data
    assert text == base64.urlsafe_b64encode(data).decode().rstrip("=")


@given(st.text(alphabet="AQgw-_+/= \nZ9é", max_size=8))
def test_whatever_base64url_decodes_encodes_to_itself(text: str) -> None:
    try:
        data = from_base64url(text, "it")
    except Invalid:
        return
    assert to_base64url(data) == text


@pytest.mark.parametrize("value", ["0xAB", "ab", "0xa", "0xabc", "0xab ", "0x", "0xab\n", "0X11", 5, None, "0x٠٠"])
def test_hex_of_one_byte_has_one_spelling(value: object, refused: Callable[..., Any]) -> None:
    assert from_hex("0xab", 1, "it") == b"\xab"
    with refused("bad_hex", 400):
        from_hex(value, 1, "it")


@pytest.mark.parametrize("value", ["ab", "0xa", "0xababab", "0xab ", "0xab\n", 5, None])
def test_hex_up_to_two_bytes_may_have_either_case_and_nothing_else(value: object, refused: Callable[..., Any]) -> None:
    assert from_hex_up_to("0xAbcD", 2, "it") == b"\xab\xcd"
    assert from_hex_up_to("0x", 2, "it") == b""
    with refused("bad_hex", 400):
        from_hex_up_to(value, 2, "it")
