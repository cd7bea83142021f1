"""A key that owns itself keeps a way in with the scope to manage, until it is given up in so many words."""

from __future__ import annotations

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from test_contract_execute import execute
from world import ACTION, ADDRESS, GOOGLE, WEBAUTHN, World, address_id, public_key

from keyquorum.evm.keys import token_id

PASSKEY, LOGIN = (WEBAUTHN, keccak(b"credential")), (GOOGLE, keccak(b"account"))
MANAGE, DELAY = 6, 1000


@pytest.fixture
def token(world: World) -> int:
    """A key that owns itself, with one login that may manage it; its secret is 1000."""
    world.helper.send("mintForLogins", [(*LOGIN, b"", [1, MANAGE], bytes(32))], account=world.third)
    return token_id(public_key(1000))


@pytest.fixture
def key(world: World, token: int) -> LocalAccount:
    account = Account.from_key((1000).to_bytes(32, "big"))
    world.chain.send(account.address, value=10**18)
    return account


def send(world: World, key: LocalAccount, name: str, *arguments):
    return world.permissions.send(name, *arguments, account=key)


def add(world: World, key: LocalAccount, token: int, method, scopes=(1, MANAGE)):
    return send(world, key, "addPermittedAuthMethod", token, (*method, b""), list(scopes))


TAKING_AWAY = {
    "the method": lambda t: ("removePermittedAuthMethod", t, *LOGIN),
    "its scope": lambda t: ("removePermittedAuthMethodScope", t, *LOGIN, MANAGE),
    "in a batch": lambda t: ("batchAddRemoveAuthMethods", t, [], [], [], [], [LOGIN[0]], [LOGIN[1]]),
    "in a batch that adds one that may not manage": lambda t: (
        *("batchAddRemoveAuthMethods", t, [PASSKEY[0]], [PASSKEY[1]], [b""], [[1]]),
        *([LOGIN[0]], [LOGIN[1]]),
    ),
}


@pytest.mark.parametrize("way", TAKING_AWAY)
@pytest.mark.parametrize("signed", [False, True])
def test_the_last_way_in_is_not_taken_away(world, token, key, reverts, way, signed):
    name, *arguments = TAKING_AWAY[way](token)
    with reverts("LastManager", token):
        execute(world, key, token, name, *arguments) if signed else send(world, key, name, *arguments)
    assert world.authorisation(token, *LOGIN).scopes == 1 << 1 | 1 << MANAGE
    send(world, key, "removePermittedAuthMethodScope", token, *LOGIN, 1)


@pytest.mark.parametrize("way", TAKING_AWAY)
def test_a_way_in_that_is_not_the_last_is_taken_away(world, token, key, reverts, way):
    other = (GOOGLE, keccak(b"another"))
    add(world, key, token, other)
    name, *arguments = TAKING_AWAY[way](token)
    send(world, key, name, *arguments)
    with reverts("LastManager", token):
        send(world, key, "removePermittedAuthMethod", token, *other)


def test_one_login_is_exchanged_for_another_in_one_call(world, token, key):
    lists = [[PASSKEY[0]], [PASSKEY[1]], [b""], [[MANAGE]], [LOGIN[0]], [LOGIN[1]]]
    send(world, key, "batchAddRemoveAuthMethods", token, *lists)
    assert world.authorisation(token, *PASSKEY).scopes == 1 << MANAGE
    assert not world.authorisation(token, *LOGIN).permitted


def test_what_nobody_outside_can_prove_is_no_way_in(world, token, key, reverts):
    """The key's own address, which only the key proves, and a program; another's wallet is one."""
    add(world, key, token, (ADDRESS, address_id(key)))
    add(world, key, token, (ACTION, b"cid"))
    with reverts("LastManager", token):
        send(world, key, "removePermittedAuthMethod", token, *LOGIN)
    add(world, key, token, (ADDRESS, address_id(world.user)))
    send(world, key, "removePermittedAuthMethod", token, *LOGIN)
    with reverts("LastManager", token):
        send(world, key, "removePermittedAddress", token, world.user.address)
    send(world, key, "removePermittedAddress", token, key.address)
    send(world, key, "removePermittedAction", token, b"cid")


