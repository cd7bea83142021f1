"""The login page: plain files from the package, read once, served under a policy that lets nothing else in.

The page needs no build step and loads nothing from anywhere else. Its content security policy allows scripts and styles
of the gateway only, no inline code, no frames in either direction, and connections only to the gateway, the chain's
public endpoint, the code services, and OpenID Connect providers whose discovery document must be asked. Whoever serves
the page could serve another one: a passkey belongs to the page's domain, and so does the trust in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "publickey-credentials-get=(self), publickey-credentials-create=(self)",
    # Asked again each time, answered with 304: after an upgrade nobody mixes old and new modules.
    "Cache-Control": "no-cache",
}


PATHS = ("/", "/page.css", "/icon.svg", "/js/{name}")


@dataclass(frozen=True, slots=True)
class _File:
    """One file of the page: `tag` names its content (HTTP ETag)."""

    content: bytes
    content_type: str
    tag: str


def policy(connect: Iterable[str]) -> str:
    """Return the content security policy of a page that may ask its own gateway and the URLs in `connect`."""
    others = sorted({origin for origin in map(_origin, connect) if origin})
    rules = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": " ".join(["'self'", *others]),
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def connections(network_file: Mapping[str, str], login: Mapping[str, Any]) -> list[str]:
    """Return the URLs that the page asks besides its own gateway: chain, code services, providers to be discovered."""
    discovered = [one["issuer"] for one in login["oidc"] if not one.get("authorization_endpoint")]
    return [network_file["rpc"], *login["codes"], *discovered]


def serving(connect: Iterable[str]) -> Callable[[web.Request], web.Response]:
    """Return what answers the requests for `PATHS`; `connect` as for `policy`."""
    stored = _load()
    headers = HEADERS | {"Content-Security-Policy": policy(connect)}

    def serve(request: web.Request) -> web.Response:
        found = stored.get(request.path)
        if found is None:
            raise web.HTTPNotFound
        if request.headers.get("If-None-Match") == found.tag:
            return web.Response(status=304, headers=headers | {"ETag": found.tag})
        return web.Response(
            body=found.content,
            content_type=found.content_type,
            charset="utf-8",
            headers=headers | {"ETag": found.tag},
        )

    return serve


def _load() -> dict[str, _File]:
    """Return the files of `keyquorum.web` by their path on the gateway."""
    root = files("keyquorum.web")
    found = {"/": root / "index.html", "/page.css": root / "page.css", "/icon.svg": root / "icon.svg"}
    found |= {f"/js/{each.name}": each for each in (root / "js").iterdir() if each.name.endswith(".js")}
    return {path: _read(each.read_bytes(), each.name) for path, each in found.items()}


def _read(content: bytes, name: str) -> _File:
    tag = hashlib.sha256(content).hexdigest()[:32]
    return _File(content, TYPES[name.rpartition(".")[2]], f'"{tag}"')


def _origin(url: str) -> str:
    """Return scheme://host[:port], empty for what is no http(s) URL: nothing else belongs into a policy."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or set(parts.netloc) & set(";, '\"*@"):
        return ""
    return f"{parts.scheme}://{parts.netloc}"
