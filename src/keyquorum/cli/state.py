"""The user's folder, by default `.keyquorum`: where the network is, who the user is, and the session in use.

    network.json   how to reach the network (chain endpoint, registry, gateway); written by `up`, safe to share
    account.key    the user's own Ethereum account, 32 bytes in hex; made by `up` or by the user; mode 0600
    session.json   the session key and certificate of the last login; mode 0600

A secret is never an argument of a command: arguments are visible to every user of the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from keyquorum.cli.payload import finite
from keyquorum.refusal import NOT_FOUND

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from keyquorum.chain.fees import SpendingLimits
    from keyquorum.client.async_client import AsyncClient
    from keyquorum.client.session import Session

T = TypeVar("T")
DEFAULT_DIR = Path(".keyquorum")
NETWORK_FILE = "network.json"
ACCOUNT_FILE = "account.key"
SESSION_FILE = "session.json"
KEY_HEX_DIGITS = 64
ADDRESS_CHARACTERS = 42

DirOption = Annotated[
    Path, typer.Option("--dir", envvar="KEYQUORUM_DIR", help="The folder with network.json and your account.")
]
AccountOption = Annotated[
    Path | None,
    typer.Option("--account-file", envvar="KEYQUORUM_ACCOUNT_FILE", help="Your account's key file; default: in --dir."),
]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.1, callback=finite, help="Seconds before giving up.")]
KeyArgument = Annotated[
    str, typer.Argument(help="The token id, or the key's address: 0x and hex digits.", metavar="KEY")
]


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, completely or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_key_file(path: Path) -> bytes:
    """Return the 32 bytes of a hex key file; raise `Misconfigured` (without the content) when it is none."""
    from keyquorum.client.errors import Misconfigured

    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise Misconfigured(
            "no_account",
            f"there is no account in {path}",
            "start a network with `keyquorum up`, which makes one, or give --account-file",
        ) from None
    digits = text.removeprefix("0x")
    try:
        key = bytes.fromhex(digits) if len(digits) == KEY_HEX_DIGITS else b""
    except ValueError:
        key = b""
    if not key:
        raise Misconfigured("bad_account", f"{path} is not a key file", "it must hold 64 hex digits")
    return key


def load_account(directory: Path, account_file: Path | None = None) -> LocalAccount:
    """Return the user's account."""
    from eth_account import Account

    account: LocalAccount = Account.from_key(read_key_file(account_file or directory / ACCOUNT_FILE))
    return account


def load_session(directory: Path, network_id: str) -> Session | None:
    """Return the stored session when it is for this network and still good for a minute."""
    from keyquorum.client.session import Session

    try:
        stored: dict[str, Any] = json.loads((directory / SESSION_FILE).read_text())
        session = Session.from_stored(stored)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return session if session.network == network_id and not session.expires_within(60) else None


def store_session(directory: Path, session: Session) -> None:
    """Keep a session for the next command."""
    directory.mkdir(parents=True, exist_ok=True)
    write_private(directory / SESSION_FILE, json.dumps(session.to_stored()))


def open_network(directory: Path) -> Path:
    """Return the path of the network file; raise `Misconfigured` when there is none."""
    from keyquorum.client.errors import Misconfigured

    path = directory / NETWORK_FILE
    if not path.is_file():
        raise Misconfigured(
            "no_network",
            f"there is no network in {directory}",
            f"start one with `keyquorum up --dir {directory}`, or name another folder with --dir",
        )
    return path


def client_for(
    directory: Path, account_file: Path | None = None, seconds: float = 30.0, limits: SpendingLimits | None = None
) -> AsyncClient:
    """Return a client of the folder's network acting as the folder's account, if it has one (not entered yet).

    What costs more than `limits` is asked about where a person sits at a terminal.
    """
    from keyquorum.cli.spending import agree
    from keyquorum.client.async_client import DEFAULT_LIMITS, AsyncClient

    network = open_network(directory)
    nobody = account_file is None and not (directory / ACCOUNT_FILE).exists()
    account = None if nobody else load_account(directory, account_file)
    return AsyncClient(str(network), account=account, timeout=seconds, limits=limits or DEFAULT_LIMITS, agree=agree)


def run_with_session(
    directory: Path,
    account_file: Path | None,
    seconds: float,
    work: Callable[[AsyncClient], Coroutine[Any, Any, T]],
    limits: SpendingLimits | None = None,
) -> T:
    """Run `work` with an open client that uses the stored session; keep the session that it ends with.

    Another account than the folder's (`account_file`) neither uses nor changes what is stored.
    """

    async def with_session() -> T:
        async with client_for(directory, account_file, seconds, limits) as client:
            stored = load_session(directory, client.facts.id) if account_file is None else None
            if stored is not None:
                client.use_session(stored)
            result = await work(client)
            if account_file is None:
                keep_session(directory, client.session, stored)
            return result

    return asyncio.run(with_session())


async def token_named(client: AsyncClient, name: str) -> int:
    """Return the token id of the key that a person names by it or by the key's address; raise `Refused` if unknown."""
    from keyquorum.client.errors import BadAnswer, Refused
    from keyquorum.client.results import token_from
    from keyquorum.evm.address import checksum

    if len(name) != ADDRESS_CHARACTERS or not name.startswith("0x"):
        return token_from(name)
    address = checksum(name)
    found = int(await client.chain.ask(client.chain.contract("PubkeyRouter"), "ethAddressToPkpId", address))
    if not found:
        raise Refused(
            "unknown_key",
            f"no key of the network has the address {address}",
            "see your keys with `keyquorum keys list`",
            status=NOT_FOUND,
        )
    if (await client.key(found)).address != address:
        raise BadAnswer("bad_answer", "the chain endpoint named a key with another address")
    return found


def run_with_key(
    directory: Path,
    account_file: Path | None,
    seconds: float,
    key: str,
    work: Callable[[AsyncClient, int], Coroutine[Any, Any, T]],
    limits: SpendingLimits | None = None,
) -> T:
    """Run `work` as `run_with_session` does, with the token id of the key that `key` names."""

    async def with_key(client: AsyncClient) -> T:
        return await work(client, await token_named(client, key))

    return run_with_session(directory, account_file, seconds, with_key, limits)


def keep_session(directory: Path, now: Session | None, stored: Session | None) -> None:
    """Make the folder hold the session that a client uses now, `stored` being the one that it started with."""
    if now is None and stored is not None:
        (directory / SESSION_FILE).unlink(missing_ok=True)
    elif now is not None and now is not stored:
        store_session(directory, now)
