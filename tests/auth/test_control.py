"""Signing for a key must not be a way to become its owner."""

from __future__ import annotations

import pytest
from eth_utils import function_signature_to_4byte_selector

from keyquorum.auth.control import CANCEL, scopes_needed
from keyquorum.auth.scopes import Scope
from keyquorum.intents import message_intent, read, transaction_intent, typed_data_intent

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


def permission_call(
    call: str, contract: str = PERMISSIONS, chain_id: int = CHAIN, **message: object
) -> dict[str, object]:
    fields = {"tokenId": "uint256", "call": "bytes", "nonce": "uint256", "deadline": "uint256"}
    fields |= dict.fromkeys(message, "uint256")
    domain = {"name": "Keyquorum PKPPermissions", "version": "1", "chainId": chain_id, "verifyingContract": contract}
    kinds = {"name": "string", "version": "string", "chainId": "uint256", "verifyingContract": "address"}
    types = {
        "EIP712Domain": [{"name": name, "type": kind} for name, kind in kinds.items()],
        "PermissionCall": [{"name": name, "type": kind} for name, kind in fields.items()],
    }
    values = {"tokenId": 1, "call": call, "nonce": 0, "deadline": 1} | message
    return typed_data_intent({"types": types, "primaryType": "PermissionCall", "domain": domain, "message": values})


MANAGE = (Scope.SIGN_TYPED_DATA, Scope.MANAGE_PERMISSIONS)
CANCEL_CALL = "0x" + CANCEL.hex() + f"{1:064x}" + "00" * 32


def test_a_relayed_call_of_the_permission_contract_needs_the_right_to_manage() -> None:
    assert needed(permission_call("0x12345678")) == MANAGE
    assert needed(permission_call("0x12345678", chain_id=1)) == MANAGE
    assert needed(permission_call("0x12345678", contract=STRANGER)) == (Scope.SIGN_TYPED_DATA,)


def test_the_summary_says_what_a_relayed_call_does() -> None:
    assert read(permission_call(CANCEL_CALL), None).summary.startswith("cancelPendingChange: CHANGES WHO MAY USE A KEY")
    assert read(permission_call("0x12345678"), None).summary.startswith("CHANGES WHO MAY USE A KEY")


def test_cancelling_a_change_needs_no_scope() -> None:
    assert needed(permission_call(CANCEL_CALL)) == ()


@pytest.mark.parametrize("intent", [
    permission_call(CANCEL_CALL + "00"), permission_call(CANCEL_CALL[:-2]), permission_call("0x" + "00" * 68),
    permission_call(CANCEL_CALL, chain_id=1), permission_call(CANCEL_CALL, more=1),
    permission_call("0x" + CANCEL.hex() + f"{2:064x}" + "00" * 32),
])  # fmt: skip
def test_what_only_looks_like_cancelling_needs_the_right_to_manage(intent: dict[str, object]) -> None:
    assert needed(intent) == MANAGE


def test_a_login_as_typed_data_needs_the_right_to_manage() -> None:
    intent = permission_call("0x", contract=STRANGER)
    intent["typed_data"]["domain"]["name"] = "Keyquorum login"  # type: ignore[index]
    assert needed(intent) == MANAGE
    assert "OPENS A KEYQUORUM SESSION" in read(intent, None).summary


def test_the_selector_is_that_of_the_contract() -> None:
    assert function_signature_to_4byte_selector("cancelPendingChange(uint256,uint256)") == CANCEL
