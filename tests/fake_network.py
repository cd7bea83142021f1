"""A network for tests of everything that stands before nodes: a real development chain, real contracts, scripted nodes.

The nodes are one HTTP server each that knows every secret and answers as its `mode` says: well, with a refusal, with
nonsense, slowly, not at all. A good answer is an additive share of a real signature, made from the request itself, so
all nodes of a run agree without talking. Everything runs on a thread of its own; tests talk to it over HTTP only.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import threading
import time
from collections import Counter
from typing import Any

from aiohttp import web
from eth_account import Account

from keyquorum import intents
from keyquorum.algebra.curve import generator_times
from keyquorum.algebra.field import Q, to_bytes
from keyquorum.auth import certificate as certificates
from keyquorum.auth import delegation, login_request
from keyquorum.auth import request as requests
from keyquorum.auth.commitment import Commitment, Receipt
from keyquorum.auth.method import Context, Proven, prove
from keyquorum.auth.revocation import read_revocation
from keyquorum.auth.statement import Statement
from keyquorum.chain.contracts import interface
from keyquorum.chain.deploy import NodeEntry, deploy
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.devchain.server import DevChainServer
from keyquorum.chain.rpc import Rpc, Sender
from keyquorum.client.network import Network
from keyquorum.evm.digests import key_batch_digest, revocation_digest
from keyquorum.evm.keys import token_id
from keyquorum.formats.text import from_base64url

REFUSAL = {"error": {"code": "not_permitted", "message": "the key is not yours", "hint": "ask its owner"}}
USED_UP = {"error": {"code": "used_up", "message": "the session has made its signatures", "hint": "log in again"}}
LIMITED = {"error": {"code": "quota_exceeded", "message": "this key has used up its quota", "hint": "wait 3 s"}}
BUSY = {
    "error": {"code": "run_failed", "message": "a signer's messages failed a check", "hint": "others", "parties": [1]}
}


class FakeNode:
    """One scripted node."""

    def __init__(self, network: FakeNetwork, party: int) -> None:
        self.network = network
        self.party = party
        self.mode = "good"
        self.calls: list[dict[str, Any]] = []
        self.sessions: list[dict[str, Any]] = []
        self.connections: set[int] = set()
        self.asked_for_blocks = self.blind = 0
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 22)
        app.add_routes(
            [
                web.post("/v1/sign", self._sign),
                web.post("/v1/sessions", self._session),
                web.post("/v1/sessions/list", self._list),
                web.post("/v1/revocations", self._revoke),
                web.post("/v1/commitments", self._commit),
                web.get("/v1/network", self._seen),
                web.get("/livez", self._live),
                web.get("/readyz", self._live),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _live(self, _: web.Request) -> web.Response:
        if self.mode == "frozen":
            await asyncio.sleep(60)
        unready = self.mode == "unready"
        reasons = ["1 of 5 batches of keys on the chain are missing here \x1b[31m"] if unready else []
        found = {"ready": not unready, "serves": True, "reasons": reasons, "degraded": []}
        return web.json_response(found, status=503 if unready else 200)

    async def _seen(self, _: web.Request) -> web.Response:
        self.asked_for_blocks += 1
        newest = await self.network.rpc.block_number()
        behind = self.mode == "behind" or self.asked_for_blocks <= self.blind
        return web.json_response({"block": 0 if behind else newest})

    async def _sign(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self._note(request, body)
        held, asked = self._read(body, requests.SIGN)
        if held.id in self.network.used_up:
            return web.json_response(USED_UP, status=403)
        intent = intents.read(asked.intent)
        secret = self.network.secrets[int(asked.key, 16)]
        answer = {"summary": intent.summary} | self._share(body, secret, intent.digest, asked.payload_digest)
        return await self._answer(answer)

    async def _session(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self._note(request, body)
        login = login_request.verify(body["request"], self.network.id, int(time.time()))
        statement = login.statement
        context = Context(int(time.time()), block_time=int(time.time()))
        proven = [await prove(login.method, login.proof, statement, context)]
        old = None
        if login.certificate is not None:
            old = self._certificate(login.certificate)
            proven = certificates.step_up(old, statement, proven[0])
        if self.mode == "wrong_certificate":
            statement = Statement(**{**_fields(statement), "expires": statement.expires - 1})
        if self.mode == "somebody_else":
            proven = [*proven[:-1], Proven(proven[-1].type, b"\x66" * 20, proven[-1].issued_at)]
        signing_input = certificates.certificate_input(statement, proven, old)
        self.sessions.append(
            {
                "id": statement.challenge if old is None else old.id,
                "session": statement.session.thumbprint,
                "methods": [{"type": one.type, "id": "0x" + one.id.hex()} for one in proven],
                "keys": list(statement.keys),
                "scopes": list(statement.scopes),
                "uses": statement.uses,
                "used": self.party,
                "issued_at": max(one.issued_at for one in proven),
                "expires": statement.expires,
                "revoked": self.mode == "says_revoked",
            }
        )
        answer = {"certificate_input": signing_input.decode()}
        digest = certificates.digest(signing_input)
        return await self._answer(answer | self._share(body, self.network.network_secret, digest, b"login"))

    async def _list(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self._note(request, body)
        self._read(body, requests.SESSIONS)
        return await self._answer({"sessions": self.sessions, "share": {}})

    async def _revoke(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self._note(request, body)
        certificate, asked = self._read(body, requests.REVOKE)
        what = read_revocation(asked.intent)
        before = what.before(asked.expires, certificate.issued_at)
        if self.mode == "wrong_time":
            before -= 10_000
        mark = what.mark if self.mode != "wrong_mark" else bytes(32)
        sessions = self.network.deployment.contracts["Sessions"]
        digest = revocation_digest(self.network.deployment.chain_id, sessions, what.mark, before)
        answer = {"what": "0x" + mark.hex(), "before": before}
        return await self._answer(answer | self._share(body, self.network.network_secret, digest, b"revoke"))

    async def _commit(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self._note(request, body)
        receipt = Receipt.sign(
            Commitment.from_json(body), 1, self.party, int(time.time()), self.network.keys[self.party]
        )
        return await self._answer({"receipt": receipt.to_json(), "share": {}})

    def _certificate(self, token: str) -> certificates.Certificate:
        return certificates.verify(token, self.network.id, self.network.network_key, int(time.time()))

    def _read(self, body: dict[str, Any], kind: str) -> tuple[certificates.Certificate, requests.Request]:
        now = int(time.time())
        held = delegation.follow(self._certificate(body["certificate"]), body.get("delegations", ()), now)
        return held, requests.verify(body["request"], held, self.network.id, now, kind=kind)

    def _note(self, request: web.Request, body: dict[str, Any]) -> None:
        self.calls.append(body)
        transport = request.transport
        assert transport is not None
        self.connections.add(transport.get_extra_info("peername")[1])

    def _share(self, body: dict[str, Any], secret: int, digest: bytes, payload: bytes) -> dict[str, Any]:
        attempt, signers = run_of(body)
        rand = _stream(digest, payload, signers, attempt)
        k, phi = next(rand), next(rand)
        R = generator_times(k)
        h = int.from_bytes(digest, "big") % Q
        w_sum, u_sum = (h * phi + R.x * secret * phi) % Q, k * phi % Q
        parts = {party: (next(rand), next(rand)) for party in signers[1:]}
        parts[signers[0]] = (
            (w_sum - sum(w for w, _ in parts.values())) % Q,
            (u_sum - sum(u for _, u in parts.values())) % Q,
        )
        w, u = parts[self.party]
        share = {"party": self.party, "w": _hex(w), "u": _hex(u), "R": "0x" + R.to_bytes().hex()}
        return {"share": share, "digest": "0x" + digest.hex()}

    async def _answer(self, answer: dict[str, Any]) -> web.StreamResponse:
        mode, share = self.mode, answer["share"]
        if mode in ("hang", "frozen"):
            await asyncio.sleep(60)
        if mode == "slow":
            await asyncio.sleep(0.4)
        if mode == "refuse":
            return web.json_response(REFUSAL, status=403)
        if mode == "limited":
            return web.json_response(LIMITED, status=429)
        if mode == "busy":
            return web.json_response(BUSY, status=503)
        if mode == "late":
            self.mode = "good"
            return web.json_response({"error": {"code": "key_unknown", "message": "no share", "hint": ""}}, status=404)
        if mode == "garbage":
            return web.Response(body=b"\xff{{{", content_type="application/json")
        if mode == "wrong_shape":
            return web.json_response({"share": 5, "summary": [], "digest": None})
        if mode == "oversized":
            return web.Response(body=b'{"x":"' + b"y" * 1_000_000 + b'"}')
        if mode == "redirect":
            return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})
        if mode == "reset":
            raise ConnectionResetError
        if mode == "wrong_summary":
            answer["summary"] = "sends nothing to nobody"
        if mode == "wrong_digest":
            answer["digest"] = "0x" + "11" * 32
        if mode == "wrong_party":
            share["party"] = self.party % len(self.network.nodes) + 1
        if mode == "wrong_share":
            share["w"] = _hex((int(share["w"], 16) + 1) % Q)
        if mode == "zero_u":
            share["u"] = _hex(0)
        if mode == "unreduced":
            share["w"] = _hex(Q)
        if mode == "wrong_R":
            share["R"] = "0x" + generator_times(7).to_bytes().hex()
        if mode == "bad_R":
            share["R"] = "0x04" + "00" * 64
        return web.json_response(answer)


class FakeNetwork:
    """A running fake network; `with FakeNetwork(4) as network`."""

    def __init__(self, n: int = 4, pool: int = 96) -> None:
        self.n = n
        self.pool = pool
        self.threshold = 2 * n // 3 + 1
        self.nodes = {party: FakeNode(self, party) for party in range(1, n + 1)}
        self.network_secret = secrets.randbelow(Q - 1) + 1
        self.network_key = generator_times(self.network_secret)
        self.secrets: dict[int, int] = {}
        self.used_up: set[str] = set()
        self.keys = {party: secrets.token_bytes(32) for party in self.nodes}
        self.account = Account.from_key(ACCOUNTS[1][1])
        self.stranger = Account.from_key(ACCOUNTS[2][1])
        self.relayer_key = ACCOUNTS[9][1]
        self.id = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._batch = 1

    def __enter__(self) -> FakeNetwork:
        self._thread.start()
        self.call(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, work: Any) -> Any:
        """Run a coroutine on the network's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _start(self) -> None:
        self.chain = DevChainServer()
        await self.chain.start()
        for node in self.nodes.values():
            await node.start()
        self.rpc = Rpc(self.chain.url)
        self.deployer = Sender(self.rpc, ACCOUNTS[0][1])
        keys = self.keys
        entries = [
            NodeEntry(Account.from_key(keys[party]).address, node.url, "127.0.0.1", 1000 + party, keys[party])
            for party, node in self.nodes.items()
        ]
        self.deployment = await deploy(self.deployer, entries, fund_nodes=10**18)
        self.id = self.deployment.network
        vote = interface("PubkeyRouter").encode("registerNetworkKey", self.network_key.to_bytes())
        for key in keys.values():
            await Sender(self.rpc, key).send(self.router, vote)
        await self._fill_pool()

    async def _fill_pool(self) -> None:
        fresh = [secrets.randbelow(Q - 1) + 1 for _ in range(self.pool)]
        public = [generator_times(secret).to_bytes() for secret in fresh]
        self.secrets |= {token_id(key): secret for key, secret in zip(public, fresh, strict=True)}
        digest = key_batch_digest(self.deployment.chain_id, self.router, 1, self._batch, public)
        signer = Account.from_key(to_bytes(self.network_secret))
        signature = bytes(signer.unsafe_sign_hash(digest).signature)
        data = interface("PubkeyRouter").encode("registerKeys", public, self._batch, signature)
        await self.deployer.send(self.router, data)
        self._batch += 1

    async def _stop(self) -> None:
        for node in self.nodes.values():
            await node.stop()
        await self.rpc.close()
        await self.chain.close()

    @property
    def router(self) -> str:
        return self.deployment.contracts["PubkeyRouter"]

    @property
    def network(self) -> Network:
        return Network(self.id, self.chain.url)

    def reset(self) -> None:
        """Make every node good and running again, and forget what was asked."""
        for node in self.nodes.values():
            node.mode = "good"
            node.asked_for_blocks = node.blind = 0
            node.calls.clear()
            node.sessions.clear()
            node.connections.clear()
            if node._runner is None:
                self.call(node.start())

    def stop_nodes(self, *parties: int) -> None:
        """Let these nodes refuse connections."""
        for party in parties:
            self.call(self.nodes[party].stop())

    def set(self, mode: str, *parties: int) -> None:
        for party in parties:
            self.nodes[party].mode = mode

    @property
    def attempts(self) -> list[tuple[int, tuple[int, ...]]]:
        """Every (attempt, signers) that reached a node, once."""
        found = Counter(run_of(call) for node in self.nodes.values() for call in node.calls if "run" in call)
        return sorted(found)


def run_of(body: dict[str, Any]) -> tuple[int, tuple[int, ...]]:
    """The number and the signers of the run that a body chooses, unverified."""
    runs = json.loads(from_base64url(body["request"].split(".")[1], "it"))["runs"]
    return body["run"], tuple(runs[body["run"]])


def _fields(statement: Statement) -> dict[str, Any]:
    return {name: getattr(statement, name) for name in statement.__dataclass_fields__}


def _hex(scalar: int) -> str:
    return "0x" + to_bytes(scalar).hex()


def _stream(*seed: Any) -> Any:
    counter = 0
    while True:
        block = hashlib.sha512(repr((seed, counter)).encode()).digest()
        yield int.from_bytes(block, "big") % (Q - 1) + 1
        counter += 1
