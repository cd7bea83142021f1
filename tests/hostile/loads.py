"""Strangers without a login who make the servers work: bounded in number and time, from loopback addresses.

Each load returns what it was answered, by word. Bodies are made before the clock starts where that costs the stranger
much, because a real one would prepare them too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from eth_account import Account

from hostile import words
from hostile.attack import STRANGER, load
from hostile.scene import Target, http_from, new_session, new_statement, newest_block, say, wallet_proof, word

IN_FLIGHT = 200
TWO_NODES = (1, 2)
PATIENCE = 20.0


async def at_a_rate(per_second: float, seconds: float) -> AsyncIterator[int]:
    """Yield numbers, so many a second."""
    began, number = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        yield number
        number += 1
        await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))


async def pour(per_second: float, seconds: float, one: Callable[[int], Awaitable[str]]) -> Counter[str]:
    """Do `one(number)` so many times a second, a bounded number at a time; count what each returned."""
    answers: Counter[str] = Counter()
    flying: set[asyncio.Task[None]] = set()

    async def count(number: int) -> None:
        try:
            answers[await one(number)] += 1
        except Exception as error:  # a stranger that breaks is not a stranger that was refused
            answers[f"BROKEN {type(error).__name__} {error}"[:80]] += 1

    async for number in at_a_rate(per_second, seconds):
        if len(flying) < IN_FLIGHT:
            task = asyncio.create_task(count(number))
            flying.add(task)
            task.add_done_callback(flying.discard)
    await asyncio.gather(*flying)
    return answers


async def raw(url: str, data: bytes, source: str, patience: float = PATIENCE) -> str:
    """Send bytes on a connection of their own; return the code of the answer in one word."""
    where = urlsplit(url)
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection(where.hostname, where.port, local_addr=(source, 0))
            try:
                writer.write(data)
                await writer.drain()
                answer = (await reader.read(600)).decode(errors="replace")
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError) as error:
        return type(error).__name__
    return answer.split('code":"')[1].split('"')[0] if 'code":"' in answer else answer[9:12] or "closed"


def posted(path: str, body: bytes | dict[str, Any]) -> bytes:
    """Return a POST as bytes."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@load(STRANGER, "junk JSON before any check")
async def junk_json(target: Target, sources: list[str], seconds: float) -> Counter[str]:
    """Eight bodies a second from each address, nearly a MiB of numbers each, at two nodes."""
    request = posted("/v1/sign", b'{"z":[' + b"1," * 524_000 + b"1]}")

    async def one(number: int) -> str:
        node = TWO_NODES[number % 2]
        return await raw(target.nodes[node], request, sources[number % len(sources)])

    return await pour(8.0 * len(sources), seconds, one)


@load(STRANGER, "idle connections")
async def idle_connections(target: Target, sources: list[str], seconds: float) -> Counter[str]:
    """128 kept-alive connections of each address at each of two nodes, each asked once and then left."""
    answers: Counter[str] = Counter()
    held: list[asyncio.StreamWriter] = []

    async def hold(node: int, source: str) -> None:
        where = urlsplit(target.nodes[node])
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection(where.hostname, where.port, local_addr=(source, 0))
                held.append(writer)
                writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                answers["held" if await reader.read(500) else "closed"] += 1
        except (OSError, TimeoutError) as error:
            answers[type(error).__name__] += 1

    await asyncio.gather(*(hold(node, source) for node in TWO_NODES for source in sources for _ in range(128)))
    await asyncio.sleep(seconds)
    for writer in held:
        writer.transport.abort()
    return answers


@load(STRANGER, "headers that never end")
async def endless_headers(target: Target, sources: list[str], seconds: float) -> Counter[str]:
    """Half-sent requests at every node, renewed as they are closed."""

    async def one(number: int) -> str:
        node = 1 + number % len(target.nodes)
        half = b"POST /v1/sign HTTP/1.1\r\nHost: x\r\nX-Slow: "
        return await raw(target.nodes[node], half, sources[number % len(sources)], patience=seconds)

    return await pour(50.0 * len(sources), seconds, one)


