"""Grants: who may be given what, by whom; and that nothing of it survives a removal or a change of hands."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak
from world import ACTION, ADDRESS, GOOGLE, WEBAUTHN, World, address_id, public_key

from keyquorum.evm.address import checksum
from keyquorum.evm.keys import token_id

ZERO_ADDRESS = "0x" + "00" * 20
CID = b"\x12\x20" + bytes(range(32))
PASSKEY = keccak(b"credential:lit")
COSE = b"\xa5" * 77


@pytest.fixture
def token(world: World) -> int:
    return world.mint()


# ----------------------------------------------------------------------------------------------------------- granting


def test_a_permitted_method_is_seen_by_every_view(world, token):
    world.permit(token, WEBAUTHN, PASSKEY, [1, 4], COSE)
    read = world.permissions.read
    assert read("getPermittedAuthMethods", token) == [(WEBAUTHN, PASSKEY, COSE)]
    assert read("isPermittedAuthMethod", token, WEBAUTHN, PASSKEY) is True
    assert read("getPermittedAuthMethodScopes", token, WEBAUTHN, PASSKEY, 6) == [False, True, False, False, True, False]
    assert [read("isPermittedAuthMethodScopePresent", token, WEBAUTHN, PASSKEY, s) for s in (1, 2, 4)] == [
        True,
        False,
        True,
    ]
    assert read("getUserPubkeyForAuthMethod", token, WEBAUTHN, PASSKEY) == COSE
    assert read("getTokenIdsForAuthMethod", WEBAUTHN, PASSKEY) == [token]
    assert read("getPKPPubKeysByAuthMethod", WEBAUTHN, PASSKEY) == [public_key(1000)]


def test_one_call_tells_a_node_all_it_needs(world, token):
    world.permit(token, WEBAUTHN, PASSKEY, [1, 5])
    found = world.authorisation(token, WEBAUTHN, PASSKEY)
    assert found == (world.user.address.lower(), True, 1 << 1 | 1 << 5, 1, public_key(1000))
    assert found._fields == ("owner", "permitted", "scopes", "grantEpoch", "pubkey")
    assert world.authorisation(token, GOOGLE, PASSKEY)[1:4] == (False, 0, 1)


@pytest.mark.parametrize("token", [0, 1, 2**256 - 1, token_id(public_key(5))])
def test_that_call_never_reverts(world, token):
    for kind, identity in ((0, b""), (ADDRESS, b"\1" * 20), (2**256 - 1, b"x" * 1000)):
        assert world.authorisation(token, kind, identity) == (ZERO_ADDRESS, False, 0, 0, b"")


def test_that_call_shows_a_key_in_the_pool_as_certified_but_unowned(world):
    assert world.authorisation(token_id(public_key(1000)), ADDRESS, b"\1" * 20) == (
        ZERO_ADDRESS,
        False,
        0,
        0,
        public_key(1000),
    )


def test_method_ids_are_those_of_existing_clients(world):
    expected = int.from_bytes(keccak(encode(["uint256", "bytes"], [WEBAUTHN, PASSKEY])), "big")
    assert world.permissions.read("getAuthMethodId", WEBAUTHN, PASSKEY) == expected


def test_a_method_without_scopes_is_permitted_and_may_do_nothing(world, token):
    world.permit(token, GOOGLE, PASSKEY)
    assert world.authorisation(token, GOOGLE, PASSKEY)[1:3] == (True, 0)


def test_adding_a_method_is_announced_with_its_own_type_and_id(world, token):
    events = world.permissions.events(world.permit(token, WEBAUTHN, PASSKEY, [1, 2], COSE))
    identity = {"tokenId": token, "authMethodType": WEBAUTHN, "id": PASSKEY}
    assert events == [
        {"event": "PermittedAuthMethodAdded", "args": identity | {"userPubkey": COSE}},
        {"event": "PermittedAuthMethodScopeAdded", "args": identity | {"scopeId": 1}},
        {"event": "PermittedAuthMethodScopeAdded", "args": identity | {"scopeId": 2}},
    ]


def test_removing_is_announced_with_its_own_type_and_id(world, token):
    world.permit(token, WEBAUTHN, PASSKEY, [3])
    send, identity = world.permissions.send, {"tokenId": token, "authMethodType": WEBAUTHN, "id": PASSKEY}
    scope = send("removePermittedAuthMethodScope", token, WEBAUTHN, PASSKEY, 3, account=world.user)
    assert world.permissions.events(scope) == [
        {"event": "PermittedAuthMethodScopeRemoved", "args": identity | {"scopeId": 3}}
    ]
    method = send("removePermittedAuthMethod", token, WEBAUTHN, PASSKEY, account=world.user)
    assert world.permissions.events(method) == [{"event": "PermittedAuthMethodRemoved", "args": identity}]


def test_addresses_and_actions_are_methods_of_their_own_types(world, token):
    send, read = world.permissions.send, world.permissions.read
    send("addPermittedAddress", token, world.other.address, [1], account=world.user)
    send("addPermittedAction", token, CID, [2], account=world.user)
    assert [checksum(a) for a in read("getPermittedAddresses", token)] == [world.user.address, world.other.address]
    assert read("getPermittedActions", token) == [CID]
    assert read("isPermittedAction", token, CID) is True
    assert read("isPermittedAddress", token, world.other.address) is True
    assert world.authorisation(token, ADDRESS, address_id(world.other))[2] == 1 << 1
    assert world.authorisation(token, ACTION, CID)[2] == 1 << 2
    send("removePermittedAddress", token, world.other.address, account=world.user)
    send("removePermittedAction", token, CID, account=world.user)
    assert [checksum(a) for a in read("getPermittedAddresses", token)] == [world.user.address]
    assert read("getPermittedActions", token) == []
    assert read("isPermittedAction", token, CID) is False
    assert read("isPermittedAddress", token, world.other.address) is False


def test_the_owner_is_a_permitted_address_without_being_granted_anything(world, token):
    assert world.permissions.read("isPermittedAddress", token, world.user.address) is True
    assert world.authorisation(token, ADDRESS, address_id(world.user))[1:3] == (False, 0)


def test_the_owner_grants_raw_digests_to_himself_explicitly(world, token):
    world.permissions.send("addPermittedAddress", token, world.user.address, [5], account=world.user)
    assert world.authorisation(token, ADDRESS, address_id(world.user))[1:3] == (True, 1 << 5)


def test_scopes_are_added_and_removed_one_by_one(world, token):
    world.permit(token, GOOGLE, PASSKEY, [1])
    for name, scope, bitmap in (
        ("addPermittedAuthMethodScope", 255, 1 << 255 | 2),
        ("addPermittedAuthMethodScope", 255, 1 << 255 | 2),
        ("removePermittedAuthMethodScope", 1, 1 << 255),
        ("removePermittedAuthMethodScope", 1, 1 << 255),
        ("removePermittedAuthMethodScope", 255, 0),
    ):
        world.permissions.send(name, token, GOOGLE, PASSKEY, scope, account=world.user)
        assert world.authorisation(token, GOOGLE, PASSKEY)[1:3] == (True, bitmap)


def test_the_same_scope_twice_is_one_scope_and_one_event(world, token):
    receipt = world.permit(token, GOOGLE, PASSKEY, [7, 7])
    assert len(world.permissions.events(receipt)) == 2


def test_changing_nothing_announces_nothing(world, token):
    world.permit(token, GOOGLE, PASSKEY, [1])
    for name, scope in (("addPermittedAuthMethodScope", 1), ("removePermittedAuthMethodScope", 2)):
        assert world.permissions.send(name, token, GOOGLE, PASSKEY, scope, account=world.user).logs == []


# ------------------------------------------------------------------------------------------------------------ refusing


@pytest.mark.parametrize("scope", [0, 256, 2**256 - 1])
def test_scopes_outside_1_to_255_are_refused(world, token, reverts, scope):
    with reverts("BadScope", scope):
        world.permit(token, GOOGLE, PASSKEY, [1, scope])
    world.permit(token, GOOGLE, PASSKEY)
    for name in ("addPermittedAuthMethodScope", "removePermittedAuthMethodScope"):
        with reverts("BadScope", scope):
            world.permissions.send(name, token, GOOGLE, PASSKEY, scope, account=world.user)
    assert world.permissions.read("isPermittedAuthMethodScopePresent", token, GOOGLE, PASSKEY, scope) is False


def test_at_most_256_scopes_are_listed(world, token, reverts):
    world.permit(token, GOOGLE, PASSKEY, [255])
    assert world.permissions.read("getPermittedAuthMethodScopes", token, GOOGLE, PASSKEY, 256)[255] is True
    assert world.permissions.read("getPermittedAuthMethodScopes", token, GOOGLE, PASSKEY, 0) == []
    with reverts("BadScope", 257):
        world.permissions.read("getPermittedAuthMethodScopes", token, GOOGLE, PASSKEY, 257)


@pytest.mark.parametrize(
    ("kind", "identity", "pubkey"),
    [
        (0, b"id", b""),
        (GOOGLE, b"", b""),
        (GOOGLE, b"x" * 257, b""),
        (GOOGLE, b"id", b"k" * 1025),
        (ADDRESS, bytes(20), b""),
        (ADDRESS, b"\1" * 19, b""),
        (ADDRESS, b"\1" * 21, b""),
        (ADDRESS, b"\1" * 32, b""),
    ],
)
def test_a_method_that_could_mean_something_else_is_refused(world, token, reverts, kind, identity, pubkey):
    with reverts("BadAuthMethod"):
        world.permit(token, kind, identity, [1], pubkey)


def test_the_largest_method_is_accepted(world, token):
    world.permit(token, 2**256 - 1, b"x" * 256, [], b"k" * 1024)
    assert world.permissions.read("getPermittedAuthMethods", token) == [(2**256 - 1, b"x" * 256, b"k" * 1024)]


def test_a_method_is_added_once(world, token, reverts):
    world.permit(token, GOOGLE, PASSKEY, [1])
    with reverts("AlreadyPermitted"):
        world.permit(token, GOOGLE, PASSKEY, [2])
    assert world.authorisation(token, GOOGLE, PASSKEY)[2] == 1 << 1


def test_withdrawing_what_was_never_permitted_is_an_error(world, token, reverts):
    for name, arguments in (
        ("removePermittedAuthMethod", (token, GOOGLE, PASSKEY)),
        ("removePermittedAction", (token, CID)),
        ("removePermittedAddress", (token, world.other.address)),
        ("addPermittedAuthMethodScope", (token, GOOGLE, PASSKEY, 1)),
        ("removePermittedAuthMethodScope", (token, GOOGLE, PASSKEY, 1)),
    ):
        with reverts("NotPermitted"):
            world.permissions.send(name, *arguments, account=world.user)


WRITES = {
    "addPermittedAuthMethod": lambda t, a: (t, (GOOGLE, PASSKEY, b""), [1]),
    "removePermittedAuthMethod": lambda t, a: (t, GOOGLE, PASSKEY),
    "addPermittedAuthMethodScope": lambda t, a: (t, GOOGLE, PASSKEY, 1),
    "removePermittedAuthMethodScope": lambda t, a: (t, GOOGLE, PASSKEY, 1),
    "addPermittedAction": lambda t, a: (t, CID, [1]),
    "removePermittedAction": lambda t, a: (t, CID),
    "addPermittedAddress": lambda t, a: (t, a, [1]),
    "removePermittedAddress": lambda t, a: (t, a),
    "setDelay": lambda t, a: (t, 60),
    "announceTransfer": lambda t, a: (t, a),
    "cancelPendingChange": lambda t, a: (t, 1),
    "batchAddRemoveAuthMethods": lambda t, a: (t, [GOOGLE], [PASSKEY], [b""], [[1]], [], []),
    "renounceKey": lambda t, a: (t,),
}


@pytest.mark.parametrize("name", WRITES)
def test_only_the_owner_writes(world, token, reverts, name):
    world.nft.send("approve", world.other.address, token, account=world.user)
    world.nft.send("setApprovalForAll", world.third.address, True, account=world.user)
    arguments = WRITES[name](token, world.other.address)
    for stranger in (world.other, world.third, world.governor, world.nodes[0]):
        with reverts("OnlyOwnerOf", token):
            world.permissions.send(name, *arguments, account=stranger)


@pytest.mark.parametrize("name", WRITES)
def test_nobody_writes_on_a_key_that_is_not_minted_or_burned(world, token, reverts, name):
    world.nft.send("burn", token, account=world.user)
    for absent in (token, token_id(public_key(1001)), 5):
        with reverts("OnlyOwnerOf", absent):
            world.permissions.send(name, *WRITES[name](absent, world.other.address), account=world.user)


def test_the_list_of_writes_is_complete(world):
    views = {"view", "pure"}
    functions = {
        entry["name"]
        for entry in world.permissions.interface.abi
        if entry["type"] == "function" and entry["stateMutability"] not in views
    }
    assert functions == set(WRITES) | {"grantAtMint", "execute"}


def test_nobody_but_the_helper_grants_at_mint(world, token, reverts):
    for account in (world.user, world.governor):
        with reverts("OnlyWhileMinting", token):
            world.permissions.send("grantAtMint", token, [(GOOGLE, PASSKEY, b"")], [[1]], account=account)


def test_lists_of_different_lengths_are_refused(world, token, reverts):
    right = [[GOOGLE], [PASSKEY], [b""], [[1]], [GOOGLE], [PASSKEY]]
    for position in range(len(right)):
        wrong = [*right]
        wrong[position] = wrong[position] * 2
        with reverts("LengthMismatch"):
            world.permissions.send("batchAddRemoveAuthMethods", token, *wrong, account=world.user)


# ------------------------------------------------------------------------------------------------------------- removal


def test_removing_a_method_removes_its_scopes_and_adding_it_again_does_not_revive_them(world, token):
    world.permit(token, WEBAUTHN, PASSKEY, [1, 5], COSE)
    world.permissions.send("removePermittedAuthMethod", token, WEBAUTHN, PASSKEY, account=world.user)
    assert world.authorisation(token, WEBAUTHN, PASSKEY)[1:3] == (False, 0)
    assert world.permissions.read("isPermittedAuthMethodScopePresent", token, WEBAUTHN, PASSKEY, 5) is False
    assert world.permissions.read("getTokenIdsForAuthMethod", WEBAUTHN, PASSKEY) == []
    world.permit(token, WEBAUTHN, PASSKEY, [2])
    assert world.authorisation(token, WEBAUTHN, PASSKEY)[1:3] == (True, 1 << 2)
    assert world.permissions.read("getUserPubkeyForAuthMethod", token, WEBAUTHN, PASSKEY) == b""


def test_removing_one_of_several_methods_leaves_the_others(world, token):
    for number in range(4):
        world.permit(token, GOOGLE, bytes([number]) * 32, [number + 1])
    world.permissions.send("removePermittedAuthMethod", token, GOOGLE, b"\1" * 32, account=world.user)
    left = world.permissions.read("getPermittedAuthMethods", token)
    assert {method.id[0] for method in left} == {0, 2, 3}
    assert [world.authorisation(token, GOOGLE, bytes([n]) * 32).scopes for n in range(4)] == [2, 0, 8, 16]


def test_a_batch_adds_and_removes_in_one_transaction(world, token):
    world.permit(token, GOOGLE, PASSKEY, [1])
    arguments = [[WEBAUTHN, ACTION], [PASSKEY, CID], [COSE, b""], [[1, 2], []], [GOOGLE], [PASSKEY]]
    world.permissions.send("batchAddRemoveAuthMethods", token, *arguments, account=world.user)
    methods = world.permissions.read("getPermittedAuthMethods", token)
    assert sorted(methods) == [(ACTION, CID, b""), (WEBAUTHN, PASSKEY, COSE)]
    assert world.authorisation(token, WEBAUTHN, PASSKEY).scopes == 6


def test_a_batch_happens_whole_or_not_at_all(world, token, reverts):
    world.permit(token, GOOGLE, PASSKEY, [1])
    with reverts("NotPermitted"):
        arguments = [[WEBAUTHN], [PASSKEY], [COSE], [[1]], [GOOGLE, ACTION], [PASSKEY, CID]]
        world.permissions.send("batchAddRemoveAuthMethods", token, *arguments, account=world.user)
    assert world.permissions.read("getPermittedAuthMethods", token) == [(GOOGLE, PASSKEY, b"")]
