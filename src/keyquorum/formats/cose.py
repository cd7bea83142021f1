"""Public keys of passkeys: COSE keys (RFC 9052, 9053) in exactly one form for each algorithm, and their signatures.

WebAuthn demands the canonical CBOR of CTAP2 with the required parameters only (WebAuthn Level 3, section 6.5.1.1), so
each key type is a fixed pattern of bytes around the numbers. Matching the pattern is stricter than any CBOR decoder:
there is no second spelling, no duplicate member, no trailing byte, and nothing that a key could say besides itself.
The algorithm belongs to the key type; a signature does not choose how it is verified.

| algorithm | COSE key |
|---|---|
| ES256 (-7) | a5 01 02 03 26 20 01 21 5820 x 22 5820 y |
| EdDSA (-8) | a4 01 01 03 27 20 06 21 5820 x |
| RS256 (-257) | a4 01 03 03 390100 20 59 length n 21 43 010001, n of 2048 to 4096 bits |
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

MAX_KEY_BYTES = 1024
_ES256 = bytes.fromhex("a5010203262001215820")
_ES256_Y = bytes.fromhex("225820")
_EDDSA = bytes.fromhex("a401010327200621 5820")
_RS256 = bytes.fromhex("a401030339010020 59")
_RS256_E = bytes.fromhex("2143010001")
_EXPONENT = 65537
_MODULUS_BYTES = range(256, 512 + 1)

Check = Callable[[bytes, bytes], bool]


class BadKey(ValueError):
    """The bytes are no public key of an accepted algorithm in its one accepted form."""


def verifier(key: bytes) -> Check:
    """Return `check(message, signature)`, true if `key` (a COSE key) signed the message; raise `BadKey`.

    ES256 signatures are the DER of (r, s), minimal and alone (OpenSSL encodes again and compares); a high s is
    accepted, since WebAuthn knows no rule against it. EdDSA signatures have 64 bytes (RFC 8032), RS256 ones are
    PKCS #1 v1.5 as long as the modulus.
    """
    if key.startswith(_ES256):
        return _es256(key[len(_ES256) :])
    if key.startswith(_EDDSA):
        return _eddsa(key[len(_EDDSA) :])
    if key.startswith(_RS256):
        return _rs256(key[len(_RS256) :])
    raise BadKey("the algorithm is none of ES256, EdDSA, RS256, or the key is not in canonical form")


def key_length(data: bytes) -> int:
    """Return how many bytes the COSE key has that `data` begins with; raise `BadKey` when it begins with none.

    For what is stored as a key followed by something else. The numbers inside are not checked.
    """
    if data.startswith(_ES256):
        length = len(_ES256) + 32 + len(_ES256_Y) + 32
    elif data.startswith(_EDDSA):
        length = len(_EDDSA) + 32
    elif data.startswith(_RS256):
        start = len(_RS256)
        length = start + 2 + int.from_bytes(data[start : start + 2], "big") + len(_RS256_E)
    else:
        raise BadKey("no COSE key of an accepted algorithm")
    if len(data) < length:
        raise BadKey("the COSE key is cut short")
    return length


def _es256(rest: bytes) -> Check:
    x, middle, y = rest[:32], rest[32:35], rest[35:]
    if middle != _ES256_Y:
        raise BadKey("an ES256 key has two coordinates of 32 bytes and nothing more")
    try:
        # Refuses another length, and coordinates that are not reduced or not on the curve.
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + x + y)
    except ValueError as error:
        raise BadKey("the coordinates are no point of P-256") from error

    def check(message: bytes, signature: bytes) -> bool:
        try:
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True

    return check


def _eddsa(rest: bytes) -> Check:
    if len(rest) != 32:
        raise BadKey("an EdDSA key has one coordinate of 32 bytes and nothing more")
    key = ed25519.Ed25519PublicKey.from_public_bytes(rest)

    def check(message: bytes, signature: bytes) -> bool:
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return check


def _rs256(rest: bytes) -> Check:
    length, modulus, exponent = int.from_bytes(rest[:2], "big"), rest[2 : -len(_RS256_E)], rest[-len(_RS256_E) :]
    number = int.from_bytes(modulus, "big")
    if len(modulus) != length or length not in _MODULUS_BYTES or modulus[0] == 0 or exponent != _RS256_E:
        raise BadKey("an RS256 key has a modulus of 2048 to 4096 bits, the exponent 65537 and nothing more")
    if number.bit_length() < 2048 or number % 2 == 0:
        raise BadKey("the modulus of an RS256 key is odd and has at least 2048 bits")
    key = rsa.RSAPublicNumbers(_EXPONENT, number).public_key()

    def check(message: bytes, signature: bytes) -> bool:
        try:
            key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True

    return check
