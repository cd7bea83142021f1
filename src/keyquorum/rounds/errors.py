"""Errors by whose fault: `ValueError` is the caller's, `Abort` nobody's that is known, `Blame` named peers'."""

from __future__ import annotations

from collections.abc import Iterable


class Abort(Exception):
    """A run ended without output and nobody in particular is known to be at fault."""


class Blame(Abort):
    """A run ended because `culprits` deviated, as seen by this party.

    It proves nothing to others unless the failed check was public. `rows` are the items of the batch that
    show it (empty: the whole run). `burn` says that the failed check leaked something reusable: the caller
    must destroy what `burn` names ("pair": OT state and pool of that pair and direction; "batch": one batch).
    """

    def __init__(self, culprits: Iterable[int], reason: str, rows: Iterable[int] = (), burn: str | None = None) -> None:
        self.culprits = frozenset(culprits)
        self.reason = reason
        self.rows = tuple(rows)
        self.burn = burn
        super().__init__(f"{reason}: parties {sorted(self.culprits)}")
