"""A node that sees a request before the others do: it delays nobody for long, and voids nothing.

The node is played by its own client: what is posted to it is kept back, and shown to the others first in whatever form
it likes. Attempts are counted, not seconds.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from eth_account import Account
from session_kit import ask, codes, login_body, new_key, new_statement, open_session, prove, runs_of, signers_of

from cluster import Cluster
from keyquorum import intents
from keyquorum.auth import request as requests
from keyquorum.client import AsyncClient
from keyquorum.client.fanout import ATTEMPTS, Fanout
from keyquorum.client.jobs import SignJob
from keyquorum.client.patience import SPARE_RUNS
from keyquorum.client.runs import Asked, SignedRuns, spread

pytestmark = pytest.mark.usefixtures("refusals_uncounted", "patience_without_end")

EVIL = 2
HONEST = (1, 3, 4)
Forward = Callable[[str, Any], Awaitable[None]]


@pytest.fixture
def patience_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a client waits follows the machine, however slow that is."""
    monkeypatch.setattr("keyquorum.client.patience.MOST", 10.0)


class Evil:
    """Keeps back what is posted to the node `EVIL`, after `forward(path, body)` has shown it to others."""

    def __init__(self, cluster: Cluster, fanout: Fanout, forward: Forward | None = None) -> None:
        self.runs: list[tuple[int, ...]] = []
        transport: Any = fanout._transport
        post, mine = transport.post, cluster.urls[EVIL - 1]

        async def answer(url: str, body: bytes, shape: Any) -> Any:
            found = json.loads(body)
            signers = signers_of(found)
            if url.startswith(cluster.urls[signers[0] - 1]):
                self.runs.append(signers)
            if not url.startswith(mine):
                return await post(url, body, shape)
            if forward is not None:
                await forward(url.removeprefix(mine), found)
            return await asyncio.Event().wait()

        transport.post = answer

    async def until_known(self, client: AsyncClient, act: Callable[[int], Awaitable[Any]]) -> None:
        """Act until the client has found the node out; each time it must work nevertheless."""
        for number in range(20):
            # Where every run takes a second, a busy machine, silence would say nothing and further runs run out.
            client._fanout.patience._spare = SPARE_RUNS
            await act(number)
            if client._fanout.book.has_fault(EVIL):
                return
            # A mere suspicion would keep it out of the next runs, where it could be found out.
            client._fanout.book.records.clear()
        raise AssertionError("a node that is silent was never found out")


def runs_in(body: Any) -> int:
    return len(json.loads(requests.parse(body["request"]).payload)["runs"])


async def burn(cluster: Cluster, path: str, body: Any) -> None:
    """Start every run that the request names at every honest node, and some that it does not name."""
    for number in range(runs_in(body)):
        for party in HONEST:
            if party in signers_of(body | {"run": number}):
                asyncio.create_task(cluster.post(party, path, body | {"run": number}))  # noqa: RUF006 - left to itself
    await asyncio.sleep(0)
    for run in (runs_in(body), 8, {"signers": [1, EVIL, 3], "attempt": 3}, [1, EVIL, 3]):
        for status, _ in await asyncio.gather(*(cluster.post(party, path, body | {"run": run}) for party in HONEST)):
            assert status in (400, 429, 503)  # a busy node may say so first


