"""Grants end with the ownership under which they were made: T59, R10, and what a stranger's grants cannot do."""

from __future__ import annotations

import pytest
from eth_hash.auto import keccak
from world import ACTION, ADDRESS, GOOGLE, WEBAUTHN, World, address_id, public_key

from keyquorum.evm.address import checksum

ZERO_ADDRESS = "0x" + "00" * 20
CID = b"\x12\x20" + bytes(range(32))
PASSKEY = keccak(b"credential:lit")
COSE = b"\xa5" * 77


@pytest.fixture
def token(world: World) -> int:
    return world.mint()


def everything(world: World, token: int) -> None:
    world.permit(token, WEBAUTHN, PASSKEY, [1, 5], COSE)
    world.permissions.send("addPermittedAddress", token, world.third.address, [1, 6], account=world.user)
    world.permissions.send("addPermittedAddress", token, world.user.address, [5], account=world.user)
    world.permissions.send("addPermittedAction", token, CID, [1], account=world.user)


def assert_nothing_granted(world: World, token: int) -> None:
    read = world.permissions.read
    assert read("getPermittedAuthMethods", token) == []
    assert read("getPermittedActions", token) == []
    assert read("isPermittedAction", token, CID) is False
    assert read("isPermittedAddress", token, world.third.address) is False
    assert read("getTokenIdsForAuthMethod", WEBAUTHN, PASSKEY) == []
    assert read("getPKPPubKeysByAuthMethod", WEBAUTHN, PASSKEY) == []
    assert read("getUserPubkeyForAuthMethod", token, WEBAUTHN, PASSKEY) == b""
    assert read("getPermittedAuthMethodScopes", token, WEBAUTHN, PASSKEY, 8) == [False] * 8
    for kind, identity in (
        (WEBAUTHN, PASSKEY),
        (ACTION, CID),
        (ADDRESS, address_id(world.third)),
        (ADDRESS, address_id(world.user)),
    ):
        assert world.authorisation(token, kind, identity)[1:3] == (False, 0)


def test_a_transfer_voids_every_grant_of_the_former_owner(world, token):
    everything(world, token)
    world.nft.send("transferFrom", world.user.address, world.other.address, token, account=world.user)
    assert_nothing_granted(world, token)
    assert [checksum(a) for a in world.permissions.read("getPermittedAddresses", token)] == [world.other.address]
    assert world.permissions.read("isPermittedAddress", token, world.user.address) is False


def test_grants_do_not_come_back_with_the_token(world, token):
    everything(world, token)
    world.nft.send("transferFrom", world.user.address, world.other.address, token, account=world.user)
    world.nft.send("transferFrom", world.other.address, world.user.address, token, account=world.other)
    assert_nothing_granted(world, token)


def test_the_new_owner_grants_afresh(world, token):
    everything(world, token)
    world.nft.send("transferFrom", world.user.address, world.other.address, token, account=world.user)
    world.permit(token, WEBAUTHN, PASSKEY, [2], b"other", account=world.other)
    assert world.authorisation(token, WEBAUTHN, PASSKEY) == (
        world.other.address.lower(),
        True,
        1 << 2,
        2,
        public_key(1000),
    )
    assert world.permissions.read("getTokenIdsForAuthMethod", WEBAUTHN, PASSKEY) == [token]
    assert world.permissions.read("getUserPubkeyForAuthMethod", token, WEBAUTHN, PASSKEY) == b"other"


def test_burning_voids_every_grant(world, token):
    everything(world, token)
    world.nft.send("burn", token, account=world.user)
    assert_nothing_granted(world, token)
    assert world.permissions.read("getPermittedAddresses", token) == []
    assert world.permissions.read("isPermittedAddress", token, ZERO_ADDRESS) is False
    assert world.authorisation(token, WEBAUTHN, PASSKEY) == (ZERO_ADDRESS, False, 0, 2, public_key(1000))


def test_a_transfer_touches_no_other_token(world, token):
    other = world.mint()
    for each in (token, other):
        world.permit(each, GOOGLE, PASSKEY, [1])
    assert world.permissions.read("getTokenIdsForAuthMethod", GOOGLE, PASSKEY) == [token, other]
    world.nft.send("transferFrom", world.user.address, world.other.address, token, account=world.user)
    assert world.authorisation(other, GOOGLE, PASSKEY)[1:3] == (True, 2)
    assert world.permissions.read("getTokenIdsForAuthMethod", GOOGLE, PASSKEY) == [other]


def test_the_passkey_of_one_token_says_nothing_about_another(world, token):
    """Whoever files a victim's passkey id first, with a key of their own, must gain and spoil nothing (T60)."""
    attackers = world.mint(world.other)
    world.permit(attackers, WEBAUTHN, PASSKEY, [1], b"attacker", account=world.other)
    world.permit(token, WEBAUTHN, PASSKEY, [1], COSE)
    assert world.permissions.read("getUserPubkeyForAuthMethod", token, WEBAUTHN, PASSKEY) == COSE
    assert world.permissions.read("getPermittedAuthMethods", token) == [(WEBAUTHN, PASSKEY, COSE)]
    assert world.permissions.read("getTokenIdsForAuthMethod", WEBAUTHN, PASSKEY) == [attackers, token]


def test_a_removed_method_leaves_no_trace_in_the_list_of_its_tokens(world, token):
    other = world.mint()
    for each in (token, other):
        world.permit(each, GOOGLE, PASSKEY)
    world.permissions.send("removePermittedAuthMethod", token, GOOGLE, PASSKEY, account=world.user)
    world.permit(token, GOOGLE, PASSKEY)
    assert world.permissions.read("getTokenIdsForAuthMethod", GOOGLE, PASSKEY) == [other, token]
