"""Which scopes an intent needs: its own, and `MANAGE_PERMISSIONS` where signing it would change who rules the key.

A key can own its own token, or another key's. Then a signature by it can be more than a message or a transaction: a
login to this network in its name, a call of the permission contract, a transfer of a token. Whoever may only sign
messages, or only transactions, must not become the owner that way. Scope 1 ("anything") does not imply it either.
Limits: what a delegated account (EIP-7702) or a contract wallet does on the key's behalf is beyond what a node can see.
"""

from __future__ import annotations

from collections.abc import Collection

from keyquorum.auth.scopes import Scope
from keyquorum.intents import Intent

LOGIN = "keyquorum"


def scopes_needed(intent: Intent, chain_id: int, governing: Collection[str]) -> tuple[Scope, ...]:
    """Return the scopes that a session must all have for `intent`.

    `governing` are checksummed addresses on chain `chain_id`: the token and permission contracts of this network, and
    the key's own account, where a delegated account takes its orders.
    """
    own = Scope(intent.scope)
    return (own, Scope.MANAGE_PERMISSIONS) if _governs(intent, chain_id, governing) else (own,)


def _governs(intent: Intent, chain_id: int, governing: Collection[str]) -> bool:
    details = intent.details
    if details.get("login") == LOGIN:
        return True
    called = details.get("to") in governing and details.get("chain_id") == chain_id
    return called and details.get("data", "0x") != "0x"
