"""The registry of nodes, read entry by entry: what is wrong with one node's entry concerns that node and nobody else.

A node writes two texts into the registry, the URL of its API and the host of its mesh. The contract admits only texts
in the normal form that is described here (`contracts/src/Endpoint.sol`); who reads checks it again, as a chain endpoint
may say anything. A text that is not in it reads as None: the node cannot be reached, but is a member like every other,
so that it changes neither n nor the threshold.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from keyquorum.evm.address import checksum

MAX_HOST = 253
# A name, whose last label begins with a letter so that it cannot be taken for a number; or digits and dots.
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*(?=[a-z]){_LABEL}", re.ASCII)
_URL = re.compile(r"(https?)://([a-z0-9.-]+)(?::([1-9][0-9]{0,4}))?", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Entry:
    """One node: `url` and `host` are None where what it wrote cannot be used; `tls_key` has 32 bytes."""

    party: int
    address: str
    """Checksummed."""
    url: str | None
    host: str | None
    port: int
    tls_key: bytes


def entries(nodes: Iterable[Any]) -> tuple[Entry, ...]:
    """Return what `Staking.getNodes` says (as `Contract.read` gives it), whatever the nodes have written."""
    return tuple(
        Entry(
            party=int(node.partyId),
            address=checksum(node.nodeAddress),
            url=node.url if is_url(node.url) else None,
            host=node.meshHost if is_host(node.meshHost) and node.port else None,
            port=int(node.port),
            tls_key=bytes(node.tlsKey),
        )
        for node in nodes
    )


def is_host(text: str) -> bool:
    """Say whether `text` is a host in normal form: an IPv4 address in plain decimal, or a DNS name in lower case."""
    if not 0 < len(text) <= MAX_HOST:
        return False
    return _NAME.fullmatch(text) is not None or _is_ipv4(text)


def is_url(text: str) -> bool:
    """Say whether `text` is `http://host` or `https://host`, perhaps with a port that is not the scheme's own."""
    found = _URL.fullmatch(text)
    if found is None or not is_host(found[2]):
        return False
    return found[3] is None or (int(found[3]) < 2**16 and int(found[3]) != _DEFAULT_PORTS[found[1]])


def normal_url(text: str) -> str:
    """Return the normal form of a URL: in lower case, without a slash at the end or the scheme's own port.

    `ValueError` when it has none: a path, a user, a query, another scheme, a host that is no name or IPv4 address.
    """
    shortened = text.lower().removesuffix("/")
    scheme = shortened.partition(":")[0]
    normal = shortened.removesuffix(f":{_DEFAULT_PORTS.get(scheme, '')}") if scheme in _DEFAULT_PORTS else shortened
    if not text.isascii() or not is_url(normal):
        raise ValueError(f"{text[:60]!r} is no node's URL: http or https, a name or an IPv4 address, perhaps a port")
    return normal


def _is_ipv4(text: str) -> bool:
    try:
        return str(ipaddress.IPv4Address(text)) == text
    except ValueError:
        return False
