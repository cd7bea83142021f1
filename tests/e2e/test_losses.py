"""Nodes die (SIGKILL) at any moment, all at once, and for good; what was promised still holds.

The tests share one network and run in this order: what one leaves is what the next starts with. The last one searches
everything that the network left behind for its secrets.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from live import Live, check_message, sign_soon, until
from secrets_search import search_and_stop

from keyquorum.cli.local_network import LocalNetwork
from keyquorum.client import AsyncClient, KeyquorumError, Unavailable
from keyquorum.client.results import Key, Signed

SIGNATURES, KILLS = 200, 4
SLOWEST_SECONDS = 20.0
RESTART_SECONDS = 60.0
EVER_SEEN: dict[str, Key] = {}


def remember(*keys: Key) -> None:
    EVER_SEEN.update({f"0x{key.token_id:064x}": key for key in keys})


@dataclass
class Done:
    key: Key
    text: str
    signed: Signed
    seconds: float


async def states(live: Live) -> set[str]:
    """The state of every key that was ever minted, at every node."""
    asked = [live.ask("GET", f"{url}/v1/keys/{name}") for url in live.network.nodes.values() for name in EVER_SEEN]
    return {str(answer.get("state", answer)) for _, answer in await asyncio.gather(*asked)}


async def signs_with(live: Live, party: int, key: Key) -> float:
    """Sign until `party` took part; return how long that took. Each try is a new client: no bad memories of anybody."""
    start = time.monotonic()
    while time.monotonic() - start < RESTART_SECONDS:
        async with live.network.client(session=live.client.session) as client:
            with contextlib.suppress(KeyquorumError):
                if party in (await client.sign_message(key, "are you back?")).signers:
                    return time.monotonic() - start
        await asyncio.sleep(0.1)
    raise AssertionError(f"node {party} does not sign again")


async def reaper(live: Live, rng: random.Random, killed: list[int]) -> None:
    """Kill a random node at a random moment, start it again, wait until the network is whole; again and again."""
    while True:
        await asyncio.sleep(rng.uniform(0.05, 0.8))
        party = rng.randrange(1, live.network.n + 1)
        await live.network.kill_node(party)
        killed.append(party)
        await asyncio.sleep(rng.uniform(0.0, 0.6))
        await live.network.restart_node(party)
        await live.whole()


async def signer(client: AsyncClient, keys: list[Key], going: Callable[[], bool], rng: random.Random) -> list[Done]:
    """Sign one text after the other; a call that fails, or takes longer than the client's patience, ends the test."""
    done: list[Done] = []
    while going():
        key, text, start = rng.choice(keys), f"{rng.random()}", time.monotonic()
        signed = await client.sign_message(key, text)
        done.append(Done(key, text, signed, time.monotonic() - start))
        await asyncio.sleep(rng.uniform(0, 0.2))
    return done


async def kill_and_sign(live: Live, signatures: int, kills: int, seed: int) -> None:
    keys = [(await live.client.mint()).key for _ in range(3)]
    remember(*keys)
    killed: list[int] = []
    rng, begun = random.Random(seed), itertools.count()

    def going() -> bool:
        return next(begun) < signatures or len(killed) < kills

    async with live.network.client(timeout=SLOWEST_SECONDS) as client:
        await client.login()
        killing = asyncio.create_task(reaper(live, rng, killed))
        try:
            signing = [signer(client, keys, going, random.Random(f"{seed} {n}")) for n in range(3)]
            done = list(itertools.chain(*await asyncio.gather(*signing)))
        finally:
            killing.cancel()
            await asyncio.gather(killing, return_exceptions=True)
    assert len(done) >= signatures
    for each in done:
        check_message(each.key, each.text, each.signed)
    assert len({each.signed.r for each in done}) == len(done), "no R is ever used twice (I1)"
    for party in live.network.nodes:
        await live.network.restart_node(party)
    await live.whole()

    last = rng.randrange(1, live.network.n + 1)
    await live.network.kill_node(last)
    await live.network.restart_node(last)
    back = await signs_with(live, last, keys[0])
    await live.whole()
    assert await states(live) == {"active"}
    slowest = max(each.seconds for each in done)
    print(f"\n{len(done)} signatures, killed {killed}, slowest {slowest:.2f} s; node {last} back after {back:.1f} s")


