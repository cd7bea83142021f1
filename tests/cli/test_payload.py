"""What people give a command: amounts are exact or an error, `-` is standard input, what is wrong is said in words."""

from __future__ import annotations

import io
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyquorum.cli import payload
from keyquorum.cli.payload import DECIMALS, parse_amount

DIGITS = st.text("0123456789", max_size=40)
UNITS = st.sampled_from(["", "wei", "gwei", "ether", "eth", " ether", "ETH", "Gwei"])


def exact(whole: str, part: str | None, unit: str) -> Fraction | None:
    """The amount by rational numbers; None where it is written wrongly."""
    text = whole + ("" if part is None else "." + part)
    if not (whole or part) or part == "":
        return None
    name = unit.strip().lower() or "wei"
    return Fraction(text if whole else "0" + text) * 10 ** DECIMALS["ether" if name == "eth" else name]


@given(whole=DIGITS, part=st.none() | DIGITS, unit=UNITS)
def test_an_amount_is_exactly_what_was_written_or_an_error(whole: str, part: str | None, unit: str) -> None:
    expected = exact(whole, part, unit)
    text = whole + ("" if part is None else "." + part) + unit
    if expected is None or expected.denominator != 1 or expected >= 2**256:
        with pytest.raises(ValueError, match=r"amount|wei|hold"):
            parse_amount(text)
        return
    assert parse_amount(text) == expected


@given(st.integers(0, 2**256 - 1))
def test_every_amount_of_wei_is_read_back(amount: int) -> None:
    assert parse_amount(str(amount)) == amount
    assert parse_amount(f"{amount // 10**18}.{amount % 10**18:018}ether") == amount


def test_amounts_beyond_28_digits_are_not_rounded() -> None:
    assert parse_amount(str(2**100 + 1)) == 2**100 + 1
    assert parse_amount(str(2**256 - 1)) == 2**256 - 1
    with pytest.raises(ValueError, match="no whole number of wei"):
        parse_amount("1.00000000000000000000000000001ether")


@pytest.mark.parametrize(
    "text",
    ["", ".", "5.", "1. 5ether", "-1", "+1", "1e3", "1_000", "1,5ether", "nan", "inf", "\u0665", "1\u00a0", "0x10",
     "wei", "1 2wei", str(2**256), "9" * 5000, "1ether ether"],
)  # fmt: skip
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"amount|hold"):
        parse_amount(text)


def test_an_amount_without_its_unit_says_what_to_write() -> None:
    with pytest.raises(ValueError, match=r"name the unit, such as 0\.1ether"):
        parse_amount("0.1")


def given_input(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_a_dash_is_standard_input_for_every_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    given_input(monkeypatch, b"hello\n")
    assert payload.read_message("-", None, False) == "hello\n"
    given_input(monkeypatch, b"0x00ff\n")
    assert payload.read_message("-", None, True) == b"\x00\xff"
    given_input(monkeypatch, b"0x00ff\n")
    assert payload.read_data("-") == "0x00ff"
    given_input(monkeypatch, b'{"a": 1}')
    assert payload.read_json("-") == {"a": 1}
    given_input(monkeypatch, b"x")
    assert payload.read_message(None, Path("-"), False) == "x"


def test_a_message_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes("gr\u00fc\u00dfe".encode())
    assert payload.read_message(None, tmp_path / "text", False) == "gr\u00fc\u00dfe"
    (tmp_path / "text").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="write it in hex"):
        payload.read_message(None, tmp_path / "text", False)
    (tmp_path / "text").write_bytes(b"x" * (payload.MAX_INPUT + 1))
    with pytest.raises(ValueError, match="more than"):
        payload.read_message(None, tmp_path / "text", False)
    for text, file in ((None, None), ("a", tmp_path)):
        with pytest.raises(ValueError, match="one of them"):
            payload.read_message(text, file, False)


@pytest.mark.parametrize("text", ["deadbee", "0xzz", "0x 00", "\u0661\u0661"])
def test_hex_that_is_none_is_named_for_what_it_is(text: str) -> None:
    with pytest.raises(ValueError, match="the message must be an even number of hex digits"):
        payload.read_hex(text, "the message")
