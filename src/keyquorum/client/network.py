"""Where a network is, and what the chain says about it.

A `Network` is the little that must be known from elsewhere: the network's id, which names a chain and the address of
its `PubkeyRouter`, a chain endpoint, and perhaps a gateway. It comes from a `network.json` or from its URL.
Everything that matters is then *read from the chain* by `discover`: the other contracts, the nodes and their URLs, the
threshold and the network key. A network file can point to another network, but it cannot describe this one falsely;
a gateway is not asked about any of it. Whoever runs the chain endpoint is believed about the chain: use your own.

Public keys need not be believed at all: a token id is the hash of the key it stands for, and `ChainView` checks that.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from yarl import URL

from keyquorum.algebra.curve import Point
from keyquorum.auth.network import chain_id_of
from keyquorum.chain import registry
from keyquorum.chain.block import Block, read_block
from keyquorum.chain.contracts import CONTRACT_NAMES, Contract, interface
from keyquorum.chain.fees import TooDear
from keyquorum.chain.rpc import Reverted, Rpc, RpcError, RpcUnreachable
from keyquorum.client.committee import Committee
from keyquorum.client.errors import ChainError, Misconfigured, Refused, TooExpensive
from keyquorum.client.results import Key, Node, token_hex
from keyquorum.client.transport import NodeError, Transport
from keyquorum.evm.address import checksum
from keyquorum.evm.keys import eth_address
from keyquorum.evm.keys import token_id as token_id_of
from keyquorum.refusal import NOT_FOUND

KEY_TYPE = 2
MAX_PARALLEL_READS = 16
LOAD_SECONDS = 10.0
PAGE = 200


class NetworkFile(msgspec.Struct):
    """The content of `network.json`; unknown members are ignored, so that newer files stay readable."""

    network: str
    rpc: str
    gateway: str = ""


@dataclass(frozen=True)
class Network:
    """How to reach a network: its id (`eip155:<chain id>:<PubkeyRouter>`), and the URLs `rpc` and `gateway`."""

    id: str
    rpc: str
    gateway: str | None = None

    def __post_init__(self) -> None:
        chain_id_of(self.id)
        for url in filter(None, (self.rpc, self.gateway)):
            if URL(url).scheme not in ("http", "https"):
                raise ValueError(f"{url[:60]} is no http or https address")

    @property
    def router(self) -> str:
        """The address of the PubkeyRouter."""
        return self.id.rpartition(":")[2]

    @classmethod
    def from_json(cls, text: bytes, where: str) -> Network:
        """Read the content of a network file; raise `Misconfigured` naming `where` it came from."""
        try:
            found = msgspec.json.decode(text, type=NetworkFile)
            return cls(found.network, found.rpc, found.gateway or None)
        except (ValueError, msgspec.DecodeError) as error:
            raise Misconfigured(
                "bad_network_file",
                f"{where} is not a network file: {error}",
                "fetch it again from who runs the network, or from /network.json of its gateway",
            ) from None

    def to_json(self) -> dict[str, str]:
        """Return the content of a network file."""
        return {"network": self.id, "rpc": self.rpc} | ({"gateway": self.gateway} if self.gateway else {})

    @classmethod
    async def load(cls, source: str | Path | Network, transport: Transport) -> Network:
        """Return the network that `source` names: a path, the URL of a network file, a gateway's URL, or itself."""
        if isinstance(source, Network):
            return source
        text = str(source)
        if text.startswith(("http://", "https://")):
            url = text if text.endswith(".json") else text.rstrip("/") + "/network.json"
            try:
                async with asyncio.timeout(LOAD_SECONDS):
                    found = await transport.get(url, msgspec.Raw)
            except TimeoutError:
                raise Misconfigured(
                    "misconfigured", f"nobody answers at {url}", "check the address, or name a file"
                ) from None
            except NodeError as error:
                raise Misconfigured(
                    "misconfigured", f"no network file at {url}: {error.message}", "check the address, or name a file"
                ) from None
            return cls.from_json(bytes(found), url)
        path = Path(text)
        try:
            return cls.from_json(await asyncio.to_thread(path.read_bytes), str(path))
        except OSError:
            raise Misconfigured(
                "no_network", f"there is no network file {path}", "start a network with `keyquorum up`"
            ) from None

    def save(self, path: Path) -> None:
        """Write the network file."""
        path.write_text(json.dumps(self.to_json(), indent=2) + "\n")


