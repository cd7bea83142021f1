"""The settings and the programs in docs/auth/ work as they stand there."""

from __future__ import annotations

import re
import time
import tomllib
import webbrowser
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from discord_kit import World
from keyquorum.auth.discord import DiscordSettings
from keyquorum.auth.method import Committee, Context, method
from keyquorum.auth.oidc import Issuer, OidcSettings
from keyquorum.client.fanout import Committee as Nodes
from keyquorum.node.services.providers import Providers
from keyquorum.node.settings.auth_settings import origins, parse
from provider_kit import USER, Discord, Person, new_statement, node_provider

DOCS = Path(__file__).parents[2] / "docs" / "auth"


def snippet(name: str, language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", (DOCS / name).read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def program(name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(compile(snippet(name, "python"), name, "exec"), found)
    return found


def test_the_settings_are_read_as_they_stand_there() -> None:
    oidc = parse(tomllib.loads(snippet("oidc.md", "toml"))["auth"])["oidc"]
    assert isinstance(oidc, OidcSettings)
    assert [issuer.name for issuer in oidc.issuers] == ["google", "apple"]
    assert oidc.issuers[0].spelled == ("https://accounts.google.com", "accounts.google.com")
    discord = parse(tomllib.loads(snippet("discord.md", "toml"))["auth"])["discord"]
    assert discord == DiscordSettings("1000000000000000001")


async def test_the_program_that_logs_in_with_google_does(monkeypatch: pytest.MonkeyPatch) -> None:
    statement, person = new_statement(), Person()
    monkeypatch.setattr(webbrowser, "open", person.open_url)
    with node_provider() as provider:
        login = {"oidc": [{"name": "google", "issuer": provider.issuer, "client_id": "public-app"}]}
        proof = await program("oidc.md")["proof_from_google"](login, statement)
        settings = OidcSettings([Issuer("google", provider.issuer, ["public-app"])])
        fetch = Providers(origins({"oidc": settings}))
        context = Context(
            int(time.time()),
            block_time=int(time.time()),
            fetch=fetch,
            conceal=lambda kind, name: name[-5:],
            settings=settings,
        )
        assert (await method("oidc").verify(proof, statement, context)).id == USER.encode()
        await fetch.close()


class Chain:
    """What the program reads from the chain."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def committee(self) -> Nodes:
        return self.world.nodes

    def contract(self, name: str) -> str:
        return name

    async def ask(self, contract: str, name: str) -> Any:
        committee: Committee = self.world.committee
        nodes = [
            SimpleNamespace(
                partyId=party,
                nodeAddress="0x" + account.hex(),
                url=f"http://127.0.0.1:{party}",
                meshHost="127.0.0.1",
                port=party,
                tlsKey=bytes(32),
            )
            for party, account in committee.accounts.items()
        ]
        answers = {"getNodes": nodes, "threshold": committee.threshold, "epoch": committee.epoch}
        assert contract == "Staking"
        return answers[name]


async def test_the_program_that_logs_in_with_discord_does(monkeypatch: pytest.MonkeyPatch) -> None:
    statement, person = new_statement(), Person()
    monkeypatch.setattr(webbrowser, "open", person.open_url)
    async with AsyncExitStack() as stack:
        world = World(await stack.enter_async_context(Discord().serve()), stack)
        await world.start()
        provider = world.provider
        login = {"discord": {"application_id": provider.application, "base_url": provider.url}}
        run = program("discord.md")["proof_from_discord"]
        proof = await run(login, statement, Chain(world), world.transport)
        assert (await world.verify(proof, statement)).id == b"\x04" + provider.users[USER].encode()
