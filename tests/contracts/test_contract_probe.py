"""Asking a wallet whether it signed, deployed or not (ERC-1271, ERC-6492), by a call that deploys nothing."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from world import Bound, World, helper_init_code, sign_digest

from keyquorum.auth.probe_code import PROBE_CODE
from keyquorum.evm.address import checksum

YES, NO = bytes.fromhex("1626ba7e") + bytes(28), bytes(32)
DIGEST, SALT = keccak(b"challenge"), keccak(b"salt")
NOWHERE = "0x" + "00" * 20


@pytest.fixture
def factory(world: World) -> Bound:
    return world.artifact("TestWalletFactory")


def ask(world: World, signer: str, signature: bytes, factory: str = NOWHERE, call: bytes = b"", digest: bytes = DIGEST):
    arguments = encode(("address", "bytes32", "address", "bytes", "bytes"), (signer, digest, factory, call, signature))
    return world.chain.call(None, PROBE_CODE + arguments)


def sign(account: LocalAccount, digest: bytes = DIGEST) -> bytes:
    return sign_digest(int.from_bytes(bytes(account.key), "big"), digest)


def future(factory: Bound, owner: LocalAccount) -> tuple[str, dict[str, Any]]:
    """The address of a wallet that is not there yet, and how to make it."""
    address = checksum(factory.read("addressOf", owner.address, SALT))
    return address, {"factory": factory.address, "call": factory.encode("deploy", owner.address, SALT)}


def test_a_wallet_that_is_not_deployed_signs_and_still_is_not_deployed(world, factory):
    wallet, deployment = future(factory, world.user)
    assert ask(world, wallet, sign(world.user), **deployment) == YES
    assert world.chain.code(wallet) == b""


def test_whoever_does_not_own_a_wallet_does_not_sign_for_it(world, factory):
    wallet, deployment = future(factory, world.user)
    assert ask(world, wallet, sign(world.other), **deployment) == NO
    assert ask(world, wallet, sign(world.user, keccak(b"other")), **deployment) == NO
    assert ask(world, wallet, sign(world.user), digest=keccak(b"other"), **deployment) == NO
    assert ask(world, wallet, b"", **deployment) == NO


def test_without_its_factory_a_wallet_that_is_not_deployed_signs_nothing(world, factory):
    wallet, deployment = future(factory, world.user)
    assert ask(world, wallet, sign(world.user)) == NO
    assert ask(world, wallet, sign(world.user), factory=deployment["factory"]) == NO
    assert ask(world, wallet, sign(world.user), factory=world.other.address, call=deployment["call"]) == NO
    assert ask(world, wallet, sign(world.user), factory=world.nft.address, call=deployment["call"]) == NO


def test_a_factory_that_makes_another_wallet_does_not_help(world, factory):
    """The attacker's own wallet says yes; the one that was claimed is still not there."""
    victim, _ = future(factory, world.user)
    _, attack = future(factory, world.other)
    assert ask(world, victim, sign(world.other), **attack) == NO


def test_a_deployed_wallet_is_asked_as_it_is_now(world, factory):
    address, deployment = future(factory, world.user)
    factory.send("deploy", world.user.address, SALT)
    wallet = Bound(world.chain, address, world.abi("TestWallet"))
    assert ask(world, address, sign(world.user)) == YES
    assert ask(world, address, sign(world.user), **deployment) == YES
    wallet.send("setOwner", world.other.address, account=world.user)
    assert ask(world, address, sign(world.user), **deployment) == NO
    assert ask(world, address, sign(world.other)) == YES


def test_the_factory_of_a_deployed_wallet_is_not_called(world, factory):
    """Else a signature could come with a call that makes the wallet accept it."""
    puppet = world.puppet()
    wallet = Bound(
        world.chain, world.chain.deploy(helper_init_code("TestWallet", puppet.address)), world.abi("TestWallet")
    )
    take = world.abi("TestWallet").encode("setOwner", world.other.address)
    call = puppet.encode("execute", wallet.address, 0, take)
    assert ask(world, wallet.address, sign(world.other), factory=puppet.address, call=call) == NO


def test_an_account_without_code_and_a_contract_that_signs_nothing_say_no(world):
    for signer in (world.user.address, world.puppet().address, world.nft.address, NOWHERE):
        assert ask(world, signer, sign(world.user)) == NO


def init_code_returning(code: str) -> bytes:
    """Init code that deploys `code`."""
    size = len(code) // 2
    return bytes.fromhex(f"60{size:02x}600c60003960{size:02x}6000f3{code}")


RETURNS = {
    "31 bytes": "631626ba7e60e01b600052601f6000f3",
    "the value in the wrong place": "631626ba7e60005260206000f3",
    "the value and something after it": "631626ba7e60e01b6001176000526020" + "6000f3",
    "nothing": "00",
    "a revert with the value": "631626ba7e60e01b60005260206000fd",
    "invalid": "fe",
    "one, for true": "600160005260206000f3",
}


@pytest.mark.parametrize("answer", RETURNS)
def test_only_the_magic_value_is_a_yes(world, answer):
    wallet = world.chain.deploy(init_code_returning(RETURNS[answer]))
    assert world.chain.code(wallet) == bytes.fromhex(RETURNS[answer])
    assert ask(world, wallet, b"") == NO


def test_a_wallet_may_return_more_than_the_value_and_even_a_lot(world):
    for give in ("60206000f3", "620100006000f3"):
        wallet = world.chain.deploy(init_code_returning("631626ba7e60e01b600052" + give))
        assert ask(world, wallet, b"") == YES


def test_a_wallet_cannot_change_anything_while_it_is_asked(world):
    # SSTORE(0, 1), then the magic value: a static call must fail.
    wallet = world.chain.deploy(init_code_returning("6001600055631626ba7e60e01b60005260206000f3"))
    assert ask(world, wallet, b"") == NO
