"""Changes of permissions that a key signed and this gateway pays for: `POST /v1/permissions`.

Whoever owns the token signs the change (EIP-712, `PermissionCall`); for a key that owns itself that is the network,
after the nodes have checked that the session may manage it. Here is nothing to believe: the contract verifies
signature, nonce and deadline, and `execute` can call nothing but itself. What would revert is not sent, what would cost
too much gas neither; how much one key and one stranger may cost is bounded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from keyquorum.chain.contracts import REFUSAL_HINTS, decode_error
from keyquorum.chain.fees import TooDear
from keyquorum.chain.rpc import Reverted, RpcError, RpcUnreachable, Sender, from_quantity
from keyquorum.client.errors import KeyquorumError, Refused
from keyquorum.client.network import ChainView, chain_error
from keyquorum.evm.keys import is_key_id
from keyquorum.formats.strict_json import fields, hex_bytes, integer, loads
from keyquorum.gateway.http import MAX_BODY
from keyquorum.gateway.quotas import HOUR, Quota, busy, no_relay, unaffordable
from keyquorum.gateway.signups import not_mined
from keyquorum.refusal import MALFORMED, NOT_PERMITTED, TOO_MANY
from keyquorum.serving.buckets import Meter

MAX_CALL = 8192
MAX_SIGNATURE = 4096
MAX_GAS = 2_000_000
# What it counts as to try a call out, and when the contract refuses it, which may have burnt all that it was given.
TRIED_GAS, REFUSED_GAS = 100_000, 500_000
MAX_AHEAD = 86_400
QUEUE_LIMIT = 64


def _key(value: object) -> str:
    if not is_key_id(value):
        raise ValueError("must be a token id: 0x and 64 lower-case hex digits")
    return str(value)


_BODY = {
    "key": _key,
    "call": hex_bytes(max_size=MAX_CALL),
    "nonce": integer(0, 2**62),
    "deadline": integer(0, 2**62),
    "signature": hex_bytes(max_size=MAX_SIGNATURE),
}


class ChainWriter:
    """Sends what others signed: simulated first, bounded in gas and in number; `sender` None: sends nothing."""

    def __init__(self, chain: ChainView, sender: Sender | None, gas_per_client: int) -> None:
        """`gas_per_client` is what the requests of one network address may cost in an hour, of all some times that."""
        self._chain = chain
        self._sender = sender
        self._waiting = 0
        self._gas_left = Meter(gas_per_client, HOUR)
        self._trying = asyncio.Lock()

    async def send(
        self, client: str, contract: str, function: str, *arguments: Any, admit: Callable[[], None] = lambda: None
    ) -> str:
        """Return the transaction's hash when it is mined; raise `Refused` with the contract's reason, `ChainError`.

        `client` is the network address that asks. `admit` is called when the contract would accept it and the address
        has gas left, before it costs anything; it may raise.
        """
        sender = self._sender
        if sender is None:
            raise no_relay("transactions")
        if self._waiting >= QUEUE_LIMIT:
            raise busy()
        self._waiting += 1
        try:
            target = self._chain.contract(contract)
            data = target.encode(function, *arguments)
            gas = await self._try_out(client, sender, target.address, data)
            self._count_gas(client, gas)
            admit()
            receipt = await sender.send(target.address, data, gas=gas)
        except Reverted as error:
            raise refused_by_contract(error) from None
        except TooDear as error:
            raise unaffordable(error) from None
        except TimeoutError:
            raise not_mined() from None
        except (RpcError, RpcUnreachable) as error:
            raise chain_error("a transaction", error) from None
        finally:
            self._waiting -= 1
        return str(receipt["transactionHash"])

    async def _try_out(self, client: str, sender: Sender, to: str, data: bytes) -> int:
        """Try the call out, with hardly more gas than it may have; return its limit of gas.

        What it runs may be a stranger's: an owner can be a contract, which burns what it gets when it is asked.
        """
        self._count_gas(client, TRIED_GAS)
        try:
            # One after the other: whatever else the endpoint is asked comes between two of them.
            async with self._trying:
                return await self._gas(sender, to, data)
        except Reverted:
            self._gas_left.take(client, REFUSED_GAS)
            raise

    async def _gas(self, sender: Sender, to: str, data: bytes) -> int:
        call = {"from": sender.address, "to": to, "data": "0x" + data.hex(), "gas": hex(MAX_GAS * 3 // 2)}
        gas = from_quantity(await self._chain.rpc.call("eth_estimateGas", call)) * 5 // 4
        if gas > MAX_GAS:
            raise Refused("too_expensive", "this would cost too much gas", "send it from an account of your own")
        return gas

    def _count_gas(self, client: str, gas: int) -> None:
        """Count gas for whoever asks: one change of many permissions costs as much as ten of one."""
        if self._gas_left.take(client, gas):
            hint = "wait an hour, or send it from an account of your own"
            raise Refused("too_much_gas", "too much gas for this network address", hint, status=TOO_MANY)


class PermissionCalls:
    """Relays `PKPPermissions.execute`, so often for each network address and for each key.

    What counts against a key must be signed by its owner: or a stranger could use up what is the owner's.
    """

    def __init__(self, writer: ChainWriter, per_client: Quota, per_key: Quota) -> None:
        self._writer = writer
        self._per_client = per_client
        self._per_key = per_key

    async def execute(self, body: bytes, client: str) -> dict[str, str]:
        """Answer `POST /v1/permissions` for `client`, the network address that asks."""
        found = fields(loads(body, MAX_BODY), _BODY)
        now = int(time.time())
        if not now < found["deadline"] <= now + MAX_AHEAD:
            hint = "sign it again with a deadline within a day"
            raise Refused("bad_deadline", "the deadline has passed or is too far", hint, status=MALFORMED)
        self._per_client.take(client)
        arguments = (int(found["key"], 16), found["call"], found["nonce"], found["deadline"], found["signature"])
        admit = partial(self._per_key.take, found["key"])
        return {"transaction": await self._writer.send(client, "PKPPermissions", "execute", *arguments, admit=admit)}


def refused_by_contract(error: Reverted) -> KeyquorumError:
    """Return what the caller is told when a contract says no, with the contract's own word."""
    found = decode_error(error.revert_data)
    values = ", ".join(str(value) if not isinstance(value, bytes) else "0x" + value.hex() for value in found.values)
    return Refused(
        "contract_refused",
        f"the contract refuses: {found.name}({values})"[:300],
        REFUSAL_HINTS.get(found.name, "read nonce and state from the chain, and sign again"),
        status=NOT_PERMITTED,
    )