async def test_no_signature_is_lost_while_nodes_are_killed(worn: Live) -> None:
    await kill_and_sign(worn, SIGNATURES, KILLS, seed=7)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(3))
async def test_no_signature_is_lost_in_a_long_run_of_kills(worn: Live, seed: int) -> None:
    await kill_and_sign(worn, 2000, 100, seed)


async def test_after_all_nodes_were_killed_at_once_the_same_keys_sign(worn: Live) -> None:
    network = worn.network
    await asyncio.gather(*(network.kill_node(party) for party in network.nodes))
    with pytest.raises(Unavailable, match="3 are needed"):
        await worn.client.sign_message(next(iter(EVER_SEEN.values())), "anybody?")
    await asyncio.gather(*(network.restart_node(party) for party in network.nodes))
    await worn.whole()
    for key in EVER_SEEN.values():
        check_message(key, "back", await sign_soon(worn.client, key, "back"))
    assert await states(worn) == {"active"}


async def test_a_stopped_network_comes_back_from_its_folder_with_its_keys(worn: Live) -> None:
    keys, status = await worn.client.keys(), await worn.client.network()
    await worn.close()
    await worn.network.stop()
    worn.network = LocalNetwork(worn.network.folder, 4)
    await worn.network.start()
    await worn.open()
    assert await worn.client.keys() == keys
    assert {f"0x{key.token_id:064x}" for key in keys} == set(EVER_SEEN)
    again = await worn.client.network()
    for name in ("network", "network_key", "contracts", "epoch"):
        assert again.facts[name] == status.facts[name]
    for key in keys:
        check_message(key, "again", await sign_soon(worn.client, key, "again"))
    assert await states(worn) == {"active"}
    remember((await worn.client.mint()).key)


async def test_with_too_few_nodes_nothing_is_signed_and_nothing_is_spent(worn: Live) -> None:
    """T23, scaled: n - t nodes down, one more, then all back."""
    network, key = worn.network, next(iter(EVER_SEEN.values()))
    await network.kill_node(1)
    check_message(key, "one down", await sign_soon(worn.client, key, "one down"))
    await network.kill_node(3)
    before = await stock_of(worn, 2, 4)
    for ask in (worn.client, through_gateway := network.client(through_gateway=True)):
        if ask is through_gateway:
            await ask.connect()
            ask.use_session(worn.client.session)  # type: ignore[arg-type]
        for _ in range(3):
            start = time.monotonic()
            with pytest.raises(Unavailable) as refused:
                await ask.sign_message(key, "two down")
            assert time.monotonic() - start < SLOWEST_SECONDS / 2
            assert "2 of 4" in refused.value.message and "3 are needed" in refused.value.message
            assert refused.value.hint
    await through_gateway.close()
    after = await stock_of(worn, 2, 4)
    assert all(after[party] >= before[party] for party in before), "made meanwhile, perhaps; spent, no"
    for party in (1, 3):
        await network.restart_node(party)
    await worn.whole()
    for party in network.nodes:
        await signs_with(worn, party, key)
    assert await states(worn) == {"active"}


async def stock_of(live: Live, *parties: int) -> dict[int, float]:
    """Unspent correlations of some nodes, once they stand still and know that the others are gone."""

    async def alone() -> bool:
        return all([await live.metric(party, "peers_up") == len(parties) - 1 for party in parties])

    await until(alone)
    before: dict[int, float] = {}
    while (now := {party: await live.metric(party, "correlations") for party in parties}) != before:
        before = now
        await asyncio.sleep(0.4)
    return now


async def test_no_secret_is_in_what_a_killed_network_leaves_behind(worn: Live) -> None:
    """T50. The nodes die by SIGKILL, so that their write-ahead logs are still there."""
    other = await worn.network.client().__aenter__()
    session = await other.login()
    await other.close()
    worn.canaries["session of another login"] = session.key.secret_bytes()
    for url in (worn.network.nodes[1], worn.network.gateway_url):
        await worn.ask("POST", url + "/v1/sign", json={"certificate": session.certificate, "request": "x"})
    assert worn.errors
    for party in worn.network.nodes:
        await worn.network.kill_node(party)
    assert any(path.name.endswith("-wal") for path in worn.network.folder.rglob("node-*/data/*"))
    await search_and_stop(worn)
