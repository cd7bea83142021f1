"""A running network as the tests use it: its client, plain HTTP, what its metrics say, and every error it answered.

Nothing in here decides by time: the limits of the loops only turn a hang into a failure.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_hash.auto import keccak

from keyquorum.cli.local_network import LocalNetwork
from keyquorum.client import AsyncClient
from keyquorum.client.errors import KeyquorumError
from keyquorum.client.results import Key, Signed

HALF_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141 // 2
HANG_SECONDS = 60.0
STILL = 5  # looks in a row that find the same: a busy machine makes correlations with pauses


class Live:
    """A `LocalNetwork` with a client of its user and one HTTP session; `errors` are the bodies that were collected."""

    def __init__(self, network: LocalNetwork) -> None:
        self.network = network
        self.errors: list[bytes] = []
        self.canaries: dict[str, bytes] = {}

    async def __aenter__(self) -> Live:
        await self.network.__aenter__()
        await self.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()
        await self.network.__aexit__(*error)

    async def open(self) -> None:
        """Connect a client and an HTTP session."""
        self.http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=HANG_SECONDS))
        self.client = await self.network.client().__aenter__()

    async def close(self) -> None:
        """Close both."""
        await self.client.close()
        await self.http.close()

    # -- asking -------------------------------------------------------------------------------------------------------

    async def ask(self, method: str, url: str, **options: Any) -> tuple[int, Any]:
        """Return status and JSON of an answer; an error's body is kept."""
        if "data" in options:
            options["headers"] = {"Content-Type": "application/json"} | options.get("headers", {})
        async with self.http.request(method, url, **options) as response:
            content = await response.read()
            if response.status >= 400:
                self.errors.append(content)
            return response.status, json.loads(content)

    async def metric(self, party: int, name: str) -> float:
        """Return one gauge of a node."""
        async with self.http.get(self.network.nodes[party] + "/metrics") as response:
            lines = (await response.text()).splitlines()
        return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"keyquorum_{name} "))

    async def stock(self) -> dict[int, float]:
        """Return every node's unspent correlations once they stand still."""
        before: dict[int, float] = {}
        same, give_up = 0, time.monotonic() + HANG_SECONDS
        while time.monotonic() < give_up:
            now = {party: await self.metric(party, "correlations") for party in self.network.nodes}
            same = same + 1 if now == before else 0
            if same == STILL:
                return now
            before = now
            await asyncio.sleep(0.4)
        raise AssertionError(f"the pools do not stand still: {before}")

    async def spent_nothing_since(self, before: dict[int, float]) -> None:
        """Assert that no node has fewer unspent correlations than before; more, it may have made meanwhile."""
        after = await self.stock()
        assert all(after[party] >= count for party, count in before.items()), (before, after)

    async def whole(self) -> None:
        """Wait until every node is ready and linked to all others."""
        await self.network.wait_ready()
        others = self.network.n - 1
        await until(lambda: self._linked(others))

    async def _linked(self, others: int) -> bool:
        try:
            return all([await self.metric(party, "peers_up") == others for party in self.network.nodes])
        except aiohttp.ClientError:
            return False

    def mesh_port(self, party: int) -> int:
        """Return the port on which a node listens for the others."""
        found: int = json.loads((self.network.folder / "local.json").read_text())["ports"]["mesh"][party - 1]
        return found

    async def fund(self, address: str, ether: float = 1.0) -> None:
        """Give an address some of the local user's ether."""
        await self.client.send_from_account(address, value=int(ether * 10**18))


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = HANG_SECONDS) -> None:
    """Wait for `condition`."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def sign_soon(client: AsyncClient, key: Key, text: str, seconds: float = 30.0) -> Signed:
    """Sign, asking again while too few nodes serve."""
    give_up = time.monotonic() + seconds
    while True:
        try:
            return await client.sign_message(key, text)
        except KeyquorumError:
            if time.monotonic() > give_up:
                raise
            await asyncio.sleep(0.2)


def check_message(key: Key, text: str, signed: Signed) -> None:
    """Assert that a signature is low and holds for eth-account and for OpenSSL."""
    assert 0 < signed.s <= HALF_ORDER
    assert Account.recover_message(encode_defunct(text=text), signature=signed.compact) == key.address
    assert openssl_verifies(key.public_key, text, signed.compact)


def openssl_verifies(public_key: bytes, text: str, signature: bytes) -> bool:
    """Say whether OpenSSL accepts r || s || v as a signature of the EIP-191 message `text`."""
    from cryptography.exceptions import InvalidSignature

    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), public_key)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    digest = keccak(f"\x19Ethereum Signed Message:\n{len(text.encode())}{text}".encode())
    try:
        key.verify(utils.encode_dss_signature(r, s), digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    except InvalidSignature:
        return False
    return True


def resident_bytes(pid: int | None) -> int:
    """Return a process's resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
