"""A wallet from nothing but a login: what is asked of the relay, and why its answer need not be believed.

The relay mints the key to the key's own address with the login's method on it (`PKPHelper.mintForLogins`). A dishonest
one could answer with a key of its own making that permits the login *and* somebody else. So the client asks the
contract: `keyFor(relay, type, id, label)` names only keys that were minted for exactly this login, with no other
method, and have never moved since; whatever else is permitted on such a key, the login itself has allowed.
"""

from __future__ import annotations

from typing import Any

import msgspec
from eth_hash.auto import keccak

from keyquorum.auth.method import Proven
from keyquorum.auth.scopes import Scope
from keyquorum.chain.account import checksum
from keyquorum.client.errors import BadAnswer
from keyquorum.client.network import ChainView
from keyquorum.client.results import Key

SCOPES = (int(Scope.SIGN_ANYTHING), int(Scope.MANAGE_PERMISSIONS))
NO_LABEL = bytes(32)
MAX_LABEL = 64


class GatewayKey(msgspec.Struct):
    """The gateway's answer; `relay` is the account that pays, `transaction` None for a key that was there already."""

    token_id: str
    relay: str
    transaction: str | None = None


def label_of(another: str | None) -> bytes:
    """Return the 32 bytes that tell a login's keys apart on the chain: keccak256 of the word, zero for the first."""
    return NO_LABEL if another is None else keccak(another.encode())


def mint_intent(another: str | None = None, user_pubkey: bytes = b"") -> dict[str, Any]:
    """Return the intent of a mint request; raise `ValueError` for a word that is empty or too long."""
    if another is not None and not 1 <= len(another) <= MAX_LABEL:
        raise ValueError(f"the word for another key has 1 to {MAX_LABEL} characters")
    return {"another": another} | ({"user_pubkey": "0x" + user_pubkey.hex()} if user_pubkey else {})


async def check(chain: ChainView, who: Proven, another: str | None, key: Key, answer: GatewayKey) -> None:
    """Raise `BadAnswer` unless the chain says that `key` is this login's own and, when new, that it may use it."""
    try:
        payer = checksum(answer.relay)
    except ValueError:
        raise BadAnswer("the gateway does not say who paid for the key") from None
    found = await chain.ask(chain.contract("PKPHelper"), "keyFor", payer, who.type, who.id, label_of(another))
    if int(found) != key.token_id or key.owner != key.address:
        raise BadAnswer("the gateway's key was not made for this login, or not for it alone")
    if answer.transaction is None:
        return
    seen = await chain.ask(chain.contract("PKPPermissions"), "authorisation", key.token_id, who.type, who.id)
    if not seen.permitted or any(not seen.scopes >> scope & 1 for scope in SCOPES):
        raise BadAnswer("the gateway's key does not let this login sign and manage it")
