"""JSON from strangers: one decoder for the API, the login proofs and the intents, stricter than the standard.

Two readers of the same bytes must never see two different values, and no body may cost more than its length.
So beyond RFC 8259 this refuses: anything but UTF-8 (a byte order mark too), an object that repeats a key,
`NaN` and `Infinity`, fractions and exponents (amounts are integers or strings), integers beyond a bound,
half a surrogate pair, and nesting beyond a bound.

Where the cost goes. No step runs Python for each value, so that a mebibyte of anything costs milliseconds. First the
strings are cut out, and what is left, the *shape*, says how many values there are, how deeply they are nested, and how
long numbers are: all of it by operations on whole byte strings. What has more than `MAX_PARTS` parts or too much of
anything else is refused unread. Then `msgspec` decodes it. It keeps the last of members with one name; they are noticed
because the value, encoded again, has fewer colons than the document. A document that is refused is read once more by a
slow and talkative reader, the standard library's with hooks, to say what is wrong and where: unless it is long.

`fields` then reads an object: which names must and may be there, and what each must be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NoReturn

import msgspec
import numpy as np

INT64 = 2**63
# Commas, colons, brackets (both of each pair) and strings.
MAX_PARTS = 25_000
# What is longer, in parts or bytes, is refused with fewer words.
EXPLAINED, EXPLAINED_BYTES = 2_000, 64 * 1024
_BOM = b"\xef\xbb\xbf"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)'
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_MARK = bytes(sorted(set(range(256)) - set(b',:[{}]"')))
_NO_BRACKET = bytes(sorted(set(range(256)) - set(b"[]{}")))
_PUNCTUATION = b"+-.eE"
_TO_ZERO = bytes.maketrans(b"123456789", b"0" * 9)
_DIGITS_ONLY = bytes(code if code in b"0123456789" else 0x20 for code in range(256))
_NUMBERS_ONLY = bytes(code if code in b"0123456789" + _PUNCTUATION else 0x20 for code in range(256))
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
    plain = _without_escapes(data)
    shape = _shape(plain)
    marks = _marks(shape)
    if marks.count(b"[") + marks.count(b"{") > max_depth:
        _refuse_deep(marks, max_depth)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BadJson("not_utf8", "the body is not UTF-8", error.start) from None
    bounds = (max_number_digits, max_int, allow_floats)
    try:
        _check_numbers(shape, *bounds)
        value = _FAST[allow_floats].decode(data)
        _refuse_repeated(value, plain)
    except (_BadToken, msgspec.DecodeError, BadJson) as error:
        if len(marks) <= EXPLAINED and len(data) <= EXPLAINED_BYTES:
            read_slowly(data, text, *bounds)
        raise _in_short(error) from None
    return value


def read_slowly(data: bytes, text: str, max_number_digits: int, max_int: int, allow_floats: bool) -> Any:
    """Return the value of `data`, whose text is `text`, or raise `BadJson` that says what is wrong and where.

    It accepts what `loads` accepts, but spends Python on every number and object. Depth is for the caller to bound.
    """
    try:
        value = _decoder(max_number_digits, max_int, allow_floats).decode(text)
    except json.JSONDecodeError as error:
        raise BadJson("syntax", f"not JSON: {error.msg}", len(text[: error.pos].encode())) from None
    except _BadToken as error:
        raise BadJson(error.code, str(error), _position(data, error.token)) from None
    if b"\\u" in data:
        _refuse_surrogates(value)
    return value


def _in_short(error: Exception) -> BadJson:
    """Return the refusal of a document too long to be looked at again."""
    if isinstance(error, BadJson):
        return error
    if isinstance(error, _BadToken):
        return BadJson(error.code, str(error))
    if isinstance(error, msgspec.ValidationError):
        return BadJson("number_out_of_range", "a number is out of range")
    return BadJson("syntax", "not JSON")


# ---- what a document is made of, by operations on all of it ------------------------------------------------------


def _without_escapes(data: bytes) -> bytes:
    """Return `data`, of the same length, where no backslash is itself escaped and every quote ends or begins."""
    if b"\\" not in data:
        return data
    return data.replace(b"\\\\", b"__").replace(b'\\"', b"__")


def _shape(plain: bytes) -> bytes:
    """Return all that is outside strings, with a quote for each string; raise `BadJson` when there are too many."""
    if plain.count(b'"') > 2 * MAX_PARTS:
        _refuse_parts()
    return b'"'.join(plain.split(b'"')[::2])


def _marks(shape: bytes) -> bytes:
    """Return what stands for parts in the shape, in order; raise `BadJson` when there are too many."""
    marks = shape.translate(None, _NO_MARK)
    if len(marks) > MAX_PARTS:
        _refuse_parts()
    return marks


def _refuse_parts() -> NoReturn:
    raise BadJson("too_many_values", f"at most {MAX_PARTS} commas, colons, brackets and strings are read")


def _check_numbers(shape: bytes, max_number_digits: int, max_int: int, allow_floats: bool) -> None:
    """Raise `_BadToken` when a number has too many digits, or an integer is too large."""
    # Without its punctuation a number is one run of digits; where fractions are refused anyway, it stays several.
    digits = shape.translate(_TO_ZERO, _PUNCTUATION if allow_floats else b"")
    if b"0" * (max_number_digits + 1) in digits:
        raise _BadToken("number_too_long", f"numbers have at most {max_number_digits} digits", "")
    size = len(str(max_int))
    if b"0" * size in digits and max(map(int, _long_integers(shape, size, allow_floats)), default=0) >= max_int:
        raise _BadToken("number_out_of_range", "a number is out of range: write it as a string", "")


def _long_integers(shape: bytes, size: int, allow_floats: bool) -> list[bytes]:
    """Return the digits of the integers with at least `size` of them."""
    if not allow_floats:
        return [run for run in shape.translate(_DIGITS_ONLY).split() if len(run) >= size]
    tokens = shape.translate(_NUMBERS_ONLY).split()
    return [run for token in tokens if len(token) >= size and (run := token.lstrip(b"-")).isdigit()]


def _refuse_repeated(value: object, plain: bytes) -> None:
    """Raise `BadJson` when `value`, decoded, has fewer members than the document: one name stood there twice.

    A string's colons are the same in both, however they were written.
    """
    written = plain.count(b":") + plain.count(rb"\u003a") + plain.count(rb"\u003A")
    if written and written != _colons(value):
        raise BadJson("duplicate_key", "a key occurs twice in one object")


def _colons(value: object) -> int:
    try:
        return msgspec.json.encode(value).count(b":")
    except OverflowError:  # integers beyond 64 bits
        return json.dumps(value).count(":")


def _fraction(token: str) -> NoReturn:
    raise _BadToken("not_an_integer", "numbers are written without fraction and exponent", token)


_FAST = {False: msgspec.json.Decoder(float_hook=_fraction), True: msgspec.json.Decoder()}


# ---- saying what is wrong ----------------------------------------------------------------------------------------


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


def _refuse_deep(marks: bytes, max_depth: int) -> None:
    """Raise `BadJson` unless at most `max_depth` arrays and objects are around any value; linear."""
    brackets = np.frombuffer(marks.translate(_TO_SQUARE, _NO_BRACKET), np.uint8)
    depths = np.cumsum(np.where(brackets == ord("["), 1, -1), dtype=np.int32)
    if depths.max() > max_depth:
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
