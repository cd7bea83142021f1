"""Answers `POST /v1/sign` and `POST /v1/sessions`: decide alone, then sign together.

Validate, then authorise, then limit, and only then spend (nothing invalid costs a correlation). This node checks
the certificate, the request, the intent, and the key's state at two blocks with its own eyes; the signer set and
the attempt number are the only things it takes from whoever fans out, and both are part of the run's session id.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keyquorum.algebra import field
from keyquorum.algebra.curve import Point
from keyquorum.algebra.rng import Rng
from keyquorum.algebra.strict_json import BadJson, fields, loads
from keyquorum.algebra.transcript import Tag, tagged_hash
from keyquorum.auth import certificate as certificates
from keyquorum.auth import request as requests
from keyquorum.auth.control import scopes_needed
from keyquorum.auth.method import At, Context, Proven, prove
from keyquorum.auth.permission import Decision, KeyState, decide
from keyquorum.auth.scopes import Scope
from keyquorum.auth.statement import Statement
from keyquorum.chain.contracts import eth_address, token_id
from keyquorum.intents import read as read_intent
from keyquorum.node.attempts import ATTEMPTS, Attempts
from keyquorum.node.chain_view import ChainView, Membership
from keyquorum.node.keys import Keys
from keyquorum.node.problem import BAD_REQUEST, TOO_MANY, UNAVAILABLE, ApiError
from keyquorum.node.runner import Runner
from keyquorum.protocols.correlations import Inventory
from keyquorum.protocols.key_share import KeyShare
from keyquorum.protocols.sign import SignatureShares, sign
from keyquorum.rounds.party import Party
from keyquorum.rounds.session import session_id

CERTIFICATES_CACHED = 4096
LOGIN_REMEMBERED = 600
GOVERNING = ("PKPNFT", "PKPPermissions")
POOL_SECONDS = 2.0
POOL_PAUSE = 0.01

Answer = dict[str, Any]


@dataclass(frozen=True)
class RunChoice:
    """What the one who fans out chooses: the signers, sorted, and the attempt number 0..7."""

    signers: tuple[int, ...]
    attempt: int

    @classmethod
    def parse(cls, value: object) -> RunChoice:
        """Read `{"signers": [...], "attempt": n}`; raise `BadJson` for anything else."""
        found = fields(value, {"signers": list, "attempt": int}, where="run")
        signers, attempt = found["signers"], found["attempt"]
        if not all(type(j) is int and 1 <= j <= 65535 for j in signers) or signers != sorted(set(signers)):
            raise BadJson("bad_value", "run.signers must be PartyIds, ascending, each once")
        if not 0 <= attempt < ATTEMPTS:
            raise BadJson("bad_value", f"run.attempt must be from 0 to {ATTEMPTS - 1}")
        return cls(tuple(signers), attempt)


class Signing:
    """The signing service of one node."""

    def __init__(
        self,
        me: int,
        view: ChainView,
        keys: Keys,
        runner: Runner,
        inventory: Inventory,
        boots: Callable[[int], bytes],
        rng: Rng,
        domains: frozenset[str],
        run_seconds: float,
        max_runs: int,
    ) -> None:
        """`boots(j)` is what names the present process of party j: it makes every run's session id fresh."""
        self.me = me
        self._view = view
        self._keys = keys
        self._runner = runner
        self._inventory = inventory
        self._boots = boots
        self._rng = rng
        self._domains = domains
        self._run_seconds = run_seconds
        self._max_runs = max_runs
        self._attempts = Attempts()
        self._waiting = 0
        self._certificates: OrderedDict[bytes, certificates.Certificate] = OrderedDict()
        self.membership: Membership | None = None

    # -- signing --------------------------------------------

    async def sign(self, body: bytes, max_body: int) -> Answer:
        """Answer `POST /v1/sign`: this node's share, the digest, and what this node understood it is signing."""
        found = fields(loads(body, max_body), {"certificate": str, "request": str, "run": dict})
        choice = self._check_choice(RunChoice.parse(found["run"]))
        now = int(time.time())
        certificate = await self._certificate(found["certificate"], now)
        request = requests.verify(found["request"], certificate, self._view.network, now)
        intent = read_intent(request.intent, None)
        key = self._keys.load(bytes.fromhex(request.key[2:]))
        governing = {self._view.addresses[name] for name in GOVERNING} | {eth_address(key.public_key.to_bytes())}
        for scope in scopes_needed(intent, self._view.chain_id, governing):
            await self._authorise(certificate, scope, request.key)

        async def make() -> Answer:
            shares = await self.run_signing("sign", key, intent.digest, request.payload_digest, choice)
            return self._answer(shares, intent.digest) | {"summary": intent.summary}

        return await self._attempts.once(
            certificate.session.thumbprint,
            request.id,
            request.payload_digest,
            choice.attempt,
            until=request.expires + 2 * 60,
            now=now,
            make=make,
        )

    async def _certificate(self, token: str, now: int) -> certificates.Certificate:
        key = hashlib.sha256(token.encode()).digest()
        known = self._certificates.get(key)
        if known is not None:
            known.check_time(now)
            self._certificates.move_to_end(key)
            return known
        certificate = certificates.verify(token, self._view.network, await self._network_key(), now)
        self._certificates[key] = certificate
        while len(self._certificates) > CERTIFICATES_CACHED:
            self._certificates.popitem(last=False)
        return certificate

    async def _network_key(self) -> Point:
        key = await self._view.network_key()
        if key is None:
            raise ApiError(UNAVAILABLE, "no_network_key", "the network has not made its first key yet", "wait a moment")
        return key

    async def _authorise(self, certificate: certificates.Certificate, scope: Scope, key: str) -> Proven:
        decision = await self._decide(certificate, scope, key)
        if not decision.allowed:
            # Who was granted something a moment ago must not be told no because of a view that is a moment old.
            await self._view.refresh()
            decision = await self._decide(certificate, scope, key)
        return decision.require()

    async def _decide(self, certificate: certificates.Certificate, scope: Scope, key: str) -> Decision:
        finalised, newest = [await self._key_state(certificate, key, newest) for newest in (False, True)]
        return decide(certificate, scope, key, finalised, newest)

    async def _key_state(self, certificate: certificates.Certificate, key: str, newest: bool) -> KeyState:
        owner, epoch, grants = None, 0, {}
        for proven in certificate.methods:
            seen = await self._view.authorisation(int(key, 16), proven.type, proven.id, newest)
            owner, epoch = seen.owner, seen.grant_epoch
            if seen.permitted:
                grants[proven.type, proven.id] = seen.scopes
        return KeyState(owner, grants, epoch)

    # -- sessions --------------------------------------------

    async def open_session(self, body: bytes, max_body: int) -> Answer:
        """Answer `POST /v1/sessions`: this node's share of the certificate for a login that it verified itself."""
        required = {"statement": dict, "method": str, "proof": dict, "run": dict}
        found = fields(loads(body, max_body), required)
        choice = self._check_choice(RunChoice.parse(found["run"]))
        statement = Statement.from_json(found["statement"])
        now = int(time.time())
        recent = await self._view.is_recent_block(bytes.fromhex(statement.block[2:]))
        statement.check(self._view.network, now, lambda _: recent)
        proven = await prove(found["method"], found["proof"], statement, self._context(now))
        signing_input = certificates.certificate_input(statement, [proven])
        payload = tagged_hash(Tag.SIGN_REQUEST, "certificate", signing_input)
        network_key = await self._network_key()

        async def make() -> Answer:
            key = self._keys.load(token_id(network_key.to_bytes()).to_bytes(32, "big"))
            digest = certificates.digest(signing_input)
            shares = await self.run_signing("session", key, digest, payload, choice)
            return self._answer(shares, digest) | {"certificate_input": signing_input.decode()}

        return await self._attempts.once(
            statement.session.thumbprint,
            "login:" + statement.challenge,
            payload,
            choice.attempt,
            until=now + LOGIN_REMEMBERED,
            now=now,
            make=make,
        )

    def _context(self, now: int) -> Context:
        async def call(address: str, data: bytes, at: At) -> bytes:
            return await self._view.call(address, data, at == "latest")

        async def code(address: str, at: At) -> bytes:
            return await self._view.code(address, at == "latest")

        return Context(now, self._domains, call, code)

    # -- the run --------------------------------------------

    async def run_signing(
        self, purpose: str, key: KeyShare, digest: bytes, payload: bytes, choice: RunChoice
    ) -> SignatureShares:
        """Run the signing protocol; `payload` (32 bytes) is what the signers agreed to sign, and why."""
        if self._runner.active + self._waiting >= self._max_runs:
            raise ApiError(TOO_MANY, "busy", "this node has too many runs under way", "wait a moment")
        self._waiting += 1
        try:
            await self._await_correlations([j for j in choice.signers if j != self.me])
        finally:
            self._waiting -= 1
        sid = session_id(
            chain_id=self._view.chain_id,
            contract=self._view.addresses["PubkeyRouter"],
            purpose=purpose,
            epoch=self._epoch(),
            parties=choice.signers,
            parameters=[key.public_key.to_bytes(), digest, payload, choice.attempt],
            nonces={j: tagged_hash(Tag.LINK, "process", self._boots(j)) for j in choice.signers},
        )
        party = Party(self.me, choice.signers, sid, self._rng)
        return await self._runner.run(
            party, sign(party, key, [digest], self._inventory), self._run_seconds, name=purpose
        )

    async def _await_correlations(self, peers: list[int]) -> None:
        """Wait a little for pools that are empty: under a burst that is quicker than to fail and be asked again."""
        end = time.monotonic() + POOL_SECONDS
        while time.monotonic() < end:
            if all(not self._runner.is_up(j) or min(self._inventory.available(j)) > 0 for j in peers):
                return
            await asyncio.sleep(POOL_PAUSE)

    def _check_choice(self, choice: RunChoice) -> RunChoice:
        """Refuse signer sets that cannot sign, before anything is looked at or spent."""
        membership = self.membership
        if membership is None or not membership.epoch:
            raise ApiError(UNAVAILABLE, "not_ready", "the network has not started yet", "wait a moment")
        wrong = None
        if len(choice.signers) != membership.threshold:
            wrong = f"a run has exactly {membership.threshold} signers"
        elif not set(choice.signers) <= set(membership.members):
            wrong = "a signer is not a member of this network"
        elif self.me not in choice.signers:
            wrong = f"this node is party {self.me}, which is not among the signers"
        if wrong:
            raise ApiError(BAD_REQUEST, "bad_signers", wrong, "choose signers from /v1/network")
        return choice

    def _epoch(self) -> int:
        return self.membership.epoch if self.membership else 0

    def _answer(self, shares: SignatureShares, digest: bytes) -> Answer:
        share = shares.rows[0]
        return {
            "share": {
                "party": self.me,
                "w": "0x" + field.to_bytes(share.w).hex(),
                "u": "0x" + field.to_bytes(share.u).hex(),
                "R": "0x" + shares.R[0].to_bytes().hex(),
            },
            "digest": "0x" + digest.hex(),
        }
