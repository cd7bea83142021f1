"""The alert rules name metrics that a node has, with the labels they have, and say what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ready_status import made

RULES = Path(__file__).parents[2] / "ops" / "alerts.yml"
EXPRESSIONS = dict(re.findall(r"- alert: (\w+)\n +expr: (.+)\n", RULES.read_text()))
NAME = re.compile(r"keyquorum_\w+")


def metrics() -> dict[str, set[str]]:
    """The names of a node's metrics, as Prometheus shows them, with the labels of each."""
    node = made()
    node.metrics.observe_blame(2)
    lines = [line for line in node.metrics.text().decode().splitlines() if not line.startswith("#")]
    return {re.split(r"[ {]", line)[0]: set(re.findall(r"(\w+)=", line)) for line in lines}


def test_every_rule_has_an_expression() -> None:
    assert len(EXPRESSIONS) == RULES.read_text().count("- alert:") > 5


@pytest.mark.parametrize("rule", EXPRESSIONS)
def test_a_rule_names_metrics_that_exist_and_says_what_to_do(rule: str) -> None:
    known = metrics()
    names = NAME.findall(EXPRESSIONS[rule])
    assert set(names) <= known.keys()
    assert names or EXPRESSIONS[rule].startswith("up{")
    (section,) = re.findall(rf"- alert: {rule}\n(.*?)(?=- alert|\Z)", RULES.read_text(), re.S)
    assert "summary:" in section and " do:" in section and "severity:" in section
    labels = set(re.findall(r"\$labels\.(\w+)", section)) - {"instance"}
    assert all(labels <= known[name] for name in names)


def test_what_makes_a_node_not_ready_or_the_network_poorer_has_a_rule() -> None:
    named = set(NAME.findall(" ".join(EXPRESSIONS.values())))
    assert named >= {
        "keyquorum_ready", "keyquorum_degraded", "keyquorum_store_failed", "keyquorum_batches_missing",
        "keyquorum_shares_quarantined", "keyquorum_clock_offset_seconds", "keyquorum_chain_age_seconds",
    }  # fmt: skip


def test_the_manual_names_the_file_and_only_metrics_that_exist() -> None:
    manual = (RULES.parents[1] / "docs" / "operators.md").read_text()
    assert "ops/alerts.yml" in manual
    named = {name for name in re.findall(r"`(keyquorum_\w+)", manual) if name != "keyquorum_events_total"}
    assert named <= metrics().keys()
