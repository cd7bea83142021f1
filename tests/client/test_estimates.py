"""What is estimated is what is signed: gas is asked for with every field of the transaction, on our chain and anvil."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account

from chain_fixtures import anvil_chain, any_chain, dev_chain, js_tools  # noqa: F401
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.fees import SpendingLimits
from keyquorum.chain.rpc import Rpc
from keyquorum.client import AsyncClient, Key
from keyquorum.client.errors import ChainError
from keyquorum.client.transactions import fill
from keyquorum.intents import BadIntent

PAYER = Account.from_key(ACCOUNTS[3][1])
SOMEBODY = Account.create()
TO = "0x" + "77" * 20
KEYS = ["0x" + f"{number:064x}" for number in range(8)]


def authorization() -> dict[str, Any]:
    signed = SOMEBODY.sign_authorization({"chainId": 31337, "address": TO, "nonce": 0})
    return {
        "chainId": 31337, "address": TO, "nonce": 0, "yParity": signed.y_parity, "r": hex(signed.r), "s": hex(signed.s),
    }  # fmt: skip


TRANSACTIONS: dict[str, tuple[dict[str, Any], int]] = {
    "authorizations": ({"to": TO, "authorizationList": [authorization()]}, 46_000),
    "two authorizations": ({"to": TO, "authorizationList": [authorization(), authorization()]}, 71_000),
    "an access list": ({"to": TO, "accessList": [{"address": TO, "storageKeys": KEYS}]}, 21_000 + 2_400 + 8 * 1_900),
    "an access list and one price": (
        {"to": TO, "gasPrice": 10**10, "accessList": [{"address": TO, "storageKeys": KEYS}]},
        21_000 + 2_400 + 8 * 1_900,
    ),
    "data": ({"to": TO, "input": "0x" + "ff" * 100}, 21_000 + 1_600),
    "fees and a nonce": ({"to": TO, "nonce": 0, "maxFeePerGas": 10**11, "maxPriorityFeePerGas": 0}, 21_000),
    "a creation": ({"data": "0x6000600055"}, 53_000),
}


@pytest.mark.parametrize("name", TRANSACTIONS)
async def test_a_transaction_without_gas_is_estimated_with_all_that_it_has_and_is_mined(
    any_chain: str,  # noqa: F811
    name: str,
) -> None:
    asked, least = TRANSACTIONS[name]
    async with Rpc(any_chain, timeout=30) as rpc:
        complete = await fill(rpc, PAYER.address, asked, 31337, SpendingLimits())
        assert complete["gas"] >= least
        raw = bytes(PAYER.sign_transaction(complete | {"to": complete.get("to", "")}).raw_transaction)
        receipt = await rpc.wait_receipt(await rpc.send_raw(raw), 10)
        assert receipt["status"] == "0x1"


async def test_every_field_reaches_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fields that the call object of the execution API has; each that is given must be in it."""
    seen: dict[str, Any] = {}

    async def batch(calls: Any) -> list[Any]:
        seen.update(dict(calls)["eth_estimateGas"][0])
        return ["0x0", {"baseFeePerGas": "0x1"}, "0x1", "0x5208"]

    rpc = Rpc("http://127.0.0.1:1")
    monkeypatch.setattr(rpc, "batch", batch)
    everything = {
        "from": PAYER.address, "to": TO, "gasLimit": ..., "value": "5", "data": b"\1", "nonce": 7, "chainId": 31337,
        "maxFeePerGas": 9, "maxPriorityFeePerGas": 2, "accessList": [{"address": TO, "storageKeys": KEYS[:1]}],
        "authorizationList": [authorization()],
    }  # fmt: skip
    del everything["gasLimit"]
    await fill(rpc, PAYER.address, everything, 31337, SpendingLimits())
    assert set(seen) == set(everything)
    assert (seen["value"], seen["nonce"], seen["maxFeePerGas"], seen["chainId"]) == ("0x5", "0x7", "0x9", "0x7a69")
    seen.clear()
    await fill(rpc, PAYER.address, {"to": TO, "gasPrice": 3}, 31337, SpendingLimits())
    assert seen["gasPrice"] == "0x3"


async def test_a_key_sends_an_authorization_without_gas(client: AsyncClient, key: Key) -> None:
    await client.send_from_account(key.address, value=10**18)
    sent = await client.send_transaction(key, {"to": TO, "value": 0, "authorizationList": [authorization()]})
    assert sent.status == 1
    assert await client.chain.rpc.call("eth_getCode", SOMEBODY.address, "latest") == "0xef0100" + TO[2:]


async def test_a_maximum_fee_below_the_usual_tip_lowers_the_tip(client: AsyncClient, key: Key) -> None:
    signed = await client.sign_transaction(key, {"to": TO, "maxFeePerGas": 5 * 10**8, "gas": 21_000})
    assert "max fee 0.0000105" in signed.signed.summary


@pytest.mark.parametrize(
    "wrong",
    [{"to": "0x1234"}, {"to": "vitalik.eth"}, {"to": TO, "nonce": None}, {"to": TO, "type": "eip1559"},
     {"to": TO, "gas": 50_000, "gasLimit": 90_000}, {"to": TO, "data": 5}, {"to": TO, "gass": 1}],
    ids=str,
)  # fmt: skip
async def test_what_cannot_be_meant_is_bad_input_and_not_the_chains_fault(
    client: AsyncClient, key: Key, wrong: dict[str, Any]
) -> None:
    with pytest.raises(BadIntent) as caught:
        await client.sign_transaction(key, wrong)
    assert caught.value.hint and "invalid literal" not in str(caught.value)


async def test_without_funds_the_hint_says_whom_to_fund_and_how(client: AsyncClient, key: Key) -> None:
    with pytest.raises(ChainError) as caught:
        await client.send_transaction(key, {"to": TO, "value": 10**30})
    assert caught.value.code == "would_fail" and f"keyquorum fund {key.address}" in caught.value.hint
