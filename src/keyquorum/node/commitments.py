"""Answers `POST /v1/commitments`: a receipt for the first login that a bearer token is bound to.

A bearer token (Discord's) says nothing about the session it is for: whoever sees it could use it for a session of his
own. So the client first shows the nodes a hash of the token, and a hash of token and login together, and each node
signs, with its account in the registry, that this is the first such pair it has seen. Only then is the token revealed,
together with the receipts; a node that sees it now comes too late to get enough receipts for itself. How many are
needed and what they say is `keyquorum.auth.commitment`'s business; here is the promise: *one binding per token*, on the
disk before the receipt leaves, and for longer than tokens live.

Strangers can ask for receipts for hashes of nothing, so rows are bounded, and each address has a quota.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any

from keyquorum.algebra.strict_json import loads
from keyquorum.auth.commitment import Commitment, Receipt
from keyquorum.auth.method import method
from keyquorum.node.chain_view import ChainView, Membership
from keyquorum.node.login_store import Full, LoginStore, OtherBinding
from keyquorum.node.problem import CONFLICT, TOO_MANY, UNAVAILABLE, ApiError
from keyquorum.node.quotas import client_address

HOUR = 3600.0
PER_CLIENT = 120
CLIENTS = 10_000

Answer = dict[str, Any]


class Commitments:
    """The service of one node; `membership` is set once it is known, and when it changes."""

    def __init__(
        self,
        me: int,
        view: ChainView,
        store: LoginStore,
        account: bytes,
        configured: Collection[str],
        gateways: Collection[str] = (),
        per_client: int = PER_CLIENT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`account` is the 32-byte key of the node's account; `configured` the methods that have settings here.

        `gateways` are network addresses that limit their clients themselves.
        """
        self._me = me
        self._view = view
        self._store = store
        self._account = account
        self._configured = frozenset(configured)
        self._gateways = frozenset(gateways)
        self._per_client = per_client
        self._clock = clock
        self._asked: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self.membership: Membership | None = None

    async def commit(self, body: bytes, max_body: int) -> Answer:
        """Answer `POST /v1/commitments`; raises `ApiError` 409 for a token that is bound to another login."""
        commitment = Commitment.from_json(loads(body, max_body))
        membership = self.membership
        if membership is None or not membership.epoch:
            raise ApiError(UNAVAILABLE, "not_ready", "the network has not started yet", "wait a moment")
        if method(commitment.method).settings_type is not None and commitment.method not in self._configured:
            raise ApiError(UNAVAILABLE, "not_configured", "this node does not accept this method", "log in another way")
        now = int(self._clock())
        recent = await self._view.is_recent_block(bytes.fromhex(commitment.statement.block[2:]))
        commitment.statement.check(self._view.network, now, lambda _: recent)
        self._charge(client_address.get(), now)
        await self._bind(commitment, now)
        receipt = Receipt.sign(commitment, membership.epoch, self._me, now, self._account)
        return {"receipt": receipt.to_json()}

    def _charge(self, client: str, now: float) -> None:
        if client in self._gateways:
            return
        since, count = self._asked.pop(client, (now, 0))
        if now - since >= HOUR or now < since:
            since, count = now, 0
        self._asked[client] = since, count + 1
        while len(self._asked) > CLIENTS:
            self._asked.popitem(last=False)
        if count >= self._per_client:
            raise ApiError(TOO_MANY, "too_many_commitments", "too many logins from this address", "wait an hour")

    async def _bind(self, commitment: Commitment, now: int) -> None:
        try:
            await self._store.commit(commitment.token_digest, commitment.binding, now)
        except OtherBinding:
            raise ApiError(
                CONFLICT,
                "token_committed",
                "this token was committed to another login before",
                "get a new token from the provider; if nobody but you had this one, report it",
            ) from None
        except Full:
            hint = "try again in some days, or log in another way; the operator should look"
            raise ApiError(UNAVAILABLE, "commitments_full", "this node keeps no more commitments", hint) from None
