"""Who may use a key, and for what: listing and changing it. `client.permissions`.

A change is made by the owner of the token. When that is the client's account, it sends a transaction. When the key
owns itself (or another key of the network owns it), the session in use signs the call as typed data (`PermissionCall`),
which takes scope 6 besides typed data; whoever delivers it, a gateway or the account, only pays.

What takes away counts at once. What gives counts after the key's delay, is listed by `pending`, and can be cancelled
until then by anybody who has proven a method of the key, whatever its scopes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from keyquorum.auth.scopes import check_grant
from keyquorum.client.checks import executed, executed_before
from keyquorum.client.connection import KeyLike, token_of
from keyquorum.client.errors import BadAnswer, ChainError, Misconfigured, Refused, Timeout, Unavailable
from keyquorum.client.results import Key, token_hex
from keyquorum.client.seen import Change
from keyquorum.evm.address import checksum

if TYPE_CHECKING:
    from keyquorum.client.async_client import AsyncClient

CONTRACT = "PKPPermissions"
DEADLINE_SECONDS = 300
TOGETHER = 32
KINDS = ("add_method", "add_scope", "lower_delay", "transfer", "renounce")
TYPES = {
    "EIP712Domain": [
        {"name": "name", "type": "string"},
        {"name": "version", "type": "string"},
        {"name": "chainId", "type": "uint256"},
        {"name": "verifyingContract", "type": "address"},
    ],
    "PermissionCall": [
        {"name": "tokenId", "type": "uint256"},
        {"name": "call", "type": "bytes"},
        {"name": "nonce", "type": "uint256"},
        {"name": "deadline", "type": "uint256"},
    ],
}


@dataclass(frozen=True)
class PermittedMethod:
    """A method of a key: what it may do alone (`scopes`), and what together with a second method (`together`)."""

    type: int
    id: bytes
    user_pubkey: bytes
    scopes: tuple[int, ...]
    together: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the object that the CLI prints."""
        return {
            "type": self.type,
            "id": "0x" + self.id.hex(),
            "user_pubkey": "0x" + self.user_pubkey.hex(),
            "scopes": list(self.scopes),
            "together": list(self.together),
        }


@dataclass(frozen=True)
class PendingChange:
    """An announced change: `kind` is one of `KINDS`; it counts from `active_at` (Unix seconds) on."""

    change_id: int
    kind: str
    active_at: int
    type: int
    id: bytes
    scopes: tuple[int, ...]
    delay: int
    to: str

    def to_json(self) -> dict[str, Any]:
        """Return the object that the CLI prints: only what its kind has."""
        found: dict[str, Any] = {"change_id": self.change_id, "kind": self.kind, "active_at": self.active_at}
        if self.kind in ("add_method", "add_scope"):
            return found | {"type": self.type, "id": "0x" + self.id.hex(), "scopes": list(self.scopes)}
        if self.kind == "renounce":
            return found
        return found | ({"delay": self.delay} if self.kind == "lower_delay" else {"to": self.to})


class _Sent(msgspec.Struct):
    transaction: str


