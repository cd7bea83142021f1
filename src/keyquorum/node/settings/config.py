"""The node's settings: one TOML file, read strictly, and the documented default that `node init` writes.

A setting that nobody knows is refused rather than ignored, because a misspelt limit is a limit that does not hold.
Secrets never stand in the file: `[keys]` only says where the passphrase or the key file is, and nothing read from
there is kept in `NodeConfig`. Paths are relative to the folder of the file, so that a node's folder can be moved.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from keyquorum.node.settings import auth_settings
from keyquorum.node.settings.bounds import LARGEST_BATCH
from keyquorum.serving import settings
from keyquorum.serving.addresses import Networks
from keyquorum.serving.settings import Section

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
PartyNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Rate = Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]
Finality = Literal["finalized", "safe", "latest"] | Annotated[int, msgspec.Meta(ge=0, le=100_000)]


class NodeSection(Section, frozen=True):
    """Who this node is, and where it keeps what must survive."""

    data_dir: Path
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] = "node"
    party: PartyNumber | None = None


class ApiSection(Section, frozen=True):
    """Where clients reach the node."""

    host: str = "127.0.0.1"
    port: Port = 0
    url: str = ""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    max_body: Annotated[int, msgspec.Meta(ge=1024, le=16 << 20)] = 1 << 20


class MeshSection(Section, frozen=True):
    """Where the other nodes reach the node."""

    host: str = "127.0.0.1"
    port: Port = 0


class ChainSection(Section, frozen=True):
    """The chain that decides on membership, keys and permissions."""

    rpc: Annotated[list[str], msgspec.Meta(min_length=1, max_length=8)]
    router: Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-fA-F]{40}\Z")]
    agree: Annotated[int, msgspec.Meta(ge=1, le=8)] | None = None
    finality: Finality = "finalized"
    poll_seconds: Seconds = 1.0


class KeysSection(Section, frozen=True):
    """Where the key that opens the store comes from: exactly one of the three."""

    passphrase_file: Path | None = None
    passphrase_env: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z")] | None = None
    key_file: Path | None = None


class PoolsSection(Section, frozen=True):
    """Correlations kept ready for each peer and direction; 0 for `low` and `high` = chosen by the number of nodes."""

    low: Annotated[int, msgspec.Meta(ge=0, le=65_536)] = 0
    high: Annotated[int, msgspec.Meta(ge=0, le=65_536)] = 0
    batch: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_BATCH)] = 64


class MintingSection(Section, frozen=True):
    """New keys: how many a ceremony makes, and at how many unused ones on the chain the next begins."""

    batch: Annotated[int, msgspec.Meta(ge=1, le=128)] = 32
    low: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 8


class AuthSection(Section, frozen=True):
    """Logins: the domains (host, or host:port) that people may log in at.

    `methods` are the settings of the methods that have a section `[auth.<method>]` of their own, by their names.
    """

    domains: Annotated[list[str], msgspec.Meta(min_length=1, max_length=64)] = msgspec.field(
        default_factory=lambda: ["localhost"]
    )
    methods: dict[str, Any] = {}


class QuotasSection(Section, frozen=True):
    """Protocol runs a second for one session, key, identity, network address, and in all (see `quotas.py`).

    Each may save up what `burst_seconds` bring. `logins` are those begun, of one network address and in all. `reserve`
    is the part of the pools kept for those who ask for little; `failed_logins` counts ten minutes; `gateways` are
    network addresses that limit their clients themselves.
    """

    session: Rate = 20.0
    key: Rate = 20.0
    identity: Rate = 50.0
    address: Rate = 200.0
    node: Rate = 1000.0
    logins: Rate = 10.0
    logins_in_all: Rate = 200.0
    burst_seconds: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 30.0
    reserve: Annotated[float, msgspec.Meta(ge=0.2, le=0.9)] = 0.2
    failed_logins: Positive = 20
    gateways: Annotated[list[str], msgspec.Meta(max_length=64)] = []


class AuditSection(Section, frozen=True):
    """The record of every decision: files of at most `max_bytes` in the node's folder, `files` of them."""

    max_bytes: Annotated[int, msgspec.Meta(ge=65_536, le=1 << 32)] = 16 << 20
    files: Annotated[int, msgspec.Meta(ge=2, le=1000)] = 8


class LimitsSection(Section, frozen=True):
    """What one client or one peer may cost."""

    connections: Positive = 512
    connections_per_address: Positive = 128
    runs: Positive = 256
    requests_per_second: Positive = 200
    bytes_per_second: Annotated[int, msgspec.Meta(ge=65_536)] = 1 << 20
    unverified: Annotated[int, msgspec.Meta(ge=4)] = 64
    run_seconds: Seconds = 15.0
    mesh_handshakes: Positive = 256
    mesh_queue: Annotated[int, msgspec.Meta(ge=4 << 20, le=256 << 20)] = 8 << 20
    mesh_bytes_per_second: Annotated[int, msgspec.Meta(ge=1 << 20)] = 64 << 20


