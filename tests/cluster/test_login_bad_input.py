"""Whatever is sent to the session endpoints of a real node is a typed refusal below 500, and nothing is spent."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from eth_account import Account
from session_kit import SIGNERS, Opened, login_body, new_key, new_statement, open_session, runs_of

from cluster import Cluster
from keyquorum.auth.commitment import Commitment
from keyquorum.formats import jws

pytestmark = pytest.mark.usefixtures("refusals_uncounted")

PATHS = ("/v1/sessions", "/v1/sessions/list", "/v1/revocations", "/v1/commitments")
RUN = 0
FORMLESS: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"hello",
    "half an object": b'{"certificate": "a", ',
    "an array": b"[]",
    "null": b"null",
    "an empty object": b"{}",
    "binary": bytes(range(256)),
    "bad UTF-8": b'{"certificate": "\xff\xfe\xc3\x28", "request": "b"}',
    "a lone surrogate": b'{"certificate": "\\ud800", "request": "b"}',
    "arrays 10^5 deep": b"[" * 100_000 + b"]" * 100_000,
    "objects 10^5 deep": b'{"a":' * 100_000,
    "a number of 10^6 digits": b'{"certificate": ' + b"9" * 1_000_000 + b"}",
    "NaN": b'{"run": NaN}',
    "duplicate keys": b'{"certificate": "a", "certificate": "a", "request": "b"}',
    "an unknown field": b'{"certificate": "a", "request": "b", "run": {}, "more": 1}',
    "wrong types": b'{"certificate": 1, "request": [], "run": "x", "statement": 5, "method": null, "delegations": "x"}',
    "a long token": b'{"certificate": "' + b"a" * 900_000 + b'", "request": "b"}',
    "more than a body may have": b" " * ((1 << 20) + 1),
    "dots for tokens": json.dumps({"certificate": "..", "request": "....", "run": RUN}).encode(),
}


@pytest_asyncio.fixture(loop_scope="session")
async def http(cluster: Cluster) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def nothing_spent(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Neither a run nor a row; and nobody is locked out for failing here."""
    for node in cluster.nodes.values():
        monkeypatch.setattr(node.sessions._quotas, "check_login", lambda claim: None)
    runs, rows = await runs_of(cluster), [node.commitments._store._counts[0] for node in cluster.nodes.values()]
    yield
    assert await runs_of(cluster) == runs
    assert [node.commitments._store._counts[0] for node in cluster.nodes.values()] == rows


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def session(cluster: Cluster) -> Opened:
    return await open_session(cluster, Account.create())


async def refused(http: aiohttp.ClientSession, url: str, name: str, **body: Any) -> str:
    headers = {"Content-Type": "application/json"}
    async with http.post(url, headers=headers, **body) as response:
        status, answer = response.status, await response.json()
    assert 400 <= status < 500, (name, url, status, answer)
    assert set(answer["error"]) == {"code", "message", "hint"}, name
    assert re.fullmatch("[a-z0-9_]+", answer["error"]["code"]), name
    assert len(json.dumps(answer)) < 1500 and "Traceback" not in json.dumps(answer), name
    return str(answer["error"]["code"])


async def test_bodies_without_form_are_refused(cluster: Cluster, http: aiohttp.ClientSession) -> None:
    for path in PATHS:
        for name, body in FORMLESS.items():
            await refused(http, cluster.urls[0] + path, name, data=body)


async def test_other_http_methods_are_refused(cluster: Cluster, http: aiohttp.ClientSession) -> None:
    for path in PATHS:
        for method in ("GET", "PUT", "DELETE"):
            async with http.request(method, cluster.urls[0] + path) as response:
                assert response.status == 405


async def test_signed_requests_for_what_may_not_be_are_refused(
    cluster: Cluster, http: aiohttp.ClientSession, session: Opened
) -> None:
    claims = {
        "network": session.network, "id": secrets.token_urlsafe(24), "exp": int(time.time()) + 50, "kind": "revoke",
        "key": "*", "intent": {"session": session.id}, "runs": [list(SIGNERS)],
    }  # fmt: skip
    changes: dict[str, dict[str, Any]] = {
        "another network": {"network": "eip155:31337:0x0000000000000000000000000000000000000001"},
        "a short id": {"id": "x"},
        "expired": {"exp": int(time.time()) - 1000},
        "expires far away": {"exp": int(time.time()) + 10_000},
        "an unknown kind": {"kind": "magic"},
        "a key that is none": {"key": "0x12"},
        "an unknown claim": {"admin": True},
        "an intent that is none": {"intent": []},
        "no runs": {"runs": []},
        "no list of runs": {"runs": {"0": [1, 2, 3]}},
        "a run of nobody": {"runs": [[]]},
        "a run of half a node": {"runs": [[1, 2, 3.5]]},
        "too many runs": {"runs": [list(SIGNERS)] * 9},
        "a run of a thousand": {"runs": [list(range(1, 1001))]},
        "signers twice": {"runs": [[1, 1, 2]]},
        "signers in disorder": {"runs": [[3, 2, 1]]},
        "a run without this node": {"runs": [[2, 3, 4]]},
        "nobody's session": {"intent": {"session": "00" * 32}},
        "a key nobody knows": {"intent": {"key": "0x" + "12" * 32}},
        "an identity of somebody": {"intent": {"identity": {"type": 1, "id": "0x" + "12" * 20}}},
        "an id without end": {"intent": {"identity": {"type": 1, "id": "0x" + "12" * 500}}},
        "a huge type": {"intent": {"identity": {"type": 2**60, "id": "0x12"}}},
    }
    for name, change in changes.items():
        signing_input = jws.make_input("ES256", "keyquorum-request+jws", claims | change)
        token = jws.assemble(signing_input, session.key.sign(signing_input))
        body = {"certificate": session.token, "request": token}
        await refused(http, cluster.urls[0] + "/v1/revocations", name, json=body | {"run": RUN})
        await refused(http, cluster.urls[0] + "/v1/sessions/list", name, json=body)