@dataclass(frozen=True)
class Facts:
    """What the chain says of a network: fixed for an epoch, except where nodes are reached."""

    id: str
    chain_id: int
    contracts: dict[str, str]
    committee: Committee
    network_key: Point | None

    def to_json(self) -> dict[str, Any]:
        """Return the chain's part of `GET /v1/network`."""
        key = None if self.network_key is None else "0x" + self.network_key.to_bytes().hex()
        return {
            "network": self.id,
            "chain_id": self.chain_id,
            "contracts": self.contracts,
            "epoch": self.committee.epoch,
            "threshold": self.committee.threshold,
            "network_key": key,
        }


class ChainView:
    """Reads of one network's contracts; every failure is a `ChainError` that says what was asked."""

    def __init__(self, network: Network, rpc: Rpc) -> None:
        self.network = network
        self.rpc = rpc
        self._contracts: dict[str, Contract] = {}

    def contract(self, name: str) -> Contract:
        """Return a contract that `discover` found."""
        return self._contracts[name]

    async def discover(self) -> Facts:
        """Read everything about the network; also makes `contract` work. The contracts name each other."""
        self._bind("PubkeyRouter", self.network.router)
        try:
            chain_id = await self.rpc.chain_id()
        except (RpcError, RpcUnreachable) as error:
            raise chain_error("the chain id", error) from None
        if chain_id != chain_id_of(self.network.id):
            raise Misconfigured(
                "wrong_chain",
                f"{self.rpc.name} is chain {chain_id}, the network {self.network.id} is on another",
                "name an endpoint of the network's chain",
            )
        router = self.contract("PubkeyRouter")
        nft, staking, key = await asyncio.gather(
            self.ask(router, "pkpNft"), self.ask(router, "staking"), self.ask(router, "networkKey")
        )
        self._bind("PKPNFT", nft)
        self._bind("Staking", staking)
        permissions, helper, committee = await asyncio.gather(
            self.ask(self.contract("PKPNFT"), "permissions"),
            self.ask(self.contract("PKPNFT"), "helper"),
            self.committee(),
        )
        self._bind("PKPPermissions", permissions)
        self._bind("PKPHelper", helper)
        self._bind("Sessions", await self.ask(self.contract("PKPPermissions"), "sessions"))
        addresses = {name: self.contract(name).address for name in CONTRACT_NAMES}
        return Facts(self.network.id, chain_id, addresses, committee, Point.from_bytes_checked(key) if key else None)

    def _bind(self, name: str, address: str) -> None:
        self._contracts[name] = Contract(self.rpc, address, interface(name))

    async def committee(self) -> Committee:
        """Read the nodes, where they are reached, and the threshold."""
        staking = self.contract("Staking")
        nodes, threshold, epoch = await asyncio.gather(
            self.ask(staking, "getNodes"), self.ask(staking, "threshold"), self.ask(staking, "epoch")
        )
        found = tuple(Node(node.party, node.url) for node in registry.entries(nodes))
        return Committee(found, int(threshold), int(epoch))

    async def newest(self) -> int:
        """Return the number of the newest block that the endpoint knows."""
        try:
            return await self.rpc.block_number()
        except (RpcError, RpcUnreachable) as error:
            raise chain_error("the newest block", error) from None

    async def newest_block(self) -> Block:
        """Return the newest block that the endpoint knows."""
        try:
            found = await read_block(self.rpc, "latest")
        except (RpcError, RpcUnreachable, ValueError) as error:
            raise chain_error("the newest block", error) from None
        if found is None:
            raise ChainError("chain_error", "the chain endpoint knows no newest block")
        return found

    async def ask(self, contract: Contract, name: str, *args: Any, block: int | str = "latest") -> Any:
        """Call a view, at `block`; raise `ChainError`."""
        try:
            return await contract.read(name, *args, block=block)
        except Reverted:
            raise
        except (RpcError, RpcUnreachable, ValueError) as error:
            raise chain_error(f"{name}()", error) from None

    async def public_key(self, token_id: int) -> Point:
        """Return a key's public key, checked against its token id; raise `Refused` when the network has no such key."""
        return _checked(token_id, await self.ask(self.contract("PubkeyRouter"), "getPubkey", token_id))

    async def owner(self, token_id: int) -> str | None:
        """Return who owns a token, None when nobody does."""
        try:
            return checksum(await self.ask(self.contract("PKPNFT"), "ownerOf", token_id))
        except Reverted:
            return None

    async def key(self, token_id: int) -> Key:
        """Return a key with its owner."""
        point, owner = await asyncio.gather(self.public_key(token_id), self.owner(token_id))
        encoded = point.to_bytes()
        return Key(token_id, encoded, eth_address(encoded), owner)

    def key_of(self, token_id: int, public_key: bytes, owner: str) -> Key:
        """Return a key of what a view said about it; raises like `public_key`. The zero address owns nothing."""
        encoded = _checked(token_id, public_key).to_bytes()
        return Key(token_id, encoded, eth_address(encoded), checksum(owner) if int(owner, 16) else None)

    async def keys_of(self, owner: str) -> list[Key]:
        """Return every key that an address owns, in the order of the contract's enumeration."""
        tokens = await self.pages(self.contract("PKPNFT"), "tokensOfOwner", "balanceOf", owner)
        gate = asyncio.Semaphore(MAX_PARALLEL_READS)

        async def one(token_id: int) -> Key:
            async with gate:
                return await self.key(token_id)

        return list(await asyncio.gather(*(one(int(token)) for token in tokens)))

    async def pages(self, contract: Contract, view: str, count: str, *args: Any) -> list[Any]:
        """Return all that a paged view has: `count(*args)` places, read `PAGE` at a time; raise `ChainError`.

        A view with several results gives the tuples of its pages' entries. More than one page is read at one block, as
        what is removed between two pages would move others.
        """
        places = int(await self.ask(contract, count, *args))
        block: int | str = "latest"
        if places > PAGE:
            block = await self._block_number()
            places = int(await self.ask(contract, count, *args, block=block))
        gate = asyncio.Semaphore(MAX_PARALLEL_READS)

        async def page(offset: int) -> list[Any]:
            async with gate:
                found = await self.ask(contract, view, *args, offset, PAGE, block=block)
            return list(zip(*found, strict=True)) if isinstance(found, tuple) else list(found)

        return [entry for found in await asyncio.gather(*map(page, range(0, places, PAGE))) for entry in found]

    async def _block_number(self) -> int:
        try:
            return await self.rpc.block_number()
        except (RpcError, RpcUnreachable) as error:
            raise chain_error("the newest block", error) from None


