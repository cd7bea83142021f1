"""How much one tenant may ask of this node, so that its flood is its own problem.

`admit` stands between "authorised" and "consumed": what is invalid or not permitted never gets here and costs nothing,
what is refused here has cost no correlation. A protocol run takes a token from the bucket of its session, its key, each
identity, its network address, and of the node; all of them or none.

The last fifth (`reserve`) of what runs need, correlations and places, is for everybody a little: once less is left,
each tenant gets only what its *allowance* holds, a few runs and one more each second; what goes beyond waits a moment,
then is refused. Somebody who signs now and then is served from it while a flood takes whatever else there is. Many keys
with identities and addresses of their own are many tenants; keys cost money.

A login is counted before anything is looked up for it (`count_login`): for its network address, and in all, where the
last fifth is handed out in the same small portions. Failed logins are counted for each network address and the identity
it claimed, and ten times as many for the address whatever it claims; so is each question to a contract wallet, whether
it says yes or no, since the answer is what costs. Never for the identity alone: a stranger's failures must not lock its
owner out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from hashlib import sha256
from typing import NoReturn

from keyquorum.node.settings.config import QuotasSection
from keyquorum.refusal import TOO_MANY, Refusal
from keyquorum.serving.addresses import Networks
from keyquorum.serving.buckets import Buckets
from keyquorum.serving.places import verified

# The network address that the request now being answered came from; set once, by the API.
client_address: ContextVar[str] = ContextVar("client_address", default="")

ALLOWANCE, ALLOWANCE_PER_SECOND = 5.0, 1.0
LOGIN_SECONDS = 600.0
LISTINGS, LISTING_SECONDS = 30, 60.0
CLAIMS = 10
# A contract wallet is asked at two blocks.
CALLS_PER_LOGIN = 2
NODE = "node"
_ADDRESS_CHARACTERS = 42


# Who is behind the run that is being made, for `may_use_reserve`; empty for the node's own runs.
_tenants: ContextVar[tuple[str, ...]] = ContextVar("tenants", default=())


def all_free() -> float:
    """Answer that there is room for every run: a node that has no bound."""
    return 1.0


class Quotas:
    """The quotas of one node."""

    def __init__(self, settings: QuotasSection, pool: int = 0, places: Callable[[], float] = all_free) -> None:
        """`pool` is how many correlations a full pool has, `places()` the part (0..1) of places for runs that is free.

        `kept` is how many correlations with each peer are the reserve.
        """
        self.kept = math.ceil(settings.reserve * pool)
        self.counts: Counter[str] = Counter()
        self._reserve = settings.reserve
        self._gateways = Networks(settings.gateways)
        self._places = places

        def buckets(rate: float) -> Buckets:
            capacity = max(1.0, rate * settings.burst_seconds)
            return Buckets(capacity, capacity / rate)

        self._runs = {
            "session": buckets(settings.session),
            "key": buckets(settings.key),
            "identity": buckets(settings.identity),
            "address": buckets(settings.address),
            NODE: buckets(settings.node),
        }
        self._allowances = Buckets(ALLOWANCE, ALLOWANCE / ALLOWANCE_PER_SECOND)
        self._logins = {"address": buckets(settings.logins), NODE: buckets(settings.logins_in_all)}
        self._listings = Buckets(LISTINGS, LISTING_SECONDS)
        claims = settings.failed_logins
        self._failed_claims = Buckets(claims, LOGIN_SECONDS)
        self._failures = Buckets(claims * CLAIMS, LOGIN_SECONDS)
        self._asked_claims = Buckets(claims * CALLS_PER_LOGIN, LOGIN_SECONDS)
        self._asked = Buckets(claims * CALLS_PER_LOGIN * CLAIMS, LOGIN_SECONDS)

    # -- runs --------------------------------------------

    def admit(
        self, *, session: str, key: str = "", identities: Iterable[tuple[int, bytes]] = (), again: bool = False
    ) -> None:
        """Count one run for all who are behind it, for the request that is being handled.

        Another run of the same request (`again`) counts for the node and for the address that asks for it alone:
        whoever sees a request can ask for the runs that it names, and must not use up its owner's quotas. Raises
        `Refusal` 429 "quota_exceeded" or "reserved" with the time to wait, and then nothing was counted.
        """
        names = list(self._names(session, key, identities))
        counted = [(kind, name) for kind, name in names if not again or kind in (NODE, "address")]
        for kind, name in counted:
            if wait := self._runs[kind].wait(name):
                self._refuse("quota_exceeded", f"{_SHARES[kind]} has used up its quota at this node", wait)
        tenants = tuple(f"{kind}/{name}" for kind, name in names if kind not in (NODE, "address"))
        # The node's own bucket and its places are shared, like the pools: their last part is kept as theirs is.
        of_node = self._runs[NODE].level(NODE) / self._runs[NODE].capacity
        if min(self._places(), of_node) < self._reserve and not self._take_allowance(tenants):
            self.refuse_reserved()
        for kind, name in counted:
            self._runs[kind].take(name)
        _tenants.set(tenants)
        verified()

    def check(self, session: str) -> None:
        """Refuse what `admit` would refuse for this session, at the cost of a look; counts nothing.

        For requests that are not checked yet: most of a flood needs no more work than this. Whoever shows the
        certificate of another learns from it that the other's quota is used up, and uses nothing of it.
        """
        if wait := self._runs["session"].wait(session):
            self._refuse("quota_exceeded", f"{_SHARES['session']} has used up its quota at this node", wait)

    def run_tenant(self) -> str:
        """Return for whom the present run is: a network address, behind a gateway a session, "" the node itself."""
        return client_address.get() if self._counted_address() else "".join(_tenants.get()[:1])

    def may_use_reserve(self) -> bool:
        """Take one run from the allowances of who is behind the present run; False when one of them has none left."""
        return self._take_allowance(_tenants.get())

    def refuse_reserved(self) -> NoReturn:
        """Refuse the present run, because what is left is kept for others."""
        self._refuse("reserved", "this node is busy, and what is left is kept for those who asked for little", 1.0)

    def _take_allowance(self, tenants: tuple[str, ...]) -> bool:
        if any(self._allowances.wait(tenant) for tenant in tenants):
            return False
        for tenant in tenants:
            self._allowances.take(tenant)
        return True

    def _names(self, session: str, key: str, identities: Iterable[tuple[int, bytes]]) -> Iterator[tuple[str, str]]:
        yield NODE, NODE
        yield "session", session
        if key:
            yield "key", key
        for number, identity in identities:
            yield "identity", _named(number, identity)
        if self._counted_address():
            yield "address", client_address.get()

    def _counted_address(self) -> bool:
        return bool(client_address.get()) and client_address.get() not in self._gateways

    # -- lists --------------------------------------------

    def check_listing(self, identity: tuple[int, bytes]) -> None:
        """Refuse a list of sessions that `count_listing` would refuse; counts nothing, so anybody's may be looked at.

        Raises `Refusal` 429 "quota_exceeded" with the time to wait.
        """
        if wait := self._listings.wait(_named(*identity)):
            self._refuse("quota_exceeded", f"{_SHARES['identity']} has used up its quota of lists at this node", wait)

    def count_listing(self, identity: tuple[int, bytes]) -> None:
        """Count a list of sessions that `identity` has asked for; raises like `check_listing`, and counts nothing."""
        self.check_listing(identity)
        self._listings.take(_named(*identity))

    # -- logins --------------------------------------------

    def count_login(self, claim: str) -> None:
        """Count a login that is about to be looked at; `claim` is whom it claims to be.

        Raises `Refusal` 429 "quota_exceeded", "reserved" or "too_many_failures" with the time to wait; then it was not
        counted.
        """
        self.check_login(claim)
        address = client_address.get()
        names = [(NODE, NODE)] + ([("address", address)] if self._counted_address() else [])
        for kind, name in names:
            if wait := self._logins[kind].wait(name):
                self._refuse("quota_exceeded", f"{_SHARES[kind]} has used up its quota of logins at this node", wait)
        left = self._logins[NODE].level(NODE) / self._logins[NODE].capacity
        if left < self._reserve and self._counted_address() and not self._take_allowance((f"login/{address}",)):
            self.refuse_reserved()
        for kind, name in names:
            self._logins[kind].take(name)

    def count_wallet_call(self, claim: str) -> None:
        """Count a question to a contract wallet, before it is put; raises `Refusal` 429 "quota_exceeded"."""
        names = self._login_names(claim, self._asked, self._asked_claims)
        if wait := max((buckets.wait(name) for buckets, name in names), default=0.0):
            self._refuse("quota_exceeded", "this network address has asked for too much of contract wallets", wait)
        for buckets, name in names:
            buckets.take(name)

    def tenant(self, claim: str) -> str:
        """Return for whom turns are kept: the network address, or behind a gateway whom a login claims to be."""
        address = client_address.get()
        return address if self._counted_address() else _pair(address, claim)

    def check_login(self, claim: str) -> None:
        """Refuse a login before it is verified when too many failed; `claim` is whom it claims to be, "" unknown.

        Raises `Refusal` 429 "too_many_failures" with the time to wait.
        """
        names = self._login_names(claim, self._failures, self._failed_claims)
        if wait := max((buckets.wait(name) for buckets, name in names), default=0.0):
            self._refuse("too_many_failures", "too many failed logins from this network address", wait)

    def login_failed(self, claim: str) -> None:
        """Count a login that was refused."""
        for buckets, name in self._login_names(claim, self._failures, self._failed_claims):
            buckets.take(name)

    def _login_names(self, claim: str, by_address: Buckets, by_claim: Buckets) -> list[tuple[Buckets, str]]:
        if not self._counted_address():
            return []
        address = client_address.get()
        return [(by_address, address), (by_claim, _pair(address, claim))]

    def _refuse(self, code: str, message: str, wait: float) -> NoReturn:
        self.counts[code] += 1
        seconds = math.ceil(wait)
        raise Refusal(code, message, f"wait {seconds} s before asking again", TOO_MANY, retry_after=seconds)


_SHARES = {
    NODE: "everybody together",
    "session": "this session",
    "key": "this key",
    "identity": "this identity",
    "address": "this network address",
}


def _named(number: int, identity: bytes) -> str:
    return f"{number}/{identity.hex()}"


def _pair(address: str, claim: str) -> str:
    # Hashed: a claim may be a mail address, and it may be long.
    return f"{address}/{sha256(claim.encode()).hexdigest()}"


def claim_of(method: str, proof: object) -> str:
    """Return whom a proof claims to be, as far as it says so in plain words; only for counting failures."""
    if isinstance(proof, dict):
        for name in ("address", "credential_id"):
            if isinstance(proof.get(name), str):
                return f"{method}/{proof[name]}"
        if isinstance(proof.get("message"), str):
            # Sign-In with Ethereum: the account is the second line.
            return f"{method}/{proof['message'][:512].partition(chr(10))[2][:_ADDRESS_CHARACTERS]}"
    return method
