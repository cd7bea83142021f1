"""A key's own delay: what loosens waits, is visible and can be withdrawn; what tightens counts at once."""

from __future__ import annotations

import pytest
from delays import (
    ACCOUNT,
    ADD_METHOD,
    ADD_SCOPE,
    COSE,
    DAY,
    LOWER_DELAY,
    MONTH,
    PASSKEY,
    TRANSFER,
    ZERO_ADDRESS,
    act,
    delayed_key,
    granted,
    move,
    only,
    pending,
    until,
)
from world import ACTION, ADDRESS, GOOGLE, WEBAUTHN, World, address_id

from keyquorum.evm.address import checksum


@pytest.fixture
def token(world: World) -> int:
    return delayed_key(world)


# --------------------------------------------------------------------------------------------------------- no delay


def test_a_key_has_no_delay_unless_one_is_set(world):
    token = world.mint()
    assert world.permissions.read("delayOf", token) == 0
    world.permit(token, GOOGLE, ACCOUNT, [1])
    assert granted(world, token, GOOGLE, ACCOUNT) == (True, 2)
    assert pending(world, token) == {}


def test_without_a_delay_there_is_nothing_to_announce_and_a_transfer_is_free(world, reverts):
    token = world.mint()
    with reverts("NothingToWaitFor"):
        act(world, "announceTransfer", token, world.other.address)
    move(world, token, world.other.address)


def test_a_delay_of_more_than_thirty_days_is_refused(world, reverts):
    token = world.mint()
    for delay in (MONTH + 1, 2**64, 2**256 - 1):
        with reverts("DelayTooLong", delay):
            act(world, "setDelay", token, delay)
    act(world, "setDelay", token, MONTH)
    assert world.permissions.read("delayOf", token) == MONTH


# --------------------------------------------------------------------------------------------------- adding a method


def test_an_added_method_counts_from_the_very_second_its_wait_ends(world, token):
    receipt = world.permit(token, GOOGLE, ACCOUNT, [1, 6])
    active_at = world.chain.time() + DAY
    change = only(world, token)
    assert (change.kind, change.activeAt, change.authMethodType) == (ADD_METHOD, active_at, GOOGLE)
    assert (change.id, change.userPubkey, change.scopes) == (ACCOUNT, b"", 1 << 1 | 1 << 6)
    events = world.permissions.events(receipt)
    assert [event["event"] for event in events] == [
        "PermittedAuthMethodAdded",
        "PermittedAuthMethodScopeAdded",
        "PermittedAuthMethodScopeAdded",
        "ChangeAnnounced",
    ]
    method_id = world.permissions.read("getAuthMethodId", GOOGLE, ACCOUNT)
    assert events[-1]["args"] == {
        "tokenId": token,
        "changeId": change.changeId,
        "kind": ADD_METHOD,
        "subject": method_id,
        "activeAt": active_at,
    }
    until(world, active_at - 1)
    assert granted(world, token, GOOGLE, ACCOUNT) == (False, 0)
    until(world, active_at)
    assert granted(world, token, GOOGLE, ACCOUNT) == (True, 1 << 1 | 1 << 6)
    assert pending(world, token) == {}


def test_no_view_shows_a_method_that_waits(world, token):
    world.permit(token, GOOGLE, ACCOUNT, [1], b"key")
    act(world, "addPermittedAction", token, b"cid", [1])
    act(world, "addPermittedAddress", token, world.third.address, [1])
    read = world.permissions.read
    third = address_id(world.third)
    assert read("getPermittedAuthMethods", token) == [(WEBAUTHN, PASSKEY, COSE)]
    assert read("getPermittedActions", token) == []
    assert [checksum(one) for one in read("getPermittedAddresses", token)] == [world.user.address]
    assert read("isPermittedAction", token, b"cid") is False
    assert read("isPermittedAddress", token, world.third.address) is False
    for kind, identity in ((GOOGLE, ACCOUNT), (ACTION, b"cid"), (ADDRESS, third)):
        assert granted(world, token, kind, identity) == (False, 0)
        assert read("isPermittedAuthMethod", token, kind, identity) is False
        assert read("isPermittedAuthMethodScopePresent", token, kind, identity, 1) is False
        assert read("getPermittedAuthMethodScopes", token, kind, identity, 3) == [False] * 3
        assert read("getTokenIdsForAuthMethod", kind, identity) == []
        assert read("getPKPPubKeysByAuthMethod", kind, identity) == []
        assert read("getUserPubkeyForAuthMethod", token, kind, identity) == b""
    world.chain.advance(DAY)
    assert len(read("getPermittedAuthMethods", token)) == 4
    assert read("getPermittedActions", token) == [b"cid"]
    assert read("isPermittedAddress", token, world.third.address) is True
    assert read("getTokenIdsForAuthMethod", GOOGLE, ACCOUNT) == [token]
    assert read("getUserPubkeyForAuthMethod", token, GOOGLE, ACCOUNT) == b"key"


