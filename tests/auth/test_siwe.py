"""Login with an Ethereum account: real wallets get in, and only with the very message of the statement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from eth_abi import decode
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data
from eth_hash.auto import keccak

from keyquorum.algebra.field import Q
from keyquorum.auth import siwe, siwe_message, wallet_signature
from keyquorum.auth.method import Context, Proven, prove
from keyquorum.auth.network import network_id
from keyquorum.auth.scopes import WORDS, Scope
from keyquorum.auth.siwe_message import to_time
from keyquorum.auth.statement import CLOCK_SKEW, MAX_SESSION
from keyquorum.auth.wallet_login import MAX_AGE, MAX_CONTRACT_SESSION
from keyquorum.evm.address import to_checksum
from keyquorum.refusal import Invalid

KEYS = tuple(f"0x{number:064x}" for number in range(1, 33))
MAGIC = bytes.fromhex("1626ba7e") + bytes(28)


async def login(world: Any, proof: object = None, **context: Any) -> Proven:
    return await prove("siwe", proof or world.proof(), world.statement, replace(world.context, **context))


async def test_an_ordinary_account_logs_in_with_what_its_wallet_signed(world: Any) -> None:
    proven = await login(world)
    assert (proven.type, proven.id) == (1, world.address)


@pytest.mark.parametrize("scopes", [(), (2,), (1, 2, 3, 4, 5, 6)])
@pytest.mark.parametrize("keys", [("*",), KEYS[:1], KEYS])
async def test_every_statement_can_be_put_into_words_that_a_node_reads_back(
    world: Any, scopes: tuple[int, ...], keys: tuple[str, ...]
) -> None:
    statement = replace(world.statement, scopes=scopes, keys=keys)
    line = siwe.grant_line(statement)
    assert all(WORDS[Scope(number)] in line for number in scopes)
    assert not scopes or all(key in line for key in keys if key != "*")
    proof = world.proof(world.message(statement))
    assert (await prove("siwe", proof, statement, world.context)).id == world.address


def test_no_two_grants_are_worded_alike(world: Any) -> None:
    grants = [
        replace(world.statement, scopes=scopes, keys=keys)
        for scopes in ((1,), (2,), (3,), (4,), (5,), (6,), (2, 3), (2, 3, 4))
        for keys in (("*",), KEYS[:1], KEYS[1:2], KEYS[:2], KEYS[:3])
    ]
    assert len({siwe.grant_line(one) for one in grants}) == len(grants)
    assert "nothing" in siwe.grant_line(replace(world.statement, scopes=()))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"domain": "evil.example"}, "wrong_domain"),
        ({"domain": "localhost:8080"}, "wrong_domain"),
        ({"domain": "user@localhost"}, "wrong_domain"),
        ({"domain": "LOCALHOST"}, "wrong_domain"),
        ({"domain": "localhost."}, "wrong_domain"),
        ({"scheme": "ftp"}, "wrong_scheme"),
        ({"scheme": "javascript"}, "wrong_scheme"),
        ({"uri": "keyquorum:session:4hYe7DnoLmjMfGWxKVKG90qVwHt3zvosOYn0XAL2Wnw"}, "wrong_session"),
        ({"uri": "https://localhost/"}, "wrong_session"),
        ({"chain_id": 1}, "wrong_chain"),
        ({"nonce": "0" * 64}, "wrong_challenge"),
        ({"nonce": "12345678"}, "wrong_challenge"),
        ({"statement": None}, "wrong_words"),
        ({"statement": ""}, "wrong_words"),
        ({"statement": "Welcome to our newsletter."}, "wrong_words"),
        ({"resources": ()}, "unexpected_resources"),
        ({"resources": ("urn:recap:e30",)}, "unexpected_resources"),
        ({"expiration_time": None}, "wrong_expiry"),
        ({"expiration_time": "2027-01-15T09:00:01Z"}, "wrong_expiry"),
        ({"expiration_time": "2027-01-15T09:00:00.5Z"}, "wrong_expiry"),
    ],
)
async def test_a_message_that_differs_from_the_statement_is_refused_though_its_signature_holds(
    world: Any, change: dict[str, Any], code: str, refused: Callable[..., Any]
) -> None:
    with refused(code, 401):
        await login(world, world.proof(world.message(**change)))


async def test_the_same_expiry_may_be_spelt_in_another_time_zone(world: Any) -> None:
    assert to_time(world.statement.expires) == "2027-01-15T09:00:00Z"
    for spelling in ("2027-01-15T10:00:00+01:00", "2027-01-15T09:00:00.000Z"):
        assert await login(world, world.proof(world.message(expiration_time=spelling, request_id="7")))


async def test_upper_case_challenges_are_other_challenges(world: Any, refused: Callable[..., Any]) -> None:
    with refused("wrong_challenge"):
        await login(world, world.proof(world.message(nonce=world.statement.challenge.upper())))


@pytest.mark.parametrize(
    ("domain", "scheme", "allowed"),
    [
        ("localhost", "http", True),
        ("localhost:8545", "http", True),
        ("127.0.0.1:1", "http", True),
        ("[::1]", "http", True),
        ("[::1]:8", "http", True),
        ("wallet.example", "https", True),
        ("wallet.example", None, True),
        ("wallet.example", "http", False),
        ("localhost.example", "http", False),
        ("wallet.example", "HTTPS", False),
    ],
)
async def test_only_https_is_a_scheme_but_on_the_own_machine_http_is_too(
    world: Any, domain: str, scheme: str | None, allowed: bool, refused: Callable[..., Any]
) -> None:
    text = siwe.build_message(world.statement, world.address, domain, world.now, scheme)
    if allowed:
        assert await login(world, world.proof(text), domains=frozenset({domain}))
        return
    with refused("wrong_scheme"):
        await login(world, world.proof(text), domains=frozenset({domain}))


async def test_an_operator_can_close_every_domain(world: Any, refused: Callable[..., Any]) -> None:
    with refused("wrong_domain"):
        await login(world, domains=frozenset())


@pytest.mark.parametrize(
    ("issued", "not_before", "code"),
    [
        (CLOCK_SKEW, None, None),
        (CLOCK_SKEW + 1, None, "clock_skew"),
        (0, CLOCK_SKEW, None),
        (0, CLOCK_SKEW + 1, "clock_skew"),
        (-MAX_AGE - CLOCK_SKEW, None, None),
        (-MAX_AGE - CLOCK_SKEW - 1, None, "login_too_old"),
    ],
)
async def test_the_times_of_a_message_agree_with_the_clock_within_a_minute(
    world: Any, issued: int, not_before: int | None, code: str | None, refused: Callable[..., Any]
) -> None:
    text = world.message(
        issued_at=to_time(world.now + issued),
        not_before=None if not_before is None else to_time(world.now + not_before),
    )
    if code is None:
        assert (await login(world, world.proof(text))).id == world.address
        return
    with refused(code, 401):
        await login(world, world.proof(text))


@pytest.mark.parametrize(("seconds", "allowed"), [(MAX_SESSION, True), (MAX_SESSION + 1, False)])
async def test_a_day_is_counted_from_the_time_that_the_message_says(
    world: Any, seconds: int, allowed: bool, refused: Callable[..., Any]
) -> None:
    statement = replace(world.statement, expires=world.now + seconds)
    proof = world.proof(world.message(statement))
    if allowed:
        assert await prove("siwe", proof, statement, world.context)
        return
    with refused("session_too_long"):
        await prove("siwe", proof, statement, world.context)


async def test_a_message_that_expires_before_it_was_made_is_refused(world: Any, refused: Callable[..., Any]) -> None:
    statement = replace(world.statement, expires=world.now)
    with refused("session_too_long"):
        await prove("siwe", world.proof(world.message(statement)), statement, world.context)


# ---- signatures of ordinary accounts ------------------------------------------------------------------------------


def signature_of(proof: dict[str, str]) -> bytes:
    return bytes.fromhex(proof["signature"][2:])


async def test_both_customs_of_the_last_byte_are_accepted(world: Any) -> None:
    for secret in range(1, 8):
        account = Account.from_key(secret.to_bytes(32, "big"))
        text = siwe.build_message(world.statement, bytes.fromhex(account.address[2:]), "localhost", world.now)
        proof = world.proof(text, account)
        signature = signature_of(proof)
        other = signature[:64] + bytes([signature[64] - 27])
        assert await login(world, proof) == await login(world, proof | {"signature": "0x" + other.hex()})


@pytest.mark.parametrize("signature", ["", "0x0", "0xzz", 5, None, [], "0x" + "00" * 8193, "0x ab"])
async def test_a_signature_that_is_not_hex_or_too_long_is_malformed(world: Any, signature: object) -> None:
    with pytest.raises(Invalid) as caught:
        await login(world, world.proof() | {"signature": signature})
    assert caught.value.status == 400


async def test_any_other_form_of_the_signature_is_refused(world: Any, refused: Callable[..., Any]) -> None:
    good = signature_of(world.proof())
    r, s, v = good[:32], int.from_bytes(good[32:64], "big"), good[64]
    twin = r + (Q - s).to_bytes(32, "big") + bytes([55 - v])
    compact = r + (s | (v - 27) << 255).to_bytes(32, "big")
    forms = {
        "the high-s twin": twin,
        "the other parity": good[:64] + bytes([55 - v]),
        "EIP-2098": compact,
        "too short": good[:64],
        "too long": good + b"\0",
        "empty": b"",
        "zero": bytes(64) + b"\x1b",
        "r = q": Q.to_bytes(32, "big") + good[32:],
        "s = 0": r + bytes(32) + bytes([v]),
        "one bit": bytes([good[0] ^ 1]) + good[1:],
        **{f"v = {other}": good[:64] + bytes([other]) for other in (2, 3, 26, 29, 30, 31, 35, 37, 255)},
    }
    for name, form in forms.items():
        with refused("bad_wallet_signature", 401):
            await login(world, world.proof() | {"signature": "0x" + form.hex()})
            pytest.fail(name)


async def test_another_accounts_signature_is_refused(world: Any, refused: Callable[..., Any]) -> None:
    with refused("bad_wallet_signature"):
        await login(world, world.proof(signer=Account.from_key(b"\x43" * 32)))


async def test_signatures_for_other_purposes_are_refused(world: Any, refused: Callable[..., Any]) -> None:
    text = world.message()
    typed = {
        "types": {"EIP712Domain": [{"name": "name", "type": "string"}], "Login": [{"name": "text", "type": "string"}]},
        "primaryType": "Login",
        "domain": {"name": "Keyquorum"},
        "message": {"text": text},
    }
    for signed in (
        world.account.unsafe_sign_hash(keccak(text.encode())),
        world.account.sign_message(encode_typed_data(full_message=typed)),
        world.account.sign_message(encode_defunct(text=text + "\n")),
        world.account.sign_message(encode_defunct(text=text.replace("\n", "\r\n"))),
    ):
        with refused("bad_wallet_signature"):
            await login(world, {"message": text, "signature": "0x" + bytes(signed.signature).hex()})


@pytest.mark.parametrize(
    "proof",
    [
        None,
        [],
        "proof",
        5,
        {},
        {"message": "x"},
        {"signature": "0x"},
        {"message": 5, "signature": "0x"},
        {"message": "x" * 9000, "signature": "0x"},
        {"message": "x", "signature": "0x"},
        {"message": "\ud800", "signature": "0x"},
        {"message": "x", "signature": "0x", "address": "0x"},
    ],
)
async def test_a_proof_of_any_other_form_is_malformed(world: Any, proof: object) -> None:
    with pytest.raises(Invalid) as caught:
        await prove("siwe", proof, world.statement, world.context)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("text", "address", "signature"),
    [
        (
            "www.tally.xyz wants you to sign in with your Ethereum account:\n"
            "0xc95EB884FE852e241D409234bfC7045CB9E31BD7\n\nSign in with Ethereum to Tally\n\n"
            "URI: https://tally.xyz\nVersion: 1\nChain ID: 1\nNonce: 15050747\nIssued At: 2022-06-30T14:08:51.382Z",
            "c95EB884FE852e241D409234bfC7045CB9E31BD7",
            "8c46b6eb8505939892d8e9b075f89f8277321b17b993151f37810cdda38cce6f"
            "4a85909d2b53e6a14629c74c0ac38bf4becde78ee5b2529812bf6cceaf7b2a2501",
        ),
        (
            "login.xyz wants you to sign in with your Ethereum account:\n"
            "0x9D85ca56217D2bb651b00f15e694EB7E713637D4\n\nSign-In With Ethereum Example Statement\n\n"
            "URI: https://login.xyz\nVersion: 1\nChain ID: 1\nNonce: bTyXgcQxn2htgkjJn\n"
            "Issued At: 2022-01-27T17:09:38.578Z\nExpiration Time: 2100-01-07T14:31:43.952Z",
            "9D85ca56217D2bb651b00f15e694EB7E713637D4",
            "dc35c7f8ba2720df052e0092556456127f00f7707eaa8e3bbff7e56774e7f2e0"
            "5a093cfc9e02964c33d86e8e066e221b7d153d27e5a2e97ccd5ca7d3f2ce06cb1b",
        ),
    ],
)
def test_signatures_that_wallets_made_in_the_wild_lead_to_their_accounts(
    text: str, address: str, signature: str
) -> None:
    assert siwe_message.parse(text).format() == text
    digest = wallet_signature.message_hash(text.encode())
    assert wallet_signature.recover(digest, bytes.fromhex(signature)) == bytes.fromhex(address)


# ---- contract wallets (EIP-1271) ----------------------------------------------------------------------------------


class Chain:
    """One contract wallet: its code and its answer at each of the two blocks; records what it was asked."""

    def __init__(self, code: dict[str, bytes] | bytes = b"\x60", answer: dict[str, bytes] | bytes = MAGIC) -> None:
        self.codes = code if isinstance(code, dict) else {"finalized": code, "latest": code}
        self.answers = answer if isinstance(answer, dict) else {"finalized": answer, "latest": answer}
        self.calls: list[tuple[str, bytes, str]] = []

    async def code(self, address: str, at: str) -> bytes:
        return self.codes[at]

    async def call(self, address: str, data: bytes, at: str) -> bytes:
        self.calls.append((address, data, at))
        return self.answers[at]


async def wallet_login(world: Any, chain: Chain, signature: bytes = b"any form at all") -> Proven:
    proof = {"message": world.message(), "signature": "0x" + signature.hex()}
    return await login(world, proof, code=chain.code, call=chain.call)


@pytest.mark.parametrize("size", [0, 1, 32, 65, 66, 8192])
async def test_a_contract_wallet_is_asked_at_both_blocks_in_the_standards_form(world: Any, size: int) -> None:
    chain = Chain()
    signature = bytes(range(256)) * 32
    assert (await wallet_login(world, chain, signature[:size])).id == world.address
    assert [(address, at) for address, _, at in chain.calls] == [
        (to_checksum(world.address), "finalized"),
        (to_checksum(world.address), "latest"),
    ]
    for _, data, _ in chain.calls:
        assert data[:4] == keccak(b"isValidSignature(bytes32,bytes)")[:4]
        digest = wallet_signature.message_hash(world.message().encode())
        assert decode(["bytes32", "bytes"], data[4:]) == (digest, signature[:size])


@pytest.mark.parametrize("at", ["finalized", "latest"])
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        bytes(32),
        MAGIC[:4],
        MAGIC[:31],
        MAGIC + b"\0",
        MAGIC + bytes(32),
        bytes(28) + MAGIC[:4],
        MAGIC[:31] + b"\1",
        b"\xff" * 32,
        (1).to_bytes(32, "big"),
    ],
)
async def test_only_the_exact_answer_at_both_blocks_is_a_yes(
    world: Any, at: str, answer: bytes, refused: Callable[..., Any]
) -> None:
    other = "latest" if at == "finalized" else "finalized"
    with refused("wallet_refused", 401):
        await wallet_login(world, Chain(answer={at: answer, other: MAGIC}))


async def test_an_account_without_code_is_not_asked(world: Any, refused: Callable[..., Any]) -> None:
    for code in (b"", {"finalized": b"\x60", "latest": b""}):
        chain = Chain(code=code)
        with refused("bad_wallet_signature"):
            await wallet_login(world, chain)
        assert chain.calls == []


async def test_a_wallet_deployed_a_moment_ago_has_to_wait(world: Any, refused: Callable[..., Any]) -> None:
    chain = Chain(code={"finalized": b"", "latest": b"\x60"})
    with refused("wallet_not_final"):
        await wallet_login(world, chain)
    assert chain.calls == []


async def test_an_account_with_a_key_and_code_is_its_keys_whatever_the_code_says(world: Any) -> None:
    chain = Chain(answer=bytes(32))
    assert await login(world, code=chain.code, call=chain.call)
    assert chain.calls == []


async def test_an_owner_signs_for_the_wallet_in_any_form_the_wallet_accepts(world: Any) -> None:
    owner = Account.from_key(b"\x43" * 32)
    assert await wallet_login(world, Chain(), signature_of(world.proof(signer=owner)))


@pytest.mark.parametrize(("seconds", "allowed"), [(MAX_CONTRACT_SESSION, True), (MAX_CONTRACT_SESSION + 1, False)])
async def test_a_contract_wallets_session_lasts_an_hour_at_most(
    world: Any, seconds: int, allowed: bool, refused: Callable[..., Any]
) -> None:
    chain = Chain()
    statement = replace(world.statement, expires=world.now + seconds)
    proof = {"message": world.message(statement), "signature": "0x"}
    context = replace(world.context, code=chain.code, call=chain.call)
    if allowed:
        assert await prove("siwe", proof, statement, context)
        return
    with refused("session_too_long"):
        await prove("siwe", proof, statement, context)


async def test_a_chain_that_cannot_be_reached_is_its_own_error_not_a_refusal(world: Any) -> None:
    class Unreachable(Exception):
        pass

    async def code(address: str, at: str) -> bytes:
        raise Unreachable

    with pytest.raises(Unreachable):
        await login(world, {"message": world.message(), "signature": "0x"}, code=code)


async def test_nothing_is_asked_of_the_chain_for_a_message_that_is_wrong_anyway(
    world: Any, refused: Callable[..., Any]
) -> None:
    chain = Chain()
    for change in ({"nonce": "0" * 64}, {"domain": "evil.example"}, {"issued_at": to_time(0)}):
        with pytest.raises(Invalid):
            await login(world, world.proof(world.message(**change)), code=chain.code, call=chain.call)
    assert chain.calls == []


def test_a_message_that_no_node_would_read_is_not_built(world: Any) -> None:
    for domain in ("", "a b", "exämple.com"):
        with pytest.raises(Invalid):
            siwe.build_message(world.statement, world.address, domain, world.now)


def test_the_message_follows_the_networks_chain(world: Any) -> None:
    statement = replace(world.statement, network=network_id(10, bytes(20)))
    assert "\nChain ID: 10\n" in siwe.build_message(statement, world.address, "localhost", world.now)


async def test_a_context_that_knows_no_chain_knows_no_contracts() -> None:
    empty = Context(now=0)
    assert await empty.call("0x", b"", "latest") == await empty.code("0x", "latest") == b""
