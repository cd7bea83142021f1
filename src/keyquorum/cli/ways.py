"""How each login is done at a terminal: by the account of the folder, a Ledger, a browser, or codes that are typed.

A `Way` makes the proof of one login method. What the network offers (providers, code services, where its page is) comes
from the gateway's public `GET /v1/login`; nodes check every proof by settings of their own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyquorum.cli.person import Person, interruptible
from keyquorum.cli.state import open_network

if TYPE_CHECKING:
    from keyquorum.auth.code_assertion import Channel
    from keyquorum.auth.session_key import SessionPrivateKey
    from keyquorum.auth.statement import Statement
    from keyquorum.client.async_client import AsyncClient

WAYS = ("wallet", "ledger", "passkey", "google", "oidc", "discord", "email", "sms")
CODE_TRIES = 3
GOOGLE = "https://accounts.google.com"
CODE_REFUSED = "code_refused"


@dataclass
class Way:
    """One login: the method's name, and what makes its proof.

    `identity` is known before for an account. `key` is the session key for proofs that it must sign. `registration` is,
    after a passkey's proof, what the chain keeps of it: COSE key followed by credential id.
    """

    method: str
    prove: Callable[[Statement], Awaitable[Any]]
    identity: bytes | None = None
    key: SessionPrivateKey | None = None
    registration: bytes = b""


@dataclass(frozen=True)
class Terminal:
    """What the ways need: an open client, the person, the folder, and how long a person may take (seconds)."""

    client: AsyncClient
    person: Person
    directory: Path
    seconds: float = 300.0
    ledger_path: str = ""
    ledger_form: str = "eip191"

    async def offers(self) -> tuple[str, dict[str, Any]]:
        """Return the gateway's URL and its login configuration; raise `KeyquorumError`."""
        from keyquorum.client.errors import Misconfigured
        from keyquorum.client.network import Network
        from keyquorum.client.transport import NodeError, Transport, as_public

        async with Transport() as transport:
            network = await Network.load(str(open_network(self.directory)), transport)
            if not network.gateway:
                raise Misconfigured(
                    "no_gateway",
                    "the network file names no gateway, which would say where to log in",
                    "log in with a wallet or a Ledger, or use a network file with a gateway",
                )
            gateway = network.gateway.rstrip("/")
            try:
                async with asyncio.timeout(10.0):
                    return gateway, await transport.get(f"{gateway}/v1/login", dict[str, Any])
            except TimeoutError:
                raise Misconfigured("no_gateway", "the gateway does not answer", "try again later") from None
            except NodeError as error:
                raise as_public(error) from None


async def way_of(terminal: Terminal, name: str, who: str | None) -> Way:
    """Return how to log in by `name` (one of `WAYS`); `who` is a provider, an e-mail address or a phone number."""
    if name not in WAYS:
        raise ValueError(f"there is no login called {name[:40]!r}: use one of {', '.join(WAYS)}")
    if who is not None and name not in ("oidc", "email", "sms"):
        raise ValueError(f"a login with {name} takes no further word")
    if name == "wallet":
        return _wallet(terminal)
    if name == "ledger":
        return _ledger(terminal)
    gateway, offered = await terminal.offers()
    if name == "passkey":
        return _passkey(terminal, gateway, offered)
    if name == "discord":
        return _discord(terminal, offered)
    if name in ("google", "oidc"):
        return _oidc(terminal, offered, "google" if name == "google" else who or terminal.person.ask("Provider"))
    return _codes(terminal, offered, "email" if name == "email" else "sms", who)


def _wallet(terminal: Terminal) -> Way:
    from eth_account.messages import encode_typed_data

    from keyquorum.auth import wallet_key
    from keyquorum.client.errors import Misconfigured
    from keyquorum.evm.address import from_checksum

    account = terminal.client.account
    if account is None:
        raise Misconfigured(
            "no_account",
            "there is no account in the folder",
            "put its key into account.key, give --account-file, or log in another way",
        )

    address = from_checksum(account.address)

    async def prove(statement: Statement) -> dict[str, object]:
        # Not SIWE: there is no page here whose domain it could name, and each network accepts domains of its own.
        issued_at = int(time.time())
        data = wallet_key.build_typed_data(statement, address, issued_at)
        signature = bytes(account.sign_message(encode_typed_data(full_message=data)).signature)
        return {
            "form": "eip712",
            "address": account.address,
            "signature": "0x" + signature.hex(),
            "issued_at": issued_at,
        }

    return Way("wallet-key", prove, address)


