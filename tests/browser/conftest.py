"""A whole network in this process, its gateway's page, and a real Chromium with virtual authenticators.

The network is that of `tests/cluster`: real chain, contracts, nodes and protocols. Chromium is the system's, driven by
Playwright; without it these tests skip and say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "cluster"))
sys.path.insert(0, str(Path(__file__).parent))

from devices import Device
from page_modules import Ask, runner

from cluster import ETHER, HOST, Cluster
from codes.code_world import Mailboxes, smtp_server
from held_ports import free_ports
from keyquorum.chain.deploy import NodeEntry, deploy
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.devchain.server import DevChainServer
from keyquorum.chain.rpc import Rpc, Sender
from keyquorum.cli.node_folder import NodeFolder
from keyquorum.client.discord import DiscordLogin
from keyquorum.client.oidc import OidcLogin
from keyquorum.codes import secrets_file
from keyquorum.codes.app import Server as CodeServer
from keyquorum.codes.config import CodesConfig, EmailSection
from keyquorum.gateway.app import Server
from keyquorum.gateway.config import GatewayConfig, LoginSection
from provider_kit import Discord, node_provider

NODES = 4
LOOP = pytest.mark.asyncio(loop_scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in Path(item.path).parents and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(LOOP, append=False)


@dataclass
class World:
    """The network and the page; `url` is the page's, `cluster` what it stands on; `issuer` None: no npm here."""

    cluster: Cluster
    server: Server
    url: str
    mail: Mailboxes
    discord: Discord
    issuer: str | None


def _login_sections(origin: str, world: Providers) -> dict[str, Any]:
    """The nodes' settings for every method that needs some."""
    auth: dict[str, Any] = {
        "passkey": {"rp_ids": ["localhost"], "origins": [origin]},
        "discord": {"application_id": world.discord.application, "base_url": world.discord.url + "/api/v10"},
        "email": {
            "required": 2,
            "issuers": [{"id": name, "public_key": keys.public_key} for name, keys in world.code_keys.items()],
        },
    }
    if world.issuer:
        auth["oidc"] = {"issuers": [{"name": "npm", "issuer": world.issuer, "client_ids": ["page-app"]}]}
    return auth


@dataclass
class Providers:
    """Whom the logins ask: started before the nodes, whose settings name them."""

    folder: Path
    mail: Mailboxes
    discord: Discord
    issuer: str | None
    code_keys: dict[str, Any]


@contextlib.asynccontextmanager
async def _providers(folder: Path) -> AsyncIterator[Providers]:
    mail, keys = Mailboxes(), {}
    for name in ("codes-a", "codes-b"):
        keys[name] = secrets_file.create(folder / f"{name}.key")
    async with contextlib.AsyncExitStack() as stack:
        mail.port = await stack.enter_async_context(smtp_server(mail))
        discord = await stack.enter_async_context(Discord().serve())
        issuer = None
        with contextlib.suppress(pytest.skip.Exception):
            issuer = stack.enter_context(node_provider()).issuer
        yield Providers(folder, mail, discord, issuer, keys)


@contextlib.asynccontextmanager
async def _code_services(network: str, world: Providers) -> AsyncIterator[list[str]]:
    async with contextlib.AsyncExitStack() as stack:
        urls = []
        for name in world.code_keys:
            config = CodesConfig(
                network=network,
                id=name,
                name=name,
                port=0,
                key_file=world.folder / f"{name}.key",
                counters_file=world.folder / f"{name}.sqlite",
                email=EmailSection(host=HOST, port=world.mail.port, sender=f"{name}@example.org", tls="none"),
            )
            urls.append((await stack.enter_async_context(CodeServer(config))).url)
        yield urls


