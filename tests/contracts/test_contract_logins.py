"""One mint for many logins: each gets a key that owns itself, the same one however often it asks."""

from __future__ import annotations

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from world import GOOGLE, WEBAUTHN, World, public_key

from keyquorum.evm.address import checksum
from keyquorum.evm.keys import eth_address, token_id

ACCOUNT, PASSKEY = keccak(b"google: alice"), keccak(b"passkey: bob")
COSE = b"\xa5" * 77
MAIN, SECOND = bytes(32), keccak(b"savings")
ALICE, BOB = (GOOGLE, ACCOUNT, b"", [1, 6], MAIN), (WEBAUTHN, PASSKEY, COSE, [1, 5, 6], MAIN)


def mint(world: World, *logins: tuple, account: LocalAccount | None = None, value: int = 0):
    """The token ids, and whether each was minted, as the events tell it."""
    receipt = world.helper.send("mintForLogins", logins, account=account or world.third, value=value)
    events = [event["args"] for event in world.helper.events(receipt)]
    assert {event["relay"] for event in events} <= {(account or world.third).address.lower()}
    return [event["tokenId"] for event in events], [event["minted"] for event in events]


def key_for(world: World, kind: int, identity: bytes, label: bytes = MAIN, relay: LocalAccount | None = None) -> int:
    return world.helper.read("keyFor", (relay or world.third).address, kind, identity, label)


def key_account(number: int) -> LocalAccount:
    return Account.from_key((1000 + number).to_bytes(32, "big"))


def test_each_login_gets_a_key_that_owns_itself_with_its_method_alone(world):
    tokens, minted = mint(world, ALICE, BOB)
    assert tokens == [token_id(public_key(1000)), token_id(public_key(1001))]
    assert minted == [True, True]
    for token, secret in zip(tokens, (1000, 1001), strict=True):
        assert checksum(world.nft.read("ownerOf", token)) == eth_address(public_key(secret))
    assert world.permissions.read("getPermittedAuthMethods", tokens[0]) == [(GOOGLE, ACCOUNT, b"")]
    assert world.permissions.read("getPermittedAuthMethods", tokens[1]) == [(WEBAUTHN, PASSKEY, COSE)]
    assert world.authorisation(tokens[0], GOOGLE, ACCOUNT).scopes == 1 << 1 | 1 << 6
    assert world.authorisation(tokens[1], WEBAUTHN, PASSKEY).scopes == 1 << 1 | 1 << 5 | 1 << 6
    assert world.permissions.read("delayOf", tokens[0]) == 0
    assert world.nft.read("minting") == 0


def test_the_relay_that_paid_has_no_right_on_the_key(world, reverts):
    ((token,), _) = mint(world, ALICE)
    for write in (("setDelay", token, 1), ("addPermittedAction", token, b"cid", [1])):
        with reverts("OnlyOwnerOf", token):
            world.permissions.send(*write, account=world.third)
    with reverts("ERC721InsufficientApproval"):
        world.nft.send("burn", token, account=world.third)


def test_asking_again_gives_the_same_key_and_mints_nothing(world):
    ((token,), _) = mint(world, ALICE)
    pool = world.router.read("poolSize")
    assert mint(world, ALICE) == ([token], [False])
    assert mint(world, (GOOGLE, ACCOUNT, b"other", [5], MAIN)) == ([token], [False])
    assert world.router.read("poolSize") == pool
    assert world.authorisation(token, GOOGLE, ACCOUNT).scopes == 1 << 1 | 1 << 6
    assert key_for(world, GOOGLE, ACCOUNT) == token


def test_the_same_login_twice_in_one_transaction_gets_one_key(world):
    tokens, minted = mint(world, ALICE, BOB, ALICE)
    assert tokens[0] == tokens[2] != tokens[1]
    assert minted == [True, True, False]


def test_another_label_another_key(world):
    tokens, minted = mint(world, ALICE, (*ALICE[:4], SECOND))
    assert len(set(tokens)) == 2
    assert minted == [True, True]
    assert [key_for(world, GOOGLE, ACCOUNT, label) for label in (MAIN, SECOND)] == tokens
    assert key_for(world, GOOGLE, ACCOUNT, keccak(b"third")) == 0


def test_one_relay_cannot_choose_the_keys_of_another(world):
    """Whoever is first with somebody's identity only fills his own list."""
    ((theirs,), _) = mint(world, ALICE, account=world.other)
    assert key_for(world, GOOGLE, ACCOUNT) == 0
    ((ours,), minted) = mint(world, ALICE)
    assert (minted, ours != theirs) == ([True], True)
    assert key_for(world, GOOGLE, ACCOUNT, relay=world.other) == theirs


def test_the_same_id_under_another_method_is_somebody_else(world):
    tokens, _ = mint(world, ALICE, (WEBAUTHN, ACCOUNT, b"", [1], MAIN))
    assert len(set(tokens)) == 2


def test_the_result_is_the_list_of_token_ids(world):
    mint(world, BOB)
    bob, relay = token_id(public_key(1000)), world.third.address
    tokens = world.helper.read("mintForLogins", [BOB, ALICE, BOB], sender=relay)
    assert tokens == [bob, token_id(public_key(1001)), bob]
    assert world.helper.read("mintForLogins", [], sender=relay) == []


