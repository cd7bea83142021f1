"""Public keys of passkeys have one form, and their signatures are judged as Project Wycheproof published."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from Crypto.PublicKey import RSA
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from webauthn.helpers import decode_credential_public_key

from keyquorum.formats.cose import BadKey, key_length, verifier
from soft_passkey import Algorithm, SoftPasskey, cose_of, make_key

WYCHEPROOF = Path(__file__).parent.parent / "vectors" / "wycheproof_passkey"
PRIME = 2**256 - 2**224 + 2**192 + 2**96 - 1
ALGORITHMS: list[Algorithm] = ["ES256", "EdDSA", "RS256"]


@pytest.fixture(scope="module")
def keys() -> dict[str, Any]:
    return {name: make_key(name) for name in ALGORITHMS}


def es256(group: dict[str, Any]) -> bytes:
    point = bytes.fromhex(group["publicKey"]["uncompressed"])
    return bytes.fromhex("a5010203262001215820") + point[1:33] + bytes.fromhex("225820") + point[33:]


def eddsa(group: dict[str, Any]) -> bytes:
    return bytes.fromhex("a4010103272006215820") + bytes.fromhex(group["publicKey"]["pk"])


def rs256(group: dict[str, Any]) -> bytes:
    modulus = bytes.fromhex(group["publicKey"]["modulus"]).lstrip(b"\0")
    exponent = bytes.fromhex(group["publicKey"]["publicExponent"])
    head = bytes.fromhex("a40103033901002059") + len(modulus).to_bytes(2, "big")
    return head + modulus + b"\x21" + bytes([0x40 + len(exponent)]) + exponent


def test_the_vectors_are_the_published_ones() -> None:
    listed = dict(reversed(line.split()) for line in (WYCHEPROOF / "NOTICE").read_text().splitlines()[-3:])
    assert {path.stem for path in WYCHEPROOF.glob("*.gz")} == set(listed)
    for name, digest in listed.items():
        assert hashlib.sha256(gzip.decompress((WYCHEPROOF / f"{name}.gz").read_bytes())).hexdigest() == digest


@pytest.mark.parametrize(
    ("name", "count", "cose"),
    [("ecdsa_secp256r1_sha256", 484, es256), ("ed25519", 151, eddsa), ("rsa_signature_2048_sha256", 259, rs256)],
)
def test_every_wycheproof_signature_is_judged_as_published(
    name: str, count: int, cose: Callable[[dict[str, Any]], bytes]
) -> None:
    document = json.loads(gzip.decompress((WYCHEPROOF / f"{name}_test.json.gz").read_bytes()))
    cases = [(group, case) for group in document["testGroups"] for case in group["tests"]]
    assert len(cases) == document["numberOfTests"] == count
    for group, case in cases:
        key = cose(group)
        if group["publicKey"].get("publicExponent", "010001") != "010001":
            with pytest.raises(BadKey):
                verifier(key)
            continue
        assert key_length(key) == key_length(key + b"more") == len(key)
        found = verifier(key)(bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
        # "acceptable" are PKCS #1 encodings without the NULL parameter, which RFC 8017 does not allow.
        assert found == (case["result"] == "valid"), (case["tcId"], case["comment"])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_signature_by_another_implementation_holds_and_each_changed_bit_breaks_it(
    algorithm: Algorithm, keys: dict[str, Any]
) -> None:
    passkey = SoftPasskey(keys[algorithm])
    check, signature = verifier(passkey.public_key), passkey.sign(b"message")
    assert check(b"message", signature) and not check(b"massage", signature)
    for bit in range(8 * len(signature)):
        changed = bytearray(signature)
        changed[bit // 8] ^= 1 << bit % 8
        assert not check(b"message", bytes(changed))
    for other in (b"", signature + b"\0", b"\0" + signature, signature[:-1], signature[1:], signature * 2):
        assert not check(b"message", other)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_of_one_algorithm_accepts_no_signature_of_another(algorithm: Algorithm, keys: dict[str, Any]) -> None:
    check = verifier(cose_of(keys[algorithm]))
    for other in set(ALGORITHMS) - {algorithm}:
        assert not check(b"message", SoftPasskey(keys[other]).sign(b"message"))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_has_exactly_one_spelling(algorithm: Algorithm, keys: dict[str, Any]) -> None:
    key = cose_of(keys[algorithm])
    assert decode_credential_public_key(key).alg is not None  # an independent decoder reads the same bytes
    head = {"ES256": 10, "EdDSA": 10, "RS256": 11}[algorithm]
    for position in range(head):
        for value in (0x00, 0x01, 0xFF, key[position] ^ 1, key[position] ^ 0x20):
            changed = key[:position] + bytes([value]) + key[position + 1 :]
            if changed != key:
                with pytest.raises(BadKey):
                    verifier(changed)
    for changed in (b"", key[:-1], key + b"\0", key + key, b"\0" + key, b"\xbf" + key[1:] + b"\xff"):
        with pytest.raises(BadKey):
            verifier(changed)


def test_points_that_are_none_are_refused(keys: dict[str, Any]) -> None:
    key = cose_of(keys["ES256"])
    x, y = key[10:42], key[45:]
    for bad in (
        x + bytes.fromhex("225820") + bytes(32),
        bytes(32) + bytes.fromhex("225820") + bytes(32),
        x + bytes.fromhex("225820") + (int.from_bytes(y, "big") ^ 1).to_bytes(32, "big"),
        x + bytes.fromhex("215820") + y,
        PRIME.to_bytes(32, "big") + bytes.fromhex("225820") + y,
    ):
        with pytest.raises(BadKey):
            verifier(key[:10] + bad)


def test_a_coordinate_that_is_not_reduced_is_refused() -> None:
    # (0, sqrt(b)) is on the curve; so would be its spelling with x = p.
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    y = pow(b, (PRIME + 1) // 4, PRIME)
    ends = (bytes.fromhex("a5010203262001215820"), bytes.fromhex("225820") + y.to_bytes(32, "big"))
    assert verifier(ends[0] + bytes(32) + ends[1])
    with pytest.raises(BadKey):
        verifier(ends[0] + PRIME.to_bytes(32, "big") + ends[1])


@pytest.mark.parametrize("bits", [1024, 2040, 4104])
def test_a_modulus_is_neither_short_nor_long(bits: int) -> None:
    modulus = ((1 << bits - 1) | 1).to_bytes(bits // 8, "big")
    head = bytes.fromhex("a40103033901002059") + len(modulus).to_bytes(2, "big")
    with pytest.raises(BadKey):
        verifier(head + modulus + bytes.fromhex("2143010001"))


def test_a_modulus_has_no_leading_zero_no_factor_two_and_no_other_exponent(keys: dict[str, Any]) -> None:
    key: RSA.RsaKey = keys["RS256"]
    head, tail = bytes.fromhex("a40103033901002059"), bytes.fromhex("2143010001")
    for modulus, exponent in (
        (b"\0" + key.n.to_bytes(256, "big"), tail),
        (b"\0" + key.n.to_bytes(256, "big")[1:], tail),
        (b"\x01" + key.n.to_bytes(256, "big")[1:], tail),
        ((key.n - 1).to_bytes(256, "big"), tail),
        (key.n.to_bytes(256, "big"), bytes.fromhex("214103")),
        (key.n.to_bytes(256, "big"), bytes.fromhex("2143010003")),
    ):
        with pytest.raises(BadKey):
            verifier(head + len(modulus).to_bytes(2, "big") + modulus + exponent)
    with pytest.raises(BadKey):
        verifier(head + b"\1\1" + key.n.to_bytes(256, "big") + tail)


def test_der_with_a_second_spelling_is_refused(keys: dict[str, Any]) -> None:
    passkey = SoftPasskey(keys["ES256"])
    check = verifier(passkey.public_key)
    signature = passkey.sign(b"m")
    long_form = b"\x30\x81" + signature[1:]
    indefinite = b"\x30\x80" + signature[2:] + b"\0\0"
    padded = b"\x30" + bytes([signature[1] + 1]) + b"\x02" + bytes([signature[3] + 1]) + b"\0" + signature[4:]
    for other in (long_form, indefinite, padded, encode_dss_signature(0, 0), encode_dss_signature(1, 0)):
        assert not check(b"m", other)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_length_of_a_key_is_found_where_something_follows(algorithm: Algorithm, keys: dict[str, Any]) -> None:
    key = cose_of(keys[algorithm])
    assert key_length(key + b"credential") == len(key)
    for short in (key[:-1], key[:12], b"", b"\xa5"):
        with pytest.raises(BadKey):
            key_length(short)
