"""evm_typed_data: the hashes of two other encoders, and refusal of all they disagree about."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eth_account.messages import _hash_eip191_message, encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from keyquorum.intents import BadIntent, Intent, eip712, read

ETHERS = json.loads((Path(__file__).parent.parent / "vectors" / "ethers" / "typed_data.json").read_text())["cases"]
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


def signed(typed_data: Any, chain_id: int | None = None) -> Intent:
    return read({"kind": "evm-typed-data", "typed_data": typed_data}, chain_id)


def refusal(typed_data: Any, chain_id: int | None = None) -> BadIntent:
    with pytest.raises(BadIntent) as caught:
        signed(typed_data, chain_id)
    assert caught.value.hint
    return caught.value


def one(kind: str, value: Any, **types: Any) -> dict[str, Any]:
    """Return typed data whose message has one field `x`."""
    return {
        "types": {"EIP712Domain": struct("string name"), "One": struct(f"{kind} x"), **types},
        "primaryType": "One",
        "domain": {"name": "Test"},
        "message": {"x": value},
    }


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


# ---- agreement with others --------------------------------------------------------------------------------------


def test_the_example_of_the_standard_has_its_hashes() -> None:
    intent = signed(MAIL, 1)
    types = eip712.read_types(MAIL["types"], "Mail")
    assert (
        eip712.encode_type(types, "Mail")
        == "Mail(Person from,Person to,string contents)Person(string name,address wallet)"
    )
    values = eip712.Values(types).read("EIP712Domain", MAIL["domain"], "domain")
    separator = eip712.Hasher(types).struct("EIP712Domain", values)
    assert separator.hex() == "f2cee375fa42b42143804025fc449deafd50cc031ca257e0b194a650a912090f"
    assert intent.digest.hex() == "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2"
    assert intent.scope == 4


@pytest.mark.parametrize("case", ETHERS, ids=lambda case: case["digest"][:8])
def test_typed_data_hashed_by_ethers_has_the_same_digest(case: dict[str, Any]) -> None:
    assert "0x" + signed(case["typed_data"]).digest.hex() == case["digest"]


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 2**32))
def test_random_typed_data_has_the_digest_of_eth_account_and_a_proper_summary(
    make_typed_data: Callable[[int], dict[str, Any]], seed: int
) -> None:
    data = make_typed_data(seed)
    intent = signed(data)
    assert intent.digest == _hash_eip191_message(encode_typed_data(full_message=copy.deepcopy(data)))
    assert intent.summary.isascii()
    assert intent.summary.isprintable()
    assert 10 < len(intent.summary) <= 200
    assert not intent.summary.startswith("; and more")
    assert signed(json.loads(json.dumps(data))) == intent
    json.dumps(dict(intent.details))


def test_numbers_may_be_written_in_three_ways_and_mean_the_same() -> None:
    digests = {signed(one("uint256", value)).digest for value in (255, "255", "0xff", "0x00FF")}
    assert len(digests) == 1
    assert signed(one("int8", -1)).digest == signed(one("int8", "-1")).digest != digests.pop()


def test_recursive_types_are_hashed_as_far_as_their_arrays_go() -> None:
    tree = one("Tree", {"n": 1, "sons": [{"n": 2, "sons": []}]}, Tree=struct("uint8 n", "Tree[] sons"))
    assert signed(tree).digest == _hash_eip191_message(encode_typed_data(full_message=copy.deepcopy(tree)))


def test_struct_names_with_a_colon_are_signed_as_one_exchange_uses_them() -> None:
    data = request("Exchange:Withdraw", "string to", {"to": "x"})
    assert signed(data).digest == _hash_eip191_message(encode_typed_data(full_message=copy.deepcopy(data)))


# ---- strictness -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("bool", [True, False], [0, 1, "true", None]),
        ("string", ["", "é"], [5, None, ["a"], "\ud800", True]),
        ("address", [FRIEND, FRIEND.lower(), "0x" + FRIEND[2:].upper()],
            [FRIEND[:-1] + "6", FRIEND[:-2], FRIEND + "00", FRIEND[2:], "", 5, None, "0x" + " " * 40,
             FRIEND.swapcase()]),
        ("bytes", ["0x", "0xab"], ["", "ab", "0xa", "text", 5, None, [1], "0x a"]),
        ("bytes4", ["0x12345678"], ["0x123456", "0x1234567890", "0x", "abcd", 5]),
        ("bytes32", ["0x" + "00" * 32], ["0x" + "00" * 31, "0x" + "00" * 33]),
        ("uint8", [0, 255, "255", "0xff"], [-1, 256, "256", "0x100", True, None, "", "-0", "01",
            "+1", " 1", "1 ", "1_0", "1e2", "0x", "0xg", "\u0661", 1.0, [1]]),
        ("uint256", [2**256 - 1, str(2**256 - 1), "0x" + "f" * 64], [2**256, str(2**256),
            "0x1" + "0" * 64, "9" * 79, "9" * 10**6]),
        ("int8", [-128, 127, "-128"], [-129, 128, "-129", "--1", "-0x1"]),
        ("int256", [-(2**255), 2**255 - 1], [-(2**255) - 1, 2**255]),
        ("uint8[]", [[], [1, 2]], [None, 1, "12", {"0": 1}, [None], [256], (1, 2)]),
        ("uint8[2]", [[1, 2]], [[1], [1, 2, 3], []]),
        ("uint8[2][]", [[], [[1, 2]]], [[[1]], [1, 2], [[1, 2], [3]]]),
        ("uint8[][2]", [[[], [1]]], [[[1]], [1, 2], [[], [], []]]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_each_type_takes_its_values_and_no_others(kind: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert signed(one(kind, value)).digest
    for value in bad:
        error = refusal(one(kind, value))
        assert error.code == "bad_typed_data"
        assert "message.x" in str(error)
        assert len(str(error)) < 300


@pytest.mark.parametrize(
    "kind",
    [
        "uint", "int", "uint7", "uint0", "uint08", "uint264", "int-8", "bytes0", "bytes33", "bytes01", "byte", "fixed",
        "fixed128x18", "function", "Missing", "uint8[0]", "uint8[01]", "uint8[-1]", "uint8[", "uint8]", "uint8[]x",
        "uint8 []", "[]", "",
        "uint8,uint8 y", "uint8[][][][][][][][][]", "uint8[99999]", "string)x(", "Ünsigned", "EIP712Domain", "uint8\n",
    ],
)  # fmt: skip
def test_types_that_are_not_of_the_standard_are_refused(kind: str) -> None:
    data = one("uint8", 1)
    data["types"]["One"][0]["type"] = kind
    assert refusal(data).code == "bad_typed_data"


@pytest.mark.parametrize(
    ("kind", "value"), [("uint8[0]", []), ("uint8[01]", [1]), ("uint8[][][][][][][][][]", []), ("uint8[+1]", [1])]
)
def test_a_malformed_type_is_refused_even_if_the_value_would_fit(kind: str, value: Any) -> None:
    assert "malformed type" in str(refusal(one(kind, value)))


def changed(path: str, value: Any, data: Any = MAIL) -> Any:
    """Return a copy with the value at the dotted path replaced, or removed when it is `...`."""
    data = copy.deepcopy(data)
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place = data
    for part in way:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("types", ..., "missing_field"),
        ("primaryType", ..., "missing_field"),
        ("domain", ..., "missing_field"),
        ("message", ..., "missing_field"),
        ("extra", 1, "unknown_field"),
        ("types", [], "wrong_type"),
        ("primaryType", None, "wrong_type"),
        ("domain", None, "wrong_type"),
        ("message", [], "wrong_type"),
        ("types", {}, "bad_typed_data"),
        ("types.EIP712Domain", ..., "bad_typed_data"),
        ("types.Mail", ..., "bad_typed_data"),
        ("types.Person", ..., "bad_typed_data"),
        ("types.Person", [], "bad_typed_data"),
        ("types.Person", None, "bad_typed_data"),
        ("types.Person", struct(*[f"bool x{i}" for i in range(eip712.MAX_FIELDS + 1)]), "bad_typed_data"),
        ("types.Unused", struct("bool x"), "bad_typed_data"),
        ("types.bytes7", struct("bool x"), "bad_typed_data"),
        ("types.uint", struct("bool x"), "bad_typed_data"),
        ("types.A(bool x)", struct("bool x"), "bad_typed_data"),
        ("types.", struct("bool x"), "bad_typed_data"),
        ("types.Person.0", {"name": "name"}, "missing_field"),
        ("types.Person.0", {"name": "name", "type": "string", "indexed": True}, "unknown_field"),
        ("types.Person.0", {"name": "name", "type": 5}, "wrong_type"),
        ("types.Person.0", ["name", "string"], "wrong_type"),
        ("types.Person.0.name", "wallet", "bad_typed_data"),
        ("types.Person.0.name", "", "bad_typed_data"),
        ("types.Person.0.name", "a,uint8 b", "bad_typed_data"),
        ("types.Person.0.name", "a b", "bad_typed_data"),
        ("types.Person.0.name", "1a", "bad_typed_data"),
        ("types.Person.0.name", "x" * 129, "bad_typed_data"),
        ("types.Person.0.name", "na\u200bme", "bad_typed_data"),
        ("primaryType", "EIP712Domain", "bad_typed_data"),
        ("primaryType", "Person", "bad_typed_data"),
        ("primaryType", "Nothing", "bad_typed_data"),
        ("message.contents", ..., "bad_typed_data"),
        ("message.extra", 1, "bad_typed_data"),
        ("message.from", None, "bad_typed_data"),
        ("message.from.wallet", ..., "bad_typed_data"),
        ("message.from.extra", 1, "bad_typed_data"),
        ("message.from", ["Cow"], "bad_typed_data"),
        ("domain.salt", "0x" + "00" * 32, "bad_typed_data"),
        ("domain.name", ..., "bad_typed_data"),
        ("domain.chainId", None, "bad_typed_data"),
        ("domain.chainId", True, "bad_typed_data"),
        ("domain.chainId", 0, "bad_chain"),
        ("domain.chainId", str(2**256 - 1), "bad_chain"),
        ("types.EIP712Domain.0.name", "title", "bad_typed_data"),
        ("types.EIP712Domain.2.type", "uint64", "bad_typed_data"),
        ("types.EIP712Domain.0.type", "bytes", "bad_typed_data"),
        ("types.EIP712Domain", [], "bad_typed_data"),
        ("types.EIP712Domain.1.name", "name", "bad_typed_data"),
    ],
)
def test_one_wrong_place_in_a_good_example_is_refused(path: str, value: Any, code: str) -> None:
    assert refusal(changed(path, value)).code == code


SNEAKY_NAMES = [
    "A(bool x)",
    "A,B",
    "A B",
    "",
    "1A",
    "Ä",
    "A" * 129,
    "uint",
    "uint7",
    "bytes33",
    "fixed",
    "function",
    "bool",
]


@pytest.mark.parametrize("name", SNEAKY_NAMES)
def test_a_struct_name_that_is_used_must_be_an_identifier_and_no_elementary_type(name: str) -> None:
    as_primary = {**one("bool", True), "primaryType": name}
    as_primary["types"] = {"EIP712Domain": struct("string name"), name: struct("bool x")}
    assert "struct name" in str(refusal(as_primary))
    as_member = one("bool", {"x": True}, **{name: struct("bool x")})
    as_member["types"]["One"][0]["type"] = name
    assert refusal(as_member).code == "bad_typed_data"


@pytest.mark.parametrize("name", ["a,uint8 b", "a b", "", "1a", "x" * 129, "na\u200bme", "a)", "a:b", "é"])
def test_a_field_name_that_could_change_the_encoded_type_is_refused(name: str) -> None:
    data = one("bool", True)
    data["types"]["One"] = [{"name": name, "type": "bool"}]
    data["message"] = {name: True}
    assert "malformed name" in str(refusal(data))


def test_structs_have_fields_of_different_names_and_not_too_many() -> None:
    data = one("bool", True)
    data["types"]["One"] *= 2
    assert "declared twice" in str(refusal(data))
    assert "1 to 64 fields" in str(refusal(one("Empty", {}, Empty=[])))
    wide = struct(*[f"bool x{i}" for i in range(eip712.MAX_FIELDS + 1)])
    assert "1 to 64 fields" in str(refusal(one("Wide", {f"x{i}": True for i in range(65)}, Wide=wide)))
    narrow = one("Wide", {f"x{i}": True for i in range(64)}, Wide=wide[:64])
    assert signed(narrow).digest
    assert "struct name" in str(refusal({**one("bool", True), "types": {5: struct("bool x"), "One": struct("bool x")}}))
    assert "an array of" in str(refusal(one("Odd", {"x": True}, Odd={"x": "bool"})))


def test_the_domain_is_neither_the_message_nor_a_part_of_it() -> None:
    assert "cannot be the primary type" in str(refusal(changed("primaryType", "EIP712Domain")))
    assert "may not be an EIP712Domain" in str(refusal(one("EIP712Domain", {"name": "Test"})))


def test_the_details_hold_the_decoded_values() -> None:
    data = request(
        "All",
        "address a, address[] b, bytes c, uint8 d, All[] e",
        {"a": ME.lower(), "b": [FRIEND.lower()], "c": "0xAB", "d": "0x05", "e": []},
    )
    assert signed(data).details["message"] == {"a": ME, "b": [FRIEND], "c": "0xab", "d": 5, "e": []}
    assert signed(data).details["domain"] == {"name": "App", "chainId": 1, "verifyingContract": TOKEN}
    assert signed(data).details["primary_type"] == "All"
    assert "b[0]=0xd8dA" in signed(request("B", "address[] b", {"b": [FRIEND.lower()]}, chain=False)).summary


def test_the_chain_of_the_domain_must_be_the_one_of_the_policy() -> None:
    assert signed(MAIL, 1) == signed(MAIL)
    assert refusal(MAIL, 2).code == "wrong_chain"
    assert signed(changed("domain.chainId", "0x89"), 137).details["domain"]["chainId"] == 137
    no_chain = request("Vote", "bool yes", {"yes": True}, chain=False)
    assert signed(no_chain, 5).summary == 'signs "Vote" for "App"; NO CHAIN NAMED; yes=true'


def test_too_many_values_or_structs_are_refused_before_they_cost_much() -> None:
    assert signed(one("uint8[]", [1] * (eip712.MAX_VALUES - 4))).digest
    assert "values" in str(refusal(one("uint8[]", [1] * (eip712.MAX_VALUES - 3))))
    many = {f"S{i}": struct(f"S{i + 1} x" if i < 70 else "bool x") for i in range(71)}
    assert "structs" in str(refusal(one("S0", {}, **many)))
    deep: Any = {"x": []}
    for _ in range(40):
        deep = {"x": [deep]}
    assert "deep" in str(refusal(one("Deep", deep, Deep=struct("Deep[] x"))))
    endless = one("Endless", {}, Endless=struct("Endless x"))
    assert refusal(endless).code == "bad_typed_data"
    square = {f"S{i}": struct(*[f"S{j} x{j}" for j in range(60)]) for i in range(60)}
    assert refusal(one("S0", {}, **square)).code == "bad_typed_data"


def test_a_value_that_differs_in_anything_has_another_digest() -> None:
    values = ["", "a", "a\0", "é", "0x", "0x00"]
    digests = {signed(one("string", value)).digest for value in values}
    digests |= {signed(one("bytes", value)).digest for value in ("0x00", "0x0000")}
    digests |= {signed(one("uint8[]", value)).digest for value in ([], [0], [0, 0])}
    assert len(digests) == len(values) + 2 + 3
    # What the standard itself makes equal stays equal: the hash of an empty list is that of empty bytes, but the
    # type's name differs.
    assert signed(one("bytes", "0x")).digest != signed(one("uint8[]", [])).digest