def fund(world: World, account: LocalAccount) -> LocalAccount:
    world.chain.send(account.address, value=10**18)
    return account


def test_a_login_that_was_removed_from_its_key_gets_a_new_one(world):
    ((first,), _) = mint(world, ALICE)
    owner = fund(world, key_account(0))
    world.permissions.send("renounceKey", first, account=owner)
    world.permissions.send("removePermittedAuthMethod", first, GOOGLE, ACCOUNT, account=owner)
    assert key_for(world, GOOGLE, ACCOUNT) == 0
    ((second,), minted) = mint(world, ALICE)
    assert (minted, second != first) == ([True], True)
    assert key_for(world, GOOGLE, ACCOUNT) == second


def test_a_method_that_only_waits_to_come_back_does_not_count(world):
    ((token,), _) = mint(world, ALICE)
    owner = fund(world, key_account(0))
    send = world.permissions.send
    send("renounceKey", token, account=owner)
    send("setDelay", token, 1000, account=owner)
    send("removePermittedAuthMethod", token, GOOGLE, ACCOUNT, account=owner)
    send("addPermittedAuthMethod", token, (GOOGLE, ACCOUNT, b""), [1], account=owner)
    assert key_for(world, GOOGLE, ACCOUNT) == 0
    world.chain.advance(1000)
    assert key_for(world, GOOGLE, ACCOUNT) == token


def test_a_key_that_has_changed_hands_is_never_passed_for_the_logins_own(world, reverts):
    """Else a buyer could permit the seller's login on it and receive what is meant for the seller's next key."""
    ((sold,), _) = mint(world, ALICE)
    owner = fund(world, key_account(0))
    world.nft.send("transferFrom", owner.address, world.user.address, sold, account=owner)
    world.permit(sold, GOOGLE, ACCOUNT, [1])
    assert world.permissions.read("isPermittedAuthMethod", sold, GOOGLE, ACCOUNT) is True
    assert key_for(world, GOOGLE, ACCOUNT) == 0
    ((fresh,), minted) = mint(world, ALICE)
    assert (minted, fresh != sold) == ([True], True)
    with reverts("LastManager", sold):
        world.nft.send("transferFrom", world.user.address, owner.address, sold, account=world.user)
    assert key_for(world, GOOGLE, ACCOUNT) == fresh


# -------------------------------------------------------------------------------------------------------- paying


@pytest.fixture
def price(world: World) -> int:
    world.nft.send("setMintCost", 1000, account=world.governor)
    return 1000


def test_only_what_is_minted_is_paid_and_the_rest_comes_back(world, price):
    mint(world, ALICE, value=price)
    puppet = world.puppet()
    world.chain.send(puppet.address, value=10 * price)
    call = world.helper.encode("mintForLogins", [ALICE, BOB, BOB])
    puppet.send("execute", world.helper.address, 5 * price, call, account=world.user)
    assert world.chain.balance(puppet.address) == 8 * price
    assert world.chain.balance(world.nft.address) == 3 * price
    assert world.chain.balance(world.helper.address) == 0


def test_too_little_money_mints_nothing(world, price, reverts):
    with reverts("TooLittleSent", 2 * price - 1):
        mint(world, ALICE, BOB, value=2 * price - 1)
    assert key_for(world, GOOGLE, ACCOUNT) == 0
    with reverts("TooLittleSent", 0):
        mint(world, ALICE)
    assert mint(world) == ([], [])


def test_a_known_login_costs_nothing(world, price):
    mint(world, ALICE, value=price)
    assert mint(world, ALICE)[1] == [False]


# --------------------------------------------------------------------------------------------------------- refused


def test_one_bad_login_refuses_the_whole_list(world, reverts):
    cases = [
        ((0, ACCOUNT, b"", [1], MAIN), "BadAuthMethod"),
        ((GOOGLE, b"", b"", [1], MAIN), "BadAuthMethod"),
        ((GOOGLE, b"x" * 257, b"", [1], MAIN), "BadAuthMethod"),
        ((WEBAUTHN, PASSKEY, b"x" * 1025, [1], MAIN), "BadAuthMethod"),
        ((1, b"\0" * 20, b"", [1], MAIN), "BadAuthMethod"),
        ((GOOGLE, keccak(b"x"), b"", [0], MAIN), "BadScope"),
        ((GOOGLE, keccak(b"x"), b"", [256], MAIN), "BadScope"),
    ]
    for bad, error in cases:
        with reverts(error):
            mint(world, ALICE, bad)
    assert key_for(world, GOOGLE, ACCOUNT) == 0
    assert world.nft.read("totalSupply") == 0


def test_an_empty_pool_refuses_the_whole_list(world, reverts):
    logins = [(GOOGLE, keccak(bytes([number])), b"", [1], MAIN) for number in range(9)]
    with reverts("PoolEmpty"):
        mint(world, *logins)
    assert len(set(mint(world, *logins[:8])[0])) == 8
