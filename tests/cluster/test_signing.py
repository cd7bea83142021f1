"""What a client can ask of real nodes, and what it cannot."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from session_kit import runs_of

from cluster import Cluster
from keyquorum import intents
from keyquorum.auth import request as requests
from keyquorum.client.errors import Refused


def hexed(token_id: int) -> str:
    return f"0x{token_id:064x}"


SIGNERS = (1, 2, 3)


async def body_for(
    cluster: Cluster, key: Any, intent: dict[str, Any], signers: Any = SIGNERS, run: Any = 0
) -> dict[str, Any]:
    """A request that a node answers, made by hand."""
    async with cluster.client() as client:
        session = await client.login()
    token = requests.make(
        session.key, network=cluster.network.id, request_id=secrets.token_urlsafe(24), expires=int(time.time()) + 50,
        key=hexed(key.token_id), intent=intent, runs=[signers],
    )  # fmt: skip
    return {"certificate": session.certificate, "request": token, "run": run}


async def ask_all(cluster: Cluster, body: dict[str, Any]) -> list[tuple[int, Any]]:
    return await asyncio.gather(*(cluster.post(party, "/v1/sign", body) for party in SIGNERS))


async def test_a_message_is_signed_and_recovers_to_the_keys_address(cluster: Cluster, key: Any) -> None:
    async with cluster.client() as client:
        signed = await client.sign_message(key, "hello")
    signature = signed.r.to_bytes(32, "big") + signed.s.to_bytes(32, "big") + bytes([27 + signed.v])
    assert Account.recover_message(encode_defunct(text="hello"), signature=signature) == key.address


async def test_a_repeat_gets_the_same_share_and_spends_nothing(cluster: Cluster, key: Any) -> None:
    body = await body_for(cluster, key, intents.message_intent("once"))
    first = await ask_all(cluster, body)
    assert [status for status, _ in first] == [200, 200, 200]
    before = await runs_of(cluster)
    assert await ask_all(cluster, body) == first
    assert await runs_of(cluster) == before  # only a run spends


async def test_the_same_id_with_another_payload_is_a_conflict(cluster: Cluster, key: Any) -> None:
    async with cluster.client() as client:
        session = await client.login()
    common = {"network": cluster.network.id, "request_id": "x" * 16, "expires": int(time.time()) + 50,
              "key": hexed(key.token_id), "runs": [SIGNERS]}  # fmt: skip
    for text, expected in (("one", 200), ("two", 409)):
        token = requests.make(session.key, intent=intents.message_intent(text), **common)
        answers = await ask_all(cluster, {"certificate": session.certificate, "request": token, "run": 0})
        assert [status for status, _ in answers] == [expected] * 3


BAD_RUNS = {
    "too few": {"signers": [1, 2]},
    "too many": {"signers": [1, 2, 3, 4]},
    "an outsider": {"signers": [1, 2, 9]},
    "a run that was not signed": {"run": 1},
    "a negative run": {"run": -1},
    "a run as text": {"run": "0"},
    "a run of one's own": {"run": {"signers": [1, 2, 3], "attempt": 0}},
    "a set of one's own": {"run": [1, 2, 3]},
    "no run": {"run": None},
    "yes": {"run": True},
}


@pytest.mark.parametrize("name", BAD_RUNS)
async def test_a_wrong_signer_set_is_refused_before_anything_is_spent(cluster: Cluster, key: Any, name: str) -> None:
    body = await body_for(cluster, key, intents.message_intent("set"), **BAD_RUNS[name])
    before = await runs_of(cluster)
    status, answer = await cluster.post(1, "/v1/sign", body)
    assert status == 400
    assert answer["error"]["code"]
    assert await runs_of(cluster) == before


async def test_a_node_that_is_not_among_the_signers_refuses(cluster: Cluster, key: Any) -> None:
    body = await body_for(cluster, key, intents.message_intent("not me"))
    status, answer = await cluster.post(4, "/v1/sign", body)
    assert (status, answer["error"]["code"]) == (400, "bad_signers")


async def test_a_raw_digest_is_refused_until_the_owner_grants_it(cluster: Cluster) -> None:
    await cluster.pool_filled()
    async with cluster.client(scopes=(1, 5)) as client:
        fresh = (await client.mint()).key
        with pytest.raises(Refused) as refused:
            await client.sign_digest(fresh, b"\x07" * 32)
        assert refused.value.code == "raw_digest_not_granted"
        await cluster.send(1, "PKPPermissions", "addPermittedAddress", fresh.token_id, cluster.user.address, [5])
        assert (await client.sign_digest(fresh, b"\x07" * 32)).digest == b"\x07" * 32


@pytest.mark.parametrize("digest", [bytes(32), b"\xff" * 32, bytes.fromhex(
    "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141")])  # fmt: skip
async def test_a_digest_of_zero_or_beyond_the_order_costs_nothing(cluster: Cluster, key: Any, digest: bytes) -> None:
    body = await body_for(cluster, key, {"kind": "raw-digest", "digest": "0x" + "01" * 32})
    body["request"] = await resign(cluster, key, {"kind": "raw-digest", "digest": "0x" + digest.hex()}, body)
    before = await runs_of(cluster)
    status, answer = await cluster.post(1, "/v1/sign", body)
    assert (status, await runs_of(cluster)) == (400, before), answer


async def resign(cluster: Cluster, key: Any, intent: dict[str, Any], body: dict[str, Any]) -> str:
    """A request by a session of its own, whose certificate is put into `body`."""
    async with cluster.client(scopes=(1, 5)) as client:
        session = await client.login()
    body["certificate"] = session.certificate
    return requests.make(
        session.key, network=cluster.network.id, request_id=secrets.token_urlsafe(24), expires=int(time.time()) + 50,
        key=hexed(key.token_id), intent=intent, runs=[SIGNERS],
    )  # fmt: skip


async def test_a_session_of_somebody_else_may_not_sign(cluster: Cluster, key: Any) -> None:
    async with cluster.client(account=Account.create()) as stranger:
        with pytest.raises(Refused) as refused:
            await stranger.sign_message(key, "mine now")
    assert refused.value.code == "not_permitted"


async def test_a_permitted_address_signs_within_its_scope_only(cluster: Cluster, key: Any) -> None:
    friend = Account.create()
    await cluster.send(1, "PKPPermissions", "addPermittedAddress", key.token_id, friend.address, [2])
    typed = {
        "types": {"EIP712Domain": [{"name": "name", "type": "string"}], "M": [{"name": "x", "type": "uint256"}]},
        "primaryType": "M", "domain": {"name": "t"}, "message": {"x": "1"},
    }  # fmt: skip
    async with cluster.client(account=friend) as client:
        await client.sign_message(key, "allowed")
        with pytest.raises(Refused) as refused:
            await client.sign_typed_data(key, typed)
        assert refused.value.code == "not_permitted"
        await cluster.send(1, "PKPPermissions", "removePermittedAddress", key.token_id, friend.address)
        await asyncio.sleep(0.5)  # a node looks for a new block at most this often
        with pytest.raises(Refused):
            await client.sign_message(key, "not any more")


async def test_a_transfer_ends_the_old_owners_power_and_every_grant_of_his(cluster: Cluster) -> None:
    await cluster.pool_filled()
    async with cluster.client() as old:
        moved = (await old.mint()).key
        await old.sign_message(moved, "still mine")
        await cluster.send(1, "PKPPermissions", "addPermittedAddress", moved.token_id, cluster.user.address, [1, 5])
        buyer = Account.create()
        await old.transfer(moved, buyer.address)
        await asyncio.sleep(0.5)
        with pytest.raises(Refused):
            await old.sign_message(moved, "not any more")
    async with cluster.client(account=buyer) as new:
        await new.sign_message(moved, "mine")


async def test_certificate_shaped_bytes_are_never_signed_with_the_network_key(cluster: Cluster) -> None:
    network_key = await cluster.nodes[1]._view.network_key()
    token_id = cluster.nodes[1]._keys and int.from_bytes(
        __import__("keyquorum.node.storage.keys", fromlist=["id_of"]).id_of(network_key.to_bytes()), "big"
    )
    async with cluster.client(scopes=(1, 5)) as client:
        session = await client.login()
    intent = {"kind": "raw-digest", "digest": "0x" + "11" * 32}
    token = requests.make(
        session.key, network=cluster.network.id, request_id="n" * 20, expires=int(time.time()) + 50,
        key=hexed(token_id), intent=intent, runs=[SIGNERS],
    )  # fmt: skip
    body = {"certificate": session.certificate, "request": token, "run": 0}
    for status, answer in await ask_all(cluster, body):
        assert (status, answer["error"]["code"]) == (403, "key_unknown")


async def test_a_changed_certificate_or_request_is_refused(cluster: Cluster, key: Any) -> None:
    good = await body_for(cluster, key, intents.message_intent("tamper"))
    for name in ("certificate", "request"):
        head, payload, signature = good[name].split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        claims["exp"] += 1
        changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        status, answer = await cluster.post(1, "/v1/sign", good | {name: f"{head}.{changed}.{signature}"})
        assert status == 401, answer


async def test_the_answers_have_the_form_that_the_document_says(cluster: Cluster, key: Any) -> None:
    import aiohttp

    async with aiohttp.ClientSession() as http:
        async with http.get(cluster.urls[0] + "/v1/openapi.json") as response:
            schemas = (await response.json())["components"]["schemas"]
        async with http.get(cluster.urls[0] + "/v1/network") as response:
            network = await response.json()
        async with http.get(f"{cluster.urls[0]}/v1/keys/{hexed(key.token_id)}") as response:
            described = await response.json()
        async with http.get(cluster.urls[0] + "/v1/keys/0x" + "00" * 32) as response:
            assert response.status == 404
    body = await body_for(cluster, key, intents.message_intent("shape"))
    (_, share), *_ = await ask_all(cluster, body)
    for found, name in ((network, "Network"), (described, "Key"), (share, "SignatureShare")):
        assert set(found) == set(schemas[name]["properties"])
    assert described["state"] == "active"
    assert [node["live"] for node in network["nodes"]] == [True] * 4
