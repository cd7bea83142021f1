"""`keyquorum login`: prove an account once, keep a session key for the next commands."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keyquorum.cli.output import JsonOption, command
from keyquorum.cli.state import DEFAULT_DIR, AccountOption, DirOption, TimeoutOption, client_for, store_session

if TYPE_CHECKING:
    from keyquorum.client.session import Session

SCOPES_HELP = "A scope to ask for: 1 anything decodable, 2 messages, 3 transactions, 4 typed data, 5 raw digests."


def login(
    scopes: Annotated[list[int] | None, typer.Option("--scope", min=1, max=6, help=SCOPES_HELP)] = None,
    keys: Annotated[list[str] | None, typer.Option("--key", help="Only for this key; default: all of yours.")] = None,
    hours: Annotated[float, typer.Option("--hours", min=0.01, max=24, help="How long the session lasts.")] = 8.0,
    directory: DirOption = DEFAULT_DIR,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Log in with your account; the session is kept in the folder and used by the other commands."""
    with command(as_json) as out:
        with out.working("logging in"):
            session = asyncio.run(_login(directory, account_file, timeout, scopes or [1], keys, hours * 3600))
        store_session(directory, session)
        out.result(
            {
                "network": session.network,
                "session": session.key.public.thumbprint,
                "keys": list(session.keys),
                "scopes": list(session.scopes),
                "expires": session.expires,
            },
            title="logged in",
        )


async def _login(
    directory: Path, account_file: Path | None, seconds: float, scopes: list[int], keys: list[str] | None, lasts: float
) -> Session:
    async with client_for(directory, account_file, seconds) as client:
        return await client.login(scopes=scopes, keys=keys, seconds=lasts)
