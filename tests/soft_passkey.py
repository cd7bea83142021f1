"""A passkey in software: builds assertions as a browser and an authenticator would, honest or bent in one place.

It signs with pycryptodome, so that what the nodes verify (with OpenSSL) was made by somebody else's code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from Crypto.Hash import SHA256
from Crypto.PublicKey import ECC, RSA
from Crypto.Signature import DSS, eddsa, pkcs1_15

from keyquorum.auth.passkey import identity
from keyquorum.auth.statement import Statement
from keyquorum.formats.text import to_base64url

Algorithm = Literal["ES256", "EdDSA", "RS256"]
UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80


def make_key(algorithm: Algorithm) -> Any:
    """A fresh secret key for the algorithm."""
    if algorithm == "RS256":
        return RSA.generate(2048)
    return ECC.generate(curve="P-256" if algorithm == "ES256" else "Ed25519")


def cose_of(key: Any) -> bytes:
    """The public half as a COSE key, written by hand from RFC 9053 and RFC 8812."""
    if isinstance(key, RSA.RsaKey):
        modulus = key.n.to_bytes(256, "big")
        return bytes.fromhex("a4 01 03 03 390100 20 590100") + modulus + bytes.fromhex("21 43 010001")
    public = key.public_key()
    if key.curve == "Ed25519":
        return bytes.fromhex("a4 0101 0327 2006 21 5820") + public.export_key(format="raw")
    x, y = (int(each).to_bytes(32, "big") for each in public.pointQ.xy)
    return bytes.fromhex("a5 0102 0326 2001 21 5820") + x + bytes.fromhex("22 5820") + y


@dataclass(frozen=True)
class SoftPasskey:
    """One credential; `replace` changes what its browser or authenticator claims."""

    key: Any = field(default_factory=lambda: make_key("ES256"), repr=False)
    credential_id: bytes = b"credential-of-a-test"
    rp_id: str = "localhost"
    origin: str = "http://localhost:7480"
    flags: int = UP | UV
    counter: int = 0
    kind: str = "webauthn.get"
    client_changes: dict[str, Any] = field(default_factory=dict)

    @property
    def public_key(self) -> bytes:
        return cose_of(self.key)

    @property
    def identity(self) -> bytes:
        return identity(self.rp_id, self.credential_id, self.public_key)

    def but(self, **changes: Any) -> SoftPasskey:
        return replace(self, **changes)

    def client_data(self, challenge: bytes) -> bytes:
        plain = {"type": self.kind, "challenge": to_base64url(challenge), "origin": self.origin, "crossOrigin": False}
        changed = {name: value for name, value in (plain | self.client_changes).items() if value is not None}
        return json.dumps(changed, separators=(",", ":")).encode()

    def authenticator_data(self) -> bytes:
        return hashlib.sha256(self.rp_id.encode()).digest() + bytes([self.flags]) + self.counter.to_bytes(4, "big")

    def sign(self, message: bytes) -> bytes:
        if isinstance(self.key, RSA.RsaKey):
            return pkcs1_15.new(self.key).sign(SHA256.new(message))
        if self.key.curve == "Ed25519":
            return eddsa.new(self.key, "rfc8032").sign(message)
        return DSS.new(self.key, "fips-186-3", encoding="der").sign(SHA256.new(message))

    def assertion(self, client_data: bytes, authenticator_data: bytes | None = None) -> dict[str, str]:
        """The proof over exactly these bytes."""
        data = self.authenticator_data() if authenticator_data is None else authenticator_data
        return {
            "public_key": to_base64url(self.public_key),
            "credential_id": to_base64url(self.credential_id),
            "client_data_json": to_base64url(client_data),
            "authenticator_data": to_base64url(data),
            "signature": to_base64url(self.sign(data + hashlib.sha256(client_data).digest())),
        }

    def proof(self, statement: Statement) -> dict[str, str]:
        """The proof for a login statement."""
        return self.assertion(self.client_data(bytes.fromhex(statement.challenge)))
