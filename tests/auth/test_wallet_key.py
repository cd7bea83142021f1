"""Login with a key of one's own: the statement itself is signed, and only this statement, in one of two forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data

from keyquorum.algebra.field import Q
from keyquorum.algebra.rng import SeededRng
from keyquorum.auth import siwe, wallet_key, wallet_signature
from keyquorum.auth.control import scopes_needed
from keyquorum.auth.method import Proven, prove
from keyquorum.auth.network import network_id
from keyquorum.auth.scopes import Scope
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import CLOCK_SKEW, MAX_SESSION
from keyquorum.auth.wallet_login import MAX_AGE, MAX_CONTRACT_SESSION
from keyquorum.evm.address import to_checksum
from keyquorum.intents import message_intent, read, typed_data_intent
from keyquorum.refusal import Invalid

FORMS = pytest.mark.parametrize("form", wallet_key.FORMS)
KEYS = tuple(f"0x{number:064x}" for number in range(1, 33))
MAGIC = bytes.fromhex("1626ba7e") + bytes(28)
THIEF = SessionPrivateKey.generate(SeededRng("thief"))
CHANGES: dict[str, list[Any]] = {
    "network": [network_id(1, bytes(range(20))), network_id(31337, bytes(20))],
    "session": [THIEF.public],
    "keys": [KEYS[:1], KEYS],
    "scopes": [(), (2,), (1, 2, 3, 4, 5, 6, 7, 8)],
    "uses": [1, 1_000_000],
    "expires": [1],
    "nonce": ["ac" * 16],
    "block": ["0x" + "12" * 32],
}


def sign(world: Any, form: str, statement: Any = None, issued_at: int | None = None, **changes: Any) -> dict[str, Any]:
    """What eth-account, as the wallet, makes of the form; `changes` are of the typed data's parts."""
    statement, at = statement or world.statement, world.now if issued_at is None else issued_at
    if form == "eip712":
        data = wallet_key.build_typed_data(statement, world.address, at)
        signable = encode_typed_data(full_message=data | {name: data[name] | new for name, new in changes.items()})
    else:
        signable = encode_defunct(text=wallet_key.build_text(statement, world.address, at))
    signature = bytes(world.account.sign_message(signable).signature)
    return {"form": form, "address": world.account.address, "signature": "0x" + signature.hex(), "issued_at": at}


async def login(world: Any, proof: object, statement: Any = None, **context: Any) -> Proven:
    return await prove("wallet-key", proof, statement or world.statement, replace(world.context, **context))


@FORMS
async def test_an_account_logs_in_with_the_statement_it_signed(world: Any, form: str) -> None:
    proven = await login(world, sign(world, form))
    assert (proven.type, proven.id) == (1, world.address)


@FORMS
@pytest.mark.parametrize("scopes", [(), (2,), tuple(range(1, 9))])
@pytest.mark.parametrize("keys", [("*",), KEYS[:1], KEYS])
async def test_every_statement_has_both_forms(
    world: Any, form: str, scopes: tuple[int, ...], keys: tuple[str, ...]
) -> None:
    statement = replace(world.statement, scopes=scopes, keys=keys)
    assert (await login(world, sign(world, form, statement), statement)).id == world.address


@FORMS
async def test_a_signature_is_for_its_own_statement_only(world: Any, form: str, refused: Callable[..., Any]) -> None:
    proof = sign(world, form)
    for name, values in CHANGES.items():
        for value in values:
            changed = world.statement.expires + value if name == "expires" else value
            with refused("bad_wallet_signature", 401):
                await login(world, proof, replace(world.statement, **{name: changed}))


