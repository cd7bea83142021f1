"""Answers for sessions: `POST /v1/sessions` (log in, step up), `/v1/sessions/list` and `/v1/revocations`.

*Log in*: the session key signed the statement with its proof; the proof is verified here, with this node's own view of
the chain and its own questions to providers, and the node signs its share of the certificate, whose bytes all nodes
build alike. With a certificate for the same session key it is a step-up: the new identity joins those of the old one
that are still good. *List*: the sessions that this node
helped to certify, to whoever has proven one of their identities. *Revoke*: the node checks who asks, and signs its
share of (what, until when) with the network key; the chain makes it known to everybody.

A revocation ends certificates issued until a time that all nodes must name alike, so it is taken from the request: its
expiry less the minute that requests last, but never before the asking session's own beginning.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keyquorum.auth import certificate as certificates
from keyquorum.auth import login_request, revocation
from keyquorum.auth.certificate import Certificate
from keyquorum.auth.method import At, Committee, Context, Fetch, Proven, prove
from keyquorum.auth.request import MAX_RUNS, REVOKE, SESSIONS
from keyquorum.auth.revocation import Revocation
from keyquorum.auth.scopes import Scope
from keyquorum.auth.statement import Statement
from keyquorum.evm.address import from_checksum
from keyquorum.evm.digests import identity_mark, revocation_digest, session_mark
from keyquorum.evm.keys import token_id
from keyquorum.formats.strict_json import fields, loads
from keyquorum.formats.text import to_hex
from keyquorum.node.chain.chain_view import ChainView
from keyquorum.node.chain.strangers import Strangers
from keyquorum.node.services.access import CALLER, MAY_HAVE, Access
from keyquorum.node.services.attempts import Attempts
from keyquorum.node.services.audit import note
from keyquorum.node.services.quotas import Quotas, claim_of
from keyquorum.node.services.signing import Answer, RunChoice, Signing
from keyquorum.node.settings.auth_settings import Settings
from keyquorum.node.storage.keys import Keys
from keyquorum.node.storage.login_store import KnownSession, LoginStore
from keyquorum.protocols.key_share import KeyShare
from keyquorum.refusal import NOT_FOUND, NOT_PERMITTED, NOT_PROVEN, Invalid, Refusal, malformed

_LOGIN = {"request": str, "run": int}


@dataclass(frozen=True)
class Verification:
    """What the login methods may use of this node: see `keyquorum.auth.method.Context`."""

    domains: frozenset[str]
    settings: Settings
    fetch: Fetch
    conceal: Callable[[int, bytes], bytes]


class Sessions:
    """The session service of one node; it signs through `signing`, whose roster is its own."""

    def __init__(
        self,
        view: ChainView,
        keys: Keys,
        access: Access,
        signing: Signing,
        store: LoginStore,
        quotas: Quotas,
        verification: Verification,
    ) -> None:
        self._view = view
        self._keys = keys
        self._access = access
        self._signing = signing
        self._store = store
        self._quotas = quotas
        self._verification = verification
        self._strangers = Strangers(view)
        self._attempts = Attempts()

    # -- log in, step up --------------------------------------------

    async def open(self, body: bytes, max_body: int) -> Answer:
        """Answer `POST /v1/sessions`: this node's share of the certificate for a login that it verified itself."""
        found = fields(loads(body, max_body), _LOGIN)
        now = int(time.time())
        login = login_request.verify(found["request"], self._view.network, now)
        request, statement = login.request, login.statement
        choice = self._signing.check_choice(RunChoice.of(request, found["run"]))
        # First what costs nothing, then whoever asks is counted, and only then is anything looked up for him.
        statement.check_terms(self._view.network, now)
        claim = claim_of(login.method, login.proof)
        self._quotas.count_login(claim)
        block_time = await self._view.recent_block_time(bytes.fromhex(statement.block[2:]))
        statement.check(self._view.network, now, lambda _: block_time is not None)
        old = await self._stepping_up(login.certificate, now)
        context = self._context(now, block_time or 0, claim)
        proven = await self._prove(login.method, login.proof, statement, context, claim)
        identities = [proven] if old is None else certificates.step_up(old, statement, proven)
        summary = f"{'log in' if old is None else 'step up'} by {login.method}"
        note(summary=summary, session=statement.session.thumbprint, methods=[(one.type, one.id) for one in identities])
        signing_input = certificates.certificate_input(statement, identities, old)
        known = _known(statement, proven, old)
        key = await self._network_key()

        async def make() -> Answer:
            digest = certificates.digest(signing_input)
            shares = await self._signing.run_signing("session", key, digest, request.payload_digest, choice)
            self._store.remember(known, now)
            return self._signing.answer(shares, digest) | {"certificate_input": signing_input.decode()}

        def admit(made: int) -> None:
            names = [(one.type, one.id) for one in identities]
            self._quotas.admit(session=statement.session.thumbprint, identities=names, again=made % MAX_RUNS != 0)

        return await self._attempts.once(
            statement.session.thumbprint,
            request.id,
            request.payload_digest,
            choice.slot,
            until=request.expires + 2 * 60,
            now=now,
            make=make,
            admit=admit,
        )

    async def _stepping_up(self, token: str | None, now: int) -> Certificate | None:
        """Return the certificate that the login builds on, without what was revoked of it; None for a new session."""
        return None if token is None else await self._access.alive(await self._access.certificate(token, now))

    async def _prove(self, name: str, proof: object, statement: Statement, context: Context, claim: str) -> Proven:
        """Verify the proof, with the method's own settings; failures are counted for whom the proof claims to be."""
        try:
            return await prove(name, proof, statement, context.for_method(self._verification.settings.get(name)))
        except Invalid as error:
            if error.status == NOT_PROVEN:
                self._quotas.login_failed(claim)
            raise

    def _context(self, now: int, block_time: int, claim: str) -> Context:
        view, verification, membership = self._view, self._verification, self._signing.roster.current
        strangers, tenant = self._strangers, self._quotas.tenant(claim)

        def admit() -> None:
            self._quotas.count_wallet_call(claim)

        async def call(address: str, data: bytes, at: At) -> bytes:
            return await strangers.call(tenant, admit, from_checksum(address), data, at == "latest")

        async def code(address: str, at: At) -> bytes:
            return await view.code(address, at == "latest")

        async def probe(init_code: bytes, at: At) -> bytes:
            return await strangers.probe(tenant, admit, init_code, at == "latest")

        accounts = {j: from_checksum(member.address) for j, member in membership.members.items()}
        committee = Committee(accounts, membership.threshold, membership.epoch)
        return Context(
            now=now,
            block_time=block_time,
            domains=verification.domains,
            call=call,
            code=code,
            probe=probe,
            fetch=verification.fetch,
            conceal=verification.conceal,
            committee=committee,
        )

    async def _network_key(self) -> KeyShare:
        public = await self._access.network_key()
        return self._keys.load(token_id(public.to_bytes()).to_bytes(32, "big"))

    # -- list --------------------------------------------

    async def listing(self, body: bytes, max_body: int) -> Answer:
        """Answer `POST /v1/sessions/list`: the sessions that share an identity with the one that asks."""
        now = int(time.time())
        found = fields(loads(body, max_body), CALLER, MAY_HAVE)
        # A list is much work and no run: whoever has asked for many is told no before anything is verified for him.
        self._quotas.check_listing(_first_of(await self._access.certificate(found["certificate"], now)))
        certificate, request = await self._access.read(found, SESSIONS, now)
        if request.intent:
            raise malformed("bad_sessions", "the intent of a request for one's sessions is empty")
        if certificate.delegated:
            raise Invalid("not_yours", "a delegate does not see its principal's sessions", "ask him", NOT_PERMITTED)
        self._quotas.count_listing(_first_of(certificate))
        mine = {(one.type, one.id) for one in certificate.methods}
        known = await self._store.sessions_of(mine, now)
        revoked = await self._revoked(known)
        return {"sessions": [self._describe(one, mine, ended) for one, ended in zip(known, revoked, strict=True)]}

    def _describe(self, known: KnownSession, mine: set[tuple[int, bytes]], revoked: bool) -> dict[str, Any]:
        # Of the identities only those that the asker has proven too: who else a person is, is not his to know.
        shared = [one for one in known.methods if one in mine]
        return {
            "id": known.id,
            "session": known.session,
            "methods": [{"type": number, "id": to_hex(identity)} for number, identity in shared],
            "keys": list(known.keys),
            "scopes": list(known.scopes),
            "uses": known.uses,
            "used": self._signing.uses.of(known.id),
            "issued_at": known.issued_at,
            "expires": known.expires,
            "revoked": revoked,
        }

    async def _revoked(self, known: list[KnownSession]) -> list[bool]:
        """Say of each session whether it was revoked, itself or by all of its identities."""
        marks = {session_mark(bytes.fromhex(one.id)) for one in known}
        marks |= {identity_mark(*identity) for one in known for identity in one.methods}
        order = sorted(marks)
        ends = dict(zip(order, await self._view.revoked_before(order), strict=True)) if order else {}
        return [
            one.issued_at <= ends[session_mark(bytes.fromhex(one.id))]
            or all(one.issued_at <= ends[identity_mark(*identity)] for identity in one.methods)
            for one in known
        ]

    # -- revoke --------------------------------------------

    async def revoke(self, body: bytes, max_body: int) -> Answer:
        """Answer `POST /v1/revocations`: this node's share of the network's signature on a revocation."""
        found = fields(loads(body, max_body), CALLER | {"run": int}, MAY_HAVE)
        now = int(time.time())
        certificate, request = await self._access.read(found, REVOKE, now)
        choice = self._signing.check_choice(RunChoice.of(request, found["run"]))
        what = revocation.read_revocation(request.intent)
        await self._check_authority(what, certificate)
        note(summary=f"revoke mark 0x{what.mark.hex()}")
        before = what.before(request.expires, certificate.issued_at)
        digest = revocation_digest(self._view.chain_id, self._view.addresses["Sessions"], what.mark, before)
        key = await self._network_key()

        async def make() -> Answer:
            shares = await self._signing.run_signing("revoke", key, digest, request.payload_digest, choice)
            return self._signing.answer(shares, digest) | {"what": to_hex(what.mark), "before": before}

        return await self._attempts.once(
            certificate.session.thumbprint,
            request.id,
            request.payload_digest,
            choice.slot,
            until=request.expires + 2 * 60,
            now=now,
            make=make,
            admit=lambda made: self._signing.admit(certificate, made=made),
        )

    async def _check_authority(self, what: Revocation, certificate: Certificate) -> None:
        if what.key is not None:
            # Whatever key the request names: a session that was ended for this one must not end it for others.
            certificate = await self._access.alive(certificate, what.key)
        may_manage = what.key is not None and await self._access.may(certificate, Scope.MANAGE_PERMISSIONS, what.key)
        known = await self._store.session(what.session) if what.session is not None else None
        certified = [Proven(*identity) for identity in known.methods] if known is not None else []
        try:
            revocation.check_authority(what, certificate, may_manage=may_manage, certified=certified)
        except Invalid:
            if what.session is None or known is not None:
                raise
            raise Refusal(
                "session_unknown",
                "this node did not certify that session, so it cannot tell whose it is",
                "ask the nodes that list it, or revoke the identity",
                NOT_FOUND,
            ) from None


def _known(statement: Statement, proven: Proven, old: Certificate | None) -> KnownSession:
    """Return what is remembered of a session: whose it was when it began, whoever was proven in it later."""
    first = (proven,) if old is None else old.methods
    return KnownSession(
        id=statement.challenge if old is None else old.id,
        session=statement.session.thumbprint,
        methods=tuple(sorted((one.type, one.id) for one in first)),
        keys=statement.keys,
        scopes=statement.scopes,
        uses=statement.uses,
        issued_at=proven.issued_at if old is None else old.issued_at,
        expires=statement.expires,
    )


def _first_of(certificate: Certificate) -> tuple[int, bytes]:
    first = certificate.methods[0]
    return first.type, first.id
