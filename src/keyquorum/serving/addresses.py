"""Who asks: the network address that limits are counted by, also behind proxies that the operator trusts."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from aiohttp import web

UNKNOWN = "unknown"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
OF_PAGES = " page"


class Networks:
    """Networks that the operator named, each as an address or as address/prefix; `address in networks`."""

    def __init__(self, given: Iterable[str] = ()) -> None:
        """Raise `ValueError` for what is no network."""
        self._networks = tuple(ipaddress.ip_network(each, strict=False) for each in given)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: str) -> bool:
        found = _parse(address) if self._networks else None
        return found is not None and any(found in network for network in self._networks)


def fold(address: str) -> str:
    """Return the name by which an address is counted: of IPv6 the /64, since whoever has one of them has them all.

    What is no address is "unknown": all of those are one.
    """
    found = _parse(address)
    if found is None:
        return UNKNOWN
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(found), 64), strict=False))
    return str(found)


def client_of(request: web.Request, proxies: Networks | Sequence[str]) -> str:
    """Return the name of the network address that asks: the connection's, or the last one that a trusted proxy saw."""
    return fold(address_of(request, proxies))


def address_of(request: web.Request, proxies: Networks | Sequence[str]) -> str:
    """Return the whole address that asks, as `client_of` counts it."""
    given = request.remote or ""
    trusted = proxies if isinstance(proxies, Networks) else Networks(proxies)
    if given in trusted:
        # The last line's last entry: what stands before it, the client may have written.
        given = request.headers.getall("X-Forwarded-For", [given])[-1].rpartition(",")[2].strip()
    return given


def asks_for_a_page(request: web.Request, own: frozenset[str]) -> bool:
    """Return whether a browser asks for a page that is neither of this machine nor among the origins `own`.

    Such a page asks from its visitor's address without his knowing: what it uses up must not be his.
    """
    origins = request.headers.getall("Origin", [])
    if not origins:
        return request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
    return not all(origin in own or _is_loopback(origin) for origin in origins)


def _is_loopback(origin: str) -> bool:
    try:
        return urlsplit(origin).hostname in LOOPBACK
    except ValueError:
        return False


@lru_cache(maxsize=4096)
def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found