@pytest.mark.parametrize("burns", [False, True], ids=["silent", "burns attempts"])
async def test_a_node_that_is_silent_or_burns_attempts_is_found_out_and_then_costs_nothing(
    cluster: Cluster, key: Any, burns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forward(path: str, body: Any) -> None:
        await burn(cluster, path, body)

    async with cluster.client() as client:
        await client.sign_message(key, "warm")
        evil = Evil(cluster, client._fanout, forward if burns else None)

        async def act(number: int) -> None:
            evil.runs.clear()
            signed = await client.sign_message(key, f"{number} {burns}")
            assert EVIL not in signed.signers
            assert len(evil.runs) <= ATTEMPTS

        await evil.until_known(client, act)
        # From now on nothing is tried beside a run and nothing is forgotten, however slow this machine is.
        monkeypatch.setattr(client._fanout.patience, "spend", lambda: False)
        found_out = client._fanout.book.clock()
        monkeypatch.setattr(client._fanout.book, "clock", lambda: found_out)
        for number in range(10):
            for party in HONEST:  # nor does a late answer of an honest node count
                client._fanout.book.records.pop(party, None)
            await act(100 + number)
            assert evil.runs == [HONEST]


async def test_runs_that_were_signed_ahead_work_though_a_node_has_started_them_all(cluster: Cluster, key: Any) -> None:
    async def forward(path: str, body: Any) -> None:
        await burn(cluster, path, body)

    session = await open_session(cluster, cluster.user)
    intent, name = intents.message_intent("ahead"), secrets.token_urlsafe(24)
    runs = spread(range(1, 5), 3, name)
    body = session.body("sign", intent, f"0x{key.token_id:064x}", request_id=name, runs=runs)
    del body["run"]
    read = intents.read(intent, None)
    async with cluster.client() as client:
        evil = Evil(cluster, client._fanout, forward)
        public_key = await client._public_key(key.token_id)
        job = SignJob(SignedRuns(name, body, runs), digest=read.digest, summary=read.summary, public_key=public_key)
        signed = await client._fanout.run(job, 30)
    assert signed.signers == HONEST and len(evil.runs) <= 8


async def test_started_runs_use_up_nothing_of_their_owner(cluster: Cluster, key: Any) -> None:
    session = await open_session(cluster, cluster.user, uses=2)
    runs = [(1, 3, 4)] * 8
    token = f"0x{key.token_id:064x}"
    body = session.body("sign", intents.message_intent("eight"), token, runs=runs)
    levels = [cluster.nodes[party].signing._quotas._runs["session"].level(session.id) for party in HONEST]
    for number in range(8):
        assert codes(await ask(cluster, "/v1/sign", body | {"run": number})) == [""] * 3
    after = [cluster.nodes[party].signing._quotas._runs["session"].level(session.id) for party in HONEST]
    assert all(before - left <= 1 for before, left in zip(levels, after, strict=True))
    assert [cluster.nodes[party].signing.uses.of(session.id) for party in HONEST] == [1, 1, 1]


async def test_a_login_that_a_node_sees_first_works_and_is_found_out(cluster: Cluster) -> None:
    """It shows the others the same statement with a wallet of its own, and starts the runs of the login itself."""
    refused = []

    async def forward(path: str, body: Any) -> None:
        login = json.loads(requests.parse(body["request"]).payload)["intent"]
        statement = await new_statement(cluster, new_key().public)
        statement = type(statement).from_json(login["statement"])
        forged = login_body(new_key(), statement, prove(Account.create(), statement), signers=(1, EVIL, 3))
        refused.extend(codes(await ask(cluster, path, forged, 1, 3)))
        await burn(cluster, path, body)

    async with cluster.client() as client:
        await client.login()
        evil = Evil(cluster, client._fanout, forward)

        async def act(_: int) -> None:
            evil.runs.clear()
            await client.login(Account.create())
            assert len(evil.runs) <= ATTEMPTS

        await evil.until_known(client, act)
    assert refused and set(refused) == {"bad_signature"}


async def test_a_commitment_to_one_login_is_no_obstacle_to_another(cluster: Cluster) -> None:
    """Two people, or one twice, at the same time: nothing of the one is keyed by anything of the other."""
    before = await runs_of(cluster)
    sessions = await asyncio.gather(*(open_session(cluster, Account.create()) for _ in range(4)))
    assert len({session.id for session in sessions}) == 4
    await cluster.quiet()
    assert await runs_of(cluster) == before + 12


async def test_a_request_is_signed_again_with_other_runs_until_it_is_served(cluster: Cluster, key: Any) -> None:
    """The same id, later and with other signers: one use, and whatever failed before is not in its way."""
    session = await open_session(cluster, cluster.user)
    name, token, intent = secrets.token_urlsafe(24), f"0x{key.token_id:064x}", intents.message_intent("again")

    def sign(runs: Any) -> dict[str, Any]:
        body = session.body("sign", intent, token, request_id=name, runs=runs, expires=int(time.time()) + 58)
        del body["run"]
        return dict(body)

    asked = Asked(name, sign)
    spoilt = asked.sign([(1, 2, 3)]) | {"run": 0}
    # One node alone is asked, and gives up when its run has waited long enough for the others.
    for node in cluster.nodes.values():
        node.signing._run_seconds = 0.2
    try:
        ((status, answer),) = await ask(cluster, "/v1/sign", spoilt, 1)
    finally:
        for node in cluster.nodes.values():
            node.signing._run_seconds = node._config.limits.run_seconds
    assert (status, answer["error"]["code"]) == (503, "signer_silent")
    assert codes(await ask(cluster, "/v1/sign", spoilt, 1)) == ["signer_silent"]
    assert codes(await ask(cluster, "/v1/sign", asked.sign([(1, 2, 4)]) | {"run": 0})) == [""] * 3
    assert codes(await ask(cluster, "/v1/sign", asked.sign([(1, 2, 4), (1, 2, 3)]) | {"run": 1})) == [""] * 3
    assert cluster.nodes[1].signing.uses.of(session.id) == 1
