"""The token: minting takes the oldest key and costs exactly the price; each transfer opens a new grant epoch."""

from __future__ import annotations

import base64
import json

import pytest
from chains import accounts
from eth_hash.auto import keccak
from world import address_id, public_key

from keyquorum.chain.contracts import Reverted
from keyquorum.evm.address import checksum
from keyquorum.evm.keys import eth_address, token_id

ZERO_ADDRESS = "0x" + "00" * 20


def test_minting_gives_the_oldest_key_of_the_pool_to_the_sender(world):
    receipt = world.nft.send("mintNext", 2, account=world.user)
    token = token_id(public_key(1000))
    assert world.minted(receipt) == token
    assert checksum(world.nft.read("ownerOf", token)) == world.user.address
    assert world.nft.read("exists", token) is True
    assert world.nft.read("getPubkey", token) == public_key(1000)
    assert checksum(world.nft.read("getEthAddress", token)) == eth_address(public_key(1000))
    assert world.nft.read("ownership", token) == (world.user.address.lower(), 1)


def test_the_events_of_a_mint_come_in_the_order_that_existing_clients_expect(world):
    receipt = world.nft.send("mintNext", 2, account=world.user)
    assert world.event_names(receipt) == ["PubkeyRoutingDataSet", "PKPMinted", "Transfer"]
    token = world.minted(receipt)
    key = public_key(1000)
    assert world.router.events(receipt)[0]["args"] == {
        "tokenId": token,
        "pubkey": key,
        "stakingContract": world.staking.address.lower(),
        "keyType": 2,
        "derivedKeyId": bytes(32),
    }
    assert world.nft.events(receipt)[0] == {"event": "PKPMinted", "args": {"tokenId": token, "pubkey": key}}
    assert int(receipt.logs[0]["topics"][1], 16) == token


@pytest.mark.parametrize("key_type", [0, 1, 3, 2**256 - 1])
def test_only_secp256k1_keys_are_minted(world, reverts, key_type):
    with reverts("WrongKeyType", key_type):
        world.nft.send("mintNext", key_type)


def test_the_price_is_paid_exactly(world, reverts):
    world.nft.send("setMintCost", 1000)
    for wrong in (0, 999, 1001):
        with reverts("WrongPayment", wrong, 1000):
            world.nft.send("mintNext", 2, value=wrong, account=world.user)
    world.nft.send("mintNext", 2, value=1000, account=world.user)
    assert world.chain.balance(world.nft.address) == 1000


def test_governance_sets_the_price_and_takes_the_earnings(world, reverts):
    receipt = world.nft.send("setMintCost", 10**18)
    assert world.nft.events(receipt) == [{"event": "MintCostSet", "args": {"newMintCost": 10**18}}]
    world.nft.send("mintNext", 2, value=10**18, account=world.user)
    before = world.chain.balance(world.governor.address)
    receipt = world.nft.send("withdraw")
    assert world.nft.events(receipt) == [{"event": "Withdrew", "args": {"amount": 10**18}}]
    assert world.chain.balance(world.nft.address) == 0
    assert world.chain.balance(world.governor.address) > before + 10**17


def test_nobody_else_sets_the_price_or_takes_the_earnings(world, reverts):
    for name, arguments in (("setMintCost", (1,)), ("withdraw", ())):
        with reverts("OwnableUnauthorizedAccount"):
            world.nft.send(name, *arguments, account=world.user)


def test_governance_changes_hands_in_two_steps(world, reverts):
    world.nft.send("transferOwnership", world.other.address)
    world.nft.send("setMintCost", 1)
    with reverts("OwnableUnauthorizedAccount"):
        world.nft.send("acceptOwnership", account=world.user)
    world.nft.send("acceptOwnership", account=world.other)
    with reverts("OwnableUnauthorizedAccount"):
        world.nft.send("setMintCost", 2)


def test_each_change_of_hands_opens_a_new_grant_epoch(world):
    token = world.mint()
    world.nft.send("transferFrom", world.user.address, world.other.address, token, account=world.user)
    assert world.nft.read("ownership", token) == (world.other.address.lower(), 2)
    world.nft.send(
        "safeTransferFrom(address,address,uint256)",
        world.other.address,
        world.other.address,
        token,
        account=world.other,
    )
    assert world.nft.read("ownership", token) == (world.other.address.lower(), 3)
    world.nft.send("burn", token, account=world.other)
    assert world.nft.read("ownership", token) == (ZERO_ADDRESS, 4)


def test_a_burned_key_is_gone_for_good(world, reverts):
    token = world.mint()
    world.nft.send("burn", token, account=world.user)
    assert world.nft.read("exists", token) is False
    with reverts("ERC721NonexistentToken", token):
        world.nft.read("ownerOf", token)
    with reverts("DuplicateKey", token):
        world.register([public_key(1000)])
    assert world.nft.read("getPubkey", token) == public_key(1000)


def test_only_the_owner_or_who_it_approved_transfers_or_burns(world, reverts):
    token = world.mint()
    for name, arguments in (
        ("burn", (token,)),
        ("transferFrom", (world.user.address, world.other.address, token)),
        ("approve", (world.other.address, token)),
    ):
        with reverts("ERC721InsufficientApproval" if name != "approve" else "ERC721InvalidApprover"):
            world.nft.send(name, *arguments, account=world.other)
    world.nft.send("approve", world.other.address, token, account=world.user)
    world.nft.send("transferFrom", world.user.address, world.third.address, token, account=world.other)
    with reverts("ERC721InsufficientApproval"):
        world.nft.send("transferFrom", world.third.address, world.other.address, token, account=world.other)


