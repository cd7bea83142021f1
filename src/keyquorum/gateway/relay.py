"""The mint relay: the gateway's own account pays, the key goes straight to its owner.

`PKPHelper.mintOnce` mints to the owner in one transaction, so there is no moment at which the relay owns anything. The
contract keeps, for each request of this account, the key that it got: who asks again gets the same key and costs
nothing, whatever became of this process in between.

Anybody may ask for a key for any owner, so this is off unless the operator wants it, limited for each asking address,
for each owner that it names and in all far below what a network makes, and never takes the last keys: those are for
logins.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from keyquorum.chain.contracts import decode_error
from keyquorum.chain.fees import SERVICE_LIMITS, SpendingLimits, TooDear
from keyquorum.chain.mints import mint_once_gas
from keyquorum.chain.rpc import Reverted, RpcError, RpcUnreachable, Sender, from_quantity
from keyquorum.client.errors import ChainError
from keyquorum.client.minting import MintRequest
from keyquorum.client.network import ChainView, chain_error
from keyquorum.client.results import Minted
from keyquorum.gateway.quotas import Quota, busy, no_relay, unaffordable
from keyquorum.gateway.signups import not_mined, pool_empty

QUEUE_LIMIT = 64
QUEUE_LIMIT_PER_CLIENT = 16
POOL_SECONDS = 15.0
POOL_PAUSE = 0.25


class Relay:
    """Mints keys for others; `sender` None: this gateway does not mint, nor when it is not `allowed`."""

    def __init__(
        self,
        chain: ChainView,
        sender: Sender | None,
        quota: Quota,
        *,
        allowed: bool = True,
        reserve: int = 0,
        limits: SpendingLimits = SERVICE_LIMITS,
    ) -> None:
        """`quota` counts (network address, that address with the owner, "").

        So many keys of the pool as `reserve` are left to logins.
        """
        self._chain = chain
        self._sender = sender if allowed else None
        self._quota = quota
        self._reserve = reserve
        self._limits = limits
        self._asked: dict[MintRequest, asyncio.Task[Minted]] = {}
        self._places: Counter[str] = Counter()
        self._under_way = 0

    async def close(self) -> None:
        """Stop; whoever waits is told so."""
        tasks = list(self._asked.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def mint(self, asked: MintRequest, client: str) -> tuple[Minted, str]:
        """Return the key of this request, minted once, and who paid; raise `KeyquorumError`."""
        if self._sender is None:
            raise no_relay("keys without a login")
        task = self._asked.get(asked)
        if task is None:
            if len(self._asked) >= QUEUE_LIMIT or self._places[client] >= QUEUE_LIMIT_PER_CLIENT:
                raise busy()
            self._places[client] += 1
            task = self._asked[asked] = asyncio.create_task(self._mint(self._sender, asked, client))
            task.add_done_callback(lambda done: self._forget(asked, client, done))
        # Whoever asked first may hang up: the key is made all the same.
        return await asyncio.shield(task), self._sender.address

    def _forget(self, asked: MintRequest, client: str, task: asyncio.Task[Minted]) -> None:
        self._asked.pop(asked, None)
        self._places[client] -= 1
        self._places += Counter()  # forgets who has none
        if not task.cancelled():
            task.exception()

    async def _mint(self, sender: Sender, asked: MintRequest, client: str) -> Minted:
        token, transaction = await asked.key_of(self._chain, sender.address), None
        if not token:
            # The owner is a word of whoever asks: what strangers ask for in his name takes nothing from him.
            self._quota.take(client, f"{client} {asked.owner}", "")
            transaction = await self._send(sender, asked)
            token = await asked.key_of(self._chain, sender.address)
        if not token:
            raise ChainError("not_minted", "the transaction did not mint a key")
        return Minted(await self._chain.key(token), transaction)

    async def _send(self, sender: Sender, asked: MintRequest) -> str:
        """Send the mint; wait a while for the nodes to make keys when there are too few."""
        data = asked.call(self._chain)
        give_up = time.monotonic() + POOL_SECONDS
        try:
            while True:
                await self._wait_for_room(give_up)
                self._under_way += 1
                try:
                    return await self._try(sender, data)
                except Reverted as error:
                    name = decode_error(error.revert_data).name
                    if name != "PoolEmpty" or await self._had_keys(error):
                        raise ChainError("mint_refused", f"the chain refuses the mint: {name}") from None
                finally:
                    self._under_way -= 1
                if time.monotonic() > give_up:
                    raise pool_empty()
                await asyncio.sleep(POOL_PAUSE)
        except TooDear as error:
            raise unaffordable(error) from None
        except TimeoutError:
            raise not_mined() from None
        except (RpcError, RpcUnreachable) as error:
            raise chain_error("a mint", error) from None

    async def _try(self, sender: Sender, data: bytes) -> str:
        """Mint, if the chain would: the receiver may be a contract that refuses, and what is refused is paid for."""
        to, gas = self._chain.contract("PKPHelper").address, mint_once_gas((), ())
        cost = self._limits.mint_cost(int(await self._chain.ask(self._chain.contract("PKPNFT"), "mintCost")))
        call = {"from": sender.address, "to": to, "data": "0x" + data.hex(), "value": hex(cost), "gas": hex(gas)}
        await self._chain.rpc.call("eth_call", call, "latest")
        return str((await sender.send(to, data, cost, gas))["transactionHash"])

    async def _had_keys(self, error: Reverted) -> bool:
        """Return whether the pool had keys when a mint failed: a receiver says no in any words, also in the pool's."""
        block = from_quantity(error.receipt["blockNumber"]) if error.receipt is not None else "latest"
        return int(await self._chain.ask(self._chain.contract("PubkeyRouter"), "poolSize", block=block)) > 0

    async def _wait_for_room(self, give_up: float) -> None:
        """Wait until the pool has a key beyond the reserve and beyond those that are being minted."""
        router = self._chain.contract("PubkeyRouter")
        while int(await self._chain.ask(router, "poolSize")) - self._under_way <= self._reserve:
            if time.monotonic() > give_up:
                raise pool_empty()
            await asyncio.sleep(POOL_PAUSE)
