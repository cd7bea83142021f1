"""Who asks, and whether he still may: certificates, delegations, requests and revocations, with this node's own eyes.

Everything that a session asks for goes through `Access.read`: the certificate is the network's (checked once, then
remembered by its hash, its times each time), each delegation narrows it, the request is signed by the last key, and at
the newest block none of what it rests on is revoked. `authorise` then asks the chain what the identities that are left
may do with the key. Nothing in here has an effect.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from keyquorum.algebra.curve import Point
from keyquorum.auth import certificate as certificates
from keyquorum.auth import request as requests
from keyquorum.auth import revocation
from keyquorum.auth.certificate import Certificate
from keyquorum.auth.delegation import follow
from keyquorum.auth.permission import Decision, KeyState, decide, decide_member
from keyquorum.auth.request import Request
from keyquorum.auth.scopes import Scope
from keyquorum.evm.address import address_of_public
from keyquorum.node.chain.chain_view import ChainView, Head
from keyquorum.node.services.audit import note
from keyquorum.refusal import UNAVAILABLE, Invalid, Refusal
from keyquorum.serving.places import verified

CERTIFICATES_CACHED = 4096
MARKS_CACHED = 4096
# What every body has that a session signed.
CALLER = {"certificate": str, "request": str}
MAY_HAVE = {"delegations": list}


class Access:
    """The access rules of one node."""

    def __init__(self, view: ChainView) -> None:
        self._view = view
        self._certificates: OrderedDict[bytes, Certificate] = OrderedDict()

    async def network_key(self) -> Point:
        """Return the network's public key; raises `Refusal` 503 before it exists."""
        key = await self._view.network_key()
        if key is None:
            raise Refusal("no_network_key", "the network has not made its first key yet", "wait a moment", UNAVAILABLE)
        return key

    async def read(self, found: Mapping[str, Any], kind: str, now: int) -> tuple[Certificate, Request]:
        """Return the certificate as far as it counts now, for the key that signed, and the request, of this `kind`.

        `found` are the fields `CALLER` and `MAY_HAVE` of a body. Raises `Invalid`.
        """
        held = follow(await self.certificate(found["certificate"], now), found["delegations"] or [], now)
        request = await self._request(found["request"], held, kind, now)
        note(session=held.session.thumbprint, key=request.key)
        alive = await self.alive(held, request.key)
        note(methods=[(one.type, one.id) for one in alive.methods])
        verified()
        return alive, request

    async def _request(self, token: str, held: Certificate, kind: str, now: int) -> Request:
        if kind != requests.REVOKE:
            return requests.verify(token, held, self._view.network, now, kind=kind)
        # A revocation's expiry says up to which time of the chain sessions end.
        head = await self._view.head()
        try:
            return requests.verify(token, held, self._view.network, now, kind=kind, ahead=_ahead(head, now))
        except Invalid as error:
            if error.code != "clock_skew":
                raise
            # Or of a block that this node has not seen yet.
            head = await self._view.refresh()
            return requests.verify(token, held, self._view.network, now, kind=kind, ahead=_ahead(head, now))

    async def certificate(self, token: str, now: int) -> Certificate:
        """Return the verified certificate in `token`, whether or not it was revoked; raises `Invalid`."""
        key = hashlib.sha256(token.encode()).digest()
        known = self._certificates.get(key)
        if known is not None:
            known.check_time(now)
            self._certificates.move_to_end(key)
            return known
        certificate = certificates.verify(token, self._view.network, await self.network_key(), now)
        self._certificates[key] = certificate
        while len(self._certificates) > CERTIFICATES_CACHED:
            self._certificates.popitem(last=False)
        return certificate

    async def alive(self, certificate: Certificate, key: str = requests.NO_KEY) -> Certificate:
        """Return it without the identities that were revoked; `Invalid` when nothing of it is left, or not for `key`.

        What counts is the newest block, so a revocation holds from the first block that shows it.
        """
        ends, method_ends = _marks_of(certificate, key)
        times = await self._view.revoked_before([*ends, *method_ends])
        return revocation.apply(certificate, times[: len(ends)], times[len(ends) :])

    # -- what a session may do with a key --------------------------------------------

    async def authorise(self, certificate: Certificate, needed: Sequence[Scope], key: str) -> None:
        """Raise `Invalid` unless the session has all scopes `needed` on `key`; none: any method of it will do."""
        for scope in needed or (None,):
            decision = await self._decide(certificate, scope, key)
            if not decision.allowed:
                # Who was granted something a moment ago must not be told no because of a view that is a moment old.
                await self._view.refresh()
                decision = await self._decide(certificate, scope, key)
            decision.require()

    async def may(self, certificate: Certificate, scope: Scope, key: str) -> bool:
        """Say whether the session has `scope` on `key`."""
        return (await self._decide(certificate, scope, key)).allowed

    async def _decide(self, certificate: Certificate, scope: Scope | None, key: str) -> Decision:
        finalised, newest = [await self._key_state(certificate, key, newest) for newest in (False, True)]
        if scope is None:
            return decide_member(certificate, key, finalised, newest)
        return decide(certificate, scope, key, finalised, newest)

    async def _key_state(self, certificate: Certificate, key: str, newest: bool) -> KeyState:
        owner, epoch, grants, itself = None, 0, {}, False
        for proven in certificate.methods:
            seen = await self._view.authorisation(int(key, 16), proven.type, proven.id, newest)
            owner, epoch = seen.owner, seen.grant_epoch
            itself = bool(seen.public_key) and owner == address_of_public(seen.public_key)
            if seen.permitted:
                grants[proven.type, proven.id] = seen.scopes
        return KeyState(owner, grants, epoch, itself)


@lru_cache(MARKS_CACHED)
def _marks_of(certificate: Certificate, key: str) -> tuple[list[bytes], list[bytes]]:
    # Hashes of what stands in the certificate: the same with every request of a session.
    return revocation.marks_of(certificate, key)


def _ahead(head: Head, now: int) -> int:
    return max(0, head.newest_time - now)
