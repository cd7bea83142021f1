"""The SDK: `AsyncClient`, `Client`, `PkpAccount`, the network file, typed results and errors.

Names are loaded when they are used: importing eth-account and aiohttp takes half a second, and a command that only
prints its help needs neither.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keyquorum.chain.fees import SpendingLimits
    from keyquorum.client.account import PkpAccount
    from keyquorum.client.async_client import AsyncClient
    from keyquorum.client.errors import (
        BadAnswer,
        ChainError,
        KeyquorumError,
        Misconfigured,
        Refused,
        Timeout,
        TooExpensive,
        Unavailable,
    )
    from keyquorum.client.network import Network
    from keyquorum.client.permissions import PendingChange, PermittedMethod
    from keyquorum.client.results import Key, Minted, NetworkStatus, Node, SentTransaction, Signed
    from keyquorum.client.session import Lent, Session
    from keyquorum.client.session_list import SessionInfo
    from keyquorum.client.sync_client import Client

_HOMES = {
    "account": ("PkpAccount",),
    "async_client": ("AsyncClient",),
    "paying": ("SpendingLimits",),
    "errors": (
        "BadAnswer",
        "ChainError",
        "KeyquorumError",
        "Misconfigured",
        "Refused",
        "Timeout",
        "TooExpensive",
        "Unavailable",
    ),
    "network": ("Network",),
    "results": ("Key", "Minted", "NetworkStatus", "Node", "SentTransaction", "Signed"),
    "permissions": ("PendingChange", "PermittedMethod"),
    "session": ("Lent", "Session"),
    "session_list": ("SessionInfo",),
    "sync_client": ("Client",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AsyncClient",
    "BadAnswer",
    "ChainError",
    "Client",
    "Key",
    "KeyquorumError",
    "Lent",
    "Minted",
    "Misconfigured",
    "Network",
    "NetworkStatus",
    "Node",
    "PendingChange",
    "PermittedMethod",
    "PkpAccount",
    "Refused",
    "SentTransaction",
    "Session",
    "SessionInfo",
    "Signed",
    "SpendingLimits",
    "Timeout",
    "TooExpensive",
    "Unavailable",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
