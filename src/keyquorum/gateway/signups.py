"""Sign-ups: a login becomes a key in one transaction that this gateway pays, many logins together.

`PKPHelper.mintForLogins` mints each key *to its own address* with the login's method on it, so at no moment does the
relay own anything, and it decides nothing but when. What it did before it reads from the chain (`keyFor`): a login that
asks twice gets the same key, also after a restart, also when two requests race, because the contract itself mints once.

Requests that arrive within a few milliseconds share a transaction, at most `BATCH` of them; while transactions are
under way the next batch grows. Whatever one request may have against it must not fail the others: a batch that
reverts is cut in two until the culprit stands alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keyquorum.chain.contracts import decode_error
from keyquorum.chain.fees import SERVICE_LIMITS, SpendingLimits, TooDear
from keyquorum.chain.mints import mint_gas
from keyquorum.chain.rpc import Reverted, RpcError, RpcUnreachable, Sender, from_quantity
from keyquorum.client.errors import ChainError, KeyquorumError, Unavailable
from keyquorum.client.network import ChainView, chain_error
from keyquorum.client.results import token_hex
from keyquorum.evm.keys import eth_address
from keyquorum.evm.keys import token_id as token_id_of
from keyquorum.gateway.login_keys import LoginKey
from keyquorum.gateway.quotas import Quota, busy, no_relay, unaffordable
from keyquorum.serving.forever import forever

BATCH = 16
COLLECT_SECONDS = 0.004
IN_FLIGHT = 4
QUEUE_LIMIT = 512
POOL_SECONDS = 15.0
POOL_PAUSE = 0.05
FRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class SignedUp:
    """A login's key; `relay` is who minted it, `transaction` None: it was there already."""

    token_id: int
    public_key: bytes
    relay: str
    transaction: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the object of `POST /v1/keys` for a login."""
        return {
            "token_id": token_hex(self.token_id),
            "public_key": "0x" + self.public_key.hex(),
            "address": eth_address(self.public_key),
            "relay": self.relay,
            "transaction": self.transaction,
            "minted": self.transaction is not None,
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """One request in the queue."""

    login: LoginKey
    answer: asyncio.Future[SignedUp]
    give_up: float = field(default_factory=lambda: time.monotonic() + POOL_SECONDS)

    def fail(self, error: KeyquorumError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class _Fresh:
    """A number that the chain said, good for a second; how many were taken from it since is subtracted."""

    def __init__(self) -> None:
        self._value, self._until = 0, 0.0

    async def get(self, read: Callable[[], Awaitable[int]]) -> int:
        if time.monotonic() > self._until:
            self._value, self._until = int(await read()), time.monotonic() + FRESH_SECONDS
        return self._value

    def less(self, count: int) -> None:
        self._value -= count

    def forget(self) -> None:
        self._until = 0.0


class SignUps:
    """Mints keys for logins; `sender` None: this gateway does not. `quota` counts (network address, login, type)."""

    def __init__(
        self, chain: ChainView, sender: Sender | None, quota: Quota, limits: SpendingLimits = SERVICE_LIMITS
    ) -> None:
        self._chain = chain
        self._limits = limits
        self._sender = sender
        self._quota = quota
        self._asked: dict[tuple[int, bytes], asyncio.Task[SignedUp]] = {}
        self._queue: deque[_Waiting] = deque()
        self._filled = asyncio.Event()
        self._gate = asyncio.Semaphore(IN_FLIGHT)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reserved = 0
        # Whether this chain counts gas as the contracts' own figures do.
        self._usual_gas = True
        self._room = _Fresh()
        self._cost = _Fresh()
        if sender is not None:
            self._tasks.add(forever("the collecting of mints", self._collect()))

    async def close(self) -> None:
        """Stop; whoever waits is told so."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- asking -------------------------------------------------------------------------------------------------------

    async def mint(self, login: LoginKey, client: str) -> SignedUp:
        """Return the key of `login`, minting it when there is none; raise `KeyquorumError`.

        Who asks while the same is under way gets the same answer.
        """
        if self._sender is None:
            raise no_relay("keys")
        name = (login.method_id, login.label)
        task = self._asked.get(name)
        if task is None:
            task = self._asked[name] = self._spawn(self._mint(login, client))
            task.add_done_callback(lambda done: self._forget(name, done))
        # Whoever asked first may hang up: the key is made all the same.
        return await asyncio.shield(task)

    def _forget(self, name: tuple[int, bytes], task: asyncio.Task[SignedUp]) -> None:
        self._asked.pop(name, None)
        if not task.cancelled():
            task.exception()

    async def _mint(self, login: LoginKey, client: str) -> SignedUp:
        if (token := await self._existing(login)) != 0:
            return await self._known(token)
        self._quota.take(client, f"{login.type}:{login.id.hex()}", str(login.type))
        if len(self._queue) >= QUEUE_LIMIT:
            raise busy()
        waiting = _Waiting(login, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._filled.set()
        return await waiting.answer

    async def _existing(self, login: LoginKey) -> int:
        helper = self._chain.contract("PKPHelper")
        arguments = (self._payer.address, login.type, login.id, login.label)
        return int(await self._chain.ask(helper, "keyFor", *arguments))

    async def _known(self, token: int, transaction: str | None = None) -> SignedUp:
        return self._found(token, (await self._chain.public_key(token)).to_bytes(), transaction)

    def _found(self, token: int, public_key: bytes, transaction: str | None) -> SignedUp:
        return SignedUp(token, public_key, self._payer.address, transaction)

    @property
    def _payer(self) -> Sender:
        assert self._sender is not None  # noqa: S101 - checked by mint
        return self._sender

    # -- sending ------------------------------------------------------------------------------------------------------

    async def _collect(self) -> None:
        """Cut the queue into batches, as long as not too many are under way."""
        while True:
            await self._filled.wait()
            await asyncio.sleep(COLLECT_SECONDS)
            await self._gate.acquire()
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            if not self._queue:
                self._filled.clear()
            self._spawn(self._serve(batch))

    async def _serve(self, batch: list[_Waiting]) -> None:
        try:
            while batch:
                batch, later = await self._take_room(batch)
                if batch:
                    await self._mint_all(batch, estimate=not self._usual_gas)
                batch = later
        except BaseException:
            for waiting in batch:
                waiting.fail(Unavailable("stopping", "the gateway stops", needed=1, live=0))
            raise
        finally:
            self._gate.release()

    async def _take_room(self, batch: list[_Waiting]) -> tuple[list[_Waiting], list[_Waiting]]:
        """Return as many as there are keys for, and the rest; waits while there are none, and gives up on the late."""
        router = self._chain.contract("PubkeyRouter")
        while batch:
            try:
                room = await self._room.get(lambda: self._chain.ask(router, "poolSize")) - self._reserved
            except KeyquorumError as error:
                _fail_all(batch, error)
                return [], []
            if room > 0:
                return batch[:room], batch[room:]
            late = [waiting for waiting in batch if time.monotonic() > waiting.give_up]
            batch = [waiting for waiting in batch if waiting not in late]
            _fail_all(late, pool_empty())
            await asyncio.sleep(POOL_PAUSE)
            self._room.forget()
        return [], []

    async def _mint_all(self, batch: Sequence[_Waiting], *, estimate: bool) -> None:
        """Mint for all of `batch` with the usual or an estimated limit of gas; when it is refused, for each half."""
        self._reserved += len(batch)
        refused = None
        try:
            receipt = await self._send([waiting.login for waiting in batch], estimate)
            await self._answer(batch, receipt)
        except Reverted as error:
            # What was read a moment ago may have changed.
            self._room.forget()
            self._cost.forget()
            refused = decode_error(error.revert_data).name
        except TooDear as error:
            self._cost.forget()
            _fail_all(batch, unaffordable(error))
        except TimeoutError:
            _fail_all(batch, not_mined())
        except (RpcError, RpcUnreachable) as error:
            _fail_all(batch, chain_error("a mint", error))
        except KeyquorumError as error:
            _fail_all(batch, error)
        finally:
            self._reserved -= len(batch)
            self._room.less(len(batch))
        if refused is not None:
            await self._cut(batch, estimate, refused)

    async def _cut(self, batch: Sequence[_Waiting], estimated: bool, name: str) -> None:
        """Try what the chain refused again: with enough gas, then in two halves, until the culprit stands alone."""
        if name == "PoolEmpty":
            self._queue.extendleft(reversed(batch))
            self._filled.set()
        elif not estimated:
            await self._mint_all(batch, estimate=True)
        elif len(batch) == 1:
            batch[0].fail(ChainError("mint_refused", f"the chain refuses the mint: {name}"))
        else:
            middle = len(batch) // 2
            await self._mint_all(batch[:middle], estimate=True)
            await self._mint_all(batch[middle:], estimate=True)

    async def _send(self, logins: Sequence[LoginKey], estimate: bool) -> dict[str, Any]:
        helper, nft = self._chain.contract("PKPHelper"), self._chain.contract("PKPNFT")
        cost = self._limits.mint_cost(await self._cost.get(lambda: self._chain.ask(nft, "mintCost")))
        arguments = [login.as_argument() for login in logins]
        data, usual = helper.encode("mintForLogins", arguments), mint_gas(arguments)
        receipt = await self._payer.send(helper.address, data, cost * len(logins), None if estimate else usual)
        # A chain that counts differently is asked for an estimate each time from now on.
        self._usual_gas = self._usual_gas and from_quantity(receipt["gasUsed"]) <= usual
        return receipt

    async def _answer(self, batch: Sequence[_Waiting], receipt: Mapping[str, Any]) -> None:
        """Give everybody his key, as the transaction's events name it."""
        found: dict[tuple[int, bytes], tuple[int, bool]] = {}
        public_keys: dict[int, bytes] = {}
        helper, router = self._chain.contract("PKPHelper"), self._chain.contract("PubkeyRouter")
        for log in receipt.get("logs", []):
            if (event := helper.decode_event(log)) is not None and event["event"] == "LoginKey":
                said = event["args"]
                found[said["methodId"], said["label"]] = (said["tokenId"], said["minted"])
            elif (event := router.decode_event(log)) is not None and event["event"] == "PubkeyRoutingDataSet":
                key = bytes(event["args"]["pubkey"])
                public_keys[token_id_of(key)] = key
        for waiting in batch:
            name = (waiting.login.method_id, waiting.login.label)
            if name not in found:
                waiting.fail(ChainError("not_minted", "the transaction did not mint a key"))
                continue
            token, minted = found[name]
            transaction = str(receipt["transactionHash"]) if minted else None
            known = public_keys.get(token)
            result = self._found(token, known, transaction) if known else await self._known(token, transaction)
            if not waiting.answer.done():
                waiting.answer.set_result(result)


def _fail_all(batch: Sequence[_Waiting], error: KeyquorumError) -> None:
    for waiting in batch:
        waiting.fail(error)


def pool_empty() -> Unavailable:
    """Return the error when the nodes have no key ready."""
    return Unavailable(
        "pool_empty",
        "no key is ready to be minted",
        "ask again in a moment: the nodes are making keys",
        needed=1,
        live=0,
    )


def not_mined() -> ChainError:
    """Return the error when a transaction was sent and nothing more is known of it."""
    return ChainError(
        "not_mined", "the transaction was sent but is not mined yet", "ask again: it will not be done twice"
    )
