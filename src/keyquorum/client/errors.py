"""What can go wrong for a caller of the network, as one small tree.

Every error is a `Refusal`: a `code`, what happened, and a `hint`; `to_json` gives exactly the object that the HTTP API
and the CLI print. The subclasses answer one question: whose move is it?

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

from keyquorum.refusal import NOT_PERMITTED, UNAVAILABLE, Refusal


class KeyquorumError(Refusal):
    """The root; never holds a secret. Without a hint of its own an error has that of its class."""

    usual_hint = ""

    def __init__(
        self,
        code: str,
        message: str,
        hint: str | None = None,
        status: int = UNAVAILABLE,
        *,
        parties: Iterable[int] = (),
    ) -> None:
        super().__init__(code, message, type(self).usual_hint if hint is None else hint, status, parties=parties)


class Refused(KeyquorumError):
    """The nodes (more than n - t of them), or the gateway, refused the request; `status` is their HTTP status.

    `refused_by` are the parties that said so.
    """

    def __init__(
        self, code: str, message: str, hint: str | None = None, status: int = NOT_PERMITTED, *,
        refused_by: Iterable[int] = (),
    ) -> None:  # fmt: skip
        super().__init__(code, message, hint, status)
        self.refused_by = tuple(refused_by)


class Unavailable(KeyquorumError):
    """Fewer nodes than the threshold can serve: `needed` and `live` count nodes, `causes` says why, by party.

    `parties` are whom to leave out when the request is signed again (code `runs_used_up`).
    """

    usual_hint = "wait until enough nodes run (see `keyquorum status`) and ask again"

    def __init__(
        self, code: str, message: str, hint: str | None = None, *, needed: int, live: int,
        causes: Mapping[int, str] | None = None, parties: Iterable[int] = (),
    ) -> None:  # fmt: skip
        super().__init__(code, message, hint, parties=parties)
        self.needed = needed
        self.live = live
        self.causes = dict(causes or {})


class BadAnswer(KeyquorumError):
    """An answer that does not hold; `party` is who gave it, None when only the sum of the answers is wrong."""

    usual_hint = "nothing was accepted; ask again, and report the node if it happens again"

    def __init__(self, code: str, message: str, hint: str | None = None, *, party: int | None = None) -> None:
        super().__init__(code, message, hint)
        self.party = party


class Timeout(KeyquorumError):
    """The caller's time ran out."""

    usual_hint = "ask again, or allow more time"


class ChainError(KeyquorumError):
    """The chain endpoint failed, or a transaction was rejected or reverted."""

    usual_hint = "check the chain endpoint"


class TooExpensive(KeyquorumError):
    """A price above the payer's limits: `asked` and `allowed`, of the `setting` of `SpendingLimits` that says no."""

    def __init__(
        self, code: str, message: str, hint: str | None = None, *, asked: int, allowed: int, setting: str
    ) -> None:
        allow = f"nothing was signed or paid; if that is the right price, allow it: SpendingLimits({setting}=...)"
        super().__init__(code, message, hint or allow)
        self.asked = asked
        self.allowed = allowed
        self.setting = setting


class Misconfigured(KeyquorumError):
    """This side lacks something before anything can be asked."""
