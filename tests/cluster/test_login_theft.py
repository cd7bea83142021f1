"""A node that keeps what it was shown, and uses it against the others with a session key of its own: it gets nothing.

The proofs are real and so are the nodes; the thief is played by asking the others directly, with all that one node saw.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import pytest_asyncio
from eth_account import Account
from session_kit import (
    SIGNERS,
    Opened,
    ask,
    certificate_of,
    codes,
    login_body,
    new_key,
    new_statement,
    open_session,
    prove,
    runs_of,
    sign_with,
)

from cluster import Cluster
from keyquorum import intents
from keyquorum.auth import request as requests
from keyquorum.auth.commitment import Commitment, Receipt, receipts_needed
from keyquorum.auth.discord import DISCORD_TYPE, DiscordSettings
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import Statement
from keyquorum.node.services.providers import Providers
from keyquorum.node.settings.auth_settings import origins
from keyquorum.node.storage.login_store import OtherBinding
from provider_kit import USER, Discord

pytestmark = pytest.mark.usefixtures("refusals_uncounted")

ALL = (1, 2, 3, 4)
THIEF = 2
HONEST = (1, 3, 4)


@dataclass
class World:
    """The cluster, with a Discord-shaped provider that all of its nodes accept."""

    cluster: Cluster
    discord: Discord

    def token(self) -> str:
        return self.discord.issue(USER, self.discord.application)

    async def commit(self, commitment: Commitment, *parties: int) -> list[Any]:
        """Receipts from these nodes (all of them), None where there was none."""
        answers = await ask(self.cluster, "/v1/commitments", commitment.to_json(), *(parties or ALL))
        return [answer.get("receipt") for _, answer in answers]

    async def reveal(self, key: SessionPrivateKey, statement: Statement, proof: Any, *parties: int) -> list[str]:
        body = login_body(key, statement, proof, method="discord")
        return codes(await ask(self.cluster, "/v1/sessions", body, *parties))


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def world(cluster: Cluster) -> AsyncIterator[World]:
    async with Discord().serve() as discord:
        settings = {"discord": DiscordSettings(discord.application, discord.url + "/api/v10")}
        before = {}
        for party, node in cluster.nodes.items():
            service = node.sessions
            before[party] = service._verification
            service._verification = replace(
                service._verification, settings=settings, fetch=Providers(origins(settings))
            )
            node.commitments._configured = frozenset(settings)
        yield World(cluster, discord)
        for party, node in cluster.nodes.items():
            await node.sessions._verification.fetch.close()  # type: ignore[attr-defined]
            node.sessions._verification, node.commitments._configured = before[party], frozenset()


@pytest.fixture(autouse=True)
def no_lockout(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thieves are refused for what they send here, not because they failed too often."""
    for node in cluster.nodes.values():
        monkeypatch.setattr(node.sessions._quotas, "check_login", lambda claim: None)


async def stolen_statements(cluster: Cluster, seen: Statement, thief: SessionPrivateKey) -> dict[str, Statement]:
    """What a thief would rather have had the user sign."""
    mine = thief.public
    return {
        "another session key": replace(seen, session=mine),
        "another key and a fresh nonce": replace(seen, session=mine, nonce=secrets.token_hex(16)),
        "more scopes": replace(seen, scopes=(1, 5, 6)),
        "every key": replace(seen, keys=("*",)),
        "longer": replace(seen, expires=seen.expires + 600),
        "more uses": replace(seen, uses=1_000_000),
        "a newer block": replace(seen, block=(await new_statement(cluster, mine)).block, session=mine),
    }


# -- SIWE -----------------------------------------------------------------------------------------------------------


async def test_a_wallets_login_is_worth_nothing_for_another_statement(cluster: Cluster) -> None:
    user, own, thief = Account.create(), new_key(), new_key()
    seen = await new_statement(cluster, own.public, scopes=(2,), keys=("0x" + "11" * 32,))
    proof = prove(user, seen)
    runs, tried = await runs_of(cluster), 0
    for name, statement in ({"as it is": seen} | await stolen_statements(cluster, seen, thief)).items():
        expected = "wrong_challenge" if statement.session == thief.public else "bad_signature"
        for answer in await ask(cluster, "/v1/sessions", login_body(thief, statement, proof)):
            tried += 1
            assert codes([answer]) == [expected], name
    assert tried == 24
    assert await runs_of(cluster) == runs
    await cluster.quiet()
    # Racing ahead did not spoil the user's own login either.
    assert codes(await ask(cluster, "/v1/sessions", login_body(own, seen, proof))) == [""] * 3
    assert await runs_of(cluster) == runs + 3


