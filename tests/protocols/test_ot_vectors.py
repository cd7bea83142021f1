"""The stored vectors come out again: what goes over the wire has not changed."""

from __future__ import annotations

import json
from pathlib import Path

import gen_vectors_ot

STORED = Path(__file__).parents[1] / "vectors" / "ot.json"


def test_seeded_runs_give_the_stored_messages_and_results() -> None:
    stored = json.loads(STORED.read_text())
    assert len(stored) == 2 and all(len(run["batches"]) == 4 for run in stored)
    assert gen_vectors_ot.vectors() == stored
