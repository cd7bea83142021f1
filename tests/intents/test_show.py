"""show: amounts with every digit, strings that stay in their quotes, lines that never hide their end."""

from __future__ import annotations

import json

import pytest
from eth_utils import from_wei, to_checksum_address
from hypothesis import given, settings
from hypothesis import strategies as st

from keyquorum.evm.address import to_checksum
from keyquorum.intents import show

DIGEST = bytes.fromhex("abcdef12" + "00" * 28)


@settings(deadline=None)
@given(raw=st.binary(min_size=20, max_size=20))
def test_addresses_have_the_checksum_of_the_standard(raw: bytes) -> None:
    assert to_checksum(raw) == to_checksum_address(raw)
    assert show.short(raw).partition("...")[0] == to_checksum(raw)[:8]


@pytest.mark.parametrize(
    ("wei", "shown"),
    [
        (0, "0 ETH"),
        (1, "0.000000000000000001 ETH"),
        (10**18, "1 ETH"),
        (10**19, "10 ETH"),
        (1_500_000_000_000_000_001, "1.500000000000000001 ETH"),
        (2**256 - 1, "115792089237316195423570985008687907853269984665640564039457.584007913129639935 ETH"),
    ],
)
def test_amounts_show_every_digit(wei: int, shown: str) -> None:
    assert show.coins(wei, 1) == shown


@settings(deadline=None)
@given(wei=st.integers(0, 2**256 - 1))
def test_amounts_are_exact(wei: int) -> None:
    whole, _, rest = show.coins(wei, 1).removesuffix(" ETH").partition(".")
    assert int(whole) * 10**18 + int(rest.ljust(18, "0")) == wei
    if wei < 2**90:
        assert float(from_wei(wei, "ether")) == pytest.approx(float(f"{whole}.{rest or 0}"))


def test_a_coin_is_named_only_where_it_is_known() -> None:
    assert show.coins(1, 137).endswith(" POL")
    assert show.coins(10**18, 99_999) == "1 native coins"


def test_huge_numbers_are_unlimited_as_amounts_and_shortened_as_items() -> None:
    assert show.units(2**128 - 1) == f"{2**128 - 1} units"
    assert show.units(2**128) == "UNLIMITED units"
    assert show.item(2**128 - 1) == str(2**128 - 1)
    assert show.item(2**256 - 2) == "0xffffffffffff...fffffffe"


@settings(deadline=None)
@given(text=st.text(max_size=80))
def test_a_quoted_string_is_printable_ascii_and_says_exactly_what_it_quotes(text: str) -> None:
    shown = show.quoted(text)
    assert all(32 <= ord(character) < 127 for character in shown)
    if shown.endswith('"'):
        assert json.loads(shown) == text
        assert len(shown) <= show.MAX_QUOTED + 2
    else:
        inside, _, rest = shown.rpartition('"... (')
        assert text.startswith(json.loads(inside + '"'))
        assert rest.startswith(f"{len(text.encode())} bytes, keccak 0x")


@pytest.mark.parametrize(
    "bad", ["\n", "\r", "\t", "\x00", "\x1b[31m", "\x7f", "\x85", "\u202e", "\u2066", "\u200b", "\u2028", '"', "\\"]
)
def test_characters_that_could_deceive_are_escaped(bad: str) -> None:
    shown = show.quoted(f"a{bad}b")
    assert shown.isascii()
    assert shown.isprintable()
    assert json.loads(shown) == f"a{bad}b"
    assert shown.count('"') - shown.count('\\"') == 2


def test_long_strings_that_differ_only_behind_the_cut_look_different() -> None:
    assert show.quoted("x" * 100 + "1") != show.quoted("x" * 100 + "2")


def test_parts_are_shown_whole_or_replaced_by_the_digest() -> None:
    assert show.one_line(["a", "b"], DIGEST) == "a; b"
    full = ["x" * 99, "y" * 99]
    assert show.one_line(full, DIGEST) == "; ".join(full)
    assert show.one_line([*full, "z"], DIGEST) == "x" * 99 + "; and more (0xabcdef12)"
    assert show.one_line(["x" * 99, "y" * 100, "z"], DIGEST) == "x" * 99 + "; and more (0xabcdef12)"


def test_parts_behind_the_end_are_not_even_made() -> None:
    def parts():  # type: ignore[no-untyped-def]
        yield "x" * 150
        yield "y" * 150
        raise AssertionError("asked for a part that has no room")

    assert show.one_line(parts(), DIGEST).startswith("x" * 150 + "; and more")
