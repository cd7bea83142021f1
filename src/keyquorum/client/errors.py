"""What can go wrong for a caller of the network, as one small tree.

Every error has a `code` (snake_case, stable, for programs), a message (what happened) and a `hint` (what to do
next); `to_json` gives exactly the object that the HTTP API and the CLI print. The subclasses answer one question:
whose move is it?

* `Refused`: the network understood and said no. Asking again the same way will not help.
* `Unavailable`: too few nodes answer. Asking later may help.
* `BadAnswer`: nodes or a gateway answered something that does not hold. Nothing false was accepted.
* `Timeout`: the time given ran out first.
* `TooExpensive`: it would cost more than the payer allows. Nothing was signed.
* `ChainError`: the chain could not be read, or did not execute what was sent.
* `Misconfigured`: this side is not set up (no network file, no account, a wrong address).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class KeyquorumError(Exception):
    """The root: `code`, message and `hint`; never holds a secret."""

    code = "error"
    hint = ""

    def __init__(self, message: str, *, code: str | None = None, hint: str | None = None) -> None:
        self.message = message
        self.code = code or type(self).code
        self.hint = type(self).hint if hint is None else hint
        super().__init__(message)

    def to_json(self) -> dict[str, Any]:
        """Return `{"code", "message", "hint"}`, as the HTTP API has it."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class Refused(KeyquorumError):
    """The nodes (more than n - t of them), or the gateway, refused the request; `status` is their HTTP status."""

    code = "refused"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        status: int = 403,
        parties: tuple[int, ...] = (),
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.status = status
        self.parties = parties


class Unavailable(KeyquorumError):
    """Fewer nodes than the threshold can serve: `needed` and `live` count nodes, `causes` says why, by party.

    `parties` are whom to leave out when the request is signed again (code `runs_used_up`).
    """

    code = "unavailable"
    hint = "wait until enough nodes run (see `keyquorum status`) and ask again"

    def __init__(
        self,
        message: str,
        *,
        needed: int,
        live: int,
        causes: Mapping[int, str] | None = None,
        code: str | None = None,
        hint: str | None = None,
        parties: Iterable[int] = (),
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.needed = needed
        self.live = live
        self.causes = dict(causes or {})
        self.parties = tuple(sorted(parties))

    def to_json(self) -> dict[str, Any]:
        """Return the object of the HTTP API, with `parties` where there are any."""
        return super().to_json() | ({"parties": list(self.parties)} if self.parties else {})


class BadAnswer(KeyquorumError):
    """An answer that does not hold; `party` is who gave it, None when only the sum of the answers is wrong."""

    code = "bad_answer"
    hint = "nothing was accepted; ask again, and report the node if it happens again"

    def __init__(self, message: str, *, party: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.party = party


class Timeout(KeyquorumError):
    """The caller's time ran out."""

    code = "timeout"
    hint = "ask again, or allow more time"


class ChainError(KeyquorumError):
    """The chain endpoint failed, or a transaction was rejected or reverted."""

    code = "chain_error"
    hint = "check the chain endpoint"


class TooExpensive(KeyquorumError):
    """A price above the payer's limits: `asked` and `allowed`, of the `setting` of `SpendingLimits` that says no."""

    code = "too_expensive"

    def __init__(self, message: str, *, asked: int, allowed: int, setting: str, hint: str | None = None) -> None:
        allow = f"nothing was signed or paid; if that is the right price, allow it: SpendingLimits({setting}=...)"
        super().__init__(message, hint=hint or allow)
        self.asked = asked
        self.allowed = allowed
        self.setting = setting


class Misconfigured(KeyquorumError):
    """This side lacks something before anything can be asked."""

    code = "misconfigured"
