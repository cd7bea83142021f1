"""The table of JSON-RPC methods: wire name to the name of the handling method and the number of its parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

METHODS: dict[str, tuple[str, int, int]] = {}

Handler = TypeVar("Handler", bound=Callable[..., Any])


def rpc(*names: str, least: int = 0, most: int | None = None) -> Callable[[Handler], Handler]:
    """Register a method under its wire names, taking `least` to `most` parameters (`most` None: exactly `least`)."""

    def register(handler: Handler) -> Handler:
        for name in names:
            METHODS[name] = (handler.__name__, least, least if most is None else most)
        return handler

    return register
