"""How this project talks to an EVM chain: JSON-RPC over HTTP POST, and a sender that keeps its own nonce.

`Rpc` is a thin client (0.4 ms a call). What a server answers is untrusted: replies are bounded in size, must be
JSON-RPC 2.0, and end in one of three ways: a value, `RpcError` (the server says no; `Reverted` when the EVM does),
or `RpcUnreachable` (no usable answer at all). The URL may hold an access token, so errors name only scheme and host.

`Sender` turns calls into EIP-1559 transactions of one account. Nonces are handed out under a lock and only in the order
in which the server accepted them, so any number of tasks may share one sender; a nonce error re-reads the chain's view.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from yarl import URL

from keyquorum.chain import account
from keyquorum.chain.account import Transaction
from keyquorum.chain.errors import Reverted, RpcError, RpcUnreachable, as_error, from_hex
from keyquorum.chain.fees import DEFAULT_TIP, SERVICE_LIMITS, SpendingLimits
from keyquorum.evm.address import address_of_private, to_checksum

__all__ = [
    "Reverted",
    "Rpc",
    "RpcError",
    "RpcUnreachable",
    "Sender",
    "block_parameter",
    "from_hex",
    "from_quantity",
]

MAX_REPLY = 32 * 1024 * 1024
BATCH = 200
NONCE_RETRIES = 5


def from_quantity(text: Any) -> int:
    """Decode a JSON-RPC quantity (`0x1a`); `ValueError` for anything else."""
    if not isinstance(text, str) or not text.startswith("0x") or len(text) > 66:
        raise ValueError("not a hex quantity")
    return int(text[2:], 16)


def block_parameter(block: int | str) -> str:
    """Return the wire form of a block number, a tag such as `latest`, or a quantity."""
    return hex(block) if isinstance(block, int) else block


class Rpc:
    """A JSON-RPC client for one URL; an async context manager whose HTTP session opens at the first call."""

    def __init__(self, url: str, timeout: float = 10.0, max_reply: int = MAX_REPLY) -> None:
        parsed = URL(url)
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError("the chain's RPC URL must start with http:// or https://")
        self.url = url
        self.name = f"{parsed.scheme}://{parsed.host}:{parsed.port}"
        self._timeout = timeout
        self._max_reply = max_reply
        self._session: aiohttp.ClientSession | None = None
        self._last_id = 0
        self._chain_id: int | None = None

    def __repr__(self) -> str:
        return f"Rpc({self.name})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the HTTP session; the next call opens another."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # -- transport ----------------------------------------------------------------------------------------------------

    async def call(self, method: str, *params: Any) -> Any:
        """Return the result of one call; `RpcError` or `RpcUnreachable` otherwise."""
        request = self._request(method, params)
        reply = await self._post(request)
        if not isinstance(reply, dict):
            raise RpcUnreachable(f"{self.name} did not answer with a JSON-RPC object")
        if "result" not in reply:
            raise as_error(reply.get("error"), method)
        if reply.get("id") != request["id"]:
            raise RpcUnreachable(f"{self.name} answered another request")
        return reply["result"]

    async def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Run many calls in few round trips; each element is the result or an `RpcError` (returned, not raised)."""
        results: list[Any] = []
        for start in range(0, len(calls), BATCH):
            requests = [self._request(method, params) for method, params in calls[start : start + BATCH]]
            reply = await self._post(requests)
            if isinstance(reply, dict) and "error" in reply:
                raise as_error(reply["error"], "batch")
            if not isinstance(reply, list):
                raise RpcUnreachable(f"{self.name} did not answer a batch with a list")
            answers = {entry.get("id"): entry for entry in reply if isinstance(entry, dict)}
            for request in requests:
                entry = answers.get(request["id"])
                if entry is None:
                    raise RpcUnreachable(f"{self.name} left a call of a batch unanswered")
                failed = None if "result" in entry else as_error(entry.get("error"), request["method"])
                results.append(entry["result"] if failed is None else failed)
        return results

    def _request(self, method: str, params: Sequence[Any]) -> dict[str, Any]:
        self._last_id += 1
        return {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": list(params)}

    async def _post(self, body: Any) -> Any:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout))
        try:
            async with self._session.post(
                self.url,
                data=msgspec.json.encode(body),
                headers={"Content-Type": "application/json"},
                allow_redirects=False,
            ) as response:
                content = await self._read_bounded(response)
                status = response.status
        except TimeoutError:
            raise RpcUnreachable(f"{self.name} did not answer within {self._timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise RpcUnreachable(f"{self.name}: {type(error).__name__}") from None
        try:
            return msgspec.json.decode(content)
        except (msgspec.DecodeError, RecursionError, ValueError):
            raise RpcUnreachable(f"{self.name} answered HTTP {status} without JSON") from None

    async def _read_bounded(self, response: aiohttp.ClientResponse) -> bytes:
        content = bytearray()
        async for chunk in response.content.iter_any():
            content += chunk
            if len(content) > self._max_reply:
                response.close()
                raise RpcUnreachable(f"{self.name} answered more than {self._max_reply} bytes")
        return bytes(content)

    async def _quantity(self, method: str, *params: Any) -> int:
        result = await self.call(method, *params)
        try:
            return from_quantity(result)
        except ValueError:
            raise RpcUnreachable(f"{self.name} answered {method} without a quantity") from None

    # -- reads --------------------------------------------------------------------------------------------------------

    async def chain_id(self) -> int:
        """Return the chain id (asked once, then remembered)."""
        if self._chain_id is None:
            self._chain_id = await self._quantity("eth_chainId")
        return self._chain_id

    async def block_number(self) -> int:
        """Return the number of the newest block."""
        return await self._quantity("eth_blockNumber")

    async def balance(self, address: str, block: int | str = "latest") -> int:
        """Return the balance in wei."""
        return await self._quantity("eth_getBalance", address, block_parameter(block))

    async def block(self, tag: int | str = "latest") -> dict[str, Any] | None:
        """Return a block (transactions as hashes) by number, tag or 32-byte hash, or `None` when there is none."""
        if isinstance(tag, str) and len(tag) == 66:
            return self._object(await self.call("eth_getBlockByHash", tag, False))
        return self._object(await self.call("eth_getBlockByNumber", block_parameter(tag), False))

    async def eth_call(
        self,
        to: str | None,
        data: bytes,
        block: int | str = "latest",
        sender: str | None = None,
        gas: int | None = None,
    ) -> bytes:
        """Return what the contract returns; `Reverted` when it reverts. `gas` bounds what it may cost the endpoint."""
        transaction = _call_object(to, data, sender, gas=gas)
        result = await self.call("eth_call", transaction, block_parameter(block))
        try:
            return from_hex(result)
        except ValueError:
            raise RpcUnreachable(f"{self.name} answered eth_call without bytes") from None

    async def probe(self, init_code: bytes, block: int | str = "latest") -> bytes:
        """Return what `init_code` returns when run as a constructor that is never deployed (at most 24,576 bytes)."""
        return await self.eth_call(None, init_code, block)

    async def get_logs(
        self,
        address: str | Sequence[str] | None = None,
        topics: Sequence[Any] | None = None,
        from_block: int | str = "earliest",
        to_block: int | str = "latest",
        block_hash: str | None = None,
    ) -> list[dict[str, Any]]:
        """Return matching logs in chain order; `topics` as in JSON-RPC (`None` = any, a list = one of)."""
        query: dict[str, Any] = {}
        if address is not None:
            query["address"] = address if isinstance(address, str) else list(address)
        if topics is not None:
            query["topics"] = list(topics)
        if block_hash is not None:
            query["blockHash"] = block_hash
        else:
            query |= {"fromBlock": block_parameter(from_block), "toBlock": block_parameter(to_block)}
        logs = await self.call("eth_getLogs", query)
        if not isinstance(logs, list) or not all(isinstance(log, dict) for log in logs):
            raise RpcUnreachable(f"{self.name} answered eth_getLogs without a list of logs")
        return logs

    # -- transactions -------------------------------------------------------------------------------------------------

    async def send_raw(self, transaction: bytes) -> str:
        """Submit a signed transaction; return its hash."""
        result = await self.call("eth_sendRawTransaction", "0x" + transaction.hex())
        if not isinstance(result, str):
            raise RpcUnreachable(f"{self.name} answered a transaction without a hash")
        return result

    async def receipt(self, transaction_hash: str) -> dict[str, Any] | None:
        """Return the receipt, or `None` while the transaction is not mined."""
        return self._object(await self.call("eth_getTransactionReceipt", transaction_hash))

    async def wait_receipt(self, transaction_hash: str, timeout: float = 60.0) -> dict[str, Any]:  # noqa: ASYNC109
        """Poll for the receipt, seldom after the first second; `TimeoutError` when there is none in time."""
        pause = 0.02
        async with asyncio.timeout(timeout):
            while (receipt := await self.receipt(transaction_hash)) is None:
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, 1.0)
        return receipt

    def _object(self, value: Any) -> dict[str, Any] | None:
        if value is not None and not isinstance(value, dict):
            raise RpcUnreachable(f"{self.name} answered without an object")
        return value


