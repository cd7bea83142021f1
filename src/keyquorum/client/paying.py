"""Paying: transactions of the account and of keys, never dearer than allowed, never another than the one signed.

What the chain endpoint says about fees, gas and the price of a key is compared with `SpendingLimits` before anything is
signed. Above them `agree` is asked, where there is one; else the error says which limit it was. After sending, the
transaction is known by the hash that was computed here, whatever the endpoint calls it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from keyquorum import intents
from keyquorum.chain.fees import SpendingLimits, TooDear
from keyquorum.chain.rpc import RpcError, RpcUnreachable, from_quantity
from keyquorum.client.errors import BadAnswer, ChainError, Misconfigured, TooExpensive
from keyquorum.client.logins import Logins
from keyquorum.client.network import chain_error, too_expensive
from keyquorum.client.seen import Change, until_seen
from keyquorum.client.transactions import fill, refusal
from keyquorum.evm.address import checksum

RECEIPT_SECONDS = 60.0
# One question for each limit there is.
QUESTIONS = 4

Agree = Callable[[TooExpensive], bool]


class Paying(Logins):
    """A connection whose account pays; `limits` is what one transaction may cost, `agree` whom to ask above it."""

    def __init__(self, *arguments: Any, limits: SpendingLimits, agree: Agree | None, **others: Any) -> None:
        super().__init__(*arguments, **others)
        self.limits = limits
        self._agree = agree

    async def _within_limits(self, limits: SpendingLimits, error: TooDear, asked: int) -> SpendingLimits:
        """Return limits that allow what `error` asks for, if whoever pays agrees; raise `TooExpensive` otherwise."""
        public = too_expensive(error)
        if self._agree is None or asked >= QUESTIONS or not await asyncio.to_thread(self._agree, public):
            raise public from None
        allowed = error.asked
        if error.setting == "tip_multiple":
            # Then the sum alone decides, and is asked about next.
            allowed = 1 << 256
        return replace(limits, **{error.setting: allowed})

    async def _filled(self, sender: str, transaction: Mapping[str, Any]) -> dict[str, Any]:
        """Return a complete transaction of `sender`, no dearer than allowed."""
        limits, asked = self.limits, 0
        while True:
            try:
                return await fill(self.chain.rpc, sender, transaction, self.facts.chain_id, limits)
            except TooDear as error:
                limits, asked = await self._within_limits(limits, error, asked), asked + 1

    async def _mint_cost(self) -> int:
        """Return the price of a key, no dearer than allowed."""
        cost = int(await self.chain.ask(self.chain.contract("PKPNFT"), "mintCost"))
        try:
            return self.limits.mint_cost(cost)
        except TooDear as error:
            return (await self._within_limits(self.limits, error, 0)).mint_cost(cost)

    async def send_from_account(self, to: str, data: bytes = b"", value: int = 0) -> dict[str, Any]:
        """Send a transaction of the account itself (not of a key) and return its receipt."""
        account = self._account()
        sign = getattr(account, "sign_transaction", None)
        if sign is None:
            raise Misconfigured("misconfigured", "the account cannot sign transactions", "use an account that can")
        sender = checksum(account.address)
        complete = await self._filled(sender, {"to": to, "data": data, "value": value})
        raw = bytes((await asyncio.to_thread(sign, complete)).raw_transaction)
        receipt = await self._submit(raw, sender, wait=True)
        assert receipt is not None  # noqa: S101 - waited for
        if receipt.get("status") != "0x1":
            raise ChainError("reverted", f"the transaction {hash_of(raw)} was reverted")
        return receipt

    async def _submit(self, raw: bytes, sender: str, wait: bool) -> dict[str, Any] | None:
        """Send what was signed; with `wait`, return its receipt when the chain has executed it."""
        rpc, name = self.chain.rpc, hash_of(raw)
        try:
            told = await rpc.send_raw(raw)
            receipt = await rpc.wait_receipt(name, RECEIPT_SECONDS) if wait else None
        except (RpcError, RpcUnreachable) as error:
            # The same words may come before or after signing; what can be done is the same.
            hint = refusal(error, sender).hint if isinstance(error, RpcError) else None
            raise ChainError("not_sent", f"the chain did not take the transaction: {error}", hint) from None
        except TimeoutError:
            raise ChainError(
                "not_mined", f"the transaction {name} was sent but is not mined yet", "look it up later"
            ) from None
        if told.lower() != name or (receipt is not None and not _is_receipt_of(receipt, name, sender)):
            raise BadAnswer(
                "bad_answer", "the chain endpoint answered for another transaction than the one that was signed"
            )
        return receipt

    async def _spread(self, name: str, receipt: Mapping[str, Any] | None = None) -> Change:
        """Return the change of transaction `name` when the nodes have seen its block; without a receipt the newest."""
        try:
            block = await self.chain.rpc.block_number() if receipt is None else from_quantity(receipt["blockNumber"])
        except (RpcError, RpcUnreachable, KeyError, ValueError) as error:
            raise chain_error("the block of a transaction", error) from None
        committee = self._current_committee()
        seen = await until_seen(committee, self._transport, block)
        self._seen_block = max(self._seen_block, block)
        return Change(name).spread(seen, committee)


def hash_of(raw: bytes) -> str:
    """Return the hash of a signed transaction, as the chain names it."""
    return "0x" + intents.transaction_hash(raw).hex()


def _is_receipt_of(receipt: Mapping[str, Any], name: str, sender: str) -> bool:
    told = (receipt.get("transactionHash"), receipt.get("from"))
    return tuple(str(value or "").lower() for value in told) == (name, sender.lower())
