"""Lists that can grow are read in pages, and the owners of contracts cannot walk away from what they hold."""

from __future__ import annotations

import pytest
from eth_hash.auto import keccak
from world import ADDRESS, GOOGLE, World, address_id, public_key

from keyquorum.evm.keys import eth_address, token_id

LOGIN = (GOOGLE, keccak(b"account"))
EVERYTHING = 2**256 - 1


def pages(world: World, name: str, count: int, size: int, *arguments) -> list:
    found = [world.permissions.read(name, *arguments, offset, size) for offset in range(0, count + size, size)]
    return [entry for page in found for entry in page]


@pytest.fixture
def tokens(world: World) -> list[int]:
    """Five tokens of the user with one login; it has been removed from the second, and the fourth has been sold."""
    found = [world.mint() for _ in range(5)]
    for token in found:
        world.permit(token, *LOGIN, [1])
    world.permissions.send("removePermittedAuthMethod", found[1], *LOGIN, account=world.user)
    world.nft.send("transferFrom", world.user.address, world.other.address, found[3], account=world.user)
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_pages_of_tokens_together_are_the_whole_list(world, tokens, size):
    count = world.permissions.read("countTokenIdsForAuthMethod", *LOGIN)
    whole = world.permissions.read("getTokenIdsForAuthMethod", *LOGIN)
    assert sorted(whole) == sorted(tokens[i] for i in (0, 2, 4))
    assert pages(world, "getTokenIdsForAuthMethodPage", count, size, *LOGIN) == whole
    keys = world.permissions.read("getPKPPubKeysByAuthMethod", *LOGIN)
    assert [token_id(one) for one in keys] == whole
    assert pages(world, "getPKPPubKeysByAuthMethodPage", count, size, *LOGIN) == keys


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_pages_of_methods_together_are_the_whole_list_with_scopes(world, size):
    token = world.mint()
    for number in range(4):
        world.permit(token, GOOGLE, bytes([number + 1]), [1 + number], b"k" * number)
    world.permissions.send("setDelay", token, 100, account=world.user)
    world.permissions.send("addPermittedAuthMethodScope", token, GOOGLE, bytes([1]), 9, account=world.user)
    world.permit(token, GOOGLE, b"waits", [1])
    count = world.permissions.read("countPermittedAuthMethods", token)
    assert count == 5
    whole = world.permissions.read("getPermittedAuthMethods", token)
    assert len(whole) == 4
    found = [world.permissions.read("getPermittedAuthMethodsPage", token, i, size) for i in range(0, count, size)]
    assert [method for page in found for method in page.methods] == whole
    assert [scopes for page in found for scopes in page.scopes] == [1 << 1 + number for number in range(4)]


def test_pages_beyond_the_end_are_empty_and_no_limit_overflows(world, tokens):
    read = world.permissions.read
    for offset in (5, 6, EVERYTHING):
        for limit in (0, 1, EVERYTHING):
            assert read("getTokenIdsForAuthMethodPage", *LOGIN, offset, limit) == []
            assert read("getPermittedAuthMethodsPage", tokens[0], offset, limit) == ([], [])
            assert world.nft.read("tokensOfOwner", world.user.address, offset, limit) == []
    assert len(read("getTokenIdsForAuthMethodPage", *LOGIN, 1, EVERYTHING)) >= 2
    assert read("getPermittedAuthMethodsPage", 5, 0, 10) == ([], [])


def test_tokens_of_an_owner_come_in_pages(world, tokens):
    owner = world.user.address
    whole = [world.nft.read("tokenOfOwnerByIndex", owner, i) for i in range(world.nft.read("balanceOf", owner))]
    assert world.nft.read("tokensOfOwner", owner, 0, EVERYTHING) == whole
    assert world.nft.read("tokensOfOwner", owner, 1, 2) == whole[1:3]
    assert world.nft.read("tokensOfOwner", owner, 3, 9) == whole[3:]


# -------------------------------------------------------------------------------------------- names of existing clients


def test_existing_clients_find_contracts_and_keys_under_the_names_they_know(world):
    token, key = world.mint(), public_key(1000)
    at = {name: address.lower() for name, address in world.deployment.contracts.items()}
    for contract, views in {
        world.router: {"getPkpNftAddress": "PKPNFT"},
        world.nft: {
            "getRouterAddress": "PubkeyRouter",
            "getPkpPermissionsAddress": "PKPPermissions",
            "getStakingAddress": "Staking",
        },
        world.permissions: {"getPkpNftAddress": "PKPNFT", "getRouterAddress": "PubkeyRouter"},
        world.helper: {
            "getPkpNftAddress": "PKPNFT",
            "getPkpPermissionsAddress": "PKPPermissions",
            "getStakingAddress": "Staking",
        },
    }.items():
        assert {view: contract.read(view) for view in views} == {view: at[name] for view, name in views.items()}
    assert world.router.read("pubkeys", token) == (key, 2, bytes(32))
    assert world.router.read("pubkeys", token_id(public_key(1001))) == (b"", 0, bytes(32))
    assert world.permissions.read("getPubkey", token) == key
    assert world.permissions.read("getEthAddress", token) == eth_address(key).lower()
    assert world.router.read("deriveEthAddressFromPubkey", key[1:]) == eth_address(key).lower()


# ---------------------------------------------------------------------------------------------------------- governance


def test_earnings_and_price_are_never_without_an_owner(world, reverts):
    with reverts("OwnerIsNeeded"):
        world.nft.send("renounceOwnership", account=world.governor)
    with reverts("OwnableUnauthorizedAccount"):
        world.nft.send("renounceOwnership", account=world.user)
    world.nft.send("setMintCost", 5, account=world.governor)
    world.nft.send("mintNext", 2, account=world.user, value=5)
    world.nft.send("withdraw", account=world.governor)
    assert world.chain.balance(world.nft.address) == 0


def test_an_address_permitted_on_many_keys_is_paged_too(world):
    method = (ADDRESS, address_id(world.third))
    tokens = [world.mint() for _ in range(3)]
    for token in tokens:
        world.permissions.send("addPermittedAddress", token, world.third.address, [1], account=world.user)
    assert pages(world, "getTokenIdsForAuthMethodPage", 3, 2, *method) == tokens
