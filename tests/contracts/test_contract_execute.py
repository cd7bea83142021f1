"""Signed calls: a key that owns itself rules its permissions by signature, and anybody pays; and nobody else does."""

from __future__ import annotations

from typing import Any

import pytest
from coincurve import PrivateKey
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from world import ACTION, GOOGLE, WEBAUTHN, Bound, World, public_key

from keyquorum.algebra.field import Q
from keyquorum.evm.address import checksum
from keyquorum.evm.keys import token_id

PASSKEY, ACCOUNT = keccak(b"credential"), keccak(b"account")
LATER = 2**40
TYPES = {
    "PermissionCall": [
        {"name": "tokenId", "type": "uint256"},
        {"name": "call", "type": "bytes"},
        {"name": "nonce", "type": "uint256"},
        {"name": "deadline", "type": "uint256"},
    ]
}


@pytest.fixture
def token(world: World) -> int:
    """A key that owns itself, made for a login; its secret is 1000."""
    world.helper.send("mintForLogins", [(GOOGLE, ACCOUNT, b"", [1, 6], bytes(32))], account=world.third)
    return token_id(public_key(1000))


@pytest.fixture
def key(token: int) -> LocalAccount:
    return Account.from_key((1000).to_bytes(32, "big"))


def domain(world: World) -> dict[str, Any]:
    return {
        "name": "Keyquorum PKPPermissions",
        "version": "1",
        "chainId": world.chain.chain_id,
        "verifyingContract": world.permissions.address,
    }


def sign(world: World, account: LocalAccount, token: int, call: bytes, nonce: int, deadline: int = LATER) -> bytes:
    message = {"tokenId": token, "call": call, "nonce": nonce, "deadline": deadline}
    return bytes(account.sign_message(encode_typed_data(domain(world), TYPES, message)).signature)


def execute(world: World, account: LocalAccount, token: int, name: str, *arguments: Any):
    """Sign a call with `account`, send it from a stranger."""
    call = world.permissions.encode(name, *arguments)
    nonce = world.permissions.read("nonces", token)
    return send(world, token, call, nonce, LATER, sign(world, account, token, call, nonce))


def send(world: World, *arguments: Any):
    return world.permissions.send("execute", *arguments, account=world.other)


def permit_call(world: World, token: int) -> bytes:
    return world.permissions.encode("addPermittedAuthMethod", token, (WEBAUTHN, PASSKEY, b"cose"), [1, 6])


def wallet_of(world: World, owner: LocalAccount) -> Bound:
    factory = world.artifact("TestWalletFactory")
    factory.send("deploy", owner.address, bytes(32))
    return Bound(world.chain, factory.read("addressOf", owner.address, bytes(32)), world.abi("TestWallet"))


# -------------------------------------------------------------------------------------------------------------- works


def test_a_key_that_owns_itself_changes_its_permissions_and_somebody_else_pays(world, token, key):
    receipt = execute(world, key, token, "addPermittedAuthMethod", token, (WEBAUTHN, PASSKEY, b"cose"), [1, 6])
    assert world.authorisation(token, WEBAUTHN, PASSKEY)[1:3] == (True, 1 << 1 | 1 << 6)
    events = world.permissions.events(receipt)
    assert [event["event"] for event in events] == [
        "PermittedAuthMethodAdded",
        "PermittedAuthMethodScopeAdded",
        "PermittedAuthMethodScopeAdded",
        "Executed",
    ]
    assert events[-1]["args"] == {"tokenId": token, "nonce": 1 << 32, "sender": world.other.address.lower()}
    execute(world, key, token, "removePermittedAuthMethod", token, GOOGLE, ACCOUNT)
    assert world.authorisation(token, GOOGLE, ACCOUNT)[1:3] == (False, 0)
    assert checksum(world.nft.read("ownerOf", token)) == key.address


