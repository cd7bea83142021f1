"""read: one way in; whatever is not exactly an intent is a typed refusal (T48)."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyquorum.algebra.field import Q, to_bytes
from keyquorum.formats import strict_json
from keyquorum.intents import (
    READERS,
    BadIntent,
    Intent,
    message_intent,
    raw_digest_intent,
    read,
    transaction_intent,
    typed_data_intent,
)

TRANSACTION = transaction_intent({"chainId": 1, "nonce": 0, "gas": 21_000, "gasPrice": 1, "to": "0x" + "11" * 20})
TYPED = typed_data_intent(
    {
        "types": {"Vote": [{"name": "yes", "type": "bool"}]},
        "primaryType": "Vote",
        "domain": {"name": "App"},
        "message": {"yes": True},
    }
)
EXAMPLES = [TRANSACTION, message_intent("hello"), message_intent(b"\xff"), TYPED, raw_digest_intent(b"\1" * 32)]


def refusal(intent: Any) -> BadIntent:
    with pytest.raises(BadIntent) as caught:
        read(intent)
    assert caught.value.code.replace("_", "").isalpha()
    assert caught.value.message == str(caught.value)
    assert caught.value.hint
    return caught.value


def test_each_kind_takes_its_own_scope_and_only_raw_digests_take_scope_5() -> None:
    scopes = {intent["kind"]: read(intent).scope for intent in EXAMPLES}
    assert scopes == {"evm-transaction": 3, "evm-message": 2, "evm-typed-data": 4, "raw-digest": 5}
    assert set(scopes) == set(READERS)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["kind"])
def test_each_kind_survives_json_and_reads_the_same_every_time(example: dict[str, Any]) -> None:
    body = json.dumps(example).encode()
    again = strict_json.loads(body, 10_000)
    assert read(again) == read(example)
    assert read(again).summary == read(example).summary
    assert read(example).kind == example["kind"]
    with pytest.raises(AttributeError):
        read(example).digest = bytes(32)  # type: ignore[misc]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["kind"])
def test_each_kind_refuses_missing_unknown_and_mistyped_fields(example: dict[str, Any]) -> None:
    assert refusal({**example, "note": 1}).code == "unknown_field"
    assert refusal({**example, "digest2": "0x"}).code == "unknown_field"
    for name in set(example) - {"kind"}:
        assert refusal({key: value for key, value in example.items() if key != name}).code in (
            "missing_field",
            "bad_message",
        )
        for value in (None, 5, True, [], ["0x"]):
            assert refusal({**example, name: value}).code in ("wrong_type", "bad_value")


@pytest.mark.parametrize(
    ("intent", "code"),
    [
        (None, "wrong_type"),
        ([], "wrong_type"),
        ("evm-message", "wrong_type"),
        ({}, "wrong_type"),
        ({"kind": None}, "wrong_type"),
        ({"kind": ["evm-message"]}, "wrong_type"),
        ({"kind": "evm-blob"}, "unknown_kind"),
        ({"kind": "EVM-MESSAGE", "message": "a"}, "unknown_kind"),
        ({"kind": "evm-message ", "message": "a"}, "unknown_kind"),
        ({"message": "a"}, "wrong_type"),
        ({"kind": "evm-message", "digest": "0x" + "11" * 32}, "unknown_field"),
        ({"kind": "evm-transaction", "digest": "0x" + "11" * 32}, "unknown_field"),
        ({**TRANSACTION, "digest": "0x" + "11" * 32}, "unknown_field"),
    ],
)
def test_what_is_no_intent_is_refused(intent: Any, code: str) -> None:
    assert refusal(intent).code == code


def test_a_key_repeated_in_the_json_never_reaches_the_reader() -> None:
    body = b'{"kind": "evm-message", "message": "small", "message": "LARGE"}'
    with pytest.raises(strict_json.BadJson, match="twice"):
        strict_json.loads(body, 10_000)


@pytest.mark.parametrize(
    ("digest", "code"),
    [
        (bytes(32), "bad_digest"),
        (to_bytes(0) + b"", "bad_digest"),
        (Q.to_bytes(32, "big"), "bad_digest"),
        (b"\xff" * 32, "bad_digest"),
        (b"", "bad_value"),
        (b"\1" * 31, "bad_value"),
        (b"\1" * 33, "bad_value"),
    ],
)
def test_a_raw_digest_has_32_bytes_and_is_from_1_to_the_order_minus_1(digest: bytes, code: str) -> None:
    assert refusal({"kind": "raw-digest", "digest": "0x" + digest.hex()}).code == code
    with pytest.raises(BadIntent):
        raw_digest_intent(digest)


def test_a_raw_digest_within_the_order_is_signed_as_it_is() -> None:
    for digest in (to_bytes(1), to_bytes(Q - 1)):
        intent = read(raw_digest_intent(digest))
        assert intent.digest == digest
        assert intent.summary == f"SIGNS A RAW DIGEST 0x{digest.hex()}, whose meaning no node can see"


def test_no_intent_of_any_kind_can_hold_a_digest_out_of_range() -> None:
    with pytest.raises(BadIntent, match="group order"):
        Intent("evm-message", bytes(32), "x", 2, {})


def test_the_content_of_an_intent_stays_out_of_its_repr() -> None:
    assert "hello" not in repr(read(message_intent("hello"))).replace('signs the message "hello"', "")


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None, max_examples=300)
@given(example=st.sampled_from(EXAMPLES), data=st.data())
def test_junk_in_any_place_is_refused_with_a_typed_error_and_nothing_else(example: dict[str, Any], data: Any) -> None:
    intent = json.loads(json.dumps(example))
    place: Any = intent
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
        if isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
            place = place[key]
        else:
            break
    place[key] = data.draw(junk)
    try:
        found = read(intent)
    except BadIntent:
        return
    assert found.summary.isascii()
    assert len(found.summary) <= 200


def test_the_largest_inputs_are_answered_quickly() -> None:
    bodies: list[dict[str, Any]] = [
        {"kind": "evm-transaction", "transaction": "0x02f9ffff" + "c0" * 60_000},
        {"kind": "evm-transaction", "transaction": "0x" + "c1" * 131_000},
        {"kind": "evm-message", "message": "\u202e" * 21_000},
        {"kind": "x" * 1_000_000},
        {"kind": "evm-message", "x" * 1_000_000: 1},
        {"kind": "raw-digest", "digest": "0x" + "1" * 1_000_000},
        {"kind": "evm-typed-data", "typed_data": {**TYPED["typed_data"], "message": {"yes": "1" * 1_000_000}}},
    ]
    for body in bodies:
        started = time.process_time()
        try:
            assert len(read(body).summary) <= 200
        except BadIntent as error:
            assert len(str(error)) < 500
        assert time.process_time() - started < 1.0, "ten times what is allowed"
