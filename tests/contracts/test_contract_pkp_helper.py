"""Mint and grant in one transaction: the grants belong to the final owner, and nobody comes in between."""

from __future__ import annotations

import pytest
from eth_hash.auto import keccak
from world import ACTION, ADDRESS, GOOGLE, WEBAUTHN, World, address_id, public_key

from keyquorum.chain.contracts import Reverted, interface, load_artifact
from keyquorum.chain.deploy import contract_address
from keyquorum.evm.address import checksum
from keyquorum.evm.keys import eth_address, token_id

CID = b"\x12\x20" + bytes(range(32))
ID = keccak(b"somebody:app")
METHODS = ([WEBAUTHN, GOOGLE], [ID, ID], [b"cose", b""], [[1], [2, 3]])
NONE = ([], [], [], [])


def scopes(world: World, token: int, kind: int, identity: bytes) -> tuple[bool, int]:
    return world.permissions.read("authorisation", token, kind, identity)[1:3]


@pytest.mark.parametrize("to_itself", [False, True])
@pytest.mark.parametrize("add_itself", [False, True])
def test_a_key_is_minted_with_its_methods(world, add_itself, to_itself):
    receipt = world.helper.send("mintNextAndAddAuthMethods", 2, *METHODS, add_itself, to_itself, account=world.user)
    token = world.minted(receipt)
    itself = eth_address(public_key(1000))
    owner = itself if to_itself else world.user.address
    assert token == token_id(public_key(1000))
    assert world.nft.read("ownership", token) == (owner.lower(), 1)
    assert scopes(world, token, WEBAUTHN, ID) == (True, 1 << 1)
    assert scopes(world, token, GOOGLE, ID) == (True, 1 << 2 | 1 << 3)
    assert scopes(world, token, ADDRESS, address_id(itself)) == ((True, 2) if add_itself else (False, 0))
    assert world.permissions.read("getUserPubkeyForAuthMethod", token, WEBAUTHN, ID) == b"cose"


def test_the_events_of_a_helped_mint_begin_as_existing_clients_expect(world):
    receipt = world.helper.send("mintNextAndAddAuthMethods", 2, *METHODS, False, True, account=world.user)
    order = world.event_names(receipt)
    assert order[:3] == ["PubkeyRoutingDataSet", "PKPMinted", "Transfer"]
    assert order[3:] == [
        "PermittedAuthMethodAdded",
        "PermittedAuthMethodScopeAdded",
        "PermittedAuthMethodAdded",
        "PermittedAuthMethodScopeAdded",
        "PermittedAuthMethodScopeAdded",
    ]
    assert int(receipt.logs[0]["topics"][1], 16) == world.minted(receipt)


def test_actions_and_addresses_have_lists_of_their_own(world):
    receipt = world.helper.send(
        "mintNextAndAddAuthMethodsWithTypes",
        2,
        [CID],
        [[1]],
        [world.other.address, world.third.address],
        [[3], [4, 6]],
        *METHODS,
        True,
        False,
        account=world.user,
    )
    token = world.minted(receipt)
    assert world.permissions.read("getPermittedActions", token) == [CID]
    assert [checksum(a) for a in world.permissions.read("getPermittedAddresses", token)] == [
        world.user.address,
        world.other.address,
        world.third.address,
        eth_address(public_key(1000)),
    ]
    assert scopes(world, token, ACTION, CID) == (True, 2)
    assert scopes(world, token, ADDRESS, address_id(world.other)) == (True, 8)
    assert scopes(world, token, ADDRESS, address_id(world.third)) == (True, 1 << 4 | 1 << 6)
    assert scopes(world, token, GOOGLE, ID) == (True, 12)


def test_a_relay_mints_for_somebody_else_and_keeps_nothing(world, reverts):
    receipt = world.helper.send("mintNextAndTransfer", 2, world.user.address, *METHODS, True, account=world.other)
    token = world.minted(receipt)
    assert world.nft.read("ownership", token) == (world.user.address.lower(), 1)
    assert scopes(world, token, WEBAUTHN, ID) == (True, 2)
    assert world.permissions.read("isPermittedAddress", token, world.other.address) is False
    with reverts("OnlyOwnerOf", token):
        world.permissions.send("addPermittedAddress", token, world.other.address, [1], account=world.other)
    with reverts("ERC721InsufficientApproval"):
        world.nft.send("transferFrom", world.user.address, world.other.address, token, account=world.other)


