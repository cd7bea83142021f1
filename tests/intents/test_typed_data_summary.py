"""The summary of typed data: what people lose tokens by comes first, and no chosen name breaks the line."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyquorum.intents import BadIntent, Intent, read

TOKEN = "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2"
FRIEND = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045"
ME = "0x1111111111111111111111111111111111111111"


def struct(*fields: str) -> list[dict[str, str]]:
    """Return the JSON of a struct from "type name" lines."""
    return [{"type": kind, "name": name} for kind, name in map(str.split, fields)]


MAIL = {
    "types": {
        "EIP712Domain": struct("string name", "string version", "uint256 chainId", "address verifyingContract"),
        "Person": struct("string name", "address wallet"),
        "Mail": struct("Person from", "Person to", "string contents"),
    },
    "primaryType": "Mail",
    "domain": {
        "name": "Ether Mail",
        "version": "1",
        "chainId": 1,
        "verifyingContract": "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC",
    },
    "message": {
        "from": {"name": "Cow", "wallet": "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"},
        "to": {"name": "Bob", "wallet": "0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"},
        "contents": "Hello, Bob!",
    },
}


def signed(typed_data: Any) -> Intent:
    return read({"kind": "evm-typed-data", "typed_data": typed_data})


def request(
    primary: str, fields: str, message: dict[str, Any], types: dict[str, Any] | None = None, chain: bool = True
) -> dict[str, Any]:
    """Return typed data of an application called App at TOKEN."""
    domain: dict[str, Any] = {"name": "App", "chainId": 1, "verifyingContract": TOKEN}
    names = ["string name", "uint256 chainId", "address verifyingContract"]
    if not chain:
        del domain["chainId"], domain["verifyingContract"]
        del names[1:]
    all_types = {"EIP712Domain": struct(*names), primary: struct(*fields.split(", ")), **(types or {})}
    return {"types": all_types, "primaryType": primary, "domain": domain, "message": message}


PERMIT2612 = "address owner, address spender, uint256 value, uint256 nonce, uint256 deadline"
DAI = "address holder, address spender, uint256 nonce, uint256 expiry, bool allowed"
MOVE = "address from, address to, uint256 value"
DETAILS = {"PermitDetails": struct("address token", "uint160 amount")}


@pytest.mark.parametrize(
    ("data", "beginning", "warnings"),
    [
        (
            request(
                "Permit", PERMIT2612, {"owner": ME, "spender": FRIEND, "value": 5, "nonce": 0, "deadline": 1}
            ),
            f'LETS {FRIEND} TAKE 5 units of {TOKEN}; signs "Permit" for "App"; chain 1; and more (',
            ["approval"],
        ),
        (
            request(
                "Permit",
                PERMIT2612,
                {"owner": ME, "spender": FRIEND, "value": str(2**256 - 1), "nonce": 0, "deadline": 1},
            ),
            f"LETS {FRIEND} TAKE UNLIMITED units of {TOKEN}; ",
            ["approval"],
        ),
        (
            request("Permit", DAI, {"holder": ME, "spender": FRIEND, "nonce": 0, "expiry": 0, "allowed": True}),
            f"LETS {FRIEND} TAKE UNLIMITED units of {TOKEN}; ",
            ["approval"],
        ),
        (
            request("Permit", DAI, {"holder": ME, "spender": FRIEND, "nonce": 0, "expiry": 0, "allowed": False}),
            f"forbids {FRIEND} to take units of {TOKEN}; ",
            [],
        ),
        (
            request("Allowance", "address spender", {"spender": FRIEND}, chain=False),
            f"LETS {FRIEND} TAKE UNLIMITED units of an unnamed contract; ",
            ["approval"],
        ),
        (
            request("PermitSingle", "PermitDetails details, address spender",
                {"details": {"token": TOKEN, "amount": 1}, "spender": FRIEND}, DETAILS),
            f'LETS {FRIEND} TAKE TOKENS through Permit2; signs "PermitSingle"',
            ["approval"],
        ),
        (
            request("PermitBatchTransferFrom", "PermitDetails[] permitted", {"permitted": []}, DETAILS),
            "LETS somebody TAKE TOKENS through Permit2; ",
            ["approval"],
        ),
        (
            request("TransferWithAuthorization", MOVE, {"from": ME, "to": FRIEND, "value": 9}),
            f"MOVES 9 units of {TOKEN} to {FRIEND}; ",
            ["transfer"],
        ),
        (
            request("SafeTx", "address to, uint256 value, uint8 operation", {"to": FRIEND, "value": 9, "operation": 1}),
            f"RUNS FOREIGN CODE (delegatecall) of {FRIEND} as Safe {TOKEN}; ",
            ["control"],
        ),
        (
            request("SafeTx", "address to, uint256 value, uint8 operation", {"to": FRIEND, "value": 9, "operation": 0}),
            f"MAKES THE SAFE CALL {FRIEND} as Safe {TOKEN}; ",
            ["control"],
        ),
        (request("ForwardRequest", "bytes data", {"data": "0x"}), "LETS OTHERS ACT FOR THIS ACCOUNT; ", ["control"]),
        (request("OrderComponents", "bytes data", {"data": "0x"}), "OFFERS TOKENS IN AN ORDER; ", ["order"]),
        (
            MAIL,
            'signs "Mail" for "Ether Mail"; chain 1; contract 0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC;'
            ' from.name="Cow"; from.wallet=0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826; and more (0xbe609aee)',
            [],
        ),
        (
            request("Vote", "bool[] yes, int8 n, bytes b, bytes4 c, string s, bool[] none",
                {"yes": [True, False], "n": -3, "b": "0x" + "ab" * 33, "c": "0x01020304", "s": "\u202e\"", "none": []},
                chain=False),
            'signs "Vote" for "App"; NO CHAIN NAMED; yes[0]=true; yes[1]=false; n=-3;'
            ' b=0xabababababababababababababababab... (33 bytes); c=0x01020304; s="\\u202e\\""; none=[]',
            [],
        ),
    ],
    ids=lambda value: value["primaryType"] if isinstance(value, dict) else "",
)  # fmt: skip
def test_the_summary_says_the_dangerous_first_and_then_who_asks_for_what(
    data: Any, beginning: str, warnings: list[str]
) -> None:
    intent = signed(data)
    assert intent.summary.startswith(beginning)
    assert intent.details["warnings"] == warnings


def test_names_that_only_look_like_a_spender_are_no_accounts() -> None:
    data = request("Note", "string spender, string value", {"spender": FRIEND, "value": "5"})
    assert signed(data).summary.startswith('signs "Note"')


def test_the_summary_follows_the_declaration_and_not_the_order_of_the_json() -> None:
    turned = copy.deepcopy(MAIL)
    turned["message"] = dict(reversed(list(MAIL["message"].items())))  # type: ignore[attr-defined]
    turned["types"] = dict(reversed(list(MAIL["types"].items())))  # type: ignore[attr-defined]
    assert signed(turned) == signed(MAIL)


@settings(deadline=None, max_examples=100)
@given(name=st.text(max_size=300), primary=st.from_regex(r"[A-Za-z_$][A-Za-z0-9_$:]{0,127}", fullmatch=True))
def test_no_name_an_application_chooses_can_break_the_line(name: str, primary: str) -> None:
    data = request(primary, "address spender", {"spender": FRIEND})
    data["domain"]["name"] = name
    try:
        intent = signed(data)
    except BadIntent:
        return
    assert intent.summary.isascii()
    assert intent.summary.isprintable()
    assert intent.summary.startswith(f"LETS {FRIEND} TAKE")
