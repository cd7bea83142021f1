"""`keyquorum`: the table of contents of the command line; one file per group.

Everything heavy is imported inside the commands, so that `--help` answers in a fifth of a second.
"""

from __future__ import annotations

from typing import Annotated

import typer

from keyquorum import __version__
from keyquorum.cli import bench, codes, demo, keys, login, methods, node, sessions, sign, status, up

app = typer.Typer(
    name="keyquorum",
    help="Programmable key pairs that a network of nodes holds together. Unaudited: do not put real money behind it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


VersionOption = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")]


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options that stand before a command."""


app.command("demo")(demo.demo)
app.command("up")(up.up)
app.command("status")(status.status)
app.command("login")(login.login)
app.add_typer(sessions.app, name="sessions")
app.add_typer(keys.app, name="keys")
app.add_typer(methods.app, name="methods")
app.add_typer(sign.app, name="sign")
app.command("send")(sign.send)
app.add_typer(node.app, name="node")
app.add_typer(codes.app, name="codes")
app.command("bench")(bench.bench)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
