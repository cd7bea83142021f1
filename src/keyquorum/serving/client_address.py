"""Who asks: the network address that limits are counted by, also behind proxies that the operator trusts."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from aiohttp import web


def client_of(request: web.Request, proxies: Sequence[str]) -> str:
    """Return the network address that asks: the connection's, or the last one that a trusted proxy saw.

    Of an IPv6 address the /64 counts, since whoever has one of them has them all.
    """
    given = request.remote or ""
    if _is_in(given, proxies):
        # The last line's last entry: what stands before it, the client may have written.
        given = request.headers.getall("X-Forwarded-For", [given])[-1].rpartition(",")[2].strip()
    try:
        address = ipaddress.ip_address(given)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _is_in(given: str, proxies: Sequence[str]) -> bool:
    try:
        return any(ipaddress.ip_address(given) in ipaddress.ip_network(proxy) for proxy in proxies)
    except ValueError:
        return False
