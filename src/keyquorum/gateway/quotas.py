"""What the relay's account spends on strangers: bounded for each network address, each receiver, each login method."""

from __future__ import annotations

from keyquorum.chain.fees import TooDear
from keyquorum.client.errors import Refused
from keyquorum.client.network import too_expensive
from keyquorum.refusal import NOT_PERMITTED, TOO_MANY, UNAVAILABLE
from keyquorum.serving.buckets import Buckets

HOUR = 3600.0


class Quota:
    """Buckets of an hour; `limits` are (what is counted, how many), in the order of the names given to `take`."""

    def __init__(self, code: str, what: str, *limits: int) -> None:
        self._code = code
        self._what = what
        self._buckets = [Buckets(limit, HOUR) for limit in limits]

    def take(self, *names: str) -> None:
        """Count one for each name; if one has none left, count nothing and raise `Refused` (429)."""
        counted = list(zip(self._buckets, names, strict=True))
        if any(buckets.wait(name) for buckets, name in counted):
            raise Refused(self._code, f"too many {self._what} for now", "wait an hour", status=TOO_MANY)
        for buckets, name in counted:
            buckets.take(name)


def no_relay(what: str) -> Refused:
    """Return the refusal of a gateway without an account."""
    return Refused(
        "no_relay",
        f"this gateway does not pay for {what}",
        "send the transaction from an account of your own",
        status=NOT_PERMITTED,
    )


def busy() -> Refused:
    """Return the refusal when the queue is full."""
    return Refused("busy", "too much at a time", "ask again in a moment", status=TOO_MANY)


def unaffordable(error: TooDear) -> Refused:
    """Return what strangers are told when a payment is above the operator's limits."""
    public = too_expensive(error, "use another gateway, or pay yourself; its operator decides what it pays")
    return Refused(public.code, public.message, public.hint, status=UNAVAILABLE)
