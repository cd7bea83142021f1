"""Session keys: P-256 keys made for one login, as browsers make them (ES256).

A session key never leaves the device that made it. It has one public form, the JWK with the members crv, kty, x, y,
and one name, the RFC 7638 thumbprint of that JWK. Both must be unique for a key, since certificates and login
challenges name it: so coordinates are exactly 32 bytes, below the field's prime and on the curve, and no further
member is allowed. Signatures are r || s, 64 bytes, over SHA-256 (RFC 7518 section 3.4). ES256 has no low-s rule, so a
signature has a twin: nothing may be identified by its signature, and nothing is (a request is identified by its id
and its payload).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from keyquorum.algebra.rng import Rng, SystemRng
from keyquorum.formats.strict_json import text
from keyquorum.formats.text import from_base64url, read, to_base64url
from keyquorum.refusal import Invalid, malformed

ALGORITHM = "ES256"
SIGNATURE_BYTES = 64
_COORDINATE_BYTES = 32
_COORDINATE_CHARACTERS = 43
_JWK = dict.fromkeys(("crv", "kty"), text(8)) | dict.fromkeys("xy", text(_COORDINATE_CHARACTERS))
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SHA256 = ec.ECDSA(hashes.SHA256())
# RFC 6979 instead of fresh randomness: the same request signed twice is the same text, and no bad
# generator in a client can give the session key away.
_SHA256_DETERMINISTIC = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)


@dataclass(frozen=True, slots=True)
class SessionKey:
    """The public half: coordinates `x`, `y` of 32 bytes each; compared by them."""

    x: bytes
    y: bytes
    _key: ec.EllipticCurvePublicKey = field(repr=False, compare=False)

    @classmethod
    def from_coordinates(cls, x: bytes, y: bytes) -> SessionKey:
        """Return the key with these coordinates; raise `Invalid` when they are no point of P-256."""
        if len(x) != _COORDINATE_BYTES:
            raise malformed("bad_session_key", "the coordinates of a session key have exactly 32 bytes")
        try:
            # The decoder of encoded points also refuses a y of another length and coordinates that are not reduced;
            # EllipticCurvePublicNumbers accepts them, which would give one key two names.
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + x + y)
        except ValueError as error:
            raise malformed("bad_session_key", "the session key is no point of P-256") from error
        return cls(x, y, key)

    @classmethod
    def from_jwk(cls, jwk: object) -> SessionKey:
        """Parse exactly `{"crv": "P-256", "kty": "EC", "x", "y"}`; raise `Invalid` for anything else."""
        fields = read(jwk, _JWK, "the session key")
        if fields["kty"] != "EC" or fields["crv"] != "P-256":
            raise malformed("bad_session_key", "a session key is a JWK with kty EC and crv P-256")
        x, y = (from_base64url(fields[name], f"the session key's {name}") for name in "xy")
        return cls.from_coordinates(x, y)

    def to_jwk(self) -> dict[str, str]:
        """Return the JWK, members in the order of RFC 7638."""
        return {"crv": "P-256", "kty": "EC", "x": to_base64url(self.x), "y": to_base64url(self.y)}

    @property
    def thumbprint(self) -> str:
        """The RFC 7638 SHA-256 thumbprint in base64url, 43 characters: the key's name."""
        jwk = f'{{"crv":"P-256","kty":"EC","x":"{to_base64url(self.x)}","y":"{to_base64url(self.y)}"}}'
        return to_base64url(hashlib.sha256(jwk.encode()).digest())

    def check(self, message: bytes, signature: bytes) -> None:
        """Raise `Invalid` unless `signature` (64 bytes) is this key's over SHA-256 of `message`."""
        if len(signature) != SIGNATURE_BYTES:
            raise _bad_signature()
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        try:
            self._key.verify(encode_dss_signature(r, s), message, _SHA256)
        except InvalidSignature as error:
            raise _bad_signature() from error


class SessionPrivateKey:
    """The secret half, for clients: makes 64-byte ES256 signatures; its repr shows only the public key's name."""

    __slots__ = ("_key", "public")

    def __init__(self, secret: int) -> None:
        """Take a secret in 1..order-1; raise `ValueError` outside (it is not quoted)."""
        if not 0 < secret < _ORDER:
            raise ValueError("a session secret is from 1 to the order of P-256, exclusive")
        self._key = ec.derive_private_key(secret, ec.SECP256R1())
        numbers = self._key.public_key().public_numbers()
        self.public = SessionKey.from_coordinates(numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big"))

    @classmethod
    def generate(cls, rng: Rng | None = None) -> SessionPrivateKey:
        """Return a fresh key from `rng` (the operating system's when none is given)."""
        data = (rng or SystemRng()).bytes(48)
        return cls(int.from_bytes(data, "big") % (_ORDER - 1) + 1)

    def secret_bytes(self) -> bytes:
        """Return the 32 bytes of the secret, for the client's own storage."""
        return self._key.private_numbers().private_value.to_bytes(32, "big")

    def sign(self, message: bytes) -> bytes:
        """Return r || s over SHA-256 of `message`, 64 bytes, deterministic (RFC 6979)."""
        r, s = decode_dss_signature(self._key.sign(message, _SHA256_DETERMINISTIC))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def __repr__(self) -> str:
        return f"SessionPrivateKey(public={self.public.thumbprint})"


def _bad_signature() -> Invalid:
    return Invalid(
        "bad_signature",
        "the session key's signature does not hold",
        "sign the exact header and payload with the session key, ES256, r || s in 64 bytes",
    )
