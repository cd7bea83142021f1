"""Logins that are shown to one node alone, and then left, hold nothing that somebody else needs."""

from __future__ import annotations

import asyncio

import pytest
from eth_account import Account
from session_kit import login_body, new_key, new_statement, prove

from cluster import Cluster
from keyquorum.node.runs.places import SHARE, Places

PLACES = 8


async def test_logins_of_fresh_wallets_at_one_node_take_no_place_from_others(
    cluster: Cluster, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = cluster.nodes[1]
    monkeypatch.setattr(node.signing, "_places", Places(PLACES))
    bodies = []
    for _ in range(3 * PLACES):
        held = new_key()
        statement = await new_statement(cluster, held.public)
        bodies.append(login_body(held, statement, prove(Account.create(), statement)))
    callers = [asyncio.create_task(cluster.post(1, "/v1/sessions", body)) for body in bodies]
    waiting = set(callers)
    while len(waiting) > PLACES // SHARE:
        _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for caller in waiting:
        caller.cancel()
    assert len(node.signing._places) == PLACES // SHARE
    assert node.signing._places.free == 1
    async with cluster.client() as client:
        for number in range(5):
            await client.sign_message(key, f"{number} beside them")
