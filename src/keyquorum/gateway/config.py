"""The gateway's settings: one TOML file, read strictly; the relayer's key stands in a file of its own.

`[login]` is what `GET /v1/login` tells browsers and command lines: where and with what people can log in. It is public,
and nobody's word: each node checks logins by settings of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from keyquorum.auth.method import methods
from keyquorum.chain.fees import SERVICE_LIMITS, SpendingLimits
from keyquorum.client.discord import DiscordLogin
from keyquorum.client.network import Network
from keyquorum.client.oidc import OidcLogin
from keyquorum.serving import settings
from keyquorum.serving.addresses import Networks
from keyquorum.serving.settings import Section

Positive = Annotated[int, msgspec.Meta(ge=1)]
Natural = Annotated[int, msgspec.Meta(ge=0)]

TEMPLATE = """\
# Settings of a Keyquorum gateway. Paths are relative to this file. No secret belongs in here.

network = {network}          # eip155:<chain id>:<PubkeyRouter>
rpc = {rpc}                  # the chain; run your own
host = {host}
port = {port}
public_url = {public_url}              # what network.json tells clients; empty: http://host:port
public_rpc = {public_rpc}              # the chain endpoint network.json tells clients; empty: rpc
relayer_key_file = {relayer_key_file}  # pays for keys, changes of permissions, revocations; left out: it does not
max_fee = {max_fee}                    # wei, gas times price of one transaction; above it nothing is sent
max_mint_cost = {max_mint_cost}        # wei, the price of one key
owner_mints = {owner_mints}            # whether anybody may have keys minted to any address, without a login
owner_mints_per_client = {owner_mints_per_client}  # of those, an hour, for each network address that asks
owner_mints_in_all = {owner_mints_in_all}          # of those, an hour
pool_reserve = {pool_reserve}          # keys of the pool that are left to logins; below what the nodes refill at
mints_per_owner = {mints_per_owner}    # an hour, for each login, and each owner that a network address names
mints_per_client = {mints_per_client}  # an hour, for each network address that asks, by logins
mints_per_method = {mints_per_method}  # an hour, for all logins of one type together
logins_per_client = {logins_per_client}    # an hour, whatever becomes of them, for each network address
commitments_per_client = {commitments_per_client}  # Discord logins an hour, for each network address
calls_per_key = {calls_per_key}        # changes of permissions and revocations an hour, for each key or identity
gas_per_client = {gas_per_client}      # their gas an hour, for each network address; five times that of all together
requests_per_second = {requests_per_second}  # of one network address; five times that of all together
bytes_per_second = {bytes_per_second}     # of bodies, counted alike
unverified = {unverified}              # requests at a time of callers who are not known yet
failed_logins = {failed_logins}           # in ten minutes, of one network address
connections = {connections}           # HTTP connections at a time
pages = {pages}                    # web pages that ask as their visitor, beside public_url and [login] domains
trusted_proxies = {trusted_proxies}        # networks of proxies in front, whose X-Forwarded-For is believed
connections_per_address = {connections_per_address}  # of those, from one network address
request_seconds = {request_seconds}       # patience with the nodes
first_block = {first_block}              # where the contracts begin: events are read from there
"""


class _Section(Section, frozen=True, omit_defaults=True):
    """A table whose defaults are not written."""


class LoginSection(_Section, frozen=True):
    """What this gateway's users can log in with, and where; `codes` are the URLs of code services, of which a login
    needs `codes_required` (0: all)."""

    methods: list[str] = []
    domains: list[str] = []
    rp_id: str = ""
    oidc: list[OidcLogin] = []
    discord: DiscordLogin | None = None
    codes: list[str] = []
    codes_required: Annotated[int, msgspec.Meta(ge=0)] = 0

    def to_json(self) -> dict[str, Any]:
        """Return the object of `GET /v1/login`; without `methods` those that need no settings are named."""
        plain = [name for name, each in methods().items() if each.settings_type is None]
        return {
            "methods": self.methods or plain,
            "domains": self.domains,
            "rp_id": self.rp_id,
            "oidc": [msgspec.structs.asdict(one) for one in self.oidc],
            "discord": msgspec.structs.asdict(self.discord) if self.discord else None,
            "codes": self.codes,
            "codes_required": self.codes_required or len(self.codes),
        }


class GatewayConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every setting of a gateway."""

    network: str
    rpc: str
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 7480
    public_url: str = ""
    public_rpc: str = ""
    relayer_key_file: str = ""
    max_fee: Natural = SERVICE_LIMITS.max_fee
    max_mint_cost: Natural = SERVICE_LIMITS.max_mint_cost
    owner_mints: bool = False
    owner_mints_per_client: Positive = 10
    owner_mints_in_all: Positive = 200
    pool_reserve: Natural = 4
    mints_per_owner: Positive = 20
    mints_per_client: Positive = 100
    mints_per_method: Positive = 3_600
    logins_per_client: Positive = 1200
    commitments_per_client: Positive = 60
    calls_per_key: Positive = 60
    gas_per_client: Annotated[int, msgspec.Meta(ge=2_000_000)] = 20_000_000
    requests_per_second: Positive = 200
    bytes_per_second: Annotated[int, msgspec.Meta(ge=65_536)] = 1 << 20
    unverified: Annotated[int, msgspec.Meta(ge=4)] = 256
    failed_logins: Positive = 100
    connections: Positive = 1024
    connections_per_address: Positive = 256
    request_seconds: Annotated[float, msgspec.Meta(gt=0, le=600)] = 30.0
    trusted_proxies: list[str] = []
    pages: list[str] = []
    first_block: Annotated[int, msgspec.Meta(ge=0)] = 0
    login: LoginSection = LoginSection()

    @property
    def limits(self) -> SpendingLimits:
        """What one transaction of the relayer may cost."""
        return SpendingLimits(max_fee=self.max_fee, max_mint_cost=self.max_mint_cost)

    def own_pages(self) -> list[str]:
        """Return the origins whose pages ask as their visitor."""
        return [*self.pages, self.public_url.rstrip("/"), *(f"https://{domain}" for domain in self.login.domains)]

    def as_network(self) -> Network:
        """Return where the network is, as this gateway reaches it."""
        return Network(self.network, self.rpc)


