"""When a node calls itself ready, and what its metrics show of links, quarantines and dropped frames."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from keyquorum.cli.node_folder import NodeFolder
from keyquorum.node.app import Node
from keyquorum.node.config import load

KEY = b"k" * 32


def made(folder: Path) -> Any:
    """Party 1 of 4 (threshold 3), ready: linked to all, one key, everything in order; not started."""
    place = NodeFolder(folder / "node")
    place.create()
    node: Any = Node(load(place.write_settings(rpc=["http://127.0.0.1:1"], router="0x" + "00" * 19 + "01")))
    share = SimpleNamespace(token_id=KEY, epoch=1)
    node.me = 1
    node._membership = SimpleNamespace(members=dict.fromkeys((1, 2, 3, 4)), threshold=3, epoch=1)
    node._view = SimpleNamespace(age=0.0)
    node._store = SimpleNamespace(failure=None, quarantined=frozenset(), list_shares=lambda state: [share])
    node._keys = SimpleNamespace(count=lambda: 1)
    node._mesh = SimpleNamespace(up=[2, 3, 4], is_up=lambda j: True, counts=Counter(malformed=2))
    node._runner = SimpleNamespace(active=0, dropped=0)
    node.stock = dict.fromkeys((2, 3, 4), (5, 7))
    node.quarantined = []
    node._pools = SimpleNamespace(available=lambda: node.stock, counts=Counter(frames_dropped=3))
    node._links = SimpleNamespace(
        all_ready=lambda: list(node.stock),
        states=lambda: {j: "ready" if j in node.stock else node.other for j in (2, 3, 4)},
        strikes=SimpleNamespace(quarantined=lambda: node.quarantined),
        counts=Counter(setups_failed=1),
    )
    node.other = "setup"
    node._add_gauges()
    return node


def metric(node: Any, line: str) -> float:
    found = [text for text in node.metrics.text().decode().splitlines() if text.startswith(f"keyquorum_{line} ")]
    return float(found[0].rsplit(" ", 1)[1])


def test_a_node_in_order_is_ready(tmp_path: Path) -> None:
    assert made(tmp_path).not_ready_because() == []


def test_a_connection_without_a_finished_setup_does_not_count(tmp_path: Path) -> None:
    node = made(tmp_path)
    del node.stock[3]
    assert node.not_ready_because() == []
    del node.stock[4]
    assert node.not_ready_because() == ["1 peers are linked and have correlations, 2 needed"]


@pytest.mark.parametrize("stock", [(0, 7), (7, 0)])
def test_a_link_without_correlations_in_both_directions_does_not_count(tmp_path: Path, stock: tuple[int, int]) -> None:
    node = made(tmp_path)
    node.stock |= {3: stock, 4: stock}
    assert node.not_ready_because() == ["1 peers are linked and have correlations, 2 needed"]


def test_quarantined_peers_are_a_reason_only_when_too_few_are_left(tmp_path: Path) -> None:
    node = made(tmp_path)
    node.quarantined = [4, 9]  # 9 left the registry
    del node.stock[4]
    assert node.not_ready_because() == []
    del node.stock[3]
    node.other = "refused"
    _, ours, theirs = node.not_ready_because()
    assert "[4]" in ours and "node pardon" in ours and "[3, 4]" in theirs


def test_quarantined_shares_are_a_reason_only_when_no_active_one_is_left(tmp_path: Path) -> None:
    node = made(tmp_path)
    node._store.quarantined = frozenset({(b"p" * 32, 1), (KEY, 2)})
    assert node.not_ready_because() == []
    node._store.quarantined = frozenset({(KEY, 1)})
    (reason,) = node.not_ready_because()
    assert "every active key share is in quarantine" in reason


def test_the_metrics_show_links_quarantines_and_what_the_parts_count(tmp_path: Path) -> None:
    node = made(tmp_path)
    del node.stock[4]
    node.quarantined, node._store.quarantined = [4], frozenset({(KEY, 1)})
    shown = {name: metric(node, name) for name in ("links_ready", "peers_quarantined", "shares_quarantined")}
    assert shown == {"links_ready": 2, "peers_quarantined": 1, "shares_quarantined": 1}
    assert metric(node, "correlations") == 10
    assert metric(node, 'events_total{event="malformed",part="mesh"}') == 2
    assert metric(node, 'events_total{event="frames_dropped",part="pools"}') == 3
    assert metric(node, 'events_total{event="setups_failed",part="links"}') == 1
    node._mesh.counts["malformed"] += 1
    assert metric(node, 'events_total{event="malformed",part="mesh"}') == 3