@load(STRANGER, "readiness asked without a pause")
async def readiness(target: Target, sources: list[str], seconds: float) -> Counter[str]:
    """Eight connections of each address ask /readyz and /metrics of two nodes, again and again."""
    answers: Counter[str] = Counter()
    end = time.monotonic() + seconds

    async def ask(source: str, node: int) -> None:
        async with http_from(source) as http:
            while time.monotonic() < end:
                for path in ("/readyz", "/metrics"):
                    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                        async with http.get(target.nodes[node] + path) as response:
                            await response.read()
                            answers[str(response.status)] += 1
                await asyncio.sleep(0.02)

    await asyncio.gather(*(ask(source, TWO_NODES[i % 2]) for source in sources for i in range(8)))
    return answers


@load(STRANGER, "logins shown to one node alone")
async def lonely_logins(target: Target, sources: list[str], seconds: float) -> Counter[str]:
    """Fresh wallets log in properly, at a single node, and hang up: 130 a second in all."""
    rate = 130.0
    async with http_from(sources[0]) as http:
        block = await newest_block(http, target)
    bodies = []
    for number in range(int(rate * min(seconds, 10.0))):
        session, node = new_session(), TWO_NODES[number % 2]
        statement = new_statement(target, session, block)
        others = [party for party in target.nodes if party != node]
        proof = wallet_proof(Account.create(), statement)
        body = words.login(session, statement, proof, [sorted([node, *others[: words.needed(target) - 1]])])
        bodies.append((node, posted("/v1/sessions", body)))

    async def one(number: int) -> str:
        node, request = bodies[number % len(bodies)]
        return await raw(target.nodes[node], request, sources[number % len(sources)], patience=0.8)

    return await pour(rate, seconds, one)


@load(STRANGER, "logins that name unknown blocks")
async def unknown_blocks(target: Target, sources: list[str], seconds: float) -> Counter[str]:
    """Well-formed logins whose block nobody knows: each may cost a look-up at the chain."""
    session = new_session()

    async def one(number: int) -> str:
        node = TWO_NODES[number % 2]
        statement = new_statement(target, session, "0x" + secrets.token_hex(32))
        proof = {"message": "x" * 300, "signature": "0x" + "11" * 65}
        body = words.login(session, statement, proof, [list(range(1, words.needed(target) + 1))])
        return await raw(target.nodes[node], posted("/v1/sessions", body), sources[number % len(sources)])

    return await pour(60.0 * len(sources), seconds, one)


@load(STRANGER, "contract wallets that burn their gas")
async def burning_wallets(target: Target, sources: list[str], seconds: float) -> Counter[str]:
    """A contract wallet uses all the gas it gets; logins with it, two a second from each address."""
    async with http_from(sources[0]) as http:
        wallet = await words.deploy(http, target, words.BURNER)
        block = await newest_block(http, target)
    session = new_session()

    async def one(number: int) -> str:
        statement = new_statement(target, session, block)
        body = words.login(
            session, statement, words.contract_proof(wallet, statement), [list(range(1, words.needed(target) + 1))]
        )
        node = 1 + number % words.needed(target)
        return await raw(target.nodes[node], posted("/v1/sessions", body), sources[number % len(sources)])

    return await pour(2.0 * len(sources), seconds, one)


@load(STRANGER, "mints without a login", grants=60)
async def anonymous_mints(target: Target, sources: list[str], seconds: float) -> Counter[str]:
    """Forty mints a second for owners that nobody knows, at the gateway."""
    sessions = [http_from(source) for source in sources]

    async def one(number: int) -> str:
        body = {"owner": Account.create().address, "request": secrets.token_hex(16)}
        return word(*await say(sessions[number % len(sessions)], target.gateway + "/v1/keys", body))

    try:
        return await pour(40.0, seconds, one)
    finally:
        for http in sessions:
            await http.close()


@load(STRANGER, "commitments of tokens that are none", grants=60)
async def commitments(target: Target, sources: list[str], seconds: float) -> Counter[str]:
    """Random token digests are committed at the gateway, a hundred a second from each address."""
    sessions = [http_from(source) for source in sources]
    block = await newest_block(sessions[0], target)
    statement = new_statement(target, new_session(), block).to_json()

    async def one(number: int) -> str:
        digests = {name: "0x" + secrets.token_hex(32) for name in ("token_digest", "binding")}
        body = {"method": "discord", "statement": statement} | digests
        return word(*await say(sessions[number % len(sessions)], target.gateway + "/v1/commitments", body))

    try:
        return await pour(100.0 * len(sources), seconds, one)
    finally:
        for http in sessions:
            await http.close()
