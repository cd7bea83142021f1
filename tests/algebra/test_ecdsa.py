"""ecdsa: every Wycheproof vector for secp256k1, and each rule on encodings and ranges on its own."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import coincurve
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyquorum.algebra import ecdsa
from keyquorum.algebra.curve import Point, generator_times
from keyquorum.algebra.field import Q, to_bytes

WYCHEPROOF = Path(__file__).parent.parent / "vectors" / "wycheproof"
SECRET = 0x1234567890ABCDEF
X = generator_times(SECRET)
DIGEST = hashlib.sha256(b"digest").digest()
P = 2**256 - 2**32 - 977


def wycheproof(name: str, count: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    document = json.loads(gzip.decompress((WYCHEPROOF / f"{name}_test.json.gz").read_bytes()))
    cases = [(group, case) for group in document["testGroups"] for case in group["tests"]]
    assert len(cases) == document["numberOfTests"] == count
    return cases


def signature(digest: bytes = DIGEST, secret: int = SECRET) -> tuple[int, int, int]:
    raw = coincurve.PrivateKey(to_bytes(secret)).sign_recoverable(digest, hasher=None)
    return int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:64], "big"), raw[64]


def test_the_vectors_are_the_published_ones() -> None:
    listed = dict(reversed(line.split()) for line in (WYCHEPROOF / "NOTICE").read_text().splitlines()[-4:])
    assert {path.stem for path in WYCHEPROOF.glob("*.gz")} == set(listed)
    for name, digest in listed.items():
        assert hashlib.sha256(gzip.decompress((WYCHEPROOF / f"{name}.gz").read_bytes())).hexdigest() == digest


@pytest.mark.parametrize(
    ("name", "count", "parse", "allow_high_s"),
    [
        ("ecdsa_secp256k1_sha256_bitcoin", 463, ecdsa.from_der, False),
        ("ecdsa_secp256k1_sha256", 476, ecdsa.from_der, True),
        ("ecdsa_secp256k1_sha256_p1363", 252, ecdsa.from_compact, True),
    ],
)
def test_every_wycheproof_signature_is_judged_as_published(
    name: str, count: int, parse: Any, allow_high_s: bool
) -> None:
    for group, case in wycheproof(name, count):
        key = Point.from_bytes_checked(bytes.fromhex(group["publicKey"]["uncompressed"]))
        assert key == Point.from_compressed_checked(key.to_compressed())
        digest = hashlib.sha256(bytes.fromhex(case["msg"])).digest()
        try:
            r, s = parse(bytes.fromhex(case["sig"]))
            valid = ecdsa.verify(key, digest, r, s, allow_high_s=allow_high_s)
        except ValueError:
            valid = False
        assert case["result"] in ("valid", "invalid")
        assert valid == (case["result"] == "valid"), case
        if valid:
            assert ecdsa.recover(digest, r, s, ecdsa.recovery_id(key, digest, r, s), allow_high_s=True) == key


SPKI = {
    65: bytes.fromhex("3056301006072a8648ce3d020106052b8104000a034200"),
    33: bytes.fromhex("3036301006072a8648ce3d020106052b8104000a032200"),
}


def point_of_public_key_info(data: bytes) -> Point:
    """Parse X.509 SubjectPublicKeyInfo in its one canonical form; the point itself is what is under test."""
    for size, prefix in SPKI.items():
        if data[: len(prefix)] == prefix and len(data) == len(prefix) + size:
            parse = Point.from_bytes_checked if size == 65 else Point.from_compressed_checked
            return parse(data[len(prefix) :])
    raise ValueError("not a public key of secp256k1")


def test_every_wycheproof_point_is_parsed_or_refused_as_published() -> None:
    seen = {"valid": 0, "acceptable": 0, "invalid": 0}
    for _, case in wycheproof("ecdh_secp256k1", 752):
        try:
            point = point_of_public_key_info(bytes.fromhex(case["public"]))
        except ValueError:
            assert case["result"] != "valid", case
            continue
        assert case["result"] != "invalid", case
        secret = int(case["private"], 16)
        shared = point.times_public(secret)
        assert to_bytes(shared.x) == bytes.fromhex(case["shared"]), case
        assert point.shared_digest(secret) == shared.digest()
        seen[case["result"]] += 1
    # Refused among the acceptable: curves spelled out as parameters and sloppy ASN.1, all outside of the point.
    assert seen["valid"] == 473
    assert seen["acceptable"] == 1


def test_hybrid_points_and_coordinates_beyond_p_are_refused() -> None:
    raw = X.to_bytes()
    hybrid = bytes([6 + raw[64] % 2]) + raw[1:]
    for parse in (Point.from_bytes_checked, Point.from_compressed_checked):
        for data in (hybrid, b"\0", b"", b"\0" * 33, b"\0" * 65, raw[:-1], raw + b"\0", b"\4" + bytes(64)):
            with pytest.raises(ValueError, match="point"):
                parse(data)
    small = next(x for x in range(1, 99) if pow(pow(x, 3, P) + 7, (P - 1) // 2, P) == 1)
    Point.from_compressed_checked(b"\2" + to_bytes(small))
    with pytest.raises(ValueError, match="not a point"):
        Point.from_compressed_checked(b"\2" + (small + P).to_bytes(32, "big"))


def test_a_signature_verifies_only_for_its_key_digest_and_numbers() -> None:
    r, s, _ = signature()
    assert ecdsa.verify(X, DIGEST, r, s)
    assert not ecdsa.verify(-X, DIGEST, r, s)
    assert not ecdsa.verify(X, hashlib.sha256(b"other").digest(), r, s)
    assert not ecdsa.verify(X, DIGEST, s, r)
    assert not ecdsa.verify(X, DIGEST, r, s + 1)


def test_high_s_verifies_only_where_the_caller_allows_it() -> None:
    r, s, v = signature()
    high = Q - s
    assert ecdsa.is_low(s)
    assert not ecdsa.is_low(high)
    assert not ecdsa.is_low(0)
    assert not ecdsa.verify(X, DIGEST, r, high)
    assert ecdsa.verify(X, DIGEST, r, high, allow_high_s=True)
    with pytest.raises(ValueError, match="out of range"):
        ecdsa.recover(DIGEST, r, high, v ^ 1)
    assert ecdsa.recover(DIGEST, r, high, v ^ 1, allow_high_s=True) == X
    assert ecdsa.lower(high, v ^ 1) == (s, v) == ecdsa.lower(s, v)
    assert ecdsa.is_low(ecdsa.HALF_Q)
    assert not ecdsa.is_low(ecdsa.HALF_Q + 1)


@pytest.mark.parametrize("bad", [0, -1, Q, Q + 1, 2**256])
def test_numbers_out_of_range_never_verify_recover_or_parse(bad: int) -> None:
    r, s, _ = signature()
    for pair in ((bad, s), (r, bad)):
        assert not ecdsa.verify(X, DIGEST, *pair)
        assert not ecdsa.verify(X, DIGEST, *pair, allow_high_s=True)
        with pytest.raises(ValueError, match="out of range"):
            ecdsa.recover(DIGEST, *pair, 0, allow_high_s=True)
        if 0 <= bad < 2**256:
            with pytest.raises(ValueError, match="out of range"):
                ecdsa.from_compact(b"".join(n.to_bytes(32, "big") for n in pair))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_digest_of_another_length_is_the_callers_fault(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        ecdsa.verify(X, bytes(size), 1, 1)
    with pytest.raises(ValueError, match="32 bytes"):
        ecdsa.recover(bytes(size), 1, 1, 0)


def test_recovery_gives_the_key_for_one_v_and_another_or_none_for_the_rest() -> None:
    for secret in range(1, 20):
        r, s, v = signature(secret=secret)
        key = generator_times(secret)
        assert ecdsa.recover(DIGEST, r, s, v) == key
        assert ecdsa.recovery_id(key, DIGEST, r, s) == v
        assert ecdsa.recover(DIGEST, r, s, v ^ 1) != key
        with pytest.raises(ValueError, match="no public key"):
            ecdsa.recover(DIGEST, r, s, v + 2)  # r + q is beyond p
        with pytest.raises(ValueError, match="out of range"):
            ecdsa.recover(DIGEST, r, s, 4)
        with pytest.raises(ValueError, match="not a signature"):
            ecdsa.recovery_id(X, DIGEST, r, s)


def test_a_nonce_point_with_x_beyond_q_is_recovered_with_v_2_or_3() -> None:
    # Such an R cannot be met by chance: choose R with x >= q and build the key around it, X = (s R - h G)/r.
    x = next(x for x in range(Q + 1, Q + 99) if pow(pow(x, 3, P) + 7, (P - 1) // 2, P) == 1)
    for parity in (0, 1):
        R = Point.from_compressed_checked(bytes([2 + parity]) + to_bytes(x))
        r, s = x - Q, 5
        h = int.from_bytes(DIGEST, "big") % Q
        key = (R.times_public(s) - generator_times(h)).times_public(pow(r, -1, Q))
        assert ecdsa.verify(key, DIGEST, r, s)
        assert ecdsa.recovery_id(key, DIGEST, r, s) == 2 + parity
        assert ecdsa.recover(DIGEST, r, s, 2 + parity) == key
        with pytest.raises(ValueError, match="sign again"):
            ecdsa.to_ethereum(r, s, 2 + parity)


numbers = st.integers(1, Q - 1) | st.integers(1, 300) | st.integers(Q - 300, Q - 1) | st.just(2**255)


@settings(deadline=None, max_examples=150)
@given(r=numbers, s=numbers)
def test_each_encoding_is_read_back_and_has_no_twin(r: int, s: int) -> None:
    assert ecdsa.from_compact(ecdsa.to_compact(r, s)) == (r, s)
    assert ecdsa.from_der(ecdsa.to_der(r, s)) == (r, s)
    assert ecdsa.from_ethereum(ecdsa.to_ethereum(r, s, 1)) == (r, s, 1)


def der_mutations(der: bytes) -> list[bytes]:
    flips = [der[:i] + bytes([der[i] ^ bit]) + der[i + 1 :] for i in range(len(der)) for bit in (1, 0x80)]
    cuts = [der[:i] for i in range(len(der))]
    longer = [der + b"\0", b"\0" + der, der[:1] + b"\x81" + der[1:], der[:1] + bytes([der[1] + 1]) + der[2:] + b"\0"]
    padded = [der[:1] + bytes([der[1] + 1, 2, der[3] + 1, 0]) + der[4:]]
    return flips + cuts + longer + padded


def test_no_mutation_of_der_gives_the_same_signature() -> None:
    r, s, _ = signature()
    for mutated in der_mutations(ecdsa.to_der(r, s)):
        try:
            other = ecdsa.from_der(mutated)
        except ValueError:
            continue
        assert ecdsa.to_der(*other) == mutated != ecdsa.to_der(r, s)


@pytest.mark.parametrize(
    "der",
    [
        "30070201010202" + "0001",  # r = 1, s = 1 with a needless zero
        "3006020101020181",  # a negative number
        "3006020100020101",  # r = 0
        "30818602018102" + "00",
        "30050201010200",  # an empty integer
        "30060201010201",  # one byte short
    ],
)
def test_der_that_others_accept_is_refused(der: str) -> None:
    with pytest.raises(ValueError, match=r"DER|range"):
        ecdsa.from_der(bytes.fromhex(der))


def test_compact_and_ethereum_forms_have_one_length_and_few_v() -> None:
    raw = ecdsa.to_ethereum(*signature())
    r, s, v = signature()
    assert raw[64] == 27 + v
    assert ecdsa.from_ethereum(raw[:64] + bytes([v])) == (r, s, v)
    for data in (b"", raw[:64], raw + b"\0"):
        with pytest.raises(ValueError, match="65 bytes"):
            ecdsa.from_ethereum(data)
    for bad in (2, 3, 26, 29, 35, 255):
        with pytest.raises(ValueError, match="last byte"):
            ecdsa.from_ethereum(raw[:64] + bytes([bad]))
    for size in (0, 63, 65):
        with pytest.raises(ValueError, match="64 bytes"):
            ecdsa.from_compact(bytes(size))