def test_a_method_that_waits_cannot_be_added_again_to_end_its_wait_sooner(world, token, reverts):
    world.permit(token, GOOGLE, ACCOUNT, [1])
    with reverts("AlreadyPermitted"):
        world.permit(token, GOOGLE, ACCOUNT, [1])


def test_removing_a_method_that_waits_withdraws_its_announcements(world, token):
    world.permit(token, GOOGLE, ACCOUNT, [1])
    act(world, "addPermittedAuthMethodScope", token, GOOGLE, ACCOUNT, 4)
    assert len(pending(world, token)) == 2
    receipt = act(world, "removePermittedAuthMethod", token, GOOGLE, ACCOUNT)
    names = [event["event"] for event in world.permissions.events(receipt)]
    assert names == ["PermittedAuthMethodRemoved", "ChangeCancelled", "ChangeCancelled"]
    assert pending(world, token) == {}
    world.chain.advance(DAY)
    assert granted(world, token, GOOGLE, ACCOUNT) == (False, 0)


def test_a_method_removed_and_added_again_waits_from_the_start(world, token):
    world.permit(token, GOOGLE, ACCOUNT, [1])
    world.chain.advance(DAY - 100)
    act(world, "removePermittedAuthMethod", token, GOOGLE, ACCOUNT)
    world.permit(token, GOOGLE, ACCOUNT, [1])
    world.chain.advance(DAY - 100)
    assert granted(world, token, GOOGLE, ACCOUNT) == (False, 0)
    world.chain.advance(100)
    assert granted(world, token, GOOGLE, ACCOUNT) == (True, 2)


def test_removing_an_active_method_counts_at_once_and_bringing_it_back_waits(world, token):
    act(world, "removePermittedAuthMethod", token, WEBAUTHN, PASSKEY)
    assert granted(world, token, WEBAUTHN, PASSKEY) == (False, 0)
    world.permit(token, WEBAUTHN, PASSKEY, [1], COSE)
    assert granted(world, token, WEBAUTHN, PASSKEY) == (False, 0)
    world.chain.advance(DAY)
    assert granted(world, token, WEBAUTHN, PASSKEY) == (True, 2)


def test_a_batch_waits_as_single_changes_do(world, token):
    arguments = [[GOOGLE, ACTION], [ACCOUNT, b"cid"], [b"", b""], [[1], [5]], [WEBAUTHN], [PASSKEY]]
    act(world, "batchAddRemoveAuthMethods", token, *arguments)
    assert world.permissions.read("getPermittedAuthMethods", token) == []
    assert {change.kind for change in pending(world, token).values()} == {ADD_METHOD}
    world.chain.advance(DAY)
    assert granted(world, token, GOOGLE, ACCOUNT) == (True, 2)
    assert granted(world, token, ACTION, b"cid") == (True, 32)


# ------------------------------------------------------------------------------------------------------------ scopes


def test_an_added_scope_waits_and_the_others_stay(world, token):
    act(world, "addPermittedAuthMethodScope", token, WEBAUTHN, PASSKEY, 6)
    change = only(world, token)
    assert (change.kind, change.authMethodType, change.id) == (ADD_SCOPE, WEBAUTHN, PASSKEY)
    assert change.scopes == 1 << 6
    assert granted(world, token, WEBAUTHN, PASSKEY) == (True, 2)
    assert world.permissions.read("getPermittedAuthMethodScopes", token, WEBAUTHN, PASSKEY, 8)[6] is False
    until(world, change.activeAt)
    assert granted(world, token, WEBAUTHN, PASSKEY) == (True, 2 | 1 << 6)


