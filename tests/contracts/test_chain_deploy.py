"""Deploying: contracts that name each other, nodes in order, and a file that brings it all back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import rlp
from chains import Chain, PyEvmChain, accounts
from eth_hash.auto import keccak
from world import ChainRpc, ChainSender, World, node_entry

from keyquorum.chain.contracts import CONTRACT_NAMES
from keyquorum.chain.deploy import (
    REFILL_GAS,
    Deployment,
    DeploymentError,
    NodeEntry,
    contract_address,
    deploy,
    refill_cost,
    required_threshold,
    start_epoch,
)
from keyquorum.chain.devchain.server import DevChainServer
from keyquorum.chain.rpc import Rpc, Sender
from keyquorum.evm.address import checksum


async def test_a_network_is_deployed_with_its_nodes_and_governed_by_the_sender(world: World):
    sender: Any = ChainSender(world.chain, world.other)
    nodes = [node_entry(number) for number in (1, 2, 3, 4, 8, 9, 10)]
    deployment = await deploy(sender, nodes, mint_cost=5)
    staking = deployment.bind(sender.rpc, "Staking")
    nft = deployment.bind(sender.rpc, "PKPNFT")
    assert [node.url for node in await staking.read("getNodes")] == [node.url for node in nodes]
    assert (await staking.read("epoch"), await staking.read("threshold")) == (1, 5)
    assert await nft.read("mintCost") == 5
    for contract in (staking, nft):
        assert checksum(await contract.read("owner")) == world.other.address
    assert deployment.network == f"eip155:31337:{deployment.contracts['PubkeyRouter']}"
    assert set(deployment.contracts) == set(CONTRACT_NAMES)
    assert deployment.block >= 1


async def test_nodes_get_ether_for_their_votes_if_asked(world: World):
    sender: Any = ChainSender(world.chain, world.other)
    addresses = ["0x" + f"{number:040x}" for number in (0xABCDEF01, 0xABCDEF02)]
    nodes = [node_entry(number + 1, address) for number, address in enumerate(addresses)]
    await deploy(sender, nodes, fund_nodes=10**17)
    assert [world.chain.balance(address) for address in addresses] == [10**17, 10**17]


async def test_the_epoch_can_start_later(world: World):
    sender: Any = ChainSender(world.chain, world.other)
    deployment = await deploy(sender)
    staking = deployment.bind(sender.rpc, "Staking")
    assert await staking.read("epoch") == 0
    await start_epoch(sender, deployment, [node_entry(1), node_entry(2)])
    assert (await staking.read("epoch"), await staking.read("threshold")) == (1, 2)


PRICES = [(1, None, 85_000 * 2 * 7), (31337, None, 0), (1, 0, 0), (1, 9, 9)]


@pytest.mark.parametrize(("chain_id", "given", "cost"), PRICES)
async def test_the_price_covers_the_refill_unless_it_is_chosen(world: World, chain_id, given, cost):
    class Elsewhere(ChainRpc):
        async def chain_id(self) -> int:
            return chain_id

        async def call(self, method: str, *params: Any) -> Any:
            return "0x7" if method == "eth_gasPrice" else await super().call(method, *params)

    sender: Any = ChainSender(world.chain, world.other)
    sender.rpc = Elsewhere(world.chain)
    deployment = await deploy(sender, mint_cost=given)
    assert await deployment.bind(sender.rpc, "PKPNFT").read("mintCost") == cost


def test_the_refill_costs_no_more_than_the_price_is_made_for():
    recorded = json.loads((Path(__file__).parent / "gas.json").read_text())
    assert recorded["registerKeys, batch of 64"] / 64 < REFILL_GAS
    assert refill_cost(3) == 6 * REFILL_GAS


async def test_one_node_is_no_network(world: World):
    sender: Any = ChainSender(world.chain, world.other)
    with pytest.raises(ValueError, match="at least two nodes"):
        await deploy(sender, [node_entry(1)])


async def test_another_transaction_of_the_same_account_in_between_is_noticed(world: World):
    class Interrupted(ChainSender):
        sent = 0

        async def send(self, *arguments: Any, **keywords: Any) -> dict[str, Any]:
            self.sent += 1
            if self.sent == 3:
                await super().send(world.user.address)
            return await super().send(*arguments, **keywords)

    sender: Any = Interrupted(world.chain, world.other)
    with pytest.raises(DeploymentError, match="PKPNFT"):
        await deploy(sender, [node_entry(1), node_entry(2)])


async def test_the_real_sender_deploys_over_json_rpc():
    async with DevChainServer() as server, Rpc(server.url) as rpc:
        sender = Sender(rpc, accounts()[9].key)
        deployment = await deploy(sender, [node_entry(number) for number in (1, 2, 3, 4)], fund_nodes=1)
        nodes = await deployment.bind(rpc, "Staking").read("getNodes")
    assert [node.partyId for node in nodes] == [1, 2, 3, 4]


@pytest.mark.parametrize("nonce", [0, 1, 0x7F, 0x80, 0xFF, 0x100, 2**32, 2**63])
def test_contract_addresses_follow_from_deployer_and_nonce(nonce):
    deployer = accounts()[0].address
    expected = keccak(rlp.encode([bytes.fromhex(deployer[2:]), nonce]))[12:]
    assert contract_address(deployer, nonce) == checksum(expected)


def test_the_threshold_is_more_than_two_thirds():
    assert [required_threshold(n) for n in (2, 3, 4, 5, 6, 7, 10, 100)] == [2, 3, 3, 4, 5, 5, 7, 67]


def test_a_deployment_survives_a_round_trip_through_its_file(world: World, tmp_path):
    path = tmp_path / "network.json"
    world.deployment.save(path)
    assert Deployment.load(path) == world.deployment
    world.deployment.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["network.json"]


def damage(content: dict[str, Any]) -> dict[str, Any]:
    """One damaged version of the file for each way in which it can be damaged."""
    contracts = content["contracts"]
    return {
        "not JSON": "{",
        "not an object": "[]",
        "empty": "{}",
        "no contracts": {**content, "contracts": {}},
        "contracts a list": {**content, "contracts": []},
        "a contract missing": {**content, "contracts": {k: v for k, v in contracts.items() if k != "PKPHelper"}},
        "no address": {**content, "contracts": {**contracts, "PKPHelper": "0x12"}},
        "address a number": {**content, "contracts": {**contracts, "PKPHelper": 5}},
        "chain id a text": {**content, "chain_id": "31337"},
        "chain id a bool": {**content, "chain_id": True},
        "chain id zero": {**content, "chain_id": 0},
        "negative block": {**content, "block": -1},
        "another network": {**content, "network": "eip155:1:0x00"},
        "another chain": {**content, "chain_id": content["chain_id"] + 1},
        "no network": {k: v for k, v in content.items() if k != "network"},
    }


KINDS = list(damage({"contracts": {}, "chain_id": 1}))


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_refused(tmp_path, kind):
    path = tmp_path / "network.json"
    at = {name: checksum(bytes([i + 1]) * 20) for i, name in enumerate(CONTRACT_NAMES)}
    Deployment(31337, 7, at).save(path)
    content = damage(json.loads(path.read_text()))[kind]
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=r"network\.json"):
        Deployment.load(path)


def test_time_moves_only_forward_on_a_test_chain(chain: Chain):
    snapshot = chain.snapshot()
    before = chain.time()
    chain.advance(1000)
    assert chain.time() >= before + 1000
    chain.restore(snapshot)


def test_a_node_entry_is_all_that_the_registry_holds():
    entry = node_entry(3)
    assert isinstance(entry, NodeEntry)
    assert len(entry.tls_key) == 32


async def test_the_test_chain_is_read_as_a_real_one(world: World):
    assert await ChainRpc(world.chain).chain_id() == 31337
    assert isinstance(PyEvmChain().time(), int)