def test_a_way_in_that_still_waits_does_not_count_and_counts_when_it_does(world, token, key, reverts):
    send(world, key, "setDelay", token, DELAY)
    add(world, key, token, PASSKEY)
    add(world, key, token, (GOOGLE, b"scope comes later"), [1])
    send(world, key, "addPermittedAuthMethodScope", token, GOOGLE, b"scope comes later", MANAGE)
    for remove in (("removePermittedAuthMethod", token, *LOGIN), TAKING_AWAY["its scope"](token)):
        with reverts("LastManager", token):
            send(world, key, *remove)
    # What does not count yet can be taken back.
    waiting = world.permissions.read("getPendingChanges", token)
    send(world, key, "cancelPendingChange", token, max(change.changeId for change in waiting))
    world.chain.advance(DELAY)
    send(world, key, "removePermittedAuthMethod", token, *LOGIN)
    with reverts("LastManager", token):
        send(world, key, "removePermittedAuthMethod", token, *PASSKEY)
    assert world.authorisation(token, *PASSKEY).scopes == 1 << 1 | 1 << MANAGE


def test_ways_in_that_race_each_other_out_leave_the_last(world, token, key, reverts):
    """Each removal was right when it was signed; the one that comes last is refused."""
    add(world, key, token, PASSKEY)
    removals = [("removePermittedAuthMethod", token, *method) for method in (PASSKEY, LOGIN)]
    send(world, key, *removals[0])
    with reverts("LastManager", token):
        send(world, key, *removals[1])


def test_a_scope_that_comes_back_is_counted_once(world, token, key, reverts):
    add(world, key, token, PASSKEY, [1])
    for _ in range(2):
        send(world, key, "addPermittedAuthMethodScope", token, *PASSKEY, MANAGE)
        send(world, key, "addPermittedAuthMethodScope", token, *PASSKEY, MANAGE)
        send(world, key, "removePermittedAuthMethodScope", token, *PASSKEY, MANAGE)
        send(world, key, "removePermittedAuthMethodScope", token, *PASSKEY, MANAGE)
    with reverts("LastManager", token):
        send(world, key, "removePermittedAuthMethod", token, *LOGIN)


def test_a_key_without_a_way_in_from_the_start_has_none_to_keep(world):
    world.helper.send("mintForLogins", [(*LOGIN, b"", [1], bytes(32))], account=world.third)
    token, key = token_id(public_key(1000)), Account.from_key((1000).to_bytes(32, "big"))
    execute(world, key, token, "removePermittedAuthMethod", token, *LOGIN)


def test_an_owner_who_is_not_the_key_removes_what_he_likes(world):
    token = world.mint()
    world.permit(token, *LOGIN, [MANAGE])
    world.permissions.send("removePermittedAuthMethod", token, *LOGIN, account=world.user)


@pytest.mark.parametrize("announced", [False, True])
def test_no_token_is_sent_to_its_own_address(world, token, key, reverts, announced):
    """Nobody would have a grant there. Minted there, it has the grants of the mint."""
    other = world.mint()
    address = world.nft.read("getEthAddress", other)
    if announced:
        world.permissions.send("setDelay", other, 10, account=world.user)
        world.permissions.send("announceTransfer", other, address, account=world.user)
        world.chain.advance(10)
    with reverts("LastManager", other):
        world.nft.send("transferFrom", world.user.address, address, other, account=world.user)
    with reverts("LastManager", token):
        world.nft.send("transferFrom", key.address, key.address, token, account=key)
    world.nft.send("transferFrom", key.address, world.user.address, token, account=key)


def test_a_key_is_given_up_in_two_steps_whose_first_says_so(world, token, key):
    receipt = send(world, key, "renounceKey", token)
    assert world.permissions.events(receipt) == [{"event": "KeyRenounced", "args": {"tokenId": token}}]
    assert world.authorisation(token, *LOGIN).permitted
    send(world, key, "removePermittedAuthMethod", token, *LOGIN)
    assert world.permissions.read("getPermittedAuthMethods", token) == []


def test_giving_up_waits_for_the_delay_and_can_be_withdrawn(world, token, key, reverts):
    send(world, key, "setDelay", token, DELAY)
    send(world, key, "renounceKey", token)
    (shown,) = world.permissions.read("getPendingChanges", token)
    assert (shown.kind, shown.authMethodType, shown.id, shown.scopes, shown.delay) == (4, 0, b"", 0, 0)
    with reverts("LastManager", token):
        send(world, key, "removePermittedAuthMethod", token, *LOGIN)
    send(world, key, "cancelPendingChange", token, shown.changeId)
    world.chain.advance(DELAY)
    with reverts("LastManager", token):
        send(world, key, "removePermittedAuthMethod", token, *LOGIN)
    send(world, key, "renounceKey", token)
    world.chain.advance(DELAY)
    assert world.permissions.read("getPendingChanges", token) == []
    send(world, key, "removePermittedAuthMethod", token, *LOGIN)
