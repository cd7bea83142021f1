"""strict_json: one value or a typed refusal, quickly, whatever the bytes."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyquorum.formats import strict_json
from keyquorum.formats.strict_json import BadJson, fields, hex_bytes, integer, list_of, loads, text

LIMIT = 2_000_000


def refusal(data: bytes, **options: Any) -> BadJson:
    with pytest.raises(BadJson) as caught:
        loads(data, LIMIT, **options)
    return caught.value


def test_ordinary_documents_decode_as_by_the_standard_library() -> None:
    body = '{"a": [1, -2, 0, -0, true, false, null, "x\\n\\"[{é😀\\u00e9\\ud83d\\ude00"], "b": {}, "": []}'
    assert loads(body.encode(), LIMIT) == json.loads(body)


def test_a_body_larger_than_its_bound_is_refused_unread() -> None:
    assert loads(b"[1]", 3) == [1]
    with pytest.raises(BadJson, match="at most 2") as caught:
        loads(b"[1]", 2)
    assert caught.value.code == "too_large"


@pytest.mark.parametrize(
    ("data", "code", "position"),
    [
        (b"\xef\xbb\xbf{}", "byte_order_mark", 0),
        (b'{"a": "\xff"}', "not_utf8", 7),
        (b'"\xed\xa0\x80"', "not_utf8", 1),
        (b'"\xc0\xaf"', "not_utf8", 1),
        ("{}".encode("utf-16"), "not_utf8", 0),
        ("{}".encode("utf-16-le"), "syntax", 1),
        (b"", "syntax", 0),
        (b"  ", "syntax", 2),
        (b'{"a": 1,}', "syntax", 8),
        (b"{'a': 1}", "syntax", 1),
        (b"[1] 2", "syntax", 4),
        (b"[1}", "syntax", 2),
        (b"[01]", "syntax", 2),
        (b"[+1]", "syntax", 1),
        (b"[.5]", "syntax", 1),
        (b"[0x10]", "syntax", 2),
        (b'["\t"]', "syntax", 2),
        (b'["a', "syntax", 1),
        (b"[1] // no", "syntax", 4),
        ('{"é": }'.encode(), "syntax", 7),
        (b'{"a": 1, "b": 2, "a": 1}', "duplicate_key", None),
        (b'[{"x": {"k": 1, "\\u006b": 2}}]', "duplicate_key", None),
        (b'{"NaN": NaN}', "not_a_number", 8),
        (b'["Infinity", Infinity]', "not_a_number", 13),
        (b"[-Infinity]", "not_a_number", 1),
        (b'{"1.5": 1.5}', "not_an_integer", 8),
        (b"1e3", "not_an_integer", 0),
        (b"[0, 9223372036854775808]", "number_out_of_range", 4),
        (b"[0, -9223372036854775808]", "number_out_of_range", 4),
        (b'["123456789012345678901", 123456789012345678901]', "number_too_long", 26),
        (b'"\\ud800"', "lone_surrogate", None),
        (b'{"\\udc00": 1}', "lone_surrogate", None),
        (b'[[{"a": ["\\uDE00\\uD83D"]}]]', "lone_surrogate", None),
    ],
)
def test_every_departure_is_refused_with_its_code_and_place(data: bytes, code: str, position: int | None) -> None:
    error = refusal(data)
    assert (error.code, error.position) == (code, position)


def test_numbers_up_to_the_bounds_are_read() -> None:
    assert loads(b"[9223372036854775807, -9223372036854775807]", LIMIT) == [2**63 - 1, 1 - 2**63]
    big = 2**256 - 1
    assert loads(str(big).encode(), LIMIT, max_number_digits=78, max_int=2**256) == big
    assert refusal(str(big + 1).encode(), max_number_digits=78, max_int=2**256).code == "number_out_of_range"


def test_fractions_are_read_only_when_asked_for_and_stay_finite() -> None:
    assert loads(b"[1.5, 2e3, 7]", LIMIT, allow_floats=True) == [1.5, 2000.0, 7]
    assert refusal(b"[1e999]", allow_floats=True).code == "number_out_of_range"
    assert refusal(b"-1e999", allow_floats=True).code == "number_out_of_range"
    assert refusal(b"0." + b"1" * 20, allow_floats=True).code == "number_too_long"


def test_depth_counts_containers_and_not_brackets_in_strings() -> None:
    assert loads(b"[" * 32 + b"]" * 32, LIMIT)
    assert refusal(b"[" * 33 + b"]" * 33).code == "too_deep"
    assert refusal(b'{"a":' * 33 + b"1" + b"}" * 33).code == "too_deep"
    assert refusal(b"[" * 65 + b"]" * 65).code == "too_deep"
    assert refusal(b"[" * 40 + b"1" + b"]" * 40 + b" ").code == "too_deep"
    for string in (b"[" * 500, b"{" * 500, b'\\"' + b"[" * 500, b"]" * 500, b"\\\\", b'\\\\\\"[[' * 50):
        body = b'{"a": "' + string + b'", "b": ' + b"[" * 31 + b"]" * 31 + b"}"
        assert loads(body, LIMIT)["a"] == json.loads(b'"' + string + b'"')
        deeper = b'{"a": "' + string + b'", "b": ' + b"[" * 32 + b"]" * 32 + b"}"
        assert refusal(deeper).code == "too_deep"
    assert len(loads(b"[" + b",".join([b"[{}]"] * 1000) + b"]", LIMIT, max_depth=3)) == 1000
    assert refusal(b"[" + b",".join([b"[{}]"] * 1000) + b"]", max_depth=2).code == "too_deep"


@pytest.mark.parametrize("body", [b"[" * 40, b"]" * 40, b"[" * 20 + b"}" * 40, b'["' + b"[" * 40, b'"' + b"[" * 40])
def test_brackets_without_a_partner_are_a_refusal(body: bytes) -> None:
    assert refusal(body).code in ("syntax", "too_deep")


MEGA = 1_000_000


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000,
        b'[{"":' * 100_000,
        b"9" * MEGA,
        b"-" + b"9" * MEGA,
        b"0." + b"9" * MEGA,
        b"1e" + b"9" * MEGA,
        b'"' + b'\\"' * 500_000,
        b"[" * 40 + b'"' + b'\\"' * 500_000,
        b"[" * 40 + b'"' + b"\\" * (MEGA + 1),
        b'["' + b'","' * 300_000,
        b"[" * 33 + b" " * MEGA,
    ],
    ids=lambda body: f"{body[:6]!r}...{len(body)}",
)
def test_bodies_made_to_hurt_are_refused_quickly(body: bytes) -> None:
    recursion = sys.getrecursionlimit()
    started = time.process_time()
    refusal(body)
    spent = time.process_time() - started
    assert sys.getrecursionlimit() == recursion
    assert spent < 2.0, "quadratic, not just a slow machine"


def test_a_number_of_a_million_digits_costs_no_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    # int() of long text is quadratic and, in newer Pythons, raises a ValueError of its own: it must not be reached.
    strict_json._decoder.cache_clear()

    def forbidden(_: str) -> int:
        raise AssertionError("converted before the length was seen")

    monkeypatch.setattr(strict_json, "int", forbidden, raising=False)
    assert refusal(b"9" * MEGA).code == "number_too_long"
    strict_json._decoder.cache_clear()


HOSTILE = {
    "integers": b'{"z":[' + b"1," * 524_000 + b"1]}",
    "most integers": b"[" + b"1," * (strict_json.MAX_PARTS - 3) + b"1]",
    "long integers": b"[" + b"1234567890123456789," * (strict_json.MAX_PARTS - 3) + b"1]",
    "an integer too large": b"[" + b"1234567890123456789," * 24_000 + b"9999999999999999999]",
    "fractions": b"[" + b"1.5," * 24_000 + b"1]",
    "objects": b"[" + b"{}," * 340_000 + b"{}]",
    "most objects": b"[" + b"{}," * 12_000 + b"{}]",
    "names": b"{" + b",".join(b'"%034x":1' % number for number in range(8_000)) + b"}",
    "one name": b"{" + b'"a":1,' * 8_000 + b'"a":1}',
    "depth": b"[" * (1 << 20),
    "depth within the bound": b"[" + (b"[" * 31 + b"]" * 31 + b",") * 350 + b"1]",
    "strings": b"[" + b'"abcdefghijklmnop",' * 12_000 + b"1]",
    "quotes": b'"' * (1 << 20),
    "escapes": b'"' + b'\\"' * 524_000 + b'"',
    "escaped colons": b'{"a":"' + b"\\u003a" * 170_000 + b'"}',
    "digits": b"9" * (1 << 20),
    "half a pair": b"[" + b'"\\ud800",' * 10_000 + b"1]",
    "half a pair at the end": b'["' + b"\\u0041" * 170_000 + b'","\\ud800"]',
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("allow_floats", [False, True])
def test_no_python_is_run_for_each_value(body: bytes, allow_floats: bool) -> None:
    calls = 0

    def count(_: Any, event: str, __: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        with contextlib.suppress(BadJson):
            loads(body, LIMIT, allow_floats=allow_floats)
    finally:
        sys.setprofile(None)
    assert calls < 4 * strict_json.EXPLAINED


def test_the_number_of_parts_is_bounded_on_both_sides() -> None:
    most = strict_json.MAX_PARTS
    assert len(loads(b"[" + b"1," * (most - 2) + b"1]", LIMIT)) == most - 1
    assert refusal(b"[" + b"1," * (most - 1) + b"1]").code == "too_many_values"
    assert len(loads(b'["' + b"," * (2 * most) + b'"]', LIMIT)[0]) == 2 * most
    assert refusal(b'"' * (2 * most + 1)).code == "too_many_values"


documents = st.recursive(
    st.none() | st.booleans() | st.integers(1 - 2**63, 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=25,
)


def height(value: object) -> int:
    if isinstance(value, list):
        return 1 + max(map(height, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(height, value.values()), default=0)
    return 0


@settings(deadline=None, max_examples=150)
@given(value=documents, ascii_only=st.booleans(), depth=st.integers(0, 6))
def test_whatever_json_can_say_is_read_back_and_its_depth_is_exact(value: Any, ascii_only: bool, depth: int) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    if height(value) <= depth:
        assert loads(body, LIMIT, max_depth=depth) == value
    else:
        assert refusal(body, max_depth=depth).code == "too_deep"


@settings(deadline=None, max_examples=300)
@given(body=st.binary(max_size=60) | st.text(alphabet='[]{}":,\\u0dD819e.-+ ', max_size=60).map(str.encode))
def test_any_bytes_give_a_value_the_standard_library_gives_too_or_a_refusal(body: bytes) -> None:
    try:
        value = loads(body, LIMIT, max_depth=4)
    except BadJson:
        return
    assert json.loads(body) == value


def oracle(body: bytes, allow_floats: bool) -> Any:
    """What the standard library makes of a body, with the strictness of `strict_json` written down once more."""

    def integer_of(token: str) -> int:
        if len(token.lstrip("-")) > 20 or abs(int(token)) >= 2**63:
            raise ValueError(token)
        return int(token)

    def fraction_of(token: str) -> float:
        if not allow_floats or sum(map(str.isdigit, token)) > 20 or abs(float(token)) == float("inf"):
            raise ValueError(token)
        return float(token)

    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError(pairs)
        return dict(pairs)

    def constant(token: str) -> Any:
        raise ValueError(token)

    value = json.loads(
        body.decode(), parse_int=integer_of, parse_float=fraction_of, parse_constant=constant,
        object_pairs_hook=object_of,
    )  # fmt: skip
    json.dumps(value, ensure_ascii=False).encode()
    if body.startswith(b"\xef\xbb\xbf") or height(value) > 4:
        raise ValueError("a mark, or too deep")
    return value


SCRAPS = [
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "12345678901234567890",
    "123456789012345678901", "0", "-0", "01", "1.", "1.5", "0.12345678901234567890", "0.1234567890123456789", "1e5",
    "1E-7", "1e400", "1e-400", "5e-9999999999999999999", "NaN", "Infinity", "-Infinity", "true", "null", "tru", '"a"',
    '"\\u0061"', '"\\u003a"', '"\\\\u003a"', '"\\\\\\u003A"', '":"', '"\\""', '"\\\\"', '"\\ud800"',
    '"\\udbff\\udfff"', '"\\udfff\\udbff"', '"\x7f"', '"\t"', '"\x00"', '"é"', "\xa0", " ", "\n", "\t", "\x0b", "{",
    "}", "[", "]", ",", ":", '"', "\\", "{}", "[]", '{"a":1,"a":1}', '{"a":":","\\u0061":2}', '{"a":{"a":1}}',
    '[{"a":1},{"a":2}]', '"a":', '"b":', "[[[[1]]]]", "[[[[[]]]]]",
]  # fmt: skip
pieces = st.lists(st.sampled_from(SCRAPS), max_size=9).map("".join)
lists_of_scraps = st.lists(st.sampled_from(SCRAPS), max_size=6).map(lambda found: "[" + ",".join(found) + "]")
members = st.lists(st.tuples(st.sampled_from(['"a"', '"b"', '"\\u0061"', '":"']), st.sampled_from(SCRAPS)), max_size=4)
objects = members.map(lambda found: "{" + ",".join(f"{name}:{value}" for name, value in found) + "}")


@pytest.mark.parametrize("explained", [0, strict_json.EXPLAINED])
@settings(deadline=None, max_examples=400)
@given(body=(pieces | lists_of_scraps | objects).map(str.encode), allow_floats=st.booleans())
def test_the_fast_reader_takes_exactly_what_the_slow_one_takes(explained: int, body: bytes, allow_floats: bool) -> None:
    try:
        expected = oracle(body, allow_floats)
    except (ValueError, RecursionError):
        expected = refusal
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict_json, "EXPLAINED", explained)
        try:
            found = loads(body, LIMIT, max_depth=4, allow_floats=allow_floats)
        except BadJson:
            found = refusal
    assert repr(found) == repr(expected)


@pytest.mark.parametrize(("tail", "code"), [
    (b"1.5", "not_an_integer"), (b"NaN", "syntax"), (b"1" * 21, "number_too_long"), (b"1" * 5000, "number_too_long"),
    (b"9223372036854775808", "number_out_of_range"), (b"-9223372036854775808", "number_out_of_range"), (b"}", "syntax"),
    (b'{"a":1,"a":1}', "duplicate_key"), (b'"\\ud800"', "syntax"), (b"[" * 32 + b"]" * 32, "too_deep"),
])  # fmt: skip
def test_a_long_document_is_refused_for_what_a_short_one_is_refused_for(tail: bytes, code: str) -> None:
    error = refusal(b"[" + b"1," * strict_json.EXPLAINED + tail + b"]")
    assert error.code == code
    if code not in ("syntax", "not_a_number"):
        assert refusal(b"[1," + tail + b"]").code == code


# ---- fields -----------------------------------------------------------------------------------------------------


def test_fields_returns_parsed_values_and_none_for_absent_optional_ones() -> None:
    body = {"a": "x", "b": 3, "c": "0x0a", "d": [1]}
    found = fields(body, {"a": str, "b": int, "c": hex_bytes(1)}, {"d": list, "e": bool})
    assert found == {"a": "x", "b": 3, "c": b"\n", "d": [1], "e": None}


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        ([], "wrong_type", "must be an object, not an array"),
        (None, "wrong_type", "not null"),
        ({"a": "x"}, "missing_field", 'lacks the field "n"'),
        ({"a": "x", "n": 1, "z": 2}, "unknown_field", 'unknown field "z"'),
        ({"a": "x", "n": 1, "a\n": 2}, "unknown_field", r'"a\\n"'),
        ({"a": 1, "n": 1}, "wrong_type", '"a" in the body must be a string, not an integer'),
        ({"a": "x", "n": True}, "wrong_type", '"n" in the body must be an integer, not true or false'),
        ({"a": "x", "n": 1, "o": None}, "wrong_type", "not null"),
        ({"a": "x", "n": 1, "p": 9}, "bad_value", '"p" in the body: must be from 0 to 5'),
    ],
)
def test_fields_refuses_with_a_precise_message(value: object, code: str, words: str) -> None:
    with pytest.raises(BadJson, match=words) as caught:
        fields(value, {"a": str, "n": int}, {"o": list, "p": integer(0, 5)})
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (
            hex_bytes(2),
            "0xAbcd",
            ["abcd", "0Xabcd", "0xabc", "0xab", "0xabcdef", "0xab  cd", "0x a b c d", "0xzzzz", 5],
        ),
        (hex_bytes(max_size=2), "0x", ["0xabcdef", "0x1", b"0x", None]),
        (text(3, 1), "abc", ["", "abcd", 7, None]),
        (integer(1, 3), 3, [0, 4, True, "2", 2.0]),
        (list_of(int, 2, 1), [1, 2], [[], [1, 2, 3], [True], "12", (1,)]),
        (list_of(text(1), 2), [], [["ab"], {}]),
    ],
)
def test_field_parsers_refuse_what_they_do_not_mean(rule: Any, good: Any, bad: list[Any]) -> None:
    rule(good)
    for value in bad:
        with pytest.raises(ValueError, match=r"must|array"):
            rule(value)


def test_a_small_body_is_read_in_microseconds() -> None:
    body = json.dumps({"kind": "evm-transaction", "transaction": "0x" + "ab" * 150, "n": [1, 2, {"a": True}]}).encode()
    times = []
    for _ in range(200):
        started = time.perf_counter()
        loads(body, LIMIT)
        times.append(time.perf_counter() - started)
    assert min(times) < 200e-6, "an order of magnitude above what is expected"