@contextlib.asynccontextmanager
async def _nodes(folder: Path, origin: str, auth: dict[str, Any]) -> AsyncIterator[Cluster]:
    async with DevChainServer() as chain, Rpc(chain.url) as rpc:
        folders = [NodeFolder(folder / f"node-{party}") for party in range(1, NODES + 1)]
        ports = free_ports(2 * NODES)
        urls = [f"http://{HOST}:{port}" for port in ports[:NODES]]
        for each in folders:
            each.create()
        entries = [
            NodeEntry(each.address, url, HOST, port, each.tls_digest)
            for each, url, port in zip(folders, urls, ports[NODES:], strict=True)
        ]
        deployment = await deploy(Sender(rpc, ACCOUNTS[0][1]), entries, fund_nodes=ETHER)
        for each, api_port, mesh_port in zip(folders, ports[:NODES], ports[NODES:], strict=True):
            each.write_settings(
                rpc=[chain.url], router=deployment.contracts["PubkeyRouter"], api_port=api_port, mesh_port=mesh_port,
                finality="latest", poll_seconds=0.1, domains=[origin.removeprefix("http://")], auth=auth,
            )  # fmt: skip
        cluster = Cluster(rpc, deployment, folders, urls)
        try:
            await asyncio.gather(*(cluster.start_node(party) for party in range(1, NODES + 1)))
            await cluster.ready()
            yield cluster
        finally:
            await asyncio.gather(*(node.stop() for node in cluster.nodes.values()))


def _gateway(cluster: Cluster, port: int, providers: Providers, codes: list[str]) -> GatewayConfig:
    key_file = providers.folder / "relayer.key"
    key_file.write_text(ACCOUNTS[2][1].hex())
    oidc = [OidcLogin("npm", providers.issuer, "page-app")] if providers.issuer else []
    return GatewayConfig(
        network=cluster.deployment.network,
        rpc=cluster.rpc.url,
        port=port,
        relayer_key_file=str(key_file),
        login=LoginSection(
            methods=["passkey", "oidc", "discord", "siwe", "email"],
            domains=[f"localhost:{port}"],
            rp_id="localhost",
            oidc=oidc,
            discord=DiscordLogin(providers.discord.application, providers.discord.url),
            codes=codes,
        ),
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    chromium()
    folder = tmp_path_factory.mktemp("browser")
    (port,) = free_ports(1)
    origin = f"http://localhost:{port}"
    async with (
        _providers(folder) as providers,
        _nodes(folder, origin, _login_sections(origin, providers)) as cluster,
        _code_services(cluster.deployment.network, providers) as codes,
    ):
        await cluster.pool_filled(2)
        async with Server(_gateway(cluster, port, providers, codes)) as server:
            yield World(cluster, server, origin, providers.mail, providers.discord, providers.issuer)


@pytest.fixture(scope="module")
def ask() -> Ask:
    """`ask(module, function, [arguments, ...])`: the results of the calls, in one run of node."""
    return runner()


def chromium() -> str:
    """The path of the system's Chromium; skips when there is none."""
    named = os.environ.get("KEYQUORUM_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not named:
        pytest.skip("no Chromium on this system: apt-get install chromium")
    return named


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Any]:
    """A headless Chromium; each test has contexts (profiles) of its own."""
    path = chromium()
    playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with playwright.async_playwright() as driver:
        running = await driver.chromium.launch(executable_path=path, args=arguments)
        try:
            yield running
        finally:
            await running.close()


@pytest_asyncio.fixture(loop_scope="session")
async def new_device(browser: Any, world: World) -> AsyncIterator[Any]:
    """`await new_device()`: a person's device, with a browser profile and an authenticator of its own."""
    devices: list[Device] = []
    await world.cluster.restocked()

    async def make(*, verified: bool = True) -> Device:
        device = await Device.open(browser, world.url, verified=verified)
        devices.append(device)
        return device

    yield make
    for device in devices:
        await device.close()


@pytest_asyncio.fixture(loop_scope="session")
async def person(new_device: Any) -> Device:
    """Somebody who is logged in with a passkey and has a key."""
    device: Device = await new_device()
    said = await device.new_passkey()
    assert said == "Logged in.", said
    return device