async def test_a_captured_certificate_request_or_step_is_worth_nothing(cluster: Cluster) -> None:
    user, thief = Account.create(), new_key()
    session = await open_session(cluster, user)
    held = replace(session, key=thief)
    assert codes(await sign_with(cluster, held, 7)) == ["bad_signature"] * 3
    mine = await open_session(cluster, Account.create())
    captured = session.body("sessions", {}, run=False)
    assert (
        codes(await ask(cluster, "/v1/sessions/list", captured | {"certificate": mine.token}, *HONEST))
        == ["bad_signature"] * 3
    )
    statement = await new_statement(cluster, thief.public, expires=session.statement.expires)
    stepped = login_body(thief, statement, prove(Account.create(), statement), session)
    assert codes(await ask(cluster, "/v1/sessions", stepped)) == ["wrong_session"] * 3
    # In the session's name: its certificate and its public key are all that the thief has.
    statement = await new_statement(cluster, session.key.public, expires=session.statement.expires)
    stepped = login_body(thief, statement, prove(Account.create(), statement), session)
    assert codes(await ask(cluster, "/v1/sessions", stepped)) == ["bad_signature"] * 3


async def test_a_captured_request_does_what_it_says_and_nothing_else(cluster: Cluster, key: Any) -> None:
    session = await open_session(cluster, cluster.user)
    body = session.body("sign", intents.message_intent("pay nobody"), f"0x{key.token_id:064x}")
    assert codes(await ask(cluster, "/v1/sign", body)) == [""] * 3
    claims = {
        "request_id": "another-id-of-mine", "expires": int(time.time()) + 50, "key": f"0x{key.token_id:064x}",
        "intent": intents.message_intent("pay me"), "network": session.network, "runs": [SIGNERS],
    }  # fmt: skip
    forged = requests.make(new_key(), **claims)
    assert codes(await ask(cluster, "/v1/sign", body | {"request": forged})) == ["bad_signature"] * 3
    assert codes(await ask(cluster, "/v1/revocations", body)) == ["bad_kind"] * 3


# -- bearer tokens --------------------------------------------------------------------------------------------------


async def test_a_discord_account_logs_in_everywhere_as_the_same_concealed_identity(world: World) -> None:
    cluster, owner = world.cluster, new_key()
    names = set()
    for _ in range(2):
        statement = await new_statement(cluster, owner.public)
        token = world.token()
        receipts = await world.commit(Commitment.to_token("discord", token, statement))
        body = login_body(owner, statement, {"token": token, "receipts": receipts}, method="discord")
        answers = await ask(cluster, "/v1/sessions", body)
        assert codes(answers) == [""] * 3
        session = Opened(cluster.network.id, await certificate_of(cluster, answers), owner, statement)
        ((method),) = session.claims["methods"]
        names.add(method["id"])
        assert method["type"] == DISCORD_TYPE
    (name,) = names
    assert len(name) == 66
    await cluster.pool_filled()
    async with cluster.client() as client:
        key = (await client.mint()).key
    assert codes(await sign_with(cluster, session, key.token_id)) == ["not_permitted"] * 3
    method_of = (DISCORD_TYPE, bytes.fromhex(name[2:]), b"")
    await cluster.send(1, "PKPPermissions", "addPermittedAuthMethod", key.token_id, method_of, [2])
    assert codes(await sign_with(cluster, session, key.token_id)) == [""] * 3