@FORMS
async def test_the_time_of_signing_is_signed_too(world: Any, form: str, refused: Callable[..., Any]) -> None:
    with refused("bad_wallet_signature"):
        await login(world, sign(world, form) | {"issued_at": world.now - 1})


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("domain", {"name": "Keyquorum"}),
        ("domain", {"version": "2"}),
        ("domain", {"chainId": 1}),
        ("domain", {"verifyingContract": "0x" + "00" * 20}),
        ("message", {"grant": "Welcome to our newsletter."}),
        ("message", {"account": "0x" + "00" * 20}),
        ("message", {"keys": list(KEYS[:1])}),
        ("message", {"scopes": [2]}),
        ("message", {"uses": 2}),
        ("message", {"issued": "2027-01-15T08:00:01Z"}),
        ("message", {"expires": "2027-01-15T09:00:01Z"}),
        ("message", {"challenge": "0x" + "00" * 32}),
    ],
)
async def test_typed_data_with_one_other_field_is_another_login(
    world: Any, part: str, change: dict[str, Any], refused: Callable[..., Any]
) -> None:
    with refused("bad_wallet_signature"):
        await login(world, sign(world, "eip712", **{part: change}))


async def test_typed_data_of_another_type_is_another_login(world: Any, refused: Callable[..., Any]) -> None:
    data = wallet_key.build_typed_data(world.statement, world.address, world.now)
    types = {name if name != "Login" else "Logon": fields for name, fields in data["types"].items()}
    signable = encode_typed_data(full_message=data | {"types": types, "primaryType": "Logon"})
    signature = bytes(world.account.sign_message(signable).signature)
    with refused("bad_wallet_signature"):
        await login(world, sign(world, "eip712") | {"signature": "0x" + signature.hex()})


async def test_a_text_of_another_version_is_another_login(world: Any, refused: Callable[..., Any]) -> None:
    text = wallet_key.build_text(world.statement, world.address, world.now)
    for other in (text.replace("version 1", "version 2"), text + "\n", text.replace("\n", "\r\n"), text.lower()):
        signature = bytes(world.account.sign_message(encode_defunct(text=other)).signature)
        with refused("bad_wallet_signature"):
            await login(world, sign(world, "eip191") | {"signature": "0x" + signature.hex()})


async def test_a_signature_in_one_form_is_none_in_another(world: Any, refused: Callable[..., Any]) -> None:
    typed, text = sign(world, "eip712"), sign(world, "eip191")
    for proof in (typed | {"form": "eip191"}, text | {"form": "eip712"}):
        with refused("bad_wallet_signature"):
            await login(world, proof)
    # The 66 bytes that EIP-712 hashes, signed as a personal message, and the other way round.
    hashes = wallet_key.typed_hashes(world.statement, world.address, world.now)
    for form, signed in (
        ("eip712", world.account.sign_message(encode_defunct(b"\x19\x01" + hashes.domain + hashes.message))),
        ("eip712", world.account.sign_message(encode_defunct(hashes.message))),
        ("eip191", world.account.unsafe_sign_hash(hashes.message)),
    ):
        with refused("bad_wallet_signature"):
            await login(world, {**typed, "form": form, "signature": "0x" + bytes(signed.signature).hex()})


async def test_a_siwe_signature_is_no_signature_of_the_statement(world: Any, refused: Callable[..., Any]) -> None:
    for form in wallet_key.FORMS:
        with refused("bad_wallet_signature"):
            await login(world, sign(world, form) | {"signature": world.proof()["signature"]})
    text = wallet_key.build_text(world.statement, world.address, world.now)
    with refused("bad_siwe", 400):
        await prove("siwe", world.proof(text), world.statement, world.context)


@FORMS
async def test_only_the_one_form_of_a_signature_is_accepted(world: Any, form: str, refused: Callable[..., Any]) -> None:
    proof = sign(world, form)
    good = bytes.fromhex(proof["signature"][2:])
    r, s, v = good[:32], int.from_bytes(good[32:64], "big"), good[64]
    assert await login(world, proof | {"signature": "0x" + (good[:64] + bytes([v - 27])).hex()})
    twin = r + (Q - s).to_bytes(32, "big") + bytes([55 - v])
    compact = r + (s | (v - 27) << 255).to_bytes(32, "big")
    others = [good[:64] + bytes([other]) for other in (2, 3, 26, 29, 35, 255, 55 - v)]
    for bad in [twin, compact, good + b"\0", good[:64], b"", bytes(64) + b"\x1b", *others]:
        with refused("bad_wallet_signature", 401):
            await login(world, proof | {"signature": "0x" + bad.hex()})


