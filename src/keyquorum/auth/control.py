"""Which scopes an intent needs: its own, and `MANAGE_PERMISSIONS` where signing it would change who rules the key.

A key can own its own token, or another key's. Then a signature by it can be more than a message or a transaction: a
login to this network in its name, a call of the permission contract (as a transaction, or as typed data that anybody
may deliver), a transfer of a token. Whoever may only sign messages, transactions or typed data must not become the
owner that way. Scope 1 ("anything") does not imply it either. One such call only ever takes away: cancelling a change
that waits. For it, being any of the key's methods is enough, whatever scopes it has.
Limits: what a delegated account (EIP-7702) or a contract wallet does on the key's behalf is beyond what a node can see,
and a raw digest may be any of these: scope 5 is the power over everything.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from eth_hash.auto import keccak

from keyquorum.auth.scopes import Scope
from keyquorum.intents import Intent

LOGIN = "keyquorum"
LOGIN_DOMAIN = "Keyquorum login"
CALL_DOMAIN = "Keyquorum PKPPermissions"
CANCEL = keccak(b"cancelPendingChange(uint256,uint256)")[:4]
_CALL_FIELDS = {"tokenId", "call", "nonce", "deadline"}


def scopes_needed(intent: Intent, chain_id: int, governing: Collection[str]) -> tuple[Scope, ...]:
    """Return the scopes that a session must all have for `intent`; none: any method of the key will do.

    `governing` are checksummed addresses on chain `chain_id`: the token and permission contracts of this network, and
    the key's own account, where a delegated account takes its orders.
    """
    own = Scope(intent.scope)
    domain, message = intent.details.get("domain"), intent.details.get("message")
    if isinstance(domain, Mapping) and isinstance(message, Mapping):
        if not _governs_by_typed_data(domain, governing):
            return (own,)
        return () if _only_cancels(intent, chain_id) else (own, Scope.MANAGE_PERMISSIONS)
    return (own, Scope.MANAGE_PERMISSIONS) if _governs(intent, chain_id, governing) else (own,)


def _governs(intent: Intent, chain_id: int, governing: Collection[str]) -> bool:
    details = intent.details
    if details.get("login") == LOGIN:
        return True
    called = details.get("to") in governing and details.get("chain_id") == chain_id
    return called and details.get("data", "0x") != "0x"


def _governs_by_typed_data(domain: Mapping[str, Any], governing: Collection[str]) -> bool:
    # Whatever chain the domain names: better one signature too few.
    return domain.get("verifyingContract") in governing or domain.get("name") == LOGIN_DOMAIN


def _only_cancels(intent: Intent, chain_id: int) -> bool:
    """Say whether it is a `PermissionCall` of the form that the contract reads, and its call cancels a change."""
    domain, message = intent.details["domain"], intent.details["message"]
    named = (domain.get("name"), domain.get("chainId"), intent.details.get("primary_type"))
    if named != (CALL_DOMAIN, chain_id, "PermissionCall") or set(message) != _CALL_FIELDS:
        return False
    token, call = message.get("tokenId"), message.get("call")
    if not isinstance(call, str) or not isinstance(token, int) or call[10:74] != f"{token:064x}":
        return False
    return isinstance(call, str) and len(call) == 2 + 2 * (4 + 64) and call.startswith("0x" + CANCEL.hex())
