"""One node of four cheats, in every place where it can: users get their signature from the others, or an honest no."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from test_signing import ask_all, body_for

from cluster import Cluster, replaced
from keyquorum import intents
from keyquorum.algebra.field import Q
from keyquorum.node.app import Node
from keyquorum.node.keymaking.minting_notices import Ask, Proposal, Start
from keyquorum.rounds.session import Envelope

CHEAT = 2


def tampering(node: Node, change: Callable[[int, Envelope], Envelope | None]) -> Callable[[int, Envelope], bool]:
    """A `send` for the node's runner that changes what goes out, or swallows it."""
    honest = node._runner._send

    def send(peer: int, envelope: Envelope) -> bool:
        changed = change(peer, envelope)
        return True if changed is None else honest(peer, changed)

    return send


def flip(envelope: Envelope, at: int) -> Envelope:
    payload = bytearray(envelope.payload)
    payload[at] ^= 1
    return dataclasses.replace(envelope, payload=bytes(payload))


async def signed_by_others(cluster: Cluster, key: Any, text: str) -> None:
    """A client gets its signature although one node cheats; that node is not among the signers."""
    async with cluster.client() as client:
        for k in range(4):
            assert CHEAT not in (await client.sign_message(key, f"{text} {k}")).signers


@pytest.mark.parametrize(("name", "at"), [
    ("the opening", 0), ("the salt", 65), ("pk", 97 + 1), ("Gamma_u", 97 + 65 + 1), ("D_u", 97 + 3 * 65 + 32),
    ("D_v", 97 + 3 * 65 + 64),
])  # fmt: skip
async def test_a_wrong_message_of_round_two_is_blamed_and_the_others_sign(
    cluster: Cluster, key: Any, name: str, at: int
) -> None:
    cheat = cluster.nodes[CHEAT]

    def change(_: int, envelope: Envelope) -> Envelope:
        return flip(envelope, at) if envelope.round == 2 and len(envelope.payload) < 1000 else envelope

    with replaced(cheat._runner, "_send", tampering(cheat, change)):
        body = await body_for(cluster, key, intents.message_intent(name))
        for party, (status, answer) in zip([1, 2, 3], await ask_all(cluster, body), strict=True):
            if party != CHEAT:
                assert status == 503, answer
                assert answer["error"]["parties"] == [CHEAT], answer
        await signed_by_others(cluster, key, name)


async def test_different_commitments_to_different_nodes_end_the_run(cluster: Cluster, key: Any) -> None:
    cheat = cluster.nodes[CHEAT]

    def change(peer: int, envelope: Envelope) -> Envelope:
        return flip(envelope, 0) if envelope.round == 1 and envelope.to is None and peer == 3 else envelope

    with replaced(cheat._runner, "_send", tampering(cheat, change)):
        body = await body_for(cluster, key, intents.message_intent("equivocation"))
        answers = await ask_all(cluster, body)
    assert all(status == 503 for status, _ in answers), answers


@pytest.mark.parametrize("lie", ["w", "u", "R", "summary", "digest", "party", "nonsense"])
async def test_a_lying_answer_never_reaches_the_user(cluster: Cluster, key: Any, lie: str) -> None:
    cheat = cluster.nodes[CHEAT]
    honest = cheat.signing.sign

    async def sign(body: bytes, max_body: int) -> dict[str, Any]:
        answer = await honest(body, max_body)
        share = dict(answer["share"])
        if lie in ("w", "u"):
            share[lie] = f"0x{(int(share[lie], 16) + 1) % Q:064x}"
        elif lie == "R":
            share["R"] = (
                "0x" + cheat.signing._keys.load(bytes.fromhex(f"{key.token_id:064x}")).public_key.to_bytes().hex()
            )
        elif lie == "party":
            share["party"] = 3
        elif lie == "nonsense":
            return {"hello": "world"}
        else:
            answer[lie] = "0x" + "00" * 32
        return answer | {"share": share}

    with replaced(cheat.signing, "sign", sign):
        await signed_by_others(cluster, key, lie)


async def test_a_node_that_says_nothing_is_left_out(cluster: Cluster, key: Any) -> None:
    cheat = cluster.nodes[CHEAT]
    with replaced(cheat._runner, "_send", tampering(cheat, lambda *_: None)):
        await signed_by_others(cluster, key, "silence")


async def test_a_node_that_is_gone_is_left_out_and_comes_back_with_its_keys(cluster: Cluster, key: Any) -> None:
    await cluster.stop_node(CHEAT)
    try:
        await signed_by_others(cluster, key, "gone")
    finally:
        await cluster.start_node(CHEAT)
    await cluster.ready()
    body = await body_for(cluster, key, intents.message_intent("back again"))
    assert [status for status, _ in await ask_all(cluster, body)] == [200] * 3


