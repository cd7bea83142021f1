"""How people log in at a network on this machine: what its nodes accept, and what its gateway offers.

Wallets and passkeys work without any settings. Everything else needs somebody outside (a provider, a code service), who
is named in `login.toml` in the network's folder. Its tables are those of the two settings files:

    [[auth.oidc.issuers]]        # each node's section [auth.<method>], see docs/operators.md
    name = "google"
    issuer = "https://accounts.google.com"
    client_ids = ["1234.apps.googleusercontent.com"]

    [[login.oidc]]               # the gateway's section [login], see docs/gateway.md
    name = "google"
    issuer = "https://accounts.google.com"
    client_id = "1234.apps.googleusercontent.com"

A page of one's own and a Google application can also be named when the network is started (`LoginOptions`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from keyquorum.auth.passkey import is_origin
from keyquorum.client.errors import Misconfigured
from keyquorum.client.oidc import OidcLogin
from keyquorum.gateway.config import LoginSection

FILE = "login.toml"
WITHOUT_SETTINGS = ("passkey", "siwe", "wallet-key")
RP_ID = "localhost"
GOOGLE = "https://accounts.google.com"
_GOOGLE_ISSUER = {
    "name": "google", "issuer": GOOGLE, "spellings": ["accounts.google.com"],
    "jwks": "https://www.googleapis.com/oauth2/v3/certs",
}  # fmt: skip


@dataclass(frozen=True)
class LoginOptions:
    """`origins`: pages of one's own, as browsers write them; `google`: the client id of an application at Google."""

    origins: tuple[str, ...] = ()
    google: str = ""


class LoginSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`auth`: the nodes' sections by method; `login`: what the gateway offers."""

    auth: dict[str, dict[str, Any]] = {}
    login: LoginSection = LoginSection()

    @classmethod
    def read(cls, folder: Path, given: Mapping[str, Any] | None = None) -> LoginSettings:
        """Return what was `given`, or else what stands in the folder's `login.toml`; raise `Misconfigured`."""
        path = folder / FILE
        try:
            raw = given if given is not None else tomllib.loads(path.read_text()) if path.exists() else {}
            return msgspec.convert(raw, cls)
        except (OSError, ValueError) as error:
            raise Misconfigured(
                "bad_login_settings", f"{path}: {error}", "mend the file: docs/cli.md says what may be in it"
            ) from None

    def with_options(self, options: LoginOptions) -> LoginSettings:
        """Return these settings with the pages and the provider of `options` added; raise `Misconfigured`."""
        for origin in options.origins:
            if not is_web_page(origin):
                raise Misconfigured(
                    "bad_origin",
                    f"{origin[:100]!r} is no page's origin",
                    "write it as browsers do: http://localhost:3000 or https://wallet.example",
                )
        found = self._with_origins(options.origins) if options.origins else self
        return found._with_google(options.google) if options.google else found

    def _with_origins(self, origins: tuple[str, ...]) -> LoginSettings:
        places = [urlsplit(origin) for origin in origins]
        passkey = self.auth.get("passkey", {})
        names = [place.hostname or "" for place in places]
        more = {
            "rp_ids": list(dict.fromkeys([*passkey.get("rp_ids", []), *names])),
            "origins": list(dict.fromkeys([*passkey.get("origins", []), *origins])),
        }
        login = msgspec.structs.replace(self.login, domains=[*self.login.domains, *(place.netloc for place in places)])
        return LoginSettings(self.auth | {"passkey": passkey | more}, login)

    def _with_google(self, client_id: str) -> LoginSettings:
        oidc = self.auth.get("oidc", {})
        others = [issuer for issuer in oidc.get("issuers", []) if issuer.get("issuer") != GOOGLE]
        issuers = [*others, _GOOGLE_ISSUER | {"client_ids": [client_id]}]
        offered = [one for one in self.login.oidc if one.issuer != GOOGLE]
        login = msgspec.structs.replace(self.login, oidc=[*offered, OidcLogin("google", GOOGLE, client_id)])
        return LoginSettings(self.auth | {"oidc": oidc | {"issuers": issuers}}, login)

    @property
    def web_origins(self) -> list[str]:
        """The pages of one's own, which also read the chain."""
        return [each for each in self.auth.get("passkey", {}).get("origins", []) if is_web_page(each)]

    def for_nodes(self, gateway_port: int) -> dict[str, Any]:
        """Return `domains` and `auth` for every node's settings (`node.config.dump_default`)."""
        page = f"localhost:{gateway_port}"
        domains = dict.fromkeys([*self.login.domains, "localhost", page, f"127.0.0.1:{gateway_port}"])
        given = self.auth.get("passkey", {})
        # The gateway's own page stays one of them, whatever else is named.
        passkey = given | {
            "rp_ids": list(dict.fromkeys([*given.get("rp_ids", []), RP_ID])),
            "origins": list(dict.fromkeys([*given.get("origins", []), f"http://{page}"])),
        }
        return {"domains": list(domains), "auth": self.auth | {"passkey": passkey}}

    def for_gateway(self, gateway_port: int) -> LoginSection:
        """Return the gateway's `[login]`."""
        return msgspec.structs.replace(
            self.login,
            methods=self.login.methods or sorted({*WITHOUT_SETTINGS, *self.auth}),
            domains=self.for_nodes(gateway_port)["domains"],
            rp_id=self.login.rp_id or RP_ID,
        )


def is_web_page(origin: Any) -> bool:
    """Say whether something is the origin of a web page, as browsers write it."""
    return isinstance(origin, str) and origin.startswith(("http://", "https://")) and is_origin(origin)
