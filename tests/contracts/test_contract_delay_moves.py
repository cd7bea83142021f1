"""A key with a delay changes hands only as announced, after the wait; and the delay ends with the ownership."""

from __future__ import annotations

import pytest
from delays import (
    ACCOUNT,
    DAY,
    TRANSFER,
    WEEK,
    ZERO_ADDRESS,
    act,
    delayed_key,
    granted,
    move,
    only,
    pending,
    until,
)
from world import ACTION, GOOGLE, World

from keyquorum.evm.address import checksum


@pytest.fixture
def token(world: World) -> int:
    return delayed_key(world)


def test_a_key_with_a_delay_goes_only_to_whom_it_was_announced_and_after_the_wait(world, token, reverts):
    other = world.other.address
    with reverts("TransferNotAnnounced", token, other.lower()):
        move(world, token, other)
    act(world, "announceTransfer", token, other)
    change = only(world, token)
    assert (change.kind, checksum(change.to)) == (TRANSFER, other)
    assert world.permissions.read("pendingTransfer", token) == (other.lower(), change.activeAt, change.activeAt + WEEK)
    with reverts("TransferNotAnnounced"):
        move(world, token, other)
    until(world, change.activeAt)
    for stranger in (world.third.address, world.user.address):
        with reverts("TransferNotAnnounced"):
            move(world, token, stranger)
    with reverts("TransferNotAnnounced", token, ZERO_ADDRESS):
        world.nft.send("burn", token, account=world.user)
    move(world, token, other)
    assert checksum(world.nft.read("ownerOf", token)) == other


def test_a_transfer_voids_the_delay_and_all_that_waits(world, token):
    world.permit(token, GOOGLE, ACCOUNT, [1])
    act(world, "announceTransfer", token, world.other.address)
    until(world, max(change.activeAt for change in pending(world, token).values()))
    act(world, "addPermittedAction", token, b"cid", [1])
    move(world, token, world.other.address)
    assert world.permissions.read("delayOf", token) == 0
    assert pending(world, token) == {}
    assert world.permissions.read("getPermittedAuthMethods", token) == []
    world.chain.advance(DAY)
    assert world.permissions.read("getPermittedAuthMethods", token) == []
    world.permit(token, ACTION, b"cid", [1], account=world.other)
    assert granted(world, token, ACTION, b"cid") == (True, 2)


def test_sending_a_key_to_its_own_owner_is_a_transfer_like_any_other(world, token, reverts):
    """It would void the delay: whoever could do it at once would have no delay to wait for."""
    with reverts("TransferNotAnnounced"):
        move(world, token, world.user.address)
    act(world, "announceTransfer", token, world.user.address)
    world.chain.advance(DAY)
    move(world, token, world.user.address)
    assert world.permissions.read("delayOf", token) == 0


def test_operators_are_bound_by_the_announcement_too(world, token, reverts):
    world.nft.send("approve", world.other.address, token, account=world.user)
    world.nft.send("setApprovalForAll", world.third.address, True, account=world.user)
    for operator in (world.other, world.third):
        with reverts("TransferNotAnnounced"):
            arguments = (world.user.address, operator.address, token)
            world.nft.send("safeTransferFrom(address,address,uint256)", *arguments, account=operator)
    act(world, "announceTransfer", token, world.other.address)
    world.chain.advance(DAY)
    world.nft.send("transferFrom", world.user.address, world.other.address, token, account=world.third)
    assert checksum(world.nft.read("ownerOf", token)) == world.other.address


def test_burning_must_be_announced_as_going_to_nobody(world, token, reverts):
    act(world, "announceTransfer", token, ZERO_ADDRESS)
    with reverts("TransferNotAnnounced", token, ZERO_ADDRESS):
        world.nft.send("burn", token, account=world.user)
    world.chain.advance(DAY)
    world.nft.send("burn", token, account=world.user)
    assert world.nft.read("exists", token) is False


def test_an_announced_transfer_lapses_after_a_week(world, token, reverts):
    act(world, "announceTransfer", token, world.other.address)
    last = world.permissions.read("pendingTransfer", token).until
    until(world, last)
    assert world.permissions.read("pendingTransfer", token).until == last
    world.chain.advance(1)
    assert world.permissions.read("pendingTransfer", token) == (ZERO_ADDRESS, 0, 0)
    assert pending(world, token) == {}
    with reverts("TransferNotAnnounced"):
        move(world, token, world.other.address)


def test_announcing_again_replaces_the_receiver_and_waits_from_the_start(world, token, reverts):
    act(world, "announceTransfer", token, world.other.address)
    world.chain.advance(DAY)
    act(world, "announceTransfer", token, world.third.address)
    for receiver in (world.other, world.third):
        with reverts("TransferNotAnnounced"):
            move(world, token, receiver.address)
    world.chain.advance(DAY)
    with reverts("TransferNotAnnounced"):
        move(world, token, world.other.address)
    move(world, token, world.third.address)


def test_an_announced_transfer_can_be_withdrawn_also_when_it_may_be_made(world, token, reverts):
    act(world, "announceTransfer", token, world.other.address)
    number = only(world, token).changeId
    world.chain.advance(DAY)
    assert list(pending(world, token)) == [number]
    act(world, "cancelPendingChange", token, number)
    with reverts("TransferNotAnnounced"):
        move(world, token, world.other.address)


def test_a_delay_lowered_to_nothing_frees_the_key(world, token):
    act(world, "setDelay", token, 0)
    world.chain.advance(DAY)
    move(world, token, world.other.address)
    assert checksum(world.nft.read("ownerOf", token)) == world.other.address


def test_a_delay_binds_no_other_key(world, token):
    other = world.mint()
    world.permit(other, GOOGLE, ACCOUNT, [1])
    assert granted(world, other, GOOGLE, ACCOUNT) == (True, 2)
    move(world, other, world.other.address)


def test_the_former_owners_announcement_is_no_use_to_him_when_the_key_comes_back(world, token, reverts):
    act(world, "announceTransfer", token, world.other.address)
    world.chain.advance(DAY)
    move(world, token, world.other.address)
    world.nft.send("transferFrom", world.other.address, world.user.address, token, account=world.other)
    act(world, "setDelay", token, DAY)
    with reverts("TransferNotAnnounced"):
        move(world, token, world.other.address)
