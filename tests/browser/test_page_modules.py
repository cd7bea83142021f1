"""The page's modules against the Python they must agree with, in node: the same statement, the same bytes."""

from __future__ import annotations

import hashlib
import json
import random
import threading
from dataclasses import replace
from http.server import ThreadingHTTPServer
from typing import Any

import pytest
from eth_abi.abi import encode as abi_encode
from eth_account import Account
from eth_hash.auto import keccak
from json_server import JsonHandler
from page_modules import JS, Ask

from keyquorum import intents
from keyquorum.algebra.rng import SeededRng
from keyquorum.algebra.transcript import Tag, encode, tagged_hash
from keyquorum.auth import siwe
from keyquorum.auth.code_assertion import check_answer, code_hash, fingerprint
from keyquorum.auth.commitment import Commitment
from keyquorum.auth.network import network_id
from keyquorum.auth.passkey import split_registration
from keyquorum.auth.scopes import Scope
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.siwe_message import from_time
from keyquorum.auth.statement import Statement
from keyquorum.chain.contracts import interface
from keyquorum.client import runs
from keyquorum.evm.address import to_checksum
from keyquorum.formats import jws
from keyquorum.formats.text import from_base64url, to_base64url
from soft_passkey import Algorithm, SoftPasskey, make_key

KEYS = ("0x" + "ab" * 32, "0x" + "01" * 32)


@pytest.fixture(scope="module")
def session() -> SessionPrivateKey:
    return SessionPrivateKey.generate(SeededRng("page"))


@pytest.fixture(scope="module")
def statement(session: SessionPrivateKey) -> Statement:
    network = network_id(31337, bytes(range(20)))
    return Statement(network, session.public, ("*",), (1, 6), 1_800_000_900, "ab" * 16, "0x" + "11" * 32, 100)


def variants(statement: Statement) -> list[Statement]:
    every = tuple(int(scope) for scope in Scope)
    keys = [SessionPrivateKey.generate(SeededRng(f"page {index}")).public for index in range(8)]
    return [
        statement,
        replace(statement, scopes=()),
        *(replace(statement, scopes=(number,)) for number in every),
        replace(statement, scopes=every, keys=KEYS, uses=1_000_000),
        replace(statement, scopes=every[:2], keys=KEYS[:1], uses=1, expires=0),
        replace(statement, network=network_id(2**40, b"\xff" * 20), expires=2**40, nonce="00" * 16),
        *(replace(statement, session=key) for key in keys),
    ]


def test_page_and_nodes_compute_the_same_challenge(ask: Ask, statement: Statement) -> None:
    cases = variants(statement)
    found = ask("statement", "challengeOf", [[case.to_json()] for case in cases])
    assert [challenge.hex() for challenge in found] == [case.challenge for case in cases]
    assert len(set(found)) == len(cases)


def test_page_and_nodes_write_the_same_sentence_and_session(ask: Ask, statement: Statement) -> None:
    cases = variants(statement)
    assert ask("statement", "grantLine", [[case.to_json()] for case in cases]) == [siwe.grant_line(c) for c in cases]
    assert ask("statement", "sessionUri", [[case.to_json()] for case in cases]) == [siwe.session_uri(c) for c in cases]
    found = ask("session", "fingerprint", [[case.session.to_jwk()] for case in cases])
    assert found == [fingerprint(case.session) for case in cases]


def test_a_fresh_statement_is_one_that_nodes_read(ask: Ask, statement: Statement) -> None:
    wanted = {name: value for name, value in statement.to_json().items() if name != "nonce"}
    one, other = ask("statement", "newStatement", [[wanted], [wanted]])
    assert Statement.from_json(one).nonce != Statement.from_json(other).nonce