class NodeConfig(Section, frozen=True):
    """Every setting of a node; `load` is the only way in."""

    node: NodeSection
    chain: ChainSection
    keys: KeysSection
    api: ApiSection = ApiSection()
    mesh: MeshSection = MeshSection()
    pools: PoolsSection = PoolsSection()
    minting: MintingSection = MintingSection()
    auth: AuthSection = AuthSection()
    limits: LimitsSection = LimitsSection()
    quotas: QuotasSection = QuotasSection()
    audit: AuditSection = AuditSection()


def load(path: Path) -> NodeConfig:
    """Return the settings in the TOML file `path`, with every path made absolute.

    Raises `ConfigError` whose text names the file, the key and what is wrong with it; values are never quoted.
    """
    return parse(settings.read(path), path)


def parse(raw: dict[str, Any], path: Path) -> NodeConfig:
    """Return the settings in `raw`, as read from `path`; raises `ConfigError`."""
    with settings.checking(path):
        raw, sections = _split_auth(raw)
        config = msgspec.convert(raw, NodeConfig, dec_hook=_decode_path)
        if sections:
            auth = msgspec.structs.replace(config.auth, methods=dict(auth_settings.parse(sections)))
            config = msgspec.structs.replace(config, auth=auth)
        _check(config)
    return _absolute(config, path.resolve().parent)


