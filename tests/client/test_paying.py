"""Nobody pays another's price unseen: fees, gas and prices, against endpoints and owners that overcharge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fake_network import FakeNetwork
from keyquorum.chain.contracts import interface
from keyquorum.chain.fees import ETHER, GWEI, SpendingLimits
from keyquorum.client import AsyncClient, BadAnswer, ChainError, Key, TooExpensive

NOBODY = "0x" + "77" * 20
ABSURD = hex(10**14)
LIES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "tip_multiple": ("eth_maxPriorityFeePerGas", lambda _: ABSURD),
    "max_fee": ("eth_getBlockByNumber", lambda block: block | {"baseFeePerGas": ABSURD}),
    "max_gas": ("eth_estimateGas", lambda _: hex(10**9)),
}


def lie(client: AsyncClient, method: str, change: Callable[[Any], Any], call: str = "") -> None:
    """Let the client's chain endpoint answer `method` differently; of calls those whose data begins with `call`."""
    rpc, honest = client.chain.rpc, client.chain.rpc._post

    async def lying(body: Any) -> Any:
        answer = await honest(body)
        for asked, one in zip(body, answer, strict=True) if isinstance(body, list) else [(body, answer)]:
            if asked["method"] != method or "result" not in one:
                continue
            if not call or asked["params"][0].get("data", "").startswith(call):
                one["result"] = change(one["result"])
        return answer

    rpc._post = lying  # type: ignore[method-assign]


@pytest.fixture
async def rich(client: AsyncClient, key: Key) -> Key:
    await client.send_from_account(key.address, value=ETHER)
    return key


@pytest.mark.parametrize("setting", LIES)
async def test_a_lying_endpoint_costs_a_key_nothing(
    client: AsyncClient, network: FakeNetwork, rich: Key, setting: str
) -> None:
    lie(client, *LIES[setting])
    before = await client.chain.rpc.balance(rich.address)
    with pytest.raises(TooExpensive) as caught:
        await client.send_transaction(rich, {"to": NOBODY, "value": 1})
    assert caught.value.setting == setting and setting in caught.value.hint
    assert await client.chain.rpc.balance(rich.address) == before
    assert not network.attempts


@pytest.mark.parametrize("setting", LIES)
async def test_a_lying_endpoint_costs_the_account_nothing(client: AsyncClient, key: Key, setting: str) -> None:
    lie(client, *LIES[setting])
    before = await client.chain.rpc.balance(client._account().address)
    for call in (client.send_from_account(NOBODY, value=1), client.transfer(key, NOBODY), client.mint()):
        with pytest.raises(TooExpensive):
            await call
    assert await client.chain.rpc.balance(client._account().address) == before


@pytest.mark.parametrize("kind", [0, 1, 2])
async def test_each_type_of_transaction_has_the_same_limits(client: AsyncClient, rich: Key, kind: int) -> None:
    lie(client, *LIES["max_fee"])
    with pytest.raises(TooExpensive):
        await client.sign_transaction(rich, {"type": kind, "to": NOBODY, "value": 1})


async def test_who_names_gas_and_fees_has_seen_the_price(client: AsyncClient, rich: Key) -> None:
    fees = {"gas": 21_000, "maxFeePerGas": 5000 * GWEI, "maxPriorityFeePerGas": 1}
    sent = await client.send_transaction(rich, {"to": NOBODY, "value": 1, **fees})
    assert sent.status == 1


async def test_whoever_agrees_pays_more_once_and_who_does_not_pays_nothing(
    client: AsyncClient, network: FakeNetwork, rich: Key
) -> None:
    asked: list[str] = []

    def agree(error: TooExpensive) -> bool:
        asked.append(error.setting)
        return len(asked) <= 2

    limits = SpendingLimits(max_fee=1, max_gas=1)
    async with AsyncClient(network.network, account=network.account, limits=limits, agree=agree) as careful:
        await careful.login(keys=[rich], scopes=[1])
        assert (await careful.send_transaction(rich, {"to": NOBODY, "value": 1})).status == 1
        assert asked == ["max_gas", "max_fee"] and careful.limits == limits
        with pytest.raises(TooExpensive):
            await careful.send_transaction(rich, {"to": NOBODY, "value": 1})


async def test_a_price_of_keys_above_the_limit_is_not_paid(client: AsyncClient) -> None:
    price = "0x" + interface("PKPNFT").encode("mintCost").hex()
    lie(client, "eth_call", lambda _: f"0x{ETHER:064x}", price)
    before = await client.chain.rpc.balance(client._account().address)
    with pytest.raises(TooExpensive) as caught:
        await client.mint()
    assert caught.value.setting == "max_mint_cost"
    assert await client.chain.rpc.balance(client._account().address) == before


@pytest.mark.parametrize("member", ["transactionHash", "from"])
async def test_a_receipt_of_another_transaction_is_refused(client: AsyncClient, rich: Key, member: str) -> None:
    lie(client, "eth_getTransactionReceipt", lambda found: found and found | {member: "0x" + "12" * 20})
    with pytest.raises(BadAnswer, match="another transaction"):
        await client.send_transaction(rich, {"to": NOBODY, "value": 1})
    with pytest.raises(BadAnswer, match="another transaction"):
        await client.send_from_account(NOBODY, value=1)


async def test_an_endpoint_that_names_another_hash_is_refused(client: AsyncClient, rich: Key) -> None:
    lie(client, "eth_sendRawTransaction", lambda _: "0x" + "12" * 32)
    with pytest.raises(BadAnswer, match="another transaction"):
        await client.send_transaction(rich, {"to": NOBODY, "value": 1}, wait=False)


async def test_too_little_ether_says_where_more_comes_from_before_and_after_signing(
    client: AsyncClient, key: Key
) -> None:
    """The chain says it while gas is estimated, or, where gas and fees are given, when the signed one arrives."""
    filled = {"gas": 21_000, "maxFeePerGas": 10 * GWEI, "maxPriorityFeePerGas": 1}
    for code, more in (("would_fail", {}), ("not_sent", filled)):
        with pytest.raises(ChainError) as caught:
            await client.send_transaction(key, {"to": NOBODY, "value": 1, **more})
        assert caught.value.code == code and "keyquorum fund" in caught.value.hint
