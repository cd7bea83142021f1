"""`AsyncClient`: the network as an object. It logs in, mints keys, signs, sends, and verifies everything.

    async with AsyncClient("network.json", account=account) as client:
        minted = await client.mint()
        signed = await client.sign_message(minted.key, "hello")

It talks to the nodes itself (`fanout.py`) and needs no gateway; with `through_gateway=True` it makes one call to a
gateway instead, and believes it no more. Either way a signature is returned only after it was verified under the
public key that the chain has for the token id. Nodes, threshold and public keys are read once and kept; a request
then costs one round trip to t nodes at the same time.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from keyquorum import intents
from keyquorum.algebra import ecdsa
from keyquorum.algebra.curve import Point
from keyquorum.auth import certificate as certificates
from keyquorum.auth import request as requests
from keyquorum.auth.errors import AuthError
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import MAX_SESSION
from keyquorum.chain.account import checksum
from keyquorum.chain.contracts import eth_address
from keyquorum.chain.rpc import RpcError, RpcUnreachable
from keyquorum.client import session as sessions
from keyquorum.client.connection import Connection, KeyLike, token_of
from keyquorum.client.errors import BadAnswer, ChainError, Misconfigured
from keyquorum.client.jobs import SignJob
from keyquorum.client.network import KEY_TYPE, Network, chain_error, minted_token
from keyquorum.client.results import Key, Minted, SentTransaction, Signed, token_from, token_hex
from keyquorum.client.session import Account, CertificateJob, Session
from keyquorum.client.transactions import fill

REQUEST_SECONDS = 55
RENEW_SECONDS = 300.0
RECEIPT_SECONDS = 60.0


class AsyncClient(Connection):
    """A client of one network, for one event loop; open it with `async with`.

    `network` is a path or URL of a network file, a gateway's URL, or a `Network`. `account` is who logs in and pays
    (anything with eth-account's `address`, `sign_message` and, for sending, `sign_transaction`); `session` an earlier
    login. `scopes` and `keys` are what a login asks for; `timeout` is in seconds for one call, retries included.
    """

    def __init__(
        self,
        network: str | Path | Network,
        *,
        account: Account | None = None,
        session: Session | None = None,
        through_gateway: bool = False,
        keys: Sequence[KeyLike] | None = None,
        scopes: Sequence[int] = sessions.DEFAULT_SCOPES,
        session_seconds: float = sessions.DEFAULT_SECONDS,
        domain: str = sessions.DEFAULT_DOMAIN,
        timeout: float = 30.0,
    ) -> None:
        super().__init__(network, timeout=timeout)
        self.account = account
        self._session = session
        self._through_gateway = through_gateway
        self._keys = ("*",) if keys is None else tuple(token_hex(token_of(key)) for key in keys)
        self._scopes = tuple(scopes)
        self._session_seconds = int(session_seconds)
        self._domain = domain
        self._login_lock = asyncio.Lock()

    @property
    def session(self) -> Session | None:
        """The login in use, if there is one."""
        return self._session

    def use_session(self, session: Session) -> None:
        """Go on with an earlier login instead of logging in again."""
        self._session = session

    async def key(self, key: KeyLike) -> Key:
        """Return one key with its owner."""
        return await self.chain.key(token_of(key))

    async def keys(self, owner: str | None = None) -> list[Key]:
        """Return the keys that `owner` (by default the account) owns."""
        return await self.chain.keys_of(checksum(owner) if owner else checksum(self._account().address))

    # -- logging in ---------------------------------------------------------------------------------------------------

    async def login(
        self,
        account: Account | None = None,
        *,
        keys: Sequence[KeyLike] | None = None,
        scopes: Sequence[int] | None = None,
        seconds: float | None = None,
    ) -> Session:
        """Log in: prove the account, get a certificate for a fresh session key, use it from now on."""
        if account is not None:
            self.account = account
        if keys is not None:
            self._keys = tuple(token_hex(token_of(key)) for key in keys)
        self._scopes = self._scopes if scopes is None else tuple(scopes)
        self._session_seconds = self._session_seconds if seconds is None else int(seconds)
        if not 0 < self._session_seconds <= MAX_SESSION:
            raise ValueError(f"a session lasts at most {MAX_SESSION // 3600} hours")
        signer = self._account()
        network_key = await self._network_key()
        key = SessionPrivateKey.generate()
        expires = int(time.time()) + self._session_seconds
        try:
            statement = sessions.new_statement(
                self.facts.id, key, self._keys, self._scopes, expires=expires, block=await self._recent_block()
            )
            proof = await asyncio.to_thread(sessions.sign_statement, signer, statement, self._domain)
        except AuthError as error:
            raise ValueError(error.message) from None
        job = CertificateJob(statement, "siwe", proof, network_key)
        if self._through_gateway:
            body = {"statement": statement.to_json(), "method": "siwe", "proof": proof}
            token = (await self._ask_gateway("/v1/sessions", body, _Certificate)).certificate
        else:
            token = await self._fanout.run(job, self._timeout)
        self._check_certificate(token, key, network_key)
        self._session = Session(self.facts.id, token, expires, self._keys, self._scopes, key)
        return self._session

    def _check_certificate(self, token: str, key: SessionPrivateKey, network_key: Point) -> None:
        try:
            found = certificates.verify(token, self.facts.id, network_key, int(time.time()))
        except AuthError as error:
            raise BadAnswer(f"the certificate does not hold: {error.message}") from None
        if found.session.thumbprint != key.public.thumbprint or (found.keys, found.scopes) != (
            self._keys,
            tuple(sorted(set(self._scopes))),
        ):
            raise BadAnswer("the certificate is for something else than was asked")

    async def _recent_block(self) -> str:
        """Return the hash of a block that every node knows by now: the newest one's parent."""
        try:
            block = await self.chain.rpc.block("latest") or {}
            first = int(block["number"], 16) == 0
            return str(block["hash"] if first else block["parentHash"])
        except (RpcError, RpcUnreachable, KeyError) as error:
            raise chain_error("the newest block", error) from None

    async def _logged_in(self) -> Session:
        """Return a session that is good for this request, logging in or renewing when needed."""
        session = self._session
        if session is not None and not session.expires_within(REQUEST_SECONDS / 2):
            if session.expires_within(min(RENEW_SECONDS, self._session_seconds / 4)) and self.account is not None:
                self._renew_soon()
            return session
        async with self._login_lock:
            if self._session is None or self._session.expires_within(REQUEST_SECONDS / 2):
                await self.login()
        assert self._session is not None  # noqa: S101 - login sets it or raises
        return self._session

    def _renew_soon(self) -> None:
        if not self._login_lock.locked():
            self._spawn(self._renew())

    async def _renew(self) -> None:
        async with self._login_lock:
            await self.login()

    # -- signing ------------------------------------------------------------------------------------------------------

    async def sign(self, key: KeyLike, intent: Mapping[str, Any], *, timeout: float | None = None) -> Signed:  # noqa: ASYNC109
        """Sign an intent (see docs/client.md) with a key; the result is verified."""
        token_id = token_of(key)
        read = intents.read(dict(intent), None)
        session, public_key = await asyncio.gather(self._logged_in(), self._public_key(token_id))
        budget = self._timeout if timeout is None else timeout
        deadline = time.monotonic() + budget
        failed: set[frozenset[int]] = set()
        while True:
            request_id = secrets.token_urlsafe(24)
            token = requests.make(
                session.key,
                network=self.facts.id,
                request_id=request_id,
                expires=int(time.time()) + REQUEST_SECONDS,
                key=token_hex(token_id),
                intent=intent,
            )
            job = SignJob(
                session.certificate,
                token,
                request_id=request_id,
                digest=read.digest,
                summary=read.summary,
                public_key=public_key,
            )
            if self._through_gateway:
                return await self._sign_at_gateway(session.certificate, token, read.digest, read.summary, public_key)
            tried = len(failed)
            try:
                return await self._fanout.run(job, max(0.0, deadline - time.monotonic()), failed)
            except BadAnswer:
                # Eight attempts did not find a set without a liar. A new request goes on with the sets not tried yet.
                if len(failed) == tried or time.monotonic() > deadline:
                    raise

    async def _sign_at_gateway(
        self, certificate: str, token: str, digest: bytes, summary: str, public_key: Point
    ) -> Signed:
        answer = await self._ask_gateway("/v1/sign", {"certificate": certificate, "request": token}, _GatewaySigned)
        try:
            r, s = int(answer.signature.r, 16), int(answer.signature.s, 16)
            recovered = ecdsa.recover(digest, r, s, answer.signature.v)
        except ValueError:
            raise BadAnswer("the gateway's signature is none") from None
        if recovered != public_key or answer.summary != summary or answer.digest != "0x" + digest.hex():
            raise BadAnswer("the gateway's signature is not one of this key over this intent")
        return Signed(r, s, answer.signature.v, digest, summary, public_key.to_bytes())

    async def sign_message(self, key: KeyLike, message: str | bytes) -> Signed:
        """Sign a text, or bytes, as an EIP-191 personal message."""
        return await self.sign(key, intents.message_intent(message))

    async def sign_typed_data(self, key: KeyLike, typed_data: Mapping[str, Any]) -> Signed:
        """Sign EIP-712 typed data, given as the usual object with types, primaryType, domain and message."""
        return await self.sign(key, intents.typed_data_intent(typed_data))

    async def sign_digest(self, key: KeyLike, digest: bytes) -> Signed:
        """Sign 32 bytes whose meaning nobody checks; needs scope 5, which no key has by default."""
        return await self.sign(key, intents.raw_digest_intent(digest))

    async def sign_transaction(self, key: KeyLike, transaction: Mapping[str, Any]) -> SentTransaction:
        """Sign a transaction; what its dict leaves out is filled in from the chain. It is not sent.

        A transaction for another chain than the network's (`chainId`) must be complete.
        """
        token_id = token_of(key)
        address = eth_address((await self._public_key(token_id)).to_bytes())
        complete = await fill(self.chain.rpc, address, transaction, self.facts.chain_id)
        intent = intents.transaction_intent(complete)
        signed = await self.sign(token_id, intent)
        raw = intents.apply_signature(bytes.fromhex(intent["transaction"][2:]), signed.r, signed.s, signed.v)
        return SentTransaction(raw, hash_of(raw), signed)

    async def send_transaction(
        self, key: KeyLike, transaction: Mapping[str, Any], *, wait: bool = True
    ) -> SentTransaction:
        """Sign a transaction and send it; with `wait`, return when the chain executed it (see `status`)."""
        found = await self.sign_transaction(key, transaction)
        receipt = await self._submit(found.raw, found.hash, wait)
        return SentTransaction(found.raw, found.hash, found.signed, receipt)

    # -- keys on the chain --------------------------------------------------------------------------------------------

    async def mint(self, owner: str | None = None) -> Minted:
        """Mint the next key to `owner` (by default the account): the gateway pays if there is one, else the account."""
        to = checksum(owner) if owner else checksum(self._account().address)
        if self._network is not None and self._network.gateway:
            answer = await self._ask_gateway("/v1/keys", {"owner": to}, _GatewayMinted)
            token_id, transaction = token_from(answer.token_id), answer.transaction
        else:
            nft = self.chain.contract("PKPNFT")
            helper = self.chain.contract("PKPHelper")
            cost = int(await self.chain.ask(nft, "mintCost"))
            data = helper.encode("mintNextAndTransfer", KEY_TYPE, to, [], [], [], [], False)
            receipt = await self.send_from_account(helper.address, data, cost)
            token_id, transaction = minted_token(receipt, nft), str(receipt["transactionHash"])
        key = await self.chain.key(token_id)
        if key.owner != to:
            raise BadAnswer("the key that was minted belongs to somebody else")
        return Minted(key, transaction)

    async def transfer(self, key: KeyLike, to: str) -> str:
        """Give a key to another address, by a transaction of the account; return its hash. Every grant becomes void."""
        account = checksum(self._account().address)
        nft = self.chain.contract("PKPNFT")
        data = nft.encode("safeTransferFrom(address,address,uint256)", account, checksum(to), token_of(key))
        receipt = await self.send_from_account(nft.address, data)
        return str(receipt["transactionHash"])

    async def send_from_account(self, to: str, data: bytes = b"", value: int = 0) -> dict[str, Any]:
        """Send a transaction of the account itself (not of a key) and return its receipt."""
        account = self._account()
        sign = getattr(account, "sign_transaction", None)
        if sign is None:
            raise Misconfigured("the account cannot sign transactions", hint="use an account that can")
        complete = await fill(
            self.chain.rpc, checksum(account.address), {"to": to, "data": data, "value": value}, self.facts.chain_id
        )
        raw = bytes((await asyncio.to_thread(sign, complete)).raw_transaction)
        receipt = await self._submit(raw, hash_of(raw), wait=True)
        assert receipt is not None  # noqa: S101 - waited for
        if receipt.get("status") != "0x1":
            raise ChainError(f"the transaction {hash_of(raw)} was reverted", code="reverted")
        return receipt

    async def _submit(self, raw: bytes, name: str, wait: bool) -> dict[str, Any] | None:
        rpc = self.chain.rpc
        try:
            await rpc.send_raw(raw)
            return await rpc.wait_receipt(name, RECEIPT_SECONDS) if wait else None
        except (RpcError, RpcUnreachable) as error:
            raise ChainError(f"the chain did not take the transaction: {error}", code="not_sent") from None
        except TimeoutError:
            raise ChainError(
                f"the transaction {name} was sent but is not mined yet", code="not_mined", hint="look it up later"
            ) from None

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _account(self) -> Account:
        if self.account is None:
            raise Misconfigured(
                "there is no account to act for", code="no_account", hint="give the client an account, or log in"
            )
        return self.account


def hash_of(raw: bytes) -> str:
    """Return the hash of a signed transaction, as the chain names it."""
    return "0x" + intents.transaction_hash(raw).hex()


class _Certificate(msgspec.Struct):
    certificate: str


class _GatewaySignature(msgspec.Struct):
    r: str
    s: str
    v: int


class _GatewaySigned(msgspec.Struct):
    signature: _GatewaySignature
    summary: str
    digest: str


class _GatewayMinted(msgspec.Struct):
    token_id: str
    transaction: str
