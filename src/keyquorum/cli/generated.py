"""Settings files that `up` writes at every start, and what it does when a person changed one.

Each says at its top where to edit instead. The fingerprints of what was written are remembered, so a changed file is
noticed: it stays as it is while `up` would only write the same as before, and else the start is refused, because
one of the two would be lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keyquorum.client.errors import Misconfigured

HEAD = """\
# Written by `keyquorum up` at each start. Do not edit it here: ports and contracts come from the network, and
# everything about logging in is in {place}, which is yours to write (docs/operators.md, "A network on one machine").

"""
REMEMBERED = 2


class GeneratedFiles:
    """The files below `folder`; `known` are the fingerprints written before, the newest last, by name."""

    def __init__(self, folder: Path, known: Any, place: str, tell: Callable[[str], None]) -> None:
        self._folder = folder
        self._head = HEAD.format(place=place)
        self._place = place
        self._tell = tell
        self._texts: dict[str, str] = {}
        self._known: dict[str, list[str]] = {}
        if isinstance(known, Mapping):
            self._known = {
                name: [str(one) for one in marks] for name, marks in known.items() if isinstance(marks, list)
            }

    def add(self, name: str, text: str) -> None:
        """Plan to write a file; raises `Misconfigured` when that would lose what a person wrote."""
        text = self._head + text
        if not self._is_edited(name):
            self._texts[name] = text
        elif _mark(text) == self._known[name][-1]:
            self._tell(f"{name} was changed by hand and stays so; remove it to have it written again")
        else:
            raise Misconfigured(
                "edited_settings",
                f"{name} was changed by hand, and has to be written again",
                f"move what you changed to {self._place}, remove {self._folder / name}, and start again",
            )

    def marks(self) -> dict[str, list[str]]:
        """Return what to remember: before `write`, so that a start that ends halfway is not taken for a person."""
        planned = {name: _mark(text) for name, text in self._texts.items()}
        return self._known | {
            name: [*(old for old in self._known.get(name, []) if old != mark), mark][-REMEMBERED:]
            for name, mark in planned.items()
        }

    def write(self) -> None:
        """Write the files."""
        for name, text in self._texts.items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def _is_edited(self, name: str) -> bool:
        path, known = self._folder / name, self._known.get(name)
        return bool(known) and path.exists() and _mark(path.read_text()) not in (known or ())


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