def _ledger(terminal: Terminal) -> Way:
    from keyquorum.auth import wallet_key
    from keyquorum.auth.siwe import session_uri
    from keyquorum.cli import ledger

    if terminal.ledger_form not in wallet_key.FORMS:
        raise ValueError(f"--form is one of {', '.join(wallet_key.FORMS)}")
    path = terminal.ledger_path or ledger.DEFAULT_PATH
    ledger.encode_path(path)

    async def prove(statement: Statement) -> dict[str, object]:
        issued_at = int(time.time())
        with interruptible(), ledger.open_ledger(path) as device:
            address = device.address()
            terminal.person.tell(f"Read on the Ledger what is granted, and confirm. {session_uri(statement)}")
            if terminal.ledger_form == "eip712":
                hashes = wallet_key.typed_hashes(statement, address, issued_at)
                terminal.person.tell(f"domain hash   0x{hashes.domain.hex()}\nmessage hash  0x{hashes.message.hex()}")
            return ledger.sign_statement(device, statement, terminal.ledger_form, issued_at)

    return Way("wallet-key", prove)


def _oidc(terminal: Terminal, offered: dict[str, Any], provider: str) -> Way:
    from keyquorum.auth.provider import host_of
    from keyquorum.client import oidc
    from keyquorum.client.errors import Misconfigured

    chosen = oidc.provider_called(offered, provider)
    # The gateway says who the provider is; a person can only compare a name with what the browser shows.
    if provider == "google" and chosen.issuer != GOOGLE:
        raise Misconfigured(
            "wrong_provider", f"this gateway calls {host_of(chosen.issuer)} Google", "do not log in here"
        )
    terminal.person.tell(f"You log in at {host_of(chosen.issuer)}: the browser must show it.")

    async def prove(statement: Statement) -> dict[str, str]:
        return await oidc.log_in(chosen, statement, terminal.person.open, seconds=terminal.seconds)

    return Way("oidc", prove)


def _discord(terminal: Terminal, offered: dict[str, Any]) -> Way:
    from keyquorum.client import discord
    from keyquorum.client.transport import Transport

    provider, client = discord.configured(offered), terminal.client

    async def prove(statement: Statement) -> dict[str, Any]:
        committee = await discord.committee_of(client.chain)
        async with Transport() as transport:
            gather = discord.from_nodes(client.facts.committee, transport)
            return await discord.log_in(
                provider, statement, terminal.person.open, gather, committee, seconds=terminal.seconds
            )

    return Way("discord", prove)


def _passkey(terminal: Terminal, gateway: str, offered: dict[str, Any]) -> Way:
    from keyquorum.cli import page
    from keyquorum.client.codes import fingerprint
    from keyquorum.formats.text import from_base64url

    where = page.page_of(gateway, str(offered.get("rp_id", "")))

    async def prove(statement: Statement) -> dict[str, Any]:
        terminal.person.tell(f"Agree at the page only if it shows this session: {fingerprint(statement.session)}")
        proof = await page.prove(where, statement, terminal.person, terminal.seconds)
        key, credential = (str(proof.get(name, "")) for name in ("public_key", "credential_id"))
        way.registration = from_base64url(key, "the public key") + from_base64url(credential, "the credential id")
        return proof

    way = Way("passkey", prove)
    return way


def _codes(terminal: Terminal, offered: dict[str, Any], channel: Channel, address: str | None) -> Way:
    from keyquorum.auth.session_key import SessionPrivateKey
    from keyquorum.client import codes
    from keyquorum.client.errors import Misconfigured, Refused

    services, person = list(offered.get("codes") or ()), terminal.person
    if not services:
        raise Misconfigured("no_such_provider", "this network has no services that send codes", "log in another way")
    # The gateway names them; each learns the address.
    person.tell(f"Codes are sent by {', '.join(codes.hosts_of(services))}.")
    where = address or person.ask("E-mail address" if channel == "email" else "Phone number (+...)")
    held, fresh = terminal.client.session, SessionPrivateKey.generate()

    async def prove(statement: Statement) -> dict[str, object]:
        # A step-up is for the key of the session that is there.
        key = held.key if held is not None and statement.session == held.key.public else fresh
        needed = offered.get("codes_required") or len(services)
        if not isinstance(needed, int):
            raise Misconfigured(
                "bad_login_configuration",
                "the gateway does not say how many codes are needed",
                "tell the gateway's operator, or log in another way",
            )
        asked = await codes.request_codes(services, channel, where, statement, needed=needed)
        person.tell(
            f"The messages with the codes must show {codes.fingerprint(statement.session)}; type no other code."
        )
        for left in reversed(range(CODE_TRIES)):
            typed = {one.issuer: person.ask(f"Code of {one.digits} digits from {one.issuer}") for one in asked.asked}
            try:
                return await codes.answer(asked, key, typed)
            except Refused as error:
                if error.code != CODE_REFUSED or not left:
                    raise
                person.tell(error.message)
        raise AssertionError("the loop returns or raises")

    return Way(channel, prove, key=fresh)
