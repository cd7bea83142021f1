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
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from keyquorum.client.errors import Misconfigured
from keyquorum.gateway.config import LoginSection

FILE = "login.toml"
WITHOUT_SETTINGS = ("passkey", "siwe", "wallet-key")
RP_ID = "localhost"


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
            raise Misconfigured(f"{path}: {error}", code="bad_login_settings") from None

    def for_nodes(self, gateway_port: int) -> dict[str, Any]:
        """Return `domains` and `auth` for every node's settings (`node.config.dump_default`)."""
        page = f"localhost:{gateway_port}"
        domains = dict.fromkeys([*self.login.domains, "localhost", page, f"127.0.0.1:{gateway_port}"])
        passkey = {"rp_ids": [RP_ID], "origins": [f"http://{page}"]}
        return {"domains": list(domains), "auth": {"passkey": passkey} | self.auth}

    def for_gateway(self, gateway_port: int) -> LoginSection:
        """Return the gateway's `[login]`."""
        return msgspec.structs.replace(
            self.login,
            methods=self.login.methods or sorted({*WITHOUT_SETTINGS, *self.auth}),
            domains=self.for_nodes(gateway_port)["domains"],
            rp_id=self.login.rp_id or RP_ID,
        )