def _split_auth(raw: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings without the login methods' sections, and those: their shapes are the methods' business."""
    auth = raw.get("auth")
    if not isinstance(auth, dict):
        return raw, {}
    own = {name: value for name, value in auth.items() if name == "domains"}
    return raw | {"auth": own}, {name: value for name, value in auth.items() if name not in own}


def _decode_path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str) and value and "\0" not in value:
        return Path(value)
    raise ValueError("expected a path")


def _check(config: NodeConfig) -> None:
    """Refuse what no single setting shows: combinations."""
    sources = [config.keys.passphrase_file, config.keys.passphrase_env, config.keys.key_file]
    if sum(source is not None for source in sources) != 1:
        raise ValueError("[keys] needs exactly one of passphrase_file, passphrase_env and key_file")
    if (config.api.tls_cert is None) != (config.api.tls_key is None):
        raise ValueError("[api] tls_cert and tls_key come together or not at all")
    for url in (*config.chain.rpc, *filter(None, [config.api.url])):
        if not _is_http(url):
            raise ValueError("[chain] rpc and [api] url must be http:// or https:// addresses with a host")
    try:
        Networks(config.quotas.gateways)
    except ValueError as error:
        raise ValueError(f"[quotas] gateways: {error}: an address or a network, no name") from None
    if config.chain.agree is not None and config.chain.agree > len(config.chain.rpc):
        raise ValueError("[chain] agree is more than there are endpoints in rpc")
    low, high, batch = config.pools.low, config.pools.high, config.pools.batch
    if (low == 0) != (high == 0):
        raise ValueError("[pools] low and high are given together or not at all")
    if high and (low > high or high < batch):
        raise ValueError("[pools] needs low <= high and batch <= high")


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _absolute(config: NodeConfig, folder: Path) -> NodeConfig:
    def under(path: Path | None) -> Path | None:
        return None if path is None else folder / path.expanduser()

    replace = msgspec.structs.replace
    keys, api = config.keys, config.api
    return replace(
        config,
        node=replace(config.node, data_dir=under(config.node.data_dir)),
        keys=replace(keys, passphrase_file=under(keys.passphrase_file), key_file=under(keys.key_file)),
        api=replace(api, tls_cert=under(api.tls_cert), tls_key=under(api.tls_key)),
    )


def dump_default(
    *,
    rpc: list[str],
    router: str,
    name: str = "node",
    data_dir: str = "data",
    party: int | None = None,
    api_host: str = "127.0.0.1",
    api_port: int = 8645,
    api_url: str = "",
    mesh_host: str = "127.0.0.1",
    mesh_port: int = 9645,
    finality: str | int = "finalized",
    passphrase_env: str | None = None,
    passphrase_file: str | None = None,
    key_file: str | None = None,
    domains: Sequence[str] = ("localhost",),
    poll_seconds: float = 1.0,
    mint_batch: int = 32,
    mint_low: int = 8,
    signatures_per_second: float = 20.0,
    gateways: Sequence[str] = (),
    auth: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Return the text of a documented `node.toml`; what it says is what `load` reads back.

    `signatures_per_second` is the quota of one key and of one session; one identity has as many for two and a half.
    `auth` holds the login methods' sections: for each method the settings of `[auth.<method>]`, as TOML's types.
    Raises `ConfigError` when the values given would be refused by `load`.
    """
    places = {"passphrase_file": passphrase_file, "passphrase_env": passphrase_env, "key_file": key_file}
    if not any(places.values()):
        places["key_file"] = "store.key"
    keys = "\n".join(f"{key} = {_quote(places[key])}" if places[key] else f'# {key} = "..."' for key in places)
    text = _TEMPLATE.format(
        party=f"party = {party}" if party else "# party = 1",
        name=_quote(name), data_dir=_quote(data_dir),
        api_host=_quote(api_host), api_port=api_port, api_url=_quote(api_url),
        mesh_host=_quote(mesh_host), mesh_port=mesh_port,
        rpc=", ".join(map(_quote, rpc)), router=_quote(router),
        finality=finality if isinstance(finality, int) else _quote(finality),
        methods=auth_settings.to_toml(auth or {}),
        keys=keys, domains=", ".join(map(_quote, domains)), poll_seconds=poll_seconds,
        mint_batch=mint_batch, mint_low=mint_low,
        per_key=float(signatures_per_second), per_identity=2.5 * signatures_per_second,
        gateways=", ".join(map(_quote, gateways)),
    )  # fmt: skip
    parse(tomllib.loads(text), Path("node.toml"))
    return text


def _quote(text: str | None) -> str:
    # TOML basic strings take JSON's escapes, so the JSON encoder is a correct quoter.
    return msgspec.json.encode(text or "").decode()


_TEMPLATE = """\
# Settings of one Keyquorum node. Paths are relative to this file. No secret belongs in here.

[node]
name = {name}                 # shown in logs and metrics
data_dir = {data_dir}             # the store: key shares and the node's own keys, encrypted
{party}                     # left out: found in the registry by the node's TLS key

[api]                         # for clients and gateways
host = {api_host}
port = {api_port}
url = {api_url}                      # what the registry shows, if it is not http://host:port
# tls_cert = "api.pem"        # serve HTTPS here; or put a reverse proxy in front
# tls_key = "api.key"
max_body = 1048576            # bytes

[mesh]                        # for the other nodes: mutual TLS 1.3, keys pinned to the registry
host = {mesh_host}
port = {mesh_port}

[chain]
rpc = [{rpc}]  # three are best, one of them your own: more than half must agree
# agree = 2           # how many must give the same answer; 1: believe whoever answers first
router = {router}   # PubkeyRouter: names the network; the other contracts are found from it
finality = {finality}        # "finalized", "safe", "latest" (development chains only), or a depth in blocks
poll_seconds = {poll_seconds}

[keys]                        # exactly one: where the key that opens the store comes from
{keys}

[pools]                       # correlations ready for each peer and direction, in memory only
low = 0                       # 0 and 0: chosen by the number of nodes
high = 0
batch = 64

[minting]                     # the node with the lowest PartyId refills the pool of unused keys on the chain
batch = {mint_batch}                    # keys made in one ceremony
low = {mint_low}                       # unused keys on the chain at which the next ceremony begins

[auth]
domains = [{domains}]       # where people may log in: host, or host:port
# Each login method that needs settings has a section of its own; without it the method is off: docs/operators.md.
{methods}
[limits]
connections = 512             # HTTP connections at a time
connections_per_address = 128  # of those, from one network address
runs = 256                    # protocol runs at a time
requests_per_second = 200     # of one client address; five times that of all together
bytes_per_second = 1048576    # of bodies, counted alike
unverified = 64               # requests at a time of callers who are not known yet
run_seconds = 15.0            # patience with one protocol run
mesh_handshakes = 256         # unfinished TLS handshakes at a time
mesh_queue = 8388608          # bytes waiting for one slow peer before its connection is dropped
mesh_bytes_per_second = 67108864  # read from one peer, on average

[quotas]                      # runs (signatures, logins) a second at this node; who is over gets 429 and Retry-After
session = {per_key}
key = {per_key}
identity = {per_identity}               # one account, passkey, address...
address = 200.0               # one network address
node = 1000.0                 # everybody together
logins = 10.0                 # logins begun, whatever becomes of them, of one network address
logins_in_all = 200.0         # of everybody together
burst_seconds = 30.0          # how many seconds' worth may be saved up
reserve = 0.2                 # of correlations and places for runs: kept for those who ask for little
failed_logins = 20            # in ten minutes, of one network address for one identity; ten times that in all
gateways = [{gateways}]                 # network addresses that limit their clients themselves

[audit]                       # audit.log, logins.log and refusals.log in data_dir: every decision, never a secret
max_bytes = 16777216          # of one file
files = 8                     # of each kind, the oldest goes
"""
