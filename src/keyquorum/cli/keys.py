"""`keyquorum keys ...`: mint, list, show and transfer keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from keyquorum.cli.output import JsonOption, command
from keyquorum.cli.state import DEFAULT_DIR, AccountOption, DirOption, TimeoutOption, client_for

if TYPE_CHECKING:
    from keyquorum.client.async_client import AsyncClient

app = typer.Typer(help="Mint, list, show and transfer keys.", no_args_is_help=True)
T = TypeVar("T")

KeyArgument = Annotated[str, typer.Argument(help="The token id: 0x and hex digits.", metavar="TOKEN_ID")]


def run(
    directory: Path, account_file: Path | None, seconds: float, work: Callable[[AsyncClient], Coroutine[Any, Any, T]]
) -> T:
    """Run `work` with an open client."""

    async def with_client() -> T:
        async with client_for(directory, account_file, seconds) as client:
            return await work(client)

    return asyncio.run(with_client())


@app.command("mint")
def mint(
    owner: Annotated[str | None, typer.Option("--owner", help="Who gets the key; default: your account.")] = None,
    directory: DirOption = DEFAULT_DIR,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Mint the next key. The gateway pays if the network has one, else your account."""
    with command(as_json) as out:
        with out.working("minting"):
            minted = run(directory, account_file, timeout, lambda client: client.mint(owner))
        out.result(minted.to_json(), title="a new key")


@app.command("list")
def list_keys(
    owner: Annotated[str | None, typer.Option("--owner", help="Whose keys; default: your account's.")] = None,
    directory: DirOption = DEFAULT_DIR,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """List the keys that an address owns."""
    with command(as_json) as out:
        with out.working("reading the chain"):
            found = run(directory, account_file, timeout, lambda client: client.keys(owner))
        if as_json:
            out.line([key.to_json() for key in found])
        elif not found:
            out.say("no keys yet: [bold]keyquorum keys mint[/bold] makes one")
        else:
            out.table([{"token id": key.to_json()["token_id"], "address": key.address} for key in found])


@app.command("show")
def show(
    key: KeyArgument,
    directory: DirOption = DEFAULT_DIR,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Show one key: public key, address, owner."""
    with command(as_json) as out:
        with out.working("reading the chain"):
            found = run(directory, account_file, timeout, lambda client: client.key(key))
        out.result(found.to_json())


@app.command("transfer")
def transfer(
    key: KeyArgument,
    to: Annotated[str, typer.Argument(help="The new owner's address.")],
    directory: DirOption = DEFAULT_DIR,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Give a key to another address. Every permission on it becomes void."""
    with command(as_json) as out:
        with out.working("sending the transaction"):
            transaction = run(directory, account_file, timeout, lambda client: client.transfer(key, to))
        out.result({"token_id": key, "owner": to, "transaction": transaction}, title="transferred")
