"""Public keys of passkeys by credential id, from the chain's events: `GET /v1/passkeys/{credential id}`.

A passkey on a new device tells its credential id but not its public key, which the login needs. A permission for a
passkey carries both (spec/auth.md, "Passkey"). This index reads `PermittedAuthMethodAdded` as the blocks come and
answers with the keys registered under the id, oldest first and a page at a time: usually one. Anybody can register a
wrong key under somebody's credential id (and so gets an identity of his own, nobody else's), as many as he pays for,
so the client takes the key under which its own assertion holds, and asks on while there are more. Permissions that
were removed stay: this is a directory, not an authority.

It is kept in memory, some 300 bytes for each passkey, and read again from the chain after a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import islice
from typing import Any

from keyquorum.auth import passkey
from keyquorum.chain.rpc import RpcError, RpcUnreachable, from_quantity
from keyquorum.client.errors import Refused
from keyquorum.client.network import ChainView, chain_error
from keyquorum.formats.text import from_base64url, to_base64url
from keyquorum.refusal import NOT_FOUND, Invalid, malformed

EVENT = "PermittedAuthMethodAdded"
BLOCKS_AT_ONCE = 5_000
KEYS_IN_A_PAGE = 256
MAX_PAGE_DIGITS = 6
MAX_CHARACTERS = -(-passkey.MAX_CREDENTIAL_BYTES * 4 // 3)


class PasskeyIndex:
    """The directory of one relying party; `first_block` is where the contracts begin, or 0."""

    def __init__(self, chain: ChainView, rp_id: str, first_block: int = 0) -> None:
        self._chain = chain
        self._rp_id = rp_id
        self._next = first_block
        # By credential id; a dictionary's keys, because they are in order and found at once among any number.
        self._keys: dict[bytes, dict[bytes, None]] = {}
        self._lock = asyncio.Lock()
        self._looks, self._looked = 0, 0

    async def find(self, name: str, page: str = "0") -> dict[str, Any]:
        """Return `{"public_key", "others", "more"}` (COSE, base64url) for a credential id in base64url.

        They are those of one page, from 0 on; `more` says whether another follows. Raises `Refused` (404) when nobody
        registered such a passkey, or not so many, `ChainError` when the chain cannot be asked.
        """
        if not (page.isascii() and page.isdecimal() and len(page) <= MAX_PAGE_DIGITS):
            raise malformed("bad_page", "a page is a number from 0 on")
        if len(name) > MAX_CHARACTERS:
            raise malformed("bad_passkey", f"a credential id has at most {passkey.MAX_CREDENTIAL_BYTES} bytes")
        credential_id = from_base64url(name, "the credential id")
        await self._look()
        first = int(page) * KEYS_IN_A_PAGE
        keys = self._keys.get(credential_id, {})
        found = [to_base64url(key) for key in islice(keys, first, first + KEYS_IN_A_PAGE)]
        if not found:
            hint = "create a key with it, or add it to a key at the device where it was made"
            raise Refused("unknown_passkey", "no key is registered with this passkey", hint, status=NOT_FOUND)
        return {"public_key": found[0], "others": found[1:], "more": len(keys) > first + KEYS_IN_A_PAGE}

    async def _look(self) -> None:
        """Catch up with a look that began after this call: one for all who wait for it."""
        needed = self._looks + 1
        async with self._lock:
            if self._looked < needed:
                self._looks = began = self._looks + 1
                await self._catch_up()
                self._looked = began

    async def _catch_up(self) -> None:
        """Read the events of all blocks since the last time; those that are not final are read again next time."""
        try:
            newest = await self._chain.rpc.block_number()
            final = await self._chain.rpc.block("finalized")
            settled = from_quantity(final["number"]) if final else 0
            start = self._next
            while start <= newest:
                end = min(start + BLOCKS_AT_ONCE - 1, newest)
                await self._read(start, end)
                start = end + 1
                self._next = max(self._next, min(start, settled + 1))
        except (RpcError, RpcUnreachable) as error:
            raise chain_error("the registered passkeys", error) from None

    async def _read(self, start: int, end: int) -> None:
        contract = self._chain.contract("PKPPermissions")
        topic = contract.interface.event_topic(EVENT)
        for log in await self._chain.rpc.get_logs(contract.address, [topic], start, end):
            event = contract.decode_event(log)
            if event is not None:
                self._learn(event["args"])

    def _learn(self, said: Mapping[str, Any]) -> None:
        """Remember a registration that is one: of this relying party, with an id that is made of what it carries."""
        if said["authMethodType"] != passkey.PASSKEY_TYPE:
            return
        try:
            public_key, credential_id = passkey.split_registration(bytes(said["userPubkey"]))
        except Invalid:
            return
        if passkey.identity(self._rp_id, credential_id, public_key) != bytes(said["id"]):
            return
        self._keys.setdefault(credential_id, {})[public_key] = None
