"""evm_transaction: every type as eth-account and ethers have it, and no byte string with a second meaning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st

from keyquorum.algebra.field import Q
from keyquorum.evm.address import to_checksum
from keyquorum.formats import rlp
from keyquorum.intents import (
    BadIntent,
    apply_signature,
    evm_transaction,
    read,
    transaction_hash,
    transaction_intent,
)
from keyquorum.intents.build import serialize

ETHERS = json.loads((Path(__file__).parent.parent / "vectors" / "ethers" / "transactions.json").read_text())["cases"]
KEY = Account.from_key(bytes([7]) * 32)
TO = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045"
OTHER = "0x" + "11" * 20
SELF = f"{KEY.address[:8]}...{KEY.address[-6:]}"
PLAIN = {
    "chainId": 1,
    "nonce": 5,
    "gas": 21_000,
    "to": TO,
    "value": 1_500_000_000_000_000_001,
    "maxFeePerGas": 30 * 10**9,
    "maxPriorityFeePerGas": 10**9,
}
ACCESS = [{"address": OTHER, "storageKeys": ["0x" + "00" * 31 + "01", "0x" + "ff" * 32]}]


def intent_of(raw: bytes) -> dict[str, str]:
    return {"kind": "evm-transaction", "transaction": "0x" + raw.hex()}


def raw_of(**changes: Any) -> bytes:
    return serialize({name: value for name, value in {**PLAIN, **changes}.items() if value is not ...})


def refusal(raw: bytes, chain_id: int | None = None) -> BadIntent:
    with pytest.raises(BadIntent) as caught:
        read(intent_of(raw), chain_id)
    assert caught.value.hint
    return caught.value


def authorization(**changes: Any) -> Any:
    return KEY.sign_authorization({"chainId": 1, "address": OTHER, "nonce": 6, **changes})


# ---- agreement with others --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ETHERS, ids=lambda case: case["unsigned"][:8])
def test_bytes_of_ethers_are_read_hashed_and_signed_as_there(case: dict[str, Any]) -> None:
    unsigned = bytes.fromhex(case["unsigned"][2:])
    intent = read({"kind": "evm-transaction", "transaction": case["unsigned"]})
    assert "0x" + intent.digest.hex() == case["digest"]
    signed = apply_signature(unsigned, int(case["r"], 16), int(case["s"], 16), case["y_parity"])
    assert "0x" + signed.hex() == case["signed"]
    assert "0x" + transaction_hash(signed).hex() == case["hash"]


words = st.integers(0, 2**256 - 1)
prices = st.integers(0, 2**160)
addresses = st.binary(min_size=20, max_size=20).map(to_checksum)
access_lists = st.lists(
    st.fixed_dictionaries(
        {
            "address": addresses,
            "storageKeys": st.lists(st.binary(min_size=32, max_size=32).map(lambda key: "0x" + key.hex()), max_size=2),
        }
    ),
    max_size=2,
)


@st.composite
def transactions(draw: Any) -> dict[str, Any]:
    kind = draw(st.sampled_from([0, 1, 2, 4]))
    transaction: dict[str, Any] = {
        "chainId": draw(st.integers(1, 2**53)),
        "nonce": draw(st.integers(0, 2**64 - 2)),
        "gas": draw(st.integers(21_000, 2**64 - 1)),
        "value": draw(st.integers(0, 2**255)),
        "data": draw(st.binary(max_size=120)),
    }
    if kind == 4 or draw(st.booleans()):
        transaction["to"] = draw(addresses)
    if kind in (0, 1):
        transaction["gasPrice"] = draw(prices)
    else:
        transaction["maxFeePerGas"] = draw(prices)
        transaction["maxPriorityFeePerGas"] = draw(st.integers(0, transaction["maxFeePerGas"]))
    if kind:
        transaction["type"] = kind
        transaction["accessList"] = draw(access_lists)
    if kind == 4:
        chains = st.sampled_from([0, transaction["chainId"]])
        transaction["authorizationList"] = [
            authorization(chainId=draw(chains), address=draw(addresses), nonce=draw(st.integers(0, 2**64 - 2)))
            for _ in range(draw(st.integers(1, 2)))
        ]
    return transaction


@settings(deadline=None, max_examples=120)
@given(transaction=transactions())
def test_any_transaction_has_the_digest_and_bytes_of_eth_account(transaction: dict[str, Any]) -> None:
    signed = KEY.sign_transaction(transaction)
    built = transaction_intent(transaction)
    intent = read(built, transaction["chainId"])
    unsigned = bytes.fromhex(built["transaction"][2:])
    parity = signed.v if transaction.get("type") else (signed.v - 35) % 2
    raw = apply_signature(unsigned, signed.r, signed.s, parity)
    assert raw == bytes(signed.raw_transaction)
    assert transaction_hash(raw) == bytes(signed.hash)
    assert intent.scope == 3
    assert intent.summary.isascii()
    assert intent.summary.isprintable()
    assert 0 < len(intent.summary) <= 200
    assert not intent.summary.startswith(";")
    assert intent.details["value"] == transaction["value"]
    assert intent.details["nonce"] == transaction["nonce"]
    json.dumps(dict(intent.details))


# ---- strictness -------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(transaction=transactions(), data=st.data())
def test_no_mutated_byte_leaves_the_digest_and_no_digest_has_two_summaries(
    transaction: dict[str, Any], data: Any
) -> None:
    raw = serialize(transaction)
    intent = read(intent_of(raw))
    place = data.draw(st.integers(0, len(raw) - 1))
    bit = data.draw(st.integers(0, 7))
    mutations = [
        raw[:place] + bytes([raw[place] ^ 1 << bit]) + raw[place + 1 :],
        raw[:place] + raw[place + 1 :],
        raw[:place] + b"\0" + raw[place:],
        raw + b"\0",
        raw[:-1],
    ]
    for mutated in mutations:
        if mutated == raw:
            continue
        try:
            other = read(intent_of(mutated))
        except BadIntent:
            continue
        assert other.digest != intent.digest
        assert evm_transaction.decode(mutated) != evm_transaction.decode(raw)
    assert read(intent_of(raw)) == intent


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "bad_rlp"),
        (b"\x80", "bad_rlp"),
        (b"\xb8\x01", "bad_rlp"),
        (b"\x02", "bad_rlp"),
        (b"\x02\x80", "bad_rlp"),
        (b"\x00" + raw_of()[1:], "unknown_transaction_type"),
        (b"\x03" + raw_of()[1:], "unknown_transaction_type"),
        (b"\x05" + raw_of()[1:], "unknown_transaction_type"),
        (b"\x19" + raw_of()[1:], "unknown_transaction_type"),
        (b"\x7f" + raw_of()[1:], "unknown_transaction_type"),
        (b"\x7e" + raw_of()[1:], "unknown_transaction_type"),
        (raw_of() + b"\0", "bad_rlp"),
        (raw_of() + raw_of(), "bad_rlp"),
        (raw_of()[:-1], "bad_rlp"),
        (b"\x01" + raw_of()[1:], "bad_field_count"),
        (b"\x04" + raw_of()[1:], "bad_field_count"),
        (raw_of()[1:], "bad_transaction_field"),
        (b"\xc0", "bad_field_count"),
    ],
)
def test_bytes_that_are_no_transaction_of_a_known_type_are_refused(raw: bytes, code: str) -> None:
    assert refusal(raw).code == code


def test_the_refusal_of_blobs_and_of_wrong_shapes_says_what_is_wrong() -> None:
    assert "blob" in str(refusal(b"\x03" + raw_of()[1:]))
    assert "type 127" in str(refusal(b"\x7f" + raw_of()[1:]))
    assert "must have 2 parts, not 1" in str(refusal(with_field(raw_of(), "access_list", [[b"\0" * 20]])))


def fields_of(raw: bytes) -> tuple[bytes, list[Any]]:
    kind, items = evm_transaction.split(raw)
    return (bytes([kind]) if kind else b""), list(items)


def with_field(raw: bytes, name: str, value: Any) -> bytes:
    prefix, items = fields_of(raw)
    items[evm_transaction.LAYOUTS[prefix[0] if prefix else 0].index(name)] = value
    return prefix + rlp.encode(items)


LEGACY = {"gasPrice": 10**9, "maxFeePerGas": ..., "maxPriorityFeePerGas": ...}
TYPE_4 = {"authorizationList": [authorization()]}


@pytest.mark.parametrize("changes", [LEGACY, {**LEGACY, "accessList": ACCESS}, {}, TYPE_4], ids=["0", "1", "2", "4"])
def test_each_number_is_canonical_and_bounded_in_each_type(changes: dict[str, Any]) -> None:
    raw = raw_of(**changes)
    layout = evm_transaction.LAYOUTS[0 if raw[0] >= 0xC0 else raw[0]]
    bounds = {"nonce": 64, "gas": 64, "chain_id": 64, "max_fee": 256, "priority_fee": 256, "value": 256}
    for name, bits in bounds.items():
        if name not in layout:
            continue
        for bad in (b"\0", b"\0\1", rlp.number(2**bits), b"\xff" * 40, [], [b"\1"]):
            error = refusal(with_field(raw, name, bad))
            assert error.code == "bad_transaction_field"
            assert name.replace("_", " ") in str(error)
    assert refusal(with_field(raw, "nonce", rlp.number(2**64 - 1))).code == "bad_transaction_field"
    for bad in (b"\1", b"\0" * 19, b"\0" * 21, b"\0" * 32, [], [b"\0" * 20]):
        assert refusal(with_field(raw, "to", bad)).code == "bad_transaction_field"
    assert refusal(with_field(raw, "data", [])).code == "bad_transaction_field"


@pytest.mark.parametrize("changes", [LEGACY, {**LEGACY, "accessList": ACCESS}, {}, TYPE_4], ids=["0", "1", "2", "4"])
def test_the_chain_must_be_named_and_be_the_one_of_the_policy(changes: dict[str, Any]) -> None:
    raw = raw_of(**changes)
    assert read(intent_of(raw), 1) == read(intent_of(raw))
    assert refusal(raw, 2).code == "wrong_chain"
    assert refusal(with_field(raw, "chain_id", b"")).code == "bad_chain"
    # above EIP-2294's bound; a type 4 transaction's authorization is for chain 1 then, so leave that out
    if changes is not TYPE_4:
        assert refusal(with_field(raw, "chain_id", rlp.number(2**63 - 36))).code == "bad_chain"
        assert read(intent_of(with_field(raw, "chain_id", rlp.number(2**63 - 37)))).details["chain_id"] == 2**63 - 37


def test_a_legacy_transaction_without_a_chain_or_with_a_signature_is_refused() -> None:
    raw = raw_of(**LEGACY)
    _, items = fields_of(raw)
    assert refusal(rlp.encode(items[:6])).code == "not_replay_protected"
    assert refusal(rlp.encode([*items[:6], b"\x1b", b"\1", b"\1"])).code == "already_signed"
    assert refusal(rlp.encode([*items[:7], b"", b"\1"])).code == "already_signed"
    assert refusal(rlp.encode([*items[:7], b"\1", b""])).code == "already_signed"
    assert refusal(rlp.encode([*items[:7], b"\0", b""])).code == "bad_transaction_field"
    assert refusal(rlp.encode(items[:8])).code == "bad_field_count"
    assert refusal(rlp.encode([*items, b""])).code == "bad_field_count"


@pytest.mark.parametrize("changes", [{**LEGACY, "accessList": ACCESS}, {}, TYPE_4], ids=["1", "2", "4"])
def test_a_signed_typed_transaction_is_refused(changes: dict[str, Any]) -> None:
    raw = raw_of(**changes)
    signed = apply_signature(raw, 1, 1, 0)
    assert refusal(signed).code == "already_signed"
    prefix, items = fields_of(raw)
    assert refusal(prefix + rlp.encode(items[:-1])).code == "bad_field_count"
    assert refusal(prefix + rlp.encode([*items, b""])).code == "bad_field_count"


def test_fees_that_contradict_each_other_or_that_nobody_can_pay_are_refused() -> None:
    assert refusal(raw_of(maxPriorityFeePerGas=PLAIN["maxFeePerGas"] + 1)).code == "bad_fee"
    assert refusal(raw_of(value=2**256 - 1)).code == "bad_fee"
    assert refusal(raw_of(maxFeePerGas=2**255)).code == "bad_fee"


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\1",
        [b""],
        [[b"\0" * 20]],
        [[b"\0" * 20, [], []]],
        [[b"\0" * 19, []]],
        [[b"\0" * 20, b""]],
        [[b"\0" * 20, [b"\0" * 31]]],
        [[b"\0" * 20, [[b"\0" * 32]]]],
        [[[b"\0" * 20], []]],
        [b"\0" * 20, []],
    ],
)
def test_access_lists_have_one_shape(bad: Any) -> None:
    for changes in ({**LEGACY, "accessList": ACCESS}, {}, TYPE_4):
        assert refusal(with_field(raw_of(**changes), "access_list", bad)).code == "bad_transaction_field"


def test_authorizations_have_one_shape_and_a_valid_signature_for_this_chain() -> None:
    raw = raw_of(**TYPE_4)
    good = fields_of(raw)[1][-1][0]

    def changed(index: int, value: Any) -> bytes:
        return with_field(raw, "authorizations", [[*good[:index], value, *good[index + 1 :]]])

    assert read(intent_of(changed(0, good[0]))).details["authorizations"][0]["authority"] == KEY.address
    bad: list[bytes] = [
        with_field(raw, "authorizations", value) for value in (b"", [], [b""], [[]], [good[:5]], [[*good, b""]])
    ]
    bad += [with_field(raw, "authorizations", [good] * (evm_transaction.MAX_AUTHORIZATIONS + 1))]
    bad += [changed(1, value) for value in (b"", b"\0" * 19, [])]
    bad += [
        changed(0, b"\0"),
        changed(2, b"\0"),
        changed(2, rlp.number(2**64 - 1)),
        changed(3, b"\2"),
        changed(3, b"\0"),
    ]
    bad += [
        changed(4, b""),
        changed(5, b""),
        changed(4, rlp.number(Q)),
        changed(5, rlp.number(Q)),
        changed(4, b"\0" + good[4]),
    ]
    bad += [changed(5, rlp.number(Q - int.from_bytes(good[5], "big")))]
    for mutated in bad:
        assert refusal(mutated).code == "bad_transaction_field"
    other_chain = raw_of(authorizationList=[authorization(chainId=5)])
    assert "skipped" in str(refusal(other_chain))
    assert refusal(with_field(raw, "to", b"")).code == "bad_transaction_field"


def test_a_transaction_has_a_size_bound() -> None:
    limit = evm_transaction.MAX_BYTES
    assert read(intent_of(raw_of(data=bytes(limit - 200)))).details["type"] == 2
    assert refusal(raw_of(data=bytes(limit))).code == "bad_value"
