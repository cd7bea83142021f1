"""What decides a run of all nodes is in its session id, member by member: who says it otherwise is in another run."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from test_minting import POOL, World

from keyquorum.algebra.rng import SeededRng
from keyquorum.node.chain.chain_view import Membership
from keyquorum.node.chain.roster import Roster
from keyquorum.node.keymaking.ceremonies import Ceremonies
from keyquorum.node.keymaking.minting_notices import Ask, Proposal
from keyquorum.node.keymaking.workshop import NETWORK, Workshop
from rosters import members


class Seen(Exception):
    """The run was about to begin."""


NONCES = {j: bytes([j]) * 32 for j in range(1, 5)}
ROUTER = "0x" + "11" * 20


async def session_id(
    reference: bytes = b"r" * 16, purpose: str = POOL, size: int = 4, nonces: dict[int, bytes] = NONCES,
    membership: Membership | None = None, chain_id: int = 31337, router: str = ROUTER,
) -> bytes:  # fmt: skip
    """The session id of the key generation that a node would run."""
    seen: list[bytes] = []

    async def run(party: Any, protocol: Any, *_: Any, **__: Any) -> None:
        seen.append(party.sid)
        protocol.close()
        raise Seen

    nothing: Any = SimpleNamespace(run=run)
    view: Any = SimpleNamespace(chain_id=chain_id, addresses={"PubkeyRouter": router})
    roster = Roster(1, membership or members(4))
    shop = Workshop(roster, view, nothing, nothing, nothing, lambda *_: True, nothing, SeededRng("x"))
    with pytest.raises(Seen):
        await Ceremonies(shop, 1.0)._generate_and_confirm(reference, Proposal(purpose, size, 1), nonces)
    return seen[0]


async def test_every_member_of_a_key_generation_is_in_its_session_id() -> None:
    changes: list[dict[str, Any]] = [
        {}, {"reference": b"s" * 16}, {"purpose": NETWORK}, {"size": 5}, {"nonces": NONCES | {3: b"n" * 32}},
        {"membership": members(4, epoch=2)}, {"membership": replace(members(4), threshold=4)},
        {"membership": members(5), "nonces": NONCES | {5: b"\5" * 32}}, {"chain_id": 1}, {"router": "0x" + "22" * 20},
    ]  # fmt: skip
    found = [await session_id(**change) for change in changes]
    same = [(changes[i], changes[j]) for i, j in itertools.combinations(range(len(found)), 2) if found[i] == found[j]]
    assert same == []
    assert await session_id() == found[0]


async def test_a_batch_that_is_certified_again_is_signed_in_another_run() -> None:
    """Its name and the nonce of the question are what the signers agreed on; without the nonce it ran already."""
    world, agreed = World(me=2), list[bytes]()
    batches = [world.keys.confirm_batch(number) for number in (1, 2)]
    world.view.newest["nextBatch"] = world.view.answers["nextBatch"] = 7
    run = world.run_signing

    async def noted(purpose: str, key: Any, digest: bytes, payload: bytes, choice: Any) -> Any:
        agreed.append(payload)
        return await run(purpose, key, digest, payload, choice)

    world.run_signing = noted  # type: ignore[method-assign]
    for batch, nonce in ((batches[0], b"n"), (batches[0], b"m"), (batches[1], b"n"), (batches[0], b"n")):
        await world.minting.certification.sign_batch(batch, Ask(7, [1, 2, 4], nonce * 16))
    assert len(set(agreed)) == 3
    assert agreed[0] == agreed[3]