def _call_object(
    to: str | None, data: bytes, sender: str | None, value: int = 0, gas: int | None = None
) -> dict[str, str]:
    transaction = {"data": "0x" + data.hex()}
    if to is not None:
        transaction["to"] = to
    if sender is not None:
        transaction["from"] = sender
    if value:
        transaction["value"] = hex(value)
    if gas is not None:
        transaction["gas"] = hex(gas)
    return transaction


class Sender:
    """One account that pays for transactions; safe to share between tasks of one event loop."""

    def __init__(
        self, rpc: Rpc, private_key: bytes, receipt_timeout: float = 60.0, limits: SpendingLimits = SERVICE_LIMITS
    ) -> None:
        self._rpc = rpc
        self._limits = limits
        self._private_key = bytes(private_key)
        self._receipt_timeout = receipt_timeout
        self._lock = asyncio.Lock()
        self._next: int | None = None
        self._under_way = 0
        self.address = to_checksum(address_of_private(private_key))

    def __repr__(self) -> str:
        return f"Sender({self.address})"

    @property
    def rpc(self) -> Rpc:
        """The client through which this account sends."""
        return self._rpc

    async def send(self, to: str | None, data: bytes = b"", value: int = 0, gas: int | None = None) -> dict[str, Any]:
        """Send one EIP-1559 transaction (`to` None: deploy), wait until it is mined, return its receipt.

        `gas` None: estimated, with a quarter on top. Raises `Reverted` when the EVM refuses (before sending, from the
        estimate, or after, with the receipt), `RpcError`/`RpcUnreachable` when the transaction was not accepted,
        `TooDear` when the endpoint's fees are above this account's limits, `TimeoutError` when it was accepted but not
        mined in time.
        """
        self._under_way += 1
        try:
            transaction, pending = await self._prepare(to, data, value, gas)
            transaction_hash = await self._submit(transaction, pending)
            receipt = await self._rpc.wait_receipt(transaction_hash, self._receipt_timeout)
        except TimeoutError:
            self._next = None
            raise
        finally:
            self._under_way -= 1
        if receipt.get("status") != "0x1":
            raise await self._reverted(receipt, _call_object(to, data, self.address, value, transaction.gas))
        return receipt

    async def _prepare(self, to: str | None, data: bytes, value: int, gas: int | None) -> tuple[Transaction, int]:
        """Return the transaction, without its nonce, and how many the chain has or expects of this account."""
        destination = b"" if to is None else from_hex(to)
        if to is not None and len(destination) != 20:
            raise ValueError("an address has 20 bytes")
        chain_id = await self._rpc.chain_id()
        calls: list[tuple[str, Sequence[Any]]] = [
            ("eth_getBlockByNumber", ("latest", False)),
            ("eth_maxPriorityFeePerGas", ()),
            ("eth_getTransactionCount", (self.address, "pending")),
        ]
        if gas is None:
            calls.append(("eth_estimateGas", (_call_object(to, data, self.address, value),)))
        block, tip, count, *estimate = await self._rpc.batch(calls)
        for answer in (block, count, *estimate):
            if isinstance(answer, RpcError):
                raise answer
        try:
            base_fee, pending = from_quantity(block["baseFeePerGas"]), from_quantity(count)
            tip = DEFAULT_TIP if isinstance(tip, RpcError) else from_quantity(tip)
            limit = gas if gas is not None else from_quantity(estimate[0]) * 5 // 4
        except (KeyError, TypeError, ValueError):
            raise RpcUnreachable(f"{self._rpc.name} does not offer EIP-1559 fees") from None
        priority = self._limits.tip(base_fee, tip)
        self._limits.check(limit, 2 * base_fee + priority)
        made = Transaction(
            chain_id=chain_id,
            nonce=0,
            priority_fee=priority,
            max_fee=2 * base_fee + priority,
            gas=limit,
            to=destination,
            value=value,
            data=bytes(data),
        )
        return made, pending

    async def _submit(self, transaction: Transaction, pending: int) -> str:
        async with self._lock:
            if self._under_way == 1 and pending != self._next:
                # Everything of this account was mined, so the chain's count is right: it may have gone back since.
                self._next = pending
            for attempt in range(NONCE_RETRIES):
                if self._next is None:
                    self._next = await self._rpc._quantity("eth_getTransactionCount", self.address, "pending")
                signed = account.sign(replace(transaction, nonce=self._next), self._private_key)
                # Until the server has said yes the nonce counts as unknown: if this task dies here, the next one asks.
                nonce, self._next = self._next, None
                try:
                    transaction_hash = await self._rpc.send_raw(signed.raw)
                except RpcError as error:
                    message = error.message.lower()
                    if "already known" in message:
                        transaction_hash = "0x" + signed.hash.hex()
                    elif "nonce" in message and attempt + 1 < NONCE_RETRIES:
                        continue
                    else:
                        raise
                self._next = nonce + 1
                return transaction_hash
        raise AssertionError("the last attempt returns or raises")

    async def _reverted(self, receipt: dict[str, Any], call: dict[str, str]) -> Reverted:
        """Ask for the reason of a mined revert; the chain keeps only the fact."""
        error: Any
        try:
            (error,) = await self._rpc.batch([("eth_call", (call, receipt["blockNumber"]))])
        except (RpcError, RpcUnreachable, KeyError):
            error = None
        if isinstance(error, RpcError):
            return Reverted(error.code, error.message, error.data, receipt)
        return Reverted(3, "execution reverted", None, receipt)