def test_asking_again_for_a_scope_that_waits_changes_nothing(world, token):
    act(world, "addPermittedAuthMethodScope", token, WEBAUTHN, PASSKEY, 6)
    before = pending(world, token)
    receipt = act(world, "addPermittedAuthMethodScope", token, WEBAUTHN, PASSKEY, 6)
    assert world.permissions.events(receipt) == []
    assert pending(world, token) == before


def test_removing_a_scope_counts_at_once_and_withdraws_it_if_it_waits(world, token):
    act(world, "removePermittedAuthMethodScope", token, WEBAUTHN, PASSKEY, 1)
    assert granted(world, token, WEBAUTHN, PASSKEY) == (True, 0)
    for scope in (1, 6):
        act(world, "addPermittedAuthMethodScope", token, WEBAUTHN, PASSKEY, scope)
    act(world, "removePermittedAuthMethodScope", token, WEBAUTHN, PASSKEY, 6)
    assert only(world, token).scopes == 2
    world.chain.advance(DAY)
    assert granted(world, token, WEBAUTHN, PASSKEY) == (True, 2)


def test_a_scope_added_to_a_method_that_waits_needs_both_waits(world, token):
    world.permit(token, GOOGLE, ACCOUNT, [1])
    world.chain.advance(DAY // 2)
    act(world, "addPermittedAuthMethodScope", token, GOOGLE, ACCOUNT, 6)
    world.chain.advance(DAY // 2)
    assert granted(world, token, GOOGLE, ACCOUNT) == (True, 2)
    world.chain.advance(DAY // 2)
    assert granted(world, token, GOOGLE, ACCOUNT) == (True, 2 | 1 << 6)


def test_a_scope_that_waits_does_not_outlive_its_method(world, token):
    """Else a scope announced for a method long ago would be there at once on the same method, permitted anew."""
    act(world, "addPermittedAuthMethodScope", token, WEBAUTHN, PASSKEY, 6)
    act(world, "removePermittedAuthMethod", token, WEBAUTHN, PASSKEY)
    world.permit(token, WEBAUTHN, PASSKEY, [])
    world.chain.advance(DAY)
    assert granted(world, token, WEBAUTHN, PASSKEY) == (True, 0)


# -------------------------------------------------------------------------------------------------------- the delay


def test_raising_counts_at_once_and_lowering_waits_the_old_delay(world, token):
    receipt = act(world, "setDelay", token, 2 * DAY)
    (raised,) = world.permissions.events(receipt)
    assert (raised["event"], raised["args"]) == ("DelayRaised", {"tokenId": token, "delay": 2 * DAY})
    assert world.permissions.read("delayOf", token) == 2 * DAY
    act(world, "setDelay", token, 60)
    change = only(world, token)
    assert (change.kind, change.delay) == (LOWER_DELAY, 60)
    until(world, change.activeAt - 1)
    assert world.permissions.read("delayOf", token) == 2 * DAY
    until(world, change.activeAt)
    assert world.permissions.read("delayOf", token) == 60
    world.permit(token, GOOGLE, ACCOUNT, [1])
    assert only(world, token).activeAt == world.chain.time() + 60


def test_lowering_again_replaces_the_announcement_and_waits_from_the_start(world, token):
    act(world, "setDelay", token, 100)
    first = only(world, token)
    world.chain.advance(DAY // 2)
    receipt = act(world, "setDelay", token, 50)
    names = [event["event"] for event in world.permissions.events(receipt)]
    assert names == ["ChangeCancelled", "ChangeAnnounced"]
    second = only(world, token)
    assert second.delay == 50
    assert second.activeAt == world.chain.time() + DAY
    until(world, first.activeAt)
    assert world.permissions.read("delayOf", token) == DAY


@pytest.mark.parametrize("delay", [DAY, 2 * DAY])
def test_keeping_or_raising_the_delay_withdraws_an_announced_lowering(world, token, delay):
    act(world, "setDelay", token, 0)
    act(world, "setDelay", token, delay)
    assert pending(world, token) == {}
    world.chain.advance(DAY)
    assert world.permissions.read("delayOf", token) == delay


def test_what_was_announced_under_the_longer_delay_waits_it_out(world, token):
    act(world, "setDelay", token, 0)
    world.chain.advance(DAY // 2)
    world.permit(token, GOOGLE, ACCOUNT, [1])
    world.chain.advance(DAY // 2)
    assert world.permissions.read("delayOf", token) == 0
    assert granted(world, token, GOOGLE, ACCOUNT) == (False, 0)
    act(world, "addPermittedAuthMethodScope", token, GOOGLE, ACCOUNT, 6)
    assert granted(world, token, GOOGLE, ACCOUNT) == (False, 0)
    world.chain.advance(DAY // 2)
    assert granted(world, token, GOOGLE, ACCOUNT) == (True, 2 | 1 << 6)


def test_raising_the_delay_does_not_put_off_what_waits_already(world, token):
    world.permit(token, GOOGLE, ACCOUNT, [1])
    active_at = only(world, token).activeAt
    act(world, "setDelay", token, MONTH)
    until(world, active_at)
    assert granted(world, token, GOOGLE, ACCOUNT) == (True, 2)


# ------------------------------------------------------------------------------------------------------- withdrawing


def test_every_kind_of_announcement_can_be_withdrawn(world, token):
    world.permit(token, GOOGLE, ACCOUNT, [1])
    act(world, "addPermittedAuthMethodScope", token, WEBAUTHN, PASSKEY, 6)
    act(world, "setDelay", token, 0)
    act(world, "announceTransfer", token, world.other.address)
    announced = pending(world, token)
    assert sorted(change.kind for change in announced.values()) == [ADD_METHOD, ADD_SCOPE, LOWER_DELAY, TRANSFER]
    for number in announced:
        receipt = act(world, "cancelPendingChange", token, number)
        cancelled = [e["args"] for e in world.permissions.events(receipt) if e["event"] == "ChangeCancelled"]
        assert cancelled == [{"tokenId": token, "changeId": number}]
    assert pending(world, token) == {}
    world.chain.advance(DAY)
    assert granted(world, token, GOOGLE, ACCOUNT) == (False, 0)
    assert granted(world, token, WEBAUTHN, PASSKEY) == (True, 2)
    assert world.permissions.read("delayOf", token) == DAY
    assert world.permissions.read("pendingTransfer", token) == (ZERO_ADDRESS, 0, 0)


def test_withdrawing_a_method_logs_its_removal_so_that_indexes_stay_right(world, token):
    world.permit(token, GOOGLE, ACCOUNT, [1])
    receipt = act(world, "cancelPendingChange", token, only(world, token).changeId)
    assert [event["event"] for event in world.permissions.events(receipt)] == [
        "PermittedAuthMethodRemoved",
        "ChangeCancelled",
    ]


def test_nothing_is_withdrawn_twice_or_after_it_counts_or_under_a_number_never_given(world, token, reverts):
    world.permit(token, GOOGLE, ACCOUNT, [1])
    number = only(world, token).changeId
    world.permit(token, ACTION, b"cid", [1])
    act(world, "cancelPendingChange", token, number)
    late = only(world, token).changeId
    world.chain.advance(DAY)
    for absent in (0, number, late, late + 1, 2**256 - 1):
        with reverts("NotPending", absent):
            act(world, "cancelPendingChange", token, absent)
    assert granted(world, token, ACTION, b"cid") == (True, 2)


def test_at_most_sixty_four_changes_wait_and_taking_away_works_when_the_list_is_full(world, token, reverts):
    ids = [bytes([number]) * 32 for number in range(64)]
    for at in range(0, 64, 16):
        some = ids[at : at + 16]
        act(world, "batchAddRemoveAuthMethods", token, [GOOGLE] * 16, some, [b""] * 16, [[1]] * 16, [], [])
    assert len(pending(world, token)) == 64
    for call in (
        ("addPermittedAction", token, b"cid", [1]),
        ("addPermittedAuthMethodScope", token, WEBAUTHN, PASSKEY, 6),
        ("setDelay", token, 0),
        ("announceTransfer", token, world.other.address),
    ):
        with reverts("TooManyPendingChanges"):
            act(world, *call)
    act(world, "setDelay", token, 2 * DAY)
    act(world, "removePermittedAuthMethod", token, WEBAUTHN, PASSKEY)
    act(world, "cancelPendingChange", token, min(pending(world, token)))
    act(world, "addPermittedAction", token, b"cid", [1])
    with reverts("TooManyPendingChanges"):
        act(world, "setDelay", token, 0)
    world.chain.advance(DAY)
    # All but the newest count now, and give their places back.
    act(world, "setDelay", token, 0)
    assert len(pending(world, token)) == 2
    assert len(world.permissions.read("getPermittedAuthMethods", token)) == 63
