"""Wallets that know nothing of this project, on the network's own chain: ethers 6 and web3.py 8.

Each mints a key, reads it and gives it away by the contract alone. Then the new owner signs with it, and the old one,
logged in since before, does not any more.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from live import Live, check_message, sign_soon, until
from web3 import HTTPProvider, Web3
from web3.logs import DISCARD
from web3.middleware import SignAndSendRawMiddlewareBuilder

from chain_fixtures import run_node
from keyquorum.chain.contracts import load_artifact
from keyquorum.client import AsyncClient, Client, Key, PkpAccount, Refused
from keyquorum.client.web3 import signing_middleware

ETHER = 10**18


async def funded(live: Live) -> LocalAccount:
    account: LocalAccount = Account.create()
    await live.fund(account.address)
    return account


def nft_of(live: Live) -> str:
    return live.client.facts.contracts["PKPNFT"]


def web3_for(live: Live, account: Any) -> Web3:
    web3 = Web3(HTTPProvider(live.network.rpc))
    web3.middleware_onion.inject(SignAndSendRawMiddlewareBuilder.build(account), layer=0)
    return web3


async def test_a_key_minted_and_given_away_with_ethers_is_the_receivers(
    live: Live, js_tools: Path, tmp_path: Path
) -> None:
    giver, receiver = await funded(live), Account.create()
    abi, key_file = tmp_path / "abi.json", tmp_path / "key"
    abi.write_text(json.dumps(load_artifact("PKPNFT")["abi"]))
    key_file.write_text("0x" + giver.key.hex())
    script = (js_tools / "e2e_key.mjs", live.network.rpc, nft_of(live), str(abi), str(key_file))

    async def run(*more: str) -> str:
        output = await asyncio.to_thread(run_node, *script, *more)
        return str(json.loads(output.splitlines()[-1])["tokenId"])

    async with live.network.client(account=giver) as client:
        first = await client.key(await run())
        check_message(first, "mine", await sign_soon(client, first, "mine"))
    given = await live.client.key(await run(receiver.address))
    assert given.owner == receiver.address
    async with live.network.client(account=receiver) as client:
        check_message(given, "mine now", await sign_soon(client, given, "mine now"))
    async with live.network.client(account=giver) as client:
        with pytest.raises(Refused) as refused:
            await client.sign_message(given, "still mine?")
        assert refused.value.code == "not_permitted"


async def test_a_key_given_away_with_web3_signs_for_the_new_owner_and_no_more_for_the_old(live: Live) -> None:
    old, new = await funded(live), Account.create()
    web3 = web3_for(live, old)
    nft = web3.eth.contract(address=web3.to_checksum_address(nft_of(live)), abi=load_artifact("PKPNFT")["abi"])

    def mint() -> int:
        cost = nft.functions.mintCost().call()
        receipt = web3.eth.wait_for_transaction_receipt(
            nft.functions.mintNext(2).transact({"from": old.address, "value": cost})
        )
        (event,) = nft.events.PKPMinted().process_receipt(receipt, errors=DISCARD)
        return int(event["args"]["tokenId"])

    def give(token: int) -> int:
        sent = nft.functions.safeTransferFrom(old.address, new.address, token).transact({"from": old.address})
        return int(web3.eth.wait_for_transaction_receipt(sent)["status"])

    token = await asyncio.to_thread(mint)
    public_key = await asyncio.to_thread(nft.functions.getPubkey(token).call)
    assert int.from_bytes(web3.keccak(public_key), "big") == token
    assert await asyncio.to_thread(nft.functions.ownerOf(token).call) == old.address
    assert await asyncio.to_thread(nft.functions.tokenOfOwnerByIndex(old.address, 0).call) == token

    async with live.network.client(account=old) as olds, live.network.client(account=new) as news:
        key = await olds.key(token)
        check_message(key, "old", await sign_soon(olds, key, "old"))
        with pytest.raises(Refused):
            await news.sign_message(key, "too early")
        assert await asyncio.to_thread(give, token) == 1
        check_message(key, "new", await sign_soon(news, key, "new"))
        await until(lambda: is_refused(olds, key))
        for _ in range(5):
            assert await is_refused(olds, key), "once refused, always refused"
        await olds.login()
        assert await is_refused(olds, key)


async def is_refused(client: AsyncClient, key: Key) -> bool:
    try:
        await client.sign_message(key, "still mine?")
    except Refused as refused:
        assert refused.code == "not_permitted"
        return True
    return False


async def test_web3_sends_transactions_of_a_key_that_the_chain_executes(live: Live) -> None:
    """`PkpAccount` as web3.py's account: plain ether, and contract calls of a key that owns a key."""
    user = await funded(live)
    key = (await live.client.mint(user.address)).key
    await live.fund(key.address)
    assert live.network.network is not None
    await asyncio.to_thread(send_with_web3, live, live.network.network, user, key, Account.create().address)
    await asyncio.to_thread(own_a_key_with_web3, live, live.network.network, user, key)


def web3_of(live: Live, account: PkpAccount) -> Web3:
    web3 = Web3(HTTPProvider(live.network.rpc))
    web3.middleware_onion.inject(signing_middleware(account), layer=0)
    return web3


def send_with_web3(live: Live, network: Any, user: LocalAccount, key: Key, receiver: str) -> None:
    with Client(network, account=user) as client:
        account = PkpAccount(client, key)
        web3 = web3_of(live, account)
        sent = web3.eth.send_transaction({"from": account.address, "to": receiver, "value": ETHER // 4})
        receipt = web3.eth.wait_for_transaction_receipt(sent)
        assert (receipt["status"], receipt["from"]) == (1, account.address)
        assert web3.eth.get_balance(receiver) == ETHER // 4


def own_a_key_with_web3(live: Live, network: Any, user: LocalAccount, key: Key) -> None:
    """A key mints a key for itself, pays for it, and logs in as its owner: both need scope 6, which scope 1 is not."""
    with Client(network, account=user) as ordinary:
        proof = PkpAccount(ordinary, key)
        with pytest.raises(Refused), Client(network, account=proof) as owner:
            owner.login()
    with Client(network, account=user, scopes=(1, 6)) as client:
        account = PkpAccount(client, key)
        web3 = web3_of(live, account)
        nft = web3.eth.contract(address=web3.to_checksum_address(nft_of(live)), abi=load_artifact("PKPNFT")["abi"])
        value = nft.functions.mintCost().call()
        minted = nft.functions.mintNext(2).transact({"from": account.address, "value": value})
        assert web3.eth.wait_for_transaction_receipt(minted)["status"] == 1
        token = nft.functions.tokenOfOwnerByIndex(account.address, 0).call()
        with Client(network, account=account) as owner:
            signed = owner.sign_message(token, "a key of a key")
            owned = owner.key(token)
        found = Account.recover_message(encode_defunct(text="a key of a key"), signature=signed.compact)
        assert found == owned.address
