"""`Refusal`: the one way anything here says no to a program or a person, and the base of every error that does.

Whoever receives it needs three things: a word that a program can branch on (`code`: snake_case, stable), a sentence for
a person (`message`: what happened) and what to do next (`hint`); always in this order. `status` is the HTTP status that
a server answers with: 400 for what is not well formed, 401 for a proof, certificate or request that does not hold, 403
for who is who he says and still may not, 429 for too much, 503 when this server, or somebody who must be asked, cannot
serve now. Nothing secret is ever put into one: proofs and tokens are not quoted. docs/errors.md lists every code.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

MALFORMED, NOT_PROVEN, NOT_PERMITTED, NOT_FOUND, CONFLICT = 400, 401, 403, 404, 409
TOO_SLOW, TOO_LARGE, WRONG_TYPE, TOO_MANY, UNAVAILABLE = 408, 413, 415, 429, 503


class Refusal(Exception):
    """What is wrong, for programs and for people, and what to do about it.

    `parties` are the nodes to leave out of the next attempt; `retry_after` is how many seconds to wait, 0 for unknown.
    """

    def __init__(
        self, code: str, message: str, hint: str, status: int = MALFORMED, *,
        parties: Iterable[int] = (), retry_after: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(code, message, hint, status)
        self.code = code
        self.message = message
        self.hint = hint
        self.status = status
        self.parties = tuple(sorted(parties))
        self.retry_after = retry_after

    def __str__(self) -> str:
        return self.message

    def to_json(self) -> dict[str, Any]:
        """Return `{"code", "message", "hint"}`, and `parties` where there are any: the object of API and CLI."""
        told: dict[str, Any] = {"code": self.code, "message": self.message, "hint": self.hint}
        return told | ({"parties": list(self.parties)} if self.parties else {})

    def again(self) -> Refusal:
        """Return an equal one: an exception that is raised twice would keep what hung on it the first time."""
        return Refusal(
            self.code, self.message, self.hint, self.status, parties=self.parties, retry_after=self.retry_after
        )


class Invalid(Refusal, ValueError):
    """What the caller gave does not hold: a proof, a certificate or a request (401), or what `status` says."""

    def __init__(self, code: str, message: str, hint: str, status: int = NOT_PROVEN) -> None:
        super().__init__(code, message, hint, status)


def malformed(code: str, message: str, hint: str = "see spec/auth.md for the exact form") -> Invalid:
    """Return the refusal of what does not have the form it must have (400)."""
    return Invalid(code, message, hint, MALFORMED)
