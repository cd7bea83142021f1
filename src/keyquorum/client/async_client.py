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
from keyquorum.auth import request as requests
from keyquorum.chain.fees import SpendingLimits
from keyquorum.client import session as sessions
from keyquorum.client import signup
from keyquorum.client.checks import at_last, finality_of, fresh_key
from keyquorum.client.connection import KeyLike, token_of
from keyquorum.client.errors import BadAnswer, ChainError, Refused, Timeout, Unavailable
from keyquorum.client.jobs import SignJob
from keyquorum.client.minting import GatewayMinted, MintRequest
from keyquorum.client.network import Network
from keyquorum.client.paying import Agree, Paying, hash_of
from keyquorum.client.permissions import Permissions
from keyquorum.client.results import Key, Minted, SentTransaction, Signed, token_hex
from keyquorum.client.runs import Asked, FreshRuns
from keyquorum.client.seen import Change
from keyquorum.client.session import Account, Session
from keyquorum.client.sessions import Sessions
from keyquorum.evm.address import checksum
from keyquorum.evm.keys import eth_address

USED_UP = "used_up"
NO_RELAY = "no_relay"
DEFAULT_LIMITS = SpendingLimits()
FINALITY_SECONDS = 1200.0


class AsyncClient(Paying):
    """A client of one network, for one event loop; open it with `async with`.

    `network` is a path or URL of a network file, a gateway's URL, or a `Network`. `account` is who logs in and pays
    (anything with eth-account's `address`, `sign_message` and, for sending, `sign_transaction`); `session` an earlier
    login. `scopes` and `keys` are what the account's logins ask for, `session_seconds` how long they last (None: 15
    minutes, or 8 hours for nothing but personal messages); `timeout` is in seconds for one call, retries included.
    `limits` is the most that one transaction may cost; above it `agree`, where there is one, is asked with the
    `TooExpensive` that is raised otherwise (on a thread: it may ask a person). A new key is returned when its mint is
    final: in the block that `finality` names, None "finalized", and on a development chain "latest"; at most
    `finality_seconds` are waited for that.
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
        session_seconds: float | None = None,
        domain: str = sessions.DEFAULT_DOMAIN,
        timeout: float = 30.0,
        limits: SpendingLimits = DEFAULT_LIMITS,
        agree: Agree | None = None,
        finality: str | None = None,
        finality_seconds: float = FINALITY_SECONDS,
    ) -> None:
        super().__init__(
            network, account=account, session=session, through_gateway=through_gateway, keys=keys, scopes=scopes,
            session_seconds=session_seconds, domain=domain, timeout=timeout, limits=limits, agree=agree,
        )  # fmt: skip
        self._unfinished: dict[str, list[str]] = {}
        self._finality = finality
        self._finality_seconds = finality_seconds
        self.permissions = Permissions(self)
        self.sessions = Sessions(self)

    @property
    def finality(self) -> str:
        """The tag of the block in which a mint must be before its key is shown."""
        return self._finality or finality_of(self.facts.chain_id)

    async def key(self, key: KeyLike) -> Key:
        """Return one key with its owner."""
        return await self.chain.key(token_of(key))

    async def keys(self, owner: str | None = None) -> list[Key]:
        """Return the keys that `owner` (by default the account) owns."""
        return await self.chain.keys_of(checksum(owner) if owner else checksum(self._account().address))

    # -- signing ------------------------------------------------------------------------------------------------------

    async def sign(self, key: KeyLike, intent: Mapping[str, Any], *, timeout: float | None = None) -> Signed:  # noqa: ASYNC109
        """Sign an intent (see docs/client.md) with a key; the result is verified."""
        token_id = token_of(key)
        session, public_key = await asyncio.gather(self._logged_in(), self._public_key(token_id))
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        try:
            return await self._sign_in(session, token_id, intent, public_key, deadline)
        except Refused as error:
            if error.code != USED_UP or not self._is_the_wallets(session):
                raise
        # The session has made its signatures; the account, which is at hand, opens another.
        if self._session is session:
            self.forget_session()
        return await self._sign_in(await self._logged_in(), token_id, intent, public_key, deadline)

    async def _sign_in(
        self, session: Session, token_id: int, intent: Mapping[str, Any], public_key: Point, deadline: float
    ) -> Signed:
        read = intents.read(dict(intent), None)
        asked = session.ask(requests.SIGN, intent, token_hex(token_id))
        if self._through_gateway:
            return await self._sign_at_gateway(asked, read.digest, read.summary, public_key)
        failed: set[frozenset[int]] = set()
        while True:
            job = SignJob(FreshRuns(asked), digest=read.digest, summary=read.summary, public_key=public_key)
            tried = len(failed)
            try:
                return await self._fanout.run(job, max(0.0, deadline - time.monotonic()), failed)
            except BadAnswer:
                # Eight attempts did not find a set without a liar. Signed again, it goes on with the sets not tried.
                if len(failed) == tried or time.monotonic() > deadline:
                    raise

    async def _sign_at_gateway(self, asked: Asked, digest: bytes, summary: str, public_key: Point) -> Signed:
        answer = await self._run_at_gateway("/v1/sign", asked, _GatewaySigned)
        try:
            r, s = int(answer.signature.r, 16), int(answer.signature.s, 16)
            recovered = ecdsa.recover(digest, r, s, answer.signature.v)
        except ValueError:
            raise BadAnswer("bad_answer", "the gateway's signature is none") from None
        if recovered != public_key or answer.summary != summary or answer.digest != "0x" + digest.hex():
            raise BadAnswer("bad_answer", "the gateway's signature is not one of this key over this intent")
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

    async def prepare_transaction(self, key: KeyLike, transaction: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """Return the complete transaction that `sign_transaction` would sign, and what the nodes will say it does."""
        address = eth_address((await self._public_key(token_of(key))).to_bytes())
        complete = await self._filled(address, transaction)
        return complete, intents.read(intents.transaction_intent(complete), None).summary

    async def sign_transaction(self, key: KeyLike, transaction: Mapping[str, Any]) -> SentTransaction:
        """Sign a transaction; what its dict leaves out is filled in from the chain. It is not sent.

        A transaction for another chain than the network's (`chainId`) must be complete.
        """
        token_id = token_of(key)
        address = eth_address((await self._public_key(token_id)).to_bytes())
        complete = await self._filled(address, transaction)
        intent = intents.transaction_intent(complete)
        signed = await self.sign(token_id, intent)
        raw = intents.apply_signature(bytes.fromhex(intent["transaction"][2:]), signed.r, signed.s, signed.v)
        return SentTransaction(raw, hash_of(raw), signed)

    async def send_transaction(
        self, key: KeyLike, transaction: Mapping[str, Any], *, wait: bool = True
    ) -> SentTransaction:
        """Sign a transaction and send it; with `wait`, return when the chain executed it (see `status`)."""
        found = await self.sign_transaction(key, transaction)
        receipt = await self._submit(found.raw, eth_address(found.signed.public_key), wait)
        return SentTransaction(found.raw, found.hash, found.signed, receipt)

    # -- keys on the chain --------------------------------------------------------------------------------------------

    async def mint(self, owner: str | None = None, *, request: str | None = None) -> Minted:
        """Mint the next key to `owner` (by default the account): the gateway pays if it does, else the account.

        `request` names the mint (16 to 64 letters, digits, - or _): the same name gives the same key, however often it
        is asked for. Without one, a mint whose end this client did not learn is gone on with. Returns when the mint is
        final.
        """
        to = checksum(owner) if owner else checksum(self._account().address)
        unfinished = self._unfinished.setdefault(to, [])
        name = request or (unfinished.pop() if unfinished else secrets.token_urlsafe(24))
        try:
            return await self._mint(MintRequest(to, name))
        except BaseException as error:
            if request is None:
                unfinished.append(name)
            if isinstance(error, (Unavailable, Timeout, ChainError)):
                error.hint = f"{error.hint}; asked again with request {name} it is the same key".lstrip("; ")
            raise

    async def _mint(self, asked: MintRequest) -> Minted:
        chain = self.chain
        try:
            if not self.has_gateway:
                raise Refused(NO_RELAY, "there is no gateway", "use an account that can pay for the key")
            body = {"owner": asked.owner, "request": asked.request}
            answer = await self._ask_gateway("/v1/keys", body, GatewayMinted)
            transaction = answer.transaction
            key, payer = await asked.verified(chain, answer, self._timeout)
        except Refused as error:
            if error.code != NO_RELAY or not hasattr(self.account, "sign_transaction"):
                raise
            payer = checksum(self._account().address)
            key, transaction = await self._mint_oneself(asked, payer)

        async def is_final() -> bool:
            return await asked.key_of(chain, payer, self.finality) == key.token_id

        await at_last(is_final, self._finality_seconds, "the key")
        return Minted(key, transaction)

    async def _mint_oneself(self, asked: MintRequest, payer: str) -> tuple[Key, str | None]:
        """Let the account pay, once."""
        token, transaction = await asked.key_of(self.chain, payer), None
        if not token:
            cost, helper = await self._mint_cost(), self.chain.contract("PKPHelper")
            receipt = await self.send_from_account(helper.address, asked.call(self.chain), cost)
            transaction = str(receipt["transactionHash"])
            token = await asked.key_of(self.chain, payer)
        return await fresh_key(self.chain, token, asked.owner), transaction

    async def sign_up(self, *, another: str | None = None, user_pubkey: bytes = b"") -> Minted:
        """Return the key of the login in use, minted and paid by the gateway when there is none; see `signup.py`.

        Asked again it is the same key; `another` is a word that names one more. `user_pubkey` is a passkey's COSE key
        followed by its credential id.
        """
        session = await self._logged_in()
        asked = session.request(requests.MINT, signup.mint_intent(another, user_pubkey))
        answer = await self._ask_gateway("/v1/keys", asked, signup.GatewayKey)
        who, chain = session.methods[0], self.chain
        key = await signup.verified_key(chain, who, another, user_pubkey, answer, self._timeout)

        async def is_final() -> bool:
            return await signup.is_final(chain, who, another, answer.relay, key.token_id, self.finality)

        await at_last(is_final, self._finality_seconds, "the key")
        return Minted(key, answer.transaction)

    async def transfer(self, key: KeyLike, to: str) -> Change:
        """Give a key to another address, by a transaction of the account; return its hash when the nodes have seen it.

        Every grant becomes void.
        """
        account = checksum(self._account().address)
        nft = self.chain.contract("PKPNFT")
        data = nft.encode("safeTransferFrom(address,address,uint256)", account, checksum(to), token_of(key))
        receipt = await self.send_from_account(nft.address, data)
        return await self._spread(str(receipt["transactionHash"]), receipt)


class _GatewaySignature(msgspec.Struct):
    r: str
    s: str
    v: int


class _GatewaySigned(msgspec.Struct):
    signature: _GatewaySignature
    summary: str
    digest: str
