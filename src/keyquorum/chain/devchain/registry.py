"""The table of JSON-RPC methods: wire name to the name of the handling method and the number of its parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

METHODS: dict[str, tuple[str, int, int]] = {}
OPEN_PREFIXES = ("eth_", "net_", "web3_")
UNLOCKED: set[str] = set()

Handler = TypeVar("Handler", bound=Callable[..., Any])


def rpc(*names: str, least: int = 0, most: int | None = None, unlocked: bool = False) -> Callable[[Handler], Handler]:
    """Register a method under its wire names, taking `least` to `most` parameters (`most` None: exactly `least`).

    `unlocked`: it uses an unlocked account's key.
    """

    def register(handler: Handler) -> Handler:
        for name in names:
            METHODS[name] = (handler.__name__, least, least if most is None else most)
            if unlocked:
                UNLOCKED.add(name)
        return handler

    return register


def is_open_to_pages(name: str) -> bool:
    """Say whether a web page may call a method: the standard ones that use no key of this chain."""
    return name.startswith(OPEN_PREFIXES) and name not in UNLOCKED
