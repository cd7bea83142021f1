"""What a transaction can do to those who rely on our contracts: whoever may send it, and whatever it says."""

from __future__ import annotations

from typing import Any

from hostile.attack import MINTER, NODE, Outcome, trick
from hostile.scene import ETHER, Scene
from hostile.tricks_of_minters import node_account
from keyquorum.chain.contracts import interface
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.rpc import Reverted, RpcError, Sender
from keyquorum.client.errors import KeyquorumError

FEW, MANY, LIMIT = 8, 48, 5
TYPE = 7


async def _accepted(sender: Sender, to: str, data: bytes) -> bool:
    try:
        await sender.send(to, data)
    except (Reverted, RpcError):
        return False
    return True


@trick(MINTER, "gives up the contracts that keep the price and the registry")
async def renounced(scene: Scene) -> Outcome:
    """Without an owner nobody could take out what was earned, change the price, or let a node in, for ever."""
    owner = Sender(scene.rpc, ACCOUNTS[0][1])
    gone = [
        name
        for name in ("PKPNFT", "Staking")
        if await _accepted(owner, scene.target.contracts[name], interface(name).encode("renounceOwnership"))
    ]
    return Outcome(bool(gone), f"{gone} have no owner" if gone else "both refuse it")


@trick(NODE, "takes the address of another node")
async def same_address(scene: Scene) -> Outcome:
    """It registers the URL of another, who must not be kept from it; whoever asks there gets the other's answers."""
    n, staking = len(scene.target.nodes), scene.target.contracts["Staking"]
    entries = await scene.net._found_deployment.bind(scene.rpc, "Staking").read("getNodes")
    victim, mine = entries[0], entries[n - 1]

    def call(url: str, entry: Any) -> bytes:
        return interface("Staking").encode("updateEndpoint", url, entry.meshHost, entry.port)

    node, got = node_account(scene, n), []
    spellings = [victim.url.upper(), victim.url + "/", victim.url.replace("127.", "127.0", 1)]
    got += [f"{url} is another's" for url in spellings if await _accepted(node, staking, call(url, mine))]
    await _accepted(node, staking, call(victim.url, mine))
    if not await _accepted(node_account(scene, 1), staking, call(victim.url, victim)):
        got.append("the other is kept from its own address")
    try:
        async with scene.net.client(timeout=20.0) as late:
            for number in range(4):
                await late.sign_message(scene.key, f"{number}")
    except KeyquorumError as error:
        got.append(str(error))
    finally:
        await node.send(staking, call(mine.url, mine))
    return Outcome(bool(got), "; ".join(got) or f"{len(spellings)} other spellings are refused; it is only down itself")


@trick(MINTER, "takes the key that another's mint would have got")
async def other_key(scene: Scene) -> Outcome:
    """He mints between her look at the next key and her transaction, which names that key."""
    bind = scene.net._found_deployment.bind
    expected = await bind(scene.rpc, "PubkeyRouter").read("nextKey")
    nft, price = scene.target.contracts["PKPNFT"], await bind(scene.rpc, "PKPNFT").read("mintCost")
    thief = Sender(scene.rpc, bytes((await scene.rich()).key))
    victim = Sender(scene.rpc, bytes((await scene.rich()).key))
    await thief.send(nft, interface("PKPNFT").encode("mintNext", 2), price)
    before = await scene.balance(victim.address)
    try:
        await victim.send(nft, interface("PKPNFT").encode("mintNextExpecting", 2, expected), price)
    except (Reverted, RpcError):
        paid = before - await scene.balance(victim.address)
        return Outcome(paid > price / ETHER + 0.01, f"she is refused, and pays {paid:.6f} ETH")
    return Outcome(True, "she paid for another key than the one she saw")


@trick(MINTER, "makes a list so long that no call can read it")
async def long_lists(scene: Scene) -> Outcome:
    """A page of a key's methods, and one of the keys of a login, cost the same however many there are."""
    owner = await scene.rich(5.0)
    sender, permissions = Sender(scene.rpc, bytes(owner.key)), scene.target.contracts["PKPPermissions"]
    nft, bind = scene.target.contracts["PKPNFT"], scene.net._found_deployment.bind
    price = await bind(scene.rpc, "PKPNFT").read("mintCost")
    token = await bind(scene.rpc, "PubkeyRouter").read("nextKey")
    await sender.send(nft, interface("PKPNFT").encode("mintNextExpecting", 2, token), price)
    page = interface("PKPPermissions").encode("getPermittedAuthMethodsPage", token, 0, LIMIT)
    costs, written = [], 0
    for goal in (FEW, MANY):
        ids = [number.to_bytes(32, "big") for number in range(written, goal)]
        lists = [TYPE] * len(ids), ids, [b""] * len(ids), [[1]] * len(ids)
        add = interface("PKPPermissions").encode("batchAddRemoveAuthMethods", token, *lists, [], [])
        await sender.send(permissions, add)
        written = goal
        call = {"from": owner.address, "to": permissions, "data": "0x" + page.hex()}
        costs.append(int(await scene.rpc.call("eth_estimateGas", call), 16))
    grew = costs[1] > 1.1 * costs[0]
    return Outcome(grew, f"a page of {LIMIT} of {FEW} and of {MANY}: {costs[0]:,} and {costs[1]:,} gas")
