"""web3.py 8, as users have it, against the development chain: mint, transfer and read a key, sync and async."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account
from web3 import AsyncHTTPProvider, AsyncWeb3, HTTPProvider, Web3
from web3.exceptions import ContractCustomError, Web3RPCError
from web3.middleware import SignAndSendRawMiddlewareBuilder

from keyquorum.chain.devchain.accounts import ACCOUNTS
from pkp_chain import PkpChain

USER, OTHER = Account.from_key(ACCOUNTS[5][1]), Account.from_key(ACCOUNTS[6][1])


@pytest.fixture
def web3(pkp_chain: PkpChain) -> Web3:
    client = Web3(HTTPProvider(pkp_chain.url))
    client.middleware_onion.inject(SignAndSendRawMiddlewareBuilder.build(USER), layer=0)
    return client


def test_web3_mints_transfers_and_reads_a_key(web3: Web3, pkp_chain: PkpChain) -> None:
    nft = web3.eth.contract(address=web3.to_checksum_address(pkp_chain.nft), abi=pkp_chain.abi)
    start = web3.eth.block_number
    minted = web3.eth.wait_for_transaction_receipt(nft.functions.mintNext(2).transact({"from": USER.address}))
    (event,) = nft.events.PKPMinted().process_receipt(minted, errors=_discard())
    token = event["args"]["tokenId"]
    assert token in pkp_chain.tokens
    assert nft.functions.ownerOf(token).call() == USER.address
    moved = nft.functions.transferFrom(USER.address, OTHER.address, token).transact({"from": USER.address})
    assert web3.eth.wait_for_transaction_receipt(moved)["status"] == 1
    assert nft.functions.ownerOf(token).call() == OTHER.address
    assert nft.functions.ownerOf(token).call(block_identifier=minted["blockNumber"]) == USER.address
    transfers = nft.events.Transfer().get_logs(from_block=start + 1)
    assert [log["args"]["to"] for log in transfers if log["args"]["tokenId"] == token] == [USER.address, OTHER.address]


def _discard() -> Any:
    from web3.logs import DISCARD

    return DISCARD


def test_web3_reads_the_custom_error_of_a_refused_call(web3: Web3, pkp_chain: PkpChain) -> None:
    nft = web3.eth.contract(address=web3.to_checksum_address(pkp_chain.nft), abi=pkp_chain.abi)
    with pytest.raises(ContractCustomError):
        nft.functions.ownerOf(12345).call()
    with pytest.raises(ContractCustomError):
        nft.functions.burn(12345).transact({"from": USER.address})


def test_web3_reads_blocks_fees_and_accounts(web3: Web3) -> None:
    assert web3.is_connected()
    assert web3.eth.chain_id == 31337
    assert web3.client_version.startswith("keyquorum-devchain/")
    block = web3.eth.get_block("latest", full_transactions=True)
    assert web3.eth.get_block(block["hash"])["number"] == block["number"]
    assert web3.eth.get_block("finalized")["hash"] == web3.eth.get_block("safe")["hash"] == block["hash"]
    transaction = block["transactions"][0]
    assert web3.eth.get_transaction(transaction["hash"]) == transaction
    history = web3.eth.fee_history(4, "latest", [10, 90])
    assert len(history["reward"]) == 4
    assert web3.eth.gas_price > web3.eth.max_priority_fee > 0
    assert web3.eth.accounts == [address for address, _ in ACCOUNTS]
    assert web3.eth.get_block_transaction_count("latest") == 1
    assert web3.eth.get_storage_at(OTHER.address, 0) == bytes(32)
    with pytest.raises(Web3RPCError, match="nonce too low"):
        web3.eth.send_raw_transaction(_used_nonce(web3))


def _used_nonce(web3: Web3) -> bytes:
    sender = Account.from_key(ACCOUNTS[0][1])
    fields = {"to": OTHER.address, "value": 3, "gas": 21_000, "gasPrice": 10**10, "nonce": 0, "chainId": 31337}
    return bytes(sender.sign_transaction(fields).raw_transaction)


def test_web3_filters_see_new_events(web3: Web3, pkp_chain: PkpChain) -> None:
    nft = web3.eth.contract(address=web3.to_checksum_address(pkp_chain.nft), abi=pkp_chain.abi)
    events, blocks = nft.events.Transfer.create_filter(from_block="latest"), web3.eth.filter("latest")
    receipt = web3.eth.wait_for_transaction_receipt(nft.functions.mintNext(2).transact({"from": USER.address}))
    assert [event["transactionHash"] for event in events.get_new_entries()] == [receipt["transactionHash"]]
    assert blocks.get_new_entries() == [receipt["blockHash"]]
    assert web3.eth.uninstall_filter(events.filter_id)


async def test_async_web3_mints_transfers_and_reads_a_key(pkp_chain: PkpChain) -> None:
    web3 = AsyncWeb3(AsyncHTTPProvider(pkp_chain.url))
    try:
        web3.middleware_onion.inject(SignAndSendRawMiddlewareBuilder.build(USER), layer=0)
        nft = web3.eth.contract(address=web3.to_checksum_address(pkp_chain.nft), abi=pkp_chain.abi)
        minted = await web3.eth.wait_for_transaction_receipt(
            await nft.functions.mintNext(2).transact({"from": USER.address})
        )
        token = nft.events.PKPMinted().process_receipt(minted, errors=_discard())[0]["args"]["tokenId"]
        moved = await nft.functions.transferFrom(USER.address, OTHER.address, token).transact({"from": USER.address})
        assert (await web3.eth.wait_for_transaction_receipt(moved))["status"] == 1
        assert await nft.functions.ownerOf(token).call() == OTHER.address
        point = await nft.functions.getPubkey(token).call()
        assert int.from_bytes(web3.keccak(point), "big") == token
    finally:
        await web3.provider.disconnect()
