"""Lying to the page: answers of the gateway and of the chain's endpoint, changed on their way into the browser."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from eth_abi.abi import encode

from keyquorum.chain.contracts import interface
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.rpc import Sender
from keyquorum.formats.text import from_base64url

Change = Callable[[Any], Any]
THIEF = 5


async def lie(device: Any, path: str, change: Change, *, forward: bool = True) -> list[str]:
    """Change the answers to `path`; with `forward` False nobody is asked. Returns the list of bodies sent there."""
    bodies: list[str] = []

    async def handle(route: Any) -> None:
        bodies.append(route.request.post_data or "")
        if not forward:
            return await route.fulfill(status=200, json=change({}))
        response = await route.fetch()
        return await route.fulfill(response=response, json=change(await response.json()))

    await device.page.route("**" + path, handle)
    return bodies


async def watch(device: Any, path: str) -> list[str]:
    """Return the list, still to grow, of the bodies that the page sends to `path`."""
    bodies: list[str] = []

    async def handle(route: Any) -> None:
        bodies.append(route.request.post_data or "")
        await route.continue_()

    await device.page.route("**" + path, handle)
    return bodies


async def lie_on_chain(device: Any, rpc: str, change: Callable[[dict[str, Any], Any], Any]) -> list[str]:
    """Change the endpoint's results: `change(request, result)`. Returns the list of methods that the page asks."""
    asked: list[str] = []

    async def handle(route: Any) -> None:
        request = json.loads(route.request.post_data)
        asked.append(request["method"])
        response = await route.fetch()
        answer = await response.json()
        if "result" in answer:
            answer["result"] = change(request, answer["result"])
        await route.fulfill(response=response, json=answer)

    await device.page.route(rpc.rstrip("/") + "/**", handle)
    await device.page.route(rpc.rstrip("/"), handle)
    return asked


def is_call(request: dict[str, Any], contract: str, view: str) -> bool:
    """Say whether an RPC request asks this view."""
    selector = interface(contract).encode(view, *PLACEHOLDERS[view])[:4].hex()
    return request["method"] == "eth_call" and request["params"][0]["data"].startswith("0x" + selector)


PLACEHOLDERS: dict[str, tuple[Any, ...]] = {
    "countTokenIdsForAuthMethod": (1, b""),
    "getTokenIdsForAuthMethodPage": (1, b"", 0, 0),
}


def words(types: list[str], *values: Any) -> str:
    """Return what a view returns, as the endpoint writes it."""
    return "0x" + encode(types, values).hex()


async def thief_mints(
    world: Any, methods: list[tuple[int, bytes]], *, itself: bool = False, scopes: tuple[int, ...] = (1, 6)
) -> tuple[int, str, dict[str, Any]]:
    """Mint a key of the thief's with these methods on it; return token, address and receipt."""
    await world.cluster.pool_filled(1)
    thief = Sender(world.cluster.rpc, ACCOUNTS[THIEF][1])
    helper = world.cluster.deployment.contracts["PKPHelper"]
    types, names = [number for number, _ in methods], [name for _, name in methods]
    lists = [b""] * len(methods), [list(scopes)] * len(methods)
    data = interface("PKPHelper").encode("mintNextAndAddAuthMethods", 2, types, names, *lists, False, itself)
    receipt = await thief.send(helper, data, 0)
    nft = world.cluster.deployment.bind(world.cluster.rpc, "PKPNFT")
    events = (nft.decode_event(log) for log in receipt["logs"])
    token = next(event["args"]["tokenId"] for event in events if event is not None and event["event"] == "PKPMinted")
    return token, await nft.read("getEthAddress", token), receipt


def identity_in(certificate: str) -> tuple[int, bytes]:
    """Return the first identity that a certificate names."""
    one = json.loads(from_base64url(certificate.split(".")[1], "x"))["methods"][0]
    return one["type"], bytes.fromhex(one["id"][2:])


async def before_the_page_knows(device: Any, act: Callable[[tuple[int, bytes]], Awaitable[None]]) -> None:
    """Let whoever sees a login act before its person's page has the certificate."""

    async def slow(route: Any) -> None:
        response = await route.fetch()
        await act(identity_in((await response.json())["certificate"]))
        await route.fulfill(response=response)

    await device.page.route("**/v1/sessions", slow)


async def my_identity(device: Any) -> tuple[int, bytes]:
    """Return the identity with which the page is logged in."""
    session = "async () => (await (await import('/js/store.js')).load('session')).certificate"
    return identity_in(await device.page.evaluate(session))