@FORMS
async def test_another_accounts_signature_is_refused(world: Any, form: str, refused: Callable[..., Any]) -> None:
    other = Account.from_key(b"\x43" * 32)
    with refused("bad_wallet_signature"):
        await login(world, sign(world, form) | {"address": other.address})


@pytest.mark.parametrize(
    ("issued", "code"),
    [
        (CLOCK_SKEW, None),
        (CLOCK_SKEW + 1, "clock_skew"),
        (-MAX_AGE - CLOCK_SKEW, None),
        (-MAX_AGE - CLOCK_SKEW - 1, "login_too_old"),
    ],
)
@FORMS
async def test_the_stated_time_agrees_with_the_clock_within_a_minute(
    world: Any, form: str, issued: int, code: str | None, refused: Callable[..., Any]
) -> None:
    proof = sign(world, form, issued_at=world.now + issued)
    if code is None:
        assert (await login(world, proof)).id == world.address
        return
    with refused(code, 401):
        await login(world, proof)


@pytest.mark.parametrize(("seconds", "allowed"), [(MAX_SESSION, True), (MAX_SESSION + 1, False), (0, False)])
async def test_a_day_is_counted_from_the_stated_time(
    world: Any, seconds: int, allowed: bool, refused: Callable[..., Any]
) -> None:
    statement = replace(world.statement, expires=world.now + seconds)
    proof = sign(world, "eip712", statement)
    if allowed:
        assert await login(world, proof, statement)
        return
    with refused("session_too_long"):
        await login(world, proof, statement)


