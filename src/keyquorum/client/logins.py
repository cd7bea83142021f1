"""Logging in, with any method: a statement, a proof of it, a certificate, checked. `AsyncClient` builds on it.

A wallet (`login`) is asked by the client itself, now and when the session has to be renewed. For every other method the
caller brings `prove`, a coroutine that gets the statement and returns the method's proof, with its challenge bound to
`statement.challenge`: it may open a browser, ask for a code, touch a passkey.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from keyquorum.auth import certificate as certificates
from keyquorum.auth.method import ADDRESS_TYPE, Method, Proven, method
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import DEFAULT_USES, MAX_SESSION, Statement
from keyquorum.chain.block import Block
from keyquorum.client import session as sessions
from keyquorum.client.connection import Connection, KeyLike, token_of
from keyquorum.client.errors import BadAnswer, Misconfigured
from keyquorum.client.network import Network
from keyquorum.client.results import token_hex
from keyquorum.client.runs import Asked, FreshRuns
from keyquorum.client.session import REQUEST_SECONDS, Account, CertificateJob, Session, ask_to_log_in
from keyquorum.evm.address import checksum, from_checksum
from keyquorum.refusal import Invalid

RENEW_SECONDS = 300.0
BLOCK_SPREADS_SECONDS = 2
MOST_ENDED_AHEAD = 2.0
ENDED_POLL = 0.1
WALLET = "siwe"

Prove = Callable[[Statement], Awaitable[Any]]


class _Certificate(msgspec.Struct):
    certificate: str


class Logins(Connection):
    """A connection with a login: `account` and `session` as for `AsyncClient`."""

    def __init__(
        self,
        network: str | Path | Network,
        *,
        account: Account | None,
        session: Session | None,
        through_gateway: bool,
        keys: Sequence[KeyLike] | None,
        scopes: Sequence[int],
        session_seconds: float | None,
        domain: str,
        timeout: float,
    ) -> None:
        super().__init__(network, timeout=timeout)
        self.account = account
        self._session = session
        self._through_gateway = through_gateway
        self._keys = ("*",) if keys is None else _names(keys)
        self._scopes = tuple(scopes)
        self._session_seconds = session_seconds
        self._domain = domain
        self._login_lock = asyncio.Lock()
        self._seen_block = 0  # the newest of which the nodes were seen to know
        self._ended_until = 0  # Unix seconds up to which this client has ended sessions of its identities

    @property
    def session(self) -> Session | None:
        """The login in use, if there is one."""
        return self._session

    def use_session(self, session: Session) -> None:
        """Go on with an earlier login, or with a session that somebody lent, instead of logging in."""
        self._session = session

    def forget_session(self) -> None:
        """Use no session any more: the next request logs in again, where that is possible."""
        self._session = None

    async def login(
        self,
        account: Account | None = None,
        *,
        keys: Sequence[KeyLike] | None = None,
        scopes: Sequence[int] | None = None,
        seconds: float | None = None,
    ) -> Session:
        """Log in with a wallet: prove the account, get a certificate for a fresh session key, use it from now on."""
        if account is not None:
            self.account = account
        if keys is not None:
            self._keys = _names(keys)
        self._scopes = self._scopes if scopes is None else tuple(scopes)
        self._session_seconds = self._session_seconds if seconds is None else seconds
        signer = self._account()

        async def prove(statement: Statement) -> dict[str, str]:
            return await asyncio.to_thread(sessions.sign_statement, signer, statement, self._domain)

        identity = from_checksum(checksum(signer.address))
        lasts = self._session_seconds
        return await self._open(method(WALLET), prove, self._keys, self._scopes, lasts, DEFAULT_USES, identity)

    async def login_with(
        self,
        name: str,
        prove: Prove,
        *,
        scopes: Sequence[int] = sessions.DEFAULT_SCOPES,
        keys: Sequence[KeyLike] | None = None,
        seconds: float | None = None,
        uses: int | None = None,
        identity: bytes | None = None,
        key: SessionPrivateKey | None = None,
    ) -> Session:
        """Log in with the method called `name`; `prove` makes its proof of the statement it is given.

        `keys` None: all that the login controls. `seconds` None: 15 minutes, or 8 hours for a session that signs
        nothing but personal messages. `uses` is how many signatures the session may make. With `identity`, the id
        that the proof must prove, a certificate for anybody else is refused. `key` is the session key to certify, for
        proofs that it has to sign too (codes by e-mail or SMS); by default a fresh one.
        """
        chosen = _known(name)
        wanted = ("*",) if keys is None else _names(keys)
        return await self._open(
            chosen, prove, wanted, tuple(scopes), seconds, DEFAULT_USES if uses is None else uses, identity, key
        )

    async def step_up(self, name: str, prove: Prove, *, identity: bytes | None = None) -> Session:
        """Prove a second method for the session in use: the certificate then names both, and may do no more."""
        old = self._session
        if old is None or old.delegations:
            raise Misconfigured("no_login", "there is no login of one's own to step up", "log in first")
        chosen, network_key = _known(name), await self._network_key()
        statement = sessions.new_statement(
            self.facts.id, old.key, old.keys, old.scopes,
            expires=old.expires, block=await self._recent_block(), uses=old.uses,
        )  # fmt: skip
        try:
            held = certificates.verify(old.certificate, self.facts.id, network_key, int(time.time()))
        except Invalid as error:
            raise Misconfigured(error.code, error.message, error.hint) from None
        asked = ask_to_log_in(old.key, statement, chosen, await prove(statement), old.certificate)
        job = CertificateJob(FreshRuns(asked), statement, chosen, network_key, identity=identity, old=held)
        return await self._certify(job, asked, old.key, network_key)

    async def _open(
        self,
        chosen: Method,
        prove: Prove,
        keys: tuple[str, ...],
        scopes: tuple[int, ...],
        seconds: float | None,
        uses: int,
        identity: bytes | None,
        key: SessionPrivateKey | None = None,
    ) -> Session:
        lasts = int(sessions.default_seconds(scopes) if seconds is None else seconds)
        if not 0 < lasts <= MAX_SESSION:
            raise ValueError(f"a session lasts at most {MAX_SESSION // 3600} hours")
        network_key = await self._network_key()
        key = key or SessionPrivateKey.generate()
        try:
            statement = sessions.new_statement(
                self.facts.id, key, keys, scopes,
                expires=int(time.time()) + lasts, block=await self._recent_block(), uses=uses,
            )  # fmt: skip
            proof = await prove(statement)
        except Invalid as error:
            raise ValueError(error.message) from None
        asked = ask_to_log_in(key, statement, chosen, proof)
        job = CertificateJob(FreshRuns(asked), statement, chosen, network_key, identity=identity)
        return await self._certify(job, asked, key, network_key)

    async def _certify(self, job: CertificateJob, asked: Asked, key: SessionPrivateKey, network_key: Any) -> Session:
        """Get the certificate, from the nodes or a gateway, and use it when it is exactly what was asked for."""
        try:
            if self._through_gateway:
                token = (await self._run_at_gateway(job.path, asked, _Certificate)).certificate
            else:
                token = await self._fanout.run(job, self._timeout)
        except Invalid as error:
            raise ValueError(error.message) from None
        statement = job.statement
        try:
            found = certificates.verify(token, self.facts.id, network_key, int(time.time()))
        except Invalid as error:
            raise BadAnswer("bad_answer", f"the certificate does not hold: {error.message}") from None
        wanted = (statement.session, statement.keys, statement.scopes, statement.expires, statement.uses)
        if (found.session, found.keys, found.scopes, found.expires, found.uses) != wanted:
            raise BadAnswer("bad_answer", "the certificate is for something else than was asked")
        if not job.expected.holds(found.methods):
            raise BadAnswer("bad_answer", "the certificate is for somebody else than logged in")
        self._session = Session(self.facts.id, token, found.expires, found.keys, found.scopes, key, found.uses)
        return self._session

    async def _recent_block(self) -> str:
        """Return the hash of the newest block that every node knows by now.

        A login counts as made a second after this block, so it must not be older than a revocation of a moment ago: a
        block of which the nodes were seen to know counts as known at once.
        """
        block = await self._block_after_revocations()
        settled = block.time + BLOCK_SPREADS_SECONDS <= time.time()
        known = block.hash if settled or block.number <= self._seen_block else block.parent
        return "0x" + known.hex()

    async def _block_after_revocations(self) -> Block:
        """Return the newest block; waits a little while for one that is younger than what this client has ended."""
        patience = time.monotonic() + MOST_ENDED_AHEAD
        while True:
            block = await self.chain.newest_block()
            if block.time >= self._ended_until or time.monotonic() >= patience:
                return block
            await asyncio.sleep(ENDED_POLL)

    async def _logged_in(self) -> Session:
        """Return a session that is good for this request, logging in or renewing when needed."""
        session = self._session
        if session is not None and not session.expires_within(REQUEST_SECONDS / 2):
            lasts = self._session_seconds or sessions.default_seconds(self._scopes)
            if session.expires_within(min(RENEW_SECONDS, lasts / 4)) and self._is_the_wallets(session):
                self._renew_soon()
            return session
        async with self._login_lock:
            if self._session is None or self._session.expires_within(REQUEST_SECONDS / 2):
                if self._session is not None and not self._is_the_wallets(self._session):
                    raise Misconfigured("session_expired", "the session has expired", "log in again")
                await self.login()
        assert self._session is not None  # noqa: S101 - login sets it or raises
        return self._session

    def _is_the_wallets(self, session: Session) -> bool:
        """Say whether logging in with the account would give such a session again: it may be somebody else's."""
        if self.account is None or session.delegations:
            return False
        return session.methods == (Proven(ADDRESS_TYPE, from_checksum(checksum(self.account.address))),)

    def _renew_soon(self) -> None:
        if not self._login_lock.locked():
            self._spawn(self._renew())

    async def _renew(self) -> None:
        async with self._login_lock:
            await self.login()

    def _account(self) -> Account:
        if self.account is None:
            raise Misconfigured("no_account", "there is no account to act for", "give the client an account, or log in")
        return self.account


def _names(keys: Sequence[KeyLike]) -> tuple[str, ...]:
    return tuple(token_hex(token_of(key)) for key in keys)


def _known(name: str) -> Method:
    try:
        return method(name)
    except Invalid as error:
        raise ValueError(f"{error.message}: {error.hint}") from None
