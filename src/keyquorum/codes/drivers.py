"""How a message leaves: the interface of the drivers, and the settings that choose one.

Sending has two halves. `open` does what does not depend on the address (connect, TLS, password): if it fails, whoever
asks is told which provider is down. `Delivery.send` is everything that could depend on the address, and happens after
the answer was given, so that nobody can see from it whether a mailbox exists or an address has used up its codes.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Protocol

LOOPBACK_NAMES = frozenset({"localhost"})


@dataclass(frozen=True, slots=True, repr=False)
class Message:
    """What is sent; `subject` is for mail only. It holds the code, so it has no repr."""

    subject: str
    text: str


class ProviderDown(Exception):
    """The provider at `host` cannot be used now, whoever the message is for; `reason` names no person."""

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(f"{host}: {reason}")
        self.host = host
        self.reason = reason


class Undeliverable(Exception):
    """The provider took the message for this address not; the text is its status code only."""


class Delivery(Protocol):
    """One opened way to the provider, for at most one message."""

    async def send(self, address: str, message: Message) -> None:
        """Send; raise `Undeliverable` or `ProviderDown`."""
        ...

    async def close(self) -> None:
        """Give the way back; never raises."""
        ...


class Driver(Protocol):
    """One provider."""

    @property
    def host(self) -> str:
        """Its host, as errors name it."""
        ...

    async def open(self) -> Delivery:
        """Return a way to it; raise `ProviderDown`."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


def is_loopback(host: str) -> bool:
    """Say whether `host` is this machine, the only place that codes may go to without TLS."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK_NAMES


def reason_of(error: BaseException) -> str:
    """Return what may be told of a failure: its kind, and no text of strangers, which could hold an address."""
    return "it does not answer in time" if isinstance(error, TimeoutError) else type(error).__name__