async def test_too_few_nodes_sign_nothing_and_say_so(cluster: Cluster, key: Any) -> None:
    from keyquorum.client.errors import Unavailable

    for party in (1, 2):
        await cluster.stop_node(party)
    try:
        async with cluster.client(timeout=3.0) as client:
            with pytest.raises(Unavailable):
                await client.sign_message(key, "two are not enough")
    finally:
        for party in (1, 2):
            await cluster.start_node(party)
        await cluster.ready()


# -- key making ---------------------------------------------------------------------------------------------------


def notices(node: Node) -> list[tuple[int, str]]:
    """Record what a node answers to notices."""
    sent: list[tuple[int, str]] = []
    honest = node._minting.shop.notify

    def notify(peer: int, topic: str, reference: bytes, payload: bytes) -> bool:
        sent.append((peer, topic))
        return honest(peer, topic, reference, payload)

    node._minting.shop.notify = notify
    return sent


@pytest.mark.parametrize(("leader", "proposal", "accepted"), [
    (1, Proposal("pool", 4, 1), True),
    (3, Proposal("pool", 4, 1), False),
    (1, Proposal("pool", 4, 2), False),
    (1, Proposal("other", 4, 1), False),
    (1, Proposal("pool", 0, 1), False),
    (1, Proposal("pool", 100_000, 1), False),
    (1, Proposal("network", 2, 1), False),
])  # fmt: skip
async def test_only_the_leaders_sensible_proposals_are_accepted(
    cluster: Cluster, leader: int, proposal: Proposal, accepted: bool
) -> None:
    node = cluster.nodes[4]
    sent = notices(node)
    node._minting.on_notice(leader, "dkg/propose", b"r" * 16, msgspec.msgpack.encode(proposal))
    await asyncio.sleep(0.1)
    assert bool(sent) == accepted


async def test_a_start_without_ones_own_nonce_is_ignored(cluster: Cluster) -> None:
    node = cluster.nodes[4]
    proposal = Proposal("pool", 4, 1)
    node._minting.on_notice(1, "dkg/propose", b"s" * 16, msgspec.msgpack.encode(proposal))
    foreign = Start(proposal, {j: bytes([j]) * 32 for j in (1, 2, 3, 4)})
    node._minting.on_notice(1, "dkg/start", b"s" * 16, msgspec.msgpack.encode(foreign))
    assert node._minting.ceremonies._joined is None or node._minting.ceremonies._joined.done()


@pytest.mark.parametrize("payload", [b"", b"\x93", msgspec.msgpack.encode(["pool", "4", 1]), b"\xc1" * 40])
async def test_a_malformed_notice_is_ignored(cluster: Cluster, payload: bytes) -> None:
    for topic in ("dkg/propose", "dkg/start", "certify/ask", "certify/share", "else"):
        cluster.nodes[4]._minting.on_notice(1, topic, b"t" * 16, payload)


async def test_a_batch_that_was_not_confirmed_is_not_certified(cluster: Cluster) -> None:
    node = cluster.nodes[4]
    with pytest.raises(ValueError, match="did not confirm"):
        await node._minting.certification.sign_batch(b"u" * 32, Ask(1, [1, 2, 4], b"n" * 16))


async def test_a_confirmed_batch_is_certified_only_as_the_next_one(cluster: Cluster) -> None:
    node = cluster.nodes[4]
    waiting = replaced(node._keys, "waiting_batch", lambda *_: [b"\x04" * 65])
    with waiting, pytest.raises(ValueError, match="not next"):
        await node._minting.certification.sign_batch(b"v" * 32, Ask(999, [1, 2, 4], b"n" * 16))


async def test_key_generation_with_a_cheat_leaves_no_usable_key(cluster: Cluster) -> None:
    cheat = cluster.nodes[3]
    before = {party: set(node._store.markers("confirmed/")) for party, node in cluster.nodes.items()}

    def change(peer: int, envelope: Envelope) -> Envelope:
        private = envelope.round == 2 and envelope.to is not None
        return flip(envelope, len(envelope.payload) - 1) if private and peer == 4 else envelope

    leader = cluster.nodes[1]._minting.ceremonies
    with replaced(cheat._runner, "_send", tampering(cheat, change)), replaced(leader, "_seconds", 3.0):
        with pytest.raises(Exception, match=r"part|answer"):
            await leader.lead("pool", 2)
        await asyncio.sleep(0.5)
    assert {party: set(node._store.markers("confirmed/")) for party, node in cluster.nodes.items()} == before


async def test_keys_are_made_registered_and_signed_with_by_any_three(cluster: Cluster) -> None:
    leader = cluster.nodes[1]._minting.ceremonies
    before = await cluster.deployment.bind(cluster.rpc, "PubkeyRouter").read("nextBatch")
    await leader.lead("pool", 3)
    async with asyncio.timeout(20):
        while await cluster.deployment.bind(cluster.rpc, "PubkeyRouter").read("nextBatch") == before:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
