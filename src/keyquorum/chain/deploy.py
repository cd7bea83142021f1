"""Bring the contracts onto a chain, register the nodes, start epoch 1; and remember where everything is.

The contracts name each other for ever, in a circle, so each address is computed before anything is deployed there: it
follows from the deployer's address and account nonce. The last contract refuses to exist unless all of them name each
other, so a nonce taken by somebody else in between ends in an error, never in a network that is wired wrongly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eth_hash.auto import keccak

from keyquorum.chain.contracts import CONTRACT_NAMES, Contract, Reader, interface, load_artifact
from keyquorum.chain.rpc import Sender, from_quantity
from keyquorum.evm.address import checksum

DEVELOPMENT_CHAIN = 31337
# What registering one key costs the nodes, rounded up: batches may be small.
REFILL_GAS = 85_000


class DeploymentError(Exception):
    """The contracts did not end up where they must be; what is on the chain must not be used."""


@dataclass(frozen=True)
class NodeEntry:
    """What the registry holds of a node."""

    address: str
    """The account with which the node votes on chain."""
    url: str
    """Where its API is."""
    mesh_host: str
    mesh_port: int
    tls_key: bytes
    """SHA-256 of the SubjectPublicKeyInfo of its TLS key, 32 bytes."""


@dataclass(frozen=True)
class Deployment:
    """Where the contracts of one network are; `save` and `load` keep it as JSON."""

    chain_id: int
    block: int
    """Number of the block of the first contract: logs need not be looked for before it."""
    contracts: Mapping[str, str]
    """Checksummed address of each of `CONTRACT_NAMES`."""

    @property
    def network(self) -> str:
        """The network's id: `eip155:<chain id>:<PubkeyRouter>`."""
        return f"eip155:{self.chain_id}:{self.contracts['PubkeyRouter']}"

    def bind(self, rpc: Reader, name: str) -> Contract:
        """Return one of the contracts, read through `rpc`."""
        return Contract(rpc, self.contracts[name], interface(name))

    def save(self, path: Path) -> None:
        """Write the file, replacing what was there in one step."""
        content = {
            "network": self.network,
            "chain_id": self.chain_id,
            "block": self.block,
            "contracts": dict(self.contracts),
        }
        temporary = path.with_name(path.name + ".new")
        temporary.write_text(json.dumps(content, indent=2) + "\n")
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Deployment:
        """Read the file; `ValueError` if it is not what `save` writes."""
        try:
            content = json.loads(path.read_text())
            contracts = {name: checksum(content["contracts"][name]) for name in CONTRACT_NAMES}
            chain_id, block = content["chain_id"], content["block"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path} does not describe a deployment: {error}") from None
        if type(chain_id) is not int or type(block) is not int or chain_id < 1 or block < 0:
            raise ValueError(f"{path}: chain_id and block must be numbers")
        deployment = cls(chain_id, block, contracts)
        if content.get("network") != deployment.network:
            raise ValueError(f"{path}: the network id does not fit the addresses")
        return deployment


def required_threshold(node_count: int) -> int:
    """Return how many of `node_count` nodes must sign: more than two thirds."""
    return 2 * node_count // 3 + 1


def refill_cost(gas_price: int) -> int:
    """Return what a key must cost, in wei, so that who empties the pool pays for filling it, also when gas doubles.

    `gas_price` in wei per gas, as `eth_gasPrice` gives it.
    """
    return REFILL_GAS * 2 * gas_price


async def deploy(
    sender: Sender, nodes: Sequence[NodeEntry] = (), *, mint_cost: int | None = None, fund_nodes: int = 0
) -> Deployment:
    """Deploy the contracts, which `sender` then governs, and with `nodes` also start epoch 1 (see `start_epoch`).

    `mint_cost` and `fund_nodes` (what each node gets for its own transactions) are in wei. A price of None covers what
    the nodes pay for a key (`refill_cost`), and is 0 on a development chain. Nothing else may send from this account
    meanwhile: `DeploymentError` if something does.
    """
    if len(nodes) == 1:
        raise ValueError("a network has at least two nodes")
    rpc = sender.rpc
    chain_id = await rpc.chain_id()
    nonce = from_quantity(await rpc.call("eth_getTransactionCount", sender.address, "pending"))
    at = {name: contract_address(sender.address, nonce + i) for i, name in enumerate(CONTRACT_NAMES)}
    arguments = {
        "Staking": (sender.address, at["PubkeyRouter"]),
        "PubkeyRouter": (at["Staking"], at["PKPNFT"]),
        "PKPNFT": (sender.address, at["PubkeyRouter"], at["PKPPermissions"], at["PKPHelper"]),
        "Sessions": (at["PKPNFT"], at["PubkeyRouter"]),
        "PKPPermissions": (at["PKPNFT"], at["PubkeyRouter"], at["PKPHelper"], at["Sessions"]),
        "PKPHelper": (at["PKPNFT"], at["PKPPermissions"]),
    }
    blocks = []
    for name in CONTRACT_NAMES:
        code = interface(name).encode_deployment(load_artifact(name)["bytecode"], *arguments[name])
        receipt = await sender.send(None, code)
        if str(receipt["contractAddress"]).lower() != at[name].lower():
            raise DeploymentError(f"{name} came to another address than computed: is the account used elsewhere?")
        blocks.append(from_quantity(receipt["blockNumber"]))
    deployment = Deployment(chain_id, blocks[0], at)
    if mint_cost is None:
        mint_cost = 0 if chain_id == DEVELOPMENT_CHAIN else refill_cost(from_quantity(await rpc.call("eth_gasPrice")))
    if mint_cost:
        await sender.send(at["PKPNFT"], interface("PKPNFT").encode("setMintCost", mint_cost))
    if nodes:
        await start_epoch(sender, deployment, nodes, fund_nodes=fund_nodes)
    return deployment


async def start_epoch(
    sender: Sender, deployment: Deployment, nodes: Sequence[NodeEntry], *, fund_nodes: int = 0
) -> None:
    """Register `nodes`, which get the PartyIds 1, 2, ... in this order, give each `fund_nodes` wei, and activate."""
    staking, address = interface("Staking"), deployment.contracts["Staking"]
    for node in nodes:
        entry = (node.address, node.url, node.mesh_host, node.mesh_port, node.tls_key)
        await sender.send(address, staking.encode("register", *entry))
        if fund_nodes:
            await sender.send(checksum(node.address), b"", fund_nodes)
    await sender.send(address, staking.encode("activate", required_threshold(len(nodes))))


def contract_address(deployer: str, nonce: int) -> str:
    """Return the address of the contract that an account creates with its transaction number `nonce` (CREATE)."""
    number = nonce.to_bytes((nonce.bit_length() + 7) // 8, "big")
    # RLP of [20 bytes, number]: a byte below 0x80 stands for itself, anything else of up to 55 bytes has a length.
    item = number if len(number) == 1 and nonce < 0x80 else bytes([0x80 + len(number)]) + number
    content = b"\x94" + bytes.fromhex(deployer[2:]) + item
    return checksum(keccak(bytes([0xC0 + len(content)]) + content)[12:])
