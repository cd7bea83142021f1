"""JSON from strangers: one decoder for the API, the login proofs and the intents, stricter than the standard.

Two readers of the same bytes must never see two different values, and no body may cost more than its length.
So beyond RFC 8259 this refuses: anything but UTF-8 (a byte order mark too), an object that repeats a key,
`NaN` and `Infinity`, fractions and exponents (amounts are integers or strings), integers beyond a bound,
half a surrogate pair, and nesting beyond a bound.

Where the cost goes. Nesting is bounded *before* parsing, so that the parser's recursion is bounded by us:
a body with few brackets passes on a count; otherwise strings are cut out by one linear pattern, all that is
no bracket is deleted, and `[]` is erased `max_depth` times, which empties the shape of every document that
is not nested deeper. Numbers are never converted before their length was seen: the parser hands their text
to our hook. Both run at the speed of C; a small body takes a few microseconds.

`fields` then reads an object: which names must and may be there, and what each must be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NoReturn

INT64 = 2**63
_BOM = b"\xef\xbb\xbf"
# An unterminated string runs to the end of the data: without that alternative, a body of escaped quotes would
# make the pattern start again at each of them and cost the square of its length.
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)'
_STRINGS = re.compile(_STRING, re.DOTALL)
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKET = bytes(sorted(set(range(256)) - set(b"[]{}")))
_SHOWN = 60
_SHOWN_TOKEN = 200

Parser = Callable[[Any], Any]
Rules = Mapping[str, type | Parser]


class BadJson(ValueError):
    """What was sent is not JSON we accept; `code` for programs, `position` the byte offset where it is known."""

    def __init__(self, code: str, message: str, position: int | None = None) -> None:
        self.code = code
        self.position = position
        super().__init__(message if position is None else f"{message} at byte {position}")


def loads(
    data: bytes,
    max_bytes: int,
    *,
    max_depth: int = 32,
    max_number_digits: int = 20,
    max_int: int = INT64,
    allow_floats: bool = False,
) -> Any:
    """Return the value of a JSON document, or raise `BadJson`.

    Integers have at most `max_number_digits` digits and an absolute value below `max_int`. `max_depth` counts
    arrays and objects around a value. `allow_floats` admits finite fractions of at most that many digits.
    """
    if len(data) > max_bytes:
        raise BadJson("too_large", f"the body has {len(data)} bytes, at most {max_bytes} are read")
    if data[:3] == _BOM:
        raise BadJson("byte_order_mark", "JSON starts without a byte order mark", 0)
    if data.count(b"[") + data.count(b"{") > max_depth:
        _refuse_deep(data, max_depth)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BadJson("not_utf8", "the body is not UTF-8", error.start) from None
    try:
        value = _decoder(max_number_digits, max_int, allow_floats).decode(text)
    except json.JSONDecodeError as error:
        raise BadJson("syntax", f"not JSON: {error.msg}", len(text[: error.pos].encode())) from None
    except _BadToken as error:
        raise BadJson(error.code, str(error), _position(data, error.token)) from None
    if b"\\u" in data:
        _refuse_surrogates(value)
    return value


class _BadToken(Exception):
    """A number or constant that is refused; its place is looked up afterwards, since hooks are not told it."""

    def __init__(self, code: str, message: str, token: str) -> None:
        self.code = code
        self.token = token
        super().__init__(message)


def _position(data: bytes, token: str) -> int | None:
    # The parser goes from left to right and stops at the first refusal, so the first match is the culprit;
    # the beginning of a long token is enough, since no accepted number is that long.
    start = re.escape(token[:_SHOWN_TOKEN].encode())
    for match in re.finditer(_STRING + b"|(" + start + b")", data, re.DOTALL):
        if match[1]:
            return match.start()
    return None


def _refuse_deep(data: bytes, max_depth: int) -> None:
    """Raise `BadJson` unless at most `max_depth` arrays and objects are around any value; linear."""
    shape = _STRINGS.sub(b"", data).translate(_TO_SQUARE, _NO_BRACKET)
    for _ in range(max_depth):
        shape = shape.replace(b"[]", b"")
    opening = shape.count(b"[")
    if opening <= max_depth:
        # Too deep by less than twice, or brackets without a partner: the parser says where, and copes with it.
        for _ in range(opening):
            shape = shape.replace(b"[]", b"")
    if opening > max_depth or (opening and not shape):
        raise BadJson("too_deep", f"at most {max_depth} arrays and objects may be nested")


def _refuse_surrogates(value: object) -> None:
    """Raise `BadJson` when a string holds half a surrogate pair: it has no UTF-8 form. Depth is bounded."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise BadJson("lone_surrogate", f"half a surrogate pair in the string {_shown(value)}") from None
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_surrogates(key)
            _refuse_surrogates(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_surrogates(item)


@lru_cache(maxsize=16)
def _decoder(max_number_digits: int, max_int: int, allow_floats: bool) -> json.JSONDecoder:
    def integer(token: str) -> int:
        if len(token) - (token[0] == "-") > max_number_digits:
            raise _BadToken("number_too_long", f"numbers have at most {max_number_digits} digits", token)
        value = int(token)
        if not -max_int < value < max_int:
            raise _BadToken("number_out_of_range", f"the number {token} is out of range: write it as a string", token)
        return value

    def fraction(token: str) -> float:
        if not allow_floats:
            raise _BadToken("not_an_integer", "numbers are written without fraction and exponent", token)
        if sum(map(str.isdigit, token)) > max_number_digits:
            raise _BadToken("number_too_long", f"numbers have at most {max_number_digits} digits", token)
        value = float(token)
        if value in (float("inf"), float("-inf")):
            raise _BadToken("number_out_of_range", f"the number {token} is out of range", token)
        return value

    return json.JSONDecoder(
        object_pairs_hook=_object, parse_int=integer, parse_float=fraction, parse_constant=_constant
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise BadJson("duplicate_key", f"the key {_shown(key)} occurs twice in one object")
            seen.add(key)
    return value


def _constant(token: str) -> NoReturn:
    raise _BadToken("not_a_number", f"{token} is not JSON", token)


def _shown(text: str) -> str:
    return json.dumps(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


# ---- reading an object ------------------------------------------------------------------------------------------

_TYPE_NAMES = {str: "a string", int: "an integer", bool: "true or false", list: "an array", dict: "an object"}
_NOTHING: Rules = {}


def fields(
    value: object,
    required: Rules,
    optional: Rules = _NOTHING,
    where: str = "the body",
) -> dict[str, Any]:
    """Return what `value` holds under each name, parsed; an absent optional name is None.

    A field is given by its exact type (true is no integer), or by a parser that returns the value or raises
    `ValueError`. Raises `BadJson` with code `wrong_type`, `missing_field`, `unknown_field` or `bad_value`.
    """
    if type(value) is not dict:
        raise BadJson("wrong_type", f"{where} must be an object, not {_type_name(value)}")
    for name in value:
        if name not in required and name not in optional:
            raise BadJson("unknown_field", f"{where} has an unknown field {_shown(str(name))}")
    found: dict[str, Any] = dict.fromkeys(optional)
    for name, rule in required.items():
        if name not in value:
            raise BadJson("missing_field", f"{where} lacks the field {_shown(name)}")
        found[name] = _field(value[name], rule, name, where)
    for name, rule in optional.items():
        if name in value:
            found[name] = _field(value[name], rule, name, where)
    return found


def _field(value: object, rule: type | Parser, name: str, where: str) -> Any:
    if isinstance(rule, type):
        if type(value) is not rule:
            expected = _TYPE_NAMES.get(rule, rule.__name__)
            raise BadJson("wrong_type", f"{_shown(name)} in {where} must be {expected}, not {_type_name(value)}")
        return value
    try:
        return rule(value)
    except BadJson:
        raise
    except ValueError as error:
        raise BadJson("bad_value", f"{_shown(name)} in {where}: {error}") from None


def _type_name(value: object) -> str:
    return "null" if value is None else _TYPE_NAMES.get(type(value), type(value).__name__)


def hex_bytes(size: int | None = None, max_size: int | None = None) -> Parser:
    """Return a parser of "0x" and an even number of hex digits: exactly `size` bytes, or at most `max_size`."""

    def parse(value: object) -> bytes:
        if type(value) is not str or value[:2] != "0x":
            raise ValueError("must be a string of hex digits after 0x")
        if max_size is not None and len(value) > 2 + 2 * max_size:
            raise ValueError(f"must have at most {max_size} bytes")
        try:
            data = bytes.fromhex(value[2:])
        except ValueError:
            raise ValueError("must be an even number of hex digits after 0x") from None
        if 2 * len(data) + 2 != len(value):  # fromhex skips blanks
            raise ValueError("must not contain blanks")
        if size is not None and len(data) != size:
            raise ValueError(f"must have {size} bytes, not {len(data)}")
        return data

    return parse


def text(max_length: int, min_length: int = 0) -> Parser:
    """Return a parser of strings with `min_length` to `max_length` characters."""

    def parse(value: object) -> str:
        if type(value) is not str:
            raise ValueError(f"must be a string, not {_type_name(value)}")
        if not min_length <= len(value) <= max_length:
            raise ValueError(f"must have {min_length} to {max_length} characters, not {len(value)}")
        return value

    return parse


def integer(low: int, high: int) -> Parser:
    """Return a parser of integers from `low` to `high`, both included."""

    def parse(value: object) -> int:
        if type(value) is not int:
            raise ValueError(f"must be an integer, not {_type_name(value)}")
        if not low <= value <= high:
            raise ValueError(f"must be from {low} to {high}")
        return value

    return parse


def list_of(rule: type | Parser, max_length: int, min_length: int = 0) -> Parser:
    """Return a parser of arrays with `min_length` to `max_length` items, each read by `rule`."""

    def parse(value: object) -> list[Any]:
        if type(value) is not list:
            raise ValueError(f"must be an array, not {_type_name(value)}")
        if not min_length <= len(value) <= max_length:
            raise ValueError(f"must have {min_length} to {max_length} items, not {len(value)}")
        return [_field(item, rule, f"item {index}", "the array") for index, item in enumerate(value)]

    return parse
