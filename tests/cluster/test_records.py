"""What real nodes write down of what they decide, what they never write down, and how they find the identity secret."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from pathlib import Path
from typing import Any

import pytest

from cluster import Cluster
from keyquorum import intents
from keyquorum.auth import request as requests
from keyquorum.formats import jws
from keyquorum.node.app import Node
from keyquorum.node.keymaking.identity_secret import PART
from keyquorum.node.storage.keys import id_of
from keyquorum.protocols import identity_secret
from keyquorum.protocols.identity_secret import Partial
from keyquorum.serving.buckets import Buckets

CANARY = "canary-" + secrets.token_hex(12)


def token_id(key: Any) -> str:
    return f"0x{key.token_id:064x}"


def written(cluster: Cluster, party: int, name: str) -> list[dict[str, Any]]:
    path: Path = cluster.nodes[party]._config.node.data_dir / name
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


async def flushed(cluster: Cluster) -> None:
    for node in cluster.nodes.values():
        await node.audit._write()


async def test_a_login_a_signature_and_a_refusal_each_leave_their_line(cluster: Cluster, key: Any) -> None:
    text = f"a message {secrets.token_hex(4)}"
    async with cluster.client() as client:
        session = await client.login()
        signed = await client.sign_message(key, text)
    body = {
        "certificate": session.certificate,
        "request": requests.make(
            session.key, network=cluster.network.id, request_id=secrets.token_urlsafe(18),
            expires=int(time.time()) + 50,
            key=token_id(key), intent={"kind": "raw-digest", "digest": "0x" + "11" * 32}, runs=[(1, 2, 3)],
        ),
        "run": 0,
    }  # fmt: skip
    status, refusal = await cluster.post(1, "/v1/sign", body)
    assert status == 403
    await flushed(cluster)
    owner = "1:" + str(cluster.user.address).lower()
    for party in signed.signers:
        # A client that loses patience starts further runs: a line for each, one of which gave the signature.
        lines = [one for one in written(cluster, party, "audit.log") if text in one.get("summary", "")]
        line = next(one for one in lines if one["decision"] == "granted")
        assert line["what"] == "sign"
        assert line["key"] == token_id(key)
        assert line["methods"] == [owner]
        assert line["address"] == "127.0.0.1"
    thumbprint = session.key.public.thumbprint
    logins = [one for party in cluster.nodes for one in written(cluster, party, "logins.log")]
    certified = [one for one in logins if (one["what"], one.get("session")) == ("session", thumbprint)]
    assert len([one for one in certified if one["decision"] == "granted"]) >= cluster.threshold
    assert all(one["methods"] == [owner] and "siwe" in one["summary"] for one in certified)
    refused = [one["code"] for one in written(cluster, 1, "refusals.log") if one.get("session") == thumbprint]
    assert refusal["error"]["code"] in refused


async def test_certified_keys_leave_a_line_at_each_signer(cluster: Cluster, key: Any) -> None:
    await flushed(cluster)
    lines = [one for party in cluster.nodes for one in written(cluster, party, "audit.log") if one["what"] == "certify"]
    assert len(lines) >= cluster.threshold
    assert all("new keys" in line["summary"] for line in lines)


async def test_no_token_proof_share_or_certificate_is_ever_written_down(cluster: Cluster, key: Any) -> None:
    """Everything that a login and a signature are made of is looked for in every file of the audit."""
    seen: dict[str, str] = {"canary": CANARY}

    async with cluster.client() as client:
        session = await client.login()
        request = requests.make(
            session.key, network=cluster.network.id, request_id=secrets.token_urlsafe(18),
            expires=int(time.time()) + 50,
            key=token_id(key), intent=intents.message_intent("what the canary sings"), runs=[(1, 2, 3)],
        )  # fmt: skip
        seen |= {"certificate": session.certificate, "request": request}
    body = {"certificate": session.certificate, "request": request, "run": 0}
    answers = await asyncio.gather(*(cluster.post(party, "/v1/sign", body) for party in (1, 2, 3)))
    for party, (status, answer) in enumerate(answers, 1):
        assert status == 200
        seen |= {f"share {party} {name}": answer["share"][name][2:] for name in ("w", "u")}
    planted = {"certificate": CANARY, "request": CANARY, "run": 0}
    statement = {"network": CANARY}
    claims = {"intent": {"statement": statement, "method": CANARY, "proof": {"id_token": CANARY}}}
    hostile = jws.assemble(jws.make_input("ES256", requests.TYPE, claims), bytes(64))
    for changed in (
        planted, body | {"certificate": f"{CANARY}.{CANARY}.{CANARY}"}, body | {"request": CANARY}, {CANARY: CANARY},
        {"request": hostile, "run": 0},
    ):  # fmt: skip
        for path in ("/v1/sign", "/v1/sessions", "/v1/revocations", f"/v1/sign?token={CANARY}", f"/v1/{CANARY}"):
            await post_anything(cluster, path, changed)
    await flushed(cluster)
    files = {
        path: path.read_bytes() for node in cluster.nodes.values() for path in node._config.node.data_dir.glob("*.log*")
    }
    assert sum(len(content) for content in files.values()) > 1000
    for name, secret in seen.items():
        for part in secret.split("."):
            forms = {part.encode(), base64.b64encode(part.encode()), part.upper().encode()}
            hits = {path.name for path, content in files.items() for form in forms if form in content}
            # The first part of a signed token is the same in all of them, and says nothing.
            assert not hits or part == secret.split(".")[0] != secret, name


async def post_anything(cluster: Cluster, path: str, body: Any) -> None:
    import aiohttp

    url = cluster.urls[0] + path
    headers = {"Authorization": f"Bearer {CANARY}", "Cookie": f"a={CANARY}", "User-Agent": CANARY}
    async with aiohttp.ClientSession() as http, http.post(url, json=body, headers=headers) as response:
        assert 400 <= response.status < 500


async def test_a_session_over_its_quota_costs_a_node_no_more_than_a_look(
    cluster: Cluster, key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the request's own signature is looked at: it is not even a request here."""
    async with cluster.client() as client:
        session = await client.login()
    body = {"certificate": session.certificate, "request": "a.b.c", "run": 0}
    assert (await cluster.post(1, "/v1/sign", body))[0] in (400, 401)
    certificate = await cluster.nodes[1].signing._access.certificate(session.certificate, int(time.time()))
    spent = Buckets(1, 1e9)  # nothing comes back while the test lasts
    spent.take(certificate.counted[0][0])
    monkeypatch.setitem(cluster.nodes[1].signing._quotas._runs, "session", spent)
    status, answer = await cluster.post(1, "/v1/sign", body)
    assert (status, answer["error"]["code"]) == (429, "quota_exceeded")
    forged = body | {"certificate": session.certificate[:-4] + "AAAA"}
    assert (await cluster.post(1, "/v1/sign", forged))[0] in (400, 401)


