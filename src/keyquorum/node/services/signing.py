"""Answers `POST /v1/sign`, and runs the signing protocol for whoever at this node needs it.

Validate, then authorise, then limit, and only then spend (nothing invalid costs a correlation). This node checks
the certificate, the request, the intent, and the key's state at two blocks with its own eyes. Which of the runs that
the user signed is made is the only thing it takes from whoever fans out; its signers and its number are part of the
run's session id.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keyquorum.algebra import field
from keyquorum.algebra.rng import Rng
from keyquorum.algebra.transcript import Tag, tagged_hash
from keyquorum.auth.certificate import Certificate
from keyquorum.auth.control import scopes_needed
from keyquorum.auth.request import MAX_RUNS, SIGN, Request
from keyquorum.evm.keys import eth_address
from keyquorum.formats.strict_json import fields, loads
from keyquorum.intents import read as read_intent
from keyquorum.node.chain.chain_view import ChainView
from keyquorum.node.chain.roster import Roster
from keyquorum.node.runs.places import Full, Place, Places
from keyquorum.node.runs.runner import Runner
from keyquorum.node.services.access import CALLER, MAY_HAVE, Access
from keyquorum.node.services.attempts import Attempts
from keyquorum.node.services.audit import note
from keyquorum.node.services.quotas import Quotas
from keyquorum.node.services.uses import Uses
from keyquorum.node.storage.keys import Keys
from keyquorum.protocols.correlations import Inventory
from keyquorum.protocols.key_share import KeyShare
from keyquorum.protocols.sign import SignatureShares, sign
from keyquorum.refusal import MALFORMED, TOO_MANY, Refusal
from keyquorum.rounds.party import Party
from keyquorum.rounds.session import session_id

GOVERNING = ("PKPNFT", "PKPPermissions", "Sessions")
POOL_SECONDS = 2.0
POOL_PAUSE = 0.01

Answer = dict[str, Any]


@dataclass(frozen=True)
class RunChoice:
    """One of the runs that a request names: its signers, sorted, and its number, from 0."""

    signers: tuple[int, ...]
    attempt: int

    @classmethod
    def of(cls, request: Request, number: int) -> RunChoice:
        """Return the run of this number; raise `Refusal` when the request names fewer."""
        if not 0 <= number < len(request.runs):
            known = f"the request names {len(request.runs)} runs, numbered from 0"
            raise Refusal("bad_run", known, "name one of them, or sign the request with more", MALFORMED)
        return cls(request.runs[number], number)

    @property
    def slot(self) -> tuple[int, tuple[int, ...]]:
        """What tells the runs of one request apart."""
        return self.attempt, self.signers


class Signing:
    """The signing service of one node."""

    def __init__(
        self,
        roster: Roster,
        view: ChainView,
        keys: Keys,
        runner: Runner,
        inventory: Inventory,
        boots: Callable[[int], bytes],
        rng: Rng,
        access: Access,
        quotas: Quotas,
        run_seconds: float,
        places: Places,
    ) -> None:
        """`boots(j)` is what names the present process of party j: it makes every run's session id fresh.

        Each run takes one of the `places` that this node has.
        """
        self.roster = roster
        self._view = view
        self._keys = keys
        self._runner = runner
        self._inventory = inventory
        self._boots = boots
        self._rng = rng
        self._access = access
        self._quotas = quotas
        self._run_seconds = run_seconds
        self._places = places
        self._attempts = Attempts()
        self._waiting = 0
        self.uses = Uses()

    # -- signing --------------------------------------------

    async def sign(self, body: bytes, max_body: int) -> Answer:
        """Answer `POST /v1/sign`: this node's share, the digest, and what this node understood it is signing."""
        found = fields(loads(body, max_body), CALLER | {"run": int}, MAY_HAVE)
        now = int(time.time())
        self._quotas.check((await self._access.certificate(found["certificate"], now)).counted[0][0])
        certificate, request = await self._access.read(found, SIGN, now)
        choice = self.check_choice(RunChoice.of(request, found["run"]))
        intent = read_intent(request.intent, None)
        note(summary=intent.summary)
        key = self._keys.load(bytes.fromhex(request.key[2:]))
        governing = {self._view.addresses[name] for name in GOVERNING} | {eth_address(key.public_key.to_bytes())}
        needed = scopes_needed(intent, self._view.chain_id, governing)
        await self._access.authorise(certificate, needed, request.key)

        def admit(made: int) -> None:
            counted = () if made else certificate.counted
            self.uses.check(counted)
            self.admit(certificate, request.key, made)
            self.uses.take(counted, now)

        async def make() -> Answer:
            shares = await self.run_signing("sign", key, intent.digest, request.payload_digest, choice)
            return self.answer(shares, intent.digest) | {"summary": intent.summary}

        return await self._attempts.once(
            certificate.session.thumbprint,
            request.id,
            request.payload_digest,
            choice.slot,
            until=request.expires + 2 * 60,
            now=now,
            make=make,
            admit=admit,
        )

    def admit(self, certificate: Certificate, key: str = "", made: int = 0) -> None:
        """Count a request for all who are behind it, `made` runs of which were made before; raises `Refusal` 429.

        The runs that it names count as one: a node that fails its user, or starts them all, uses up nothing of his.
        """
        self._quotas.admit(
            session=certificate.counted[0][0],
            key=key,
            identities=[(proven.type, proven.id) for proven in certificate.methods],
            again=made % MAX_RUNS != 0,
        )

    # -- the run --------------------------------------------

    async def run_signing(
        self, purpose: str, key: KeyShare, digest: bytes, payload: bytes, choice: RunChoice
    ) -> SignatureShares:
        """Run the signing protocol; `payload` (32 bytes) is what the signers agreed to sign, and why."""
        try:
            place = self._places.enter(self._quotas.run_tenant())
        except Full:
            raise _busy() from None
        try:
            return await self._run_in(place, purpose, key, digest, payload, choice)
        finally:
            place.leave()

    async def _run_in(
        self, place: Place, purpose: str, key: KeyShare, digest: bytes, payload: bytes, choice: RunChoice
    ) -> SignatureShares:
        self._waiting += 1
        try:
            await self._await_correlations([j for j in choice.signers if j != self.roster.me], place)
        finally:
            self._waiting -= 1
        sid = session_id(
            chain_id=self._view.chain_id,
            contract=self._view.addresses["PubkeyRouter"],
            purpose=purpose,
            epoch=self.roster.current.epoch,
            parties=choice.signers,
            parameters=[key.public_key.to_bytes(), digest, payload, choice.attempt],
            nonces={j: tagged_hash(Tag.LINK, "process", self._boots(j)) for j in choice.signers},
        )
        party = Party(self.roster.me, choice.signers, sid, self._rng)
        return await self._runner.run(
            party, sign(party, key, [digest], self._inventory), self._run_seconds, name=purpose, place=place
        )

    async def _await_correlations(self, peers: list[int], place: Place) -> None:
        """Wait a little for pools that are empty, or at their reserve when whoever asks has used up his part of it.

        Under a burst that is quicker than to fail and be asked again. Raises `Refusal` 429 when only the reserve is
        left, or when the place was lost; that there is nothing left at all, the run itself will say.
        """
        end = time.monotonic() + POOL_SECONDS
        linked = [j for j in peers if self._runner.is_up(j)]
        while True:
            least = min((min(self._inventory.available(j)) for j in linked), default=self._quotas.kept + 1)
            if least > self._quotas.kept or (least > 0 and self._quotas.may_use_reserve()):
                return
            if time.monotonic() >= end:
                break
            # Many who wait look less often: looking must not be what keeps this node busy.
            await asyncio.sleep(POOL_PAUSE * max(1, self._waiting / 10))
            if place.lost:
                raise _busy()
        if least > 0:
            self._quotas.refuse_reserved()

    def check_choice(self, choice: RunChoice) -> RunChoice:
        """Refuse signer sets that cannot sign, before anything is looked at or spent."""
        me, membership, wrong = self.roster.me, self.roster.current, None
        if len(choice.signers) != membership.threshold:
            wrong = f"a run has exactly {membership.threshold} signers"
        elif not set(choice.signers) <= set(membership.members):
            wrong = "a signer is not a member of this network"
        elif me not in choice.signers:
            wrong = f"this node is party {me}, which is not among the signers"
        if wrong:
            raise Refusal("bad_signers", wrong, "choose signers from /v1/network", MALFORMED)
        return choice

    def answer(self, shares: SignatureShares, digest: bytes) -> Answer:
        """Return this node's share as the API gives it."""
        share = shares.rows[0]
        return {
            "share": {
                "party": self.roster.me,
                "w": "0x" + field.to_bytes(share.w).hex(),
                "u": "0x" + field.to_bytes(share.u).hex(),
                "R": "0x" + shares.R[0].to_bytes().hex(),
            },
            "digest": "0x" + digest.hex(),
        }


def _busy() -> Refusal:
    return Refusal("busy", "this node has too many runs under way", "wait a moment", TOO_MANY)
