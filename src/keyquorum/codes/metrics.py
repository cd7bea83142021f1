"""What a code service counts; labels are outcomes, never people."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The registry of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "requests answered", ["path", "status"])
        self.messages = self._counter("messages", "messages by channel and outcome", ["channel", "outcome"])
        self.answers = self._counter("answers", "answers by outcome", ["outcome"])

    def _counter(self, name: str, text: str, labels: list[str]) -> Counter:
        return Counter(f"keyquorum_codes_{name}", text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a gauge whose value is read when Prometheus asks."""
        Gauge(f"keyquorum_codes_{name}", text, registry=self.registry).set_function(read)

    def text(self) -> bytes:
        """Return the Prometheus exposition."""
        return generate_latest(self.registry)