def test_the_transcript_encodes_every_kind_of_value(ask: Ask) -> None:
    values: list[Any] = [
        0,
        1,
        255,
        256,
        2**53 - 1,
        2**200,
        "",
        "text",
        "ä\U0001f600",
        b"",
        bytes(range(256)),
        [],
        [1, [b"x", "y"]],
    ]
    assert ask("transcript", "encode", [[value] for value in values]) == [encode(value) for value in values]
    hashed = ask("transcript", "taggedHash", [[Tag.PASSKEY_ID.value, *values]])
    assert hashed == [tagged_hash(Tag.PASSKEY_ID, *values)]
    assert ask("transcript", "encode", [[True], [1.5], [None], [-1], [{}]], failing=True)


def test_the_tags_are_those_of_the_registry() -> None:
    text = (JS / "transcript.js").read_text()
    for tag in (
        Tag.LOGIN_CHALLENGE,
        Tag.PASSKEY_ID,
        Tag.BEARER_DIGEST,
        Tag.BEARER_BINDING,
        Tag.BEARER_RECEIPT,
        Tag.CODE_ANSWER,
    ):
        assert f'{tag.name}: "{tag.value}"' in text


def test_keccak_and_checksums_are_ethereums(ask: Ask) -> None:
    inputs = [
        bytes(index % 256 for index in range(size)) for size in (*range(3), *range(134, 139), 271, 272, 273, 1000)
    ]
    assert ask("keccak", "keccak256", [[data] for data in inputs]) == [keccak(data) for data in inputs]
    addresses = [hashlib.sha256(bytes([index])).digest()[:20] for index in range(40)]
    shown = ["0x" + address.hex() for address in addresses]
    assert ask("keccak", "checksum", [[address] for address in shown]) == [to_checksum(each) for each in addresses]
    ask("keccak", "checksum", [["0x12"], ["12" * 20], ["0x" + "zz" * 20]], failing=True)


def test_claims_have_the_one_json_text(ask: Ask) -> None:
    values: list[Any] = [
        {"b": [1, {"z": None, "a": True}], "a": 'q"\\/\n\t\x00\x1f\x7f', "ü": "\U0001f600 €"},
        {"A": 2**53 - 1, "a": -1, "_": "", "aa": []},
    ]
    assert [text.encode() for text in ask("jws", "canonical", [[value] for value in values])] == [
        jws.canonical(value) for value in values
    ]
    ask("jws", "canonical", [[1.5], [{"a": 2.5}]], failing=True)


async def test_a_wallets_message_is_the_one_that_nodes_read(ask: Ask, statement: Statement) -> None:
    account = Account.from_key(b"\x42" * 32)
    address = bytes.fromhex(account.address[2:])
    issued, _ = from_time("2027-01-15T08:00:00Z")
    (found,) = ask("wallet", "message", [[statement.to_json(), account.address.lower(), "localhost:7480", issued]])
    assert found == siwe.build_message(statement, address, "localhost:7480", issued)


def test_commitments_are_the_ones_that_nodes_sign(ask: Ask, statement: Statement) -> None:
    tokens = ["MTIzNDU2Nzg5MDEyMzQ1Njc4.GaBcDe.abcdefGHIJKL", "aaaaaaaaaaaaaaaaaaaa", "A.b.C.d.efghijklmnop"]
    found = ask("discord", "commitment", [[token, statement.to_json()] for token in tokens])
    assert found == [Commitment.to_token("discord", token, statement).to_json() for token in tokens]


def test_the_answer_to_a_code_is_one_that_services_accept(ask: Ask, session: SessionPrivateKey) -> None:
    (found,) = ask("transcript", "taggedHash", [[Tag.CODE_ANSWER.value, "issuer", "id", "123456"]])
    assert to_base64url(found) == code_hash("issuer", "id", "123456")
    claims = {"issuer": "issuer", "id": "id", "code": to_base64url(found)}
    (token,) = ask("jws", "sign", [[secret(session), "keyquorum-code-answer+jws", claims]])
    check_answer(token, session.public, "issuer", "id", "123456")


