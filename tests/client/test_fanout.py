"""The fan-out: which nodes are asked, what their answers may do, and what the caller is told."""

from __future__ import annotations

import time

import pytest

from fake_network import FakeNetwork
from keyquorum.algebra import ecdsa
from keyquorum.algebra.curve import Point
from keyquorum.client import AsyncClient, BadAnswer, Key, Refused, Timeout, Unavailable

CHEATS = [
    "garbage",
    "wrong_shape",
    "oversized",
    "redirect",
    "wrong_summary",
    "wrong_digest",
    "wrong_party",
    "wrong_share",
    "zero_u",
    "unreduced",
    "wrong_R",
    "bad_R",
]


def holds(signed, key: Key) -> bool:
    return ecdsa.recover(signed.digest, signed.r, signed.s, signed.v) == Point.from_bytes_checked(key.public_key)


async def test_good_nodes_sign_in_one_attempt(client: AsyncClient, network: FakeNetwork, key: Key) -> None:
    signed = await client.sign_message(key, "hello")
    assert holds(signed, key)
    assert signed.summary == 'signs the message "hello"'
    assert network.attempts == [(0, signed.signers)]
    assert len(signed.signers) == network.threshold


@pytest.mark.parametrize("mode", CHEATS)
async def test_one_cheating_node_does_not_keep_the_others_from_signing(
    client: AsyncClient, network: FakeNetwork, key: Key, mode: str
) -> None:
    for cheat in network.nodes:
        network.reset()
        network.set(mode, cheat)
        signed = await client.sign_message(key, f"{mode} {cheat}")
        assert holds(signed, key)
        assert cheat not in signed.signers


@pytest.mark.parametrize("mode", CHEATS)
async def test_cheating_by_all_nodes_ends_in_an_error_and_never_in_a_signature(
    client: AsyncClient, network: FakeNetwork, key: Key, mode: str
) -> None:
    network.set(mode, *network.nodes)
    with pytest.raises(BadAnswer) as caught:
        await client.sign_message(key, mode)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("mode", "word"),
    [
        ("wrong_summary", "summarises"),
        ("wrong_digest", "another digest"),
        ("wrong_party", "in the name of"),
        ("unreduced", "is none"),
        ("bad_R", "is none"),
        ("garbage", "not the documented JSON"),
        ("oversized", "more than"),
        ("redirect", "302"),
    ],
)
async def test_the_error_names_the_node_whose_own_answer_was_bad(
    client: AsyncClient, network: FakeNetwork, key: Key, mode: str, word: str
) -> None:
    network.set(mode, 1, 2, 3, 4)
    with pytest.raises(BadAnswer, match=word) as caught:
        await client.sign_message(key, "x")
    assert caught.value.party in network.nodes


async def test_a_wrong_share_names_nobody(client: AsyncClient, network: FakeNetwork, key: Key) -> None:
    network.set("wrong_share", 1, 2, 3, 4)
    with pytest.raises(BadAnswer, match="do not make a valid signature") as caught:
        await client.sign_message(key, "x")
    assert caught.value.party is None


async def test_a_dead_node_costs_one_attempt_and_is_then_left_alone(
    client: AsyncClient, network: FakeNetwork, key: Key
) -> None:
    network.stop_nodes(2)
    for round_number in range(8):
        await client.sign_message(key, f"round {round_number}")
    later = [attempt for attempt, signers in network.attempts if attempt]
    assert len(later) <= 1
    assert holds(await client.sign_message(key, "still"), key)


async def test_a_node_that_comes_back_is_asked_again(client: AsyncClient, network: FakeNetwork, key: Key) -> None:
    network.stop_nodes(2)
    while not client._fanout.book.is_down(2):
        await client.sign_message(key, "find out")
    network.reset()
    give_up = time.monotonic() + 10
    while client._fanout.book.is_down(2) and time.monotonic() < give_up:
        await client._fanout._probes[2]
    assert not client._fanout.book.is_down(2)


async def test_too_few_live_nodes_are_unavailable_at_once_with_numbers(
    client: AsyncClient, network: FakeNetwork, key: Key
) -> None:
    network.stop_nodes(1, 2)
    with pytest.raises(Unavailable, match="at most 2 of 4 nodes answer, 3 are needed") as caught:
        await client.sign_message(key, "x")
    assert (caught.value.needed, caught.value.live) == (3, 2)
    assert set(caught.value.causes) == {1, 2}


async def test_one_refusing_node_does_not_block(client: AsyncClient, network: FakeNetwork, key: Key) -> None:
    for refuser in network.nodes:
        network.reset()
        network.set("refuse", refuser)
        assert refuser not in (await client.sign_message(key, f"not {refuser}")).signers


async def test_more_than_n_minus_t_refusals_are_a_refusal_with_the_nodes_words(
    client: AsyncClient, network: FakeNetwork, key: Key
) -> None:
    network.set("refuse", 1, 2)
    with pytest.raises(Refused) as caught:
        await client.sign_message(key, "x")
    assert (caught.value.code, caught.value.message, caught.value.hint, caught.value.status) == (
        "not_permitted",
        "the key is not yours",
        "ask its owner",
        403,
    )
    assert caught.value.refused_by == (1, 2)


