"""What one node tries with what users show it, and a stranger with what he saw of others."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import aiohttp
from eth_account import Account

from hostile import words
from hostile.attack import NODE, STRANGER, Outcome, trick
from hostile.scene import Scene, Target, http_from, new_session, new_statement, newest_block, say, wallet_proof, word
from keyquorum.client import AsyncClient
from keyquorum.client.errors import KeyquorumError

EVIL = 1
TURNS = 4
CHAIN_AHEAD = 100
Meddle = Callable[[aiohttp.ClientSession, str, Any], Coroutine[Any, Any, None]]


@contextlib.asynccontextmanager
async def evil_node(client: AsyncClient, target: Target, meddle: Meddle) -> AsyncIterator[None]:
    """Node 1 answers this client nothing; with each request that it sees for the first time it does what it likes."""
    transport: Any = client._fanout._transport
    honest, seen, tasks = transport.post, set(), set()
    async with http_from("127.0.0.3") as http:

        async def post(url: str, body: bytes, shape: Any) -> Any:
            if not url.startswith(target.nodes[EVIL]):
                return await honest(url, body, shape)
            asked = json.loads(body)
            if (name := asked.get("request", "")) not in seen:
                seen.add(name)
                task = asyncio.create_task(meddle(http, url.removeprefix(target.nodes[EVIL]), asked))
                tasks.add(task)
            return await asyncio.sleep(3600)

        transport.post = post
        try:
            yield
        finally:
            transport.post = honest
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _signs(scene: Scene, meddle: Meddle) -> tuple[list[float], list[str]]:
    """Sign some messages in front of an evil node; return how long each took, and what failed."""
    took, failed = [], []
    async with scene.net.client(timeout=30.0) as client:
        await client.sign_message(scene.key, "before")
        async with evil_node(client, scene.target, meddle):
            for turn in range(TURNS):
                began = time.perf_counter()
                try:
                    await client.sign_message(scene.key, f"turn {turn}")
                except KeyquorumError as error:
                    failed.append(str(error))
                took.append(time.perf_counter() - began)
    return took, failed


def _verdict(took: list[float], failed: list[str]) -> Outcome:
    words_ = ", ".join(f"{seconds:.2f} s" for seconds in took)
    return Outcome(bool(failed), f"{len(failed)} of {len(took)} void ({words_}) {'; '.join(failed[:1])}".rstrip())


@trick(NODE, "says nothing")
async def silence(scene: Scene) -> Outcome:
    """The control: a node that is merely silent."""

    async def nothing(*_: Any) -> None:
        pass

    return _verdict(*await _signs(scene, nothing))


@trick(NODE, "uses up the attempts of a request that it sees")
async def burnt_attempts(scene: Scene) -> Outcome:
    """It shows the request to the others in every run that it can name, with itself in it, and stays silent there."""

    async def burn(http: aiohttp.ClientSession, path: str, asked: Any) -> None:
        urls = [(party, url) for party, url in scene.target.nodes.items() if party != EVIL]
        bodies = list(words.other_runs(scene.target, asked, EVIL))
        await asyncio.gather(*(say(http, url + path, body) for (_, url), body in itertools.product(urls, bodies)))

    return _verdict(*await _signs(scene, burn))


@trick(NODE, "shows a login that it sees as its own, first")
async def stolen_login(scene: Scene) -> Outcome:
    """It answers nothing, and asks the others with the same statement and a proof by its own wallet."""
    mallory = Account.create()
    answers: list[str] = []

    async def poison(http: aiohttp.ClientSession, path: str, asked: Any) -> None:
        for party, url in scene.target.nodes.items():
            if party != EVIL:
                bodies = words.with_another_proof(asked, mallory)
                answers.extend([word(*await say(http, url + path, body)) for body in bodies])

    took, failed = [], []
    for _ in range(3):
        async with scene.net.client(account=Account.create(), timeout=30.0) as client:
            await client._network_key()
            async with evil_node(client, scene.target, poison):
                began = time.perf_counter()
                try:
                    await client.login()
                except KeyquorumError as error:
                    failed.append(str(error))
                took.append(time.perf_counter() - began)
    return _verdict(took, failed)


async def _session(scene: Scene, account: Any) -> Any:
    async with scene.net.client(account=account, timeout=20.0, scopes=[2]) as client:
        return await client.login()


@trick(STRANGER, "ends a session whose certificate he saw")
async def ended_session(scene: Scene) -> Outcome:
    """He adds his wallet to it, if he can, lists it as his, and revokes it."""
    victim, mallory = Account.create(), Account.create()
    session = await _session(scene, victim)
    async with http_from("127.0.0.3") as http:
        block = await newest_block(http, scene.target)
        own = new_session()
        statement = new_statement(
            scene.target, own, block, scopes=session.scopes, expires=session.expires, uses=session.uses
        )
        joined = []
        for body in words.step_ups(session, statement, own, mallory):
            asked = [scene.target.nodes[party] + "/v1/sessions" for party in range(1, words.needed(scene.target) + 1)]
            joined += [word(*answer) for answer in await asyncio.gather(*(say(http, url, body) for url in asked))]
    mine = await _session(scene, mallory)
    async with scene.net.client(session=mine, timeout=20.0) as client:
        listed = [one.id for one in await client.sessions.list()]
        try:
            await client.sessions.revoke(session.id)
            ended = True
        except KeyquorumError:
            ended = False
    got = [f"step-up: {', '.join(sorted(set(joined)))}"]
    got += ["listed it"] * (session.id in listed) + ["ended it"] * ended
    return Outcome(ended or session.id in listed or "ok" in joined, "; ".join(got))


@trick(STRANGER, "dates a stolen proof ahead of its revocation")
async def dated_ahead(scene: Scene) -> Outcome:
    """He has a wallet's signature whose time is a minute ahead; the owner revokes her identity now.

    The chain's clock is ahead of everybody's, which must help nobody: her own next login holds.
    """
    victim = Account.create()
    await scene.rpc.call("evm_increaseTime", CHAIN_AHEAD)
    await scene.rpc.call("evm_mine")

    async def ahead(statement: Any) -> Any:
        return wallet_proof(victim, statement, int(time.time()) + 58)

    async with (
        scene.net.client(account=None, timeout=20.0) as thief,
        scene.net.client(account=victim, timeout=20.0, scopes=[2]) as owner,
    ):
        try:
            await thief.login_with("siwe", ahead, scopes=[2])
        except KeyquorumError as error:
            return Outcome(False, f"refused: {error}"[:100])
        await owner.login()
        await owner.sessions.revoke_all()
        await owner.login()
        await owner.sessions.list()
        try:
            await thief.sessions.list()
        except KeyquorumError as error:
            return Outcome(False, f"ended with the others: {error}"[:100])
    return Outcome(True, "his session goes on after the revocation")
