"""Four nodes that sign receipts, a Discord-shaped provider, a person who logs in: all but the network itself."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from keyquorum.auth.commitment import Commitment, Receipt
from keyquorum.auth.discord import DiscordSettings
from keyquorum.auth.method import Committee, Context, Proven, method
from keyquorum.auth.statement import Statement
from keyquorum.client import discord
from keyquorum.client.discord import DiscordLogin
from keyquorum.client.fanout import Committee as Nodes
from keyquorum.client.results import Node
from keyquorum.client.transport import Transport
from keyquorum.evm.address import address_of_private
from keyquorum.formats.strict_json import loads
from keyquorum.node.services.providers import Providers
from keyquorum.node.settings.auth_settings import origins
from provider_kit import Discord, Person

N, T, EPOCH = 4, 3, 5


def secret(party: int) -> bytes:
    return (party + 100).to_bytes(32, "big")


@dataclass
class Signer:
    """A node's `POST /v1/commitments`: the first binding of each token, and what it was shown."""

    party: int
    shown: list[bytes] = field(default_factory=list)
    bound: dict[bytes, bytes] = field(default_factory=dict)

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.shown.append(body)
        commitment = Commitment.from_json(loads(body, 1 << 16))
        if self.bound.setdefault(commitment.token_digest, commitment.binding) != commitment.binding:
            error = {
                "code": "token_committed",
                "message": "this token was committed to before",
                "hint": "get a new one",
            }
            return web.json_response({"error": error}, status=409)
        receipt = Receipt.sign(commitment, EPOCH, self.party, int(time.time()), secret(self.party))
        return web.json_response({"receipt": receipt.to_json()})


class World:
    """Four nodes, Discord, and what the chain says of the nodes."""

    def __init__(self, provider: Discord, stack: AsyncExitStack) -> None:
        self.provider = provider
        self.stack = stack
        self.signers = [Signer(party) for party in range(1, N + 1)]
        self.urls: dict[int, str] = {}
        self.runners: dict[int, web.AppRunner] = {}
        self.transport = Transport()
        self.committee = Committee({one.party: address_of_private(secret(one.party)) for one in self.signers}, T, EPOCH)
        self.settings = DiscordSettings(provider.application, provider.url + "/api/v10")
        self.fetch = Providers(origins({"discord": self.settings}))
        self.login = DiscordLogin(provider.application, provider.url)

    async def start(self) -> None:
        for signer in self.signers:
            app = web.Application()
            app.router.add_post("/v1/commitments", signer.answer)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.stack.push_async_callback(runner.cleanup)
            self.runners[signer.party] = runner
            self.urls[signer.party] = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self.stack.push_async_callback(self.transport.close)
        self.stack.push_async_callback(self.fetch.close)

    @property
    def nodes(self) -> Nodes:
        return Nodes(tuple(Node(party, url) for party, url in self.urls.items()), T, EPOCH)

    async def log_in(self, statement: Statement, person: Person | None = None, **changes: Any) -> dict[str, Any]:
        person = person or Person()
        gather = changes.pop("gather", None) or discord.from_nodes(self.nodes, self.transport)
        login = changes.pop("login", self.login)
        proof = await discord.log_in(login, statement, person.open_url, gather, self.committee, seconds=30)
        await person.done()
        return proof

    async def verify(self, proof: object, statement: Statement) -> Proven:
        context = Context(
            int(time.time()),
            fetch=self.fetch,
            conceal=lambda kind, name: bytes([kind]) + name,
            settings=self.settings,
            committee=self.committee,
        )
        return await method("discord").verify(proof, statement, context)
