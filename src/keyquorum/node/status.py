"""What a node says about itself: the network as it sees it, its keys, why it cannot serve, and its gauges.

Everything here is read from the other parts at the moment somebody asks; nothing is remembered, and nothing is secret.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from keyquorum import __version__
from keyquorum.auth.method import methods
from keyquorum.node import api
from keyquorum.node.chain.chain_view import MAX_AGE, ChainView
from keyquorum.node.chain.clocks import Clocks
from keyquorum.node.chain.roster import Roster
from keyquorum.node.keymaking.identity_secret import IdentitySecret
from keyquorum.node.keymaking.workshop import Workshop
from keyquorum.node.mesh.mesh import Mesh
from keyquorum.node.metrics import Metrics
from keyquorum.node.pairs.links import Links
from keyquorum.node.pairs.pools import Pools
from keyquorum.node.runs.runner import Runner
from keyquorum.node.storage.keys import Keys
from keyquorum.node.storage.store import Store
from keyquorum.refusal import NOT_FOUND, Refusal


@dataclass
class Status:
    """The state of a node, put together from the parts that hold it."""

    roster: Roster
    view: ChainView
    store: Store
    keys: Keys
    mesh: Mesh
    links: Links
    pools: Pools
    runner: Runner
    identity_secret: IdentitySecret
    clocks: Clocks
    shop: Workshop

    async def network(self) -> dict[str, Any]:
        """Answer `GET /v1/network`."""
        me, membership = self.roster.me, self.roster.current
        key = await self.view.network_key()
        nodes = [
            {"party": j, "url": member.url, "live": j == me or self.mesh.is_up(j)}
            for j, member in sorted(membership.members.items())
        ]
        return {
            "network": self.view.network,
            "chain_id": self.view.chain_id,
            "contracts": dict(self.view.addresses),
            "epoch": membership.epoch,
            "threshold": membership.threshold,
            "party": me,
            "block": (await self.view.head()).newest,
            "nodes": nodes,
            "network_key": "0x" + key.to_bytes().hex() if key else None,
            "methods": sorted(methods()),
            "identity_secret": self.identity_secret.ready,
            "ready": not self.not_ready_because(),
            "degraded": self.degraded_because(),
            "version": __version__,
        }

    async def key(self, key_id: bytes) -> dict[str, Any]:
        """Answer `GET /v1/keys/{id}`; raises `Refusal` 404 for a key that neither chain nor node knows."""
        public_key, owner = await self.view.look_up(int.from_bytes(key_id, "big"))
        if not public_key:
            raise Refusal("key_unknown", "the chain knows no such key", "check the token id", NOT_FOUND)
        return api.describe_key(key_id, public_key, owner, self.keys.state(key_id), self.roster.current.epoch)

    def readiness(self) -> dict[str, Any]:
        """Answer `GET /readyz`: whether this node can sign with every key it should, and what the network has lost.

        `serves` is weaker than `ready`: the node takes part, but not for every key.
        """
        reasons, partial = self._stopping_reasons(), self._partial_reasons()
        return {
            "ready": not reasons and not partial,
            "serves": not reasons,
            "reasons": reasons + partial,
            "degraded": self.degraded_because(),
        }

    def not_ready_because(self) -> list[str]:
        """Return why the node cannot sign with every key it should; empty when it can."""
        return self._stopping_reasons() + self._partial_reasons()

    def degraded_because(self) -> list[str]:
        """Return what does not stop this node and leaves the network fewer ways to sign; empty when nothing does."""
        members = self.roster.current.members
        usable = {peer for peer, pools in self.pools.available().items() if min(pools) > 0}
        lost = sorted(members.keys() - usable - {self.roster.me})
        found = [f"parties without a link or correlations: {lost}"] if lost else []
        if quarantined := [j for j in self.links.strikes.quarantined() if j in members]:
            found.append(f"parties in quarantine here: {quarantined}: see `keyquorum node pardon`")
        return found

    def _stopping_reasons(self) -> list[str]:
        reasons = []
        if self.view.age > MAX_AGE:
            reasons.append("no fresh view of the chain")
        if wrong := self.clocks.wrong_because():
            reasons.append(wrong)
        if self.store.failure is not None:
            reasons.append(f"the store has failed: {self.store.failure.hint}")
        reasons += self._too_few_peers()
        if not self.keys.count():
            reasons.append("no key is active yet")
        elif self.keys.quarantined() >= self.keys.count():
            reasons.append("every active key share is in quarantine: see `keyquorum node check`")
        elif self.shop.missing is None:
            reasons.append("the keys on the chain have not been compared with those here yet")
        elif not self.identity_secret.ready:
            reasons.append("the identity secret is not complete yet" + self._refused_parts())
        return reasons

    def _partial_reasons(self) -> list[str]:
        """Return what stops this node for some keys only."""
        found = []
        if self.shop.missing:
            found.append(
                f"{self.shop.missing} of {self.shop.registered} batches of keys on the chain are missing here: "
                "was an old copy of data/ restored?"
            )
        if 0 < self.keys.quarantined() < self.keys.count():
            found.append(f"{self.keys.quarantined()} key shares are in quarantine: see `keyquorum node check`")
        return found

    def _refused_parts(self) -> str:
        refused = sorted(self.identity_secret.refused)
        return f"; parties that sent a wrong part: {refused}" if refused else ""

    def _too_few_peers(self) -> list[str]:
        membership = self.roster.current
        needed = membership.threshold - 1
        # A connection is not enough: a pair that is still in its setup, or in quarantine, cannot sign.
        count = sum(min(pools) > 0 for pools in self.pools.available().values())
        if count >= needed:
            return []
        reasons = [f"{count} peers are linked and have correlations, {needed} needed"]
        if quarantined := [j for j in self.links.strikes.quarantined() if j in membership.members]:
            reasons.append(f"parties in quarantine here: {quarantined}: see `keyquorum node pardon`")
        if refusing := sorted(j for j, state in self.links.states().items() if state == "refused"):
            reasons.append(f"parties that have this node in quarantine: {refusing}")
        return reasons

    def add_gauges(self, metrics: Metrics, more: Mapping[str, Counter[str]] | None = None) -> None:
        """Let `metrics` read the state, and the counters of `more` parts, whenever Prometheus asks."""
        gauge = metrics.gauge
        gauge("peers_up", "linked peers", lambda: len(self.mesh.up))
        gauge("links_ready", "peers with whom this node can make correlations", lambda: len(self.links.all_ready()))
        gauge("peers_quarantined", "peers in quarantine here", lambda: len(self.links.strikes.quarantined()))
        gauge("shares_quarantined", "stored shares found corrupt", lambda: self.store.quarantine_size)
        gauge("runs_active", "protocol runs under way", lambda: self.runner.active)
        gauge("envelopes_dropped", "envelopes that belonged to no run", lambda: self.runner.dropped)
        gauge("chain_age_seconds", "age of the view of the chain", lambda: min(self.view.age, 1e9))
        gauge("keys_active", "active key shares", self.keys.count)
        gauge("batches_missing", "batches of keys on the chain that are not here", lambda: self.shop.missing or 0)
        gauge("clock_offset_seconds", "how far the clocks of the peers are ahead of this one", self.clocks.offset)
        gauge("ready", "1 if this node can sign with every key it should", lambda: not self.not_ready_because())
        gauge("degraded", "what the network has lost, as this node sees it", lambda: len(self.degraded_because()))
        gauge("store_failed", "1 if the store is out of use", lambda: self.store.failure is not None)
        gauge("correlations", "unspent correlations, the scarcer direction of each peer, in all", self._correlations)
        parts = {"mesh": self.mesh.counts, "links": self.links.counts, "pools": self.pools.counts} | dict(more or {})
        metrics.registry.register(_Events(parts))

    def _correlations(self) -> float:
        return sum(map(min, self.pools.available().values()))


class _Events(Collector):
    """What the parts count by themselves, as one metric; the labels are names in the code, never a peer's choice."""

    def __init__(self, parts: dict[str, Counter[str]]) -> None:
        self._parts = parts

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily("keyquorum_events", "dropped frames, failed setups...", labels=["part", "event"])
        for part, counts in self._parts.items():
            for event, count in counts.items():
                family.add_metric([part, event], count)
        yield family