def test_what_a_session_key_of_the_page_signs_is_what_nodes_verify(ask: Ask, session: SessionPrivateKey) -> None:
    claims = {"b": 1, "a": ["\u00fc", True, None]}
    for token in ask("jws", "sign", [[secret(session), "some-type+jws", claims]] * 4):
        parsed = jws.parse(token, algorithm="ES256", kind="some-type+jws", max_bytes=1000)
        session.public.check(parsed.signing_input, parsed.signature)
        assert parsed.claims == claims and parsed.payload == jws.canonical(claims)
        assert ask("jws", "claimsOf", [[token]]) == [claims]


def test_the_page_spreads_runs_as_the_client_does(ask: Ask) -> None:
    sizes = [(1, 1), (4, 3), (5, 4), (7, 4), (7, 5), (10, 7), (13, 9), (20, 14), (2, 3)]
    found = ask("runs", "pattern", [[n, t] for n, t in sizes])
    assert [tuple(map(tuple, sets)) for sets in found] == [runs._pattern(n, t, 8) for n, t in sizes]
    spread = ask("runs", "spread", [[[4, 2, 3, 1], 3, []], [[4, 2, 3, 1], 3, [2]], [[1, 2], 3, []]])
    assert spread[0] == [[2, 3, 4], [1, 2, 4], [1, 3, 4], [1, 2, 3]] * 2
    assert spread[1][0] == [1, 3, 4] and len({tuple(signers) for signers in spread[1]}) == 4
    assert spread[2] == []
    assert ask("runs", "turned", [[[1, 2, 3], 1]]) == [[2, 3, 1]]
    (order,) = ask("runs", "shuffled", [[list(range(50))]])
    assert sorted(order) == list(range(50)) != order