class Permissions:
    """The permissions of keys; every change returns the hash of its transaction once the chain has executed it.

    What takes away returns when the nodes have seen it: see `Change.settled`.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def list(self, key: KeyLike) -> tuple[PermittedMethod, ...]:
        """Return the methods that count now; the owner's own power is not in it."""
        contract = self._client.chain.contract(CONTRACT)
        views = "getPermittedAuthMethodsPage", "countPermittedAuthMethods"
        found = await self._client.chain.pages(contract, *views, token_of(key))
        return tuple(_method(one, scopes) for one, scopes in found)

    async def pending(self, key: KeyLike) -> tuple[PendingChange, ...]:
        """Return what was announced and does not count yet, by the time from which it will."""
        found = [
            PendingChange(
                change_id=one.changeId,
                kind=KINDS[one.kind],
                active_at=one.activeAt,
                type=one.authMethodType,
                id=one.id,
                scopes=tuple(number for number in range(256) if one.scopes >> number & 1),
                delay=one.delay,
                to=checksum(one.to),
            )
            for one in await self._ask("getPendingChanges", token_of(key))
        ]
        return tuple(sorted(found, key=lambda one: (one.active_at, one.change_id)))

    async def delay(self, key: KeyLike) -> int:
        """Return how many seconds a loosening change of the key waits."""
        return int(await self._ask("delayOf", token_of(key)))

    async def add(
        self, key: KeyLike, type_number: int, identity: bytes, scopes: Sequence[int], user_pubkey: bytes = b""
    ) -> Change:
        """Permit a method with scopes: s alone, 32 + s only together with a second method."""
        method = (type_number, identity, user_pubkey)
        return await self._change(key, "addPermittedAuthMethod", method, list(check_grant(scopes)))

    async def remove(self, key: KeyLike, type_number: int, identity: bytes) -> Change:
        """Withdraw a method with all its scopes, at once."""
        return await self._taking(key, "removePermittedAuthMethod", type_number, identity)

    async def add_scope(self, key: KeyLike, type_number: int, identity: bytes, scope: int) -> Change:
        """Give a method one more scope."""
        return await self._change(key, "addPermittedAuthMethodScope", type_number, identity, *check_grant([scope]))

    async def remove_scope(self, key: KeyLike, type_number: int, identity: bytes, scope: int) -> Change:
        """Take a scope away from a method, at once."""
        return await self._taking(key, "removePermittedAuthMethodScope", type_number, identity, scope)

    async def set_delay(self, key: KeyLike, seconds: int) -> Change:
        """Let loosening changes wait: longer from now on, shorter only after the present delay."""
        return await self._taking(key, "setDelay", seconds)

    async def cancel(self, key: KeyLike, change_id: int) -> Change:
        """Withdraw an announced change."""
        return await self._taking(key, "cancelPendingChange", change_id)

    async def renounce(self, key: KeyLike) -> Change:
        """Allow the last login of a key that owns itself to be removed, after the key's delay.

        Without this such a removal is refused; with it the key, and all it holds, is lost for ever.
        """
        return await self._change(key, "renounceKey")

    # -- making a change ----------------------------------------------------------------------------------------------

    async def _ask(self, view: str, *arguments: Any) -> Any:
        chain = self._client.chain
        return await chain.ask(chain.contract(CONTRACT), view, *arguments)

    async def _taking(self, key: KeyLike, function: str, *arguments: Any) -> Change:
        """Make a change that takes something away: it is done when the nodes know of it."""
        client = self._client
        receipt = await self._mined(key, function, *arguments)
        return await client._spread(str(receipt["transactionHash"]), receipt)

    async def _change(self, key: KeyLike, function: str, *arguments: Any) -> Change:
        return Change((await self._mined(key, function, *arguments))["transactionHash"])

    async def _mined(self, key: KeyLike, function: str, *arguments: Any) -> Mapping[str, Any]:
        """Return the receipt of the change, which the chain has executed exactly as it was asked for."""
        client, token = self._client, token_of(key)
        contract = client.chain.contract(CONTRACT)
        call = contract.encode(function, token, *arguments)
        owned = await client.chain.key(token)
        account = client.account
        if account is not None and owned.owner == checksum(account.address):
            return await client.send_from_account(contract.address, call)
        return await self._deliver(token, call, await self._owning_key(owned))

    async def _owning_key(self, key: Key) -> int:
        """Return the token id of the key whose address owns `key`: mostly its own."""
        if key.owner == key.address:
            return key.token_id
        chain = self._client.chain
        found = key.owner and await chain.ask(chain.contract("PubkeyRouter"), "ethAddressToPkpId", key.owner)
        if not found:
            raise Refused(
                "not_the_owner", f"the key belongs to {key.owner or 'nobody'}", "let its owner make the change"
            )
        return int(found)

    async def _deliver(self, token: int, call: bytes, owner: int) -> Mapping[str, Any]:
        """Let the owning key sign the call, and a gateway or the account pay for it; return the receipt.

        A gateway's word that it is done is compared with the chain.
        """
        client = self._client
        contract = client.chain.contract(CONTRACT)
        nonce = int(await self._ask("nonces", token))
        deadline = int(time.time()) + DEADLINE_SECONDS
        message = {"tokenId": str(token), "call": "0x" + call.hex(), "nonce": str(nonce), "deadline": str(deadline)}
        domain = {
            "name": "Keyquorum PKPPermissions",
            "version": "1",
            "chainId": client.facts.chain_id,
            "verifyingContract": contract.address,
        }
        data = {"types": TYPES, "primaryType": "PermissionCall", "domain": domain, "message": message}
        signature = (await client.sign_typed_data(owner, data)).compact
        execute = contract.encode("execute", token, call, nonce, deadline, signature)
        if client.has_gateway:
            body = {
                "key": token_hex(token),
                "call": message["call"],
                "nonce": nonce,
                "deadline": deadline,
                "signature": "0x" + signature.hex(),
            }
            return await self._relayed(body, token, nonce, execute)
        if client.account is None:
            raise Misconfigured("no_account", "nobody is there to pay", "use a gateway, or give an account")
        return await client.send_from_account(contract.address, execute)

    async def _relayed(self, body: Mapping[str, Any], token: int, nonce: int, execute: bytes) -> Mapping[str, Any]:
        """Let the gateway send `execute`; return the receipt, also when only its answer was lost.

        Then the same body is sent once more, and the contract refuses the number: unless that was this very call, the
        error stands.
        """
        client = self._client
        place = client.chain.contract(CONTRACT).address, execute
        since = await client.chain.newest()
        try:
            done = (await client._ask_gateway("/v1/permissions", body, _Sent)).transaction
        except (Refused, Unavailable, Timeout):
            with suppress(BadAnswer, ChainError):
                found = await executed_before(client.chain, token, nonce, *place, since, client._timeout)
                if found is not None:
                    return found
            raise
        return await executed(client.chain, done, *place, client._timeout)


def _method(found: Any, scopes: int) -> PermittedMethod:
    alone, together = _scopes(scopes)
    return PermittedMethod(found.authMethodType, found.id, found.userPubkey, alone, together)


def _scopes(bitmap: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what a method may do alone, and what only together with another one."""
    numbers = [number for number in range(1, 256) if bitmap >> number & 1]
    together = tuple(number - TOGETHER for number in numbers if TOGETHER < number <= TOGETHER + 8)
    return tuple(number for number in numbers if number - TOGETHER not in together), together
