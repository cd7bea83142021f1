"""What nodes ask the chain at two blocks, while the finalised one lags; and what names their processes in every run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from eth_account import Account
from session_kit import ask, codes, login_body, new_key, new_statement, open_session, seen_by_all, sign_with

from chain_fixtures import assemble, deployment
from cluster import Cluster
from keyquorum.auth import siwe
from keyquorum.auth.wallet_signature import Wrapped
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.rpc import Sender
from keyquorum.node.chain import chain_view
from keyquorum.node.services.signing import RunChoice
from keyquorum.refusal import Refusal
from keyquorum.serving.buckets import Buckets

pytestmark = pytest.mark.usefixtures("refusals_uncounted")

LAG = 4
ALL = (1, 2, 3, 4)
MAGIC = "1626ba7e" + "00" * 28


@pytest.fixture(autouse=True)
def no_lockout(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for node in cluster.nodes.values():
        for name in ("_failures", "_failed_claims", "_asked", "_asked_claims"):
            monkeypatch.setattr(node.sessions._quotas, name, Buckets(1000, 1.0))


@pytest_asyncio.fixture(loop_scope="session")
async def lagging(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """For every node the finalised block is `LAG` blocks behind the newest."""
    monkeypatch.setattr(chain_view, "FRESH_SECONDS", 0.0)
    for node in cluster.nodes.values():
        monkeypatch.setattr(node._view, "_finality", LAG)
    await seen_by_all(cluster)
    yield
    monkeypatch.undo()
    await seen_by_all(cluster)


async def mine(cluster: Cluster, blocks: int = LAG) -> None:
    for _ in range(blocks):
        await Sender(cluster.rpc, ACCOUNTS[6][1]).send(ACCOUNTS[7][0], b"", 1)
    await seen_by_all(cluster)


@pytest_asyncio.fixture(loop_scope="session")
async def fresh(cluster: Cluster) -> Any:
    """A key that `cluster.user` owns, for good."""
    await cluster.pool_filled()
    async with cluster.client() as client:
        key = (await client.mint()).key
    await mine(cluster)
    return key


async def test_a_grant_counts_once_it_is_final_and_its_end_at_once(cluster: Cluster, fresh: Any, lagging: None) -> None:
    guest = Account.create()
    session = await open_session(cluster, guest)
    assert codes(await sign_with(cluster, session, fresh.token_id, "no", *ALL)) == ["not_permitted"] * 4
    await cluster.send(1, "PKPPermissions", "addPermittedAddress", fresh.token_id, guest.address, [1])
    await seen_by_all(cluster)
    assert codes(await sign_with(cluster, session, fresh.token_id, "early", *ALL)) == ["not_final"] * 4
    await mine(cluster)
    assert codes(await sign_with(cluster, session, fresh.token_id, "final")) == [""] * 3
    await cluster.send(1, "PKPPermissions", "removePermittedAddress", fresh.token_id, guest.address)
    await seen_by_all(cluster)
    assert codes(await sign_with(cluster, session, fresh.token_id, "late", *ALL)) == ["revoked"] * 4


async def test_an_owner_counts_once_he_is_final_and_the_former_one_no_more(
    cluster: Cluster, fresh: Any, lagging: None
) -> None:
    seller, buyer = await open_session(cluster, cluster.user), await open_session(cluster, Account.from_key(
        ACCOUNTS[2][1]
    ))  # fmt: skip
    await cluster.send(1, "PKPNFT", "transferFrom", cluster.user.address, ACCOUNTS[2][0], fresh.token_id)
    await seen_by_all(cluster)
    for session, code in ((seller, "revoked"), (buyer, "not_final")):
        assert codes(await sign_with(cluster, session, fresh.token_id, code, *ALL)) == [code] * 4
    await mine(cluster)
    assert codes(await sign_with(cluster, buyer, fresh.token_id, "mine")) == [""] * 3


# -- contract wallets -------------------------------------------------------------------------------------------------


def answering(comparison: str, block: int) -> bytes:
    """A wallet that says yes to everything as long as the block's number is greater (GT) or less (LT) than this."""
    number = "0x" + block.to_bytes(4, "big").hex()
    return assemble(f"{number} NUMBER {comparison} 0x{MAGIC} MUL PUSH0 MSTORE 0x20 PUSH0 RETURN")


