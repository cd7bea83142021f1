"""The gateway's settings: one TOML file, read strictly; the relayer's key stands in a file of its own."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec

from keyquorum.client.network import Network

TEMPLATE = """\
# Settings of a Keyquorum gateway. Paths are relative to this file. No secret belongs in here.

network = {network}          # eip155:<chain id>:<PubkeyRouter>
rpc = {rpc}                  # the chain; run your own
host = {host}
port = {port}
public_url = {public_url}              # what network.json tells clients; empty: http://host:port
public_rpc = {public_rpc}              # the chain endpoint network.json tells clients; empty: rpc
relayer_key_file = {relayer_key_file}  # pays for mints; left out: this gateway does not mint
mints_per_owner = {mints_per_owner}    # an hour, for each address that receives keys
mints_per_client = {mints_per_client}  # an hour, for each network address that asks
requests_per_second = {requests_per_second}  # of one network address
request_seconds = 30.0       # patience with the nodes
"""


class ConfigError(ValueError):
    """The file is missing, is not TOML, or a setting in it is unknown, missing or out of range."""


class GatewayConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every setting of a gateway."""

    network: str
    rpc: str
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 7480
    public_url: str = ""
    public_rpc: str = ""
    relayer_key_file: str = ""
    mints_per_owner: Annotated[int, msgspec.Meta(ge=1)] = 20
    mints_per_client: Annotated[int, msgspec.Meta(ge=1)] = 100
    requests_per_second: Annotated[int, msgspec.Meta(ge=1)] = 200
    request_seconds: Annotated[float, msgspec.Meta(gt=0, le=600)] = 30.0

    def as_network(self) -> Network:
        """Return where the network is, as this gateway reaches it."""
        return Network(self.network, self.rpc)


def load(path: Path) -> GatewayConfig:
    """Return the settings in `path`, the key file's path made absolute; raise `ConfigError`."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        config = msgspec.convert(raw, GatewayConfig)
        config.as_network()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None
    if not config.relayer_key_file:
        return config
    key_file = path.resolve().parent / Path(config.relayer_key_file).expanduser()
    return msgspec.structs.replace(config, relayer_key_file=str(key_file))


def dump(config: GatewayConfig) -> str:
    """Return the text of a documented settings file that `load` reads back as `config`."""
    values: dict[str, Any] = msgspec.structs.asdict(config)
    return TEMPLATE.format(**{name: msgspec.json.encode(value).decode() for name, value in values.items()})
