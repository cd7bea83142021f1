"""Every way to log in, for real: a wallet, a key of one's own, a passkey, two OpenID Connect providers, a
Discord-shaped one, three code services with a mail server and an SMS provider; and a network that accepts them all.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data

from codes.code_world import Mailboxes, code_in, smtp_server
from held_ports import free_port
from keyquorum.auth import wallet_key
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import Statement
from keyquorum.cli.local_network import LocalNetwork
from keyquorum.client import codes, discord, oidc
from keyquorum.client.session import sign_statement
from keyquorum.client.transport import Transport
from keyquorum.codes import secrets_file
from keyquorum.codes.app import Server as CodeServer
from keyquorum.codes.config import CodesConfig, EmailSection, HttpSmsSection, LimitsSection, SmsSection
from provider_kit import Discord, Person, mock_provider, node_provider
from soft_passkey import SoftPasskey

MAIL, PHONE = "ada@example.org", "+4915123456789"
SERVICES = ("codes-a", "codes-b", "codes-c")
REQUIRED = 2
Prove = Callable[[Statement], Awaitable[Any]]


@dataclass
class Way:
    """One person's login with one method; `seen` is what nodes were shown of it."""

    name: str
    method: str
    make: Prove
    key: SessionPrivateKey | None = None
    user_pubkey: bytes = b""
    fresh_key: bool = False
    seen: list[tuple[Statement, Any]] = field(default_factory=list)

    async def prove(self, statement: Statement) -> Any:
        proof = await self.make(statement)
        self.seen.append((statement, proof))
        return proof

    async def login(self, client: Any, **options: Any) -> Any:
        """Log in on what might be another device: nothing but the person carries over."""
        if self.fresh_key:
            self.key = options["key"] = SessionPrivateKey.generate()
        return await client.login_with(self.method, self.prove, **options)


