"""evm_calls: the functions by which people lose money are named, with who and how much, whatever the encoder did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eth_abi import encode
from eth_hash.auto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from keyquorum.intents import evm_calls, read, transaction_intent

TOKEN = "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2"
FRIEND = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045"
ME = "0x1111111111111111111111111111111111111111"
MAX = 2**256 - 1
PERMIT_SINGLE = ((TOKEN, 2**160 - 1, 0, 0), FRIEND, 0)
ITEM = int.from_bytes(keccak(b"a key"), "big")
ITEM_SHOWN = f"0x{ITEM:064x}"[:14] + "..." + f"{ITEM:064x}"[-8:]
HEX_ITEM = f"0x{ITEM:064x}"


def argument_types(function: str) -> list[str]:
    """Split "f(a,(b,c)[],d)" into a, (b,c)[], d."""
    types, depth, current = [], 0, ""
    for character in function.partition("(")[2][:-1]:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and not depth:
            types.append(current)
            current = ""
        else:
            current += character
    return [*types, current]


def call_data(function: str, *arguments: Any) -> bytes:
    return keccak(function.encode())[:4] + encode(argument_types(function), arguments)


def intent_of(data: bytes, **changes: Any) -> Any:
    transaction = {"chainId": 1, "nonce": 1, "gas": 1, "gasPrice": 1, "to": TOKEN, "value": 0, "data": data, **changes}
    return read(transaction_intent(transaction))


SIGNED = (27, bytes(32), bytes(32))

EXAMPLES: list[tuple[str, tuple[Any, ...], str, list[str]]] = [
    ("approve(address,uint256)", (FRIEND, 5), f"LETS {FRIEND} TAKE 5 units (or this item) of {TOKEN}", ["approval"]),
    (
        "approve(address,uint256)",
        (FRIEND, MAX),
        f"LETS {FRIEND} TAKE UNLIMITED units (or this item) of {TOKEN}",
        ["approval"],
    ),
    (
        "approve(address,uint256)",
        (FRIEND, 0),
        f"LETS {FRIEND} TAKE 0 units (or this item) of {TOKEN}",
        ["approval"],
    ),
    (
        "increaseAllowance(address,uint256)",
        (FRIEND, 2**128),
        f"LETS {FRIEND} TAKE UNLIMITED units (or this item) of {TOKEN}",
        ["approval"],
    ),
    ("setApprovalForAll(address,bool)", (FRIEND, True), f"LETS {FRIEND} TAKE EVERY ITEM of {TOKEN}", ["approval"]),
    ("setApprovalForAll(address,bool)", (FRIEND, False), f"forbids {FRIEND} to move the items of {TOKEN}", []),
    (
        "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)",
        (ME, FRIEND, 7, 0, *SIGNED),
        f"LETS {FRIEND} TAKE 7 units of {TOKEN}; by a permit of {ME}",
        ["approval"],
    ),
    (
        "permit(address,address,uint256,uint256,bool,uint8,bytes32,bytes32)",
        (ME, FRIEND, 7, 0, True, *SIGNED),
        f"LETS {FRIEND} TAKE UNLIMITED units of {TOKEN}; by a permit of {ME}",
        ["approval"],
    ),
    (
        "permit(address,address,uint256,uint256,bool,uint8,bytes32,bytes32)",
        (ME, FRIEND, 7, 0, False, *SIGNED),
        f"forbids {FRIEND} to take units of {TOKEN}; by a permit of {ME}",
        [],
    ),
    (
        "approve(address,address,uint160,uint48)",
        (TOKEN, FRIEND, 2**160 - 1, 9),
        f"LETS {FRIEND} TAKE UNLIMITED units of {TOKEN} through Permit2",
        ["approval"],
    ),
    (
        "permit(address,((address,uint160,uint48,uint48),address,uint256),bytes)",
        (ME, PERMIT_SINGLE, b""),
        f"GIVES APPROVALS by permits of {ME}; through {TOKEN}",
        ["approval"],
    ),
    (
        "permit(address,((address,uint160,uint48,uint48)[],address,uint256),bytes)",
        (ME, ([], FRIEND, 0), b""),
        f"GIVES APPROVALS by permits of {ME}; through {TOKEN}",
        ["approval"],
    ),
    ("transfer(address,uint256)", (FRIEND, 10**18), f"sends {10**18} units of token {TOKEN} to {FRIEND}", []),
    (
        "transferFrom(address,address,uint256)",
        (ME, FRIEND, 3),
        f"moves 3 units (or this item) of {TOKEN} to {FRIEND}; from {ME}",
        [],
    ),
    (
        "safeTransferFrom(address,address,uint256)",
        (ME, FRIEND, ITEM),
        f"moves {ITEM_SHOWN} units (or this item) of {TOKEN} to {FRIEND}; and more (",
        [],
    ),
    (
        "safeTransferFrom(address,address,uint256,bytes)",
        (ME, FRIEND, 3, b"note"),
        f"moves 3 units (or this item) of {TOKEN} to {FRIEND}; from {ME}",
        [],
    ),
    (
        "safeTransferFrom(address,address,uint256,uint256,bytes)",
        (ME, FRIEND, 3, 4, b""),
        f"moves 4 of item 3 of {TOKEN}; to {FRIEND}; from {ME}",
        [],
    ),
    (
        "safeBatchTransferFrom(address,address,uint256[],uint256[],bytes)",
        (ME, FRIEND, [1, 2], [3, 4], b""),
        f"MOVES SEVERAL ITEMS of token {TOKEN} to {FRIEND}; from {ME}",
        ["bundle"],
    ),
    ("transferOwnership(address)", (FRIEND,), f"HANDS OVER THE CONTRACT {TOKEN} to {FRIEND}", ["control"]),
    ("upgradeTo(address)", (FRIEND,), f"REPLACES THE CODE of {TOKEN} by that of {FRIEND}", ["control"]),
    (
        "upgradeToAndCall(address,bytes)",
        (FRIEND, b""),
        f"REPLACES THE CODE of {TOKEN} by that of {FRIEND}",
        ["control"],
    ),
    (
        "execTransaction(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,bytes)",
        (FRIEND, 5, b"", 0, 0, 0, 0, ME, ME, b""),
        f"MAKES THE SAFE {TOKEN} CALL {FRIEND}; with 5 wei",
        ["bundle"],
    ),
    (
        "execTransaction(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,bytes)",
        (FRIEND, 5, b"", 1, 0, 0, 0, ME, ME, b""),
        f"RUNS FOREIGN CODE (delegatecall) of {FRIEND} as Safe {TOKEN}",
        ["control"],
    ),
    ("multicall(bytes[])", ([],), f"BUNDLES CALLS that are not shown, through {TOKEN}", ["bundle"]),
    ("multicall(uint256,bytes[])", (1, []), f"BUNDLES CALLS that are not shown, through {TOKEN}", ["bundle"]),
    ("execute(bytes,bytes[])", (b"", []), f"BUNDLES CALLS that are not shown, through {TOKEN}", ["bundle"]),
    ("execute(bytes,bytes[],uint256)", (b"", [], 1), f"BUNDLES CALLS that are not shown, through {TOKEN}", ["bundle"]),
]
PERMISSIONS: list[tuple[str, tuple[Any, ...]]] = [
    ("addPermittedAuthMethod(uint256,(uint256,bytes,bytes),uint256[])", (ITEM, (1, b"", b""), [1])),
    ("addPermittedAuthMethodScope(uint256,uint256,bytes,uint256)", (ITEM, 1, b"", 1)),
    ("addPermittedAction(uint256,bytes,uint256[])", (ITEM, b"", [])),
    ("addPermittedAddress(uint256,address,uint256[])", (ITEM, ME, [])),
    ("removePermittedAuthMethod(uint256,uint256,bytes)", (ITEM, 1, b"")),
    ("removePermittedAuthMethodScope(uint256,uint256,bytes,uint256)", (ITEM, 1, b"", 1)),
    ("removePermittedAction(uint256,bytes)", (ITEM, b"")),
    ("removePermittedAddress(uint256,address)", (ITEM, ME)),
    ("setDelay(uint256,uint256)", (ITEM, 1)),
    ("announceTransfer(uint256,address)", (ITEM, ME)),
    ("cancelPendingChange(uint256,uint256)", (ITEM, 1)),
    ("execute(uint256,bytes,uint256,uint256,bytes)", (ITEM, b"", 1, 1, b"")),
    ("grantAtMint(uint256,(uint256,bytes,bytes)[],uint256[][])", (ITEM, [], [])),
    (
        "batchAddRemoveAuthMethods(uint256,uint256[],bytes[],bytes[],uint256[][],uint256[],bytes[])",
        (ITEM, [], [], [], [], [], []),
    ),
]
EXAMPLES += [
    (
        "renounceKey(uint256)",
        (ITEM,),
        f"LETS THE LAST WAY INTO the key {HEX_ITEM} BE TAKEN AWAY in {TOKEN}",
        ["control"],
    )
]
EXAMPLES += [
    (function, arguments, f"CHANGES WHO MAY USE the key {HEX_ITEM} in {TOKEN}", ["control"])
    for function, arguments in PERMISSIONS
]


@pytest.mark.parametrize(
    ("function", "arguments", "beginning", "warnings"), EXAMPLES, ids=lambda value: str(value)[:30]
)
def test_a_known_call_says_what_it_asks(
    function: str, arguments: tuple[Any, ...], beginning: str, warnings: list[str]
) -> None:
    intent = intent_of(call_data(function, *arguments))
    assert intent.summary.startswith(beginning)
    assert intent.details["warnings"] == warnings
    assert intent.details["function"] == function


def test_there_is_an_example_for_every_known_function() -> None:
    assert {function for function, *_ in EXAMPLES} == set(evm_calls._FUNCTIONS)
    assert len(evm_calls._BY_SELECTOR) == len(evm_calls._FUNCTIONS)


def test_every_function_that_changes_permissions_in_our_contract_is_known() -> None:
    artifacts = Path(__file__).parents[2] / "src" / "keyquorum" / "chain" / "artifacts"
    abi = json.loads((artifacts / "PKPPermissions.json").read_text())["abi"]

    def kind(entry: dict[str, Any]) -> str:
        if not entry["type"].startswith("tuple"):
            return str(entry["type"])
        return f"({','.join(map(kind, entry['components']))}){entry['type'][5:]}"

    writing = {
        f"{entry['name']}({','.join(map(kind, entry['inputs']))})"
        for entry in abi
        if entry["type"] == "function" and entry["stateMutability"] in ("nonpayable", "payable")
        if entry["inputs"] and entry["inputs"][0]["name"] == "tokenId"
    }
    assert writing
    assert writing <= {function for function, *_ in EXAMPLES}


@pytest.mark.parametrize(
    ("function", "arguments"),
    [(function, arguments) for function, arguments, beginning, _ in EXAMPLES if "BUNDLES" not in beginning],
    ids=lambda value: str(value)[:30],
)
def test_a_known_call_with_arguments_no_encoder_makes_is_called_malformed(
    function: str, arguments: tuple[Any, ...]
) -> None:
    data = call_data(function, *arguments)
    for short in (data[:4], data[:35]):
        intent = intent_of(short)
        assert intent.summary.startswith(f"MALFORMED CALL of {function.partition('(')[0]}")
        assert intent.details["warnings"] == ["malformed_call"]
    if argument_types(function)[0] == "address":
        dirty = data[:4] + b"\1" + data[5:]
        assert "something before it" in intent_of(dirty).summary


@pytest.mark.parametrize(
    "data",
    [
        call_data("setApprovalForAll(address,bool)", FRIEND, True)[:-1] + b"\2",
        call_data("approve(address,address,uint160,uint48)", TOKEN, FRIEND, 1, 1)[:68] + b"\1" + bytes(63),
    ],
)
def test_numbers_too_wide_for_their_type_are_malformed(data: bytes) -> None:
    assert "MALFORMED CALL" in intent_of(data).summary


def test_bytes_behind_the_arguments_and_value_sent_along_are_shown() -> None:
    data = call_data("transfer(address,uint256)", FRIEND, 1)
    assert "data" not in intent_of(data).summary
    assert "data 69 bytes" in intent_of(data + b"\0").summary
    assert "sends 2.5 ETH along" in intent_of(data, value=25 * 10**17).summary


def test_a_call_to_nobody_is_a_contract_creation_whatever_its_data_begins_with() -> None:
    data = call_data("transfer(address,uint256)", FRIEND, 1)
    intent = intent_of(data, to="")
    assert intent.summary.startswith("CREATES A CONTRACT")
    assert intent.details["function"] is None


@settings(deadline=None, max_examples=300)
@given(
    selector=st.sampled_from(sorted(evm_calls._BY_SELECTOR)),
    data=st.binary(max_size=400)
    | st.lists(st.integers(0, 2**160 - 1), max_size=12).map(lambda words: encode(["uint256"] * len(words), words)),
    value=st.integers(0, 2**255),
)
def test_whatever_follows_a_known_selector_the_summary_stays_a_line_that_starts_with_the_action(
    selector: bytes, data: bytes, value: int
) -> None:
    intent = intent_of(selector + data, value=value)
    assert intent.summary.isascii()
    assert intent.summary.isprintable()
    assert 20 < len(intent.summary) <= 200
    assert not intent.summary.startswith("; and more")
