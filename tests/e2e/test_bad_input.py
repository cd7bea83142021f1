"""Whatever is sent to a real node or the real gateway, the answer is a typed 4xx; nothing is spent, nothing breaks."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from eth_account import Account
from live import Live, check_message

from keyquorum import intents
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.client import Network
from keyquorum.client.results import Key, token_hex
from keyquorum.client.session import Session
from keyquorum.formats import jws
from keyquorum.formats.text import from_base64url

RUN = 0
STATEMENT = {
    "network": "eip155:1:0x0000000000000000000000000000000000000001",
    "session": SessionPrivateKey(5).public.to_jwk(),
    "keys": ["*"], "scopes": [1], "expires": 2**39, "nonce": "00" * 16, "block": "0x" + "00" * 32, "uses": 1,
}  # fmt: skip
LOGIN = {"statement": STATEMENT, "method": "siwe", "proof": {"message": "", "signature": "0x"}}


def login(**change: Any) -> bytes:
    """A login that its session key signed."""
    claims = {
        "network": STATEMENT["network"], "id": "r" * 20, "exp": int(time.time()) + 50, "kind": "login", "key": "*",
        "intent": LOGIN | change, "runs": [[1, 2, 3]],
    }  # fmt: skip
    signing_input = jws.make_input("ES256", "keyquorum-request+jws", claims)
    token = jws.assemble(signing_input, SessionPrivateKey(5).sign(signing_input))
    return json.dumps({"request": token}).encode()


FORMLESS: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"hello",
    "half an object": b'{"certificate": "a", ',
    "an array": b"[]",
    "null": b"null",
    "an empty object": b"{}",
    "binary": bytes(range(256)),
    "bad UTF-8": b'{"certificate": "\xff\xfe\xc3\x28", "request": "b"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a lone surrogate": b'{"certificate": "\\ud800", "request": "b"}',
    "arrays 10^5 deep": b"[" * 100_000 + b"]" * 100_000,
    "objects 10^5 deep": b'{"a":' * 100_000,
    "a number of 10^6 digits": b'{"certificate": ' + b"9" * 1_000_000 + b"}",
    "a huge exponent": b'{"owner": 1e999999999}',
    "NaN": b'{"run": NaN}',
    "duplicate keys": b'{"certificate": "a", "certificate": "a", "request": "b", "owner": "0x", "owner": "0x"}',
    "an unknown field": b'{"certificate": "a", "request": "b", "owner": "0x", "more": 1}',
    "wrong types": b'{"certificate": 1, "request": [], "run": "x", "owner": {}, "statement": 5, "method": null}',
    "a long token": b'{"certificate": "' + b"a" * 900_000 + b'", "request": "b"}',
    "more than a body may have": b" " * ((1 << 20) + 1),
    "dots for tokens": json.dumps({"certificate": "..", "request": "....", "run": RUN}).encode(),
    "a login that nobody signed": json.dumps(LOGIN).encode(),
    "a login to another network": login(),
    "an unknown login": login(method="magic"),
    "a scope that is none": login(statement=STATEMENT | {"scopes": [99]}),
    "a session key that is none": login(statement=STATEMENT | {"session": {}}),
    "text for a proof": login(proof="x"),
    "an address that is none": b'{"owner": "0x12", "request": "aaaaaaaaaaaaaaaaaaaa"}',
    "the zero address": b'{"owner": "0x' + b"00" * 20 + b'", "request": "aaaaaaaaaaaaaaaaaaaa"}',
}
Change = Callable[[dict[str, Any]], dict[str, Any]]
CLAIMS: dict[str, Change] = {
    "another network": lambda c: c | {"network": "eip155:31337:0x0000000000000000000000000000000000000001"},
    "a short id": lambda c: c | {"id": "x"},
    "an id with a slash": lambda c: c | {"id": "../../../../etc/passwd"},
    "expired": lambda c: c | {"exp": int(time.time()) - 1000},
    "expires far away": lambda c: c | {"exp": int(time.time()) + 10_000},
    "another kind": lambda c: c | {"kind": "mint"},
    "a key that is none": lambda c: c | {"key": "0x12"},
    "an unknown key": lambda c: c | {"key": "0x" + "12" * 32},
    "an unknown claim": lambda c: c | {"admin": True},
    "no runs": lambda c: c | {"runs": []},
    "runs that are none": lambda c: c | {"runs": [[1, 2, "3"]]},
    "signers twice": lambda c: c | {"runs": [[1, 2, 2]]},
    "signers in disorder": lambda c: c | {"runs": [[3, 2, 1]]},
    "too many runs": lambda c: c | {"runs": [[1, 2, 3]] * 9},
    "no intent": lambda c: c | {"intent": {}},
    "an unknown intent": lambda c: c | {"intent": {"kind": "magic"}},
    "two messages": lambda c: c | {"intent": {"kind": "evm-message", "message": "a", "bytes": "0x00"}},
    "a raw digest": lambda c: c | {"intent": {"kind": "raw-digest", "digest": "0x" + "11" * 32}},
    "a transaction that is none": lambda c: c | {"intent": {"kind": "evm-transaction", "transaction": "0x02c0"}},
    "a signed transaction": lambda c: c | {"intent": {"kind": "evm-transaction", "transaction": signed_transaction()}},
}


def signed_transaction() -> str:
    fields = {"to": "0x" + "11" * 20, "value": 1, "gas": 21000, "gasPrice": 1, "nonce": 0, "chainId": 31337}
    return str(Account.create().sign_transaction(fields).raw_transaction.to_0x_hex())


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def key(live: Live) -> Key:
    return (await live.client.mint()).key


@pytest_asyncio.fixture(loop_scope="session")
async def nothing_spent(live: Live, key: Key) -> AsyncIterator[None]:
    """Around a test: the stocks are the same, all are ready, and the key still signs."""
    await live.client.sign_message(key, "before")
    before = await live.stock()
    yield
    await live.spent_nothing_since(before)
    await live.network.wait_ready()
    check_message(key, "after", await live.client.sign_message(key, "after"))


async def test_the_stocks_show_what_a_signature_spends(live: Live, key: Key) -> None:
    """The control for `nothing_spent`."""
    before = await live.stock()
    signed = await live.client.sign_message(key, "one")
    after = await live.stock()
    assert {party for party in before if after[party] != before[party]} >= set(signed.signers)


def assert_refused(name: str, status: int, answer: Any) -> None:
    assert 400 <= status < 500 and status != 429, (name, status, answer)
    error = answer["error"]
    assert error["code"] and error["message"] and error["hint"], (name, error)
    assert error["code"] == error["code"].lower() and " " not in error["code"], (name, error)
    assert "Traceback" not in json.dumps(answer) and "keyquorum/" not in json.dumps(answer), name


def places(live: Live, *paths: str) -> list[str]:
    return [url + path for url in (live.network.nodes[2], live.network.gateway_url) for path in paths]


@pytest.mark.usefixtures("nothing_spent")
async def test_bodies_without_form_are_refused(live: Live) -> None:
    targets = [*places(live, "/v1/sign", "/v1/sessions"), live.network.gateway_url + "/v1/keys"]
    for name, body in FORMLESS.items():
        for url in targets:
            assert_refused(f"{name} at {url}", *await live.ask("POST", url, data=body))


def make_request(session: Session, network: Network, key: Key, change: Change) -> str:
    claims = {
        "network": network.id, "id": secrets.token_urlsafe(24), "exp": int(time.time()) + 50, "kind": "sign",
        "key": token_hex(key.token_id), "intent": intents.message_intent("hello"), "runs": [[1, 2, 3]],
    }  # fmt: skip
    signing_input = jws.make_input("ES256", "keyquorum-request+jws", change(claims))
    return jws.assemble(signing_input, session.key.sign(signing_input))


async def ask_to_sign(live: Live, certificate: Any, request: Any, run: Any = RUN) -> list[tuple[int, Any]]:
    body = {"certificate": certificate, "request": request}
    return [
        await live.ask("POST", live.network.nodes[2] + "/v1/sign", json=body | {"run": run}),
        await live.ask("POST", live.network.gateway_url + "/v1/sign", json=body),
    ]


@pytest.mark.usefixtures("nothing_spent")
async def test_well_signed_requests_for_what_may_not_be_are_refused(live: Live, key: Key) -> None:
    session, network = live.client.session, live.network.network
    assert session is not None and network is not None
    for name, change in CLAIMS.items():
        for status, answer in await ask_to_sign(live, session.certificate, make_request(session, network, key, change)):
            assert_refused(name, status, answer)


@pytest.mark.usefixtures("nothing_spent")
async def test_broken_and_foreign_tokens_are_refused(live: Live, key: Key) -> None:
    session, network = live.client.session, live.network.network
    assert session is not None and network is not None
    good, certificate = make_request(session, network, key, lambda c: c), session.certificate
    header, payload, signature = good.split(".")
    none = jws.make_input("none", "keyquorum-request+jws", {}).decode().split(".")[0]
    other = jws.make_input("HS256", "keyquorum-request+jws", {}).decode().split(".")[0]
    tokens = {
        "cut short": good[:-7],
        "two parts": f"{header}.{payload}",
        "four parts": f"{good}.x",
        "no signature": f"{header}.{payload}.",
        "alg none": f"{none}.{payload}.",
        "alg none with a signature": f"{none}.{payload}.{signature}",
        "alg HS256": f"{other}.{payload}.{signature}",
        "a changed payload": f"{header}.{payload[:-4]}AAAA.{signature}",
        "padding": f"{header}.{payload}.{signature}==",
        "a certificate for a request": certificate,
        "not text": 5,
    }
    for name, token in tokens.items():
        for status, answer in await ask_to_sign(live, certificate, token):
            assert_refused(name, status, answer)
    head, middle, tail = certificate.split(".")
    certificates = {
        "alg none": f"{none}.{middle}.",
        "cut short": certificate[:-9],
        "changed": f"{head}.{middle[:-4]}AAAA.{tail}",
        "self-made": make_own_certificate(session),
        "a request for a certificate": good,
        "null": None,
    }
    for name, token in certificates.items():
        for status, answer in await ask_to_sign(live, token, good):
            assert_refused(name, status, answer)
    runs: list[Any] = [None, {}, [1, 2, 3], {"signers": [1, 2, 3], "attempt": 0}, 1, -1, 0.0, "0", True, 10**30]
    for run in runs:
        body = {"certificate": certificate, "request": good, "run": run}
        assert_refused(str(run), *await live.ask("POST", live.network.nodes[2] + "/v1/sign", json=body))
    for signers in ([1, 2], [1, 2, 3, 4], [1, 3, 4], [1, 2, 9]):
        request = make_request(session, network, key, lambda c, signers=signers: c | {"runs": [signers]})
        body = {"certificate": certificate, "request": request, "run": 0}
        assert_refused(str(signers), *await live.ask("POST", live.network.nodes[2] + "/v1/sign", json=body))


def make_own_certificate(session: Session) -> str:
    claims = json.loads(from_base64url(session.certificate.split(".")[1], "it"))
    signing_input = jws.make_input("ES256K", "keyquorum-session+jwt", claims)
    signature = Account.create().unsafe_sign_hash(hashlib.sha256(signing_input).digest())
    return jws.assemble(signing_input, signature.r.to_bytes(32, "big") + signature.s.to_bytes(32, "big"))


@pytest.mark.usefixtures("nothing_spent")
async def test_wrong_methods_paths_and_key_names_are_refused(live: Live) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH", "PROPFIND"):
        for url in places(live, "/v1/sign"):
            assert_refused(method, *await live.ask(method, url))
    for path in ("/js/nothing", "/v1", "/v1/nothing", "/v1/sign/x", "/%00", "/..%2f..%2fetc/passwd", "/mesh"):
        for url in places(live, path):
            assert_refused(path, *await live.ask("GET", url))
    for name in ("0x", "0x" + "g" * 64, "-1", "0x" + "1" * 65, "9" * 2000, "%00", "0x" + "12" * 32):
        for url in places(live, "/v1/keys/" + name):
            assert_refused(name, *await live.ask("GET", url))


@pytest.mark.usefixtures("nothing_spent")
async def test_http_that_is_none_is_refused_without_waiting(live: Live) -> None:
    """A body of 100 MB is refused when it is announced, and no nonsense gets a 5xx."""
    heads = {
        "100 MB announced": (b"POST /v1/sign HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n\r\n", b"413"),
        "a negative length": (b"POST /v1/sign HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"400"),
        "two lengths": (b"POST /v1/sign HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n", b"400"),
        "a header of 100 kB": (b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100_000 + b"\r\n\r\n", b"400"),
        "a path of 100 kB": (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        "a bomb": (b"POST /v1/sign HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b", b"400"),
    }  # fmt: skip
    for url in (live.network.nodes[2], live.network.gateway_url):
        port = int(url.rpartition(":")[2])
        for name, (head, status) in heads.items():
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head)
            line = await asyncio.wait_for(reader.readline(), 30)
            writer.transport.abort()
            assert line.split()[1:2] == [status], (name, url, line)
