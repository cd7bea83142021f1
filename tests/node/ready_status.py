"""The status of a node in order, whose parts a test changes one at a time."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

from keyquorum.node.metrics import Metrics
from keyquorum.node.status import Status
from rosters import roster


def made() -> Any:
    """Party 1 of 4 (threshold 3), ready: linked to all, one key, everything in order; not started."""
    links: Any = SimpleNamespace(counts=Counter(setups_failed=1))
    stock = dict.fromkeys((2, 3, 4), (5, 7))
    status: Any = Status(
        roster=roster(),
        view=SimpleNamespace(age=0.0),  # type: ignore[arg-type]
        store=SimpleNamespace(failure=None, quarantine_size=0),  # type: ignore[arg-type]
        keys=SimpleNamespace(count=lambda: 2, quarantined=lambda: status.damaged),  # type: ignore[arg-type]
        mesh=SimpleNamespace(up=[2, 3, 4], is_up=lambda j: True, counts=Counter(malformed=2)),  # type: ignore[arg-type]
        links=links,
        pools=SimpleNamespace(available=lambda: stock, counts=Counter(frames_dropped=3)),  # type: ignore[arg-type]
        runner=SimpleNamespace(active=0, dropped=0),  # type: ignore[arg-type]
        identity_secret=SimpleNamespace(ready=True, refused=set()),  # type: ignore[arg-type]
        clocks=SimpleNamespace(wrong_because=lambda: status.clock, offset=lambda: 1.5),  # type: ignore[arg-type]
        shop=SimpleNamespace(missing=0, registered=9),  # type: ignore[arg-type]
    )
    status.clock = ""
    status.metrics, status.stock, status.quarantined, status.other, status.damaged = Metrics(), stock, [], "setup", 0
    links.all_ready = lambda: list(stock)
    links.states = lambda: {j: "ready" if j in stock else status.other for j in (2, 3, 4)}
    links.strikes = SimpleNamespace(quarantined=lambda: status.quarantined)
    status.add_gauges(status.metrics)
    return status
