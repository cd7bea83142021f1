"""Session certificates: the same bytes from every node, one signature to judge, and no way to stretch it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from coincurve import PrivateKey
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from keyquorum.algebra.curve import generator_times
from keyquorum.algebra.field import Q
from keyquorum.algebra.rng import SeededRng
from keyquorum.auth import certificate
from keyquorum.auth.method import Proven
from keyquorum.auth.network import network_id
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import CLOCK_SKEW, MAX_SESSION
from keyquorum.formats import jws
from keyquorum.formats.text import from_base64url, to_base64url
from keyquorum.refusal import Invalid

KEY, OTHER = "0x" + "ab" * 32, "0x" + "ac" * 32


def claims_of(world: Any) -> dict[str, Any]:
    signing_input = certificate.certificate_input(world.statement, [Proven(1, world.address, world.now)])
    claims: dict[str, Any] = json.loads(from_base64url(signing_input.split(b".")[1].decode(), "it"))
    return claims


def signed(world: Any, claims: dict[str, Any], algorithm: str = "ES256K", kind: str = "keyquorum-session+jwt") -> str:
    token: str = world.certify(jws.make_input(algorithm, kind, claims))
    return token


def test_the_claims_are_those_of_the_spec(world: Any) -> None:
    token = signed(world, claims_of(world))
    header, payload, _ = token.split(".")
    assert json.loads(from_base64url(header, "it")) == {"alg": "ES256K", "typ": "keyquorum-session+jwt"}
    assert json.loads(from_base64url(payload, "it")) == {
        "iss": world.network,
        "sub": world.session.public.thumbprint,
        "cnf": {"jwk": world.session.public.to_jwk()},
        "iat": world.now,
        "exp": world.statement.expires,
        "jti": world.statement.challenge,
        "methods": [{"type": 1, "id": "0x" + world.address.hex()}],
        "keys": ["*"],
        "scopes": [2, 3],
        "limits": {"signatures": 1000},
    }


def test_what_was_certified_is_read_back(world: Any) -> None:
    found = world.certificate()
    assert (found.network, found.session, found.id) == (world.network, world.session.public, world.statement.challenge)
    assert (found.issued_at, found.expires) == (world.now, world.statement.expires)
    assert found.methods == (Proven(1, world.address),)
    assert (found.keys, found.scopes) == (("*",), (2, 3))


def test_every_node_writes_the_same_bytes_in_whatever_order_it_learnt_the_proofs(world: Any) -> None:
    proven = [Proven(3, b"\x02", 5), Proven(1, b"\x03", 9), Proven(1, b"\x02", 7)]
    inputs = {
        certificate.certificate_input(world.statement, order)
        for order in (proven, proven[::-1], proven[1:] + proven[:1])
    }
    assert len(inputs) == 1
    claims = json.loads(from_base64url(inputs.pop().split(b".")[1].decode(), "it"))
    assert claims["iat"] == 9
    assert [(one["type"], one["id"]) for one in claims["methods"]] == [(1, "0x02"), (1, "0x03"), (3, "0x02")]


def test_nobody_too_many_or_one_twice_is_not_certified(world: Any) -> None:
    for proven in ([], [Proven(1, b"a", 1), Proven(1, b"a", 2)], [Proven(kind, b"a") for kind in range(1, 10)]):
        with pytest.raises(ValueError, match="different identities"):
            certificate.certificate_input(world.statement, proven)


def test_openssl_accepts_the_signature_as_es256k(world: Any) -> None:
    token = signed(world, claims_of(world))
    signing_input, signature = token.rsplit(".", 1)
    raw = from_base64url(signature, "it")
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), world.network_key.to_bytes())
    public.verify(der, signing_input.encode(), ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(der, signing_input.encode() + b" ", ec.ECDSA(hashes.SHA256()))


def verify(world: Any, token: object, now: int | None = None, **other: Any) -> certificate.Certificate:
    network, key = other.get("network", world.network), other.get("key", world.network_key)
    return certificate.verify(token, network, key, world.now if now is None else now)


def test_another_key_another_payload_or_another_signature_is_refused(world: Any, refused: Callable[..., Any]) -> None:
    claims = claims_of(world)
    token = signed(world, claims)
    header, payload, signature = token.split(".")
    raw = from_base64url(signature, "it")
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    wider = signed(world, claims | {"scopes": [1]}).split(".")[1]
    with refused("bad_certificate", 401):
        verify(world, token, key=generator_times(5))
    for forged in (
        f"{header}.{wider}.{signature}",
        f"{header}.{payload}.{to_base64url(raw[32:] + raw[:32])}",
        f"{header}.{payload}.{to_base64url(bytes(64))}",
        f"{header}.{payload}.{to_base64url(raw[:32] + (Q - s).to_bytes(32, 'big'))}",
        f"{header}.{payload}.{to_base64url(raw[:32] + (s + Q if s + Q < 2**256 else 0).to_bytes(32, 'big'))}",
        f"{header}.{payload}.{to_base64url(bytes([255]) * 64)}",
        world.certify(jws.make_input("ES256K", "keyquorum-session+jwt", claims), secret=7),
    ):
        with refused("bad_certificate", 401):
            verify(world, forged)
    assert 0 < r < Q and verify(world, token)


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        ("none", "keyquorum-session+jwt"),
        ("HS256", "keyquorum-session+jwt"),
        ("ES256", "keyquorum-session+jwt"),
        ("ES256K", "JWT"),
        ("ES256K", "keyquorum-request+jws"),
    ],
)
def test_a_token_of_another_algorithm_or_type_is_refused_though_the_network_signed_it(
    world: Any, algorithm: str, kind: str, refused: Callable[..., Any]
) -> None:
    with refused("bad_token", 400):
        verify(world, signed(world, claims_of(world), algorithm, kind))


def test_a_certificate_of_another_network_is_refused(world: Any, refused: Callable[..., Any]) -> None:
    token = signed(world, claims_of(world))
    for other in (network_id(1, bytes(range(20))), network_id(31337, bytes(20))):
        with refused("wrong_network", 401):
            verify(world, token, network=other)


def test_a_certificate_is_valid_until_its_expiry_however_far_the_chains_clock_is_ahead(
    world: Any, refused: Callable[..., Any]
) -> None:
    token = signed(world, claims_of(world))
    assert verify(world, token, world.statement.expires - 1)
    for ahead in (61, 86_400, 10**9):
        assert verify(world, signed(world, claims_of(world) | {"iat": world.now + ahead}))
    with refused("certificate_expired", 401):
        verify(world, token, world.statement.expires)


@pytest.mark.parametrize(
    ("seconds", "allowed"),
    [(1, True), (MAX_SESSION + CLOCK_SKEW, True), (MAX_SESSION + CLOCK_SKEW + 1, False)],
)
def test_no_certificate_is_longer_than_a_day_even_if_the_network_signed_it(
    world: Any, seconds: int, allowed: bool, refused: Callable[..., Any]
) -> None:
    token = signed(world, claims_of(world) | {"exp": world.now + seconds})
    if allowed:
        assert verify(world, token)
        return
    with refused("bad_certificate"):
        verify(world, token)


@pytest.mark.parametrize(
    "change",
    [
        {"iss": 5},
        {"sub": "A" * 43},
        {"sub": 5},
        {"cnf": {}},
        {"cnf": {"jwk": {}, "kid": "1"}},
        {"cnf": {"jwk": "key"}},
        {"iat": "1800000000"},
        {"iat": True},
        {"exp": 1.8e9},
        {"exp": None},
        {"jti": 5},
        {"jti": "a" * 65},
        {"methods": []},
        {"methods": [{"type": 1, "id": "0x"}]},
        {"methods": [{"type": 0, "id": "0xab"}]},
        {"methods": [{"type": 1, "id": "0xabc"}]},
        {"methods": [{"type": 1, "id": "0xAB"}]},
        {"methods": [{"type": 1, "id": "abab"}]},
        {"methods": [{"type": 1}]},
        {"methods": [{"type": 1, "id": "0xab", "more": 1}]},
        {"methods": [{"type": 1, "id": "0x" + "ab" * 65}]},
        {"methods": [{"type": 1, "id": "0xab"}] * 9},
        {"methods": ["siwe"]},
        {"keys": []},
        {"keys": ["*", KEY]},
        {"keys": ["all"]},
        {"scopes": [9]},
        {"limits": {}},
        {"limits": {"signatures": 0}},
        {"limits": {"signatures": 1, "more": 1}},
        {"scopes": [3, 2]},
        {"scopes": "1"},
        {"aud": "x"},
        {"nbf": 1},
    ],
)
def test_claims_of_any_other_form_are_refused_though_the_network_signed_them(
    world: Any, change: dict[str, Any]
) -> None:
    with pytest.raises(Invalid) as caught:
        verify(world, signed(world, claims_of(world) | change))
    assert caught.value.status == (401 if change == {"sub": "A" * 43} else 400)


@pytest.mark.parametrize("name", ["iss", "sub", "cnf", "iat", "exp", "jti", "methods", "keys", "scopes", "limits"])
def test_a_certificate_that_lacks_a_claim_is_refused(world: Any, name: str, refused: Callable[..., Any]) -> None:
    with refused("missing_field", 400):
        verify(world, signed(world, {k: v for k, v in claims_of(world).items() if k != name}))


def test_the_largest_certificate_fits_its_bound(world: Any) -> None:
    statement = replace(
        world.statement, keys=tuple(f"0x{number:064x}" for number in range(32)), scopes=(1, 2, 3, 4, 5, 6, 7, 8)
    )
    found = world.certificate(statement, *(Proven(kind, bytes([kind]) * 64, world.now) for kind in range(1, 9)))
    assert len(found.keys) == 32 and len(found.methods) == 8


def test_a_signature_with_high_s_or_out_of_range_is_not_assembled(world: Any) -> None:
    compact = PrivateKey.from_int(5).sign_recoverable(bytes(32), hasher=None)
    r, s = int.from_bytes(compact[:32], "big"), int.from_bytes(compact[32:64], "big")
    assert certificate.assemble(b"a.b", r, s).count(".") == 2
    for bad_r, bad_s in ((0, s), (Q, s), (r, 0), (r, Q), (r, Q - s)):
        with pytest.raises(ValueError, match=r"range|half"):
            certificate.assemble(b"a.b", bad_r, bad_s)


@pytest.mark.parametrize(("kind", "name"), [(0, b"a"), (-1, b"a"), (1, b""), (1, bytes(65))])
def test_an_identity_has_a_type_and_a_name(kind: int, name: bytes) -> None:
    with pytest.raises(ValueError, match="proven identity"):
        Proven(kind, name)


def stepping(world: Any, **changes: Any) -> list[Proven]:
    old = world.certificate(replace(world.statement, keys=(KEY, OTHER), scopes=(2, 3), uses=10))
    new = replace(world.statement, **{"keys": (KEY,), "scopes": (2,), "uses": 10, "nonce": "cd" * 16} | changes)
    return certificate.step_up(old, new, Proven(3, b"passkey"))


def test_a_second_method_joins_the_first(world: Any) -> None:
    assert stepping(world) == [Proven(1, world.address), Proven(3, b"passkey")]


def test_the_same_method_again_is_named_once(world: Any) -> None:
    found = certificate.step_up(world.certificate(), world.statement, Proven(1, world.address, world.now))
    assert found == [Proven(1, world.address)]


@pytest.mark.parametrize(
    "change",
    [{"keys": ("*",)}, {"keys": (KEY, "0x" + "ad" * 32)}, {"scopes": (2, 4)}, {"scopes": (1,)}, {"uses": 11},
     {"expires": 1_800_003_601}],
)  # fmt: skip
def test_a_second_method_widens_nothing_that_the_first_agreed_to(
    world: Any, change: dict[str, Any], refused: Callable[..., Any]
) -> None:
    with refused("wider", 401):
        stepping(world, **change)


def test_a_second_method_joins_only_the_same_session_key(world: Any, refused: Callable[..., Any]) -> None:
    with refused("wrong_session", 401):
        stepping(world, session=SessionPrivateKey.generate(SeededRng("thief")).public)


def test_scopes_may_be_narrowed_to_what_anything_implies(world: Any) -> None:
    old = world.certificate(replace(world.statement, scopes=(1,)))
    assert certificate.step_up(old, replace(world.statement, scopes=(2, 4)), Proven(3, b"passkey"))


def test_a_step_up_is_the_same_session_so_that_nobody_outruns_a_revocation(world: Any) -> None:
    old = world.certificate(replace(world.statement, scopes=(2, 3)))
    later = replace(world.statement, scopes=(2,), nonce="cd" * 16)
    proven = certificate.step_up(old, later, Proven(3, b"passkey", world.now + 30))
    token = world.certify(certificate.certificate_input(later, proven, old))
    new = certificate.verify(token, world.network, world.network_key, world.now)
    assert (new.id, new.issued_at) == (old.id, old.issued_at)
    assert new.methods == (Proven(1, world.address), Proven(3, b"passkey"))
    assert certificate.certificate_input(later, proven) != certificate.certificate_input(later, proven, old)