def test_a_key_is_minted_for_somebody_with_nothing_on_it(world):
    token = world.minted(
        world.helper.send("mintNextAndTransfer", 2, world.user.address, *NONE, False, account=world.other)
    )
    assert world.permissions.read("getPermittedAuthMethods", token) == []


def test_a_key_is_never_minted_to_nobody(world, reverts):
    with reverts("ZeroReceiver"):
        world.helper.send("mintNextAndTransfer", 2, "0x" + "00" * 20, *NONE, False)


def test_the_helper_pays_the_price_with_what_it_is_given_and_keeps_nothing(world, reverts):
    world.nft.send("setMintCost", 50)
    for wrong in (0, 49, 51):
        with reverts("WrongPayment", wrong, 50):
            world.helper.send("mintNextAndAddAuthMethods", 2, *METHODS, False, False, value=wrong, account=world.user)
    world.helper.send("mintNextAndAddAuthMethods", 2, *METHODS, False, False, value=50, account=world.user)
    assert world.chain.balance(world.helper.address) == 0
    assert world.chain.balance(world.nft.address) == 50


def test_the_key_type_is_checked_through_the_helper_too(world, reverts):
    with reverts("WrongKeyType", 1):
        world.helper.send("mintNextAndAddAuthMethods", 1, *METHODS, False, False)


@pytest.mark.parametrize("position", range(4))
def test_lists_of_different_lengths_are_refused(world, reverts, position):
    wrong = [list(column) for column in METHODS]
    wrong[position].append(wrong[position][0])
    with reverts("LengthMismatch"):
        world.helper.send("mintNextAndAddAuthMethods", 2, *wrong, False, False)
    with reverts("LengthMismatch"):
        world.helper.send("mintNextAndTransfer", 2, world.user.address, *wrong, False)
    assert world.router.read("poolSize") == 8


@pytest.mark.parametrize(
    ("cids", "addresses"), [(([CID], []), ([], [])), (([], []), ([], [[1]])), (([], [[1]]), ([], []))]
)
def test_lists_of_different_lengths_are_refused_for_actions_and_addresses_too(world, reverts, cids, addresses):
    with reverts("LengthMismatch"):
        world.helper.send("mintNextAndAddAuthMethodsWithTypes", 2, *cids, *addresses, *NONE, False, False)


def test_a_bad_method_stops_the_whole_mint(world, reverts):
    with reverts("BadScope", 0):
        world.helper.send("mintNextAndAddAuthMethods", 2, [GOOGLE], [ID], [b""], [[0]], False, False)
    with reverts("AlreadyPermitted"):
        world.helper.send("mintNextAndAddAuthMethods", 2, [GOOGLE] * 2, [ID] * 2, [b""] * 2, [[1], [5]], False, False)
    assert (world.nft.read("totalSupply"), world.router.read("poolSize")) == (0, 8)


def test_grants_of_the_mint_end_with_the_final_owner(world):
    token = world.minted(
        world.helper.send("mintNextAndTransfer", 2, world.user.address, *METHODS, False, account=world.other)
    )
    world.nft.send("transferFrom", world.user.address, world.third.address, token, account=world.user)
    assert scopes(world, token, WEBAUTHN, ID) == (False, 0)


# ------------------------------------------------------------------------------------- contracts that receive a token


def mint_to(world: World, receiver: str) -> bytes:
    return world.helper.encode("mintNextAndTransfer", 2, receiver, *METHODS, False)


def test_a_receiving_contract_is_told_last_and_may_refuse(world):
    puppet = world.puppet()
    puppet.send("refuse", True)
    with pytest.raises(Reverted) as refusal:
        world.chain.send(world.helper.address, mint_to(world, puppet.address), world.other)
    assert refusal.value.revert_data[:4] == keccak(b"Refused()")[:4]
    assert world.router.read("poolSize") == 8


def test_a_contract_that_cannot_hold_tokens_does_not_get_one_from_the_helper(world, reverts):
    with reverts("ERC721InvalidReceiver", world.router.address.lower()):
        world.helper.send("mintNextAndTransfer", 2, world.router.address, *NONE, False, account=world.other)


