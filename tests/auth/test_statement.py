"""Login statements: strict form, rules of time and place, and a challenge that binds every field."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from keyquorum.algebra.rng import SeededRng
from keyquorum.auth import statement as statements
from keyquorum.auth.network import chain_id_of, network_id
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import CLOCK_SKEW, MAX_SESSION, Statement
from keyquorum.evm.address import from_checksum, to_checksum
from keyquorum.evm.keys import is_key_id

KEY = "0x" + "ab" * 32


def keys(count: int) -> list[str]:
    return [f"0x{number:064x}" for number in range(count)]


def test_a_statement_survives_the_round_trip(world: Any) -> None:
    for scopes, named in (((), ("*",)), ((1, 2, 3, 4, 5, 6), tuple(keys(32))), ((5,), (KEY,))):
        statement = replace(world.statement, scopes=scopes, keys=named)
        assert Statement.from_json(json.loads(json.dumps(statement.to_json()))) == statement


def test_the_challenge_is_the_hash_that_the_spec_describes(world: Any) -> None:
    def typed(kind: bytes, content: bytes) -> bytes:
        return kind + len(content).to_bytes(8, "big") + content

    session, statement = world.session.public, world.statement
    data = b"".join(
        [
            typed(b"s", b"keyquorum/1/auth/login-challenge"),
            typed(b"s", statement.network.encode()),
            typed(b"b", session.x),
            typed(b"b", session.y),
            typed(b"l", typed(b"s", b"*")),
            typed(b"l", typed(b"i", b"\x02") + typed(b"i", b"\x03")),
            typed(b"i", statement.expires.to_bytes(4, "big")),
            typed(b"b", bytes.fromhex(statement.nonce)),
            typed(b"b", bytes.fromhex(statement.block[2:])),
            typed(b"i", b"\x03\xe8"),
        ]
    )
    assert statement.challenge == hashlib.sha256(data).hexdigest()


def test_the_challenge_does_not_change_between_releases(world: Any) -> None:
    assert world.statement.challenge == "3efedc94d1518e0985c75e6244b0a719f29f87ca398513f664787eedb677cf38"


def test_every_field_is_bound_by_the_challenge(world: Any) -> None:
    other = SessionPrivateKey.generate(SeededRng("other")).public
    changes: list[dict[str, Any]] = [
        {},
        {"network": network_id(1, bytes(range(20)))},
        {"network": network_id(31337, bytes(20))},
        {"session": other},
        {"keys": (KEY,)},
        {"keys": tuple(keys(2))},
        {"keys": tuple(reversed(keys(2)))},
        {"scopes": ()},
        {"scopes": (2,)},
        {"scopes": (1, 2, 3)},
        {"expires": world.statement.expires + 1},
        {"nonce": "ab" * 15 + "ac"},
        {"block": "0x" + "12" * 32},
        {"uses": 999},
    ]
    challenges = {replace(world.statement, **change).challenge for change in changes}
    assert len(challenges) == len(changes)


@pytest.mark.parametrize(
    "change",
    [
        {"network": "eip155:31337"},
        {"network": "eip155:031337:0x000102030405060708090A0b0c0d0E0F10111213"},
        {"network": "eip155:0:0x000102030405060708090A0b0c0d0E0F10111213"},
        {"network": "eip155:31337:0x000102030405060708090a0b0c0d0e0f10111213"[:-1] + "A"},
        {"network": "eip155:31337:0xC02AAA39B223FE8D0A0E5C4F27EAD9083C756CC2"},
        {"network": 31337},
        {"session": "key"},
        {"session": {}},
        {"keys": []},
        {"keys": "*"},
        {"keys": ["*", "*"]},
        {"keys": ["*", KEY]},
        {"keys": [KEY, KEY]},
        {"keys": [KEY.upper()]},
        {"keys": [KEY[:-1]]},
        {"keys": [KEY + "\n"]},
        {"keys": [5]},
        {"keys": [None]},
        {"keys": keys(33)},
        {"keys": None},
        {"scopes": [0]},
        {"scopes": [9]},
        {"scopes": [-1]},
        {"scopes": [2, 2]},
        {"scopes": [3, 2]},
        {"scopes": [True]},
        {"scopes": ["2"]},
        {"scopes": [2.0]},
        {"scopes": 2},
        {"scopes": None},
        {"uses": 0},
        {"uses": 1_000_001},
        {"uses": True},
        {"uses": "1"},
        {"uses": None},
        {"expires": "soon"},
        {"expires": True},
        {"expires": 1.5},
        {"expires": -1},
        {"expires": 2**41},
        {"expires": None},
        {"nonce": "ab" * 15},
        {"nonce": "AB" * 16},
        {"nonce": "ab" * 17},
        {"nonce": "0x" + "ab" * 15},
        {"nonce": 5},
        {"block": "11" * 32},
        {"block": "0x" + "11" * 31},
        {"block": "0x" + "AA" * 32},
        {"block": None},
        {"more": 1},
    ],
)
def test_a_statement_of_any_other_form_is_refused(world: Any, change: dict[str, Any]) -> None:
    with pytest.raises(statements.Invalid) as caught:
        Statement.from_json(world.statement.to_json() | change)
    assert caught.value.status == 400


@pytest.mark.parametrize("name", ["network", "session", "keys", "scopes", "expires", "nonce", "block", "uses"])
def test_a_statement_that_lacks_a_member_is_refused(world: Any, name: str, refused: Callable[..., Any]) -> None:
    with refused("missing_field", 400):
        Statement.from_json({k: v for k, v in world.statement.to_json().items() if k != name})


@pytest.mark.parametrize("scopes", [(0,), (9,), (3, 2), (2, 2)])
def test_a_statement_made_in_code_obeys_the_same_rules(
    world: Any, scopes: tuple[int, ...], refused: Callable[..., Any]
) -> None:
    with refused("bad_scopes", 400):
        replace(world.statement, scopes=scopes)
    with refused("bad_keys", 400):
        replace(world.statement, keys=tuple(keys(33)))
    with refused("bad_uses", 400):
        replace(world.statement, uses=0)


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (-1, "statement_expired"),
        (0, "statement_expired"),
        (1, None),
        (MAX_SESSION + CLOCK_SKEW, None),
        (MAX_SESSION + CLOCK_SKEW + 1, "session_too_long"),
    ],
)
def test_a_session_ends_after_now_and_within_a_day(
    world: Any, seconds: int, code: str | None, refused: Callable[..., Any]
) -> None:
    statement = replace(world.statement, expires=world.now + seconds)
    if code is None:
        statement.check(world.network, world.now, lambda block: True)
        return
    with refused(code, 401):
        statement.check(world.network, world.now, lambda block: True)


def test_a_statement_for_another_network_is_refused(world: Any, refused: Callable[..., Any]) -> None:
    for other in (network_id(1, bytes(range(20))), network_id(31337, bytes(20))):
        with refused("wrong_network", 401):
            world.statement.check(other, world.now, lambda block: True)


def test_only_a_recent_block_is_accepted_and_the_caller_says_which_are(world: Any, refused: Callable[..., Any]) -> None:
    raw = world.statement.to_json()
    asked: list[str] = []

    def known(block: str) -> bool:
        asked.append(block)
        return True

    parsed = statements.parse(raw, network=world.network, now=world.now, is_recent_block=known)
    assert parsed == world.statement and asked == [world.statement.block]
    with refused("block_not_recent", 401):
        statements.parse(raw, network=world.network, now=world.now, is_recent_block=lambda block: False)


@pytest.mark.parametrize(
    "address",
    [
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0xde709f2102306220921060314715629080e2fb77",
    ],
)
def test_the_example_addresses_of_eip_55_are_read_and_written(address: str, refused: Callable[..., Any]) -> None:
    assert to_checksum(from_checksum(address)) == address
    wrong = address.swapcase().replace("0X", "0x")
    with refused("bad_address", 400):
        from_checksum(wrong)


@pytest.mark.parametrize("value", [None, 5, "", "0x", "0x" + "1" * 39, "0x" + "1" * 41, "1" * 42, "0x" + "g" * 40])
def test_what_is_no_address_is_refused(value: object, refused: Callable[..., Any]) -> None:
    with refused("bad_address", 400):
        from_checksum(value)


def test_a_key_id_is_text() -> None:
    assert is_key_id(KEY)
    assert not any(map(is_key_id, (5, None, KEY.encode(), [KEY], KEY[2:], KEY + "\n", KEY.upper())))


def test_a_network_id_tells_its_chain_and_only_addresses_have_a_checksum() -> None:
    assert chain_id_of(network_id(11155111, bytes(20))) == 11155111
    with pytest.raises(ValueError, match="20 bytes"):
        to_checksum(bytes(21))
    with pytest.raises(ValueError, match="network id"):
        network_id(0, bytes(20))
