"""Permissions: authority that holds at both blocks, narrowed by the certificate, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from keyquorum.auth.method import Proven
from keyquorum.auth.permission import Decision, KeyState, decide, decide_member
from keyquorum.auth.scopes import Scope, covers, from_bitmap

KEY, OTHER_KEY = "0x" + "ab" * 32, "0x" + "ac" * 32
ME, SOMEBODY = b"\x01" * 20, b"\x02" * 20
ALL = tuple(map(int, Scope))


def bits(*scopes: int) -> int:
    return sum(1 << scope for scope in scopes)


def granted(*scopes: int, to: tuple[int, bytes] = (1, ME), epoch: int = 0) -> KeyState:
    return KeyState(SOMEBODY, {to: bits(*scopes)}, epoch)


OWNED, FOREIGN, ABSENT = KeyState(ME), KeyState(SOMEBODY), KeyState(None)


def ask(
    world: Any,
    finalised: KeyState,
    newest: KeyState,
    needed: Scope = Scope.SIGN_TRANSACTION,
    scopes: tuple[int, ...] = ALL,
    keys: tuple[str, ...] = ("*",),
    methods: tuple[Proven, ...] = (Proven(1, ME),),
) -> Decision:
    certificate = replace(world.certificate(), scopes=scopes, keys=keys, methods=methods)
    return decide(certificate, needed, KEY, finalised, newest)


def test_the_owner_may_do_everything_but_sign_raw_digests(world: Any) -> None:
    allowed = {scope for scope in Scope if ask(world, OWNED, OWNED, scope).allowed}
    assert allowed == set(Scope) - {Scope.SIGN_RAW_DIGEST}
    decision = ask(world, OWNED, OWNED, Scope.SIGN_RAW_DIGEST)
    assert decision.code == "raw_digest_not_granted" and "scope 5" in decision.message


def test_an_owner_who_grants_himself_raw_digests_may_sign_them(world: Any) -> None:
    opted_in = KeyState(ME, {(1, ME): bits(5)})
    assert ask(world, opted_in, opted_in, Scope.SIGN_RAW_DIGEST).allowed
    assert ask(world, opted_in, opted_in, Scope.SIGN_TRANSACTION).allowed
    assert not ask(world, OWNED, opted_in, Scope.SIGN_RAW_DIGEST).allowed
    assert not ask(world, opted_in, OWNED, Scope.SIGN_RAW_DIGEST).allowed


@pytest.mark.parametrize(
    ("grant", "allows"),
    [
        ((), set()),
        ((1,), {1, 2, 3, 4}),
        ((2,), {2}),
        ((3,), {3}),
        ((4,), {4}),
        ((5,), {5}),
        ((6,), {6}),
        ((2, 3), {2, 3}),
        ((1, 5), {1, 2, 3, 4, 5}),
        ((7,), {7}),
        ((8,), {8}),
        ((0, 9, 31, 255), set()),
    ],
)
def test_a_grant_allows_its_scopes_and_anything_implies_three_kinds(
    world: Any, grant: tuple[int, ...], allows: set[int]
) -> None:
    state = granted(*grant)
    assert {int(scope) for scope in Scope if ask(world, state, state, scope).allowed} == allows


@pytest.mark.parametrize(
    ("scopes", "allows"),
    [((1,), {1, 2, 3, 4}), ((2,), {2}), ((5,), set()), ((6,), {6}), ((2, 4), {2, 4}), (ALL, {1, 2, 3, 4, 6, 7, 8})],
)
def test_the_certificate_narrows_what_the_owner_may_do(world: Any, scopes: tuple[int, ...], allows: set[int]) -> None:
    assert {int(one) for one in Scope if ask(world, OWNED, OWNED, one, scopes=scopes).allowed} == allows
    if 3 not in allows:
        assert ask(world, OWNED, OWNED, scopes=scopes).code == "scope_not_in_session"


def test_the_certificate_never_widens_a_grant(world: Any) -> None:
    state = granted(2)
    assert not ask(world, state, state, Scope.SIGN_TRANSACTION, scopes=ALL).allowed


def test_a_session_without_scopes_may_only_identify(world: Any) -> None:
    for scope in Scope:
        assert ask(world, OWNED, OWNED, scope, scopes=()).code == "identify_only"


def test_a_session_for_other_keys_may_not_use_this_one(world: Any) -> None:
    assert ask(world, OWNED, OWNED, keys=(OTHER_KEY,)).code == "key_not_in_session"
    assert ask(world, OWNED, OWNED, keys=(OTHER_KEY, KEY)).allowed
    assert ask(world, OWNED, OWNED, keys=("*",)).allowed


def test_a_session_for_every_key_is_only_for_those_its_methods_control(world: Any) -> None:
    assert ask(world, FOREIGN, FOREIGN, keys=("*",)).code == "not_permitted"


@pytest.mark.parametrize(
    ("finalised", "newest", "code"),
    [
        (OWNED, OWNED, "allowed"),
        (granted(3), granted(3), "allowed"),
        # granted, minted or bought a moment ago: wait
        (FOREIGN, granted(3), "not_final"),
        (FOREIGN, OWNED, "not_final"),
        (ABSENT, OWNED, "key_unknown"),
        (granted(2), granted(2, 3), "not_final"),
        # revoked, sold or burnt a moment ago: at once
        (granted(3), FOREIGN, "revoked"),
        (granted(3), granted(2), "revoked"),
        (OWNED, FOREIGN, "revoked"),
        (OWNED, ABSENT, "key_unknown"),
        (FOREIGN, FOREIGN, "not_permitted"),
        (ABSENT, ABSENT, "key_unknown"),
    ],
)
def test_grants_wait_until_they_are_final_and_revocations_do_not(
    world: Any, finalised: KeyState, newest: KeyState, code: str
) -> None:
    decision = ask(world, finalised, newest)
    assert decision.code == code and decision.allowed == (code == "allowed")


def test_the_old_owner_is_out_at_first_sight_and_the_new_one_is_in_when_it_is_final(world: Any) -> None:
    before, after = KeyState(ME, grant_epoch=1), KeyState(SOMEBODY, grant_epoch=2)
    old, new = (Proven(1, ME),), (Proven(1, SOMEBODY),)
    assert ask(world, before, before, methods=old).allowed
    assert ask(world, before, after, methods=old).code == "revoked"
    assert ask(world, before, after, methods=new).code == "not_final"
    assert ask(world, after, after, methods=new).allowed
    assert not ask(world, after, after, methods=old).allowed


def test_no_grant_spans_a_change_of_hands(world: Any) -> None:
    for finalised, newest in (
        (granted(3, epoch=1), granted(3, epoch=2)),
        (KeyState(ME, {}, 1), granted(3, epoch=2)),
        (granted(3, epoch=1), KeyState(ME, {}, 2)),
    ):
        assert not ask(world, finalised, newest).allowed
    # away and back again: he owns it at both blocks, but what he had granted is void
    away_and_back = KeyState(ME, {(1, ME): bits(5)}, 1), KeyState(ME, {(1, ME): bits(5)}, 3)
    assert ask(world, *away_and_back).allowed
    assert not ask(world, *away_and_back, Scope.SIGN_RAW_DIGEST).allowed


def test_only_the_address_method_can_be_the_owner(world: Any) -> None:
    assert not ask(world, OWNED, OWNED, methods=(Proven(2, ME),)).allowed
    state = granted(3, to=(2, ME))
    assert ask(world, state, state, methods=(Proven(2, ME),)).allowed
    assert not ask(world, state, state, methods=(Proven(1, ME),)).allowed


def test_one_of_several_identities_is_enough_but_the_same_at_both_blocks(world: Any) -> None:
    mine, other = Proven(1, ME), Proven(6, b"\x09" * 32)
    by_other = granted(3, to=(6, b"\x09" * 32))
    assert ask(world, by_other, by_other, methods=(mine, other)).require() == other
    decision = ask(world, granted(3), by_other, methods=(mine, other))
    assert not decision.allowed


def test_a_refusal_is_an_error_with_status_403(world: Any, refused: Callable[..., Any]) -> None:
    assert ask(world, OWNED, OWNED).require() == Proven(1, ME)
    with refused("not_permitted", 403):
        ask(world, FOREIGN, FOREIGN).require()


def test_what_is_no_token_id_is_the_callers_mistake(world: Any) -> None:
    for key in ("*", "0x12", KEY.upper()):
        with pytest.raises(ValueError, match="token id"):
            decide(world.certificate(), Scope.SIGN_TRANSACTION, key, OWNED, OWNED)


def test_an_owner_has_20_bytes() -> None:
    with pytest.raises(ValueError, match="20 bytes"):
        KeyState(b"\x01" * 32)


def test_bits_without_a_meaning_allow_nothing() -> None:
    assert from_bitmap(2**256 - 1) == set(Scope)
    assert from_bitmap(1 | 1 << 9 | 1 << 255) == set()
    assert not covers({0, 9}, Scope.SIGN_ANYTHING)


PASSKEY, MAIL = Proven(3, b"passkey"), Proven(20, b"mail")


def with_grants(epoch: int = 1, **bitmaps: int) -> KeyState:
    names = {"passkey": (3, b"passkey"), "mail": (20, b"mail")}
    return KeyState(SOMEBODY, {names[name]: bitmap for name, bitmap in bitmaps.items()}, epoch)


def test_two_methods_together_may_do_what_neither_may_alone(world: Any) -> None:
    state = with_grants(passkey=bits(32 + 3), mail=bits(32 + 1))
    assert ask(world, state, state, methods=(PASSKEY, MAIL)).allowed
    for alone in (PASSKEY, MAIL):
        assert ask(world, state, state, methods=(alone,)).code == "second_method_needed"


def test_a_method_that_may_do_it_alone_counts_as_company(world: Any) -> None:
    state = with_grants(passkey=bits(3), mail=bits(32 + 3))
    assert ask(world, state, state, methods=(PASSKEY,)).allowed
    assert ask(world, state, state, methods=(MAIL,)).code == "second_method_needed"


def test_company_counts_only_if_the_key_permits_it_for_the_same_scope_at_both_blocks(world: Any) -> None:
    state = with_grants(passkey=bits(32 + 3), mail=bits(32 + 2))
    assert not ask(world, state, state, methods=(PASSKEY, MAIL)).allowed
    good, gone = with_grants(passkey=bits(35), mail=bits(35)), with_grants(passkey=bits(35))
    assert not ask(world, good, gone, methods=(PASSKEY, MAIL)).allowed
    assert not ask(world, gone, good, methods=(PASSKEY, MAIL)).allowed
    assert not ask(world, good, with_grants(2, passkey=bits(35), mail=bits(35)), methods=(PASSKEY, MAIL)).allowed


def member(
    world: Any, finalised: KeyState, newest: KeyState, keys: tuple[str, ...] = ("*",), **changes: Any
) -> Decision:
    certificate = replace(
        world.certificate(), **{"scopes": (2,), "keys": keys, "methods": (PASSKEY, Proven(1, ME))} | changes
    )
    return decide_member(certificate, KEY, finalised, newest)


def test_any_method_of_the_key_may_cancel_whatever_its_scopes(world: Any) -> None:
    state = with_grants(passkey=0)
    assert member(world, state, state).allowed and member(world, OWNED, OWNED).allowed
    assert member(world, state, state, (OTHER_KEY,)).code == "key_not_in_session"
    for finalised, newest in ((state, with_grants()), (with_grants(), state), (state, with_grants(2, passkey=0))):
        assert member(world, finalised, newest).code == "not_permitted"
    assert not member(world, OWNED, FOREIGN).allowed and not member(world, FOREIGN, OWNED).allowed


def test_who_only_said_who_he_is_or_was_lent_a_session_cancels_nothing(world: Any) -> None:
    state = with_grants(passkey=0)
    assert member(world, state, state, scopes=()).code == "identify_only"
    assert member(world, state, state, counted=(("a", 1), ("b", 1))).code == "identify_only"


def test_a_login_in_the_name_of_a_key_that_owns_itself_owns_nothing(world: Any) -> None:
    itself = KeyState(ME, {}, 1, owns_itself=True)
    for scope in Scope:
        assert not ask(world, itself, itself, scope).allowed
    assert not member(world, itself, itself).allowed
    granted_too = KeyState(ME, {(1, ME): bits(3)}, 1, owns_itself=True)
    assert ask(world, granted_too, granted_too).allowed
    assert not ask(world, granted_too, granted_too, Scope.MANAGE_PERMISSIONS).allowed
