"""What a node believes of the chain: real contracts on the embedded chain, and endpoints that lag, lie or die."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from keyquorum.chain import guarded_call
from keyquorum.chain.contracts import interface
from keyquorum.chain.deploy import Deployment, NodeEntry, deploy
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.devchain.server import DevChainServer
from keyquorum.chain.rpc import Reverted, Rpc, RpcUnreachable, Sender
from keyquorum.evm.address import from_checksum
from keyquorum.evm.keys import token_id
from keyquorum.node.app import NOWHERE, _peers
from keyquorum.node.chain import chain_quorum, chain_view
from keyquorum.node.chain.chain_view import LATER_SECONDS, ChainUnavailable, ChainView, Seen, Unusable
from keyquorum.node.mesh.mesh import Peer
from pkp_chain import PkpChain, _found_network

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWNER, FRIEND = 6, 7
ZERO = "0x" + "00" * 32
DEEP = 3


class Endpoint(Rpc):
    """A real endpoint whose answers a test changes: `bend(method, params, answer)` returns, or raises, another."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.calls: list[str] = []
        self.bend: Callable[[str, tuple[Any, ...], Any], Any] | None = None

    async def call(self, method: str, *params: Any) -> Any:
        self.calls.append(method)
        answer = await super().call(method, *params)
        return answer if self.bend is None else self.bend(method, params, answer)


@dataclass
class Chain:
    """The embedded chain with a network on it; `view` makes views that a test's end closes."""

    network: PkpChain
    rpc: Rpc
    views: list[ChainView] = field(default_factory=list)

    @property
    def router(self) -> str:
        return self.network.deployment.contracts["PubkeyRouter"]

    def address(self, account: int) -> bytes:
        return bytes.fromhex(ACCOUNTS[account][0][2:])

    async def view(
        self,
        *endpoints: Endpoint,
        finality: str | int = "latest",
        router: str | None = None,
        needed: int | None = None,
    ) -> ChainView:
        made = ChainView(list(endpoints) or [Endpoint(self.rpc.url)], router or self.router, finality, needed)
        self.views.append(made)
        await made.open()
        return made

    async def send(self, account: int, contract: str, function: str, *arguments: Any, value: int = 0) -> Any:
        sender = Sender(self.rpc, ACCOUNTS[account][1])
        address = self.network.deployment.contracts[contract]
        return await sender.send(address, interface(contract).encode(function, *arguments), value)

    async def mine(self, count: int = 1) -> None:
        await self.rpc.call("anvil_mine", hex(count))

    async def snapshot(self) -> str:
        return await self.rpc.call("evm_snapshot")

    async def mint(self) -> int:
        """Mint the next key of the pool to OWNER; return its token id."""
        before = await self.network.deployment.bind(self.rpc, "PKPNFT").read("totalSupply")
        await self.send(OWNER, "PKPNFT", "mintNext", 2)
        return self.network.tokens[before]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network() -> AsyncIterator[PkpChain]:
    async with DevChainServer() as server:
        yield await _found_network(server.url)


