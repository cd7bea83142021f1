"""Mints that name the key they expect, and mints that can be sent again."""

from __future__ import annotations

import pytest
from eth_hash.auto import keccak
from world import GOOGLE, WEBAUTHN, public_key

from keyquorum.chain.mints import mint_once_gas, mint_request
from keyquorum.evm.address import checksum
from keyquorum.evm.keys import eth_address, token_id

REQUEST, NOBODY = keccak(b"request"), "0x" + "00" * 20
METHODS = [(GOOGLE, keccak(b"account"), b""), (WEBAUTHN, keccak(b"passkey"), b"k" * 77)]


def key(number: int) -> int:
    return token_id(public_key(1000 + number))


def request(to: str = NOBODY, expected: int = 0, name: bytes = REQUEST, methods=METHODS, scopes=([1, 6], [1])):
    if not any(name):
        return (name, expected, to, list(methods), [list(each) for each in scopes])
    return mint_request(name, methods, scopes, to=to, expected=expected)


@pytest.mark.parametrize("name", [bytes(32), b"x" * 31, b""])
def test_a_request_needs_a_name_of_32_bytes(name):
    with pytest.raises(ValueError, match="32 bytes"):
        mint_request(name, [], [])


def login(number: int, scopes=(1, 6)):
    return (GOOGLE, keccak(bytes([number])), b"", list(scopes), bytes(32))


# ------------------------------------------------------------------------------------------------------ expected keys


def test_a_mint_gets_the_key_that_it_expects_or_none(world, reverts):
    """The same call, signed once, never gives another key, whatever a reorganisation has put before it."""
    assert world.router.read("nextKey") == key(0)
    snapshot = world.chain.snapshot()
    mint = ("mintNextExpecting", 2, key(0))
    assert world.minted(world.nft.send(*mint, account=world.user)) == key(0)
    world.chain.restore(snapshot)
    world.mint(world.other)
    with reverts("OtherKey", key(1)):
        world.nft.send(*mint, account=world.user)
    assert world.minted(world.nft.send("mintNextExpecting", 2, 0, account=world.user)) == key(1)


def test_logins_get_the_expected_keys_or_none(world, reverts):
    logins = [login(0), login(1), login(0)]
    with reverts("OtherKey", key(0)):
        world.helper.send("mintForLoginsExpecting", logins, key(1), account=world.third)
    world.helper.send("mintForLoginsExpecting", logins[:1], key(0), account=world.third)
    # What is known already is not minted: the expectation is about the first that is.
    receipt = world.helper.send("mintForLoginsExpecting", logins, key(1), account=world.third)
    events = [event["args"] for event in world.helper.events(receipt)]
    assert [(event["tokenId"], event["minted"]) for event in events] == [(key(0), 0), (key(1), 1), (key(0), 0)]
    world.helper.send("mintForLoginsExpecting", logins, key(7), account=world.third)


def test_an_empty_pool_has_no_next_key(world, reverts):
    for _ in range(8):
        world.mint()
    assert world.router.read("nextKey") == 0
    with reverts("PoolEmpty"):
        world.nft.send("mintNextExpecting", 2, key(8), account=world.user)


# ------------------------------------------------------------------------------------------------------------ requests


def test_a_request_mints_once_however_often_it_is_sent(world):
    first = world.helper.send("mintOnce", request(), account=world.other)
    again = world.helper.send("mintOnce", request(), account=world.other)
    for receipt, minted in ((first, True), (again, False)):
        (event,) = world.helper.events(receipt)
        assert event["args"] == {
            "sender": world.other.address.lower(),
            "requestId": REQUEST,
            "tokenId": key(0),
            "minted": minted,
        }
    assert world.minted(first) == key(0)
    assert world.helper.read("keyOfRequest", world.other.address, REQUEST) == key(0)
    assert world.nft.read("totalSupply") == 1


