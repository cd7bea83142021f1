"""build: what eth-account's users have in hand becomes an intent, and a signature becomes a transaction."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import _hash_eip191_message, encode_typed_data
from hexbytes import HexBytes

from keyquorum.algebra.field import Q
from keyquorum.intents import (
    BadIntent,
    apply_signature,
    read,
    transaction_hash,
    transaction_intent,
    typed_data_intent,
)
from keyquorum.intents.build import serialize

KEY = Account.from_key(bytes([7]) * 32)
TO = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045"
FULL = {
    "chainId": 1,
    "nonce": 5,
    "gas": 21_000,
    "to": TO,
    "value": 17,
    "data": b"\1\2",
    "maxFeePerGas": 30,
    "maxPriorityFeePerGas": 1,
    "accessList": [{"address": TO, "storageKeys": ["0x" + "01" * 32]}],
}


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": "0x5", "gas": "0x5208", "value": "0x11", "chainId": "0x1"},
        {"to": TO.lower(), "data": "0x0102"},
        {"to": bytes.fromhex(TO[2:]), "data": HexBytes("0x0102")},
        {"data": bytearray(b"\1\2"), "type": 2},
        {"type": "0x2"},
        {"from": KEY.address},
        {"accessList": ({"address": TO.lower(), "storageKeys": (b"\1" * 32,)},)},
    ],
)
def test_every_usual_way_to_write_a_transaction_gives_the_same_bytes(changes: dict[str, Any]) -> None:
    assert serialize({**FULL, **changes}) == serialize(FULL)


def test_input_is_read_as_data_and_absent_fields_are_empty() -> None:
    renamed = {("input" if name == "data" else name): value for name, value in FULL.items()}
    assert serialize(renamed) == serialize(FULL)
    short = {"chainId": 1, "nonce": 0, "gas": 1, "gasPrice": 1}
    details = read(transaction_intent(short)).details
    assert (details["to"], details["value"], details["data"], details["type"]) == (None, 0, "0x", 0)
    for nobody in (None, "", b"", "0x"):
        assert serialize({**short, "to": nobody}) == serialize(short)


def test_authorizations_are_taken_as_objects_and_as_dicts() -> None:
    signed = KEY.sign_authorization({"chainId": 1, "address": TO, "nonce": 3})
    written = {
        "chainId": 1, "address": TO, "nonce": 3, "yParity": signed.y_parity, "r": signed.r, "s": hex(signed.s),
    }  # fmt: skip
    base = {**FULL, "authorizationList": [signed]}
    assert serialize(base) == serialize({**FULL, "authorizationList": [written]})
    raw = KEY.sign_transaction({**FULL, "authorizationList": [signed]})
    assert apply_signature(serialize(base), raw.r, raw.s, raw.v) == bytes(raw.raw_transaction)


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": -1},
        {"nonce": True},
        {"nonce": None},
        {"nonce": 1.0},
        {"nonce": "5.0"},
        {"nonce": " 5"},
        {"nonce": "\u0665"},
        {"nonce": "1_0"},
        {"nonce": "0x"},
        {"nonce": "0x_5"},
        {"nonce": ...},
        {"chainId": ...},
        {"gas": ...},
        {"maxPriorityFeePerGas": ...},
        {"maxFeePerGas": ...},
        {"gasPrice": 1},
        {"to": TO.swapcase()},
        {"to": TO[:-1] + "6"},
        {"to": "vitalik.eth"},
        {"to": TO[:-2]},
        {"data": "0102"},
        {"data": "0x012"},
        {"data": "0x01 2"},
        {"data": 5},
        {"data": None},
        {"value": 2**256},
        {"chainId": 0},
        {"type": 3},
        {"type": 0},
        {"type": 1},
        {"type": 4},
        {"type": "two"},
        {"maxFeePerBlobGas": 1},
        {"accessList": "0x"},
        {"accessList": ""},
        {"accessList": {}},
        {"accessList": 5},
        {"accessList": {"address": TO}},
        {"accessList": [{"address": TO}]},
        {"accessList": [5]},
        {"authorizationList": []},
        {"authorizationList": [{"chainId": 1}]},
    ],
    ids=str,
)
def test_a_transaction_that_cannot_be_meant_is_refused(changes: dict[str, Any]) -> None:
    transaction = {name: value for name, value in {**FULL, **changes}.items() if value is not ...}
    with pytest.raises(BadIntent) as caught:
        transaction_intent(transaction)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"type": 0, "accessList": []},
            "type 0 has no accessList: it has nonce, gasPrice, gas, to, value, data, chainId",
        ),
        ({"type": 1, "authorizationList": []}, "type 1 has no authorizationList"),
        ({"type": 3}, "type 3 are not signed"),
        ({"type": 1, "maxPriorityFeePerGas": 1}, "type 1 has no maxPriorityFeePerGas"),
    ],
)
def test_a_field_that_the_type_does_not_have_is_never_dropped(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadIntent, match=words):
        transaction_intent({"chainId": 1, "nonce": 0, "gas": 1, "gasPrice": 1, **changes})


def test_a_signature_is_applied_only_if_ethereum_accepts_it() -> None:
    raw = serialize(FULL)
    assert transaction_hash(apply_signature(raw, 1, 1, 0)) != transaction_hash(apply_signature(raw, 1, 1, 1))
    for r, s, parity in [(0, 1, 0), (Q, 1, 0), (1, 0, 0), (1, Q - 1, 0), (1, 1, 2), (1, 1, 3), (1, 1, 27)]:
        with pytest.raises(ValueError, match="out of range"):
            apply_signature(raw, r, s, parity)
    with pytest.raises(BadIntent):
        apply_signature(apply_signature(raw, 1, 1, 0), 1, 1, 0)


VOTE = {
    "types": {"Vote": [{"name": "n", "type": "uint256"}, {"name": "who", "type": "Person[]"}],
              "Person": [{"name": "id", "type": "bytes4"}]},
    "domain": {"name": "App", "chainId": 1, "salt": bytes(32)},
    "message": {"n": 2**200, "who": ({"id": b"\1\2\3\4"},)},
}  # fmt: skip


def test_typed_data_is_completed_pruned_and_made_plain_without_changing_its_digest() -> None:
    intent = typed_data_intent(VOTE)
    data = intent["typed_data"]
    assert data["primaryType"] == "Vote"
    assert [field["name"] for field in data["types"]["EIP712Domain"]] == ["name", "chainId", "salt"]
    assert data["message"] == {"n": str(2**200), "who": [{"id": "0x01020304"}]}
    extra = {**VOTE, "primaryType": "Vote", "types": {**VOTE["types"], "Unused": [{"name": "x", "type": "bool"}]}}
    assert typed_data_intent(extra) == intent
    assert typed_data_intent(data) == intent
    assert read(intent).digest == _hash_eip191_message(encode_typed_data(full_message=copy.deepcopy(data)))


def test_building_leaves_what_it_was_given_as_it_was() -> None:
    before = copy.deepcopy(VOTE)
    typed_data_intent(VOTE)
    assert before == VOTE


@pytest.mark.parametrize(
    "changes",
    [
        {"types": ...},
        {"domain": ...},
        {"message": ...},
        {"types": []},
        {"domain": []},
        {"message": {"n": 1}},
        {"types": {**VOTE["types"], "Other": [{"name": "x", "type": "bool"}]}},
        {"types": {"A": [{"name": "x", "type": "A[]"}], "B": [{"name": "x", "type": "A"}, {"name": "y", "type": "B"}]}},
        {"types": {}},
        {"types": {"Vote": "n"}},
        {"types": {"Vote": [5]}},
        {"primaryType": "Nothing"},
        {"primaryType": ["Vote"]},
    ],
    ids=str,
)
def test_typed_data_that_cannot_be_completed_is_refused(changes: dict[str, Any]) -> None:
    data = {name: value for name, value in {**VOTE, **changes}.items() if value is not ...}
    with pytest.raises(BadIntent):
        typed_data_intent(data)
