"""What whoever owns, mints or registers something on the chain tries with those who read it or pay for it."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from pathlib import Path

from aiohttp import web
from eth_account import Account
from eth_hash.auto import keccak

from hostile import words
from hostile.attack import MINTER, NODE, Outcome, trick
from hostile.scene import ETHER, Scene, folder_of, http_from, say, word
from keyquorum.chain.contracts import Contract, interface
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.rpc import Reverted, RpcError, Sender
from keyquorum.client.errors import KeyquorumError
from keyquorum.node.mesh.identity import Identity
from keyquorum.node.storage.store import Store
from keyquorum.node.storage.vault import KeySource

BAD_URLS = {
    "a byte that is no text": b"http://\xff",
    "a name over 63 letters": b"http://" + b"a" * 64 + b".example",
    "a path": b"http://127.0.0.1:1/router/reboot?confirm=yes&x=",
    "an unfinished address": b"http://[::1",
    "port 99999": b"http://127.0.0.1:99999",
}


def _update_endpoint(url: bytes, host: str, port: int) -> bytes:
    """Return the call with bytes where text should be, as the ABI encodes them."""
    data = interface("Staking").encode("updateEndpoint", "x" * len(url), host, port)
    return data.replace(b"x" * len(url), url) if url else data


def node_account(scene: Scene, party: int) -> Sender:
    """Return what sends transactions as a node, as its operator may; the running node's store is copied first."""
    folder = folder_of(scene.target) / f"node-{party}"
    with tempfile.TemporaryDirectory() as copied:
        data = Path(shutil.copytree(folder / "data", Path(copied) / "data"))
        store = Store(data, KeySource("key-file", bytes.fromhex((folder / "store.key").read_text())))
        try:
            return Sender(scene.rpc, Identity.load(store, data).chain_key)
        finally:
            store.close()


@trick(NODE, "registers a URL that nobody can read")
async def poisoned_registry(scene: Scene) -> Outcome:
    """One node of four puts all kinds of text into the registry; everybody else must go on, also who comes later."""
    n = len(scene.target.nodes)
    node = node_account(scene, n)
    staking = scene.target.contracts["Staking"]
    entries = await scene.net._found_deployment.bind(scene.rpc, "Staking").read("getNodes")
    mine = entries[n - 1]
    got = []
    for name, url in BAD_URLS.items():
        try:
            await node.send(staking, _update_endpoint(url, mine.meshHost, mine.port))
        except (Reverted, RpcError):
            continue  # the contract refuses it
        try:
            async with scene.net.client(timeout=20.0) as late:
                await late.sign_message(scene.key, name)
        except (KeyquorumError, ValueError) as error:
            got.append(f"{name}: {type(error).__name__}")
    await node.send(staking, interface("Staking").encode("updateEndpoint", mine.url, mine.meshHost, mine.port))
    return Outcome(bool(got), "; ".join(got) or "refused by the contract, or only that node is down")


@trick(NODE, "registers an address inside other people's machines")
async def aimed_requests(scene: Scene) -> Outcome:
    """Its URL has a path; whoever asks the nodes sends what the path says."""
    got: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        got.append(f"{request.method} {request.raw_path}")
        return web.json_response({})

    n = len(scene.target.nodes)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/router/reboot?confirm=yes&x="
    node = node_account(scene, n)
    staking = scene.target.contracts["Staking"]
    mine = (await scene.net._found_deployment.bind(scene.rpc, "Staking").read("getNodes"))[n - 1]
    try:
        await node.send(staking, _update_endpoint(url.encode(), mine.meshHost, mine.port))
        async with scene.net.client(timeout=20.0) as user:
            for number in range(6):
                await user.sign_message(scene.key, f"aimed {number}")
            await user.network()
    except (Reverted, RpcError):
        return Outcome(False, "the contract refuses it")
    finally:
        await runner.cleanup()
        await node.send(staking, interface("Staking").encode("updateEndpoint", mine.url, mine.meshHost, mine.port))
    return Outcome(bool(got), f"{len(got)} requests, such as {got[0]}" if got else "no request")


