"""Login methods: the interface, and the registry that everything else derives from.

A method is one file in this package with a module-level `METHOD`: a name (in the API and the CLI), the type number of
the permission contract, and one pure function from a proof to an identity. Adding a file adds the method to the API,
the CLI, the OpenAPI document and the table in spec/auth.md; no list anywhere names them twice.

Whatever a method needs from outside (the time, the chain) is in `Context`, so that a verification is repeatable and
each node does it alone. A method must bind its proof to `Statement.challenge`, and its `Proven` must be the same on
every node for the same proof: the certificate is built from it, byte for byte.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Literal, Protocol, runtime_checkable

from keyquorum.auth.errors import AuthError, malformed
from keyquorum.auth.statement import Statement

At = Literal["finalized", "latest"]
ADDRESS_TYPE = 1
MAX_ID_BYTES = 64


@dataclass(frozen=True, slots=True, order=True)
class Proven:
    """An identity that was proven: `type` and `id` as the permission contract stores them.

    `issued_at` is the time (Unix seconds) that the proof itself states, not a node's clock: every node must read the
    same one. Two of one type and id are equal whenever they were proven; sorted, they are in a certificate's order.
    """

    type: int
    id: bytes
    issued_at: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        if self.type < 1 or not 1 <= len(self.id) <= MAX_ID_BYTES:
            raise ValueError("a proven identity has a type from 1 and an id of 1 to 64 bytes")


async def no_chain(address: str, *_: object) -> bytes:
    """Answer every question about the chain with "nothing there": a context that knows no contracts."""
    return b""


@dataclass(frozen=True, slots=True)
class Context:
    """What a verification may know: the time, the allowed domains, and read access to the chain.

    `call(address, data, at)` is an `eth_call` from nobody in particular: it returns the data, and empty bytes when the
    call reverts. `code(address, at)` is the code at an address. `at` is "finalized" or "latest"; the node maps it to
    its configured blocks. A chain that cannot be reached raises an error of its own: it is never an empty answer.
    Addresses are EIP-55 text. `domains` are the exact authorities (host, or host:port) that people may log in at.
    """

    now: int
    domains: frozenset[str] = frozenset({"localhost"})
    call: Callable[[str, bytes, At], Awaitable[bytes]] = no_chain
    code: Callable[[str, At], Awaitable[bytes]] = no_chain


@runtime_checkable
class Method(Protocol):
    """One way to prove who one is."""

    @property
    def name(self) -> str:
        """The word for it in the API and the CLI: lower-case letters, digits and dashes."""
        ...

    @property
    def type_number(self) -> int:
        """The auth method type of the permission contract that its identities have."""
        ...

    @property
    def summary(self) -> str:
        """One line for the documentation and `--help`."""
        ...

    @property
    def proof_schema(self) -> Mapping[str, object]:
        """The JSON schema of its proof, for the OpenAPI document."""
        ...

    async def verify(self, proof: object, challenge: Statement, context: Context) -> Proven:
        """Return the identity that `proof` proves for exactly this statement; raise `AuthError` otherwise."""
        ...


@cache
def methods() -> Mapping[str, Method]:
    """Return every method in this package by name, in the order of names; a duplicate name is a bug and raises."""
    package = import_module(__package__ or "keyquorum.auth")
    found: dict[str, Method] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        method = getattr(import_module(f"{package.__name__}.{module}"), "METHOD", None)
        if method is None:
            continue
        if not isinstance(method, Method) or method.name in found:
            raise AssertionError(f"{module}.METHOD is not a login method, or another one has its name")
        found[method.name] = method
    return MappingProxyType(dict(sorted(found.items())))


def method(name: object) -> Method:
    """Return the method called `name`; raise `AuthError` naming those that exist."""
    known = methods()
    if not isinstance(name, str) or name not in known:
        raise malformed("unknown_method", "there is no such login method", f"use one of: {', '.join(known)}")
    return known[name]


async def prove(name: object, proof: object, statement: Statement, context: Context) -> Proven:
    """Verify `proof` with the method called `name`; raise `AuthError` unless it proves an identity for `statement`."""
    # 2.1
    chosen = method(name)
    # 2.2
    proven = await chosen.verify(proof, statement, context)
    # 2.3
    if proven.type != chosen.type_number:
        raise AuthError("wrong_method", "the method proved an identity of another type", "report this as a bug")
    return proven
