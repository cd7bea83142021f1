"""What the page computes to check others, against the Python it must agree with, in node."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest
from coincurve import PrivateKey
from page_modules import JS, Ask

from keyquorum import intents
from keyquorum.algebra import ecdsa
from keyquorum.algebra.rng import SeededRng
from keyquorum.algebra.transcript import Tag
from keyquorum.auth import certificate as certificates
from keyquorum.auth.commitment import Commitment, Receipt, receipts_needed
from keyquorum.auth.method import Proven
from keyquorum.auth.network import network_id
from keyquorum.auth.passkey import identity
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import Statement
from keyquorum.chain import fees
from keyquorum.chain.contracts import interface
from keyquorum.evm.address import to_checksum
from keyquorum.evm.digests import identity_mark, session_mark
from keyquorum.evm.keys import eth_address, token_id
from keyquorum.formats.text import to_base64url
from keyquorum.intents import evm_calls, show
from keyquorum.intents.show import coins

NETWORK = network_id(31337, bytes(range(20)))
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
SECRET = PrivateKey(b"\x21" * 32)
PUBLIC = SECRET.public_key.format(compressed=False)
NOW = 1_800_000_000


def quantity(value: int) -> dict[str, str]:
    return {"$big": str(value)}


@pytest.fixture(scope="module")
def statement() -> Statement:
    key = SessionPrivateKey.generate(SeededRng("page checks"))
    return Statement(NETWORK, key.public, ("*",), (1, 6), NOW + 900, "ab" * 16, "0x" + "11" * 32, 100)


# -- the curve --------------------------------------------------------------------------------------------------------


def signatures(count: int) -> list[tuple[bytes, int, int, int]]:
    rng, found = random.Random(3), []
    for _ in range(count):
        digest = rng.randbytes(32)
        compact = SECRET.sign_recoverable(digest, hasher=None)
        found.append((digest, *ecdsa.from_compact(compact[:64]), compact[64]))
    return found


def test_the_page_recovers_who_signed(ask: Ask) -> None:
    cases = signatures(6)
    calls = [[digest, quantity(r), quantity(s), v] for digest, r, s, v in cases]
    assert ask("secp256k1", "recover", calls) == [PUBLIC] * len(cases)
    flipped = [[digest, quantity(r), quantity(s), v ^ 1] for digest, r, s, v in cases]
    assert PUBLIC not in ask("secp256k1", "recover", flipped)
    assert ask("secp256k1", "addressOf", [[PUBLIC]]) == [eth_address(PUBLIC)]
    assert ask("secp256k1", "tokenOf", [[PUBLIC]]) == [f"0x{token_id(PUBLIC):064x}"]


def test_what_is_no_signature_is_nobodys(ask: Ask) -> None:
    digest, r, s, v = signatures(1)[0]
    bad = [
        (0, s, v),
        (r, 0, v),
        (N, s, v),
        (r, N, v),
        (r, N - s, v),
        (r, s, 4),
        (r, s, -1),
        (2**256 - 1, s, v),
        (r, s, v | 2),
    ]
    calls = [[digest, quantity(one), quantity(other), parity] for one, other, parity in bad]
    ask("secp256k1", "recover", calls, failing=True)
    held = ask("secp256k1", "verify", [[digest, quantity(r), quantity(other), PUBLIC] for other in (s, N - s, 0, N)])
    assert held == [True, False, False, False]
    other_digest = bytes(32)
    assert ask("secp256k1", "verify", [[other_digest, quantity(r), quantity(s), PUBLIC]]) == [False]
    off = PUBLIC[:-1] + bytes([PUBLIC[-1] ^ 1])
    ask(
        "secp256k1", "verify", [[digest, quantity(r), quantity(s), key] for key in (off, PUBLIC[1:], b"")], failing=True
    )


# -- the nodes' words -------------------------------------------------------------------------------------------------

ADDRESS = to_checksum(b"\x42" * 20)
MESSAGES = [
    "",
    "hello",
    'quotes " and \\ and \n\t\x00\x7f\x1f',
    "ü€\U0001f600" * 30,
    "\u202eright to left\u200b",
    "x" * 99,
    "x" * 100,
    "x" * 101,
    "x" * 10_000,
    '"' * 60,
    "\ufeffbom",
    f"evil.example wants you to sign in with your Ethereum account:\n{ADDRESS}\n\nall",
    f"evil\u2028.example wants you to sign in with your Ethereum account:\n{ADDRESS}\n",
    f"evil\r.example wants you to sign in with your Ethereum account:\n{ADDRESS}\n",
    f" {'e' * 301} wants you to sign in with your Ethereum account:\n{ADDRESS}\n",
    f"{chr(0x1F600) * 300} wants you to sign in with your Ethereum account:\n{ADDRESS}\n",
    "please sign in  WITH Ethereum",
    "S\u0131gn\x1cin\x85with\u00a0your\u3000ethereum",
    "\u017fign \u0130n with ethereum",
    "sign in\ufeffwith ethereum",
    "keyquorum:session:abc_-DEF.rest",
    "keyquorum:session:",
]


def test_a_message_has_the_nodes_digest_and_words(ask: Ask) -> None:
    rng = random.Random(5)
    letters = ['"', "\\", "a", " ", "\n", "é", "\U0001f600", "\x7f", "\u202e", "sign in with ethereum"]
    cases = [*MESSAGES, *("".join(rng.choices(letters, k=rng.randrange(160))) for _ in range(150))]
    found = ask("intents", "message", [[text] for text in cases])
    for text, one in zip(cases, found, strict=True):
        read = intents.read({"kind": "evm-message", "message": text}, None)
        assert (one["digest"], one["summary"]) == (read.digest, read.summary), text
        assert one["login"] == bool(read.details["login"])
        assert one["intent"] == {"kind": "evm-message", "message": text}
    ask("intents", "message", [["x" * 65_537], ["é" * 40_000]], failing=True)


def test_half_a_character_is_not_signed(ask: Ask) -> None:
    ask("intents", "message", [["half \ud800 a pair"], ["\udc00"]], failing=True)


def test_a_transfer_has_the_nodes_digest_and_words(ask: Ask) -> None:
    rng = random.Random(6)
    chains = [1, 10, 56, 100, 137, 31337, 43114, 11155111, 421614, 999, 2**40]
    for chain in chains:
        values = {
            "chainId": chain,
            "nonce": rng.choice([0, 1, 2**40]),
            "tip": rng.choice([0, 10**9]),
            "fee": 10**9 + rng.randrange(10**12),
            "gas": rng.choice([21_000, 26_250, 10**6]),
            "value": rng.choice([0, 1, 10**18, 10**20 + 1, 25 * 10**16]),
        }
        page = {name: quantity(value) for name, value in values.items()} | {
            "to": "0x" + rng.randbytes(20).hex(),
            "data": "0x",
        }
        (found,) = ask("intents", "transfer", [[page]])
        read = intents.read(found["intent"], chain)
        assert (found["digest"], found["summary"]) == (read.digest, read.summary)
    with_data = page | {"data": "0x12"}
    ask("intents", "transfer", [[with_data]], failing=True)


def test_chains_and_coins_are_named_as_the_nodes_do(ask: Ask) -> None:
    known = [*show._COINS, 2, 999]
    assert ask("show", "coins", [[quantity(15 * 10**17), chain] for chain in known]) == [
        coins(15 * 10**17, chain) for chain in known
    ]
    assert all(not name.startswith("chain ") for name in ask("show", "chainName", [[chain] for chain in show._COINS]))


def test_a_change_of_permissions_has_the_nodes_digest_and_words(ask: Ask) -> None:
    contract = interface("PKPPermissions")
    address, token = bytes(range(20)), 2**255 + 12345
    network = {"chainId": 31337, "contracts": {"PKPPermissions": "0x" + address.hex()}}
    key = f"0x{token:064x}"
    calls = [
        contract.encode("addPermittedAuthMethod", token, (3, b"\x03" * 32, b"\x04" * 97), [1, 6]),
        contract.encode("removePermittedAuthMethod", token, 3, b"\x02" * 33),
        contract.encode("setDelay", token, 86_400),
        contract.encode("cancelPendingChange", token, 7),
        bytes(range(68)),
        b"\x01\x02\x03\x04",
    ]
    for call, nonce in zip(calls, (0, 1, 2, 3, 2**33, 5), strict=True):
        (found,) = ask("intents", "permissionCall", [[network, key, "0x" + call.hex(), nonce, NOW]])
        read = intents.read(found["intent"], 31337)
        assert (found["digest"], found["summary"]) == (read.digest, read.summary)
        assert read.digest == contract_digest(31337, address, token, call, nonce, NOW)


def contract_digest(chain: int, address: bytes, token: int, call: bytes, nonce: int, deadline: int) -> bytes:
    """What `PKPPermissions.permissionCallDigest` computes."""
    from eth_abi.abi import encode
    from eth_hash.auto import keccak

    kind = keccak(b"PermissionCall(uint256 tokenId,bytes call,uint256 nonce,uint256 deadline)")
    domain_kind = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
    name = keccak(b"Keyquorum PKPPermissions")
    types = ["bytes32", "bytes32", "bytes32", "uint256", "address"]
    domain = keccak(encode(types, [domain_kind, name, keccak(b"1"), chain, address]))
    struct = keccak(
        encode(["bytes32", "uint256", "bytes32", "uint256", "uint256"], [kind, token, keccak(call), nonce, deadline])
    )
    return keccak(b"\x19\x01" + domain + struct)


def test_every_call_that_the_page_makes_is_one_that_nodes_name() -> None:
    named = dict(re.findall(r'^  (\w+): "(\w+\([^"]*)",$', (JS / "intents.js").read_text(), re.MULTILINE))
    assert set(named) == {"addPermittedAuthMethod", "removePermittedAuthMethod", "setDelay", "cancelPendingChange"}
    assert set(named.values()) <= set(evm_calls._FUNCTIONS)


# -- prices -----------------------------------------------------------------------------------------------------------


def test_the_limits_of_fees_are_the_clients(ask: Ask) -> None:
    limits = fees.SpendingLimits()
    cases = [
        (21_000, 2 * 10**9, 10**9, 10**9),
        (21_000, 10**11, 10 * 10**9, 10**9),
        (21_000, 10**11, 10 * 10**9 + 1, 10**9),
        (21_000, 10**11, fees.LOW_TIP, 1),
        (21_000, 10**11, fees.LOW_TIP + 1, 1),
        (limits.max_gas, 1, 1, 10**9),
        (limits.max_gas + 1, 1, 1, 10**9),
        (20_000, limits.max_fee // 20_000, 1, 10**9),
        (20_000, limits.max_fee // 20_000 + 1, 1, 10**9),
    ]
    names = ("gas", "fee", "tip", "baseFee")
    asked = [
        [{name: quantity(value) for name, value in zip(names, case, strict=True)} | {"chainId": quantity(1)}]
        for case in cases
    ]
    found = [len(words) for words in ask("fees", "tooDear", asked)]
    assert found == [count_refusals(limits, *case) for case in cases] == [0, 0, 1, 0, 1, 0, 1, 0, 1]


def count_refusals(limits: fees.SpendingLimits, gas: int, fee: int, tip: int, base_fee: int) -> int:
    refused = 0
    for check in (lambda: limits.tip(base_fee, tip), lambda: limits.check(gas, fee)):
        try:
            check()
        except fees.TooDear:
            refused += 1
    return refused


def test_an_address_with_a_wrong_capital_is_not_taken(ask: Ask) -> None:
    good = to_checksum(bytes(range(1, 21)))
    swapped = good.swapcase().replace("X", "x", 1)
    assert ask("keys", "readAddress", [[good], [good.lower()], ["0x" + good[2:].upper()]]) == [good] * 3
    ask("keys", "readAddress", [[swapped], [good[:-1]], ["0x" + "g" * 40]], failing=True)


# -- identities, sessions, certificates -------------------------------------------------------------------------------


def test_marks_of_sessions_and_identities_are_the_contracts(ask: Ask) -> None:
    assert ask("sessions", "sessionMark", [["ab" * 32]]) == ["0x" + session_mark(b"\xab" * 32).hex()]
    cases = [(1, b"\x01" * 20), (6, b"\x02" * 32), (20, b"\x03" * 64)]
    asked = [[{"type": number, "id": "0x" + name.hex()}] for number, name in cases]
    assert ask("sessions", "identityMark", asked) == ["0x" + identity_mark(*case).hex() for case in cases]


def test_a_passkey_has_the_nodes_name(ask: Ask) -> None:
    credential, key = b"\x05" * 40, b"\x06" * 77
    proof = {"credential_id": to_base64url(credential), "public_key": to_base64url(key)}
    assert ask("passkey", "identity", [["localhost", proof]]) == ["0x" + identity("localhost", credential, key).hex()]


def certificate_of(statement: Statement, proven: list[Proven], **changes: Any) -> str:
    signing_input = certificates.certificate_input(statement, proven)
    if changes:
        from keyquorum.formats import jws

        claims = jws.parse(
            f"{signing_input.decode()}.{'A' * 86}", algorithm="ES256K", kind=certificates.TYPE, max_bytes=8192
        ).claims
        signing_input = jws.make_input("ES256K", certificates.TYPE, claims | changes)
    compact = SECRET.sign_recoverable(certificates.digest(signing_input), hasher=None)
    return certificates.assemble(signing_input, *ecdsa.from_compact(compact[:64]))


def test_only_a_certificate_for_what_was_asked_is_taken(ask: Ask, statement: Statement) -> None:
    network = {"network": NETWORK, "networkKey": PUBLIC}
    me, other = Proven(1, b"\x01" * 20, NOW), Proven(1, b"\x02" * 20, NOW)
    told, mine = statement.to_json(), "0x" + "01" * 20
    past = {"iat": 1_700_000_000}
    good = certificate_of(statement, [me], **past)
    assert (
        ask("checks", "certificate", [[network, good, told, "siwe", mine], [network, good, told, "siwe"]]) == [None] * 2
    )
    head, body, signature = good.split(".")
    wrong = [
        certificate_of(statement, [other], **past),
        certificate_of(statement, [me, other], **past),
        certificate_of(statement, [Proven(3, b"\x01" * 20, NOW)], **past),
        *(
            certificate_of(statement, [me], **(past | change))
            for change in (
                {"scopes": [1]},
                {"scopes": [1, 5, 6]},
                {"keys": ["0x" + "01" * 32]},
                {"exp": statement.expires + 1},
                {"sub": "x" * 43},
                {"jti": "00" * 32},
                {"iss": network_id(1, bytes(20))},
                {"limits": {"signatures": 101}},
                {"iat": "1700000000"},
                {"more": 1},
                {"methods": []},
                {"methods": [{"type": "1", "id": mine}]},
            )
        ),
        f"{head}.{body}.{signature[:-2]}AA",
        f"{head}.{body}",
        "",
        "a.b.c",
        f"{body}.{body}.{signature}",
    ]
    ask("checks", "certificate", [[network, token, told, "siwe", mine] for token in wrong], failing=True)
    foreign = {"network": NETWORK, "networkKey": PrivateKey(b"\x22" * 32).public_key.format(compressed=False)}
    ask("checks", "certificate", [[foreign, good, told, "siwe", mine]], failing=True)


def test_a_step_up_keeps_the_session_and_whoever_is_in_it(ask: Ask, statement: Statement) -> None:
    network = {"network": NETWORK, "networkKey": PUBLIC}
    me, other, third = (Proven(number, bytes([number]) * 20, NOW) for number in (1, 3, 4))
    old = json.loads(
        json.dumps({"iat": 1_700_000_000, "jti": "cd" * 32, "methods": [{"type": 1, "id": "0x" + "01" * 20}]})
    )
    same = {"iat": 1_700_000_000, "jti": "cd" * 32}
    told = statement.to_json()
    good = certificate_of(statement, [me, other], **same)
    again = certificate_of(statement, [me], **same)
    assert (
        ask(
            "checks",
            "certificate",
            [
                [network, good, told, "passkey", "0x" + "03" * 20, old],
                [network, again, told, "siwe", "0x" + "01" * 20, old],
            ],
        )
        == [None] * 2
    )
    wrong = [
        certificate_of(statement, [other], **same),
        certificate_of(statement, [me, other, third], **same),
        certificate_of(statement, [me, third], **same),
        certificate_of(statement, [me], **same),
        certificate_of(statement, [me, other], **(same | {"jti": "ce" * 32})),
        certificate_of(statement, [me, other], **(same | {"iat": 1_700_000_001})),
    ]
    ask(
        "checks",
        "certificate",
        [[network, token, told, "passkey", "0x" + "03" * 20, old] for token in wrong],
        failing=True,
    )


def test_receipts_count_only_from_nodes_of_the_registry(ask: Ask, statement: Statement) -> None:
    committed = Commitment.to_token("discord", "MTIzNDU2Nzg5MDEyMzQ1Njc4.GaBcDe.abcdefGHIJKL", statement)
    other = Commitment.to_token("discord", "another.token.of-somebody", statement)
    address = eth_address(PUBLIC)
    network = {"network": NETWORK, "epoch": 3, "nodes": [{"party": 2, "address": address}], "threshold": 1}

    def receipt(
        commitment: Commitment, epoch: int = 3, party: int = 2, at: int = NOW, secret: bytes = b"\x21" * 32
    ) -> Any:
        return Receipt.sign(commitment, epoch, party, at, secret).to_json()

    good = [receipt(committed), receipt(committed, at=NOW - 660), receipt(committed, at=NOW + 60)]
    bad = [
        receipt(other),
        receipt(committed, epoch=4),
        receipt(committed, party=3),
        receipt(committed, at=NOW - 661),
        receipt(committed, at=NOW + 61),
        receipt(committed, secret=b"\x22" * 32),
        receipt(committed) | {"party": 1},
        receipt(committed) | {"issued_at": NOW - 1},
        receipt(committed) | {"signature": "0x" + "00" * 65},
        receipt(committed) | {"signature": "0x12"},
        {},
        None,
    ]
    asked = [[network, committed.to_json(), one, NOW] for one in (*good, *bad)]
    assert ask("discord", "isGood", asked) == [True] * len(good) + [False] * len(bad)
    sizes = [(n, t) for n in range(1, 20) for t in range(1, n + 1)]
    assert ask("discord", "receiptsNeeded", [list(size) for size in sizes]) == [
        receipts_needed(*size) for size in sizes
    ]


# -- providers --------------------------------------------------------------------------------------------------------


def test_a_provider_bears_its_own_name_and_a_safe_address(ask: Ask) -> None:
    google = "https://accounts.google.com"
    named = [
        ("google", google, "Google (accounts.google.com)"),
        ("npm", "http://127.0.0.1:3000", "Npm (127.0.0.1:3000)"),
    ]
    assert ask("oidc", "labelOf", [[{"name": name, "issuer": issuer}] for name, issuer, _ in named]) == [
        label for *_, label in named
    ]
    wrong = [
        ("google", "https://evil.example"),
        ("Google", "https://accounts.google.com.evil.example"),
        ("login by google", "https://evil.example"),
        ("npm", "http://evil.example"),
        ("npm", "javascript:alert(1)"),
        ("npm", "https://user@evil.example"),
        ("npm", ""),
    ]
    ask("oidc", "labelOf", [[{"name": name, "issuer": issuer}] for name, issuer in wrong], failing=True)
    assert ask("discord", "labelOf", [[{"base_url": "https://discord.com/api"}]]) == ["Discord"]
    ask(
        "discord",
        "labelOf",
        [[{"base_url": url}] for url in ("https://evil.example", "http://discord.com")],
        failing=True,
    )
    safe = ["https://codes.example", "http://127.0.0.1:9", "http://localhost:9"]
    assert ask("gateway", "safeUrl", [[url] for url in safe]) == safe
    ask(
        "gateway",
        "safeUrl",
        [[url] for url in ("http://10.0.0.1", "ftp://a.example", "https://a@b.example", 5, None)],
        failing=True,
    )


def test_the_receipts_tag_is_the_registrys() -> None:
    assert f'BEARER_RECEIPT: "{Tag.BEARER_RECEIPT.value}"' in (JS / "transcript.js").read_text()
