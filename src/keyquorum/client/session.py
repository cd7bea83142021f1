"""A login: a fresh session key, a certificate for it by the network, and the job that fetches the certificate.

The statement (network, session key, keys, scopes, expiry, nonce, recent block) is put to the user's account as a
Sign-In with Ethereum message. Each of t nodes checks the proof for itself and signs its share of the certificate; the
client rebuilds the certificate's bytes from the statement, so that a node cannot slip another one in, and verifies the
network's signature under the network key of the chain.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from keyquorum.algebra.curve import Point
from keyquorum.auth import certificate, jws, siwe
from keyquorum.auth.encoding import from_base64url, from_hex
from keyquorum.auth.errors import AuthError
from keyquorum.auth.method import Proven
from keyquorum.auth.network import from_checksum
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import Statement
from keyquorum.client.errors import BadAnswer
from keyquorum.client.fanout import Job
from keyquorum.client.shares import Share, combine_shares, odd_one
from keyquorum.client.transport import encode

DEFAULT_SECONDS = 8 * 3600
DEFAULT_SCOPES = (1,)
DEFAULT_DOMAIN = "localhost"


class Account(Protocol):
    """Anything that signs messages as an Ethereum account: eth-account's accounts, a hardware wallet's, a PKP's."""

    @property
    def address(self) -> Any:
        """The checksummed address."""
        ...

    def sign_message(self, signable_message: Any) -> Any:
        """Return an object whose `signature` is 65 bytes over the EIP-191 message."""
        ...


@dataclass(frozen=True)
class Session:
    """A session key and the network's certificate for it."""

    network: str
    certificate: str
    expires: int
    keys: tuple[str, ...]
    scopes: tuple[int, ...]
    key: SessionPrivateKey = field(repr=False)

    def expires_within(self, seconds: float) -> bool:
        """Say whether the certificate has at most `seconds` left."""
        return time.time() + seconds >= self.expires

    def to_stored(self) -> dict[str, Any]:
        """Return everything, the session's secret included, for a file that only the user can read."""
        return {
            "network": self.network,
            "certificate": self.certificate,
            "expires": self.expires,
            "keys": list(self.keys),
            "scopes": list(self.scopes),
            "secret": self.key.secret_bytes().hex(),
        }

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> Session:
        """Return what `to_stored` gave; raise `KeyError`, `TypeError` or `ValueError` for anything else."""
        return cls(
            network=str(stored["network"]),
            certificate=str(stored["certificate"]),
            expires=int(stored["expires"]),
            keys=tuple(map(str, stored["keys"])),
            scopes=tuple(map(int, stored["scopes"])),
            key=SessionPrivateKey(int(stored["secret"], 16)),
        )


def new_statement(
    network: str, key: SessionPrivateKey, keys: tuple[str, ...], scopes: tuple[int, ...], *, expires: int, block: str
) -> Statement:
    """Return a statement with a fresh nonce."""
    return Statement(
        network, key.public, keys, tuple(sorted(set(scopes))), expires, secrets.token_hex(16), block.lower()
    )


def sign_statement(account: Account, statement: Statement, domain: str) -> dict[str, str]:
    """Let the account sign the statement; return the proof for method `siwe`. May block (a device asks its user)."""
    # Half a second to import, and a gateway never signs.
    from eth_account.messages import encode_defunct

    message = siwe.build_message(statement, from_checksum(account.address), domain, int(time.time()))
    signature = bytes(account.sign_message(encode_defunct(text=message)).signature)
    return {"message": message, "signature": "0x" + signature.hex()}


class SessionAnswer(msgspec.Struct):
    """A node's answer to `POST /v1/sessions`."""

    share: Share
    certificate_input: str


class CertificateJob(Job[SessionAnswer, str]):
    """Ask t nodes to certify a proven statement; the result is the certificate."""

    path = "/v1/sessions"
    shape = SessionAnswer

    def __init__(self, statement: Statement, method: str, proof: object, network_key: Point) -> None:
        self.statement = statement
        self.request_id = statement.challenge
        self._network_key = network_key
        self._fixed = {"statement": statement.to_json(), "method": method, "proof": proof}

    def body(self, signers: tuple[int, ...], attempt: int) -> bytes:
        """Return the node's request body."""
        return encode(self._fixed | {"run": {"signers": signers, "attempt": attempt}})

    def check(self, party: int, answer: SessionAnswer) -> None:
        """Refuse a certificate for anything but the statement, and a share in another's name."""
        answer.share.check(party)
        if not is_certificate_for(self.statement, answer.certificate_input):
            raise BadAnswer(f"node {party} would certify something else than the statement", party=party)

    def finish(self, answers: Mapping[int, SessionAnswer]) -> str:
        """Return the verified certificate."""
        inputs = {party: answer.certificate_input for party, answer in answers.items()}
        if len(set(inputs.values())) != 1:
            raise BadAnswer("the nodes do not agree on the certificate", party=odd_one(inputs))
        signing_input = next(iter(inputs.values())).encode()
        shares = {party: answer.share for party, answer in answers.items()}
        signature = combine_shares(shares, certificate.digest(signing_input), self._network_key)
        return certificate.assemble(signing_input, signature.r, signature.s)


def is_certificate_for(statement: Statement, signing_input: str) -> bool:
    """Say whether header and payload are the ones a node builds for `statement`, whoever proved to be who."""
    try:
        header, payload = signing_input.split(".")
        token = f"{header}.{payload}.{'A' * 86}"
        claims = jws.parse(
            token, algorithm=certificate.ALGORITHM, kind=certificate.TYPE, max_bytes=certificate.MAX_BYTES
        ).claims
        issued_at, methods = claims["iat"], claims["methods"]
        if not isinstance(issued_at, int) or not isinstance(methods, list):
            return False
        proven = [Proven(m["type"], from_hex(m["id"], len(m["id"]) // 2 - 1, "an id"), issued_at) for m in methods]
        return certificate.certificate_input(statement, proven) == signing_input.encode()
    except (AuthError, ValueError, KeyError, TypeError):
        return False


def read_certificate(token: str) -> dict[str, Any]:
    """Return a certificate's claims without verifying it, for showing it to its owner."""
    claims: dict[str, Any] = json.loads(from_base64url(token.split(".")[1], "the payload"))
    return claims
