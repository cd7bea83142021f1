"""How a command talks: rich text for a person, one JSON line for a program, and the exit codes of both.

With `--json`, standard output gets exactly one line at the end, the result or `{"error": {...}}`, and nothing
else; progress goes to standard error in both cases, so that `keyquorum ... | less` shows only results. Every error
says what to do next. Exit codes tell whose move it is, in the order of `keyquorum.client.errors`.

This module imports nothing heavy: it is loaded even for `--help`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from keyquorum.client.errors import KeyquorumError

USAGE, REFUSED, UNAVAILABLE, BAD_ANSWER, CHAIN, UNEXPECTED, INTERRUPTED = 2, 3, 4, 5, 6, 1, 130

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")]


def exit_code(error: KeyquorumError) -> int:
    """Return the exit code that belongs to an error."""
    from keyquorum.client import errors
    from keyquorum.client.oauth import FAILED, ProviderError

    if isinstance(error, ProviderError):
        # Whoever does not answer may later; what does not hold was not accepted.
        return UNAVAILABLE if error.code == FAILED else BAD_ANSWER
    codes = {
        errors.Misconfigured: USAGE,
        errors.TooExpensive: USAGE,
        errors.Refused: REFUSED,
        errors.Unavailable: UNAVAILABLE,
        errors.Timeout: UNAVAILABLE,
        errors.BadAnswer: BAD_ANSWER,
        errors.ChainError: CHAIN,
    }
    return next((code for kind, code in codes.items() if isinstance(error, kind)), UNEXPECTED)


class Output:
    """Where one command's words go."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._out: Console | None = None
        self._err: Console | None = None

    @property
    def console(self) -> Console:
        """Standard output, for results."""
        if self._out is None:
            from rich.console import Console

            self._out = Console(highlight=False, soft_wrap=True)
        return self._out

    @property
    def progress(self) -> Console:
        """Standard error, for progress and errors."""
        if self._err is None:
            from rich.console import Console

            self._err = Console(stderr=True, highlight=False, soft_wrap=True)
        return self._err

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Show that something is going on, with a spinner on a terminal and one line elsewhere."""
        if self.as_json or not self.progress.is_terminal:
            yield
            return
        with self.progress.status(what):
            yield

    def result(
        self,
        value: Mapping[str, Any] | list[Any],
        *,
        title: str | None = None,
        shown: Mapping[str, Any] | None = None,
    ) -> None:
        """Print a result: a JSON line, or one aligned `name  value` line per member (of `shown`, if that is given)."""
        if self.as_json:
            self.line(value)
        elif isinstance(value, Mapping):
            self.fields(value if shown is None else shown, title)
        else:
            self.table(value, title)

    def line(self, value: Any) -> None:
        """Print one line of JSON."""
        sys.stdout.write(json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """Print a sentence for a person, with rich markup; nothing with `--json`."""
        if not self.as_json:
            self.console.print(text)

    def fields(self, value: Mapping[str, Any], title: str | None = None) -> None:
        """Print an object for a person."""
        from rich.markup import escape

        if title:
            self.console.print(f"[bold]{escape(title)}[/bold]")
        width = max((len(name) for name in value), default=0)
        for name, item in value.items():
            self.console.print(f"  [dim]{name.replace('_', ' '):<{width}}[/dim]  {escape(plain(item))}")

    def table(self, rows: list[Any], title: str | None = None) -> None:
        """Print objects with the same members in columns, never cut: a token id is there to be copied."""
        from rich.markup import escape

        if title:
            self.console.print(f"[bold]{escape(title)}[/bold]")
        if not rows:
            return
        head = [name.replace("_", " ") for name in rows[0]]
        cells = [[plain(item) for item in row.values()] for row in rows]
        widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
        for style, line in [("dim", head), *(("default", row) for row in cells)]:
            text = "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
            self.console.print(f"  [{style}]{escape(text)}[/{style}]")

    def fail(self, error: Mapping[str, str], code: int) -> NoReturn:
        """Print an error and end the command with `code`."""
        if self.as_json:
            self.line({"error": dict(error)})
        else:
            from rich.markup import escape

            self.progress.print(f"[red]error[/red] {escape(error['message'])} [dim]({error['code']})[/dim]")
            if error.get("hint"):
                self.progress.print(f"  [dim]do:[/dim] {escape(error['hint'])}")
        raise typer.Exit(code)


def plain(value: Any) -> str:
    """Return a value as people read it."""
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(item)}" for name, item in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value)) or "none"
    return str(value)


@contextmanager
def command(as_json: bool) -> Iterator[Output]:
    """Run a command's body; turn what it raises into the error output and the exit code of this file's table."""
    out = Output(as_json)
    try:
        yield out
    except KeyboardInterrupt:
        out.fail({"code": "interrupted", "message": "stopped by Ctrl-C", "hint": ""}, INTERRUPTED)
    except (ValueError, OSError) as error:
        out.fail(_as_error(error), USAGE)
    except Exception as error:
        from keyquorum.chain.fees import TooDear
        from keyquorum.client.errors import KeyquorumError
        from keyquorum.client.network import too_expensive

        if isinstance(error, TooDear):
            error = too_expensive(error, "nothing was sent; wait for lower fees, or look at the chain endpoint")
        if not isinstance(error, KeyquorumError):
            raise
        out.fail(error.to_json(), exit_code(error))


def usage_error(message: str, hint: str) -> dict[str, str]:
    """Return the error object for a command that was not given as its help says."""
    return {"code": "bad_usage", "message": message, "hint": hint}


def _as_error(error: ValueError | OSError) -> dict[str, str]:
    """Return the error object for bad input; intents and logins bring a code and a hint of their own."""
    if isinstance(error, OSError):
        return {
            "code": "bad_file",
            "message": _os_words(error),
            "hint": "check the path, and who may read and write it",
        }
    return {
        "code": str(getattr(error, "code", "bad_input")),
        "message": str(getattr(error, "message", error)),
        "hint": str(getattr(error, "hint", "see --help")),
    }


def _os_words(error: OSError) -> str:
    """Return what the system refused, in words: `no such file or directory: mail.json`; our own words as they are."""
    if error.strerror is None:
        return str(error) or type(error).__name__
    reason = error.strerror.lower()
    return f"{reason}: {error.filename}" if error.filename else reason


class Stopwatch:
    """Seconds since it was made, and since the last lap."""

    def __init__(self) -> None:
        self._start = self._lap = time.monotonic()

    def lap(self) -> float:
        """Return the seconds since the last lap, and start a new one."""
        now = time.monotonic()
        elapsed, self._lap = now - self._lap, now
        return elapsed

    @property
    def total(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._start