def _checked(token_id: int, public_key: bytes) -> Point:
    """Return the point; the chain endpoint is not believed: a token id is the hash of its key."""
    if not public_key:
        raise Refused(
            "unknown_key",
            f"the network has no key {token_hex(token_id)}",
            "see your keys with `keyquorum keys list`",
            status=NOT_FOUND,
        )
    if token_id_of(public_key) != token_id:
        raise ChainError("chain_error", "the chain endpoint gave a public key that does not belong to the token id")
    return Point.from_bytes_checked(public_key)


def chain_error(what: str, error: Exception) -> ChainError:
    """Return the public error for a failed read or transaction."""
    stopped = "start the network with `keyquorum up`, or check the chain's address in network.json"
    hint = stopped if isinstance(error, RpcUnreachable) else None
    return ChainError("chain_error", f"the chain did not answer {what}: {error}", hint)


def too_expensive(error: TooDear, hint: str | None = None) -> TooExpensive:
    """Return the public error for a price above the payer's limits."""
    return TooExpensive(
        "too_expensive", str(error), hint, asked=error.asked, allowed=error.allowed, setting=error.setting
    )


def minted_token(receipt: dict[str, Any], nft: Contract) -> int:
    """Return the token that a mint transaction made, from its logs; raise `ChainError` when it made none."""
    for log in receipt.get("logs", []):
        event = nft.decode_event(log)
        if event is not None and event["event"] == "PKPMinted":
            return int(event["args"]["tokenId"])
    raise ChainError("not_minted", "the transaction did not mint a key")
