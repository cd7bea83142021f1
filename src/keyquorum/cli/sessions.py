"""`keyquorum sessions ...`: look at the sessions that are open in one's name, and end them.

The nodes remember the sessions that they certified, and tell them to whoever proved the same identity. Ending is a mark
on the chain, after which every node refuses the session from the next block on.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyquorum.cli.login import describe
from keyquorum.cli.output import JsonOption, command
from keyquorum.cli.state import DEFAULT_DIR, AccountOption, DirOption, TimeoutOption, run_with_session, token_named
from keyquorum.cli.words import identity_of, scopes_of, session_of

if TYPE_CHECKING:
    from keyquorum.client.async_client import AsyncClient
    from keyquorum.client.seen import Change
    from keyquorum.client.session_list import SessionInfo

app = typer.Typer(help="List, inspect and end sessions.", no_args_is_help=True)


@app.command("list")
def list_sessions(
    directory: DirOption = DEFAULT_DIR,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """List the sessions that rest on what the stored session has proven, the newest first."""
    with command(as_json) as out:
        with out.working("asking the nodes"):
            found = run_with_session(directory, account_file, timeout, lambda client: client.sessions.list())
        if as_json:
            out.line([one.to_json() for one in found])
        elif not found:
            out.say("no sessions: [bold]keyquorum login[/bold] opens one")
        else:
            out.table([_row(one) for one in found])


@app.command("show")
def show(
    name: Annotated[str | None, typer.Argument(help="The session's id; default: the stored one.", metavar="ID")] = None,
    directory: DirOption = DEFAULT_DIR,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Show one session: who, for what, until when, how often it was used."""
    with command(as_json) as out:
        with out.working("asking the nodes"):
            found = run_with_session(directory, account_file, timeout, lambda client: _find(client, name))
        out.result(found, shown=session_of(found))


@app.command("revoke")
def revoke(
    name: Annotated[str | None, typer.Argument(help="The session's id.", metavar="ID")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every session of yours, this one too.")] = False,
    key: Annotated[
        str | None, typer.Option("--key", help="Every session, of anybody, as far as it is for this key.")
    ] = None,
    directory: DirOption = DEFAULT_DIR,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """End one session, all of yours, or all for one key; every node knows with the next block."""
    with command(as_json) as out:
        if sum((name is not None, everything, key is not None)) != 1:
            raise ValueError("say which sessions to end: an ID, --all, or --key TOKEN_ID")

        async def work(client: AsyncClient) -> list[Change]:
            if name is not None:
                return [await client.sessions.revoke(name)]
            if key is not None:
                return [await client.sessions.revoke_key(await token_named(client, key))]
            return list(await client.sessions.revoke_all())

        with out.working("ending sessions"):
            done = run_with_session(directory, account_file, timeout, work)
        late = {"settled": False} if any(one.settled is False for one in done) else {}
        out.result({"revoked": name or key or "all", "transactions": [*map(str, done)]} | late, title="ended")


async def _find(client: AsyncClient, name: str | None) -> dict[str, Any]:
    from keyquorum.client.errors import Misconfigured

    held = client.session
    if name is None and held is None:
        raise Misconfigured("no_login", "there is no stored session", "open one with `keyquorum login`")
    wanted = name if held is None or name is not None else held.id
    for one in await client.sessions.list():
        if one.id == wanted:
            return one.to_json()
    if held is not None and held.id == wanted:
        # A node that was down at the login does not know of it, and the session is good nevertheless.
        return describe(held)
    raise Misconfigured(
        "unknown_session",
        f"no node knows a session {(wanted or '')[:70]}",
        "see `keyquorum sessions list`; what has expired is forgotten",
    )


def _row(one: SessionInfo) -> dict[str, Any]:
    left = max(0, one.expires - int(time.time()))
    return {
        "id": one.id,
        "methods": ", ".join(identity_of(number, name) for number, name in one.methods),
        "scopes": scopes_of(one.scopes),
        "keys": "all" if one.keys == ("*",) else len(one.keys),
        "used": f"{one.used}/{one.uses}",
        "state": "ended" if one.revoked else f"{left // 60} min left",
        "": "this one" if one.current else "",
    }
