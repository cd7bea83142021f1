"""`keyquorum keys ...`: mint, list, show and transfer keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from keyquorum.cli.login import BrowserOption, WaitOption, open_with
from keyquorum.cli.output import JsonOption, command
from keyquorum.cli.person import Person, YesOption
from keyquorum.cli.spending import MaxPriceOption, limits_of
from keyquorum.cli.state import (
    DEFAULT_DIR,
    AccountOption,
    DirOption,
    KeyArgument,
    TimeoutOption,
    client_for,
    store_session,
    token_named,
)
from keyquorum.cli.ways import WAYS, Terminal, way_of

if TYPE_CHECKING:
    from keyquorum.chain.fees import SpendingLimits
    from keyquorum.client.async_client import AsyncClient
    from keyquorum.client.results import Key, Minted

MANAGING = (1, 6)

app = typer.Typer(help="Mint, list, show and transfer keys.", no_args_is_help=True)
T = TypeVar("T")


def run(
    directory: Path,
    account_file: Path | None,
    seconds: float,
    work: Callable[[AsyncClient], Coroutine[Any, Any, T]],
    limits: SpendingLimits | None = None,
) -> T:
    """Run `work` with an open client."""

    async def with_client() -> T:
        async with client_for(directory, account_file, seconds, limits) as client:
            return await work(client)

    return asyncio.run(with_client())


@app.command("mint")
def mint(
    owner: Annotated[str | None, typer.Option("--owner", help="Who gets the key; default: your account.")] = None,
    way: Annotated[
        str | None,
        typer.Option(
            "--login", help=f"Instead: a key that belongs to itself and that this login opens ({', '.join(WAYS)})."
        ),
    ] = None,
    who: Annotated[
        str | None, typer.Option("--who", help="With --login oidc, email or sms: provider or address.")
    ] = None,
    another: Annotated[
        str | None, typer.Option("--another", help="With --login: one more key, by a word of yours; default: the one.")
    ] = None,
    request: Annotated[
        str | None,
        typer.Option("--request", help="A name for this mint, 16 to 64 letters: asked again, same key."),
    ] = None,
    max_price: MaxPriceOption = None,
    browser: BrowserOption = True,
    wait: WaitOption = 300.0,
    directory: DirOption = DEFAULT_DIR,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Mint a key. The gateway pays if it does that, else your account; for a login always the gateway."""
    from keyquorum.cli.payload import parse_amount

    with command(as_json) as out:
        if way is None and (who is not None or another is not None):
            raise ValueError("--who and --another go with --login")
        if way is not None and (owner is not None or request is not None):
            raise ValueError("a key for a login belongs to itself and has --another: leave --owner and --request out")
        receiver = owner and checked_address(owner)

        async def work(client: AsyncClient) -> Minted:
            if way is None:
                return await client.mint(receiver, request=request)
            chosen = await way_of(Terminal(client, Person(browser), directory, wait), way, who)
            store_session(directory, await open_with(client, chosen, scopes=MANAGING))
            return await client.sign_up(another=another, user_pubkey=chosen.registration)

        limits = limits_of(max_price=parse_amount(max_price) if max_price else None)
        minted = run(directory, account_file, timeout, work, limits)
        out.result(minted.to_json(), title="a new key" if minted.transaction else "the key that this login has")


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
        whose = owner and checked_address(owner)
        with out.working("reading the chain"):
            found = run(directory, account_file, timeout, lambda client: client.keys(whose))
        if as_json:
            out.line([key.to_json() for key in found])
        elif not found:
            out.say("the account owns no keys: [bold]keyquorum keys mint[/bold] makes one")
            out.say("a key that a login owns is found by [bold]keyquorum keys mint --login[/bold] with the same login")
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
            found = run(directory, account_file, timeout, lambda client: _shown(client, key))
        out.result(found.to_json())


async def _shown(client: AsyncClient, name: str) -> Key:
    return await client.key(await token_named(client, name))


@app.command("transfer")
def transfer(
    key: KeyArgument,
    to: Annotated[str, typer.Argument(help="The new owner's address.")],
    yes: YesOption = False,
    directory: DirOption = DEFAULT_DIR,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Give a key to another address. Every permission on it becomes void, and only the new owner can give it back."""
    with command(as_json) as out:
        owner = checked_address(to)

        async def work(client: AsyncClient) -> dict[str, Any]:
            from keyquorum.client.results import token_hex

            found = await _shown(client, key)
            Person().agree(f"Give the key {found.address}, with all that it holds, to {owner}", yes)
            with out.working("sending the transaction"):
                change = await client.transfer(found, owner)
            return {"token_id": token_hex(found.token_id), "owner": owner} | change.to_json()

        out.result(run(directory, account_file, timeout, work), title="transferred")


def checked_address(text: str) -> str:
    """Return an address with its checksum; raise `ValueError`, in words, for what is none or was copied wrongly."""
    from keyquorum.evm.address import checksum

    return checksum(text)
