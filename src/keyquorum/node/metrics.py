"""What a node counts and how Prometheus reads it; nothing here can hold a secret."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from keyquorum.rounds.errors import Abort, Blame

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The registry of one node process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "API requests by route and outcome", ["route", "outcome"])
        self.runs = self._counter("runs", "protocol runs by protocol and outcome", ["protocol", "outcome"])
        self.blames = self._counter("blames", "failed checks by blamed party", ["party"])
        self.seconds = Histogram(
            "keyquorum_run_seconds", "duration of finished protocol runs", ["protocol"], registry=self.registry
        )

    def observe_run(self, protocol: str, seconds: float, error: Abort | None) -> None:
        """Count the end of a protocol run, how long it took, and whom it blamed."""
        self.runs.labels(protocol, type(error).__name__ if error else "done").inc()
        self.seconds.labels(protocol).observe(seconds)
        for party in error.culprits if isinstance(error, Blame) else ():
            self.observe_blame(party)

    def observe_blame(self, party: int) -> None:
        """Count a failed check of what `party` sent."""
        self.blames.labels(str(party)).inc()

    def _counter(self, name: str, text: str, labels: list[str]) -> Counter:
        return Counter(f"keyquorum_{name}", text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a gauge whose value is read when Prometheus asks."""
        Gauge(f"keyquorum_{name}", text, registry=self.registry).set_function(read)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
