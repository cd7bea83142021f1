"""What is asked is what is signed: two names of one value never differ, and undeclared members are neither refused
nor signed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain_fixtures import js_tools, run_node  # noqa: F401 - a fixture
from keyquorum.intents import BadIntent, read, transaction_intent, typed_data_intent
from keyquorum.intents.build import serialize
from keyquorum.intents.lenient import ALIASES, one_name

TO = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045"
FULL = {"chainId": 1, "nonce": 5, "gas": 21_000, "to": TO, "value": 17, "data": "0x0102", "gasPrice": 30}
SET_CODE = {
    "chainId": 1, "nonce": 5, "gas": 90_000, "to": TO, "maxFeePerGas": 30, "maxPriorityFeePerGas": 1,
}  # fmt: skip

NUMBER = st.integers(0, 2**63 - 1)
BYTES = st.binary(max_size=40)
VALUES: dict[str, st.SearchStrategy[Any]] = {"gas": NUMBER, "data": BYTES}


def notations(value: Any) -> list[Any]:
    """The ways in which one value is written."""
    if isinstance(value, int):
        return [value, str(value), hex(value), "0X" + hex(value)[2:].upper()]
    return [value, bytearray(value), "0x" + value.hex(), "0x" + value.hex().upper()]


def test_every_alias_has_a_strategy() -> None:
    assert set(ALIASES.values()) == set(VALUES)


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
@given(data=st.data())
def test_two_names_of_one_field_may_be_given_when_they_agree_and_their_order_never_matters(
    alias: str, name: str, data: st.DataObject
) -> None:
    one, other = data.draw(VALUES[name]), data.draw(VALUES[name])
    rest = {key: value for key, value in FULL.items() if key != name}
    pairs = [(name, data.draw(st.sampled_from(notations(one)))), (alias, data.draw(st.sampled_from(notations(other))))]
    orders = [{**dict(pairs), **rest}, {**rest, **dict(pairs[::-1])}]
    if one == other:
        expected = serialize({**rest, name: one})
        assert [serialize(each) for each in orders] == [expected] * 2 == [serialize({**rest, alias: one})] * 2
        return
    for each in orders:
        with pytest.raises(BadIntent, match="two names of one field"):
            serialize(each)
        with pytest.raises(BadIntent, match=f"{alias} and {name}|{name} and {alias}"):
            one_name(each)


AUTHORIZATION = {
    "chainId": "0x1", "address": TO, "nonce": 3,
    "r": "0x7c9b5f1d5c5b8f8c1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7081", "s": "0x1",
}  # fmt: skip


def set_code(**changes: Any) -> bytes:
    return serialize({**SET_CODE, "authorizationList": [{**AUTHORIZATION, **changes}]})


def test_the_parity_of_an_authorization_has_two_names_that_must_agree() -> None:
    for parity in (0, 1):
        expected = set_code(yParity=parity)
        assert set_code(v=27 + parity) == set_code(v=parity, yParity=hex(parity)) == expected
        nested = {"signature": {name: AUTHORIZATION[name] for name in "rs"} | {"v": 27 + parity, "yParity": parity}}
        assert set_code(**nested) == expected
        assert serialize(
            {**SET_CODE, "authorizationList": [{**nested, "chainId": 1, "address": TO, "nonce": "3"}]}
        ) == (expected)
    for wrong in ({"yParity": 0, "v": 28}, {"v": 1, "yParity": 0}, {"v": 29, "yParity": 0}):
        with pytest.raises(BadIntent, match="differ"):
            set_code(**wrong)
    with pytest.raises(BadIntent, match="given twice"):
        set_code(signature={"r": 5, "s": 1, "yParity": 0})
    with pytest.raises(BadIntent, match="lacks yParity"):
        set_code()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nonce": None}, "nonce must be an integer"),
        ({"type": "eip1559"}, "type must be an integer"),
        ({"to": "vitalik.eth"}, "to must be an address"),
        ({"to": "0x12"}, "to must be an address"),
        ({"data": "deadbee"}, "data must be bytes"),
        ({"gasLimits": 1}, "has no gasLimits: it has nonce, gasPrice, gas, to"),
        ({"gas": ...}, "lacks gas"),
    ],
)
def test_what_cannot_be_meant_is_named_in_words(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadIntent, match=words):
        transaction_intent({name: value for name, value in {**FULL, **changes}.items() if value is not ...})


# -- typed data -------------------------------------------------------------------------------------------------------

ACCEPT = {
    "domain": {"name": "HyperliquidSignTransaction", "version": "1", "chainId": 31337,
               "verifyingContract": "0x" + "00" * 20},
    "types": {"Hyperliquid:AcceptTerms": [{"name": "hyperliquidChain", "type": "string"},
                                          {"name": "time", "type": "uint64"}]},
    "primaryType": "Hyperliquid:AcceptTerms",
    "message": {"type": "acceptTerms", "signatureChainId": "0x7a69", "time": 1, "hyperliquidChain": "Mainnet"},
}  # fmt: skip
ACCEPT_DIGEST = "af0d470f87b8e2e9b31d50dbdd4745f36925a03e249e8795a72ad0f229b35113"


def test_members_that_no_type_declares_are_neither_refused_nor_signed() -> None:
    intent = typed_data_intent(ACCEPT)
    assert intent["typed_data"]["message"] == {"time": 1, "hyperliquidChain": "Mainnet"}
    assert read(intent).digest.hex() == ACCEPT_DIGEST


def test_ethers_gives_the_same_digest_for_undeclared_members(js_tools: Path) -> None:  # noqa: F811
    found = run_node(js_tools / "typed_data.mjs", json.dumps([ACCEPT, DEEP]))
    assert json.loads(found) == ["0x" + read(typed_data_intent(each)).digest.hex() for each in (ACCEPT, DEEP)]
    assert json.loads(found)[0] == "0x" + ACCEPT_DIGEST


DEEP = {
    "domain": {"name": "d", "chainId": 1},
    "types": {
        "Order": [{"name": "items", "type": "Item[][2]"}, {"name": "by", "type": "Item"}],
        "Item": [{"name": "id", "type": "uint256", "internalType": "Id"}],
    },
    "primaryType": "Order",
    "message": {
        "items": [[{"id": 1, "note": {"deep": [1]}}], []],
        "by": {"id": 2, "id2": 3},
        "totalOriginalConsiderationItems": 2,
    },
    "metadata": {"for": "the page"},
}


def test_undeclared_members_are_left_out_at_any_depth() -> None:
    data = typed_data_intent(DEEP)["typed_data"]
    assert data["message"] == {"items": [[{"id": 1}], []], "by": {"id": 2}}
    assert data["types"]["Item"] == [{"name": "id", "type": "uint256"}] and "metadata" not in data


def test_a_node_refuses_what_a_client_leaves_out() -> None:
    strict = typed_data_intent(ACCEPT)
    strict["typed_data"]["message"]["type"] = "acceptTerms"
    with pytest.raises(BadIntent, match='message has "type", which Hyperliquid:AcceptTerms does not declare'):
        read(strict)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"domain": {**ACCEPT["domain"], "note": 1}}, 'domain has "note", which EIP712Domain does not declare'),  # type: ignore[dict-item]
        ({"message": {"time": 1}}, "message lacks hyperliquidChain"),
        ({"message": [1]}, "message.* must be an object"),
        ({"primaryType": "EIP712Domain", "types": {}}, "EIP712Domain cannot be the primary type"),
        (
            {
                "types": {"Hyperliquid:AcceptTerms": [{"name": "@context", "type": "string"}]},
                "message": {"@context": "x"},
            },
            'malformed name "@context"',
        ),
    ],
)
def test_typed_data_that_is_refused_says_which_member_and_why(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadIntent, match=words):
        typed_data_intent({**ACCEPT, **changes})
