"""Login methods: the interface, and the registry that everything else derives from.

A method is one file in this package with a module-level `METHOD`: a name (in the API and the CLI), the type number of
the permission contract, and one pure function from a proof to an identity. Adding a file adds the method to the API,
the CLI, the OpenAPI document and the table in spec/auth.md; no list anywhere names them twice.

Whatever a method needs from outside (the time, the chain, an identity provider, its settings) is in `Context`, so that
a verification is repeatable and each node does it alone. A method must bind its proof to `Statement.challenge`, and its
`Proven` must be the same on every node for the same proof: the certificate is built from it, byte for byte.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from keyquorum.auth.statement import Statement
from keyquorum.refusal import UNAVAILABLE, Invalid, malformed

At = Literal["finalized", "latest"]
ADDRESS_TYPE = 1
MAX_ID_BYTES = 64


@dataclass(frozen=True, slots=True, order=True)
class Proven:
    """An identity that was proven: `type` and `id` as the permission contract stores them.

    `issued_at` (Unix seconds) is `Context.after_block` once `prove` has returned it, whatever the proof states: no
    clock of a person or a node decides which of a login and a revocation came first. Two of one type and id are equal
    whenever they were proven; sorted, they are in a certificate's order.
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


async def no_probe(init_code: bytes, at: At) -> bytes:
    """Answer like a chain on which nothing can be tried out."""
    return b""


class Fetch(Protocol):
    """How a method asks an identity provider: HTTPS GET, JSON back (objects, arrays, strings, plain numbers)."""

    async def __call__(self, url: str, *, bearer: str | None = None, newer: bool = False) -> object:
        """Return the JSON at `url`. Without `bearer` the answer may come from a cache; `newer` asks past it.

        `newer` is granted once a minute for each URL, so that a stranger's nonsense does not become a flood there.
        Raises `Invalid` "provider_unavailable" (503) naming the host, "provider_refused" (401) for its 401 and 403.
        """
        ...


async def no_provider(url: str, *, bearer: str | None = None, newer: bool = False) -> object:
    """Answer like a network on which no provider can be reached."""
    raise Invalid("provider_unavailable", "no identity provider can be asked here", "ask the operator", UNAVAILABLE)


def no_secret(type_number: int, name: bytes) -> bytes:
    """Refuse to name anybody: a context without the network's identity secret."""
    raise Invalid("not_ready", "the network's identity secret is not there yet", "try again in a moment", UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Committee:
    """The nodes whose receipts count: of party j the 20-byte account in the registry; t of them sign, in this epoch."""

    accounts: Mapping[int, bytes] = field(default_factory=dict)
    threshold: int = 0
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Context:
    """What a verification may know: the time, the settings, and read access to the chain and to identity providers.

    `call(address, data, at)` is an `eth_call` from nobody in particular: it returns the data, and empty bytes when the
    call reverts. `code(address, at)` is the code at an address; `probe(init_code, at)` what a contract's constructor
    would return if it were deployed, which it is not. `at` is "finalized" or "latest"; the node maps it to its
    configured blocks; `block_time` is the time of the statement's block. A chain that
    cannot be reached raises an error of its own: it is never an empty answer. Addresses are EIP-55 text. `domains` are
    the exact authorities (host, or host:port) that people may log in at.

    `conceal(type, name)` turns a name that could be guessed (an account at a provider, a mail address) into the 32
    bytes that stand for it on the chain, keyed with the secret that only the nodes hold. `settings` are those of this
    method (`Method.settings_type`), None when the operator configured none: then the method refuses.
    """

    now: int
    domains: frozenset[str] = frozenset({"localhost"})
    call: Callable[[str, bytes, At], Awaitable[bytes]] = no_chain
    code: Callable[[str, At], Awaitable[bytes]] = no_chain
    probe: Callable[[bytes, At], Awaitable[bytes]] = no_probe
    fetch: Fetch = no_provider
    conceal: Callable[[int, bytes], bytes] = no_secret
    settings: Any = None
    committee: Committee = Committee()
    block_time: int = 0

    @property
    def after_block(self) -> int:
        """The first second after the statement's block: when a proof for the statement counts as made."""
        return self.block_time + 1

    def for_method(self, settings: object) -> Context:
        """Return the same context with one method's settings."""
        return replace(self, settings=settings)


@runtime_checkable
class Method(Protocol):
    """One way to prove who one is.

    `type_number` is that of the permission contract: 1 address, 3 passkey, 4 Discord, 6 OpenID Connect, 20 e-mail,
    21 SMS. Several methods may prove identities of one type.
    """

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

    @property
    def settings_type(self) -> type[msgspec.Struct] | None:
        """The shape of its section `[auth.<name>]` in a node's settings; None: it needs none."""
        ...

    async def verify(self, proof: object, challenge: Statement, context: Context) -> Proven:
        """Return the identity that `proof` proves for exactly this statement; raise `Invalid` otherwise."""
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
    """Return the method called `name`; raise `Invalid` naming those that exist."""
    known = methods()
    if not isinstance(name, str) or name not in known:
        raise malformed("unknown_method", "there is no such login method", f"use one of: {', '.join(known)}")
    return known[name]


async def prove(name: object, proof: object, statement: Statement, context: Context) -> Proven:
    """Verify `proof` with the method called `name`; raise `Invalid` unless it proves an identity for `statement`."""
    # 2.1
    chosen = method(name)
    # 2.2
    proven = await chosen.verify(proof, statement, context)
    # 2.3
    if proven.type != chosen.type_number:
        raise Invalid("wrong_method", "the method proved an identity of another type", "report this as a bug")
    # 2.4
    return replace(proven, issued_at=context.after_block)