async def test_a_node_that_saw_a_token_cannot_log_in_with_it(world: World) -> None:
    cluster, own, thief = world.cluster, new_key(), new_key()
    seen = await new_statement(cluster, own.public, scopes=(2,), keys=("0x" + "11" * 32,))
    token = world.token()
    receipts = await world.commit(Commitment.to_token("discord", token, seen))
    assert len(receipts) == receipts_needed(4, 3) == 4
    proof = {"token": token, "receipts": receipts}
    asked = len(world.discord.asked)
    tried = 0
    for name, statement in (await stolen_statements(cluster, seen, thief)).items():
        commitment = Commitment.to_token("discord", token, statement)
        # With the receipts as they are, with receipts of its own, and with what the honest nodes would give it.
        assert await world.commit(commitment, *HONEST) == [None] * 3, name
        node = cluster.nodes[THIEF]
        mine = Receipt.sign(commitment, 1, THIEF, int(time.time()), node.commitments._account)
        forged = [Receipt(j, mine.issued_at, mine.signature).to_json() for j in ALL]
        for each in (receipts, [mine.to_json()], [mine.to_json(), *receipts], forged):
            tried += 1
            refused = await world.reveal(thief, statement, {"token": token, "receipts": each}, *SIGNERS)
            expected = {"bad_receipt", "too_few_receipts"} if statement.session == thief.public else {"bad_signature"}
            assert set(refused) <= expected, (name, refused)
    assert tried == 28
    # Nobody asked the provider for any of it, and the user's own login still works.
    assert len(world.discord.asked) == asked
    assert await world.reveal(own, seen, proof, *SIGNERS) == [""] * 3


async def test_a_node_that_races_ahead_of_the_commitment_gets_only_a_spoilt_token(world: World) -> None:
    cluster, own = world.cluster, new_key()
    seen = await new_statement(cluster, own.public)
    token = world.token()
    honest = Commitment.to_token("discord", token, seen)
    # Before the token is shown the thief knows its digest, and can only bind it to nonsense.
    assert all(await world.commit(replace(honest, binding=secrets.token_bytes(32)), 1))
    receipts = await world.commit(honest)
    assert [receipt is None for receipt in receipts] == [True, False, False, False]
    given = [receipt for receipt in receipts if receipt]
    # A client shows nothing with so few. Even if it did, nobody would log in.
    assert await world.reveal(own, seen, {"token": token, "receipts": given}, *SIGNERS) == ["too_few_receipts"] * 3
    statement = await new_statement(cluster, new_key().public)
    stolen = Commitment.to_token("discord", token, statement)
    assert await world.commit(stolen, *ALL) == [None] * 4


async def test_receipts_of_old_are_not_taken(world: World) -> None:
    cluster, own = world.cluster, new_key()
    statement = await new_statement(cluster, own.public)
    token = world.token()
    commitment = Commitment.to_token("discord", token, statement)
    past = int(time.time()) - 3600
    old = [Receipt.sign(commitment, 1, j, past, cluster.nodes[j].commitments._account).to_json() for j in sorted(ALL)]
    assert await world.reveal(own, statement, {"token": token, "receipts": old}, *SIGNERS) == ["login_too_old"] * 3


async def test_a_receipt_survives_the_nodes_restart(world: World) -> None:
    cluster = world.cluster
    statement = await new_statement(cluster, new_key().public)
    token = world.token()
    commitment = Commitment.to_token("discord", token, statement)
    await world.commit(commitment)
    store = cluster.nodes[1].commitments._store
    with contextlib.closing(type(store)(cluster.folders[0].path / "data")) as again:
        with pytest.raises(OtherBinding):
            await again.commit(commitment.token_digest, bytes(32), int(time.time()))
        await again.commit(commitment.token_digest, commitment.binding, int(time.time()))


# -- providers ------------------------------------------------------------------------------------------------------


async def test_a_provider_that_is_down_is_named_and_other_logins_do_not_notice(world: World) -> None:
    cluster, own = world.cluster, new_key()
    statement = await new_statement(cluster, own.public)
    token = world.token()
    receipts = await world.commit(Commitment.to_token("discord", token, statement))
    proof = {"token": token, "receipts": receipts}
    world.discord.status = 502
    try:
        for _ in range(5):
            answers = await ask(cluster, "/v1/sessions", login_body(own, statement, proof, method="discord"))
            assert codes(answers) == ["provider_unavailable"] * 3
            for status, answer in answers:
                assert status == 503
                assert "127.0.0.1" in answer["error"]["message"]
                assert token not in str(answer)
        await open_session(cluster, Account.create())
    finally:
        world.discord.status = 200


async def test_a_method_without_settings_is_off_and_says_so(cluster: Cluster) -> None:
    own = new_key()
    statement = await new_statement(cluster, own.public)
    for method in ("oidc", "email", "sms", "passkey"):
        body = login_body(own, statement, {}, method=method)
        for status, answer in await ask(cluster, "/v1/sessions", body):
            assert (status, answer["error"]["code"]) == (503, "not_configured"), (method, answer)
