"""A wallet from nothing but a login: what is asked of the relay, and why its answer need not be believed.

The relay mints the key to the key's own address with the login's method on it (`PKPHelper.mintForLogins`). A dishonest
one could answer with a key of its own making that permits the login *and* somebody else. So the client asks the
contract: `keyFor(relay, type, id, label)` names only keys that were minted for exactly this login, with no other
method, and have never moved since; whatever else is permitted on such a key, the login itself has allowed. And until
the mint is final the key may still become another's: the client waits for that before it shows an address.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from eth_hash.auto import keccak

from keyquorum.auth.method import Proven
from keyquorum.auth.scopes import Scope
from keyquorum.client.checks import made_key, named_key, named_payer
from keyquorum.client.errors import BadAnswer
from keyquorum.client.network import ChainView
from keyquorum.client.results import Key
from keyquorum.evm.address import checksum

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


async def verified_key(
    chain: ChainView, who: Proven, another: str | None, user_pubkey: bytes, answer: GatewayKey, seconds: float
) -> Key:
    """Return the key that a gateway named; raise `BadAnswer` unless the chain says that it is this login's own.

    When it is new, this login is its only method, with the scopes of a sign-up and no others, and the transaction is
    the one that minted it (an endpoint that lags has `seconds`); later its person may have changed that.
    """
    token, payer, permissions = named_key(answer.token_id), named_payer(answer.relay), chain.contract("PKPPermissions")
    if answer.transaction is not None:
        await made_key(chain, answer.transaction, token, seconds)
    found, seen, methods = await asyncio.gather(
        chain.ask(chain.contract("PKPHelper"), "keyFor", payer, who.type, who.id, label_of(another)),
        chain.ask(permissions, "authorisation", token, who.type, who.id),
        chain.ask(permissions, "getPermittedAuthMethods", token),
    )
    key = chain.key_of(token, seen.pubkey, seen.owner)
    if int(found) != token or key.owner != key.address:
        raise BadAnswer("bad_answer", "the gateway's key was not made for this login, or not for it alone")
    if not seen.permitted:
        raise BadAnswer("bad_answer", "the gateway's key does not let this login in")
    if answer.transaction is not None:
        only = [(one.authMethodType, one.id, one.userPubkey) for one in methods]
        if seen.scopes != sum(1 << scope for scope in SCOPES) or only != [(who.type, who.id, user_pubkey)]:
            raise BadAnswer(
                "bad_answer", "the gateway's new key permits something else than this login with the usual scopes"
            )
    return key


async def is_final(chain: ChainView, who: Proven, another: str | None, relay: str, token: int, block: str) -> bool:
    """Say whether the login has the key at `block` already."""
    arguments = (checksum(relay), who.type, who.id, label_of(another))
    return int(await chain.ask(chain.contract("PKPHelper"), "keyFor", *arguments, block=block)) == token