def secret(session: SessionPrivateKey) -> dict[str, Any]:
    """The session's secret half, as the runner imports it into WebCrypto."""
    return {"$key": session.public.to_jwk() | {"d": to_base64url(session.secret_bytes())}}


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256"])
def test_the_page_finds_the_key_under_which_an_assertion_holds(
    ask: Ask, statement: Statement, algorithm: Algorithm
) -> None:
    passkey, other = SoftPasskey(make_key(algorithm)), SoftPasskey(make_key(algorithm))
    calls = []
    for _ in range(20 if algorithm == "ES256" else 1):  # short r and s come up
        proof = passkey.proof(statement)
        calls += [[passkey.public_key, proof], [other.public_key, proof]]
    assert ask("passkey", "holds", calls) == [True, False] * (len(calls) // 2)
    bent = passkey.proof(statement) | {"signature": to_base64url(b"\x30\x06\x02\x01\x00\x02\x01\x00")}
    assert ask("passkey", "holds", [[passkey.public_key, bent], [b"\xa5\x01", passkey.proof(statement)]]) == [False] * 2


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256"])
@pytest.mark.parametrize("extensions", [b"", b"\xa1\x6bcredProtect\x02"])
def test_the_page_finds_the_public_key_in_what_an_authenticator_says(
    ask: Ask, algorithm: Algorithm, extensions: bytes
) -> None:
    passkey = SoftPasskey(make_key(algorithm))
    head = hashlib.sha256(b"localhost").digest() + bytes([0x45 | (0x80 if extensions else 0)]) + bytes(4 + 16)
    data = (
        head + len(passkey.credential_id).to_bytes(2, "big") + passkey.credential_id + passkey.public_key + extensions
    )
    assert ask("passkey", "publicKeyOf", [[data]]) == [passkey.public_key]


def test_what_the_chain_stores_of_a_passkey_is_what_nodes_read(ask: Ask, statement: Statement) -> None:
    passkey = SoftPasskey()
    (found,) = ask("passkey", "userPublicKey", [[passkey.proof(statement)]])
    assert split_registration(bytes.fromhex(found[2:])) == (passkey.public_key, passkey.credential_id)


def test_der_has_one_spelling_in_the_page_too(ask: Ask) -> None:
    passkey = SoftPasskey()
    good = [passkey.sign(bytes([index])) for index in range(60)]
    compact = ask("passkey", "fromDer", [[der] for der in good])
    assert ask("passkey", "toDer", [[each] for each in compact]) == good
    bad = [good[0] + b"\0", good[0][:-1], b"\x30\x81" + good[0][1:], b"", b"\x30\x08\x02\x02\x00\x01\x02\x02\x00\x01"]
    ask("passkey", "fromDer", [[der] for der in bad], failing=True)


def test_transactions_are_encoded_as_the_nodes_and_wallets_do(ask: Ask) -> None:
    account = Account.from_key(b"\x43" * 32)
    rng = random.Random(7)
    for _ in range(5):
        wanted = {
            "chainId": 31337,
            "nonce": rng.choice([0, 1, 127, 128, 2**40]),
            "maxPriorityFeePerGas": rng.choice([0, 10**9]),
            "maxFeePerGas": 10**9 + rng.randrange(10**12),
            "gas": rng.choice([21_000, 10**6]),
            "to": to_checksum(rng.randbytes(20)),
            "value": rng.choice([0, 1, 10**20]),
            "data": "0x" + rng.randbytes(rng.choice([0, 1, 60, 400])).hex(),
            "type": 2,
        }
        names = {"maxPriorityFeePerGas": "tip", "maxFeePerGas": "fee"}
        page = {
            names.get(name, name): {"$big": str(value)} if isinstance(value, int) else value
            for name, value in wanted.items()
            if name != "type"
        }
        signed = account.sign_transaction(wanted)
        signature = {"r": f"0x{signed.r:064x}", "s": f"0x{signed.s:064x}", "v": signed.v}
        (unsigned,) = ask("rlp", "unsigned", [[page]])
        intent = intents.read({"kind": "evm-transaction", "transaction": unsigned}, 31337)
        assert Account._recover_hash(intent.digest, vrs=(signed.v, signed.r, signed.s)) == account.address
        assert ask("rlp", "signed", [[page, signature]]) == ["0x" + bytes(signed.raw_transaction).hex()]


def test_calls_of_the_permission_contract_are_encoded_as_its_abi_says(ask: Ask) -> None:
    contract = interface("PKPPermissions")
    token = 2**255 + 12345
    cases: list[tuple[str, list[Any], list[Any]]] = [
        ("nonces(uint256)", ["uint"], [token]),
        ("getTokenIdsForAuthMethod(uint256,bytes)", ["uint", "bytes"], [6, b"\x01" * 32]),
        ("removePermittedAuthMethod(uint256,uint256,bytes)", ["uint", "uint", "bytes"], [token, 3, b"\x02" * 33]),
        (
            "addPermittedAuthMethod(uint256,(uint256,bytes,bytes),uint256[])",
            ["uint", ["uint", "bytes", "bytes"], {"list": "uint"}],
            [token, (3, b"\x03" * 32, b"\x04" * 97), [1, 6]],
        ),
    ]
    for signature, types, values in cases:
        hexed = json.loads(json.dumps(values, default=lambda data: "0x" + data.hex()))
        asked = [str(value) if isinstance(value, int) else value for value in hexed]
        (found,) = ask("abi", "call", [[signature, types, asked]])
        assert found == "0x" + contract.encode(signature, *values).hex()


def test_answers_of_the_permission_contract_are_decoded(ask: Ask) -> None:
    methods = [(3, b"\x05" * 32, b"\x06" * 97), (1, b"\x07" * 20, b""), (2**200, b"", b"\x08" * 32)]
    data = "0x" + abi_encode(["(uint256,bytes,bytes)[]"], [methods]).hex()
    (found,) = ask("abi", "decode", [[[{"list": ["uint", "bytes", "bytes"]}], data]])
    assert found == [[[number, "0x" + name.hex(), "0x" + key.hex()] for number, name, key in methods]]
    (tokens,) = ask("abi", "decode", [[[{"list": "uint"}], "0x" + abi_encode(["uint256[]"], [[1, 2**255]]).hex()]])
    assert tokens == [[1, 2**255]]
    cut = "0x" + abi_encode(["uint256[]"], [[1, 2]]).hex()[:-64]
    ask("abi", "decode", [[[{"list": "uint"}], cut], [["uint"], "0x"], [["bytes"], "0x" + "ff" * 64]], failing=True)


def test_base64url_goes_both_ways(ask: Ask) -> None:
    values = [bytes(range(size)) for size in range(70)]
    texts = ask("bytes", "toBase64url", [[value] for value in values])
    assert texts == [to_base64url(value) for value in values]
    assert ask("bytes", "fromBase64url", [[text] for text in texts]) == [from_base64url(text, "") for text in texts]


def test_no_module_loads_anything_from_elsewhere_or_writes_markup() -> None:
    web = JS.parent
    for path in (*JS.glob("*.js"), web / "index.html", web / "page.css", web / "icon.svg"):
        text = path.read_text()
        for word in (
            "innerHTML",
            "outerHTML",
            "document.write",
            "eval(",
            "new Function",
            "localStorage",
            "@import",
            " url(",
        ):
            assert word not in text, (path.name, word)
        assert "https://" not in text and "//cdn" not in text, path.name


class _LongLists(JsonHandler):
    """A chain endpoint on which a stranger has lengthened every list; each page says only what it was asked for."""

    PLACES = 1050

    def do_POST(self) -> None:
        asked = self.asked()
        data = bytes.fromhex(asked["params"][0]["data"][2:])
        permissions = interface("PKPPermissions")
        if data[:4] in (
            permissions.encode("countTokenIdsForAuthMethod", 6, b"")[:4],
            permissions.encode("countPermittedAuthMethods", 1)[:4],
        ):
            answer = abi_encode(["uint256"], [self.PLACES])
        else:
            offset, limit = (int.from_bytes(data[at : at + 32], "big") for at in (4 + 64, 4 + 96))
            if data[:4] == permissions.encode("getPermittedAuthMethodsPage", 1, 0, 0)[:4]:
                offset, limit = (int.from_bytes(data[at : at + 32], "big") for at in (4 + 32, 4 + 64))
                places = range(offset, min(offset + limit, self.PLACES))
                methods = [(6, place.to_bytes(32, "big"), b"") for place in places]
                answer = abi_encode(["(uint256,bytes,bytes)[]", "uint256[]"], [methods, [2] * len(methods)])
            else:
                answer = abi_encode(["uint256[]"], [list(range(offset, min(offset + limit, self.PLACES)))])
            assert limit <= 200
        self.reply({"jsonrpc": "2.0", "id": asked["id"], "result": "0x" + answer.hex()})


def test_lists_that_strangers_lengthen_are_read_a_page_at_a_time_to_their_end(ask: Ask) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _LongLists) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        network = {
            "rpc": f"http://127.0.0.1:{server.server_address[1]}",
            "contracts": {"PKPPermissions": "0x" + "11" * 20},
        }
        lists = [{"who": {"type": 6, "id": "0x" + "22" * 32}, "places": 90}]
        (pages,) = ask("own", "others", [[network, lists, []]])
        found = ask("checks", "methodsOf", [[network, "0x" + "33" * 32, offset, 200] for offset in range(0, 1200, 200)])
        server.shutdown()
    assert [page["left"] for page in pages] == [70, 50, 30, 10, 0]
    assert {page["places"] for page in found} == {_LongLists.PLACES}
    methods = [int(one["id"], 16) for page in found for one in page["methods"]]
    assert methods == list(range(_LongLists.PLACES))
