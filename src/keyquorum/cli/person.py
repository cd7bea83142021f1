"""The person at the terminal: shown addresses, asked for codes; on standard error, so that `--json` stays one line."""

from __future__ import annotations

import signal
import sys
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask: do it.")]


class Person:
    """Who sits here; with `browser` False addresses are printed to be opened elsewhere."""

    def __init__(self, browser: bool = True) -> None:
        self._browser = browser

    def tell(self, text: str) -> None:
        """Show one line."""
        typer.echo(text, err=True)

    def open(self, url: str) -> None:
        """Open an address in the browser, or print it where there is none."""
        if self._browser and webbrowser.open(url):
            self.tell("Go on in the browser window that opened.")
            return
        self.tell(f"Open this address in a browser on this machine:\n{url}")

    def ask(self, what: str) -> str:
        """Return the line, not empty, that the person types after `what`; raise `ValueError` when the input ends."""
        with interruptible():
            while True:
                # Not typer.prompt, which writes a part of the question to standard output.
                typer.echo(f"{what}: ", nl=False, err=True)
                line = sys.stdin.readline()
                if not line:
                    raise ValueError(f"nobody answered: {what}")
                if line.strip():
                    return line.strip()

    def agree(self, question: str, yes: bool = False) -> None:
        """Return when the person agrees to what cannot be undone, or said so before (`yes`); raise `Misconfigured`."""
        from keyquorum.client.errors import Misconfigured

        if yes:
            return
        if not is_terminal():
            raise Misconfigured(
                "needs_yes",
                f"nothing was done, since nobody is here to be asked: {question}?",
                "it cannot be undone: look at it, then say --yes",
            )
        if self.ask(f"{question}? [y/N]").lower() not in ("y", "yes"):
            raise Misconfigured("not_agreed", "nothing was done", "answer y to go on")


def is_terminal() -> bool:
    """Say whether somebody sits here who can read a question and answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C end a wait that blocks the event loop at once; asyncio alone would only note it for later."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
