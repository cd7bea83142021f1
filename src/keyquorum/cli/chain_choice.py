"""Which chain a network is put on, who pays for its contracts there, and when that chain's blocks count.

Without a URL it is a development chain of the network's own: its accounts are public, and nothing there has a value.
On any other chain whoever holds the funder's key owns the contracts, so a publicly known key is refused there, unless
the chain is on this machine and was said to be a test chain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from keyquorum.chain.contracts import Contract, Reverted
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.devchain.callers import is_loopback
from keyquorum.chain.rpc import Rpc, RpcError, RpcUnreachable, from_quantity
from keyquorum.client.errors import Misconfigured, Unavailable
from keyquorum.evm.address import address_of_private, to_checksum

Finality = str | int
TAGS: Final = ("latest", "safe", "finalized")
DEEPEST: Final = 100_000
# Keys that anybody finds by counting.
SMALLEST_KEY: Final = 2**64
# Published mnemonics, from which development tools derive funded accounts, at m/44'/60'/0'/0/i.
MNEMONICS: Final = (
    "test test test test test test test test test test test junk",
    "myth like bonus scare over problem client lizard pioneer submit female collect",
    "candy maple cake sugar pudding cream honey rich smooth crumble sweet treat",
)
ACCOUNTS_OF_A_MNEMONIC: Final = 20
POLL_SECONDS: Final = 0.5
# The gateway's limits on a chain of our own: ether costs nothing there, and everybody is 127.0.0.1.
_UNBOUNDED: Final = 100_000
LOCAL_LIMITS: Final[dict[str, Any]] = {
    "owner_mints": True, "requests_per_second": 10_000, "gas_per_client": 10**12,
} | dict.fromkeys(
    (
        "owner_mints_per_client", "owner_mints_in_all", "mints_per_owner", "mints_per_client", "mints_per_method",
        "calls_per_key", "commitments_per_client", "logins_per_client", "failed_logins",
    ), _UNBOUNDED,
)  # fmt: skip
# On a chain where ether has a price, an hour's mints cost the gateway no more than a hundred keys, for logins only.
OUTER_LIMITS: Final[dict[str, Any]] = {"mints_per_owner": 5, "mints_per_client": 20, "mints_per_method": 100}
Tell = Callable[[str], None]


@dataclass(frozen=True)
class ChainChoice:
    """`rpc` None: the embedded development chain. `finality`: a tag, a depth in blocks, or None for the usual."""

    rpc: str | None = None
    funder: bytes | None = None
    finality: Finality | None = None
    development_accounts: bool = False

    @property
    def embedded(self) -> bool:
        """Whether the chain is the network's own."""
        return self.rpc is None

    def check(self, deployed: bool) -> None:
        """Raise `Misconfigured` unless this may be used; `deployed`: the contracts are there, nobody pays for them."""
        if self.finality is not None and self.finality not in TAGS and not isinstance(self.finality, int):
            raise Misconfigured(
                "bad_finality", "that is no finality", f"use latest, safe, finalized, or 0 to {DEEPEST}"
            )
        if self.development_accounts and (self.rpc is None or not is_loopback(urlsplit(self.rpc).hostname or "")):
            raise Misconfigured(
                "public_account",
                "publicly known accounts are for test chains on this machine",
                "use --development-accounts with a --rpc on this machine only",
            )
        if self.embedded or deployed or self.development_accounts:
            return
        if self.funder is None:
            raise Misconfigured(
                "no_funder",
                "who pays for the contracts, and owns them?",
                "give --funder-file, or for a test chain on this machine --development-accounts",
            )
        if is_publicly_known(self.funder):
            raise Misconfigured(
                "public_account",
                "the funder's key is publicly known: everybody would own the contracts",
                "give another --funder-file, or for a test chain on this machine --development-accounts",
            )

    @property
    def payer(self) -> bytes:
        """The key of the account that pays; only after `check`, and not for contracts that are there already."""
        return self.funder or ACCOUNTS[0][1]

    @property
    def gateway_limits(self) -> dict[str, Any]:
        """What the gateway of this network pays for in an hour, for whom, and how often it may be asked."""
        return LOCAL_LIMITS if self.embedded else OUTER_LIMITS | {"owner_mints": self.development_accounts}

    def finality_after(self, before: Any) -> Finality:
        """Return when blocks count: as said now, or else `before`, or else what fits the chain."""
        if self.finality is not None:
            return self.finality
        if self.embedded:
            return "latest"
        if isinstance(before, str | int):
            return before
        return "latest" if self.development_accounts else "finalized"


