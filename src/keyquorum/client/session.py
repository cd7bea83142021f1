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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from keyquorum.algebra.curve import Point
from keyquorum.auth import certificate, delegation, login_request, siwe
from keyquorum.auth import request as requests
from keyquorum.auth.method import Method, Proven
from keyquorum.auth.scopes import Scope
from keyquorum.auth.session_key import SessionKey, SessionPrivateKey
from keyquorum.auth.statement import DEFAULT_USES, Statement
from keyquorum.client.errors import BadAnswer
from keyquorum.client.fanout import Job
from keyquorum.client.runs import Asked, Runs, Signers
from keyquorum.client.shares import Share, combine_shares, odd_one
from keyquorum.evm.address import from_checksum
from keyquorum.formats import jws
from keyquorum.formats.text import from_base64url, from_hex
from keyquorum.refusal import Invalid

REQUEST_SECONDS = 55
# A revocation ends what was issued up to a minute before its request expires: up to a second ago.
REVOKE_SECONDS = 59
MESSAGES_SECONDS = 8 * 3600
DEFAULT_SECONDS = 15 * 60
DEFAULT_SCOPES = (1,)
DEFAULT_DOMAIN = "localhost"


def revoke_expires(reach: int) -> int:
    """Return when a revocation, asked for now, expires: its expiry says up to when sessions end (spec/auth.md 8)."""
    return max(int(time.time()) + REVOKE_SECONDS, reach + requests.MAX_LIFETIME)


