"""Keyquorum: programmable key pairs that a network of nodes holds together.

    from keyquorum import AsyncClient, Client, PkpAccount

The client is loaded when one of these names is used: a node, for one, never does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keyquorum.client import AsyncClient, Client, PkpAccount

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "PkpAccount", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from keyquorum import client

    return getattr(client, name)
