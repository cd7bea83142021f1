"""A contract that halts has said no: quickly, at every node, and it counts as a failed login, never as a lost chain."""

from __future__ import annotations

import pytest
from session_kit import SIGNERS, ask, codes, login_body, new_key, new_statement, runs_of

from chain_fixtures import DIVER, SPINNER, assemble, deployment
from cluster import Cluster
from keyquorum.auth import siwe
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.rpc import Sender
from keyquorum.node.services.quotas import CALLS_PER_LOGIN

MAGIC = "1626ba7e" + "00" * 28
NEVER = {"an invalid instruction": bytes.fromhex("fe"), "an endless loop": SPINNER, "itself, all the way down": DIVER}
YES = assemble(f"0x{MAGIC} PUSH0 MSTORE 0x20 PUSH0 RETURN")


async def wallet(cluster: Cluster, code: bytes) -> bytes:
    receipt = await Sender(cluster.rpc, ACCOUNTS[5][1]).send(None, deployment(code))
    for node in cluster.nodes.values():
        await node._view.refresh()
    return bytes.fromhex(receipt["contractAddress"][2:])


async def login(cluster: Cluster, address: bytes, signature: bytes = b"\xab" * 65) -> dict[str, object]:
    key = new_key()
    statement = await new_statement(cluster, key.public)
    text = siwe.build_message(statement, address, "localhost", statement.expires - 3000)
    return login_body(key, statement, {"message": text, "signature": "0x" + signature.hex()})


@pytest.mark.parametrize("what", NEVER)
async def test_a_wallet_that_halts_has_refused_at_each_node(
    cluster: Cluster, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, runs, failed = await login(cluster, await wallet(cluster, NEVER[what])), await runs_of(cluster), []
    for node in cluster.nodes.values():
        monkeypatch.setattr(node.sessions._quotas, "login_failed", failed.append)
    answers = await ask(cluster, "/v1/sessions", body, *SIGNERS)
    assert codes(answers) == ["wallet_refused"] * 3
    assert {status for status, _ in answers} == {401}
    assert len(failed) == 3
    assert len(set(failed)) == 1
    assert await runs_of(cluster) == runs


async def test_questions_to_wallets_run_out_before_they_are_put_even_if_all_are_answered_yes(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, address, asked = cluster.nodes[1], await wallet(cluster, YES), 0
    settings = node._config.quotas.failed_logins
    real = node._view.run_guarded

    async def run_guarded(code: bytes, block: int) -> bytes:
        nonlocal asked
        asked += 1
        return await real(code, block)

    monkeypatch.setattr(node._view, "run_guarded", run_guarded)
    monkeypatch.setattr(node.sessions._signing, "run_signing", None)  # what comes after is not this test's
    most = settings * CALLS_PER_LOGIN
    answers = [
        await cluster.post(1, "/v1/sessions", await login(cluster, address, bytes([number]) * 66))
        for number in range(most + 5)
    ]
    refused = [answer["error"]["code"] for status, answer in answers if status == 429]
    assert asked == most
    assert refused == ["quota_exceeded"] * 5


async def test_a_login_that_cannot_be_is_refused_before_the_chain_is_asked(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = cluster.nodes[1]
    for name in ("recent_block_time", "code", "run_guarded"):
        monkeypatch.setattr(node._view, name, None)  # whoever comes so far fails with another error
    key, bodies = new_key(), []
    for changes, code in (
        ({"network": "eip155:1:0x" + "11" * 20}, "wrong_network"),
        ({"expires": 1_700_000_000}, "statement_expired"),
        ({"expires": 4_000_000_000}, "session_too_long"),
    ):
        statement = await new_statement(cluster, key.public, **changes)
        bodies.append((login_body(key, statement, {"message": "", "signature": "0x"}), code))
    for body, code in bodies:
        assert codes([await cluster.post(1, "/v1/sessions", body)]) == [code]


async def test_a_login_over_quota_is_refused_before_the_chain_is_asked(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = cluster.nodes[1]
    body = await login(cluster, b"\x99" * 20)
    monkeypatch.setattr(node._view, "recent_block_time", None)
    for buckets in node.sessions._quotas._logins.values():
        monkeypatch.setattr(buckets, "wait", lambda name: 7.0)
    assert codes([await cluster.post(1, "/v1/sessions", body)]) == ["quota_exceeded"]
