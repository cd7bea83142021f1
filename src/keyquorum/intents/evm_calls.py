"""What the data of a transaction asks a contract to do, as far as a wallet can know it without asking the chain.

The functions by which people lose their money are few: approvals, permits, transfers, handing over a contract,
wrapping other calls. Those are named, with their arguments, and the dangerous ones in capitals. Any other call is
shown by its selector. Nothing here decides: a contract may mean something else by a name, which is why the
words say what is *asked* ("units or item") and the length and hash of the data follow.

A function is written as its Solidity signature; its selector is computed from it when this file is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from eth_hash.auto import keccak

from keyquorum.evm.address import to_checksum
from keyquorum.intents.show import item, units

WORD = 32


@dataclass(frozen=True)
class Call:
    """A named call: `function` (Solidity signature), what it asks in `parts`, and a code if it is dangerous."""

    function: str
    parts: tuple[str, ...]
    warning: str | None = None
    complete: bool = False  # all data is in `parts`


class Malformed(ValueError):
    """The arguments are not what an ABI encoder makes for this function."""


class Words:
    """The static words of a call's arguments, in order; each method takes the next one."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def all_taken(self) -> bool:
        """Whether nothing follows the words taken so far."""
        return not self._data

    def _next(self) -> bytes:
        word, self._data = self._data[:WORD], self._data[WORD:]
        if len(word) != WORD:
            raise Malformed("too few arguments")
        return word

    def skip(self, count: int = 1) -> Words:
        """Pass over `count` words."""
        for _ in range(count):
            self._next()
        return self

    def address(self) -> str:
        """Take an address: 12 zero bytes before it, or `Malformed`."""
        word = self._next()
        if any(word[:12]):
            raise Malformed("an address with something before it")
        return to_checksum(word[12:])

    def number(self, bits: int = 256) -> int:
        """Take an unsigned number of `bits` bits."""
        value = int.from_bytes(self._next(), "big")
        if value >> bits:
            raise Malformed(f"a number beyond {bits} bits")
        return value


Asked = tuple[tuple[str, ...], str | None]  # parts of the summary, and the warning if it is dangerous


def describe(to: bytes, data: bytes) -> Call | None:
    """Return what `data` asks of the contract `to`, or None when the function is not known."""
    entry = _BY_SELECTOR.get(data[:4])
    if entry is None:
        return None
    function, reader = entry
    words = Words(data[4:])
    try:
        parts, warning = reader(words, to_checksum(to))
    except Malformed as error:
        name = function.partition("(")[0]
        return Call(function, (f"MALFORMED CALL of {name} ({error}) on {to_checksum(to)}",), "malformed_call")
    return Call(function, parts, warning, words.all_taken)


def _approve(words: Words, token: str) -> Asked:
    spender, amount = words.address(), units(words.number())
    return (f"LETS {spender} TAKE {amount} (or this item) of {token}",), "approval"


def _approve_all(words: Words, token: str) -> Asked:
    operator, on = words.address(), words.number(1)
    if not on:
        return (f"forbids {operator} to move the items of {token}",), None
    return (f"LETS {operator} TAKE EVERY ITEM of {token}",), "approval"


def _permit(words: Words, token: str) -> Asked:
    owner, spender = words.address(), words.address()
    amount = units(words.number())
    return (f"LETS {spender} TAKE {amount} of {token}", f"by a permit of {owner}"), "approval"


def _dai_permit(words: Words, token: str) -> Asked:
    holder, spender = words.address(), words.address()
    allowed = words.skip(2).number(1)
    if not allowed:
        return (f"forbids {spender} to take units of {token}", f"by a permit of {holder}"), None
    return (f"LETS {spender} TAKE UNLIMITED units of {token}", f"by a permit of {holder}"), "approval"


def _permit2_approve(words: Words, _: str) -> Asked:
    token, spender, amount = words.address(), words.address(), words.number(160)
    return (f"LETS {spender} TAKE {units(amount)} of {token} through Permit2",), "approval"


def _permit2(words: Words, contract: str) -> Asked:
    return (f"GIVES APPROVALS by permits of {words.address()}", f"through {contract}"), "approval"


def _transfer(words: Words, token: str) -> Asked:
    to, amount = words.address(), words.number()
    return (f"sends {item(amount)} units of token {token} to {to}",), None


def _transfer_from(words: Words, token: str) -> Asked:
    sender, to, amount = words.address(), words.address(), words.number()
    return (f"moves {item(amount)} units (or this item) of {token} to {to}", f"from {sender}"), None


