"""`keyquorum methods ...`: who may use a key, and for what.

The owner of the token makes changes: the folder's account by a transaction, a key that owns itself by a signature of
its own, which the stored session asks for (scopes 1 and 6) and a gateway delivers. What takes away counts at once;
what gives waits for the key's delay and can be cancelled until then.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from keyquorum.cli.keys import checked_address
from keyquorum.cli.login import DEFAULT_SCOPES, BrowserOption, WaitOption, step_up_with
from keyquorum.cli.output import JsonOption, command, plain
from keyquorum.cli.payload import read_hex
from keyquorum.cli.person import Person
from keyquorum.cli.state import DEFAULT_DIR, AccountOption, DirOption, KeyArgument, TimeoutOption, run_with_key
from keyquorum.cli.ways import WAYS, Terminal, way_of
from keyquorum.cli.words import ADDRESS_TYPE, identity_of, time_of

if TYPE_CHECKING:
    from keyquorum.client.async_client import AsyncClient
    from keyquorum.client.permissions import PermittedMethod
    from keyquorum.client.results import Key
    from keyquorum.client.seen import Change

MANAGE = 6
CODE_TYPE = 2

app = typer.Typer(help="List and change who may use a key, and for what.", no_args_is_help=True)

AddressOption = Annotated[str | None, typer.Option("--address", help="An Ethereum account.")]
TypeOption = Annotated[int | None, typer.Option("--type", min=1, help="With --id: the identity as the chain has it.")]
IdOption = Annotated[str | None, typer.Option("--id", help="0x and hex digits, as `methods list` shows it.")]


class Identity(NamedTuple):
    """Whom a permission is for; `registration` is a passkey's COSE key followed by its credential id."""

    type: int
    id: bytes
    registration: bytes = b""