def default_seconds(scopes: Iterable[int]) -> int:
    """Return how long a login lasts when nobody says: 8 h for personal messages or nothing, else 15 minutes."""
    return MESSAGES_SECONDS if set(scopes) <= {Scope.SIGN_PERSONAL_MESSAGE} else DEFAULT_SECONDS


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
    """A session key and the network's certificate for it; for a delegate's key also the delegations that lead to it."""

    network: str
    certificate: str
    expires: int
    keys: tuple[str, ...]
    scopes: tuple[int, ...]
    key: SessionPrivateKey = field(repr=False)
    uses: int = DEFAULT_USES
    delegations: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """What names this session for revoking it: 64 hex digits."""
        return delegation.name(self.delegations[-1]) if self.delegations else str(self.claims["jti"])

    @property
    def claims(self) -> dict[str, Any]:
        """The certificate's claims, unverified."""
        return read_certificate(self.certificate)

    @property
    def methods(self) -> tuple[Proven, ...]:
        """Who the certificate says the user is."""
        return tuple(Proven(one["type"], bytes.fromhex(one["id"][2:])) for one in self.claims["methods"])

    def expires_within(self, seconds: float) -> bool:
        """Say whether the certificate has at most `seconds` left."""
        return time.time() + seconds >= self.expires

    def ask(self, kind: str, intent: Mapping[str, Any], key: str = requests.NO_KEY, *, reach: int = 0) -> Asked:
        """Return a fresh request, to be signed with the runs that it may have; `key` is a token id as text.

        A revocation reaches what was issued up to `reach` (Unix seconds), or up to a second ago if that is later.
        """
        request_id = secrets.token_urlsafe(24)
        lent = {"delegations": list(self.delegations)} if self.delegations else {}

        def sign(runs: Sequence[Signers]) -> dict[str, Any]:
            token = requests.make(
                self.key,
                network=self.network,
                request_id=request_id,
                expires=revoke_expires(reach) if kind == requests.REVOKE else int(time.time()) + REQUEST_SECONDS,
                key=key,
                intent=intent,
                kind=kind,
                runs=runs,
            )
            return {"certificate": self.certificate, "request": token} | lent

        return Asked(request_id, sign)

    def request(self, kind: str, intent: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body of a fresh signed request of a kind that makes no run."""
        return self.ask(kind, intent).sign(())

    def delegate(
        self,
        to: SessionKey,
        *,
        keys: Sequence[str] | None = None,
        scopes: Sequence[int] | None = None,
        seconds: float | None = None,
        uses: int | None = None,
    ) -> Lent:
        """Lend a part of this session to another key, offline; what is left out stays as it is.

        Raises `ValueError` when it would be more than this session has, or the fourth link.
        """
        if len(self.delegations) >= delegation.MAX_DEPTH:
            raise ValueError(f"a session can be lent on {delegation.MAX_DEPTH} times")
        lent = delegation.Delegation(
            network=self.network,
            parent=self.id,
            session=to,
            keys=self.keys if keys is None else tuple(keys),
            scopes=self.scopes if scopes is None else tuple(sorted(set(scopes))),
            uses=self.uses if uses is None else uses,
            expires=self.expires if seconds is None else int(time.time() + seconds),
        )
        try:
            certificate.check_narrower(self, lent)
            token = delegation.make(self.key, lent)
        except Invalid as error:
            raise ValueError(error.message) from None
        links = (*self.delegations, token)
        return Lent(self.network, self.certificate, links, lent.keys, lent.scopes, lent.expires, lent.uses)

    @classmethod
    def borrowed(cls, lent: Lent, key: SessionPrivateKey) -> Session:
        """Return the delegate's session, of what it was lent and its own key."""
        return cls(lent.network, lent.certificate, lent.expires, lent.keys, lent.scopes, key, lent.uses, lent.links)

    def to_stored(self) -> dict[str, Any]:
        """Return everything, the session's secret included, for a file that only the user can read."""
        return {
            "network": self.network,
            "certificate": self.certificate,
            "expires": self.expires,
            "keys": list(self.keys),
            "scopes": list(self.scopes),
            "secret": self.key.secret_bytes().hex(),
            "uses": self.uses,
            "delegations": list(self.delegations),
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
            uses=int(stored.get("uses", DEFAULT_USES)),
            delegations=tuple(map(str, stored.get("delegations", ()))),
        )


@dataclass(frozen=True)
class Lent:
    """What a delegate gets: nothing of it is secret, and it is worth nothing without the delegate's own key."""

    network: str
    certificate: str
    links: tuple[str, ...]
    keys: tuple[str, ...]
    scopes: tuple[int, ...]
    expires: int
    uses: int

    def to_json(self) -> dict[str, Any]:
        """Return the object that `from_json` reads, to be handed to the delegate."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Lent:
        """Read it; raise `KeyError`, `TypeError` or `ValueError` for anything else."""
        return cls(
            network=str(value["network"]),
            certificate=str(value["certificate"]),
            links=tuple(map(str, value["links"])),
            keys=tuple(map(str, value["keys"])),
            scopes=tuple(map(int, value["scopes"])),
            expires=int(value["expires"]),
            uses=int(value["uses"]),
        )


def new_statement(
    network: str,
    key: SessionPrivateKey,
    keys: tuple[str, ...],
    scopes: Iterable[int],
    *,
    expires: int,
    block: str,
    uses: int = DEFAULT_USES,
) -> Statement:
    """Return a statement with a fresh nonce."""
    nonce = secrets.token_hex(16)
    return Statement(network, key.public, keys, tuple(sorted(set(scopes))), expires, nonce, block.lower(), uses)


def sign_statement(account: Account, statement: Statement, domain: str) -> dict[str, str]:
    """Let the account sign the statement; return the proof for method `siwe`. May block (a device asks its user)."""
    # Half a second to import, and a gateway never signs.
    from eth_account.messages import encode_defunct

    message = siwe.build_message(statement, from_checksum(account.address), domain, int(time.time()))
    signature = bytes(account.sign_message(encode_defunct(text=message)).signature)
    return {"message": message, "signature": "0x" + signature.hex()}


def ask_to_log_in(
    key: SessionPrivateKey, statement: Statement, method: Method, proof: Mapping[str, Any], old: str | None = None
) -> Asked:
    """Return the login, to be signed with the runs that it may have; `old` is the certificate that is stepped up.

    Raises `Invalid` when it is signed and a node could not read it.
    """

    def sign(runs: Sequence[Signers]) -> dict[str, Any]:
        expires = int(time.time()) + REQUEST_SECONDS
        token = login_request.make(key, statement, method.name, proof, expires=expires, runs=runs, certificate=old)
        return {"request": token}

    return Asked(statement.challenge, sign)


class SessionAnswer(msgspec.Struct):
    """A node's answer to `POST /v1/sessions`."""

    share: Share
    certificate_input: str


@dataclass(frozen=True)
class Expected:
    """Whom a certificate must name: one identity of `type` (with this `id`, where it is known), and all those of `old`.

    `old` is the certificate that is stepped up: the new one is the same session, with its id and its issue time.
    """

    type: int
    id: bytes | None = None
    old: certificate.Certificate | None = None

    def holds(self, named: Sequence[Proven]) -> bool:
        """Say whether the identities that a certificate names are exactly these."""
        others = self.old.methods if self.old else ()
        fresh = [one for one in named if one not in others]
        # Who steps up with an identity that is there already adds nothing.
        found = fresh or [one for one in others if self._fits(one)][:1]
        return len(found) == 1 and self._fits(found[0]) and set(others) <= set(named)

    def _fits(self, one: Proven) -> bool:
        return one.type == self.type and self.id in (None, one.id)


class CertificateJob(Job[SessionAnswer, str]):
    """Ask t nodes to certify a proven statement; the result is the certificate."""

    path = "/v1/sessions"
    shape = SessionAnswer

    def __init__(
        self,
        runs: Runs,
        statement: Statement,
        method: Method,
        network_key: Point,
        *,
        identity: bytes | None = None,
        old: certificate.Certificate | None = None,
    ) -> None:
        """`runs` are of a login; `identity` is the id that it must prove, where it is known; `old` what it steps up."""
        self.runs = runs
        self.statement = statement
        self.expected = Expected(method.type_number, identity, old)
        self._old = old
        self._network_key = network_key

    def check(self, party: int, answer: SessionAnswer) -> None:
        """Refuse a certificate for anything but the statement, and a share in another's name."""
        answer.share.check(party)
        if not is_certificate_for(self.statement, answer.certificate_input, self.expected, self._old):
            raise BadAnswer("bad_answer", f"node {party} would certify something else than the statement", party=party)

    def finish(self, answers: Mapping[int, SessionAnswer]) -> str:
        """Return the verified certificate."""
        inputs = {party: answer.certificate_input for party, answer in answers.items()}
        if len(set(inputs.values())) != 1:
            raise BadAnswer("bad_answer", "the nodes do not agree on the certificate", party=odd_one(inputs))
        signing_input = next(iter(inputs.values())).encode()
        shares = {party: answer.share for party, answer in answers.items()}
        signature = combine_shares(shares, certificate.digest(signing_input), self._network_key)
        return certificate.assemble(signing_input, signature.r, signature.s)


def is_certificate_for(
    statement: Statement, signing_input: str, expected: Expected, old: certificate.Certificate | None = None
) -> bool:
    """Say whether header and payload are the ones a node builds for `statement` and the `expected` identities.

    `old` is the certificate that is stepped up: the new one keeps its id and its issue time.
    """
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
        built = certificate.certificate_input(statement, proven, old)
        return built == signing_input.encode() and expected.holds(proven)
    except (Invalid, ValueError, KeyError, TypeError):
        return False


def read_certificate(token: str) -> dict[str, Any]:
    """Return a certificate's claims without verifying it, for showing it to its owner."""
    claims: dict[str, Any] = json.loads(from_base64url(token.split(".")[1], "the payload"))
    return claims
