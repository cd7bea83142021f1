"""What takes something away returns when the nodes have seen it; what only gives does not wait."""

from __future__ import annotations

import pytest

from fake_network import FakeNetwork
from keyquorum.client import AsyncClient, Key, seen
from keyquorum.client.committee import Committee
from keyquorum.client.results import Node
from keyquorum.client.seen import Change

FRIEND = b"\x77" * 20


def blind(network: FakeNetwork, answers: int, *parties: int) -> None:
    """Let nodes not know the newest block in their next answers."""
    for party in parties:
        network.nodes[party].blind = answers


async def test_a_removal_returns_when_every_node_has_seen_it(
    client: AsyncClient, network: FakeNetwork, key: Key
) -> None:
    await client.permissions.add(key, 1, FRIEND, [1, 2])
    for call in (
        lambda: client.permissions.remove_scope(key, 1, FRIEND, 2),
        lambda: client.permissions.remove(key, 1, FRIEND),
        lambda: client.permissions.set_delay(key, 1),
        lambda: client.sessions.revoke_key(key),
    ):
        network.reset()
        blind(network, 3, 2)
        done = await call()
        assert (done.seen_by, done.settled) == ((1, 2, 3, 4), True)
        assert network.nodes[2].asked_for_blocks == 4 and network.nodes[1].asked_for_blocks == 1


async def test_a_transfer_waits_too(client: AsyncClient, network: FakeNetwork, key: Key) -> None:
    blind(network, 2, 1, 2, 3, 4)
    done = await client.transfer(key, network.stranger.address)
    assert done.settled and done.startswith("0x") and len(done) == 66
    assert {node.asked_for_blocks for node in network.nodes.values()} == {3}


async def test_a_node_that_says_it_lags_for_ever_holds_up_only_a_moment(
    client: AsyncClient, network: FakeNetwork, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "STRAGGLER_SECONDS", 0.0)
    await client.permissions.add(key, 1, FRIEND, [1])
    network.set("behind", 3)
    done = await client.permissions.remove(key, 1, FRIEND)
    assert (done.seen_by, done.settled) == ((1, 2, 4), True)


async def test_what_cannot_be_confirmed_is_done_and_says_so(
    client: AsyncClient, network: FakeNetwork, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.permissions.add(key, 1, FRIEND, [1])
    monkeypatch.setattr(seen.until_seen, "__defaults__", (0.0,))
    network.set("behind", 1, 2, 3)
    done = await client.permissions.remove(key, 1, FRIEND)
    assert (done.seen_by, done.settled) == ((4,), False)
    assert done.to_json() == {"transaction": str(done), "settled": False}
    assert not await client.permissions.list(key)


async def test_nodes_that_are_away_hold_up_nobody(client: AsyncClient, network: FakeNetwork, key: Key) -> None:
    await client.permissions.add(key, 1, FRIEND, [1])
    network.stop_nodes(1)
    done = await client.permissions.remove(key, 1, FRIEND)
    assert (done.seen_by, done.settled) == ((2, 3, 4), True)


async def test_what_only_gives_asks_no_node(client: AsyncClient, network: FakeNetwork, key: Key) -> None:
    network.reset()
    done = await client.permissions.add(key, 1, FRIEND, [1])
    assert (done.seen_by, done.settled) == ((), None)
    assert done.to_json() == {"transaction": str(done)}
    assert not any(node.asked_for_blocks for node in network.nodes.values())


@pytest.mark.parametrize(("n", "t"), [(2, 2), (4, 3), (7, 5), (10, 7)])
def test_it_is_settled_when_fewer_than_t_have_not_seen_it(n: int, t: int) -> None:
    committee = Committee(tuple(Node(party, "") for party in range(1, n + 1)), t)
    for count in range(n + 1):
        assert Change("0x").spread(set(range(1, count + 1)), committee).settled is (n - count < t)
