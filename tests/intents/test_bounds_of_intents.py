"""How much of an intent is read, and shown: at each bound it is, beyond it the refusal says which bound it was."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from intents.test_evm_typed_data import one, refusal, signed, struct
from keyquorum.intents import BadIntent, eip712, lenient, show
from keyquorum.intents.intent import MAX_CHAIN_ID


def structs(count: int) -> dict[str, Any]:
    """Typed data of `count` structs, the domain among them, each with a list of the next."""
    names = [f"S{number}" for number in range(1, count - 1)]
    types = {name: struct(f"{after}[] x") for name, after in pairwise(names)}
    return one(f"{names[0]}[]", [], **types, **{names[-1]: struct("bool x")})


def nested(levels: int) -> dict[str, Any]:
    """Typed data with a list in a struct in a list, and so on."""
    deep: dict[str, Any] = {"x": []}
    for _ in range(levels):
        deep = {"x": [deep]}
    return one("Deep", deep, Deep=struct("Deep[] x"))


def test_typed_data_has_at_most_so_many_structs() -> None:
    assert signed(structs(eip712.MAX_STRUCTS)).digest
    assert f"2 to {eip712.MAX_STRUCTS} structs" in str(refusal(structs(eip712.MAX_STRUCTS + 1)))


def test_typed_data_is_nested_at_most_so_deep() -> None:
    # The message, its member, and two more with each level.
    levels = (eip712.MAX_DEPTH - 2) // 2
    assert signed(nested(levels)).digest
    assert f"{eip712.MAX_DEPTH} deep" in str(refusal(nested(levels + 1)))


@pytest.mark.parametrize("digit", ["1", "0"])
def test_a_number_has_at_most_so_many_digits(digit: str) -> None:
    assert lenient.read_integer(digit * lenient.MAX_DIGITS, "value") == int(digit * lenient.MAX_DIGITS)
    with pytest.raises(BadIntent):
        lenient.read_integer(digit * (lenient.MAX_DIGITS + 1), "value")


@pytest.mark.parametrize("size", [1, 7, 50, 500])
def test_a_summary_is_never_longer_than_its_bound_and_says_when_something_is_left_out(size: int) -> None:
    line = show.one_line(["x" * size] * 100, b"\x11" * 32)
    assert len(line) <= show.MAX_SUMMARY and line.endswith("; and more (0x11111111)")
    assert show.one_line(["x" * show.MAX_SUMMARY], b"\x11" * 32) == "x" * show.MAX_SUMMARY


def test_chains_have_numbers_up_to_the_largest_that_a_signature_can_carry() -> None:
    def on(chain: int) -> dict[str, Any]:
        data = one("bool", True)
        data["types"]["EIP712Domain"] = struct("string name", "uint256 chainId")
        return {**data, "domain": {"name": "App", "chainId": str(chain)}}

    assert signed(on(MAX_CHAIN_ID)).details["domain"]["chainId"] == MAX_CHAIN_ID
    assert refusal(on(MAX_CHAIN_ID + 1)).code == "bad_chain"
