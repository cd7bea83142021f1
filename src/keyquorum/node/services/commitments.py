"""Answers `POST /v1/commitments`: a receipt for the first login that a bearer token is bound to.

A bearer token (Discord's) says nothing about the session it is for: whoever sees it could use it for a session of his
own. So the client first shows the nodes a hash of the token, and a hash of token and login together, and each node
signs, with its account in the registry, that this is the first such pair it has seen. Only then is the token revealed,
together with the receipts; a node that sees it now comes too late to get enough receipts for itself. How many are
needed and what they say is `keyquorum.auth.commitment`'s business; here is the promise: *one binding per token*, on the
disk before the receipt leaves, and for longer than tokens live.

Strangers can ask for receipts for hashes of nothing, and a full table would end such logins for a month. So each
address has a quota, each gateway a larger one, and all together get far fewer rows than the table holds: 30,000 a day
and 7,500 at once, 937,500 in the 31 days that rows are kept, of 2,000,000. The last half of what there is at a time
goes out in small portions only, so that many strangers, too, leave something to everybody.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from typing import Any

from keyquorum.auth.commitment import Commitment, Receipt
from keyquorum.auth.method import method
from keyquorum.formats.strict_json import loads
from keyquorum.node.chain.chain_view import ChainView
from keyquorum.node.chain.roster import Roster
from keyquorum.node.services.quotas import client_address
from keyquorum.node.storage.login_store import Full, LoginStore, OtherBinding
from keyquorum.refusal import CONFLICT, TOO_MANY, UNAVAILABLE, Refusal
from keyquorum.serving.addresses import Networks
from keyquorum.serving.buckets import Buckets

HOUR = 3600.0
PER_CLIENT, PER_GATEWAY = 120, 1200
# Of everybody together: what there is at once, and in how many seconds it comes back.
IN_ALL, IN_ALL_SECONDS = 7500, 6 * HOUR
RESERVE = 0.5
# What one client, or gateway, gets in an hour of the last part.
ALLOWANCE, GATEWAYS_ALLOWANCE = 6, 600
EVERYBODY = "everybody"

Answer = dict[str, Any]


class Commitments:
    """The service of one node."""

    def __init__(
        self,
        roster: Roster,
        view: ChainView,
        store: LoginStore,
        account: bytes,
        configured: Collection[str],
        gateways: Collection[str] = (),
        per_client: int = PER_CLIENT,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """`account` is the 32-byte key of the node's account; `configured` the methods that have settings here.

        `gateways` are network addresses that limit their clients themselves; `per_client` counts an hour. `clock` is
        the time, `ticks` what quotas go by.
        """
        self._roster = roster
        self._view = view
        self._store = store
        self._account = account
        self._configured = frozenset(configured)
        self._gateways = Networks(gateways)
        self._clock = clock
        self._in_all = Buckets(IN_ALL, IN_ALL_SECONDS, ticks)
        # Of clients and of gateways: what each has in an hour, and what of the last part.
        self._of_clients = Buckets(per_client, HOUR, ticks), Buckets(ALLOWANCE, HOUR, ticks)
        self._of_gateways = Buckets(PER_GATEWAY, HOUR, ticks), Buckets(GATEWAYS_ALLOWANCE, HOUR, ticks)

    async def commit(self, body: bytes, max_body: int) -> Answer:
        """Answer `POST /v1/commitments`; raises `Refusal` 409 for a token that is bound to another login."""
        commitment = Commitment.from_json(loads(body, max_body))
        if method(commitment.method).settings_type is not None and commitment.method not in self._configured:
            raise Refusal("not_configured", "this node does not accept this method", "log in another way", UNAVAILABLE)
        now = int(self._clock())
        commitment.statement.check_terms(self._view.network, now)
        self._charge(client_address.get())
        recent = await self._view.is_recent_block(bytes.fromhex(commitment.statement.block[2:]))
        commitment.statement.check(self._view.network, now, lambda _: recent)
        await self._bind(commitment, now)
        receipt = Receipt.sign(commitment, self._roster.current.epoch, self._roster.me, now, self._account)
        return {"receipt": receipt.to_json()}

    def _charge(self, client: str) -> None:
        """Count one commitment for `client`, for everybody, and, when little is left, for the client's part of that."""
        quota, allowance = self._of_gateways if client in self._gateways else self._of_clients
        counted = [(quota, client), (self._in_all, EVERYBODY)]
        if self._in_all.level(EVERYBODY) < RESERVE * self._in_all.capacity:
            counted.append((allowance, client))
        if wait := math.ceil(max(buckets.wait(name) for buckets, name in counted)):
            whose = "from this network address" if quota.wait(client) else "at this node"
            hint = f"wait {wait} s before asking again, or log in another way"
            raise Refusal("too_many_commitments", f"too many logins {whose}", hint, TOO_MANY, retry_after=wait)
        for buckets, name in counted:
            buckets.take(name)

    async def _bind(self, commitment: Commitment, now: int) -> None:
        try:
            await self._store.commit(commitment.token_digest, commitment.binding, now)
        except OtherBinding:
            raise Refusal(
                "token_committed",
                "this token was committed to another login before",
                "get a new token from the provider; if nobody but you had this one, report it",
                CONFLICT,
            ) from None
        except Full:
            hint = "try again in some days, or log in another way; the operator should look"
            raise Refusal("commitments_full", "this node keeps no more commitments", hint, UNAVAILABLE) from None
