"""When a node calls itself ready, and what its metrics show of links, quarantines and dropped frames."""

from __future__ import annotations

from typing import Any

import pytest
from ready_status import made

from keyquorum.node.storage.database import StoreFailed


def metric(node: Any, line: str) -> float:
    found = [text for text in node.metrics.text().decode().splitlines() if text.startswith(f"keyquorum_{line} ")]
    return float(found[0].rsplit(" ", 1)[1])


def test_a_node_in_order_is_ready() -> None:
    assert made().not_ready_because() == []


def test_a_connection_without_a_finished_setup_does_not_count() -> None:
    node = made()
    del node.stock[3]
    assert node.not_ready_because() == []
    del node.stock[4]
    assert node.not_ready_because() == ["1 peers are linked and have correlations, 2 needed"]


@pytest.mark.parametrize("stock", [(0, 7), (7, 0)])
def test_a_link_without_correlations_in_both_directions_does_not_count(stock: tuple[int, int]) -> None:
    node = made()
    node.stock |= {3: stock, 4: stock}
    assert node.not_ready_because() == ["1 peers are linked and have correlations, 2 needed"]


def test_quarantined_peers_are_a_reason_only_when_too_few_are_left() -> None:
    node = made()
    node.quarantined = [4, 9]  # 9 left the registry
    del node.stock[4]
    assert node.not_ready_because() == []
    del node.stock[3]
    node.other = "refused"
    _, ours, theirs = node.not_ready_because()
    assert "[4]" in ours and "node pardon" in ours and "[3, 4]" in theirs


def test_a_node_with_shares_in_quarantine_serves_and_is_not_ready() -> None:
    node = made()
    node.damaged = 1
    found = node.readiness()
    assert (found["ready"], found["serves"]) == (False, True)
    assert found["reasons"] == ["1 key shares are in quarantine: see `keyquorum node check`"]
    node.damaged = 2
    found = node.readiness()
    assert not found["serves"]
    assert "every active key share is in quarantine" in found["reasons"][0]


def test_a_node_that_misses_keys_serves_and_is_not_ready() -> None:
    node = made()
    node.shop.missing = None
    assert "not been compared" in node.readiness()["reasons"][0]
    assert not node.readiness()["serves"]
    node.shop.missing = 2
    found = node.readiness()
    assert (found["ready"], found["serves"]) == (False, True)
    assert "2 of 9 batches of keys on the chain are missing here" in found["reasons"][0]
    assert metric(node, "batches_missing") == 2
    assert metric(node, "ready") == 0


def test_a_node_whose_clock_is_wrong_or_whose_store_failed_does_not_serve() -> None:
    node = made()
    node.clock = "this node's clock is 600 s ahead"
    assert node.readiness() == {"ready": False, "serves": False, "reasons": [node.clock], "degraded": []}
    node.clock, node.store.failure = "", StoreFailed("disk is full", "make room")
    assert node.readiness()["reasons"] == ["the store has failed: make room"]
    assert metric(node, "store_failed") == 1


def test_lost_redundancy_is_told_by_a_node_that_is_ready() -> None:
    node = made()
    assert (node.degraded_because(), metric(node, "degraded"), metric(node, "ready")) == ([], 0, 1)
    del node.stock[3]
    node.quarantined = [3]
    found = node.readiness()
    assert found["ready"] and found["serves"]
    links, quarantine = found["degraded"]
    assert "[3]" in links and "node pardon" in quarantine
    assert (metric(node, "degraded"), metric(node, "ready")) == (2, 1)


def test_the_metrics_show_links_quarantines_and_what_the_parts_count() -> None:
    node = made()
    del node.stock[4]
    node.quarantined, node.store.quarantine_size = [4], 1
    shown = {name: metric(node, name) for name in ("links_ready", "peers_quarantined", "shares_quarantined")}
    assert shown == {"links_ready": 2, "peers_quarantined": 1, "shares_quarantined": 1}
    assert metric(node, "correlations") == 10
    assert metric(node, 'events_total{event="malformed",part="mesh"}') == 2
    assert metric(node, 'events_total{event="frames_dropped",part="pools"}') == 3
    assert metric(node, 'events_total{event="setups_failed",part="links"}') == 1
    node.mesh.counts["malformed"] += 1
    assert metric(node, 'events_total{event="malformed",part="mesh"}') == 3


def test_a_node_without_the_identity_secret_is_not_ready_and_says_whose_part_was_wrong() -> None:
    node = made()
    node.identity_secret.ready = False
    assert node.not_ready_because() == ["the identity secret is not complete yet"]
    node.identity_secret.refused = {4, 2}
    (reason,) = node.not_ready_because()
    assert "wrong part: [2, 4]" in reason
