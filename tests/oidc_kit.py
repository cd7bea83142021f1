"""An OpenID Connect provider without a network: keys, documents, tokens in any shape; it records what it was asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from keyquorum.formats.text import to_base64url
from keyquorum.refusal import UNAVAILABLE, Invalid

ISSUER = "https://accounts.example"
CLIENT = "wallet.apps.example"


@cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def jwk(key: rsa.RSAPrivateKey, kid: str | None, **more: Any) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    found = {
        "kty": "RSA",
        "n": to_base64url(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")),
        "e": to_base64url(numbers.e.to_bytes(3, "big")),
        "use": "sig",
        "alg": "RS256",
        "kid": kid,
    } | more
    return {name: value for name, value in found.items() if value is not None}


def part(value: Any) -> str:
    return to_base64url(value if isinstance(value, bytes) else json.dumps(value).encode())


def sign(header: Any, claims: Any, key: rsa.RSAPrivateKey, hash_: hashes.HashAlgorithm | None = None) -> str:
    text = f"{part(header)}.{part(claims)}"
    return f"{text}.{part(key.sign(text.encode(), padding.PKCS1v15(), hash_ or hashes.SHA256()))}"


def without(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value is not None}


@dataclass
class Provider:
    """`documents` by address; `newer` replaces some of them for whoever asks past the cache."""

    issuer: str = ISSUER
    kid: str = "one"
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa_key("one"))
    documents: dict[str, Any] = field(default_factory=dict)
    newer: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.jwks = self.issuer + "/keys"
        self.documents |= {
            self.issuer + "/.well-known/openid-configuration": {"issuer": self.issuer, "jwks_uri": self.jwks},
            self.jwks: {"keys": [jwk(self.key, self.kid)]},
        }

    async def fetch(self, url: str, *, bearer: str | None = None, newer: bool = False) -> object:
        assert bearer is None
        self.asked.append((url, newer))
        if newer and url in self.newer:
            return self.newer[url]
        if url not in self.documents:
            raise Invalid("provider_unavailable", "accounts.example does not answer", "wait", UNAVAILABLE)
        return self.documents[url]

    def claims(self, challenge: str, now: int, /, **changes: Any) -> dict[str, Any]:
        """The claims of a good token; None leaves one out."""
        good = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "110169484474386276334",
            "nonce": challenge,
            "iat": now,
            "exp": now + 3600,
            "email": "person@mail.example",
            "email_verified": True,
        }
        return without(good | changes)

    def token(self, claims: Any, key: rsa.RSAPrivateKey | None = None, **header: Any) -> str:
        return sign(without({"alg": "RS256", "typ": "JWT", "kid": self.kid} | header), claims, key or self.key)
