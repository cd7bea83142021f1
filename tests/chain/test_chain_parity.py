"""The same transactions on our chain and on anvil end in the same receipts: gas, logs, addresses, status and state."""

from __future__ import annotations

from typing import Any

from chain_fixtures import CLOCK, DIVER, RECORDER, REVERTER, deployment, words
from keyquorum.chain.deploy import deploy
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.rpc import Reverted, Rpc, Sender

SAME = ("status", "gasUsed", "contractAddress", "from", "to", "logsBloom", "type", "transactionIndex", "blockNumber")


def comparable(receipt: dict[str, Any]) -> dict[str, Any]:
    """What must not depend on the chain's clock or fees."""
    logs = [(log["address"].lower(), log["topics"], log["data"], log["logIndex"]) for log in receipt["logs"]]
    shown = {name: receipt[name] for name in SAME}
    lowered = {name: value.lower() if isinstance(value, str) else value for name, value in shown.items()}
    return lowered | {"logs": logs}


async def story(url: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Run the same life on a chain; return its receipts and the fields of its last block and transaction."""
    receipts: list[dict[str, Any]] = []
    async with Rpc(url, timeout=30) as rpc:
        sender = Sender(rpc, ACCOUNTS[0][1])

        async def send(to: str | None, data: bytes = b"", **options: Any) -> dict[str, Any]:
            try:
                receipt = await sender.send(to, data, **options)
            except Reverted as error:
                assert error.receipt is not None
                receipt = error.receipt
            receipts.append(receipt)
            return receipt

        addresses = [
            (await send(None, deployment(code)))["contractAddress"] for code in (RECORDER, REVERTER, CLOCK, DIVER)
        ]
        recorder, reverter, clock, diver = addresses
        for key, value in ((1, 1), (1, 2), (1, 0), (2, 0), (3, 2**255)):
            await send(recorder, words(key, value), gas=100_000)
        await send(reverter, gas=60_000)
        await send(clock, gas=60_000)
        await send(diver, gas=3_000_000)
        await send(None, b"\xfe", gas=100_000)
        await send("0x" + "55" * 20, b"\1" * 2000, gas=200_000)  # pays EIP-7623's floor
        await send("0x" + "00" * 19 + "04", b"\1" * 50, gas=200_000)  # a precompile
        await deploy(sender)
        last = await rpc.block()
        assert last is not None
        for number in range(len(receipts) + 1, int(last["number"], 16) + 1):
            receipts.extend(await rpc.call("eth_getBlockReceipts", hex(number)))
        transaction = await rpc.call("eth_getTransactionByHash", last["transactions"][0])
        filled = {"block": set(last), "transaction": set(transaction), "receipt": set(receipts[-1])}
        return receipts, filled


async def test_receipts_do_not_depend_on_which_chain_it_is(dev_chain: str, anvil_chain: str) -> None:
    ours, our_fields = await story(dev_chain)
    theirs, their_fields = await story(anvil_chain)
    assert len(ours) == len(theirs) >= 20
    for our_receipt, their_receipt in zip(ours, theirs, strict=True):
        assert comparable(our_receipt) == comparable(their_receipt)
    for kind in ("block", "transaction", "receipt"):
        assert their_fields[kind] - our_fields[kind] <= {"blobGasPrice", "blockTimestamp"}, kind
