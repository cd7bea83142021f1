"""What a gateway does, one method for each call of its API: bodies in as bytes, JSON out.

It is the SDK's own code (`client.fanout`, `client.broadcast`), run for others, and a payer: for keys, for changes of
permissions, for revocations. It checks what it gets with the public rules of `auth/` only to spare nodes and chain what
they would refuse anyway. Nothing it says is believed by anybody: signatures are verified under keys on the chain.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from keyquorum import intents
from keyquorum.auth import certificate as certificates
from keyquorum.auth import delegation, login_request, revocation
from keyquorum.auth import request as requests
from keyquorum.auth.certificate import Certificate
from keyquorum.auth.commitment import Commitment
from keyquorum.auth.method import method
from keyquorum.chain.rpc import Sender
from keyquorum.client import commitments, session_list
from keyquorum.client.connection import Connection
from keyquorum.client.jobs import SignJob
from keyquorum.client.minting import MintRequest
from keyquorum.client.results import NetworkStatus, Node, token_from
from keyquorum.client.revocations import RevocationJob
from keyquorum.client.runs import SignedRuns
from keyquorum.client.seen import newest
from keyquorum.client.session import CertificateJob
from keyquorum.evm.address import checksum
from keyquorum.formats.strict_json import fields, list_of, loads
from keyquorum.formats.strict_json import text as text_rule
from keyquorum.gateway.config import GatewayConfig
from keyquorum.gateway.http import MAX_BODY
from keyquorum.gateway.login_keys import read_login_key
from keyquorum.gateway.passkeys import PasskeyIndex
from keyquorum.gateway.permissions import ChainWriter, PermissionCalls
from keyquorum.gateway.quotas import Quota, no_relay
from keyquorum.gateway.relay import Relay
from keyquorum.gateway.signups import SignUps
from keyquorum.serving.places import verified

STATUS_FRESH_SECONDS = 1.0
STARTING_SECONDS = 0.1
CALLS_PER_CLIENT = 10
_REQUEST = {"certificate": str, "request": str}
_LENT = {"delegations": list_of(text_rule(delegation.MAX_BYTES), delegation.MAX_DEPTH)}


class Gateway(Connection):
    """The gateway's services; each takes a request body as bytes and returns JSON."""

    def __init__(self, config: GatewayConfig) -> None:
        super().__init__(config.as_network(), timeout=config.request_seconds, user_agent="keyquorum-gateway")
        self._config = config
        self._status: tuple[float, NetworkStatus] | None = None
        self._status_lock = asyncio.Lock()
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self.port = config.port

    async def connect(self) -> None:
        """Read the network from the chain and open the relayer's account."""
        if self._facts is not None:
            return
        await super().connect()
        config, chain, sender = self._config, self.chain, self._open_sender()
        per_client, calls = config.mints_per_client, config.calls_per_key
        mints = Quota("too_many_mints", "keys", per_client, config.mints_per_owner, config.mints_per_method)
        self._relay = Relay(
            chain,
            sender,
            Quota(
                "too_many_mints", "keys",
                config.owner_mints_per_client, config.mints_per_owner, config.owner_mints_in_all,
            ),
            allowed=config.owner_mints,
            reserve=config.pool_reserve,
            limits=config.limits,
        )  # fmt: skip
        self._signups = SignUps(chain, sender, mints, config.limits)
        self._closing += [self._relay.close, self._signups.close]
        self._passkeys = PasskeyIndex(chain, config.login.rp_id, config.first_block)
        self._writer = ChainWriter(chain, sender, config.gas_per_client)
        self._permissions = PermissionCalls(
            self._writer,
            Quota("too_many_calls", "requests", CALLS_PER_CLIENT * calls),
            Quota("too_many_calls", "changes of permissions", calls),
        )
        # Whatever becomes of them: a contract wallet that says yes has cost the nodes as much as one that says no.
        self._logins = Quota("too_many_logins", "logins", config.logins_per_client)
        self._commitments = Quota("too_many_commitments", "logins with such tokens", config.commitments_per_client)
        self._revocations = Quota("too_many_calls", "revocations", CALLS_PER_CLIENT * calls, calls)

    async def close(self) -> None:
        """Stop what is under way and close every connection."""
        for close in self._closing:
            await close()
        await super().close()

    def _open_sender(self) -> Sender | None:
        path = self._config.relayer_key_file
        if not path:
            return None
        try:
            key = bytes.fromhex(Path(path).read_text().strip().removeprefix("0x"))
            return Sender(self.chain.rpc, key, limits=self._config.limits)
        except (OSError, ValueError):
            raise ValueError(f"{path} holds no relayer key (64 hex digits)") from None

    # -- what session keys sign ---------------------------------------------------------------------------------------

    async def _read(self, body: bytes, kind: str) -> tuple[dict[str, Any], Certificate, requests.Request]:
        """Return the body to send on, the certificate with what was lent from it, and the request; all verified."""
        found = fields(loads(body, MAX_BODY), _REQUEST, _LENT)
        now, network = int(time.time()), self.facts.id
        certificate = certificates.verify(found["certificate"], network, await self._network_key(), now)
        certificate = delegation.follow(certificate, found["delegations"] or (), now)
        # How far the chain's clock is ahead, which a revocation may have to reach, is for the nodes to look up.
        ahead = revocation.FOREVER if kind == requests.REVOKE else 0
        request = requests.verify(found["request"], certificate, network, now, kind=kind, ahead=ahead)
        verified()
        return {name: value for name, value in found.items() if value}, certificate, request

    async def sign(self, body: bytes) -> dict[str, Any]:
        """Answer `POST /v1/sign`."""
        asked, _, request = await self._read(body, requests.SIGN)
        intent = intents.read(request.intent, None)
        job = SignJob(
            SignedRuns(request.id, asked, request.runs),
            digest=intent.digest,
            summary=intent.summary,
            public_key=await self._public_key(token_from(request.key)),
        )
        return (await self._fanout.run(job, self._timeout)).to_json()

    async def open_session(self, body: bytes, client: str) -> dict[str, Any]:
        """Answer `POST /v1/sessions` for `client`; with a certificate of the same session key, a method joins it."""
        asked = fields(loads(body, MAX_BODY), {"request": str})
        now, network_key = int(time.time()), await self._network_key()
        login = login_request.verify(asked["request"], self.facts.id, now)
        statement = login.statement
        # Whether the block is recent is left to the nodes: each knows the chain.
        statement.check(self.facts.id, now, lambda _: True)
        self._logins.take(client)
        old = None
        if login.certificate is not None:
            old = certificates.verify(login.certificate, self.facts.id, network_key, now)
            certificates.check_narrower(old, statement)
        runs = SignedRuns(login.request.id, asked, login.request.runs)
        job = CertificateJob(runs, statement, method(login.method), network_key, old=old)
        return {"certificate": await self._fanout.run(job, self._timeout)}

    async def list_sessions(self, body: bytes) -> dict[str, Any]:
        """Answer `POST /v1/sessions/list`: the sessions that any node remembers, each once."""
        asked, _, _ = await self._read(body, requests.SESSIONS)
        return await session_list.collect(self._current_committee(), self._transport, asked, self._timeout)

    async def revoke(self, body: bytes, client: str) -> dict[str, Any]:
        """Answer `POST /v1/revocations` for `client`: t nodes sign, this gateway delivers it to the chain."""
        asked, certificate, request = await self._read(body, requests.REVOKE)
        first = certificate.methods[0]
        self._revocations.take(client, f"{first.type}:{first.id.hex()}")
        what = revocation.read_revocation(request.intent)
        job = RevocationJob(
            SignedRuns(request.id, asked, request.runs),
            what,
            before=what.before(request.expires, certificate.issued_at),
            chain_id=self.facts.chain_id,
            sessions=self.chain.contract("Sessions").address,
            network_key=await self._network_key(),
        )
        signed = await self._fanout.run(job, self._timeout)
        arguments = (signed.what, signed.before, signed.signature)
        return signed.to_json() | {"transaction": await self._writer.send(client, "Sessions", "revoke", *arguments)}

    async def commit(self, body: bytes, client: str) -> dict[str, Any]:
        """Answer `POST /v1/commitments` for `client`, the network address that asks: every node's receipt.

        The client checks them before it shows a token.
        """
        commitment = Commitment.from_json(loads(body, MAX_BODY))
        commitment.statement.check_terms(self.facts.id, int(time.time()))
        self._commitments.take(client)
        return await commitments.collect(self._current_committee(), self._transport, commitment, self._timeout)

    # -- keys ---------------------------------------------------------------------------------------------------------

    async def mint(self, body: bytes, client: str, from_page: bool = False) -> dict[str, Any]:
        """Answer `POST /v1/keys` for `client`, the network address that asks: for a login, or an owner's address.

        A stranger's web page (`from_page`) gets no key without a login.
        """
        value = loads(body, MAX_BODY)
        if isinstance(value, Mapping) and "owner" in value:
            if from_page:
                raise no_relay("keys without a login that a web page asks for")
            return await self._mint_to(value, client)
        _, certificate, request = await self._read(body, requests.MINT)
        login = read_login_key(certificate, request, self._config.login.rp_id)
        return (await self._signups.mint(login, client)).to_json()

    async def _mint_to(self, value: object, client: str) -> dict[str, Any]:
        found = fields(value, {"owner": text_rule(42), "request": text_rule(64)})
        owner = checksum(found["owner"])
        if int(owner, 16) == 0:
            raise ValueError("nobody owns the zero address")
        minted, relay = await self._relay.mint(MintRequest(owner, found["request"]), client)
        return minted.to_json() | {"relay": relay}

    async def change_permissions(self, body: bytes, client: str) -> dict[str, Any]:
        """Answer `POST /v1/permissions` for `client`: what a key's owner signed, delivered to the contract."""
        return await self._permissions.execute(body, client)

    async def describe_key(self, name: str) -> dict[str, Any]:
        """Answer `GET /v1/keys/{id}`."""
        return (await self.chain.key(token_from(name))).to_json() | {"epoch": self._current_committee().epoch}

    # -- what everybody may know --------------------------------------------------------------------------------------

    async def status(self) -> NetworkStatus:
        """Return the network's state, at most a second old: many who ask cost the nodes one look.

        While it is not ready it is looked at more often, because somebody is waiting.
        """
        async with self._status_lock:
            fresh = STATUS_FRESH_SECONDS if self._status is not None and self._status[1].ready else STARTING_SECONDS
            if self._status is None or time.monotonic() - self._status[0] > fresh:
                began, status = time.monotonic(), await self.network()
                self._status = (began, replace(status, nodes=await self._with_blocks(status.nodes)))
            return self._status[1]

    async def _with_blocks(self, nodes: Sequence[Node]) -> tuple[Node, ...]:
        """Return the nodes with the newest block that each knows: for pages, which cannot ask nodes themselves."""
        known = await asyncio.gather(*(self._block_of(node) for node in nodes))
        return tuple(replace(node, block=block) for node, block in zip(nodes, known, strict=True))

    async def _block_of(self, node: Node) -> int | None:
        return await newest(self._transport, node.url) if node.live and node.url else None

    def network_file(self) -> dict[str, str]:
        """Answer `GET /network.json`: how a client reaches this network through this gateway."""
        config = self._config
        own = config.public_url or f"http://{config.host}:{self.port}"
        return {"network": config.network, "rpc": config.public_rpc or config.rpc, "gateway": own}

    async def find_passkey(self, credential_id: str, page: str) -> dict[str, Any]:
        """Answer `GET /v1/passkeys/{id}?page=`: a page of the public keys registered under a credential id."""
        return await self._passkeys.find(credential_id, page)

    def login_options(self) -> dict[str, Any]:
        """Answer `GET /v1/login`: with what people can log in here, and where."""
        return self._config.login.to_json()
