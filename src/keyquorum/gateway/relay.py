"""The mint relay: the gateway's own account pays, the key goes straight to its owner.

`PKPHelper.mintNextAndTransfer` mints to the owner in one transaction, so there is no moment at which the relay owns
anything. What it spends is limited for each owner and for each asking address, and the queue is bounded.
"""

from __future__ import annotations

import asyncio
import time

from keyquorum.chain.contracts import decode_error
from keyquorum.chain.rpc import Reverted, RpcError, RpcUnreachable, Sender
from keyquorum.client.errors import ChainError, Refused, Unavailable
from keyquorum.client.network import KEY_TYPE, ChainView, chain_error, minted_token
from keyquorum.client.results import Minted
from keyquorum.serving.buckets import Buckets

HOUR = 3600.0
QUEUE_LIMIT = 256
POOL_SECONDS = 15.0
POOL_PAUSE = 0.25
TOO_MANY = 429


class Relay:
    """Mints keys for others; `sender` None: this gateway does not mint."""

    def __init__(self, chain: ChainView, sender: Sender | None, per_owner: int, per_client: int, in_all: int) -> None:
        """Of one owner, of one network address, and in all: so many mints an hour."""
        self._chain = chain
        self._sender = sender
        self._per_owner = Buckets(per_owner, HOUR)
        self._per_client = Buckets(per_client, HOUR)
        self._in_all = Buckets(in_all, HOUR)
        self._waiting = 0

    async def mint(self, owner: str, client: str) -> Minted:
        """Mint the next key to `owner` (checksummed) and return it when the chain has it; raise `KeyquorumError`."""
        if self._sender is None:
            raise Refused(
                "this gateway does not pay for mints",
                code="no_relay",
                hint="mint with an account of your own",
                status=403,
            )
        limits = ((self._per_client, client), (self._per_owner, owner), (self._in_all, ""))
        if not all(bucket.allow(name) for bucket, name in limits):
            raise Refused("too many keys for now", code="too_many_mints", hint="wait an hour", status=TOO_MANY)
        if self._waiting >= QUEUE_LIMIT:
            raise Refused("too many mints at a time", code="busy", hint="ask again in a moment", status=TOO_MANY)
        self._waiting += 1
        try:
            receipt = await self._send(self._sender, owner)
        finally:
            self._waiting -= 1
        token_id = minted_token(receipt, self._chain.contract("PKPNFT"))
        return Minted(await self._chain.key(token_id), str(receipt["transactionHash"]))

    async def _send(self, sender: Sender, owner: str) -> dict[str, object]:
        """Send the mint; wait a while for the nodes to make keys when the pool is empty."""
        helper = self._chain.contract("PKPHelper")
        cost = int(await self._chain.ask(self._chain.contract("PKPNFT"), "mintCost"))
        data = helper.encode("mintNextAndTransfer", KEY_TYPE, owner, [], [], [], [], False)
        give_up = time.monotonic() + POOL_SECONDS
        while True:
            try:
                return await sender.send(helper.address, data, cost)
            except Reverted as error:
                name = decode_error(error.revert_data).name
                if name != "PoolEmpty":
                    raise ChainError(f"the chain refuses the mint: {name}", code="mint_refused") from None
                if time.monotonic() > give_up:
                    raise Unavailable(
                        "no key is ready to be minted", needed=1, live=0, code="pool_empty",
                        hint="ask again in a moment: the nodes are making keys",
                    ) from None  # fmt: skip
                await asyncio.sleep(POOL_PAUSE)
            except (RpcError, RpcUnreachable, TimeoutError) as error:
                raise chain_error("a mint", error) from None
