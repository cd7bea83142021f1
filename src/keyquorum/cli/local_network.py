"""A whole network on this machine: chain, contracts, n nodes and a gateway, each a process of its own.

    async with LocalNetwork(folder, nodes=4) as network:
        async with network.client() as client:
            ...

Everything durable is in one folder, and starting again with the same folder brings the same network and the same keys
back. The first time, each node gets a folder with its own identity and store, the contracts are deployed, the nodes
registered and the epoch started; they make the network key and the first keys by themselves. Ports are kept; one that
somebody else took meanwhile is replaced, and the node says so in the registry (`Staking.updateEndpoint`). Settings
files are written at every start (`generated.py`).

    network.json     for clients          account.key    the local user's account, funded on the development chain
    deployment.json  the contracts        local.json     ports, number of nodes, finality, what was written
    login.toml       yours: how people log in (`login_settings.py`)
    chain/  node-1/ ... node-n/  gateway/  logs/
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Self

from keyquorum.chain.contracts import interface
from keyquorum.chain.deploy import Deployment, NodeEntry, deploy, required_threshold
from keyquorum.chain.rpc import Rpc, RpcError, RpcUnreachable, Sender
from keyquorum.cli import state
from keyquorum.cli.chain_choice import ChainChoice, Finality, final_words, wait_until_final
from keyquorum.cli.generated import GeneratedFiles
from keyquorum.cli.login_settings import FILE as LOGIN_FILE
from keyquorum.cli.login_settings import RP_ID, LoginOptions, LoginSettings
from keyquorum.cli.node_folder import SETTINGS, NodeFolder
from keyquorum.cli.ports import HOST, HeldPorts, Ports
from keyquorum.cli.processes import Running, Service
from keyquorum.cli.waiting import POLL_SECONDS, ReadyWait
from keyquorum.client.async_client import AsyncClient
from keyquorum.client.errors import ChainError, Misconfigured, Unavailable
from keyquorum.client.network import Network
from keyquorum.evm.address import address_of_private, to_checksum
from keyquorum.gateway import config as gateway_config

ETHER = 10**18
# A fresh account gets this much, but never more than a twentieth of what the funder has.
ALLOWANCES = {"user": 100 * ETHER, "relayer": 10 * ETHER, "node": ETHER}
SHARE_OF_FUNDS = 20
# On a chain of our own: look often, and let the first keys be few, so that `up` is ready sooner.
# Everybody is 127.0.0.1 here, so nothing is counted for that address; and benchmarks have one key.
LOCAL_SETTINGS = {"poll_seconds": 0.25, "mint_batch": 16, "gateways": [HOST], "signatures_per_second": 1000.0}
READY_SECONDS = 120.0
# Ethereum makes blocks final every 6.4 minutes, and now and then misses a turn or two.
FINALITY_SECONDS = 1800.0
RECEIPT_SECONDS = 600.0
Progress = Callable[[str], None]


class LocalNetwork:
    """A network of `nodes` nodes in `folder`, on `chain`: an existing one, or a development chain of its own."""

    def __init__(
        self,
        folder: Path,
        nodes: int = 4,
        *,
        chain: ChainChoice | None = None,
        progress: Progress = lambda _: None,
        ready_seconds: float | None = None,
        settings: Mapping[str, Any] | None = None,
        gateway: Mapping[str, Any] | None = None,
        login: Mapping[str, Any] | None = None,
        options: LoginOptions | None = None,
        port: int = 0,
    ) -> None:
        """`settings` are further values for every node's `node.toml` (see `config.dump_default`), `gateway` for the
        gateway's (`gateway.config.GatewayConfig`).

        `login` says how people log in (the tables of `login_settings`); None: what the folder's `login.toml` says.
        `options` adds to that. `port` is the gateway's, 0: the one it had, or any. `ready_seconds` is how long nothing
        may happen until the network counts as stuck; None: what fits the chain.
        """
        if not 2 <= nodes <= 100:
            raise ValueError("a network has 2 to 100 nodes")
        self.folder = folder
        self.n = nodes
        self.threshold = required_threshold(nodes)
        self._chain = chain or ChainChoice()
        self._finality: Finality = "latest"
        self._progress = progress
        self._ready_seconds = ready_seconds or (READY_SECONDS if self._chain.embedded else FINALITY_SECONDS)
        self._port = port
        self._settings = dict(settings or {})
        self._gateway = dict(gateway or {})
        self._login = LoginSettings.read(folder, login).with_options(options or LoginOptions())
        self._lock: IO[str] | None = None
        self._services: dict[str, Running] = {}
        self._ports = Ports(0, 0, (), ())
        self._held = HeldPorts()
        self._deployment: Deployment | None = None
        self.network: Network | None = None
        self.seconds: dict[str, float] = {}

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # -- starting -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bring the network up and wait until it signs; raises `KeyquorumError` when something does not start."""
        start = time.monotonic()
        self._take_folder()
        previous = self._read_local()
        self._chain.check(deployed=self._deployment_file.exists())
        self._finality = self._chain.finality_after(previous.get("finality"))
        self._choose_ports(previous.get("ports", {}))
        folders = [NodeFolder(self.folder / f"node-{party}") for party in range(1, self.n + 1)]
        making = asyncio.gather(*(asyncio.to_thread(folder.create) for folder in folders))
        await self._start_chain()
        await making
        async with Rpc(self.rpc) as rpc:
            await self._check_chain(rpc)
            self._deployment = await self._find_or_deploy(rpc, folders)
            await self._announce_moves(rpc, folders, previous)
            self._write_settings(folders, previous.get("written"))
            staking = self._deployment.bind(rpc, "Staking")
            await wait_until_final(rpc, staking, self._finality, self._ready_seconds, self._progress)
        for party in range(1, self.n + 1):
            config = self.folder / f"node-{party}" / "node.toml"
            await self._run(f"node-{party}", "keyquorum.node", "--config", str(config))
        await self._run("gateway", "keyquorum.gateway", "--config", str(self.folder / "gateway" / "gateway.toml"))
        await self.wait_ready()
        await self._wait_for_keys()
        self.seconds["up"] = time.monotonic() - start

    def _take_folder(self) -> None:
        """Make the folder ours: two networks in one folder would write over each other's shares."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = (self.folder / ".lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise Misconfigured(
                "in_use", f"a network is already running in {self.folder}", "stop it, or choose another --dir"
            ) from None
        self._lock = lock

    def _read_local(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.folder / "local.json").read_text())
        except FileNotFoundError:
            return {}
        if found["nodes"] != self.n:
            raise Misconfigured(
                "other_size",
                f"the network in {self.folder} has {found['nodes']} nodes, not {self.n}",
                f"start it with --nodes {found['nodes']}, or choose another --dir",
            )
        return found

    def _choose_ports(self, before: Mapping[str, Any]) -> None:
        self._ports = Ports.choose(self.n, before, self._held, self._port)
        had = before.get("gateway", 0)
        if had and not self._port and self._ports.gateway != had:
            self._progress(f"port {had} is taken: the gateway is at {self._ports.gateway} now; --port makes it stay")

    @property
    def _deployment_file(self) -> Path:
        return self.folder / "deployment.json"

    @property
    def finality(self) -> Finality:
        """When a block of the chain counts."""
        return self._finality

    @property
    def rpc(self) -> str:
        """The chain's URL."""
        return self._chain.rpc or f"http://{HOST}:{self._ports.chain}"

    @property
    def gateway_url(self) -> str:
        """The gateway's URL."""
        return f"http://{HOST}:{self._ports.gateway}"

    @property
    def page_url(self) -> str:
        """The login page's URL: by name, because passkeys belong to a name."""
        return f"http://{RP_ID}:{self._ports.gateway}/"

    @property
    def nodes(self) -> dict[int, str]:
        """The nodes' API URLs by party."""
        return {party: f"http://{HOST}:{port}" for party, port in enumerate(self._ports.api, 1)}

    async def _start_chain(self) -> None:
        if self._chain.embedded:
            self._progress("starting the development chain")
            origins = [f"--origin={origin}" for origin in self._login.web_origins]
            place = ("--port", str(self._ports.chain), "--dir", str(self.folder / "chain"))
            await self._run("chain", "keyquorum.chain.devchain", *place, *origins)

    async def _check_chain(self, rpc: Rpc) -> None:
        give_up = time.monotonic() + self._ready_seconds
        while True:
            try:
                await rpc.chain_id()
                return
            except (RpcUnreachable, RpcError) as error:
                if not self._chain.embedded or time.monotonic() > give_up:
                    raise ChainError("chain_error", f"the chain does not answer: {error}", "check --rpc") from None
                self._check_alive("chain")
                await asyncio.sleep(POLL_SECONDS)

    async def _find_or_deploy(self, rpc: Rpc, folders: list[NodeFolder]) -> Deployment:
        path = self._deployment_file
        if path.exists():
            found = Deployment.load(path)
            if found.chain_id != await rpc.chain_id() or not await _has_code(rpc, found.contracts["PubkeyRouter"]):
                raise Misconfigured(
                    "wrong_chain",
                    f"the network in {self.folder} is on another chain",
                    "start it with the same --rpc, or choose another --dir",
                )
            return found
        self._progress("deploying the contracts and registering the nodes")
        sender = Sender(rpc, self._chain.payer, RECEIPT_SECONDS)
        funds = await rpc.balance(sender.address)
        if not funds:
            raise Misconfigured(
                "no_funds",
                f"the account {sender.address} has no ether to deploy the contracts with",
                "give an account that has some with --funder-file",
            )
        allowances = {who: min(amount, funds // SHARE_OF_FUNDS // self.n) for who, amount in ALLOWANCES.items()}
        entries = [
            NodeEntry(folder.address, self.nodes[party], HOST, self._ports.mesh[party - 1], folder.tls_digest)
            for party, folder in enumerate(folders, 1)
        ]
        deployment = await deploy(sender, entries, fund_nodes=allowances["node"])
        user = _address_of(self._key_file(self.folder / state.ACCOUNT_FILE))
        relayer = _address_of(self._key_file(self.folder / "gateway" / "relayer.key"))
        await sender.send(user, b"", allowances["user"])
        await sender.send(relayer, b"", allowances["relayer"])
        deployment.save(path)
        return deployment

    def _key_file(self, path: Path) -> bytes:
        """Return the key in a file, making both when there is none."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            state.write_private(path, secrets.token_hex(32) + "\n")
        return state.read_key_file(path)

    async def _announce_moves(self, rpc: Rpc, folders: list[NodeFolder], previous: dict[str, Any]) -> None:
        """Tell the registry which nodes are reached elsewhere than before."""
        if not previous:
            return
        staking = self._found_deployment.bind(rpc, "Staking")
        for node, folder in zip(await staking.read("getNodes"), folders, strict=True):
            here = (self.nodes[node.partyId], HOST, self._ports.mesh[node.partyId - 1])
            if (node.url, node.meshHost, node.port) != here:
                data = interface("Staking").encode("updateEndpoint", *here)
                await Sender(rpc, folder.chain_key(), RECEIPT_SECONDS).send(staking.address, data)

    def _write_settings(self, folders: list[NodeFolder], written: Any) -> None:
        files = GeneratedFiles(self.folder, written, f"{self.folder / LOGIN_FILE}", self._progress)
        for party, folder in enumerate(folders, 1):
            files.add(f"node-{party}/{SETTINGS}", self._node_settings(party, folder))
        files.add("gateway/gateway.toml", gateway_config.dump(self._gateway_settings()))
        local = {"nodes": self.n, "ports": asdict(self._ports), "finality": self._finality, "written": files.marks()}
        state.write_private(self.folder / "local.json", json.dumps(local) + "\n")
        files.write()
        self.network = Network(self._found_deployment.network, self.rpc, self.gateway_url)
        self.network.save(self.folder / state.NETWORK_FILE)

    def _node_settings(self, party: int, folder: NodeFolder) -> str:
        return folder.settings_text(
            rpc=[self.rpc],
            router=self._found_deployment.contracts["PubkeyRouter"],
            name=f"node-{party}",
            party=party,
            api_host=HOST,
            api_port=self._ports.api[party - 1],
            mesh_host=HOST,
            mesh_port=self._ports.mesh[party - 1],
            finality=self._finality,
            **self._login.for_nodes(self._ports.gateway)
            | (LOCAL_SETTINGS if self._chain.embedded else {})
            | self._settings,
        )

    def _gateway_settings(self) -> gateway_config.GatewayConfig:
        return gateway_config.GatewayConfig(
            network=self._found_deployment.network,
            rpc=self.rpc,
            host=HOST,
            port=self._ports.gateway,
            relayer_key_file="relayer.key",
            first_block=self._found_deployment.block,
            login=self._login.for_gateway(self._ports.gateway),
            **self._chain.gateway_limits | self._gateway,
        )

    @property
    def _found_deployment(self) -> Deployment:
        assert self._deployment is not None  # noqa: S101 - set by start before anything uses it
        return self._deployment

    # -- processes ----------------------------------------------------------------------------------------------------

    async def _run(self, name: str, module: str, *arguments: str) -> None:
        service = Service(name, module, arguments, self.folder / "logs" / f"{name}.log")
        self._services[name] = Running(service, self._progress)
        await self._services[name].start()

    def _check_alive(self, name: str) -> None:
        running = self._services[name]
        if running.pid is None or running.restarts > 2:
            raise Unavailable(
                "not_started",
                f"{name} does not start: {running.log_tail() or 'it wrote nothing'}",
                f"see {running.service.log}",
                needed=1,
                live=0,
            )

    async def wait_ready(self, parties: list[int] | None = None) -> None:
        """Wait until the named nodes (all), and then the gateway, say that they are ready."""
        names = {f"node-{party}": self.nodes[party] for party in parties or list(self.nodes)}
        names |= {"gateway": self.gateway_url}
        self._progress(f"waiting for {self.n} nodes to make the network key and the first keys")
        async with Rpc(self.rpc) as rpc:
            progress = {} if self._finality == "latest" else {"progress": lambda: final_words(rpc, self._finality)}
            wait = ReadyWait(names, self._ready_seconds, self.folder / "logs", self._progress, **progress)
            await wait.run(self._check_alive)

    async def _wait_for_keys(self) -> None:
        """Wait until the first keys are registered, ready to be minted."""
        async with Rpc(self.rpc) as rpc:
            router = self._found_deployment.bind(rpc, "PubkeyRouter")
            give_up = time.monotonic() + self._ready_seconds
            while not await router.read("poolSize") and time.monotonic() < give_up:  # noqa: ASYNC110 - polls the chain
                await asyncio.sleep(POLL_SECONDS)

    async def kill_node(self, party: int) -> None:
        """End a node with SIGKILL, and leave it so."""
        await self._services[f"node-{party}"].kill()

    async def restart_node(self, party: int) -> None:
        """Start a node that was killed; returns at once (see `wait_ready`)."""
        await self._services[f"node-{party}"].start()

    def pid(self, name: str) -> int | None:
        """Return the process id of `node-1`, `gateway`, `chain`; None while it does not run."""
        return self._services[name].pid if name in self._services else None

    async def stop(self) -> None:
        """Stop every process: gateway and nodes together, then the chain."""
        chain = self._services.pop("chain", None)
        await asyncio.gather(*(running.stop() for running in self._services.values()))
        self._services.clear()
        if chain is not None:
            await chain.stop()
        self._held.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # -- using --------------------------------------------------------------------------------------------------------

    def account(self) -> Any:
        """Return the local user's account."""
        return state.load_account(self.folder)

    def client(self, **options: Any) -> AsyncClient:
        """Return a client of this network acting as the local user; `options` as for `AsyncClient`."""
        if self.network is None:
            raise Misconfigured("not_running", "the network is not running", "start it first")
        return AsyncClient(self.network, **({"account": self.account()} | options))


async def _has_code(rpc: Rpc, address: str) -> bool:
    return str(await rpc.call("eth_getCode", address, "latest")) not in ("0x", "")


def _address_of(key: bytes) -> str:
    return to_checksum(address_of_private(key))