class Phones:
    """An SMS provider of Twilio's shape; `texts` are what it was given to deliver."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            self.texts.append(str((await request.post())["Body"]))
        return web.json_response({"sid": "SM1"}, status=201)


class EveryWay:
    """The network, the providers around it, and the ways."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = AsyncExitStack()
        self.mailboxes, self.phones = Mailboxes(), Phones()
        self.services: dict[str, int] = {}
        self.ways: dict[str, Way] = {}

    async def __aenter__(self) -> EveryWay:
        try:
            await self._start()
        except BaseException:
            await self.stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    async def _start(self) -> None:
        enter = self.stack.enter_async_context
        self.npm = self.stack.enter_context(node_provider()).issuer
        self.mock = self.stack.enter_context(mock_provider())
        self.discord = await enter(Discord().serve())
        mail_port = await enter(smtp_server(self.mailboxes))
        sms_url = await enter(self.phones.serve())
        self.services = {name: free_port() for name in SERVICES}
        keys = {name: secrets_file.create(_folder(self.folder, name) / "issuer.key") for name in SERVICES}
        login = self._settings({name: key.public_key for name, key in keys.items()})
        self.network = await enter(LocalNetwork(self.folder / "network", 4, login=login))
        for name in SERVICES:
            config = self._codes_config(name, mail_port, sms_url)
            await enter(CodeServer(config))
        self._make_ways()

    def _settings(self, issuers: dict[str, str]) -> dict[str, Any]:
        """What stands in `login.toml`."""
        known = [{"id": name, "public_key": key} for name, key in issuers.items()]
        providers = {"npm": (self.npm, "public-app"), "mock": (self.mock, "mock-app")}
        return {
            "auth": {
                "oidc": {
                    "issuers": [
                        {"name": name, "issuer": issuer, "client_ids": [app]}
                        for name, (issuer, app) in providers.items()
                    ]
                },
                "discord": {
                    "application_id": self.discord.application,
                    "base_url": self.discord.url + "/api/v10",
                },
                "email": {"required": REQUIRED, "issuers": known},
                "sms": {"required": REQUIRED, "issuers": known},
            },
            "login": {
                "oidc": [
                    {"name": name, "issuer": issuer, "client_id": app}
                    # A desktop application's, which every copy of it knows.
                    | ({"client_secret": "in-every-copy"} if name == "mock" else {})
                    for name, (issuer, app) in providers.items()
                ],
                "discord": {"application_id": self.discord.application, "base_url": self.discord.url},
                "codes": self.code_urls,
                "codes_required": REQUIRED,
            },
        }

    @property
    def code_urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self.services.values()]

    def _codes_config(self, name: str, mail_port: int, sms_url: str) -> CodesConfig:
        folder = self.folder / name
        (folder / "sms.token").write_text("token\n")
        assert self.network.network is not None
        return CodesConfig(
            network=self.network.network.id,
            id=name,
            name=f"Codes {name[-1].upper()}",
            key_file=folder / "issuer.key",
            counters_file=folder / "counters.sqlite",
            port=self.services[name],
            email=EmailSection("127.0.0.1", "codes@example.org", port=mail_port, tls="none"),
            sms=SmsSection(["+49"], http=HttpSmsSection("AC1", folder / "sms.token", "+4915100000", sms_url)),
            limits=LimitsSection(per_address_hour=1000, per_address_day=1000, per_client_hour=1000, per_range_day=1000),
        )

    # -- the ways -----------------------------------------------------------------------------------------------------

    def _make_ways(self) -> None:
        assert self.network.network is not None and self.network.network.gateway is not None
        origin = self.network.network.gateway.replace("127.0.0.1", "localhost")
        passkey = SoftPasskey(origin=origin)
        registration = passkey.public_key + passkey.credential_id

        async def touch(statement: Statement) -> Any:
            return passkey.proof(statement)

        ways = [
            Way("wallet", "siwe", self._wallet(Account.create())),
            Way("own key, typed data", "wallet-key", self._own_key(Account.create(), "eip712")),
            Way("own key, text", "wallet-key", self._own_key(Account.create(), "eip191")),
            Way("passkey", "passkey", touch, user_pubkey=registration),
            Way("oidc-provider", "oidc", self._oidc("npm")),
            Way("oidc-provider-mock", "oidc", self._oidc("mock")),
            Way("discord", "discord", self._discord),
            Way("email", "email", lambda statement: self._codes("email", MAIL, statement), fresh_key=True),
            Way("sms", "sms", lambda statement: self._codes("sms", PHONE, statement), fresh_key=True),
        ]
        self.ways = {way.name: way for way in ways}

    @staticmethod
    def _wallet(account: Any) -> Prove:
        async def prove(statement: Statement) -> Any:
            return sign_statement(account, statement, "localhost")

        return prove

    @staticmethod
    def _own_key(account: Any, form: str) -> Prove:
        address = bytes.fromhex(account.address[2:])

        async def prove(statement: Statement) -> Any:
            now = int(time.time())
            if form == "eip712":
                signable = encode_typed_data(full_message=wallet_key.build_typed_data(statement, address, now))
            else:
                signable = encode_defunct(text=wallet_key.build_text(statement, address, now))
            signature = bytes(account.sign_message(signable).signature)
            return {"form": form, "address": account.address, "signature": "0x" + signature.hex(), "issued_at": now}

        return prove

    async def offered(self) -> dict[str, Any]:
        """The login configuration, as anybody gets it."""
        assert self.network.network is not None
        async with Transport() as transport:
            return await transport.get(f"{self.network.network.gateway}/v1/login", dict[str, Any])

    def _oidc(self, name: str) -> Prove:
        async def prove(statement: Statement) -> Any:
            person = Person()
            proof = await oidc.log_in(oidc.provider_called(await self.offered(), name), statement, person.open_url)
            await person.done()
            return proof

        return prove

    async def _discord(self, statement: Statement) -> Any:
        person = Person()
        async with self.network.client() as client, Transport() as transport:
            await client.connect()
            committee = await discord.committee_of(client.chain)
            gather = discord.from_nodes(client.facts.committee, transport)
            provider = discord.configured(await self.offered())
            proof = await discord.log_in(provider, statement, person.open_url, gather, committee)
        await person.done()
        return proof

    async def _codes(self, channel: Any, address: str, statement: Statement) -> Any:
        way = self.ways[channel]
        assert way.key is not None
        before = len(self._messages(channel))
        asked = await codes.request_codes(self.code_urls, channel, address, statement, needed=REQUIRED)
        for _ in range(1500):
            if len(self._messages(channel)) >= before + REQUIRED:
                break
            await asyncio.sleep(0.02)
        given = {}
        for text in self._messages(channel)[before:]:
            assert codes.fingerprint(statement.session) in text
            sender = re.search(r"Codes ([ABC])", text)
            assert sender is not None
            given[f"codes-{sender[1].lower()}"] = code_in(text)
        return await codes.answer(asked, way.key, given)

    def _messages(self, channel: str) -> list[str]:
        if channel == "sms":
            return self.phones.texts
        return [f"{mail['subject']}\n{mail.get_content()}" for _, mail in self.mailboxes.mails]


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir(parents=True)
    return folder