async def test_broken_certificates_and_delegations_are_refused(
    cluster: Cluster, http: aiohttp.ClientSession, session: Opened
) -> None:
    good = session.body("sessions", {}, run=False)
    lent = session.lend()
    (link,) = lent.links
    head, payload, signature = link.split(".")
    chains: dict[str, Any] = {
        "a number": [1],
        "nothing": [""],
        "an object": [{}],
        "null": None,
        "a certificate": [session.token],
        "a request": [good["request"]],
        "cut short": [link[:-5]],
        "alg none": [f"{jws.make_input('none', 'keyquorum-delegation+jws', {}).decode().split('.')[0]}.{payload}."],
        "changed": [f"{head}.{payload[:-4]}AAAA.{signature}"],
        "twice the same": [link, link],
        "a thousand": [link] * 1000,
        "by a stranger": [Opened(lent.network, session.token, new_key(), session.statement).lend().links[0]],
    }
    url = cluster.urls[0] + "/v1/sessions/list"
    for name, links in chains.items():
        await refused(http, url, name, json=lent.body("sessions", {}, run=False) | {"delegations": links})
    for name, token in {"cut": session.token[:-9], "other": good["request"], "number": 5, "none": None}.items():
        await refused(http, url, name, json=good | {"certificate": token})
        statement = await new_statement(cluster, session.key.public)
        step = login_body(session.key, statement, {}, replace(session, token=str(token)))
        await refused(http, cluster.urls[0] + "/v1/sessions", name, json=step)


async def test_signed_logins_for_what_may_not_be_are_refused(
    cluster: Cluster, http: aiohttp.ClientSession, session: Opened
) -> None:
    key = new_key()
    statement = await new_statement(cluster, key.public)
    intent = {"statement": statement.to_json(), "method": "siwe", "proof": {"message": "", "signature": "0x"}}
    claims = {
        "network": session.network, "id": statement.challenge, "exp": int(time.time()) + 50, "kind": "login",
        "key": "*", "intent": intent, "runs": [list(SIGNERS)],
    }  # fmt: skip
    changes: dict[str, dict[str, Any]] = {
        "an empty proof": {},
        "an id of one's own": {"id": secrets.token_urlsafe(24)},
        "another kind": {"kind": "sign", "key": "0x" + "11" * 32},
        "a key": {"key": "0x" + "11" * 32},
        "no runs": {"runs": []},
        "another network": {"network": "eip155:31337:0x0000000000000000000000000000000000000001"},
        "expired": {"exp": int(time.time()) - 1000},
        "no statement": {"intent": {name: value for name, value in intent.items() if name != "statement"}},
        "a statement that is none": {"intent": intent | {"statement": {}}},
        "a statement elsewhere": {"intent": intent | {"statement": statement.to_json() | {"network": "eip155:1:0x"}}},
        "somebody's session key": {"intent": intent | {"statement": statement.to_json() | {"session": {}}}},
        "text for a proof": {"intent": intent | {"proof": "x"}},
        "magic": {"intent": intent | {"method": "magic"}},
        "no certificate": {"intent": intent | {"certificate": "a.b.c"}},
        "a number for a certificate": {"intent": intent | {"certificate": 5}},
        "more": {"intent": intent | {"admin": True}},
        "an intent that is none": {"intent": []},
    }
    for name, change in changes.items():
        signing_input = jws.make_input("ES256", "keyquorum-request+jws", claims | change)
        token = jws.assemble(signing_input, key.sign(signing_input))
        await refused(http, cluster.urls[0] + "/v1/sessions", name, json={"request": token, "run": RUN})
    signing_input = jws.make_input("ES256", "keyquorum-request+jws", claims)
    stranger = jws.assemble(signing_input, new_key().sign(signing_input))
    code = await refused(http, cluster.urls[0] + "/v1/sessions", "a stranger", json={"request": stranger, "run": RUN})
    assert code == "bad_signature"


async def test_commitments_of_another_form_are_refused(cluster: Cluster, http: aiohttp.ClientSession) -> None:
    statement = await new_statement(cluster, new_key().public)
    good = Commitment.to_token("discord", "a-token-of-somebody", statement).to_json()
    changes: dict[str, dict[str, Any]] = {
        "no method": {"method": "magic"},
        "a method without tokens": {"method": "siwe"},
        "a short digest": {"token_digest": "0x12"},
        "no hex": {"binding": "0x" + "zz" * 32},
        "a number": {"binding": 5},
        "the token itself": {"token": "a-token-of-somebody"},
        "another network": {"statement": statement.to_json() | {"network": "eip155:1:" + "0x" + "00" * 20}},
        "no session": {"statement": statement.to_json() | {"session": {}}},
        "an old block": {"statement": statement.to_json() | {"block": "0x" + "11" * 32}},
    }
    for node in cluster.nodes.values():
        node.commitments._configured = frozenset({"discord"})
    try:
        for name, change in changes.items():
            await refused(http, cluster.urls[0] + "/v1/commitments", name, json=good | change)
    finally:
        for node in cluster.nodes.values():
            node.commitments._configured = frozenset()