def load(path: Path) -> GatewayConfig:
    """Return the settings in `path`, the key file's path made absolute; raise `ConfigError`."""
    raw = settings.read(path)
    with settings.checking(path):
        config = msgspec.convert(raw, GatewayConfig)
        config.as_network()
        Networks(config.trusted_proxies)
    if not config.relayer_key_file:
        return config
    key_file = path.resolve().parent / Path(config.relayer_key_file).expanduser()
    return msgspec.structs.replace(config, relayer_key_file=str(key_file))


def dump(config: GatewayConfig) -> str:
    """Return the text of a documented settings file that `load` reads back as `config`."""
    values: dict[str, Any] = msgspec.structs.asdict(config)
    login: dict[str, Any] = msgspec.to_builtins(values.pop("login"))
    text = TEMPLATE.format(**{name: _toml(value) for name, value in values.items()})
    return text + (_tables("login", login) if login else "")


def _tables(name: str, values: dict[str, Any]) -> str:
    """Return a TOML table with its sub-tables after its own values, as TOML wants it."""
    plain = {key: value for key, value in values.items() if not _is_table(value)}
    text = f"\n[{name}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in plain.items())
    for key, value in values.items():
        if isinstance(value, dict):
            text += _tables(f"{name}.{key}", value)
        elif _is_table(value):
            text += "".join(_tables(f"[{name}.{key}]", entry) for entry in value)
    return text


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _toml(value: Any) -> str:
    # TOML's strings, numbers and arrays of strings take JSON's form.
    return msgspec.json.encode(value).decode()