@trick(MINTER, "raises the price before others mint")
async def raised_price(scene: Scene) -> Outcome:
    """The owner of PKPNFT asks nine ether a key; a gateway and a client that pay for mints are asked for one."""
    owner = Sender(scene.rpc, ACCOUNTS[0][1])
    nft = scene.target.contracts["PKPNFT"]
    before = await scene.net._found_deployment.bind(scene.rpc, "PKPNFT").read("mintCost")
    await owner.send(nft, interface("PKPNFT").encode("setMintCost", 9 * ETHER))
    relayer = Account.from_key((folder_of(scene.target) / "gateway" / "relayer.key").read_text().strip()).address
    had = await scene.balance(relayer)
    payer = await scene.rich(10.0)
    try:
        async with http_from("127.0.0.1") as http:
            body = {"owner": Account.create().address, "request": secrets.token_hex(16)}
            said = word(*await say(http, scene.target.gateway + "/v1/keys", body))
        async with scene.net.client(account=payer, timeout=20.0) as client:
            client._network = type(client._network)(scene.target.network, scene.target.rpc)  # mints by itself
            try:
                await client.mint()
            except KeyquorumError as error:
                said += f"; {error}"
    finally:
        await owner.send(nft, interface("PKPNFT").encode("setMintCost", before))
    lost = had - await scene.balance(relayer) + 10.0 - await scene.balance(payer.address)
    return Outcome(lost > 1.0, f"{max(lost, 0.0):.3f} ETH; {said}"[:110])


@trick(MINTER, "fills the directory of somebody's login")
async def filled_directory(scene: Scene) -> Outcome:
    """He puts the login of another on many keys of his; that one still finds her own key and lists what is hers."""
    victim = await scene.rich()
    async with scene.net.client(account=victim, timeout=30.0, through_gateway=True, scopes=[1, 6]) as client:
        before = (await client.sign_up()).key
        thief = Sender(scene.rpc, bytes((await scene.rich(3.0)).key))
        helper, identity = scene.target.contracts["PKPHelper"], bytes.fromhex(victim.address[2:])
        foreign = []
        for scopes in ([1], [1, 6]):
            data = interface("PKPHelper").encode(
                "mintNextAndAddAuthMethods", 2, [1], [identity], [b""], [scopes], False, False
            )
            receipt = await thief.send(helper, data, 0)
            foreign.append(receipt["status"])
        try:
            after = (await client.sign_up()).key
        except KeyquorumError as error:
            return Outcome(True, f"she does not find it any more: {error}"[:100])
    return Outcome(after != before, f"{len(foreign)} foreign entries; she finds her own key")


@trick(MINTER, "refuses a key in the words of an empty pool")
async def refusing_receiver(scene: Scene) -> Outcome:
    """A key is minted to a contract that says no, as if the pool were empty: who waits for the pool pays many times."""
    router = Contract(scene.rpc, scene.target.contracts["PubkeyRouter"], interface("PubkeyRouter"))
    assert await router.read("poolSize"), "the pool is not empty"
    words_of_it = keccak(b"PoolEmpty()")[:4].hex()
    relayer = Account.from_key((folder_of(scene.target) / "gateway" / "relayer.key").read_text().strip()).address
    async with http_from("127.0.1.1") as http:
        receiver = await words.deploy(http, scene.target, f"63{words_of_it}60e01b5f5260045ffd")
        before = await scene.rpc.call("eth_getTransactionCount", relayer, "latest")
        body = {"owner": receiver, "request": secrets.token_hex(16)}
        said = word(*await say(http, scene.target.gateway + "/v1/keys", body))
    after = await scene.rpc.call("eth_getTransactionCount", relayer, "latest")
    paid = int(after, 16) - int(before, 16)
    return Outcome(paid > 0, f"{said}, {paid} transactions paid by the gateway")