@app.command("list")
def list_methods(
    key: KeyArgument,
    directory: DirOption = DEFAULT_DIR,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """List what is permitted now, what was announced, and the key's delay."""
    with command(as_json) as out:

        async def work(client: AsyncClient, token: int) -> dict[str, Any]:
            rules = client.permissions
            return {
                "owner": (await client.key(token)).owner,
                "delay": await rules.delay(token),
                "methods": [one.to_json() for one in await rules.list(token)],
                "pending": [one.to_json() for one in await rules.pending(token)],
            }

        with out.working("reading the chain"):
            found = run_with_key(directory, account_file, timeout, key, work)
        if as_json:
            out.line(found)
            return
        out.fields({"owner": found["owner"], "delay": f"{found['delay']} s"})
        out.table([_method_row(one) for one in found["methods"]], title="may use it now")
        if found["pending"]:
            out.table([_pending_row(one) for one in found["pending"]], title="announced")


@app.command("add")
def add(
    key: KeyArgument,
    scopes: Annotated[
        list[int] | None,
        typer.Option("--scope", help="As for `login`; 32 + N: only with a second method; 0 alone: none; default: 1."),
    ] = None,
    address: AddressOption = None,
    type_number: TypeOption = None,
    identity: IdOption = None,
    way: Annotated[
        str | None, typer.Option("--login", help=f"Prove it now, beside the stored session: {', '.join(WAYS)}.")
    ] = None,
    who: Annotated[
        str | None, typer.Option("--who", help="With --login oidc, email or sms: provider or address.")
    ] = None,
    browser: BrowserOption = True,
    wait: WaitOption = 300.0,
    directory: DirOption = DEFAULT_DIR,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Permit one more method: an address, an identity of the chain, or a login that is proven now."""
    with command(as_json) as out:
        given, bits = _identity(address, type_number, identity, way), asked_grant(scopes)

        async def work(client: AsyncClient, token: int) -> dict[str, Any]:
            terminal = Terminal(client, Person(browser), directory, wait)
            new = given or await _proven_now(terminal, str(way), who)
            done = await client.permissions.add(token, new.type, new.id, bits, new.registration)
            return _changed(token, done)

        found = run_with_key(directory, account_file, timeout, key, work)
        out.result(found, title="permitted, from the key's delay on")


@app.command("remove")
def remove(
    key: KeyArgument,
    address: AddressOption = None,
    type_number: TypeOption = None,
    identity: IdOption = None,
    directory: DirOption = DEFAULT_DIR,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Withdraw a method, at once."""
    with command(as_json) as out:
        old = _identity(address, type_number, identity, None)

        async def work(client: AsyncClient, token: int) -> dict[str, Any]:
            assert old is not None  # noqa: S101 - without a login it is given
            await _check_not_last(client, await client.key(token), old)
            return _changed(token, await client.permissions.remove(token, old.type, old.id))

        with out.working("changing permissions"):
            found = run_with_key(directory, account_file, timeout, key, work)
        out.result(found, title="withdrawn")


@app.command("cancel")
def cancel(
    key: KeyArgument,
    change: Annotated[int, typer.Argument(min=0, help="The change's number, as `methods list` shows it.")],
    directory: DirOption = DEFAULT_DIR,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Withdraw an announced change; any method that is permitted already may do that."""
    with command(as_json) as out:

        async def work(client: AsyncClient, token: int) -> dict[str, Any]:
            return _changed(token, await client.permissions.cancel(token, change)) | {"change_id": change}

        with out.working("changing permissions"):
            found = run_with_key(directory, account_file, timeout, key, work)
        out.result(found, title="cancelled")


@app.command("delay")
def delay(
    key: KeyArgument,
    seconds: Annotated[
        int | None,
        typer.Argument(min=0, help="How long what gives shall wait; left out: show it.", metavar="SECONDS"),
    ] = None,
    directory: DirOption = DEFAULT_DIR,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Show or set the key's delay: longer counts at once, shorter only after the present one."""
    with command(as_json) as out:

        async def work(client: AsyncClient, token: int) -> dict[str, Any]:
            done = None if seconds is None else await client.permissions.set_delay(token, seconds)
            return _changed(token, done) | {"delay": await client.permissions.delay(token)}

        with out.working("reading the chain" if seconds is None else "changing permissions"):
            found = run_with_key(directory, account_file, timeout, key, work)
        out.result(found)


def _identity(address: str | None, type_number: int | None, identity: str | None, way: str | None) -> Identity | None:
    """Return whom the options name, None for a login that is still to be proven; raise `ValueError`."""
    if sum((address is not None, type_number is not None or identity is not None, way is not None)) != 1:
        raise ValueError("say whom you mean, in one way: --address, or --type with --id, or (for add) --login")
    if address is not None:
        return Identity(ADDRESS_TYPE, bytes.fromhex(checked_address(address)[2:]))
    if way is not None:
        return None
    if type_number is None or identity is None or not identity.startswith("0x"):
        raise ValueError("an identity needs both --type and --id (0x and hex digits)")
    return Identity(type_number, read_hex(identity, "--id"))


def asked_grant(scopes: list[int] | None) -> list[int]:
    """Return the bits of a grant that was asked for: by default scope 1, and none for 0 alone; raise `ValueError`."""
    from keyquorum.auth.scopes import check_grant

    if scopes and 0 in scopes:
        if set(scopes) != {0}:
            raise ValueError("scope 0 means none: it stands alone")
        return []
    return list(check_grant(scopes or DEFAULT_SCOPES))


async def _check_not_last(client: AsyncClient, key: Key, old: Identity) -> None:
    """Raise `Refused` when nobody could ever change a key that owns itself any more."""
    from keyquorum.client.errors import Refused

    if key.owner != key.address:
        return
    own = (ADDRESS_TYPE, bytes.fromhex(key.address[2:]))
    listed = await client.permissions.list(key)
    # Nobody logs in as code, nor as the key itself.
    methods = [one for one in listed if one.type != CODE_TYPE and (one.type, one.id) != own]
    left = [one for one in methods if (one.type, one.id) != (old.type, old.id)]
    if _can_manage(methods) and not _can_manage(left):
        raise Refused(
            "last_manager",
            "this is the last method that may change who uses the key, and the key belongs to itself:"
            " without it the key, and all that it holds, would be lost for ever",
            "add another first: keyquorum methods add KEY --login WAY --scope 1 --scope 6",
        )


def _can_manage(methods: Sequence[PermittedMethod]) -> bool:
    """Say whether these methods, all of them together, may change who uses their key."""
    alone = any(MANAGE in one.scopes for one in methods)
    return alone or sum(MANAGE in one.together for one in methods) > 1


def _changed(token: int, change: Change | None) -> dict[str, Any]:
    from keyquorum.client.results import token_hex

    return {"token_id": token_hex(token)} | (change.to_json() if change is not None else {"transaction": None})


async def _proven_now(terminal: Terminal, name: str, who: str | None) -> Identity:
    """Step the session up by one more login and return whom that proved."""
    from keyquorum.client.errors import Misconfigured

    client = terminal.client
    before = client.session.methods if client.session is not None else ()
    way = await way_of(terminal, name, who)
    session = await step_up_with(client, way)
    added = [one for one in session.methods if one not in before]
    if not added:
        raise Misconfigured("nothing_new", "this login was proven before", "log in as the one who shall be added")
    return Identity(added[0].type, added[0].id, way.registration)


def _method_row(one: dict[str, Any]) -> dict[str, Any]:
    together = [f"{scope} with a second" for scope in one["together"]]
    scopes = ", ".join([*map(str, one["scopes"]), *together]) or "none"
    return {"type": one["type"], "id": one["id"], "who": _who(one), "scopes": scopes}


def _who(one: dict[str, Any]) -> str:
    return identity_of(one["type"], one["id"]).removesuffix(one["id"]).strip()


def _pending_row(one: dict[str, Any]) -> dict[str, Any]:
    left = max(0, one["active_at"] - int(time.time()))
    rest = {name: value for name, value in one.items() if name not in ("change_id", "kind", "active_at")}
    what = ", ".join(f"{name} {plain(value)}" for name, value in rest.items())
    kind, when = one["kind"].replace("_", " "), time_of(one["active_at"])
    return {"change": one["change_id"], "kind": kind, "what": what, "active in": f"{left} s", "at": when}