CALLS = {
    "addPermittedAuthMethod": lambda t, a: (t, (WEBAUTHN, PASSKEY, b""), [1]),
    "removePermittedAuthMethod": lambda t, a: (t, GOOGLE, ACCOUNT),
    "addPermittedAuthMethodScope": lambda t, a: (t, GOOGLE, ACCOUNT, 4),
    "removePermittedAuthMethodScope": lambda t, a: (t, GOOGLE, ACCOUNT, 1),
    "addPermittedAction": lambda t, a: (t, b"cid", [1]),
    "removePermittedAction": lambda t, a: (t, b"known"),
    "addPermittedAddress": lambda t, a: (t, a, [1]),
    "removePermittedAddress": lambda t, a: (t, "0x" + "11" * 20),
    "batchAddRemoveAuthMethods": lambda t, a: (t, [], [], [], [], [GOOGLE], [ACCOUNT]),
    "renounceKey": lambda t, a: (t,),
    "setDelay": lambda t, a: (t, 100),
    "announceTransfer": lambda t, a: (t, a),
    "cancelPendingChange": lambda t, a: (t, 1),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_write_can_be_signed_and_only_by_the_owner_and_only_for_its_own_token(world, token, key, reverts, name):
    execute(world, key, token, "addPermittedAction", token, b"known", [1])
    execute(world, key, token, "addPermittedAddress", token, "0x" + "11" * 20, [1, 6])
    if name in ("announceTransfer", "cancelPendingChange"):
        execute(world, key, token, "setDelay", token, 100)
        execute(world, key, token, "addPermittedAction", token, b"pending", [1])
    arguments = CALLS[name](token, world.user.address)
    with reverts("NotSignedByOwner", token):
        execute(world, world.user, token, name, *arguments)
    # The token that is signed for and the token of the call must be the same.
    stranger = world.mint()
    with reverts("OnlyOwnerOf", token):
        execute(world, world.user, stranger, name, *arguments)
    execute(world, key, token, name, *arguments)


def test_a_delay_binds_signed_calls_too(world, token, key):
    execute(world, key, token, "setDelay", token, 1000)
    execute(world, key, token, "addPermittedAuthMethod", token, (WEBAUTHN, PASSKEY, b""), [1])
    execute(world, key, token, "addPermittedAuthMethodScope", token, GOOGLE, ACCOUNT, 5)
    execute(world, key, token, "setDelay", token, 0)
    assert world.authorisation(token, WEBAUTHN, PASSKEY)[1:3] == (False, 0)
    assert world.authorisation(token, GOOGLE, ACCOUNT)[1:3] == (True, 1 << 1 | 1 << 6)
    assert world.permissions.read("delayOf", token) == 1000
    method, scope, _ = sorted(change.changeId for change in world.permissions.read("getPendingChanges", token))
    execute(world, key, token, "cancelPendingChange", token, method)
    world.chain.advance(1000)
    assert world.authorisation(token, WEBAUTHN, PASSKEY)[1:3] == (False, 0)
    assert world.authorisation(token, GOOGLE, ACCOUNT).scopes == 1 << 1 | 1 << 5 | 1 << 6
    assert scope == method + 1


def test_the_digest_on_chain_is_the_one_that_wallets_compute(world, token):
    call = permit_call(world, token)
    message = {"tokenId": token, "call": call, "nonce": 7, "deadline": 8}
    signable = encode_typed_data(domain(world), TYPES, message)
    expected = keccak(b"\x19\x01" + signable.header + signable.body)
    assert world.permissions.read("permissionCallDigest", token, call, 7, 8) == expected
    told = world.permissions.read("eip712Domain")
    assert (told.name, told.version, told.chainId) == ("Keyquorum PKPPermissions", "1", world.chain.chain_id)
    assert checksum(told.verifyingContract) == world.permissions.address


def test_what_a_view_returns_is_returned(world, token, key):
    call = world.permissions.encode("isPermittedAuthMethod", token, GOOGLE, ACCOUNT)
    nonce = world.permissions.read("nonces", token)
    arguments = (token, call, nonce, LATER, sign(world, key, token, call, nonce))
    assert world.permissions.read("execute", *arguments) == (1).to_bytes(32, "big")


# ------------------------------------------------------------------------------------------------------------ refused


def test_a_signed_call_is_good_once(world, token, key, reverts):
    call, nonce = permit_call(world, token), world.permissions.read("nonces", token)
    arguments = (token, call, nonce, LATER, sign(world, key, token, call, nonce))
    send(world, *arguments)
    with reverts("WrongNonce", nonce, nonce + 1):
        send(world, *arguments)
    assert world.permissions.read("nonces", token) == nonce + 1


def test_a_nonce_that_is_not_the_next_one_is_refused(world, token, key, reverts):
    call, nonce = permit_call(world, token), world.permissions.read("nonces", token)
    assert nonce == 1 << 32
    for wrong in (0, 1, nonce - 1, nonce + 1, 2**256 - 1):
        with reverts("WrongNonce", wrong, nonce):
            send(world, token, call, wrong, LATER, sign(world, key, token, call, wrong))


def test_a_deadline_that_has_passed_is_refused(world, token, key, reverts):
    call, nonce = permit_call(world, token), world.permissions.read("nonces", token)
    past = world.chain.time() - 1
    with reverts("Expired", past):
        send(world, token, call, nonce, past, sign(world, key, token, call, nonce, past))
    soon = past + 3600
    send(world, token, call, nonce, soon, sign(world, key, token, call, nonce, soon))


@pytest.mark.parametrize("field", ["token", "call", "nonce", "deadline", "signature"])
def test_whatever_is_changed_after_signing_is_refused(world, token, key, reverts, field):
    call, nonce = permit_call(world, token), world.permissions.read("nonces", token)
    good = {"token": token, "call": call, "nonce": nonce, "deadline": LATER}
    good["signature"] = sign(world, key, token, call, nonce)
    second = [(GOOGLE, keccak(b"second"), b"", [1], bytes(32))]
    world.helper.send("mintForLogins", second, account=world.third)
    other = {
        "token": token_id(public_key(1001)),
        "call": world.permissions.encode("addPermittedAction", token, b"cid", [1]),
        "nonce": nonce + 1,
        "deadline": LATER + 1,
        "signature": good["signature"][:40] + bytes([good["signature"][40] ^ 1]) + good["signature"][41:],
    }
    if field == "nonce":
        execute(world, key, token, "addPermittedAction", token, b"cid", [1])
    with reverts("NotSignedByOwner"):
        send(world, *(good | {field: other[field]}).values())


def test_the_twin_with_the_high_s_is_refused(world, token, key, reverts):
    call, nonce = permit_call(world, token), world.permissions.read("nonces", token)
    good = sign(world, key, token, call, nonce)
    s = Q - int.from_bytes(good[32:64], "big")
    twin = good[:32] + s.to_bytes(32, "big") + bytes([55 - good[64]])
    for bad in (twin, good[:64], good + b"\0", b"", bytes(65)):
        with reverts("NotSignedByOwner", token):
            send(world, token, call, nonce, LATER, bad)
    send(world, token, call, nonce, LATER, good)


@pytest.mark.parametrize("change", [{"name": "Keyquorum"}, {"version": "2"}, {"chainId": 1}, {"verifyingContract": 0}])
def test_a_signature_for_another_domain_is_refused(world, token, key, reverts, change):
    if "verifyingContract" in change:
        change = {"verifyingContract": world.nft.address}
    call, nonce = permit_call(world, token), world.permissions.read("nonces", token)
    message = {"tokenId": token, "call": call, "nonce": nonce, "deadline": LATER}
    signed = key.sign_message(encode_typed_data(domain(world) | change, TYPES, message))
    with reverts("NotSignedByOwner", token):
        send(world, token, call, nonce, LATER, bytes(signed.signature))


def test_a_personal_message_of_the_same_bytes_is_no_signed_call(world, token, key, reverts):
    call, nonce = permit_call(world, token), world.permissions.read("nonces", token)
    digest = world.permissions.read("permissionCallDigest", token, call, nonce, LATER)
    wrapped = keccak(b"\x19Ethereum Signed Message:\n32" + digest)
    signature = PrivateKey(bytes(key.key)).sign_recoverable(wrapped, hasher=None)
    with reverts("NotSignedByOwner", token):
        send(world, token, call, nonce, LATER, signature[:64] + bytes([27 + signature[64]]))


def test_only_calls_about_grants_can_be_signed(world, token, key, reverts):
    nonce = world.permissions.read("nonces", token)
    inner = permit_call(world, token)
    nested = world.permissions.encode("execute", token, inner, nonce + 1, LATER, sign(world, key, token, inner, nonce))
    with reverts("NotInsideExecute"):
        send(world, token, nested, nonce, LATER, sign(world, key, token, nested, nonce))
    mint = world.permissions.encode("grantAtMint", token, [(WEBAUTHN, PASSKEY, b"")], [[1]])
    with reverts("OnlyWhileMinting", token):
        send(world, token, mint, nonce, LATER, sign(world, key, token, mint, nonce))
    for nothing in (b"", b"\1\2\3\4"):
        with reverts("FailedCall"):
            send(world, token, nothing, nonce, LATER, sign(world, key, token, nothing, nonce))


def test_a_call_that_is_refused_costs_no_nonce_and_says_why(world, token, key, reverts):
    nonce = world.permissions.read("nonces", token)
    with reverts("AlreadyPermitted"):
        execute(world, key, token, "addPermittedAuthMethod", token, (GOOGLE, ACCOUNT, b""), [])
    with reverts("BadScope", 0):
        execute(world, key, token, "addPermittedAuthMethodScope", token, GOOGLE, ACCOUNT, 0)
    assert world.permissions.read("nonces", token) == nonce


def test_the_contract_obeys_itself_in_no_other_way(world, token, reverts):
    """After a signed call nothing is left that would let a later caller pass for the owner."""
    key = Account.from_key((1000).to_bytes(32, "big"))
    execute(world, key, token, "addPermittedAction", token, b"cid", [1])
    for stranger in (world.other, world.third):
        with reverts("OnlyOwnerOf", token):
            world.permissions.send("addPermittedAction", token, b"other", [1], account=stranger)


def init_code_calling(target: str, *calls: bytes) -> bytes:
    """Init code that makes several calls in one transaction and fails if one of them does."""
    failed = 43 * len(calls) + 1
    code, data = b"", b""
    for call in calls:
        length, at = len(call).to_bytes(2, "big"), (failed + 8 + len(data)).to_bytes(2, "big")
        code += b"\x61" + length + b"\x61" + at + b"\x5f\x39"
        code += b"\x5f\x5f\x61" + length + b"\x5f\x5f\x73" + bytes.fromhex(target[2:])
        code += b"\x5a\xf1\x15\x61" + failed.to_bytes(2, "big") + b"\x57"
        data += call
    # The failed call's own error is handed on.
    return code + b"\x00" + bytes.fromhex("5b3d5f5f3e3d5ffd") + data


def test_two_signed_calls_fit_into_one_transaction(world, token, key):
    calls, first = [], world.permissions.read("nonces", token)
    for nonce in (first, first + 1):
        call = world.permissions.encode("addPermittedAction", token, b"cid %d" % nonce, [1])
        signature = sign(world, key, token, call, nonce)
        calls.append(world.permissions.encode("execute", token, call, nonce, LATER, signature))
    world.chain.send(None, init_code_calling(world.permissions.address, *calls), world.other)
    assert len(world.permissions.read("getPermittedActions", token)) == 2


def test_nobody_signs_for_a_key_that_is_not_minted_or_burned(world, token, reverts):
    burned = world.mint()
    world.nft.send("burn", burned, account=world.user)
    for absent in (burned, token_id(public_key(1005)), 0):
        with reverts("OnlyOwnerOf", absent):
            execute(world, world.user, absent, "addPermittedAction", absent, b"cid", [1])


def test_a_change_of_owner_voids_what_was_signed_before_also_when_the_key_comes_back(world, reverts):
    token = world.mint()
    call, nonce = permit_call(world, token), world.permissions.read("nonces", token)
    signature = sign(world, world.user, token, call, nonce)
    for giver, taker in ((world.user, world.other), (world.other, world.user)):
        world.nft.send("transferFrom", giver.address, taker.address, token, account=giver)
    assert world.permissions.read("nonces", token) == 3 << 32
    with reverts("WrongNonce"):
        send(world, token, call, nonce, LATER, signature)


# ---------------------------------------------------------------------------------------------------- contract owners


def test_a_contract_wallet_signs_by_its_own_rules_and_they_are_asked_at_use(world, reverts):
    wallet = wallet_of(world, world.user)
    world.helper.send("mintNextAndTransfer", 2, wallet.address, [], [], [], [], False, account=world.third)
    token = token_id(public_key(1000))
    with reverts("NotSignedByOwner"):
        execute(world, world.third, token, "addPermittedAction", token, b"cid", [1])
    execute(world, world.user, token, "addPermittedAction", token, b"cid", [1])
    assert world.authorisation(token, ACTION, b"cid")[1:3] == (True, 2)
    call, nonce = permit_call(world, token), world.permissions.read("nonces", token)
    signature = sign(world, world.user, token, call, nonce)
    wallet.send("setOwner", world.third.address, account=world.user)
    with reverts("NotSignedByOwner"):
        send(world, token, call, nonce, LATER, signature)


def test_a_key_whose_account_runs_other_code_still_speaks_for_itself(world, token, key, reverts):
    """EIP-7702: code at the account's address says nothing against the account's own key."""
    world.chain.delegate(key, world.puppet().address)
    assert world.chain.code(key.address)[:3] == bytes.fromhex("ef0100")
    execute(world, key, token, "addPermittedAction", token, b"cid", [1])
    with reverts("NotSignedByOwner", token):
        execute(world, world.user, token, "addPermittedAction", token, b"other", [1])


def test_a_contract_that_signs_nothing_signs_nothing_here(world, reverts):
    puppet = world.puppet()
    world.helper.send("mintNextAndTransfer", 2, puppet.address, [], [], [], [], False, account=world.third)
    token = token_id(public_key(1000))
    for signer in (world.user, world.third):
        with reverts("NotSignedByOwner", token):
            execute(world, signer, token, "addPermittedAction", token, b"cid", [1])
