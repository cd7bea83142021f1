"""Who may ask a development chain: programs anything, web pages of this machine to read and to send, others nothing.

A browser sends any page's request to a port of this machine, and the page's `Origin` with it. So the chain is closed
to pages that are not from this machine or named, and what moves the chain's clock, its past or its unlocked accounts
is closed to every page. A foreign name that is pointed at this machine (DNS rebinding) shows in `Host`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

JSON: Final = "application/json"
_PLACE: Final = re.compile(r"(?P<name>[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", re.ASCII)
_REFUSED, _WRONG_TYPE = 403, 415


class Refused(Exception):
    """A caller who is turned away: HTTP `status` and a text that names the next step."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Callers:
    """The rule of a chain that listens on `host`; also reached as `hosts`, and by pages of `origins`."""

    def __init__(self, host: str, hosts: Collection[str] = (), origins: Collection[str] = ()) -> None:
        """`hosts` are names without port; an entry of `origins` is what browsers send, `https://wallet.example`.

        Raises `ValueError` for an origin that no browser sends.
        """
        for origin in origins:
            _check_origin(origin)
        self._names = {name.lower() for name in (host, *hosts)}
        self._origins = frozenset(origins)
        self._any_address = not is_loopback(host)

    def page(self, headers: CIMultiDictProxy[str]) -> str | None:
        """Return the origin of the page that asks, None for a program; raise `Refused` for who may not ask at all."""
        self._check_host(headers.getall("Host", []))
        origins = headers.getall("Origin", [])
        if not origins:
            return None
        if len(origins) == 1 and (origins[0] in self._origins or _of_this_machine(origins[0])):
            return origins[0]
        raise Refused(_REFUSED, f"web pages of {origins[0][:100]} may not ask this chain; name them with --origin")

    def _check_host(self, given: list[str]) -> None:
        name = _name_of(given[0]) if len(given) == 1 else ""
        known = name in self._names or is_loopback(name) or (self._any_address and _is_address(name))
        if not known:
            shown = ", ".join(given)[:100] or "no name"
            raise Refused(_REFUSED, f"this chain is not called {shown}; use its address, or --allow-host")


def check_json(content_type: str) -> None:
    """Raise `Refused` unless a body is JSON by its type: what else a page can send unasked is none."""
    if content_type.lower() != JSON:
        raise Refused(_WRONG_TYPE, f"send JSON-RPC with Content-Type: {JSON}")


def is_by_browser(headers: CIMultiDictProxy[str]) -> bool:
    """Say whether a browser sent this for a page, even where it names no origin."""
    return "Origin" in headers or headers.get("Sec-Fetch-Site", "none") != "none"


def is_loopback(name: str) -> bool:
    """Say whether a host name (without port and brackets) is always this machine."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return _is_address(name) and ipaddress.ip_address(name).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name_of(place: str) -> str:
    """Return the name in `name[:port]`, in lower case and without brackets; empty when it is none."""
    found = _PLACE.fullmatch(place)
    return found["name"].lower().strip("[]") if found else ""


def _of_this_machine(origin: str) -> bool:
    scheme, separator, place = origin.partition("://")
    return bool(separator) and scheme in ("http", "https") and is_loopback(_name_of(place))


def _check_origin(origin: str) -> None:
    scheme, separator, place = origin.partition("://")
    if not (scheme and separator and _name_of(place)) or origin != origin.lower():
        raise ValueError(f"{origin[:100]!r} is no origin: write it as browsers send it, https://host[:port]")