async def test_a_refusal_and_a_dead_node_together_are_no_quorum_and_both_are_named(
    client: AsyncClient, network: FakeNetwork, key: Key
) -> None:
    network.stop_nodes(1)
    network.set("refuse", 2)
    with pytest.raises(Unavailable) as caught:
        await client.sign_message(key, "x")
    assert caught.value.code == "no_quorum"
    assert "refused" in caught.value.causes[2]
    assert "connection" in caught.value.causes[1]


async def test_a_busy_node_is_left_out_of_the_next_attempt(client: AsyncClient, network: FakeNetwork, key: Key) -> None:
    network.set("busy", 1)
    signed = await client.sign_message(key, "x")
    assert 1 not in signed.signers


async def test_busy_nodes_are_asked_at_most_eight_times(client: AsyncClient, network: FakeNetwork, key: Key) -> None:
    network.set("busy", *network.nodes)
    with pytest.raises(Timeout):
        await client.sign(key, {"kind": "evm-message", "message": "x"}, timeout=2)
    assert all(attempt < 8 for attempt, _ in network.attempts)
    assert len(network.attempts) > 2


async def test_a_quota_that_is_used_up_is_said_at_once_and_not_asked_for_again(
    client: AsyncClient, network: FakeNetwork, key: Key
) -> None:
    network.set("limited", *network.nodes)
    with pytest.raises(Refused) as caught:
        await client.sign_message(key, "x")
    assert (caught.value.code, caught.value.status, caught.value.hint) == ("quota_exceeded", 429, "wait 3 s")
    assert len(network.attempts) <= 3
    assert not any(client._fanout.book.is_down(party) for party in network.nodes)


async def test_a_quota_used_up_at_one_node_only_is_no_reason_to_give_up(
    client: AsyncClient, network: FakeNetwork, key: Key
) -> None:
    network.set("limited", 2)
    assert 2 not in (await client.sign_message(key, "x")).signers


async def test_a_node_that_is_late_to_know_a_key_is_asked_again(
    client: AsyncClient, network: FakeNetwork, key: Key
) -> None:
    network.set("late", *network.nodes)
    assert holds(await client.sign_message(key, "x"), key)


async def test_a_frozen_node_is_found_by_its_health_page_and_left_out(
    client: AsyncClient, network: FakeNetwork, key: Key
) -> None:
    client._fanout._longest = 0.3
    network.set("frozen", 3)
    for number in range(4):
        assert 3 not in (await client.sign_message(key, f"{number}")).signers


async def test_nodes_that_never_answer_end_in_a_timeout_in_time(
    client: AsyncClient, network: FakeNetwork, key: Key
) -> None:
    client._fanout._longest = 0.2
    network.set("hang", *network.nodes)
    with pytest.raises(Timeout):
        await client.sign(key, {"kind": "evm-message", "message": "x"}, timeout=0.8)


async def test_every_attempt_uses_another_set(client: AsyncClient, network: FakeNetwork, key: Key) -> None:
    network.set("wrong_share", 1, 2, 3, 4)
    with pytest.raises(BadAnswer):
        await client.sign_message(key, "x")
    first = network.attempts[:4]
    assert len({signers for _, signers in first}) == 4


async def test_connections_are_kept(client: AsyncClient, network: FakeNetwork, key: Key) -> None:
    for node in network.nodes.values():
        node.connections.clear()
    for number in range(6):
        await client.sign_message(key, f"{number}")
    assert all(len(node.connections) <= 1 for node in network.nodes.values())


@pytest.mark.usefixtures("unhurried")
async def test_the_load_is_spread_over_all_nodes(client: AsyncClient, network: FakeNetwork, key: Key) -> None:
    for number in range(12):
        await client.sign_message(key, f"{number}")
    assert all(node.calls for node in network.nodes.values())


async def test_a_message_from_a_node_cannot_move_the_cursor_or_flood_the_screen(
    client: AsyncClient, network: FakeNetwork, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = {"error": {"code": "x" * 500, "message": "\x1b[2J" + "m" * 5000, "hint": "\r\n"}}
    monkeypatch.setattr("fake_network.REFUSAL", evil)
    network.set("refuse", *network.nodes)
    with pytest.raises(Refused) as caught:
        await client.sign_message(key, "x")
    shown = caught.value.to_json()
    assert all(text.isprintable() for text in shown.values())
    assert len(shown["message"]) <= 500
    assert len(shown["code"]) <= 64


@pytest.mark.usefixtures("unhurried")
async def test_a_node_that_is_not_ready_is_left_out_before_it_fails_anybody(network: FakeNetwork) -> None:
    network.set("unready", 2)
    async with AsyncClient(network.network, account=network.account, timeout=10) as client:
        await client._fanout.look()
        assert client._fanout.book.is_down(2)
        key = (await client.mint()).key
        for node in network.nodes.values():
            node.calls.clear()
        for number in range(12):
            await client.sign_message(key, f"{number}")
        assert not network.nodes[2].calls
        network.stop_nodes(3)  # now it is needed, ready or not
        assert holds(await client.sign_message(key, "with the one that is left"), key)


async def test_whoever_looks_at_the_network_remembers_what_it_saw(client: AsyncClient, network: FakeNetwork) -> None:
    network.set("unready", 4)
    await client.network()
    assert client._fanout.book.is_down(4)
    assert not client._fanout.book.is_down(1)
