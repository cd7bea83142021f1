"""Receipts for bearer tokens: one binding per token, durable before the receipt leaves, and no flood of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keyquorum.algebra.rng import SeededRng
from keyquorum.auth.commitment import Commitment, Receipt
from keyquorum.auth.method import Committee
from keyquorum.auth.network import network_id
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import Statement
from keyquorum.evm.address import address_of_private
from keyquorum.formats.strict_json import BadJson
from keyquorum.node.services.commitments import (
    ALLOWANCE,
    GATEWAYS_ALLOWANCE,
    HOUR,
    IN_ALL,
    IN_ALL_SECONDS,
    PER_CLIENT,
    PER_GATEWAY,
    RESERVE,
    Commitments,
)
from keyquorum.node.services.quotas import client_address
from keyquorum.node.storage.login_store import COMMITMENTS, KEEP_SECONDS, LoginStore
from keyquorum.refusal import Invalid, Refusal
from rosters import roster

NOW = 1_800_000_000
NETWORK = network_id(31337, bytes(20))
ACCOUNT = b"\x07" * 32
STATEMENT = Statement(
    network=NETWORK, session=SessionPrivateKey.generate(SeededRng("one")).public, keys=("*",), scopes=(1,),
    expires=NOW + 3600, nonce="ab" * 16, block="0x" + "11" * 32,
)  # fmt: skip


def commitment(token: str, **changes: Any) -> Commitment:
    """To a token as random as real ones are: nodes do not tell apart what differs in the last character only."""
    return Commitment.to_token("discord", f"{token}-token.of-a-user", replace(STATEMENT, **changes))


class View:
    network = NETWORK
    recent: bool | None = True

    async def is_recent_block(self, block_hash: bytes) -> bool:
        if self.recent is None:
            raise AssertionError("asked")
        return self.recent


class Clock:
    now = float(NOW)

    def __call__(self) -> float:
        return self.now


class Desk:
    """The service, with its parts at hand."""

    def __init__(self, store: LoginStore, **options: Any) -> None:
        self.view, self.clock, self.store = View(), Clock(), store
        parts: Any = (roster(3, epoch=5), self.view, store, ACCOUNT, {"discord"})
        self.service = Commitments(*parts, clock=self.clock, ticks=self.clock, **options)

    async def ask(self, token: str = "token", **changes: Any) -> Receipt:
        return await self.send(commitment(token, **changes).to_json())

    async def send(self, body: Any) -> Receipt:
        answer = await self.service.commit(json.dumps(body).encode(), 100_000)
        assert set(answer) == {"receipt"}
        return Receipt.from_json(answer["receipt"])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LoginStore]:
    made = LoginStore(tmp_path, commitments=20)
    yield made
    made.close()


@pytest.fixture
def desk(store: LoginStore) -> Desk:
    return Desk(store)


async def test_a_receipt_is_signed_by_the_nodes_account_for_exactly_this_login(desk: Desk) -> None:
    receipt = await desk.ask()
    committee = Committee({3: address_of_private(ACCOUNT)}, 3, 5)
    receipt.check(commitment("token"), committee, NOW)
    assert (receipt.party, receipt.issued_at) == (3, NOW)
    for other in (
        commitment("another"),
        commitment("token", nonce="cd" * 16),
    ):
        with pytest.raises(Invalid):
            receipt.check(other, committee, NOW)
    with pytest.raises(Invalid):
        receipt.check(commitment("token"), replace(committee, epoch=6), NOW)


@pytest.mark.parametrize("change", [
    {"session": SessionPrivateKey.generate(SeededRng("thief")).public}, {"scopes": (1, 5)}, {"nonce": "cd" * 16},
    {"expires": NOW + 3599}, {"keys": ("0x" + "11" * 32,)}, {"uses": 2},
])  # fmt: skip
async def test_a_token_gets_no_receipt_for_a_second_login(desk: Desk, change: dict[str, Any]) -> None:
    await desk.ask()
    with pytest.raises(Refusal) as caught:
        await desk.ask(**change)
    assert (caught.value.status, caught.value.code) == (409, "token_committed")
    desk.clock.now += 10
    assert (await desk.ask()).issued_at == NOW + 10


async def test_racing_askers_get_receipts_for_one_login_only(desk: Desk) -> None:
    thief = SessionPrivateKey.generate(SeededRng("thief")).public
    answers = await asyncio.gather(
        *(desk.ask(**({"session": thief} if k % 2 else {})) for k in range(10)), return_exceptions=True
    )
    given = [isinstance(answer, Receipt) for answer in answers]
    assert given == [k % 2 == 0 for k in range(10)]


async def test_the_binding_is_on_the_disk_before_the_receipt_leaves(desk: Desk, tmp_path: Path) -> None:
    order: list[str] = []
    commit, sign = desk.store.commit, Receipt.sign

    async def committed(*arguments: Any) -> None:
        await commit(*arguments)
        order.append("committed")

    def signed(*arguments: Any) -> Receipt:
        order.append("signed")
        return sign(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(desk.store, "commit", committed)
        patch.setattr(Receipt, "sign", staticmethod(signed))
        await desk.ask()
    assert order == ["committed", "signed"]
    desk.store._writer.fail(RuntimeError("disk"))
    with pytest.raises(Exception, match="disk"):
        await desk.ask("next")


@pytest.mark.parametrize(("change", "code"), [
    ({"network": network_id(1, bytes(20))}, "wrong_network"), ({"expires": NOW}, "statement_expired"),
    ({"expires": NOW + 100_000}, "session_too_long"),
])  # fmt: skip
async def test_a_statement_that_could_not_log_in_gets_no_receipt(desk: Desk, change: dict[str, Any], code: str) -> None:
    with pytest.raises(Invalid) as caught:
        await desk.ask(**change)
    assert caught.value.code == code
    desk.view.recent = False
    with pytest.raises(Invalid) as caught:
        await desk.ask()
    assert caught.value.code == "block_not_recent"
    assert desk.store._counts[0] == 0


async def test_only_methods_with_bearer_tokens_that_are_configured_here_get_receipts(store: LoginStore) -> None:
    desk = Desk(store)
    body = commitment("token").to_json()
    for method, code in (("siwe", "no_commitment"), ("magic", "unknown_method")):
        with pytest.raises(Invalid) as caught:
            await desk.send(body | {"method": method})
        assert caught.value.code == code
    desk.service._configured = frozenset()
    with pytest.raises(Refusal) as refused:
        await desk.ask()
    assert (refused.value.status, refused.value.code) == (503, "not_configured")
    assert store._counts[0] == 0


@pytest.mark.parametrize("change", [
    {"token_digest": "0x12"}, {"binding": None}, {"binding": "0x" + "g" * 64}, {"extra": 1}, {"statement": []},
    {"statement": {}}, {"method": 5},
])  # fmt: skip
async def test_another_form_is_refused_and_nothing_is_kept(desk: Desk, change: dict[str, Any]) -> None:
    body = commitment("token").to_json()
    with pytest.raises((Invalid, BadJson)):
        await desk.send(body | change)
    assert desk.store._counts[0] == 0


async def test_one_address_has_a_quota_and_gateways_answer_for_their_clients(store: LoginStore) -> None:
    desk = Desk(store, per_client=2, gateways=["10.0.0.9"])
    client_address.set("10.0.0.1")
    for k in range(2):
        await desk.ask(f"a{k}")
    with pytest.raises(Refusal) as caught:
        await desk.ask("a2")
    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (429, "too_many_commitments", HOUR / 2)
    desk.view.recent = None  # nothing is looked up for who has no quota
    with pytest.raises(Refusal):
        await desk.ask("a2")
    desk.view.recent = True
    client_address.set("10.0.0.2")
    await desk.ask("b")
    client_address.set("10.0.0.9")
    for k in range(5):
        await desk.ask(f"c{k}")
    client_address.set("10.0.0.1")
    desk.clock.now += HOUR
    await desk.ask("a3", expires=NOW + 7200)


async def charged(desk: Desk, client: str, times: int) -> int:
    """How many of so many commitments of a client are let through."""
    done = 0
    for _ in range(times):
        try:
            desk.service._charge(client)
            done += 1
        except Refusal as error:
            assert error.code == "too_many_commitments"
    return done


async def test_a_gateway_has_a_larger_quota_of_its_own(store: LoginStore) -> None:
    desk = Desk(store, gateways=["10.0.0.9"])
    assert await charged(desk, "10.0.0.9", 2 * PER_GATEWAY) == PER_GATEWAY
    assert await charged(desk, "10.0.0.1", 2 * PER_CLIENT) == PER_CLIENT


async def test_no_number_of_strangers_turns_these_logins_off(store: LoginStore) -> None:
    desk = Desk(store, gateways=["10.0.0.9"])
    used = sum([await charged(desk, f"stranger {number}", PER_CLIENT) for number in range(200)])
    assert used < IN_ALL * (1 - RESERVE) + 200 * ALLOWANCE + PER_CLIENT
    assert await charged(desk, "somebody", 10) == ALLOWANCE
    assert await charged(desk, "10.0.0.9", 2 * GATEWAYS_ALLOWANCE) == GATEWAYS_ALLOWANCE


def test_all_rows_that_can_be_written_while_one_is_kept_fit_by_far() -> None:
    most = IN_ALL + IN_ALL / IN_ALL_SECONDS * KEEP_SECONDS
    assert most == 937_500
    assert most < COMMITMENTS / 2


async def test_a_full_table_refuses_new_tokens_and_still_knows_the_old(desk: Desk) -> None:
    for k in range(20):
        await desk.ask(f"t{k}")
    with pytest.raises(Refusal) as caught:
        await desk.ask("more")
    assert (caught.value.status, caught.value.code) == (503, "commitments_full")
    assert await desk.ask("t3")
