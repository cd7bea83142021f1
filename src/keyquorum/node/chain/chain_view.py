"""What this node knows from the chain: membership, keys and permissions, read with its own eyes.

Two blocks matter. *Finalised* (configurable) is where grants, mints and membership count from; *newest* is where
revocations and transfers count from, so whoever lost a right loses it at first sight, and whoever gained one has it
only for good. Answers are cached for exactly one pair of blocks: a new block empties the cache. A view older than
`MAX_AGE` refuses everything (`ChainUnavailable`) rather than acting on the past. Of several endpoints more than half
must agree (`chain_quorum.py`), and they may not take this node back to a block before the newest it has seen: there a
revocation would not have happened yet. Only a block made well after that one was seen may be lower: then that one was
none of this chain, and an endpoint that once named it has not stopped this node for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from eth_hash.auto import keccak

from keyquorum.algebra.curve import Point
from keyquorum.auth.network import network_id
from keyquorum.chain import guarded_call, registry
from keyquorum.chain.block import Block, read_block
from keyquorum.chain.contracts import Contract, interface
from keyquorum.chain.rpc import Reverted, Rpc, from_hex
from keyquorum.evm.address import to_checksum
from keyquorum.node.chain.answers import Answers
from keyquorum.node.chain.chain_quorum import ChainUnavailable, Disagree, Quorum, Unusable
from keyquorum.node.chain.recent_blocks import RECENT_BLOCKS, RecentBlocks

T = TypeVar("T")

__all__ = [
    "MAX_AGE",
    "Authorisation",
    "ChainUnavailable",
    "ChainView",
    "Head",
    "Member",
    "Membership",
    "Seen",
    "Unusable",
]

FRESH_SECONDS = 0.25
NEW_SECONDS = 0.05
MAX_AGE = 10.0
LATER_SECONDS = 300.0
"""How far the clocks of a node and of who makes blocks may be apart, where it matters which was first."""
# Who asks contracts of strangers: an account without a key. Some wallets check less when address 0 asks.
NOBODY = "0x" + keccak(b"keyquorum: nobody in particular")[12:].hex()
CACHE_LIMIT = 4096
STRANGERS_LIMIT = 256
# The contracts name each other: from the router every other one is found.
_LINKS = (
    ("PKPNFT", "PubkeyRouter", "pkpNft"),
    ("Staking", "PubkeyRouter", "staking"),
    ("PKPPermissions", "PKPNFT", "permissions"),
    ("PKPHelper", "PKPNFT", "helper"),
    ("Sessions", "PKPPermissions", "sessions"),
)


@dataclass(frozen=True)
class Member:
    """A node as the registry shows it: `spki` is the SHA-256 of its TLS key.

    `url` and `host` are None where the node has written something that cannot be used: it is a member all the same.
    """

    party: int
    address: str
    url: str | None
    host: str | None
    port: int
    spki: bytes


@dataclass(frozen=True)
class Membership:
    """One epoch of the registry: n members, of which `threshold` must sign."""

    epoch: int
    threshold: int
    members: dict[int, Member]

    @property
    def parties(self) -> tuple[int, ...]:
        """All PartyIds, sorted."""
        return tuple(sorted(self.members))


@dataclass(frozen=True)
class Authorisation:
    """Who owns a key and what one identity may do with it, at one block; `owner` None: no such token."""

    owner: bytes | None
    permitted: bool
    scopes: int
    grant_epoch: int
    public_key: bytes


@dataclass(frozen=True)
class Head:
    """The pair of blocks that decisions are made at."""

    newest: int
    newest_hash: bytes
    finalised: int
    read_at: float = field(compare=False)
    newest_time: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Seen:
    """The number of a block that was the newest, and when this node saw it: Unix seconds by its own clock."""

    number: int = 0
    at: float = 0.0


class ChainView:
    """Reads of one node; `refresh` must be called often, and is called by every read that is older than a moment."""

    def __init__(
        self, rpcs: list[Rpc], router: str, finality: str | int, needed: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """`needed` of the endpoints must agree (None: more than half).

        A block below `floor`, which may be set before `open`, is acted on only if it was made well after that.
        """
        self._quorum = Quorum(rpcs, needed)
        self._clock = clock
        self.floor = Seen()
        self._finality = finality
        self._head: Head | None = None
        self._cache = Answers(CACHE_LIMIT)
        self._strangers = Answers(STRANGERS_LIMIT)
        self._refreshing: asyncio.Task[Head] | None = None
        self._seen: dict[int, bytes] = {}
        self._recent = RecentBlocks()
        self._router_address = router
        self.chain_id = 0
        self.network = ""
        self.addresses: dict[str, str] = {}

    async def open(self) -> None:
        """Find every contract from the router; raises `ChainUnavailable` or `ValueError` (not our contracts)."""
        self.chain_id = await self._quorum.open()
        await self.refresh()
        self._locate("PubkeyRouter", self._router_address)
        try:
            for name, parent, view in _LINKS:
                self._locate(name, await self._read_at(parent, view, (), "latest"))
        except (Unusable, Reverted) as error:
            raise ValueError(f"{self._router_address} is not this project's PubkeyRouter: {error}") from error
        self.network = network_id(self.chain_id, bytes.fromhex(self._router_address[2:]))

    async def close(self) -> None:
        """Close the connections to the endpoints."""
        await self._quorum.close()

    def _locate(self, name: str, address: str) -> None:
        self.addresses[name] = to_checksum(bytes.fromhex(address[2:]))

    async def _read_at(self, contract: str, view: str, args: tuple[Any, ...], block: int | str) -> Any:
        address = self.addresses[contract]
        return await self._ask(lambda rpc: Contract(rpc, address, interface(contract)).read(view, *args, block=block))

    # -- the two blocks --------------------------------------------

    async def refresh(self) -> Head:
        """Read both blocks now (many callers share one read) and empty the cache when they moved."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._read_head())
            self._refreshing.add_done_callback(_seen)
        return await asyncio.shield(self._refreshing)

    async def head(self) -> Head:
        """Return both blocks, at most a moment old; raises `ChainUnavailable`."""
        head = self._head
        if head is not None and time.monotonic() - head.read_at < FRESH_SECONDS:
            return head
        try:
            return await self.refresh()
        except ChainUnavailable:
            if head is not None and time.monotonic() - head.read_at < MAX_AGE:
                return head
            raise

    @property
    def age(self) -> float:
        """Seconds since the chain was last seen; infinite before."""
        return time.monotonic() - self._head.read_at if self._head else float("inf")

    async def _read_head(self) -> Head:
        began = time.monotonic()  # of an answer that took long, nobody knows when it was true
        newest = await self._newest()
        head = Head(newest.number, newest.hash, await self._finalised(newest.number), began, newest.time)
        if time.monotonic() - began >= MAX_AGE:
            raise ChainUnavailable("the endpoints take too long")
        if head != self._head:
            self._cache.clear()
            self._strangers.clear()
            self._recent.add(newest)
            self._seen[head.newest] = head.newest_hash
            while len(self._seen) > RECENT_BLOCKS:
                self._seen.pop(next(iter(self._seen)))
        if head.newest != self.floor.number:
            self.floor = Seen(head.newest, self._clock())
        self._head = head
        return head

    async def _newest(self) -> Block:
        block = await self._quorum.newest()
        # Another hash at a height that was seen is a reorganisation. Anything else is endpoints that lag.
        known = self._seen.get(block.number, block.hash) == block.hash
        if block.number < self.floor.number and known and block.time <= self.floor.at + LATER_SECONDS:
            shown = f"the endpoints show block {block.number}, this node has seen block {self.floor.number} before"
            raise ChainUnavailable(f"{shown}: they lag, or the chain was put back: see `keyquorum node forget-chain`")
        return block

    async def _finalised(self, newest: int) -> int:
        if isinstance(self._finality, int):
            return max(newest - self._finality, 0)
        if self._finality == "latest":
            return newest
        tag = self._finality
        block = await self._ask(lambda rpc: read_block(rpc, tag))
        return min(block.number, newest) if block else 0

    async def is_recent_block(self, block_hash: bytes, depth: int = RECENT_BLOCKS) -> bool:
        """Say whether `block_hash` is a block of this chain among the newest `depth`."""
        return await self.recent_block_time(block_hash, depth) is not None

    async def recent_block_time(self, block_hash: bytes, depth: int = RECENT_BLOCKS) -> int | None:
        """Return the time (Unix seconds) of a block of this chain among the newest `depth`; None for any other hash.

        Anybody may ask for any hash, so what this costs does not depend on the hash: for one that is not known the view
        is read anew, at most once in `NEW_SECONDS` for all who ask, and what is missing of the newest blocks is read
        once for each newest block.
        """
        asked_at = time.monotonic()
        head = await self.head()
        while (found := self._recent.find(block_hash)) is None and head.read_at < asked_at:
            await asyncio.sleep(head.read_at + NEW_SECONDS - time.monotonic())
            head = await self.refresh()
        if found is None and block_hash != head.newest_hash:
            await self._cache.get(("recent", head.newest_hash), lambda: self._recent.complete(self._ask))
            found = self._recent.find(block_hash)
        if block_hash == head.newest_hash:
            return head.newest_time
        return found.time if found is not None and head.newest - found.number <= depth else None

    # -- cached reads --------------------------------------------

    async def read(self, contract: str, name: str, *args: Any, newest: bool = False) -> Any:
        """Return a view function's result at the finalised (or newest) block; raises `ChainUnavailable`, `Reverted`."""
        head = await self.head()
        block = head.newest if newest else head.finalised
        key = (contract, name, args, block, head.newest_hash)
        return await self._cache.get(key, lambda: self._read_at(contract, name, args, block))

    async def _ask(self, question: Callable[[Rpc], Awaitable[T]]) -> T:
        return await self._quorum.ask(question)

    async def membership(self) -> Membership:
        """Return the active epoch; epoch 0 means that the registry is not there, or not activated, yet.

        Raises `ValueError` for a registry in which one machine could pass for two parties, or too few could sign.
        """
        if not await self.code(self.addresses["Staking"], newest=False):
            return Membership(0, 0, {})  # deployed, but not finally yet
        epoch = await self.read("Staking", "epoch")
        threshold = await self.read("Staking", "threshold")
        nodes = registry.entries(await self.read("Staking", "getNodes"))
        members = {n.party: Member(n.party, n.address, n.url, n.host, n.port, n.tls_key) for n in nodes}
        spkis, addresses = {node.tls_key for node in nodes}, {node.address for node in nodes}
        if {len(members), len(spkis), len(addresses)} != {len(nodes)} or 0 in members:
            raise ValueError("the registry names one node twice")
        if epoch and threshold != 2 * len(nodes) // 3 + 1:
            raise ValueError("the registry's threshold is not more than two thirds of its nodes")
        return Membership(epoch, threshold, members)

    async def network_key(self) -> Point | None:
        """Return the registered network key, or None before genesis is complete."""
        data = bytes(await self.read("PubkeyRouter", "networkKey"))
        return Point.from_bytes_checked(data) if data else None

    async def authorisation(self, token_id: int, method: int, identity: bytes, newest: bool) -> Authorisation:
        """Return owner, grant and scopes of one identity for one key; an unknown key has no owner."""
        found = await self.read("PKPPermissions", "authorisation", token_id, method, identity, newest=newest)
        owner = bytes.fromhex(found.owner[2:])
        return Authorisation(
            owner if any(owner) else None, found.permitted, found.scopes, found.grantEpoch, bytes(found.pubkey)
        )

    async def look_up(self, token_id: int) -> tuple[bytes, bytes | None]:
        """Return public key and owner of a key at the newest block, nothing and None for no key, for anybody who asks.

        What strangers ask about is remembered apart, and pushes nothing out that the node decides by.
        """
        head = await self.head()
        arguments = token_id, 1, bytes(20)
        found = await self._strangers.get(
            (token_id, head.newest_hash),
            lambda: self._read_at("PKPPermissions", "authorisation", arguments, head.newest),
        )
        owner = bytes.fromhex(found.owner[2:])
        return bytes(found.pubkey), owner if any(owner) else None

    async def revoked_before(self, marks: Sequence[bytes]) -> list[int]:
        """Return for each mark (32 bytes) the time up to which certificates are dead, at the newest block; 0: none."""
        return list(await self.read("Sessions", "revokedBefore", tuple(marks), newest=True))

    async def run_guarded(self, code: bytes, block: int) -> bytes:
        """Return the word that guarded code (`guarded_call.py`) answers at a block, or nothing.

        Whatever a stranger's contract does is an answer: that it halts, in whatever words an endpoint says so, and
        also that endpoints disagree, which a contract can bring about by looking at what is theirs.
        """

        async def question(rpc: Rpc) -> bytes:
            try:
                return guarded_call.answer(await rpc.eth_call(None, code, block, NOBODY, guarded_call.OUTER_GAS))
            except Reverted:
                return b""

        try:
            return await self._ask(question)
        except Disagree:
            return b""

    async def code(self, address: str, newest: bool) -> bytes:
        """Return the code at an address at the finalised or newest block."""
        head = await self.head()
        block = hex(head.newest if newest else head.finalised)

        async def question(rpc: Rpc) -> bytes:
            return from_hex(await rpc.call("eth_getCode", address, block))

        return await self._cache.get(("code", address, block, head.newest_hash), lambda: self._ask(question))


def _seen(task: asyncio.Task[Head]) -> None:
    if not task.cancelled():
        task.exception()  # asyncio must not complain about a failed read whose callers have gone
