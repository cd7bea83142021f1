"""`keyquorum`: the table of contents of the command line; one file per group.

Everything heavy is imported inside the commands, so that `--help` answers in a fifth of a second.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from keyquorum import __version__
from keyquorum.cli import bench, codes, demo, fund, keys, login, methods, node, sessions, sign, status, up
from keyquorum.cli.output import USAGE, Output, usage_error

# What typer raises for a command line that does not fit: a missing argument, an unknown option, a bad value.
UsageError: Any = typer.BadParameter.__mro__[1]


class Root(TyperGroup):
    """The command line; with `--json` its errors of usage are one line of JSON too."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **named: Any) -> Any:
        """Run it; see `typer.core.TyperGroup.main`."""
        given = list(sys.argv[1:] if args is None else args)
        options = given[: given.index("--")] if "--" in given else given
        if "--json" not in options or not named.get("standalone_mode", True):
            return super().main(given, *rest, **named)
        try:
            sys.exit(super().main(given, *rest, **named | {"standalone_mode": False}) or 0)
        except UsageError as error:
            _fail(error)
        except typer.Abort:
            sys.exit(1)


def _fail(error: Any) -> None:
    path = error.ctx.command_path if error.ctx is not None else "keyquorum"
    Output(True).line({"error": usage_error(error.format_message(), f"see `{path} --help`")})
    sys.exit(USAGE)


app = typer.Typer(
    cls=Root,
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
app.command("fund")(fund.fund)
app.add_typer(node.app, name="node")
app.add_typer(codes.app, name="codes")
app.command("bench")(bench.bench)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
