"""What the methods share that ask identity providers: addresses they may have, and how their failures are worded.

A provider is believed about its own users and nothing else. Its answers are read as strictly as a stranger's; one that
has not the documented form is the provider's failure (503), names its host and never quotes what it sent.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from keyquorum.refusal import UNAVAILABLE, Invalid

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS = {"https": 443, "http": 80}
_URL = re.compile(r"https?://[!-~]{1,500}")


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, lower-case host and port of a provider's address.

    Raises `ValueError` unless it is https (http on the own machine), in printable ASCII, without user, query and
    fragment.
    """
    if not _URL.fullmatch(url):
        raise ValueError("a provider's address is an https:// URL of at most 500 characters")
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if not host or "@" in parts.netloc or "?" in url or "#" in url or "\\" in url:
        raise ValueError("a provider's address has a host, and neither user nor query nor fragment")
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise ValueError("a provider's address is https://; http:// is for the own machine")
    return parts.scheme, host, parts.port or _PORTS[parts.scheme]


def host_of(url: str) -> str:
    """Return the host (with its port where it is not the usual one) as errors name it."""
    scheme, host, port = origin(url)
    return host if port == _PORTS[scheme] else f"{host}:{port}"


def bad_answer(url: str, what: str) -> Invalid:
    """Return the error for an answer from `url` that has not the documented form; `what` quotes nothing of it."""
    return Invalid(
        "provider_bad_answer",
        f"{host_of(url)} {what}",
        "try again later or log in another way; the operator should compare the settings with the provider's documents",
        UNAVAILABLE,
    )


def not_configured(method: str, what: str) -> Invalid:
    """Return the error for a method whose section `[auth.<method>]` the operator left out."""
    return Invalid(
        "not_configured",
        f"this node does not accept {what}",
        f"use another method, or ask the operator for the section [auth.{method}]",
        UNAVAILABLE,
    )
