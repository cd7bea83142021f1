"""`AsyncClient`: discovery from the chain, logging in, minting, sending, transferring; and what must be refused."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data

from fake_network import FakeNetwork
from keyquorum.client import AsyncClient, BadAnswer, ChainError, Key, Misconfigured, Network, Refused, Unavailable
from keyquorum.client.session import Session

MAIL = {
    "types": {"Mail": [{"name": "to", "type": "address"}, {"name": "text", "type": "string"}]},
    "primaryType": "Mail",
    "domain": {"name": "Post", "chainId": 31337},
    "message": {"to": "0x" + "11" * 20, "text": "hello"},
}


async def test_everything_about_the_network_is_read_from_the_chain(client: AsyncClient, network: FakeNetwork) -> None:
    status = await client.network()
    assert [(node.party, node.url) for node in status.nodes] == [(p, n.url) for p, n in network.nodes.items()]
    assert status.threshold == network.threshold
    assert status.facts["contracts"] == dict(network.deployment.contracts)
    assert status.facts["network_key"] == "0x" + network.network_key.to_bytes().hex()
    assert status.ready and status.live == 4


async def test_a_network_without_enough_nodes_says_that_it_is_not_ready(
    client: AsyncClient, network: FakeNetwork
) -> None:
    network.set("unready", 1)
    network.stop_nodes(2)
    status = await client.network()
    assert [node.live for node in status.nodes] == [False, False, True, True]
    assert not status.ready


async def test_a_message_verifies_with_eth_account(client: AsyncClient, key: Key) -> None:
    signed = await client.sign_message(key, "hello")
    assert Account.recover_message(encode_defunct(text="hello"), signature=signed.compact) == key.address


async def test_bytes_are_signed_as_bytes(client: AsyncClient, key: Key) -> None:
    signed = await client.sign_message(key, b"\x00\xff")
    assert Account.recover_message(encode_defunct(b"\x00\xff"), signature=signed.compact) == key.address


async def test_typed_data_verifies_with_eth_account(client: AsyncClient, key: Key) -> None:
    signed = await client.sign_typed_data(key, MAIL)
    assert Account.recover_message(encode_typed_data(full_message=MAIL), signature=signed.compact) == key.address


@pytest.mark.parametrize("kind", [0, 1, 2])
async def test_value_sent_in_each_type_of_transaction_is_executed_by_the_chain(
    client: AsyncClient, key: Key, kind: int
) -> None:
    await client.send_from_account(key.address, value=10**18)
    to = Account.create().address
    sent = await client.send_transaction(key, {"type": kind, "to": to, "value": 12345})
    assert sent.status == 1
    assert await client.chain.rpc.balance(to) == 12345
    assert Account.recover_transaction(sent.raw) == key.address


async def test_a_transaction_for_another_chain_must_be_complete_and_is_not_filled_in(
    client: AsyncClient, key: Key
) -> None:
    with pytest.raises(ValueError, match="lacks nonce, maxFeePerGas, maxPriorityFeePerGas"):
        await client.sign_transaction(key, {"chainId": 1, "to": key.address, "value": 1})
    fees = {"gas": 21000, "nonce": 7, "maxFeePerGas": 10, "maxPriorityFeePerGas": 1}
    signed = await client.sign_transaction(key, {"chainId": 1, "to": key.address, "value": 1, **fees})
    assert "chain 1" in signed.signed.summary


async def test_a_transaction_from_somebody_else_is_refused(client: AsyncClient, key: Key) -> None:
    with pytest.raises(ValueError, match="is from"):
        await client.sign_transaction(key, {"from": "0x" + "11" * 20, "to": key.address, "value": 1})


async def test_a_transaction_that_would_fail_says_so_before_anything_is_signed(
    client: AsyncClient, network: FakeNetwork, key: Key
) -> None:
    with pytest.raises(ChainError, match="refuses"):
        await client.sign_transaction(key, {"to": key.address, "value": 10**30})
    assert not network.attempts


async def test_an_intent_that_cannot_be_read_is_the_callers_fault_and_reaches_no_node(
    client: AsyncClient, network: FakeNetwork, key: Key
) -> None:
    for intent in (
        {},
        {"kind": "nothing"},
        {"kind": "evm-message"},
        {"kind": "evm-transaction", "transaction": "0x02"},
    ):
        with pytest.raises(ValueError):
            await client.sign(key, intent)
    assert not network.attempts


async def test_minting_with_ones_own_account_gives_a_key_of_the_network(
    client: AsyncClient, network: FakeNetwork
) -> None:
    minted = await client.mint()
    assert minted.key.owner == network.account.address
    assert minted.key.token_id in network.secrets
    assert minted.key in await client.keys()


async def test_a_key_can_be_minted_to_somebody_else_and_transferred(client: AsyncClient, network: FakeNetwork) -> None:
    minted = await client.mint(network.stranger.address)
    assert minted.key.owner == network.stranger.address
    with pytest.raises(ChainError):
        await client.transfer(minted.key, network.account.address)
    async with AsyncClient(network.network, account=network.stranger) as theirs:
        await theirs.transfer(minted.key, network.account.address)
    assert (await client.key(minted.key)).owner == network.account.address


async def test_an_unknown_key_is_refused_with_a_hint(client: AsyncClient) -> None:
    with pytest.raises(Refused) as caught:
        await client.sign_message(12345, "x")
    assert caught.value.code == "unknown_key"
    assert "keys list" in caught.value.hint


async def test_a_public_key_that_does_not_belong_to_the_token_is_refused(
    client: AsyncClient, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = (await client.mint()).key

    async def lie(*_: object) -> bytes:
        return other.public_key

    monkeypatch.setattr(client.chain, "ask", lie)
    with pytest.raises(ChainError, match="does not belong"):
        await client.chain.public_key(key.token_id)


# -- logging in -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unhurried")
async def test_signing_logs_in_by_itself_and_only_once(network: FakeNetwork, key: Key) -> None:
    async with AsyncClient(network.network, account=network.account) as fresh:
        await asyncio.gather(*(fresh.sign_message(key, f"{number}") for number in range(5)))
    logins = [call for node in network.nodes.values() for call in node.calls if "certificate" not in call]
    assert len(logins) == network.threshold


async def test_a_session_can_be_stored_and_used_without_the_account(
    client: AsyncClient, network: FakeNetwork, key: Key
) -> None:
    stored = json.loads(json.dumps((await client.login()).to_stored()))
    async with AsyncClient(network.network, session=Session.from_stored(stored)) as other:
        assert (await other.sign_message(key, "x")).public_key == key.public_key


async def test_a_session_does_not_show_its_secret(client: AsyncClient) -> None:
    session = await client.login()
    assert session.key.secret_bytes().hex() not in repr(session)


async def test_a_session_near_its_end_is_renewed_in_the_background(
    client: AsyncClient, network: FakeNetwork, key: Key
) -> None:
    first = await client.login(seconds=120)
    client._session = Session(**{**vars(first), "expires": int(time.time()) + 29})
    await client.sign_message(key, "still the old one")
    await asyncio.gather(*client._background)
    assert client.session is not None and client.session.certificate != first.certificate


async def test_an_expired_session_is_replaced_before_signing(client: AsyncClient, key: Key) -> None:
    first = await client.login()
    client._session = Session(**{**vars(first), "expires": int(time.time())})
    await client.sign_message(key, "x")
    assert client.session is not None and client.session.certificate != first.certificate


async def test_without_account_and_session_the_error_says_what_is_missing(network: FakeNetwork, key: Key) -> None:
    async with AsyncClient(network.network) as nobody:
        with pytest.raises(Misconfigured) as caught:
            await nobody.sign_message(key, "x")
    assert caught.value.code == "no_account"


async def test_a_node_that_would_certify_something_else_is_named_and_left_out(
    client: AsyncClient, network: FakeNetwork
) -> None:
    network.set("wrong_certificate", 1)
    for _ in range(4):
        await client.login()
    network.set("wrong_certificate", *network.nodes)
    with pytest.raises(BadAnswer, match="something else than the statement"):
        await client.login()


async def test_a_certificate_by_another_key_than_the_networks_is_refused(
    client: AsyncClient, network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "network_secret", 12345)
    with pytest.raises(BadAnswer):
        await client.login()


async def test_scopes_and_keys_of_a_login_are_those_asked_for(client: AsyncClient, key: Key) -> None:
    session = await client.login(keys=[key], scopes=[3, 2, 2])
    from keyquorum.client.session import read_certificate

    claims = read_certificate(session.certificate)
    assert claims["keys"] == [f"0x{key.token_id:064x}"]
    assert claims["scopes"] == [2, 3]


async def test_a_login_for_more_than_a_day_is_refused_before_anybody_is_asked(
    client: AsyncClient, network: FakeNetwork
) -> None:
    with pytest.raises(ValueError, match="24 hours"):
        await client.login(seconds=100_000)
    assert not network.attempts


# -- finding the network ----------------------------------------------------------------------------------------------


async def test_a_network_file_is_enough(network: FakeNetwork, tmp_path: Path) -> None:
    path = tmp_path / "network.json"
    network.network.save(path)
    for source in (path, str(path)):
        async with AsyncClient(source) as client:
            assert client.facts.id == network.id


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"network": "eip155:1:0x00", "rpc": "http://x"}',
        b'{"network": 5, "rpc": "http://x"}',
    ],
)
async def test_a_file_that_is_no_network_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "network.json"
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match=r"network\.json"):
        await AsyncClient(path).connect()


async def test_a_missing_network_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as caught:
        await AsyncClient(tmp_path / "nothing").connect()
    assert "keyquorum up" in caught.value.hint


async def test_another_chain_than_the_networks_is_refused(network: FakeNetwork) -> None:
    wrong = Network(network.id.replace("31337", "1"), network.chain.url)
    with pytest.raises(Misconfigured, match="on another"):
        await AsyncClient(wrong).connect()


async def test_an_address_without_a_router_is_a_chain_error(network: FakeNetwork) -> None:
    wrong = Network(network.id.rpartition(":")[0] + ":" + network.account.address, network.chain.url)
    with pytest.raises(ChainError):
        await AsyncClient(wrong).connect()


async def test_a_chain_that_does_not_answer_is_a_chain_error_with_a_hint(network: FakeNetwork) -> None:
    with pytest.raises(ChainError) as caught:
        await AsyncClient(Network(network.id, "http://127.0.0.1:1")).connect()
    assert caught.value.hint


async def test_a_closed_client_says_how_to_open_it(network: FakeNetwork) -> None:
    with pytest.raises(Misconfigured, match="not open"):
        await AsyncClient(network.network).network()


async def test_a_node_that_moved_is_found_again_through_the_registry(
    client: AsyncClient, network: FakeNetwork, key: Key
) -> None:
    """The registry is read again when a node is lost; here its answer is changed instead of moving the node."""
    committee = client._current_committee()
    network.stop_nodes(1)
    client._committee = None
    await client.sign_message(key, "a")
    while not client._fanout.book.is_down(1):
        await client.sign_message(key, "b")
    await asyncio.gather(*client._background)
    assert client._committee == committee


async def test_unavailable_tells_numbers_when_all_nodes_are_gone(
    client: AsyncClient, network: FakeNetwork, key: Key
) -> None:
    network.stop_nodes(*network.nodes)
    with pytest.raises(Unavailable, match="nodes answer, 3 are needed"):
        await client.sign_message(key, "x")