def test_a_receiver_finds_the_grants_in_place_and_can_take_them_back(world):
    puppet = world.puppet()
    token = token_id(public_key(1000))
    undo = world.permissions.encode("removePermittedAuthMethod", token, WEBAUTHN, ID)
    puppet.send("plan", world.permissions.address, undo)
    world.chain.send(world.helper.address, mint_to(world, puppet.address), world.other)
    assert puppet.read("succeeded") is True
    assert scopes(world, token, WEBAUTHN, ID) == (False, 0)
    assert scopes(world, token, GOOGLE, ID) == (True, 12)


def test_a_receiver_that_sells_the_key_while_being_told_takes_its_grants_along(world):
    puppet = world.puppet()
    token = token_id(public_key(1000))
    onward = world.nft.encode("transferFrom", puppet.address, world.third.address, token)
    puppet.send("plan", world.nft.address, onward)
    world.chain.send(world.helper.address, mint_to(world, puppet.address), world.other)
    assert world.nft.read("ownership", token) == (world.third.address.lower(), 2)
    assert world.permissions.read("getPermittedAuthMethods", token) == []


def test_a_receiver_that_mints_through_the_helper_again_gets_a_second_whole_key(world):
    puppet = world.puppet()
    puppet.send("plan", world.helper.address, mint_to(world, puppet.address))
    world.chain.send(world.helper.address, mint_to(world, puppet.address), world.other)
    assert puppet.read("succeeded") is True
    for secret in (1000, 1001):
        token = token_id(public_key(secret))
        assert checksum(world.nft.read("ownerOf", token)) == puppet.address
        assert scopes(world, token, WEBAUTHN, ID) == (True, 2)


def test_the_mint_is_closed_before_the_receiver_is_told(world):
    puppet = world.puppet()
    puppet.send("plan", world.nft.address, world.nft.encode("minting"))
    world.chain.send(world.helper.address, mint_to(world, puppet.address), world.other)
    assert (puppet.read("succeeded"), puppet.read("returned")) == (True, bytes(32))
    assert world.nft.read("minting") == 0


# -------------------------------------------------------------------------------------------------------------- wiring


COUNTS = {"Staking": 2, "PubkeyRouter": 2, "PKPNFT": 4, "Sessions": 2, "PKPPermissions": 4}
REFERENCES = [(name, i) for name, count in COUNTS.items() for i in range(count)]


@pytest.mark.parametrize(("wrong", "argument"), [*REFERENCES, ("none", 0)])
def test_contracts_that_do_not_name_each_other_get_no_helper(world, reverts, wrong, argument):
    """Deploy the circle once more with one reference pointing at the contracts of another network."""
    account, elsewhere = world.third, world.deployment.contracts
    order = ("Staking", "PubkeyRouter", "PKPNFT", "Sessions", "PKPPermissions", "PKPHelper")
    nonce = world.chain.nonce(account.address)
    at = {name: contract_address(account.address, nonce + i) for i, name in enumerate(order)}
    references = {
        "Staking": ["owner", "PubkeyRouter"],
        "PubkeyRouter": ["Staking", "PKPNFT"],
        "PKPNFT": ["owner", "PubkeyRouter", "PKPPermissions", "PKPHelper"],
        "Sessions": ["PKPNFT", "PubkeyRouter"],
        "PKPPermissions": ["PKPNFT", "PubkeyRouter", "PKPHelper", "Sessions"],
        "PKPHelper": ["PKPNFT", "PKPPermissions"],
    }
    known = {"owner": account.address} | at
    for name in order:
        arguments = [known[reference] for reference in references[name]]
        if name == wrong:
            arguments[argument] = elsewhere.get(references[name][argument], world.other.address)
        code = interface(name).encode_deployment(load_artifact(name)["bytecode"], *arguments)
        harmless = wrong == "none" or references.get(wrong, [""])[argument] == "owner"
        if name == "PKPHelper" and not harmless:
            with reverts("NotWiredTogether"):
                world.chain.deploy(code, account)
        else:
            assert world.chain.deploy(code, account) == at[name]


def test_all_contracts_name_each_other(world):
    named = {
        world.router: ("staking", "pkpNft"),
        world.nft: ("router", "permissions", "helper"),
        world.permissions: ("pkpNft", "router", "helper", "sessions"),
        world.sessions: ("pkpNft", "router"),
        world.helper: ("pkpNft", "permissions"),
    }
    at = {"staking": world.staking, "router": world.router, "pkpNft": world.nft} | {
        "permissions": world.permissions,
        "helper": world.helper,
        "sessions": world.sessions,
    }
    for contract, partners in named.items():
        for partner in partners:
            assert checksum(contract.read(partner)) == at[partner].address