def test_a_requested_key_belongs_to_whom_the_request_names_with_its_grants_alone(world):
    world.helper.send("mintOnce", request(), account=world.other)
    world.helper.send("mintOnce", request(world.user.address, name=keccak(b"2")), account=world.other)
    owners = [checksum(world.nft.read("ownerOf", key(i))) for i in (0, 1)]
    assert owners == [eth_address(public_key(1000)), world.user.address]
    for token in (key(0), key(1)):
        listed = world.permissions.read("getPermittedAuthMethods", token)
        assert [tuple(method) for method in listed] == METHODS
        assert world.authorisation(token, *METHODS[0][:2])[2:4] == (1 << 1 | 1 << 6, 1)


def test_a_request_that_is_repeated_with_other_words_changes_nothing(world):
    world.helper.send("mintOnce", request(world.user.address), account=world.other)
    changed = request(world.third.address, expected=key(5), methods=METHODS[:1], scopes=([5],))
    (event,) = world.helper.events(world.helper.send("mintOnce", changed, account=world.other))
    assert (event["args"]["tokenId"], event["args"]["minted"]) == (key(0), False)
    assert checksum(world.nft.read("ownerOf", key(0))) == world.user.address


def test_requests_of_different_senders_are_different(world):
    for number, sender in enumerate((world.other, world.third)):
        world.helper.send("mintOnce", request(), account=sender)
        assert world.helper.read("keyOfRequest", sender.address, REQUEST) == key(number)


def test_a_request_that_expects_another_key_mints_nothing_and_can_be_sent_again(world, reverts):
    with reverts("OtherKey", key(0)):
        world.helper.send("mintOnce", request(expected=key(1)), account=world.other)
    assert world.helper.read("keyOfRequest", world.other.address, REQUEST) == 0
    world.helper.send("mintOnce", request(expected=key(0)), account=world.other)
    assert world.helper.read("keyOfRequest", world.other.address, REQUEST) == key(0)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"name": bytes(32)}, "NoRequestId"),
        ({"scopes": [[1]]}, "LengthMismatch"),
        ({"scopes": [[1], [0]]}, "BadScope"),
        ({"methods": [(0, b"x", b"")], "scopes": [[1]]}, "BadAuthMethod"),
    ],
)
def test_a_request_that_cannot_be_granted_mints_nothing(world, reverts, changes, error):
    with reverts(error):
        world.helper.send("mintOnce", request(**changes), account=world.other)
    assert world.nft.read("totalSupply") == 0


def test_a_request_costs_its_price_once_and_the_rest_comes_back(world, reverts):
    world.nft.send("setMintCost", 1000, account=world.governor)
    puppet = world.puppet()
    world.chain.send(puppet.address, value=5000)
    call = world.helper.encode("mintOnce", request())
    for _ in range(2):
        puppet.send("execute", world.helper.address, 3000, call, account=world.user)
        assert world.chain.balance(puppet.address) == 4000
    assert world.chain.balance(world.nft.address) == 1000
    with reverts("TooLittleSent", 999):
        world.helper.send("mintOnce", request(name=keccak(b"2")), account=world.other, value=999)


def test_a_receiver_that_asks_again_while_it_is_told_gets_no_second_key(world):
    puppet = world.puppet()
    call = world.helper.encode("mintOnce", request(puppet.address))
    puppet.send("plan", world.helper.address, call)
    puppet.send("execute", world.helper.address, 0, call, account=world.user)
    assert puppet.read("succeeded") is True
    assert world.nft.read("totalSupply") == 1
    assert world.helper.read("keyOfRequest", puppet.address, REQUEST) == key(0)


def test_a_receiver_that_refuses_undoes_the_request(world, reverts):
    puppet = world.puppet()
    puppet.send("refuse", True)
    with reverts("Unknown"):
        world.helper.send("mintOnce", request(puppet.address), account=world.other)
    assert world.helper.read("keyOfRequest", world.other.address, REQUEST) == 0


@pytest.mark.parametrize("count", [0, 1, 4])
def test_the_gas_limit_for_a_request_suffices_and_is_not_wasteful(world, count):
    methods = [(WEBAUTHN, keccak(bytes([i])) * 4, b"k" * 77 * (i % 2)) for i in range(count)]
    scopes = [[1, 6, 7]] * count
    limit = mint_once_gas(methods, scopes)
    used = world.helper.send(
        "mintOnce", request(methods=methods, scopes=scopes), account=world.third, gas=limit
    ).gas_used
    assert used < limit < used * 1.5