@pytest.mark.parametrize(
    "change",
    [
        {"form": "eip4361"},
        {"form": 712},
        {"form": "EIP712"},
        {"address": "0x" + "42" * 20 + "00"},
        {"address": 5},
        {"signature": "0x0"},
        {"signature": "0x" + "00" * 8193},
        {"signature": None},
        {"issued_at": "1800000000"},
        {"issued_at": True},
        {"issued_at": -1},
        {"issued_at": 2**70},
        {"more": 1},
    ],
)
async def test_a_proof_of_any_other_form_is_malformed(world: Any, change: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        await login(world, sign(world, "eip712") | change)
    assert caught.value.status == 400


async def test_an_unknown_form_is_named_as_such(world: Any, refused: Callable[..., Any]) -> None:
    with refused("bad_form", 400):
        await login(world, sign(world, "eip712") | {"form": "eip1"})


async def test_an_address_without_its_checksum_is_refused(world: Any, refused: Callable[..., Any]) -> None:
    with refused("bad_address", 400):
        await login(world, sign(world, "eip712") | {"address": world.account.address.lower()})


# ---- what a person sees -------------------------------------------------------------------------------------------


def test_the_text_says_first_what_is_granted_and_names_everything(world: Any) -> None:
    lines = wallet_key.build_text(world.statement, world.address, world.now).split("\n")
    thumbprint = world.session.public.thumbprint
    assert lines == [
        "Keyquorum login, version 1",
        "",
        siwe.grant_line(world.statement),
        "",
        f"Account: {world.account.address}",
        f"Network: {world.network}",
        f"Session: keyquorum:session:{thumbprint}",
        "Keys: *",
        "Scopes: 2 3",
        "Uses: 1000",
        "Issued: 2027-01-15T08:00:00Z",
        "Expires: 2027-01-15T09:00:00Z",
        f"Nonce: {world.statement.nonce}",
        f"Block: {world.statement.block}",
        f"Challenge: 0x{world.statement.challenge}",
    ]
    assert all(" " <= character <= "~" or character == "\n" for character in "\n".join(lines))


@FORMS
def test_no_two_statements_have_the_same_digest(world: Any, form: str) -> None:
    statements = [
        replace(world.statement, **{name: value if name != "expires" else world.statement.expires + value})
        for name, values in CHANGES.items()
        for value in values
    ]
    digests = {wallet_key.digest_of(form, one, world.address, world.now) for one in [world.statement, *statements]}
    digests |= {wallet_key.digest_of(form, world.statement, bytes(20), world.now)}
    digests |= {wallet_key.digest_of(form, world.statement, world.address, world.now + 1)}
    assert len(digests) == len(statements) + 3


def test_a_key_of_the_network_signs_such_a_login_only_with_the_right_to_manage(world: Any) -> None:
    text = wallet_key.build_text(world.statement, world.address, world.now)
    typed = wallet_key.build_typed_data(world.statement, world.address, world.now)
    for intent in (message_intent(text), typed_data_intent(typed)):
        assert Scope.MANAGE_PERMISSIONS in scopes_needed(read(intent, None), 31337, set())


# ---- contract wallets ---------------------------------------------------------------------------------------------


class Chain:
    """One contract wallet that says yes to one digest; records what it was asked."""

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        self.asked: list[tuple[str, str]] = []

    async def code(self, address: str, at: str) -> bytes:
        return b"\x60"

    async def call(self, address: str, data: bytes, at: str) -> bytes:
        self.asked.append((address, at))
        return MAGIC if data[4:36] == self.digest else bytes(32)


@FORMS
async def test_a_contract_wallet_is_asked_about_the_same_digest_at_both_blocks(
    world: Any, form: str, refused: Callable[..., Any]
) -> None:
    chain = Chain(wallet_key.digest_of(form, world.statement, world.address, world.now))
    proof = {"form": form, "address": world.account.address, "signature": "0x1234", "issued_at": world.now}
    assert (await login(world, proof, code=chain.code, call=chain.call)).id == world.address
    assert chain.asked == [(to_checksum(world.address), "finalized"), (to_checksum(world.address), "latest")]
    with refused("wallet_refused"):
        await login(world, proof, replace(world.statement, nonce="ac" * 16), code=chain.code, call=chain.call)


async def test_the_owner_of_two_contract_wallets_logs_in_with_the_one_he_named(
    world: Any, refused: Callable[..., Any]
) -> None:
    chain = Chain(wallet_key.digest_of("eip712", world.statement, world.address, world.now))
    proof = sign(world, "eip712") | {"address": to_checksum(bytes(20))}
    with refused("wallet_refused"):
        await login(world, proof, code=chain.code, call=chain.call)


@pytest.mark.parametrize(("seconds", "allowed"), [(MAX_CONTRACT_SESSION, True), (MAX_CONTRACT_SESSION + 1, False)])
async def test_a_contract_wallets_session_lasts_an_hour_at_most(
    world: Any, seconds: int, allowed: bool, refused: Callable[..., Any]
) -> None:
    statement = replace(world.statement, expires=world.now + seconds)
    chain = Chain(wallet_key.digest_of("eip712", statement, world.address, world.now))
    proof = {"form": "eip712", "address": world.account.address, "signature": "0x", "issued_at": world.now}
    if allowed:
        assert await login(world, proof, statement, code=chain.code, call=chain.call)
        return
    with refused("session_too_long"):
        await login(world, proof, statement, code=chain.code, call=chain.call)


async def test_nothing_is_asked_of_the_chain_for_a_proof_that_is_too_old(world: Any) -> None:
    chain = Chain(b"")
    proof = {"form": "eip712", "address": world.account.address, "signature": "0x", "issued_at": 0}
    with pytest.raises(Invalid):
        await login(world, proof, code=chain.code, call=chain.call)
    assert chain.asked == []


# ---- independent judges -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scopes", [(), (2, 3)])
@pytest.mark.parametrize("keys", [("*",), KEYS])
def test_eth_account_makes_the_same_hashes(world: Any, scopes: tuple[int, ...], keys: tuple[str, ...]) -> None:
    statement = replace(world.statement, scopes=scopes, keys=keys)
    signable = encode_typed_data(full_message=wallet_key.build_typed_data(statement, world.address, world.now))
    hashes = wallet_key.typed_hashes(statement, world.address, world.now)
    assert (bytes(signable.header), bytes(signable.body)) == hashes


def test_the_two_encoders_of_this_project_agree(world: Any) -> None:
    typed = wallet_key.build_typed_data(world.statement, world.address, world.now)
    found = read(typed_data_intent(typed), None)
    assert found.digest == wallet_key.digest_of("eip712", world.statement, world.address, world.now)
    text = wallet_key.build_text(world.statement, world.address, world.now)
    assert wallet_signature.message_hash(text.encode()) == read(message_intent(text), None).digest