# -- the identity secret ----------------------------------------------------------------------------------------------


def concealed(node: Node) -> bytes:
    return node.identity_secret.conceal(20, b"ada@example.org")


async def test_all_nodes_name_people_alike_and_a_node_that_starts_again_finds_the_same_secret(
    cluster: Cluster, key: Any
) -> None:
    names = {concealed(node) for node in cluster.nodes.values()}
    assert len(names) == 1
    await cluster.stop_node(4)
    node = await cluster.start_node(4)
    await cluster.ready()
    assert {concealed(node)} == names
    status = await node.network()
    assert status["identity_secret"] is True
    assert 0 < status["block"] <= (await node._view.refresh()).newest


async def test_a_node_that_sends_a_wrong_part_keeps_nobody_from_the_secret(
    cluster: Cluster, key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cheat = cluster.nodes[1]
    names = {concealed(node) for node in cluster.nodes.values()}
    honest = cheat._notify

    def lie(peer: int, topic: str, reference: bytes, payload: bytes) -> bool:
        if topic == PART:
            network_key = cluster.nodes[2]._keys.load(id_of(network_public))
            payload = identity_secret.partial(network_key, cheat._rng).to_bytes()  # somebody else's
            Partial.from_bytes_checked(1, payload)
        return honest(peer, topic, reference, payload)

    public = await cheat._view.network_key()
    assert public is not None
    network_public = public.to_bytes()
    monkeypatch.setattr(cheat.identity_secret, "_notify", lie)
    await cluster.stop_node(4)
    fresh = await cluster.start_node(4)
    await cluster.ready()
    assert {concealed(fresh)} == names
    assert fresh.identity_secret.refused <= {1}


async def test_nothing_of_the_identity_secret_is_on_a_disk(cluster: Cluster, key: Any) -> None:
    secret = cluster.nodes[1].identity_secret._secret
    assert secret is not None
    forms = {secret, secret.hex().encode(), base64.b64encode(secret)}
    for folder in cluster.folders:
        for path in folder.path.rglob("*"):
            if path.is_file():
                assert not any(form in path.read_bytes() for form in forms), path
