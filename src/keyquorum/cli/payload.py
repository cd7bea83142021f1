"""What a command works on: texts, bytes, JSON and amounts, read in one way everywhere.

A payload is written as the argument, comes from standard input when the argument is `-`, or from a file. Numbers are
exact or an error; what cannot be read is said in words that name it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

MAX_INPUT = 1 << 20
MAX_AMOUNT = 1 << 256
MAX_DIGITS = 80
DECIMALS = {"wei": 0, "gwei": 9, "ether": 18}
STANDARD_INPUT = "-"

FileOption = Annotated[Path | None, typer.Option("--file", help="Take it from a file, or from standard input (-).")]

_AMOUNT = re.compile(r"(?P<whole>[0-9]+)?(?:\.(?P<part>[0-9]+))? *(?P<unit>wei|gwei|ether|eth)?")
_HEX = re.compile(r"(?:0[xX])?((?:[0-9a-fA-F]{2})*)")


def read_source(source: str | Path) -> bytes:
    """Return what a file holds, or standard input for `-`; raise `ValueError` beyond 1 MiB, `OSError` without it."""
    if str(source) == STANDARD_INPUT:
        found = sys.stdin.buffer.read(MAX_INPUT + 1)
    else:
        with Path(source).open("rb") as file:
            found = file.read(MAX_INPUT + 1)
    if len(found) > MAX_INPUT:
        raise ValueError(f"more than {MAX_INPUT} bytes are not signed: sign a hash of them")
    return found


def read_message(text: str | None, file: Path | None, as_hex: bool) -> str | bytes:
    """Return the message of an argument (`-`: standard input) or a file: as it is, or as bytes written in hex."""
    if (text is None) == (file is None):
        raise ValueError("give the message, or - for standard input, or --file; one of them")
    if text is not None and text != STANDARD_INPUT:
        return read_hex(text, "the message") if as_hex else text
    found = read_source(STANDARD_INPUT if file is None else file)
    try:
        decoded = found.decode()
    except UnicodeDecodeError:
        raise ValueError("the message is not UTF-8: write it in hex, with --hex") from None
    return read_hex(decoded.strip(), "the message") if as_hex else decoded


def read_data(text: str) -> str:
    """Return call data as 0x hex, from the argument or from standard input (`-`)."""
    given = read_source(text).decode("ascii", "replace").strip() if text == STANDARD_INPUT else text
    return "0x" + read_hex(given, "call data").hex()


def read_hex(text: str, what: str) -> bytes:
    """Return the bytes of hex digits, with or without 0x in front; raise `ValueError` naming `what` they are for."""
    found = _HEX.fullmatch(text)
    if found is None:
        raise ValueError(f"{what} must be an even number of hex digits, 0x may stand in front")
    return bytes.fromhex(found[1])


def read_json(source: str) -> dict[str, Any]:
    """Return the JSON object in a file, on standard input (`-`), or given as such; raise `ValueError`."""
    from keyquorum.formats.strict_json import loads

    data = source.encode() if source.lstrip().startswith("{") else read_source(source)
    value = loads(data, MAX_INPUT, max_number_digits=MAX_DIGITS, max_int=MAX_AMOUNT)
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object")
    return value


def parse_amount(text: str) -> int:
    """Return wei for `1000`, `5gwei`, `0.1ether`, `0.1 eth`: exactly that, or `ValueError`."""
    found = _AMOUNT.fullmatch(text.strip(" ").lower())
    if found is None or len(text) > MAX_DIGITS + 10 or not (found["whole"] or found["part"]):
        raise ValueError(f"{text[:40]!r} is no amount: write 1000, 5gwei or 0.1ether")
    decimals = DECIMALS["ether" if found["unit"] == "eth" else found["unit"] or "wei"]
    part = (found["part"] or "").rstrip("0")
    if len(part) > decimals:
        advice = "name the unit, such as 0.1ether" if not found["unit"] else f"at most {decimals} digits behind the dot"
        raise ValueError(f"{text[:40]!r} is no whole number of wei: {advice}")
    amount: int = int(found["whole"] or "0") * 10**decimals + int(part.ljust(decimals, "0") or "0")
    if amount >= MAX_AMOUNT:
        raise ValueError(f"{text[:40]!r} is more than a transaction can hold")
    return amount


def finite(value: float | None) -> float | None:
    """Return an option's number; raise `BadParameter` for nan and inf, which pass every minimum and maximum."""
    if value is not None and not abs(value) < float("inf"):
        raise typer.BadParameter("it must be a finite number")
    return value
