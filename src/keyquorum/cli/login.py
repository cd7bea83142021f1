"""`keyquorum login [WAY]`: prove who one is once, keep a session key for the next commands.

One command for every way (`ways.py`): they differ in who is asked, not in what is asked for. `--step-up` proves one
more identity for the session that is there, which may then do what takes two.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyquorum.cli.output import JsonOption, command
from keyquorum.cli.payload import finite
from keyquorum.cli.person import Person
from keyquorum.cli.state import (
    DEFAULT_DIR,
    AccountOption,
    DirOption,
    TimeoutOption,
    client_for,
    load_session,
    store_session,
    token_named,
)
from keyquorum.cli.ways import WAYS, Terminal, Way, way_of
from keyquorum.cli.words import session_of

if TYPE_CHECKING:
    from keyquorum.client.async_client import AsyncClient
    from keyquorum.client.session import Session

DEFAULT_SCOPES = [1]
SCOPES_HELP = (
    "A scope to ask for: 1 anything decodable, 2 messages, 3 transactions, 4 typed data, 5 raw digests,"
    " 6 managing who may use the keys; 0 alone: none, only say who I am."
)
WayArgument = Annotated[str, typer.Argument(help=f"How: {', '.join(WAYS)}.", metavar="WAY")]
WhoArgument = Annotated[
    str | None, typer.Argument(help="For oidc the provider, for email and sms the address; asked for if left out.")
]
BrowserOption = Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser, or print the address.")]
WaitOption = Annotated[
    float, typer.Option("--wait", min=1, max=900, callback=finite, help="Seconds for you to log in.")
]
PathOption = Annotated[str, typer.Option("--path", help="Ledger: the account's BIP-32 path.")]
FormOption = Annotated[str, typer.Option("--form", help="Ledger: eip191 shows the text, eip712 two hashes.")]


def login(
    way: WayArgument = "wallet",
    who: WhoArgument = None,
    scopes: Annotated[list[int] | None, typer.Option("--scope", min=0, max=8, help=SCOPES_HELP)] = None,
    keys: Annotated[list[str] | None, typer.Option("--key", help="Only for this key; default: all of yours.")] = None,
    hours: Annotated[
        float | None,
        typer.Option(
            "--hours", min=0.01, max=24, callback=finite, help="How long; default: 15 minutes, messages only 8 hours."
        ),
    ] = None,
    uses: Annotated[int | None, typer.Option("--uses", min=1, max=1_000_000, help="Signatures at most.")] = None,
    step_up: Annotated[
        bool, typer.Option("--step-up", help="Prove one more identity for the session that is there.")
    ] = False,
    browser: BrowserOption = True,
    wait: WaitOption = 300.0,
    path: PathOption = "m/44'/60'/0'/0/0",
    form: FormOption = "eip191",
    directory: DirOption = DEFAULT_DIR,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Log in; the session is kept in the folder and used by the other commands."""
    with command(as_json) as out:
        wanted = {"scopes": asked_scopes(scopes), "seconds": hours and hours * 3600, "uses": uses}
        if step_up and any((scopes, keys, hours, uses)):
            raise ValueError("--step-up keeps the session's scopes, keys, duration and uses: leave those options out")

        async def work() -> Session:
            async with client_for(directory, account_file, timeout) as client:
                if step_up and (stored := load_session(directory, client.facts.id)):
                    client.use_session(stored)
                chosen = await way_of(Terminal(client, Person(browser), directory, wait, path, form), way, who)
                if step_up:
                    return await step_up_with(client, chosen)
                named = [await token_named(client, key) for key in keys or ()]
                return await open_with(client, chosen, keys=named or None, **wanted)

        session = asyncio.run(work())
        store_session(directory, session)
        found = describe(session)
        out.result(found, title="proven as well" if step_up else "logged in", shown=session_of(found))


def asked_scopes(scopes: list[int] | None) -> list[int]:
    """Return the scopes to ask for: by default 1, and none for 0 alone."""
    if scopes and 0 in scopes:
        if set(scopes) != {0}:
            raise ValueError("scope 0 means none: it stands alone")
        return []
    return scopes or DEFAULT_SCOPES


async def open_with(client: AsyncClient, way: Way, **wanted: Any) -> Session:
    """Open a new session by a way; `wanted` are scopes, keys, seconds and uses as for `client.login_with`."""
    return await client.login_with(way.method, way.prove, identity=way.identity, key=way.key, **wanted)


async def step_up_with(client: AsyncClient, way: Way) -> Session:
    """Prove one more identity for the client's session."""
    return await client.step_up(way.method, way.prove, identity=way.identity)


def describe(session: Session) -> dict[str, Any]:
    """Return what a person wants to know of a session; nothing secret."""
    return {
        "network": session.network,
        "session": session.key.public.thumbprint,
        "id": session.id,
        "methods": [{"type": one.type, "id": "0x" + one.id.hex()} for one in session.methods],
        "keys": list(session.keys),
        "scopes": list(session.scopes),
        "expires": session.expires,
        "uses": session.uses,
    }
