"""What a payment may cost: the rule by itself, and a sender whose endpoint names absurd figures."""

from __future__ import annotations

from typing import Any

import pytest

from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.fees import ETHER, GWEI, LOW_TIP, SpendingLimits, TooDear, amount
from keyquorum.chain.rpc import Rpc, Sender

NOBODY = "0x" + "77" * 20
ABSURD = hex(10**14)


def test_a_tip_may_be_some_base_fees_and_a_little_where_there_is_none() -> None:
    limits = SpendingLimits(tip_multiple=3)
    assert limits.tip(10 * GWEI, 30 * GWEI) == 30 * GWEI
    with pytest.raises(TooDear) as caught:
        limits.tip(10 * GWEI, 30 * GWEI + 1)
    assert (caught.value.asked, caught.value.allowed, caught.value.setting) == (
        30 * GWEI + 1,
        30 * GWEI,
        "tip_multiple",
    )
    assert limits.tip(7, LOW_TIP) == LOW_TIP


def test_gas_and_sum_are_bounded_exactly() -> None:
    limits = SpendingLimits(max_fee=21_000 * GWEI, max_gas=21_000)
    limits.check(21_000, GWEI)
    for gas, price, setting in ((21_000, GWEI + 1, "max_fee"), (21_001, 1, "max_gas")):
        with pytest.raises(TooDear) as caught:
            limits.check(gas, price)
        assert caught.value.setting == setting


def test_the_price_of_a_key_is_bounded_exactly() -> None:
    limits = SpendingLimits(max_mint_cost=5)
    assert limits.mint_cost(5) == 5
    with pytest.raises(TooDear, match="price of a key"):
        limits.mint_cost(6)


@pytest.mark.parametrize(
    "wrong", [{"max_fee": -1}, {"tip_multiple": 0}, {"max_gas": -1}, {"max_mint_cost": -1}], ids=str
)
def test_limits_that_are_none_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="limit"):
        SpendingLimits(**wrong)


def test_sums_are_shown_exactly() -> None:
    assert amount(ETHER + 1, "max_fee") == "1.000000000000000001 ether"
    assert amount(2 * ETHER, "max_mint_cost") == "2 ether"
    assert amount(15 * GWEI // 10, "tip_multiple") == "1.5 gwei"
    assert amount(30_000_000, "max_gas") == "30,000,000 gas"


LIES: dict[str, tuple[str, Any]] = {
    "tip_multiple": ("eth_maxPriorityFeePerGas", ABSURD),
    "max_fee": ("eth_getBlockByNumber", {"baseFeePerGas": ABSURD}),
    "max_gas": ("eth_estimateGas", hex(10**9)),
}


@pytest.mark.parametrize("setting", LIES)
async def test_a_sender_sends_nothing_that_costs_more_than_it_may(
    dev_chain: str, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    method, lie = LIES[setting]
    honest = Rpc.batch

    async def lying(self: Rpc, calls: Any) -> list[Any]:
        answers = await honest(self, calls)
        return [lie if name == method else answer for (name, _), answer in zip(calls, answers, strict=True)]

    monkeypatch.setattr(Rpc, "batch", lying)
    async with Rpc(dev_chain) as client:
        sender = Sender(client, ACCOUNTS[3][1])
        before = await client.balance(sender.address)
        with pytest.raises(TooDear) as caught:
            await sender.send(NOBODY, value=1)
        assert caught.value.setting == setting
        assert await client.balance(sender.address) == before


async def test_a_sender_goes_on_after_the_chain_went_back(dev_chain: str) -> None:
    async with Rpc(dev_chain) as client:
        sender = Sender(client, ACCOUNTS[4][1], receipt_timeout=5)
        snapshot = await client.call("evm_snapshot")
        for _ in range(3):
            await sender.send(NOBODY, value=1)
        assert await client.call("evm_revert", snapshot) is True
        assert (await sender.send(NOBODY, value=1))["status"] == "0x1"