@pytest_asyncio.fixture(loop_scope="module")
async def chain(network: PkpChain) -> AsyncIterator[Chain]:
    """The chain as it was before the test, one block on: each test undoes its own."""
    async with Rpc(network.url) as rpc:
        made = Chain(network, rpc)
        before = await made.snapshot()
        yield made
        for view in made.views:
            await view.close()
        await rpc.call("evm_revert", before)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every read looks at the chain again, so that a test need not wait for a view to be a moment old."""
    monkeypatch.setattr(chain_view, "FRESH_SECONDS", 0.0)


# -- the two blocks -------------------------------------------------------------------------------------------------


async def test_every_contract_is_found_from_the_router(chain: Chain) -> None:
    view = await chain.view()
    assert view.addresses == dict(chain.network.deployment.contracts)
    assert view.network == chain.network.deployment.network


async def test_a_grant_counts_when_it_is_final_and_a_revocation_at_once(chain: Chain) -> None:
    view, token = await chain.view(finality=DEEP), await chain.mint()
    friend = chain.address(FRIEND)

    async def permitted() -> tuple[bool, bool]:
        return (
            (await view.authorisation(token, 1, friend, newest=False)).permitted,
            (await view.authorisation(token, 1, friend, newest=True)).permitted,
        )

    await chain.mine(DEEP)
    await chain.send(OWNER, "PKPPermissions", "addPermittedAddress", token, ACCOUNTS[FRIEND][0], [1])
    for _ in range(DEEP):
        assert await permitted() == (False, True)
        await chain.mine()
    assert await permitted() == (True, True)
    await chain.send(OWNER, "PKPPermissions", "removePermittedAddress", token, ACCOUNTS[FRIEND][0])
    assert await permitted() == (True, False)


async def test_a_transfer_shows_in_the_newest_block_at_once(chain: Chain) -> None:
    view, token = await chain.view(finality=DEEP), await chain.mint()
    await chain.mine(DEEP)
    old, new = ACCOUNTS[OWNER][0], ACCOUNTS[FRIEND][0]
    await chain.send(OWNER, "PKPNFT", "transferFrom", old, new, token)
    seen = [await view.authorisation(token, 1, chain.address(OWNER), newest) for newest in (False, True)]
    assert [each.owner for each in seen] == [chain.address(OWNER), chain.address(FRIEND)]
    assert seen[0].grant_epoch != seen[1].grant_epoch


async def test_an_unknown_key_has_no_owner(chain: Chain) -> None:
    view = await chain.view()
    seen = await view.authorisation(token_id(b"\x04" + bytes(64)), 1, chain.address(OWNER), newest=True)
    assert (seen.owner, seen.permitted, seen.public_key) == (None, False, b"")


async def test_the_finalised_tag_is_the_chains_own_and_never_beyond_the_newest(chain: Chain) -> None:
    endpoint = Endpoint(chain.rpc.url)
    view = await chain.view(endpoint, finality="finalized")
    head = await view.head()
    assert head.finalised == head.newest
    for number, expected in ((hex(head.newest + 9), head.newest), (hex(2), 2), (None, 0)):
        answer = number and {"number": number, "hash": "0x" + "11" * 32, "timestamp": "0x1", "parentHash": ZERO}
        endpoint.bend = lambda _, params, real, answer=answer: answer if params[:1] == ("finalized",) else real
        assert (await view.refresh()).finalised == expected


async def test_a_depth_beyond_the_first_block_is_the_first_block(chain: Chain) -> None:
    view = await chain.view(finality=10**6)
    assert (await view.head()).finalised == 0


async def test_before_the_registry_is_final_there_is_no_epoch(chain: Chain) -> None:
    view = await chain.view(finality=10**6)
    assert (await view.membership()).epoch == 0


async def test_a_new_block_empties_the_cache_and_the_same_block_does_not(chain: Chain) -> None:
    endpoint = Endpoint(chain.rpc.url)
    view = await chain.view(endpoint)

    async def calls() -> int:
        endpoint.calls.clear()
        await view.read("Staking", "epoch")
        return endpoint.calls.count("eth_call")

    assert [await calls() for _ in range(3)] == [1, 0, 0]
    await chain.mine()
    assert [await calls() for _ in range(2)] == [1, 0]


async def test_an_answer_that_was_on_its_way_when_a_block_came_is_not_taken_for_the_new_block(chain: Chain) -> None:
    endpoint = Endpoint(chain.rpc.url)
    view, arrived, release = await chain.view(endpoint), asyncio.Event(), asyncio.Event()
    honest = view._read_at

    async def slow(*arguments: Any) -> Any:
        answer = await honest(*arguments)
        arrived.set()
        await release.wait()
        return answer

    view._read_at = slow  # type: ignore[method-assign]
    old = asyncio.create_task(view.read("PubkeyRouter", "poolSize", newest=True))
    await arrived.wait()
    view._read_at = honest  # type: ignore[method-assign]
    await chain.mint()
    new = await view.read("PubkeyRouter", "poolSize", newest=True)
    release.set()
    assert (await old, new) == (8, 7)
    assert await view.read("PubkeyRouter", "poolSize", newest=True) == 7


async def test_the_cache_is_bounded(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_view, "CACHE_LIMIT", 3)
    view = await chain.view()
    for token in range(10):
        await view.read("PubkeyRouter", "isRegistered", token)
    assert len(view._cache) <= 3


async def test_what_strangers_look_up_pushes_nothing_out_that_the_node_decides_by(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain_view, "CACHE_LIMIT", 8)
    monkeypatch.setattr(chain_view, "STRANGERS_LIMIT", 3)
    view, token = await chain.view(), await chain.mint()
    await view.authorisation(token, 1, chain.address(FRIEND), newest=True)
    before = len(view._cache)
    for number in range(20):
        assert await view.look_up(number) == (b"", None)
    assert len(view._cache) == before
    assert len(view._strangers) == 3
    public_key, owner = await view.look_up(token)
    assert owner == chain.address(OWNER)
    assert token_id(public_key) == token


async def test_a_failed_read_is_asked_again(chain: Chain) -> None:
    endpoint = Endpoint(chain.rpc.url)
    view = await chain.view(endpoint)
    endpoint.bend = lambda method, _, answer: "0x" if method == "eth_call" else answer
    with pytest.raises(Unusable):
        await view.read("Staking", "epoch")
    endpoint.bend = None
    assert await view.read("Staking", "epoch") == 1


async def test_a_contract_that_refuses_is_not_an_endpoint_that_fails(chain: Chain) -> None:
    view = await chain.view(Endpoint(chain.rpc.url), Endpoint(chain.rpc.url))
    with pytest.raises(Reverted):
        await view.read("Staking", "nodeOf", ACCOUNTS[9][0])
    staking, head = view.addresses["Staking"], (await view.head()).newest
    for question, answer in (("epoch", 1), ("threshold", 3)):
        code = guarded_call.call(from_checksum(staking), interface("Staking").encode(question))
        assert int.from_bytes(await view.run_guarded(code, head), "big") == answer
    code = guarded_call.call(from_checksum(staking), interface("Staking").encode("nodeOf", ACCOUNTS[9][0]))
    assert await view.run_guarded(code, head) == b""
    assert await view.code(staking, newest=True)
    assert await view.code(ACCOUNTS[9][0], newest=True) == b""


# -- endpoints --------------------------------------------------------------------------------------------------------


def dead(method: str, params: tuple[Any, ...], answer: Any) -> Any:
    raise RpcUnreachable("dead")


@pytest.mark.parametrize("age", [9.9, 10.1])
async def test_an_old_view_serves_for_a_while_and_then_refuses(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, age: float
) -> None:
    endpoint = Endpoint(chain.rpc.url)
    view = await chain.view(endpoint)
    known = await view.head()
    endpoint.bend = dead
    monkeypatch.setattr(chain_view.time, "monotonic", lambda: known.read_at + age)
    if age < chain_view.MAX_AGE:
        assert await view.head() == known
    else:
        with pytest.raises(ChainUnavailable):
            await view.head()
    assert view.age == pytest.approx(age)


@pytest.mark.parametrize(("seconds", "served"), [(4.0, True), (6.0, False)])
async def test_a_view_is_as_old_as_the_question_and_not_as_the_answer(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, seconds: float, served: bool
) -> None:
    endpoint, clock = Endpoint(chain.rpc.url), [1000.0]
    view = await chain.view(endpoint, finality="finalized")
    monkeypatch.setattr(chain_view.time, "monotonic", lambda: clock[0])

    def slow(method: str, params: tuple[Any, ...], answer: Any) -> Any:
        clock[0] += seconds
        return answer

    endpoint.bend = slow
    if served:
        assert (await view.refresh()).read_at == 1000.0
        assert view.age == 2 * seconds
    else:
        with pytest.raises(ChainUnavailable):
            await view.refresh()


async def test_a_view_that_was_never_opened_is_infinitely_old() -> None:
    view = ChainView([], "0x" + "11" * 20, "latest")
    assert view.age == float("inf")
    with pytest.raises(ChainUnavailable, match="no endpoint"):
        await view.open()


async def test_the_second_endpoint_serves_when_the_first_does_not_if_one_is_enough(chain: Chain) -> None:
    first, second = Endpoint(chain.rpc.url), Endpoint(chain.rpc.url)
    view = await chain.view(first, second, needed=1)
    first.bend = dead
    assert await view.read("Staking", "epoch") == 1
    second.bend = dead
    await chain.mine()
    with pytest.raises(ChainUnavailable):
        await view.read("Staking", "threshold")


async def test_one_endpoint_of_three_that_lies_changes_nothing(chain: Chain) -> None:
    liar = Endpoint(chain.rpc.url)
    view, token = await chain.view(liar, Endpoint(chain.rpc.url), Endpoint(chain.rpc.url)), await chain.mint()
    victim = chain.address(OWNER).hex()

    def owned_by_a_thief(method: str, _: Any, real: Any) -> Any:
        return real.replace(victim, "66" * 20) if method == "eth_call" else real

    liar.bend = owned_by_a_thief
    seen = await view.authorisation(token, 1, chain.address(FRIEND), newest=True)
    assert seen.owner == chain.address(OWNER)


async def test_without_agreement_nothing_is_decided(chain: Chain) -> None:
    """The honest ones are kept busy, the liar answers: exactly how others were robbed."""
    endpoints = [Endpoint(chain.rpc.url) for _ in range(3)]
    view = await chain.view(*endpoints)
    for busy in endpoints[:2]:
        busy.bend = dead
    await chain.mine()
    with pytest.raises(ChainUnavailable, match="2 of 3 endpoints must agree"):
        await view.refresh()
    endpoints[0].bend, endpoints[1].bend = (
        None,
        lambda method, _, real: real[:-1] + "f" if method == "eth_call" else real,
    )
    endpoints[2].bend = dead
    with pytest.raises(ChainUnavailable, match="2 of 3 endpoints must agree, these do not"):
        await view.read("Staking", "threshold")


async def test_an_endpoint_with_blocks_of_its_own_finds_no_company(chain: Chain) -> None:
    ahead = Endpoint(chain.rpc.url)
    view = await chain.view(ahead, Endpoint(chain.rpc.url), Endpoint(chain.rpc.url))
    real = await chain.rpc.block("latest")
    far = {"number": hex(2**40), "hash": "0x" + "77" * 32, "timestamp": "0x1", "parentHash": ZERO}
    ahead.bend = lambda method, _, answer: far if "Block" in method else answer
    head = await view.refresh()
    assert head.newest_hash.hex() == real["hash"][2:]


async def test_an_endpoint_that_lags_is_not_waited_for_and_not_believed(chain: Chain) -> None:
    lagging = Endpoint(chain.rpc.url)
    view = await chain.view(lagging, Endpoint(chain.rpc.url), Endpoint(chain.rpc.url))
    old = await chain.rpc.block("latest")
    lagging.bend = lambda method, params, real: old if params[:1] == ("latest",) else real
    for _ in range(3):
        await chain.mine()
        newest = await chain.rpc.block("latest")
        assert (await view.refresh()).newest_hash.hex() == newest["hash"][2:]


async def test_an_endpoint_that_hangs_is_not_waited_for_again_for_a_while(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain_quorum, "PATIENCE", 0.01)
    hangs = Endpoint(chain.rpc.url)
    view = await chain.view(hangs, Endpoint(chain.rpc.url), Endpoint(chain.rpc.url))
    forever = asyncio.Event()

    async def call(method: str, *params: Any) -> Any:
        await forever.wait()

    monkeypatch.setattr(hangs, "call", call)
    for patience in (0.01, 3600.0):
        monkeypatch.setattr(chain_quorum, "PATIENCE", patience)
        await chain.mine()
        newest = await chain.rpc.block("latest")
        assert (await asyncio.wait_for(view.refresh(), 30)).newest_hash.hex() == newest["hash"][2:]


@pytest.mark.parametrize("needed", [0, 3, -1])
async def test_more_endpoints_than_there_are_cannot_agree(needed: int) -> None:
    with pytest.raises(ValueError, match="cannot agree"):
        ChainView([Endpoint("http://localhost:1"), Endpoint("http://localhost:2")], "0x" + "11" * 20, "latest", needed)


@pytest.mark.parametrize("block", [
    {}, {"number": "1", "hash": "0x" + "11" * 32}, {"number": "0x1"}, {"number": "0x1", "hash": 7},
    {"number": "0x1", "hash": "0x11", "timestamp": "0x1"}, {"number": None, "hash": None}, None,
    {"number": "0x1", "hash": "0x" + "11" * 32},
])  # fmt: skip
async def test_what_is_no_block_is_an_endpoint_that_fails(chain: Chain, block: Any) -> None:
    endpoint = Endpoint(chain.rpc.url)
    view = await chain.view(endpoint)
    endpoint.bend = lambda *_: block
    with pytest.raises(ChainUnavailable):
        await view.refresh()
    endpoint.bend = None
    await view.refresh()


async def test_an_endpoint_of_another_chain_is_never_asked(chain: Chain) -> None:
    first, other = Endpoint(chain.rpc.url), Endpoint(chain.rpc.url)
    other._chain_id = 1
    view = await chain.view(first, Endpoint(chain.rpc.url), other)
    first.bend = dead
    with pytest.raises(ChainUnavailable, match="another chain"):
        await view.refresh()
    assert not other.calls


async def test_an_endpoint_that_lags_cannot_undo_a_revocation(chain: Chain) -> None:
    endpoint = Endpoint(chain.rpc.url)
    view, token = await chain.view(endpoint), await chain.mint()
    await chain.send(OWNER, "PKPPermissions", "addPermittedAddress", token, ACCOUNTS[FRIEND][0], [1])
    before = await chain.rpc.block("latest")
    await view.refresh()
    await chain.send(OWNER, "PKPPermissions", "removePermittedAddress", token, ACCOUNTS[FRIEND][0])
    newest = await view.refresh()
    unknown = before | {"number": hex(newest.newest - 2)}
    for lagging in (before, unknown):
        endpoint.bend = lambda _, params, real, lagging=lagging: lagging if params[:1] == ("latest",) else real
        with pytest.raises(ChainUnavailable, match="they lag"):
            await view.refresh()
        assert not (await view.authorisation(token, 1, chain.address(FRIEND), newest=True)).permitted


@pytest.mark.parametrize("field", ["number", "timestamp"])
async def test_a_number_that_no_block_has_is_no_block(chain: Chain, field: str) -> None:
    endpoint = Endpoint(chain.rpc.url)
    view = await chain.view(endpoint)
    before = await view.head()
    for value, allowed in ((2**200, False), (2**63, False), (2**63 - 1, True)):
        endpoint.bend = lambda _, params, real, value=value: (
            real | {field: hex(value)} if params[:1] == ("latest",) else real
        )
        if allowed:
            assert getattr(await view.refresh(), {"number": "newest", "timestamp": "newest_time"}[field]) == value
            continue
        with pytest.raises(ChainUnavailable):
            await view.refresh()
        assert view.floor.number == before.newest


async def test_a_block_that_an_endpoint_invented_stops_a_node_no_longer_than_a_while(chain: Chain) -> None:
    endpoint, wall = Endpoint(chain.rpc.url), [0.0]
    made = int((await chain.rpc.block("latest"))["timestamp"], 16)
    wall[0] = made - LATER_SECONDS
    view = ChainView([endpoint], chain.router, "latest", clock=lambda: wall[0])
    chain.views.append(view)
    await view.open()
    endpoint.bend = lambda _, params, real: real | {"number": hex(2**62)} if params[:1] == ("latest",) else real
    assert (await view.refresh()).newest == 2**62
    endpoint.bend = None
    with pytest.raises(ChainUnavailable, match="they lag"):
        await view.refresh()  # this block may have been made before
    await chain.mine()
    honest = await chain.rpc.block("latest")
    seen = Seen(2**62, int(honest["timestamp"], 16) - LATER_SECONDS - 1)
    restarted = ChainView([Endpoint(chain.rpc.url)], chain.router, "latest")
    chain.views.append(restarted)
    view.floor = restarted.floor = seen
    await restarted.open()
    for each in (view, restarted):
        assert (await each.refresh()).newest == each.floor.number == int(honest["number"], 16)


async def test_a_reorganisation_to_a_lower_block_is_followed(chain: Chain) -> None:
    view = await chain.view()
    fork = await chain.snapshot()
    for _ in range(3):
        await chain.mine()
        before = await view.refresh()
    await chain.rpc.call("evm_revert", fork)
    await chain.mint()
    after = await view.refresh()
    assert after.newest < before.newest
    assert await view.read("PubkeyRouter", "poolSize", newest=True) == 7


# -- blocks of a login ------------------------------------------------------------------------------------------------


async def hash_of(chain: Chain, block: int | str) -> bytes:
    return bytes.fromhex((await chain.rpc.block(block))["hash"][2:])


async def test_after_a_restart_an_older_chain_is_refused_until_it_has_caught_up(chain: Chain) -> None:
    seen = (await (await chain.view()).head()).newest
    restarted = ChainView([Endpoint(chain.rpc.url)], chain.router, "latest")
    chain.views.append(restarted)
    restarted.floor = Seen(seen + 3, time.time())
    with pytest.raises(ChainUnavailable, match=f"show block {seen}, this node has seen block {seen + 3}"):
        await restarted.open()
    assert restarted.age == float("inf")
    await chain.mine(2)
    with pytest.raises(ChainUnavailable, match="forget-chain"):
        await restarted.open()
    await chain.mine()
    await restarted.open()
    assert (await restarted.head()).newest == seen + 3


async def test_a_block_is_recent_down_to_the_depth(chain: Chain) -> None:
    view = await chain.view()
    await chain.mine(4)
    newest = (await view.head()).newest
    for back, recent in ((0, True), (1, True), (3, True), (4, False)):
        assert await view.is_recent_block(await hash_of(chain, newest - back), depth=3) == recent


async def test_a_hash_of_no_block_is_not_recent(chain: Chain) -> None:
    view = await chain.view()
    assert not await view.is_recent_block(b"\x11" * 32)


async def test_a_block_that_was_replaced_is_not_recent_any_more(chain: Chain) -> None:
    view = await chain.view()
    fork = await chain.snapshot()
    await chain.mine(2)
    gone = [await hash_of(chain, "latest"), await hash_of(chain, (await view.head()).newest - 1)]
    assert all([await view.is_recent_block(each) for each in gone])
    await chain.rpc.call("evm_revert", fork)
    await chain.mint()
    await chain.mine(2)
    assert not any([await view.is_recent_block(each) for each in gone])


async def test_a_block_of_a_branch_that_an_endpoint_still_keeps_is_not_recent(chain: Chain) -> None:
    endpoint = Endpoint(chain.rpc.url)
    view = await chain.view(endpoint)
    newest = (await view.head()).newest
    branch = {"number": hex(newest - 1), "hash": "0x" + "22" * 32, "timestamp": "0x1", "parentHash": ZERO}
    endpoint.bend = lambda method, _, real: branch if method == "eth_getBlockByHash" else real
    assert not await view.is_recent_block(b"\x22" * 32)


async def test_a_block_that_is_newer_than_the_view_is_found(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    view = await chain.view()
    monkeypatch.setattr(chain_view, "FRESH_SECONDS", 1e9)
    for _ in range(3):
        await chain.mine()
        assert await view.is_recent_block(await hash_of(chain, "latest"))


async def test_a_block_that_nobody_knows_costs_no_question_of_its_own(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, batches = Endpoint(chain.rpc.url), []
    view = await chain.view(endpoint)
    real = endpoint.batch

    async def batch(calls: Any) -> Any:
        batches.append(len(calls))
        return await real(calls)

    endpoint.batch = batch  # type: ignore[method-assign]
    monkeypatch.setattr(chain_view, "FRESH_SECONDS", 1e9)
    monkeypatch.setattr(chain_view, "NEW_SECONDS", 0.0)
    await chain.mine(3)
    await view.refresh()
    endpoint.calls.clear()
    answers = await asyncio.gather(*(view.recent_block_time(bytes([i]) * 32) for i in range(1, 200)))
    assert not any(answers)
    assert endpoint.calls == ["eth_getBlockByNumber"]  # all of them together made the view fresh once
    assert len(batches) == 1
    await chain.mine(2)
    await view.refresh()
    newest = (await view.head()).newest
    assert await view.is_recent_block(await hash_of(chain, newest - 1))  # seen by nobody when it was the newest
    assert await view.is_recent_block(await hash_of(chain, newest - 4))
    assert batches[1:] == [1]


async def test_strangers_contracts_are_not_asked_by_address_zero(chain: Chain) -> None:
    endpoint, asked = Endpoint(chain.rpc.url), []
    view = await chain.view(endpoint)

    def note(method: str, params: tuple[Any, ...], answer: Any) -> Any:
        asked.extend(params[:1] if method == "eth_call" else ())
        return answer

    endpoint.bend = note
    await view.run_guarded(b"\x00", (await view.head()).newest)
    ((sender, gas),) = [(int(one["from"], 16), int(one["gas"], 16)) for one in asked]
    assert sender > 0xFFFF
    assert gas == guarded_call.OUTER_GAS


@pytest.mark.parametrize("error", [
    Reverted(-32000, "out of gas"), Reverted(-32015, "VM execution error.", "Bad instruction fe"),
])  # fmt: skip
async def test_endpoints_with_other_words_for_a_halt_agree(chain: Chain, error: Reverted) -> None:
    endpoints = [Endpoint(chain.rpc.url) for _ in range(2)]
    view = await chain.view(*endpoints, needed=2)

    def halt(method: str, _: Any, answer: Any) -> Any:
        if method == "eth_call":
            raise error
        return answer

    endpoints[0].bend = halt
    assert await view.run_guarded(b"\x00", (await view.head()).newest) == b""


async def test_a_stranger_whose_contract_makes_endpoints_disagree_gets_a_no(chain: Chain) -> None:
    endpoints = [Endpoint(chain.rpc.url) for _ in range(2)]
    view = await chain.view(*endpoints, needed=2)
    for number, endpoint in enumerate(endpoints):
        word = "0x00" + f"{number:064x}"
        endpoint.bend = lambda method, _, answer, word=word: word if method == "eth_call" else answer
    assert await view.run_guarded(b"\x00", (await view.head()).newest) == b""

    def fails(method: str, _: Any, answer: Any) -> Any:
        if method == "eth_call":
            raise RpcUnreachable("gone")
        return answer

    endpoints[1].bend = fails
    with pytest.raises(ChainUnavailable):
        await view.run_guarded(b"\x00", (await view.head()).newest)


# -- the registry -----------------------------------------------------------------------------------------------------


async def test_the_members_are_those_of_the_registry(chain: Chain) -> None:
    view = await chain.view()
    membership = await view.membership()
    assert (membership.epoch, membership.threshold, membership.parties) == (1, 3, (1, 2, 3, 4))
    assert [membership.members[j].spki for j in (1, 2, 3, 4)] == [bytes([j]) * 32 for j in (1, 2, 3, 4)]
    assert membership.members[2].address == ACCOUNTS[2][0]


@pytest.mark.parametrize("change", [
    {"partyId": 1}, {"tlsKey": b"\x01" * 32}, {"nodeAddress": ACCOUNTS[1][0].lower()}, {"partyId": 0},
])  # fmt: skip
async def test_a_registry_in_which_one_machine_is_two_parties_is_refused(chain: Chain, change: dict[str, Any]) -> None:
    view = await chain.view()
    nodes = await view.read("Staking", "getNodes")
    nodes[1] = nodes[1]._replace(**change)
    with pytest.raises(ValueError, match="twice"):
        await view.membership()


async def test_a_node_with_a_poisoned_entry_is_a_member_that_cannot_be_reached(chain: Chain) -> None:
    view = await chain.view()
    clean = await view.membership()
    nodes = await view.read("Staking", "getNodes")
    nodes[1] = nodes[1]._replace(url="http://\\xff", meshHost="a" * 64)
    membership = await view.membership()
    assert (membership.threshold, membership.parties) == (clean.threshold, clean.parties)
    assert (membership.members[2].url, membership.members[2].host) == (None, None)
    assert {j: membership.members[j] for j in (1, 3, 4)} == {j: clean.members[j] for j in (1, 3, 4)}
    peers = _peers(membership, 1)
    assert peers[2] == Peer(NOWHERE, clean.members[2].port, clean.members[2].spki)
    assert peers[3] == _peers(clean, 1)[3]


@pytest.mark.parametrize("threshold", [0, 1, 2, 4])
async def test_a_threshold_other_than_the_rules_is_refused(chain: Chain, threshold: int) -> None:
    endpoint = Endpoint(chain.rpc.url)
    view = await chain.view(endpoint)
    data = "0x" + interface("Staking").encode("threshold").hex()
    endpoint.bend = lambda method, params, real: (
        f"0x{threshold:064x}" if method == "eth_call" and params[0]["data"] == data else real
    )
    with pytest.raises(ValueError, match="two thirds"):
        await view.membership()


async def test_a_registry_that_is_not_active_has_no_epoch(chain: Chain) -> None:
    deployment: Deployment = await deploy(Sender(chain.rpc, ACCOUNTS[8][1]))
    view = await chain.view(router=deployment.contracts["PubkeyRouter"])
    assert (await view.membership()).epoch == 0
    assert await view.network_key() is None


async def test_the_network_key_is_the_routers(chain: Chain) -> None:
    view = await chain.view()
    key = await view.network_key()
    assert key is not None
    raw = await chain.network.deployment.bind(chain.rpc, "PubkeyRouter").read("networkKey")
    assert key.to_bytes() == raw


@pytest.mark.parametrize("which", ["an account", "another contract"])
async def test_a_router_that_is_not_ours_is_refused(chain: Chain, which: str) -> None:
    address = ACCOUNTS[5][0] if which == "an account" else chain.network.deployment.contracts["Staking"]
    with pytest.raises(ValueError, match="not this project's PubkeyRouter"):
        await chain.view(router=address)


async def test_a_registry_of_two_networks_is_told_apart(chain: Chain) -> None:
    nodes = [NodeEntry(ACCOUNTS[j][0], f"http://n{j}", "127.0.0.1", 1, bytes([j]) * 32) for j in (1, 2)]
    other = await deploy(Sender(chain.rpc, ACCOUNTS[8][1]), nodes)
    view = await chain.view(router=other.contracts["PubkeyRouter"])
    assert view.network != chain.network.deployment.network
    assert (await view.membership()).parties == (1, 2)