def parse_finality(text: str | None) -> Finality | None:
    """Read `latest`, `safe`, `finalized`, or a number of blocks; raise `Misconfigured`."""
    if text is None or text in TAGS:
        return text
    if text.isascii() and text.isdecimal() and len(text) <= 6 and int(text) <= DEEPEST:
        return int(text)
    raise Misconfigured(
        "bad_finality", f"{text[:40]!r} is no finality", f"use latest, safe, finalized, or 0 to {DEEPEST}"
    )


def is_publicly_known(key: bytes) -> bool:
    """Say whether a private key is one that development tools fund, or that anybody finds by counting."""
    return int.from_bytes(key, "big") < SMALLEST_KEY or to_checksum(address_of_private(key)) in _known_addresses()


def _known_addresses() -> set[str]:
    from eth_account import Account

    Account.enable_unaudited_hdwallet_features()
    paths = [f"m/44'/60'/0'/0/{index}" for index in range(ACCOUNTS_OF_A_MNEMONIC)]
    return {str(Account.from_mnemonic(words, account_path=path).address) for words in MNEMONICS for path in paths}


async def final_block(rpc: Rpc, finality: Finality) -> tuple[int, int]:
    """Return the numbers of the newest block and of the newest that counts (-1: none yet)."""
    newest = await rpc.block_number()
    if isinstance(finality, int):
        return newest, newest - finality
    if finality == "latest":
        return newest, newest
    try:
        block = await rpc.call("eth_getBlockByNumber", finality, False)
    except RpcError as error:
        raise Misconfigured(
            "no_finality",
            f"the chain does not know its {finality} block: {error.message[:100]}",
            "start again with --finality and a depth in blocks",
        ) from None
    return newest, from_quantity(block["number"]) if block else -1


async def final_words(rpc: Rpc, finality: Finality) -> str:
    """Say how far the chain is: what nodes put on it counts once its block does."""
    try:
        newest, final = await final_block(rpc, finality)
    except (RpcError, RpcUnreachable):
        return "the chain does not answer"
    return f"{newest - max(final, 0)} blocks of the chain do not count yet, {max(final, 0)} do"


async def wait_until_final(rpc: Rpc, registry: Contract, finality: Finality, patience: float, tell: Tell) -> None:
    """Wait until `registry` (Staking) is active in a block that counts, telling how far that is.

    Raises `Unavailable` when no further block counts for `patience` seconds.
    """
    loop = asyncio.get_running_loop()
    goal, told, moved = await rpc.block_number(), -2, loop.time()
    while True:
        newest, final = await final_block(rpc, finality)
        if final >= 0 and await _is_active(registry, final):
            return
        if final != told:
            told, moved = final, loop.time()
            tell(
                f"the contracts are on the chain, and not {_word(finality)} yet: newest block {newest}, "
                f"{_word(finality)} {max(final, 0)}, at most {goal - max(final, 0)} blocks to go"
            )
        elif loop.time() - moved > patience:
            raise Unavailable(
                "not_final",
                f"no block became {_word(finality)} for {patience:.0f} s: it is {max(final, 0)} of {newest}",
                "a test chain that makes no blocks by itself never gets there: start again with --finality latest",
                needed=1,
                live=0,
            )
        await asyncio.sleep(POLL_SECONDS)


async def _is_active(registry: Contract, block: int) -> bool:
    try:
        return bool(await registry.read("epoch", block=block))
    except (Reverted, RpcError, ValueError):
        return False  # no contract there in that block


def _word(finality: Finality) -> str:
    return f"{finality} blocks deep" if isinstance(finality, int) else finality