async def deployed(cluster: Cluster, code: bytes) -> bytes:
    receipt = await Sender(cluster.rpc, ACCOUNTS[5][1]).send(None, deployment(code))
    await seen_by_all(cluster)
    return bytes.fromhex(receipt["contractAddress"][2:])


async def login(cluster: Cluster, address: bytes, signature: bytes = b"\xab" * 65) -> list[str]:
    key = new_key()
    statement = await new_statement(cluster, key.public)
    text = siwe.build_message(statement, address, "localhost", statement.expires - 3000)
    body = login_body(key, statement, {"message": text, "signature": "0x" + signature.hex()})
    return codes(await ask(cluster, "/v1/sessions", body))


async def test_a_wallet_logs_in_only_while_both_blocks_agree(
    cluster: Cluster, lagging: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = 8  # the nodes themselves send transactions too: a block more or less changes nothing
    for node in cluster.nodes.values():
        monkeypatch.setattr(node._view, "_finality", far)
    change = await cluster.rpc.block_number() + 14
    lately, formerly = [await deployed(cluster, answering(how, change)) for how in ("GT", "LT")]
    assert await login(cluster, lately) == ["wallet_not_final"] * 3

    async def at(block: int) -> None:
        await mine(cluster, block - await cluster.rpc.block_number())

    await at(change - 2)
    assert [await login(cluster, one) for one in (formerly, lately)] == [[""] * 3, ["wallet_refused"] * 3]
    await at(change + far // 2)
    # One says no at the newest block by now, the other still at the finalised one.
    assert [await login(cluster, one) for one in (formerly, lately)] == [["wallet_refused"] * 3] * 2
    await at(change + 2 * far)
    assert [await login(cluster, one) for one in (formerly, lately)] == [["wallet_refused"] * 3, [""] * 3]


async def test_a_wallet_that_is_not_there_yet_is_tried_out_at_both_blocks(
    cluster: Cluster, lagging: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[int, list[int]] = {party: [] for party in cluster.nodes}
    for party, node in cluster.nodes.items():

        async def run_guarded(code: bytes, block: int, party: int = party) -> bytes:
            asked[party].append(block)
            return bytes.fromhex(MAGIC)

        monkeypatch.setattr(node._view, "run_guarded", run_guarded)
    signature = Wrapped(b"\x21" * 20, b"make it", b"\xab" * 65).encode()
    assert await login(cluster, b"\x77" * 20, signature) == [""] * 3
    newest = await cluster.rpc.block_number()
    assert [asked[party] for party in (1, 2, 3)] == [[newest - LAG, newest]] * 3


# -- processes --------------------------------------------------------------------------------------------------------


async def session_id_at(cluster: Cluster, party: int, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The session id that a node gives to one and the same run."""
    node, seen = cluster.nodes[party], []
    key = await node.sessions._network_key()

    async def run(me: Any, work: Any, *_: Any, **__: Any) -> Any:
        work.close()
        seen.append(me.sid)
        raise Refusal("reached", "a run would be made", "none", 409)

    with monkeypatch.context() as patch:
        patch.setattr(node._runner, "run", run)
        with pytest.raises(Refusal, match="a run would"):
            await node.signing.run_signing("session", key, b"\x11" * 32, b"\x22" * 32, RunChoice((1, 2, 3), 0))
    (sid,) = seen
    return sid


async def test_a_run_belongs_to_the_processes_that_make_it(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [await session_id_at(cluster, party, monkeypatch) for party in (1, 2, 3)]
    assert len(set(before)) == 1
    assert before[0] == await session_id_at(cluster, 1, monkeypatch)
    await cluster.stop_node(2)
    await cluster.start_node(2)
    await cluster.ready()
    after = [await session_id_at(cluster, party, monkeypatch) for party in (1, 2, 3)]
    assert len(set(after)) == 1
    assert after[0] != before[0]
