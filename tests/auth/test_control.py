"""Signing for a key must not be a way to become its owner."""

from __future__ import annotations

import pytest

from keyquorum.auth.control import scopes_needed
from keyquorum.auth.scopes import Scope
from keyquorum.intents import message_intent, read, transaction_intent

PERMISSIONS = "0xCf7Ed3AccA5a467e9e704C703E8D87F634fB0Fc9"
STRANGER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
CHAIN = 31337


def transaction(to: str, data: str = "0x12345678", chain_id: int = CHAIN) -> dict[str, object]:
    return transaction_intent({
        "type": 2, "chainId": chain_id, "nonce": 0, "to": to, "value": 0, "data": data, "gas": 21000,
        "maxFeePerGas": 1, "maxPriorityFeePerGas": 1,
    })  # fmt: skip


def needed(intent: dict[str, object]) -> tuple[Scope, ...]:
    return scopes_needed(read(intent, None), CHAIN, {PERMISSIONS})


@pytest.mark.parametrize("intent", [
    message_intent("hello"), transaction(STRANGER), transaction(PERMISSIONS, data="0x"),
    transaction(PERMISSIONS, chain_id=1),
])  # fmt: skip
def test_ordinary_intents_need_their_own_scope_only(intent: dict[str, object]) -> None:
    assert needed(intent) == (Scope(read(intent, None).scope),)


def test_a_call_of_the_permission_contract_needs_the_right_to_manage() -> None:
    assert needed(transaction(PERMISSIONS)) == (Scope.SIGN_TRANSACTION, Scope.MANAGE_PERMISSIONS)


@pytest.mark.parametrize(
    "text", ["keyquorum:session:" + "A" * 43, "x\nURI: keyquorum:session:" + "A" * 43 + "\nVersion: 1"]
)
def test_a_login_to_this_network_needs_the_right_to_manage(text: str) -> None:
    assert needed(message_intent(text)) == (Scope.SIGN_PERSONAL_MESSAGE, Scope.MANAGE_PERMISSIONS)
