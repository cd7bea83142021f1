"""The JSON-RPC client against servers that misbehave, and the sender against chains that lose count."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from chain_fixtures import REVERTER, deployment
from keyquorum.chain import rpc as rpc_module
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.rpc import Reverted, Rpc, RpcError, RpcUnreachable, Sender, from_hex, from_quantity

NOBODY = "0x" + "77" * 20
Answer = Callable[[Any], Any]


class FakeServer:
    """Answers a parsed request with whatever `answer` returns: an object, raw bytes, or a whole response."""

    def __init__(self) -> None:
        self.answer: Answer = lambda request: {"jsonrpc": "2.0", "id": request["id"], "result": None}
        self.url = ""
        self.requests: list[Any] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.requests.append(body)
        reply = self.answer(body)
        if asyncio.iscoroutine(reply):
            reply = await reply
        if isinstance(reply, web.StreamResponse):
            return reply
        return web.Response(body=reply if isinstance(reply, bytes) else json.dumps(reply).encode())


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    fake = FakeServer()
    application = web.Application()
    application.router.add_post("/{path:.*}", fake.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v3/secret-token"
    yield fake
    await runner.cleanup()


@pytest.fixture
async def rpc(server: FakeServer) -> AsyncIterator[Rpc]:
    async with Rpc(server.url, timeout=2, max_reply=100_000) as client:
        yield client


def result(value: Any) -> Answer:
    return lambda request: {"jsonrpc": "2.0", "id": request["id"], "result": value}


def error(value: Any) -> Answer:
    return lambda request: {"jsonrpc": "2.0", "id": request["id"], "error": value}


async def test_a_value_comes_back_as_it_is(server: FakeServer, rpc: Rpc) -> None:
    server.answer = result({"a": [1, None]})
    assert await rpc.call("x", 1, "two") == {"a": [1, None]}
    assert server.requests[0] == {"jsonrpc": "2.0", "id": 1, "method": "x", "params": [1, "two"]}
    server.answer = result(None)
    assert await rpc.call("x") is None


async def test_an_error_object_becomes_a_typed_error(server: FakeServer, rpc: Rpc) -> None:
    server.answer = error({"code": -32001, "message": "no", "data": {"x": 1}})
    with pytest.raises(RpcError) as caught:
        await rpc.call("x")
    assert (caught.value.code, caught.value.message, caught.value.data) == (-32001, "no", {"x": 1})
    assert not isinstance(caught.value, Reverted)
    assert caught.value.revert_data == b""


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ({"code": 3, "message": "execution reverted", "data": "0x1234"}, b"\x12\x34"),
        ({"code": -32000, "message": "execution reverted"}, b""),
        ({"code": -32000, "message": "execution reverted", "data": {"data": "0xff"}}, b"\xff"),
        ({"code": 3, "message": "reverted", "data": "0xzz"}, b""),
        ({"code": 3, "message": "reverted", "data": 7}, b""),
    ],
)
async def test_a_revert_is_known_in_every_dialect(server: FakeServer, rpc: Rpc, value: Any, data: bytes) -> None:
    server.answer = error(value)
    with pytest.raises(Reverted) as caught:
        await rpc.call("eth_call")
    assert caught.value.revert_data == data


@pytest.mark.parametrize("value", [None, "text", {}, {"code": "x", "message": 1}, [1]])
async def test_a_malformed_error_is_still_an_error(server: FakeServer, rpc: Rpc, value: Any) -> None:
    server.answer = error(value)
    with pytest.raises(RpcError) as caught:
        await rpc.call("x")
    assert caught.value.code == -32603


async def test_a_long_error_message_is_cut(server: FakeServer, rpc: Rpc) -> None:
    server.answer = error({"code": 1, "message": "x" * 50_000})
    with pytest.raises(RpcError) as caught:
        await rpc.call("x")
    assert len(caught.value.message) == 2000


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"<html>502</html>",
        b"[]",
        b"7",
        b'{"jsonrpc":"2.0","id":99,"result":1}',
        b'{"jsonrpc":"2.0","id":1,"result":NaN}',
        b"[" * 90_000,
        b'{"id":1,"result":' + b"1" * 90_000 + b"}",
        b'"' + b"x" * 200_000 + b'"',
    ],
)
async def test_what_is_no_answer_is_unreachable(server: FakeServer, rpc: Rpc, reply: bytes) -> None:
    server.answer = lambda request: reply
    with pytest.raises(RpcUnreachable) as caught:
        await rpc.call("x")
    assert "secret-token" not in str(caught.value)


async def test_an_endless_answer_is_cut_off(server: FakeServer, rpc: Rpc) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(2000):
            await response.write(b"1" * 10_000)
            sent += 1
        return response

    server.handle = endless  # type: ignore[method-assign]
    application = web.Application()
    application.router.add_post("/", endless)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with Rpc(f"http://127.0.0.1:{runner.addresses[0][1]}/", max_reply=100_000) as client:
        with pytest.raises(RpcUnreachable, match="more than"):
            await client.call("x")
    await runner.cleanup()
    assert sent < 2000


async def test_a_silent_server_times_out(server: FakeServer) -> None:
    async def silence() -> bytes:
        await asyncio.sleep(5)
        return b""

    server.answer = lambda request: silence()
    async with Rpc(server.url, timeout=0.05) as client:
        with pytest.raises(RpcUnreachable, match="within"):
            await client.call("x")


async def test_nobody_listening_is_unreachable_without_the_token() -> None:
    async with Rpc("http://127.0.0.1:1/secret-token") as client:
        with pytest.raises(RpcUnreachable) as caught:
            await client.call("x")
        assert "secret-token" not in str(caught.value)
        assert "secret-token" not in repr(client)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8545", "ftp://host", "http://", "file:///etc/passwd"])
def test_only_http_urls_are_taken(url: str) -> None:
    with pytest.raises(ValueError, match="http"):
        Rpc(url)


async def test_a_client_opens_again_after_it_was_closed(server: FakeServer, rpc: Rpc) -> None:
    await rpc.call("x")
    await rpc.close()
    await rpc.close()
    assert await rpc.call("x") is None


async def test_a_batch_answers_in_order_and_returns_errors(
    server: FakeServer, rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shuffled(request: Any) -> Any:
        replies = [
            {"jsonrpc": "2.0", "id": one["id"], "error": {"code": 5, "message": "no"}}
            if one["params"] == [3]
            else {"jsonrpc": "2.0", "id": one["id"], "result": one["params"][0]}
            for one in request
        ]
        return replies[::-1]

    server.answer = shuffled
    monkeypatch.setattr(rpc_module, "BATCH", 2)
    answers = await rpc.batch([("x", (number,)) for number in range(5)])
    assert [answer for answer in answers if not isinstance(answer, RpcError)] == [0, 1, 2, 4]
    assert isinstance(answers[3], RpcError)
    assert [len(request) for request in server.requests] == [2, 2, 1]
    assert await rpc.batch([]) == []


@pytest.mark.parametrize("reply", [b"{}", b"7", b"[]", b'[{"id": 77, "result": 1}, 4]'])
async def test_a_batch_that_is_not_answered_in_full_is_unreachable(server: FakeServer, rpc: Rpc, reply: bytes) -> None:
    server.answer = lambda request: reply
    with pytest.raises(RpcUnreachable):
        await rpc.batch([("x", ())])


async def test_a_refused_batch_is_an_error(server: FakeServer, rpc: Rpc) -> None:
    server.answer = lambda request: {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "no batches"}}
    with pytest.raises(RpcError, match="no batches"):
        await rpc.batch([("x", ())])


@pytest.mark.parametrize("value", [None, 5, "5", "0x", "0xzz", "0x" + "1" * 65, [], "latest"])
async def test_helpers_refuse_answers_of_the_wrong_type(server: FakeServer, rpc: Rpc, value: Any) -> None:
    server.answer = result(value)
    for call in (rpc.block_number(), rpc.balance(NOBODY), rpc.chain_id()):
        with pytest.raises(RpcUnreachable):
            await call


async def test_object_helpers_refuse_other_things(server: FakeServer, rpc: Rpc) -> None:
    server.answer = result(5)
    for call in (rpc.block(), rpc.receipt("0x"), rpc.get_logs(), rpc.eth_call(NOBODY, b""), rpc.send_raw(b"")):
        with pytest.raises(RpcUnreachable):
            await call
    server.answer = result([5])
    with pytest.raises(RpcUnreachable):
        await rpc.get_logs()


async def test_the_chain_id_is_asked_once(server: FakeServer, rpc: Rpc) -> None:
    server.answer = result("0x7a69")
    assert await rpc.chain_id() == await rpc.chain_id() == 31337
    assert len(server.requests) == 1


async def test_a_receipt_that_never_comes_is_a_timeout(server: FakeServer, rpc: Rpc) -> None:
    with pytest.raises(TimeoutError):
        await rpc.wait_receipt("0x" + "00" * 32, 0.1)


def test_hex_is_read_strictly() -> None:
    assert from_hex("0x") == b""
    assert from_hex("0x00ff") == b"\0\xff"
    assert from_quantity("0x10") == 16
    for bad in (None, "", "00", "0xf", "0xgg", 5):
        with pytest.raises(ValueError, match="hex"):
            from_hex(bad)
    for bad in (None, "", "0x", "10", "0xg", "0x" + "1" * 65, 5):
        with pytest.raises(ValueError, match=r"quantity|literal"):
            from_quantity(bad)


# -- the sender -------------------------------------------------------------------------------------------------------


async def test_many_tasks_share_one_sender(any_chain: str) -> None:
    async with Rpc(any_chain, timeout=30) as client:
        sender = Sender(client, ACCOUNTS[0][1])
        receipts = await asyncio.gather(*(sender.send(NOBODY, value=1) for _ in range(40)))
        assert len({receipt["transactionHash"] for receipt in receipts}) == 40
        assert await client.balance(NOBODY) == 40


async def test_two_senders_of_one_account_find_their_nonces(any_chain: str) -> None:
    async with Rpc(any_chain, timeout=30) as client:
        senders = [Sender(client, ACCOUNTS[0][1]) for _ in range(2)]
        for _ in range(3):
            for sender in senders:
                assert (await sender.send(NOBODY, value=1))["status"] == "0x1"
        assert await client.balance(NOBODY) == 6


async def test_a_failed_submission_does_not_leave_a_gap(dev_chain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Rpc(dev_chain) as client:
        sender = Sender(client, ACCOUNTS[0][1])
        await sender.send(NOBODY, value=1)

        async def lost(transaction: bytes) -> str:
            raise RpcUnreachable("gone")

        monkeypatch.setattr(client, "send_raw", lost)
        with pytest.raises(RpcUnreachable):
            await sender.send(NOBODY, value=1)
        monkeypatch.undo()
        assert (await sender.send(NOBODY, value=1))["status"] == "0x1"
        assert await client.balance(NOBODY) == 2


async def test_a_transaction_that_arrived_although_the_server_says_it_knows_it_counts(
    dev_chain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Rpc(dev_chain) as client:
        sender = Sender(client, ACCOUNTS[0][1])
        real = client.send_raw

        async def twice(transaction: bytes) -> str:
            await real(transaction)
            return await real(transaction)

        monkeypatch.setattr(client, "send_raw", twice)
        assert (await sender.send(NOBODY, value=1))["status"] == "0x1"
        assert (await sender.send(NOBODY, value=1))["status"] == "0x1"
        assert await client.balance(NOBODY) == 2


async def test_nonce_errors_are_retried_a_bounded_number_of_times(
    dev_chain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Rpc(dev_chain) as client:
        sender = Sender(client, ACCOUNTS[0][1])
        tries = 0

        async def never(transaction: bytes) -> str:
            nonlocal tries
            tries += 1
            raise RpcError(-32000, "nonce too low")

        monkeypatch.setattr(client, "send_raw", never)
        with pytest.raises(RpcError, match="nonce"):
            await sender.send(NOBODY, value=1)
        assert tries == rpc_module.NONCE_RETRIES


async def test_a_sender_does_not_show_its_key(dev_chain: str) -> None:
    async with Rpc(dev_chain) as client:
        assert ACCOUNTS[0][1].hex() not in repr(Sender(client, ACCOUNTS[0][1]))
        assert repr(Sender(client, ACCOUNTS[0][1])) == f"Sender({ACCOUNTS[0][0]})"


async def test_a_wrong_destination_is_the_callers_fault(dev_chain: str) -> None:
    async with Rpc(dev_chain) as client:
        for bad in ("", "0x12", "77" * 20):
            with pytest.raises(ValueError, match=r"hex|20 bytes"):
                await Sender(client, ACCOUNTS[0][1]).send(bad)


async def test_a_chain_without_fees_of_eip_1559_is_refused(server: FakeServer, rpc: Rpc) -> None:
    def old(request: Any) -> Any:
        if isinstance(request, dict):
            return {"jsonrpc": "2.0", "id": request["id"], "result": "0x1"}
        return [{"jsonrpc": "2.0", "id": one["id"], "result": {"number": "0x1"}} for one in request]

    server.answer = old
    with pytest.raises(RpcUnreachable, match="1559"):
        await Sender(rpc, ACCOUNTS[0][1]).send(NOBODY, gas=21_000)


async def test_a_chain_without_a_suggested_tip_still_works(dev_chain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Rpc(dev_chain) as client:
        real = client.batch

        async def without_tip(calls: Any) -> list[Any]:
            answers = await real(calls)
            return [
                RpcError(-32601, "no such method") if name == "eth_maxPriorityFeePerGas" else answer
                for (name, _), answer in zip(calls, answers, strict=True)
            ]

        monkeypatch.setattr(client, "batch", without_tip)
        receipt = await Sender(client, ACCOUNTS[0][1]).send(NOBODY, value=1)
        assert from_quantity(receipt["effectiveGasPrice"]) > 10**9


async def test_a_mined_revert_tells_its_receipt_even_if_the_reason_is_lost(
    dev_chain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Rpc(dev_chain) as client:
        sender = Sender(client, ACCOUNTS[0][1])
        contract = (await sender.send(None, deployment(REVERTER)))["contractAddress"]
        real = client.batch

        async def no_calls(calls: Any) -> list[Any]:
            if calls[0][0] == "eth_call":
                raise RpcUnreachable("gone")
            return await real(calls)

        monkeypatch.setattr(client, "batch", no_calls)
        with pytest.raises(Reverted) as caught:
            await sender.send(contract, gas=100_000)
        assert caught.value.receipt["status"] == "0x0"