def _transfer_multi(words: Words, token: str) -> Asked:
    sender, to, number, amount = words.address(), words.address(), words.number(), words.number()
    return (f"moves {item(amount)} of item {item(number)} of {token}", f"to {to}", f"from {sender}"), None


def _transfer_batch(words: Words, token: str) -> Asked:
    sender, to = words.address(), words.address()
    return (f"MOVES SEVERAL ITEMS of token {token} to {to}", f"from {sender}"), "bundle"


def _hand_over(words: Words, contract: str) -> Asked:
    return (f"HANDS OVER THE CONTRACT {contract} to {words.address()}",), "control"


def _upgrade(words: Words, contract: str) -> Asked:
    return (f"REPLACES THE CODE of {contract} by that of {words.address()}",), "control"


def _safe_execute(words: Words, safe: str) -> Asked:
    to, value, operation = words.address(), words.number(), words.skip().number(8)
    if operation:
        return (f"RUNS FOREIGN CODE (delegatecall) of {to} as Safe {safe}",), "control"
    return (f"MAKES THE SAFE {safe} CALL {to}", f"with {item(value)} wei"), "bundle"


def _bundle(_: Words, contract: str) -> Asked:
    return (f"BUNDLES CALLS that are not shown, through {contract}",), "bundle"


def _permissions(words: Words, contract: str) -> Asked:
    return (f"CHANGES WHO MAY USE the key {words.number():#066x} in {contract}",), "control"


def _renounce(words: Words, contract: str) -> Asked:
    return (f"LETS THE LAST WAY INTO the key {words.number():#066x} BE TAKEN AWAY in {contract}",), "control"


_FUNCTIONS: dict[str, Callable[[Words, str], Asked]] = {
    "approve(address,uint256)": _approve,
    "increaseAllowance(address,uint256)": _approve,
    "setApprovalForAll(address,bool)": _approve_all,
    "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)": _permit,
    "permit(address,address,uint256,uint256,bool,uint8,bytes32,bytes32)": _dai_permit,
    "approve(address,address,uint160,uint48)": _permit2_approve,
    "permit(address,((address,uint160,uint48,uint48),address,uint256),bytes)": _permit2,
    "permit(address,((address,uint160,uint48,uint48)[],address,uint256),bytes)": _permit2,
    "transfer(address,uint256)": _transfer,
    "transferFrom(address,address,uint256)": _transfer_from,
    "safeTransferFrom(address,address,uint256)": _transfer_from,
    "safeTransferFrom(address,address,uint256,bytes)": _transfer_from,
    "safeTransferFrom(address,address,uint256,uint256,bytes)": _transfer_multi,
    "safeBatchTransferFrom(address,address,uint256[],uint256[],bytes)": _transfer_batch,
    "transferOwnership(address)": _hand_over,
    "upgradeTo(address)": _upgrade,
    "upgradeToAndCall(address,bytes)": _upgrade,
    "execTransaction(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,bytes)": _safe_execute,
    "multicall(bytes[])": _bundle,
    "multicall(uint256,bytes[])": _bundle,
    "execute(bytes,bytes[])": _bundle,
    "execute(bytes,bytes[],uint256)": _bundle,
    "addPermittedAuthMethod(uint256,(uint256,bytes,bytes),uint256[])": _permissions,
    "addPermittedAuthMethodScope(uint256,uint256,bytes,uint256)": _permissions,
    "addPermittedAction(uint256,bytes,uint256[])": _permissions,
    "addPermittedAddress(uint256,address,uint256[])": _permissions,
    "removePermittedAuthMethod(uint256,uint256,bytes)": _permissions,
    "removePermittedAuthMethodScope(uint256,uint256,bytes,uint256)": _permissions,
    "removePermittedAction(uint256,bytes)": _permissions,
    "removePermittedAddress(uint256,address)": _permissions,
    "setDelay(uint256,uint256)": _permissions,
    "announceTransfer(uint256,address)": _permissions,
    "cancelPendingChange(uint256,uint256)": _permissions,
    "execute(uint256,bytes,uint256,uint256,bytes)": _permissions,
    "renounceKey(uint256)": _renounce,
    "grantAtMint(uint256,(uint256,bytes,bytes)[],uint256[][])": _permissions,
    "batchAddRemoveAuthMethods(uint256,uint256[],bytes[],bytes[],uint256[][],uint256[],bytes[])": _permissions,
}
_BY_SELECTOR = {keccak(function.encode())[:4]: (function, reader) for function, reader in _FUNCTIONS.items()}
