"""`Client` and `PkpAccount`: the network as an eth-account account, in web3.py 8 too."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct, encode_intended_validator, encode_typed_data
from eth_account.signers.base import BaseAccount
from web3 import AsyncHTTPProvider, AsyncWeb3, HTTPProvider, Web3
from web3.middleware import SignAndSendRawMiddlewareBuilder

from fake_network import FakeNetwork
from keyquorum.client import AsyncClient, Client, PkpAccount
from keyquorum.client.web3 import signing_middleware

MAIL = {
    "types": {"Mail": [{"name": "text", "type": "string"}]},
    "primaryType": "Mail",
    "domain": {"name": "Post"},
    "message": {"text": "hello"},
}


@pytest.fixture
def client(network: FakeNetwork) -> Iterator[Client]:
    with Client(network.network, account=network.account, scopes=(1, 5), timeout=10) as client:
        yield client


@pytest.fixture
def pkp(client: Client) -> PkpAccount:
    account = PkpAccount(client, client.mint().key)
    client.send_from_account(account.address, value=10**18)
    return account


def test_it_is_a_base_account_and_equal_to_itself(client: Client, pkp: PkpAccount) -> None:
    assert isinstance(pkp, BaseAccount)
    assert pkp == PkpAccount(client, pkp.pkp)
    assert pkp.address in repr(pkp)


def test_messages_typed_data_and_hashes_are_recovered_to_its_address(pkp: PkpAccount) -> None:
    message = encode_defunct(text="hello")
    assert Account.recover_message(message, signature=pkp.sign_message(message).signature) == pkp.address
    typed = pkp.sign_typed_data(full_message=MAIL)
    assert Account.recover_message(encode_typed_data(full_message=MAIL), signature=typed.signature) == pkp.address
    parts = pkp.sign_typed_data(MAIL["domain"], MAIL["types"], MAIL["message"])
    assert parts.message_hash == typed.message_hash
    digest = b"\x07" * 32
    assert Account._recover_hash(digest, signature=pkp.unsafe_sign_hash(digest).signature) == pkp.address


def test_it_signs_as_a_local_account_does(pkp: PkpAccount, network: FakeNetwork) -> None:
    local = Account.from_key(network.secrets[pkp.pkp.token_id])
    fees = {"gas": 21000, "nonce": 0, "chainId": 31337, "to": local.address, "value": 1}
    for transaction in (
        fees | {"gasPrice": 10**10},
        fees | {"gasPrice": 10**10, "accessList": []},
        fees | {"maxFeePerGas": 10**10, "maxPriorityFeePerGas": 1},
    ):
        ours, theirs = pkp.sign_transaction(transaction), local.sign_transaction(transaction)
        assert Account.recover_transaction(ours.raw_transaction) == pkp.address
        assert (ours.v - theirs.v) in (-1, 0, 1)
        assert set(ours._fields) == set(theirs._fields)


def test_messages_that_are_no_personal_messages_are_refused_with_the_way_out(pkp: PkpAccount) -> None:
    with pytest.raises(ValueError, match="sign_typed_data"):
        pkp.sign_message(encode_typed_data(full_message=MAIL))
    with pytest.raises(ValueError, match="personal"):
        pkp.sign_message(encode_intended_validator(pkp.address, b"x"))
    with pytest.raises(ValueError, match="blob"):
        pkp.sign_transaction({}, blobs=[b""])


def test_a_message_whose_header_lies_about_its_length_is_refused(pkp: PkpAccount) -> None:
    message = encode_defunct(text="hello")
    with pytest.raises(ValueError, match="header"):
        pkp.sign_message(message._replace(header=message.header + b"0"))


@pytest.mark.parametrize("middleware", [SignAndSendRawMiddlewareBuilder.build, signing_middleware])
def test_web3_sends_transactions_of_it(pkp: PkpAccount, network: FakeNetwork, middleware) -> None:
    w3 = Web3(HTTPProvider(network.chain.url))
    w3.middleware_onion.inject(middleware(pkp), layer=0)
    to = Account.create().address
    name = w3.eth.send_transaction({"from": pkp.address, "to": to, "value": 5})
    assert w3.eth.wait_for_transaction_receipt(name)["status"] == 1
    assert w3.eth.get_balance(to) == 5


@pytest.mark.parametrize("middleware", [SignAndSendRawMiddlewareBuilder.build, signing_middleware])
async def test_async_web3_sends_transactions_of_it(pkp: PkpAccount, network: FakeNetwork, middleware) -> None:
    w3 = AsyncWeb3(AsyncHTTPProvider(network.chain.url))
    try:
        w3.middleware_onion.inject(middleware(pkp), layer=0)
        to = Account.create().address
        name = await w3.eth.send_transaction({"from": pkp.address, "to": to, "value": 5})
        assert (await w3.eth.wait_for_transaction_receipt(name))["status"] == 1
    finally:
        await w3.provider.disconnect()


def test_the_middleware_leaves_other_senders_alone(pkp: PkpAccount, network: FakeNetwork) -> None:
    w3 = Web3(HTTPProvider(network.chain.url))
    w3.middleware_onion.inject(signing_middleware(pkp), layer=0)
    other = w3.eth.accounts[3]
    assert w3.eth.wait_for_transaction_receipt(w3.eth.send_transaction({"from": other, "to": pkp.address, "value": 1}))


def test_one_client_serves_several_threads(client: Client, pkp: PkpAccount) -> None:
    signatures: list[bytes] = []
    threads = [
        threading.Thread(target=lambda n=n: signatures.append(client.sign_message(pkp.pkp, f"{n}").compact))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(signatures)) == 6


def test_the_sync_client_has_every_public_coroutine_of_the_async_one() -> None:
    import inspect

    from keyquorum.client import AsyncClient

    names = {name for name, value in inspect.getmembers(AsyncClient, inspect.iscoroutinefunction) if name[0] != "_"}
    assert names - {"close"} <= set(dir(Client))


def test_a_closed_client_says_so(network: FakeNetwork) -> None:
    client = Client(network.network)
    with client:
        pass
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.network()


def test_a_client_that_must_be_awaited_is_refused_in_words(network: FakeNetwork) -> None:
    with pytest.raises(TypeError, match="blocking"):
        PkpAccount(AsyncClient(network.network), 5)  # type: ignore[arg-type]