def test_tokens_can_be_enumerated(world):
    first, second = world.mint(), world.mint()
    third = world.mint(world.other)
    assert world.nft.read("totalSupply") == 3
    assert [world.nft.read("tokenByIndex", i) for i in range(3)] == [first, second, third]
    assert [world.nft.read("tokenOfOwnerByIndex", world.user.address, i) for i in range(2)] == [first, second]
    assert world.nft.read("balanceOf", world.user.address) == 2


@pytest.mark.parametrize("interface_id", ["01ffc9a7", "80ac58cd", "780e9d63", "5b5e139f"])
def test_the_standard_interfaces_are_announced(world, interface_id):
    assert world.nft.read("supportsInterface", bytes.fromhex(interface_id)) is True
    assert world.nft.read("supportsInterface", b"\xff" * 4) is False


def test_the_token_describes_itself_without_any_server(world, reverts):
    token = world.mint()
    prefix, _, content = world.nft.read("tokenURI", token).partition(",")
    assert prefix == "data:application/json;base64"
    described = json.loads(base64.b64decode(content))
    assert described["name"].endswith(f"0x{token:064x}")
    assert [trait["value"] for trait in described["attributes"]] == [
        "0x" + public_key(1000).hex(),
        eth_address(public_key(1000)),
    ]
    with reverts("ERC721NonexistentToken"):
        world.nft.read("tokenURI", token_id(public_key(1001)))


def test_reading_an_unknown_token_is_no_error(world):
    assert world.nft.read("exists", 5) is False
    assert world.nft.read("ownership", 5) == (ZERO_ADDRESS, 0)
    assert world.nft.read("getPubkey", 5) == b""
    assert world.nft.read("getEthAddress", 5) == ZERO_ADDRESS


@pytest.mark.parametrize("name", ["beginMint", "finishMint"])
def test_only_the_helper_mints_in_two_steps(world, reverts, name):
    arguments = (2, accounts()[5].address, 0) if name == "beginMint" else (world.mint(),)
    for account in (world.user, world.governor):
        with reverts("OnlyHelper"):
            world.nft.send(name, *arguments, account=account)


# ------------------------------------------------------------------------------------- contracts that receive a token


def test_a_contract_that_cannot_hold_tokens_does_not_get_one(world):
    puppet = world.puppet()
    puppet.send("refuse", True)
    with pytest.raises(Reverted) as refusal:
        puppet.send("execute", world.nft.address, 0, world.nft.encode("mintNext", 2))
    assert keccak(b"Refused()")[:4] in refusal.value.revert_data
    assert (world.nft.read("totalSupply"), world.router.read("poolSize")) == (0, 8)


def test_a_receiver_that_mints_again_gets_the_next_key_and_nothing_else(world):
    puppet = world.puppet()
    puppet.send("plan", world.nft.address, world.nft.encode("mintNext", 2))
    receipt = puppet.send("execute", world.nft.address, 0, world.nft.encode("mintNext", 2))
    assert puppet.read("succeeded") is True
    first, second = token_id(public_key(1000)), token_id(public_key(1001))
    assert world.minted(receipt) == first
    assert [world.nft.read("tokenOfOwnerByIndex", puppet.address, i) for i in range(2)] == [first, second]
    assert world.router.read("poolSize") == 6


def test_a_receiver_already_owns_the_token_when_it_is_told(world):
    puppet = world.puppet()
    token = token_id(public_key(1000))
    puppet.send(
        "plan",
        world.permissions.address,
        world.permissions.encode("addPermittedAddress", token, world.user.address, [1]),
    )
    puppet.send("execute", world.nft.address, 0, world.nft.encode("mintNext", 2))
    assert puppet.read("succeeded") is True
    found = world.permissions.read("authorisation", token, 1, address_id(world.user))
    assert (checksum(found.owner), found.permitted, found.scopes) == (puppet.address, True, 2)


def test_a_receiver_that_passes_the_token_on_takes_no_grants_with_it(world):
    puppet = world.puppet()
    token = token_id(public_key(1000))
    onward = world.nft.encode("transferFrom", puppet.address, world.other.address, token)
    puppet.send("plan", world.nft.address, onward)
    puppet.send("execute", world.nft.address, 0, world.nft.encode("mintNext", 2))
    assert world.nft.read("ownership", token) == (world.other.address.lower(), 2)


def test_a_receiver_cannot_have_an_underpaid_second_token(world):
    world.nft.send("setMintCost", 7)
    puppet = world.puppet()
    world.chain.send(puppet.address, value=7)
    puppet.send("plan", world.nft.address, world.nft.encode("mintNext", 2))
    puppet.send("execute", world.nft.address, 7, world.nft.encode("mintNext", 2))
    assert (puppet.read("called"), puppet.read("succeeded")) == (True, False)
    assert world.nft.read("totalSupply") == 1


def test_minting_races_only_over_which_key_one_gets(world):
    """T60: whoever copies a mint and comes first owns the first key; the other owns the second, with nothing on it."""
    attacker, victim = world.mint(world.other), world.mint(world.user)
    assert attacker != victim
    assert checksum(world.nft.read("ownerOf", victim)) == world.user.address
    assert world.permissions.read("getPermittedAuthMethods", victim) == []
