"""Delays against a plain model, and against a thief who does whatever an owner can do, in any order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from chains import PyEvmChain
from eth_account import Account
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from test_contract_execute import LATER, sign
from world import ACTION, ADDRESS, GOOGLE, WEBAUTHN, World

from keyquorum.chain.contracts import Reverted
from keyquorum.evm.address import checksum

METHODS = [(ADDRESS, b"\1" * 20), (ACTION, b"cid"), (WEBAUTHN, b"\2" * 32), (GOOGLE, b"\2" * 32)]
WHICH, SCOPE = st.integers(0, 3), st.integers(1, 4)
SCOPES = st.lists(SCOPE, max_size=3)
DAY, WINDOW = 86_400, 604_800
NOBODY = "0x" + "00" * 20


@cache
def shared() -> tuple[World, Any]:
    world = World(PyEvmChain())
    # The governor pays for the key's own account, whose secret is 1000.
    world.chain.send(Account.from_key((1000).to_bytes(32, "big")).address, value=10**18)
    return world, world.chain.snapshot()


def fresh() -> World:
    world, snapshot = shared()
    world.chain.restore(snapshot)
    world.next_secret = 2000
    return world


def error_of(call: Callable[[], Any]) -> str | None:
    try:
        call()
    except Reverted as error:
        return error.name
    return None


# -------------------------------------------------------------------------------------------------------------- model


@dataclass
class Key:
    """What one key should be: every right with the time from which it counts."""

    methods: dict[int, int] = field(default_factory=dict)
    scopes: dict[tuple[int, int], int] = field(default_factory=dict)
    apart: set[tuple[int, int]] = field(default_factory=set)
    longest: int = 0
    lowering: tuple[int, int] | None = None
    transfer: tuple[str, int] | None = None

    def delay(self, now: int) -> int:
        if self.lowering is not None and self.lowering[1] <= now:
            return self.lowering[0]
        return self.longest

    def settle(self, now: int) -> None:
        self.longest = self.delay(now)
        if self.lowering is not None and self.lowering[1] <= now:
            self.lowering = None

    def rights(self, now: int) -> dict[int, set[int]]:
        active = {which for which, start in self.methods.items() if start <= now}
        return {
            which: {scope for (method, scope), start in self.scopes.items() if method == which and start <= now}
            for which in active
        }

    def forget(self, which: int) -> None:
        del self.methods[which]
        self.scopes = {at: start for at, start in self.scopes.items() if at[0] != which}

    def may_go(self, to: str, now: int) -> bool:
        if self.delay(now) == 0:
            return True
        return self.transfer is not None and self.transfer[0] == to and 0 <= now - self.transfer[1] <= WINDOW

    def waiting(self, now: int) -> int:
        """How many announcements must be shown."""
        shown = sum(start > now for start in self.methods.values())
        # Scopes given with a method are part of its announcement.
        shown += sum(start > now for at, start in self.scopes.items() if at in self.apart)
        shown += self.lowering is not None and self.lowering[1] > now
        shown += self.transfer is not None and now - self.transfer[1] <= WINDOW
        return shown


class Model(RuleBasedStateMachine):
    """One key and a model of it; after any sequence of actions and waits they agree."""

    def __init__(self) -> None:
        super().__init__()
        self.world = fresh()
        self.people = [self.world.user, self.world.other]
        self.owner = 0
        self.key = Key()

    @initialize()
    def mint(self) -> None:
        self.token = self.world.mint(self.people[0])

    def _act(self, name: str, *arguments: Any) -> tuple[str | None, int]:
        """The error, if any, and the time of the block."""
        account = self.people[self.owner]
        error = error_of(lambda: self.world.permissions.send(name, self.token, *arguments, account=account))
        now = self.world.chain.time()
        if error is None:
            self.key.settle(now)
        return error, now

    @rule(which=WHICH, scopes=SCOPES)
    def permit(self, which: int, scopes: list[int]) -> None:
        error, now = self._act("addPermittedAuthMethod", (*METHODS[which], b""), scopes)
        if which in self.key.methods:
            assert error == "AlreadyPermitted"
            return
        assert error is None
        self.key.methods[which] = start = now + self.key.longest
        for scope in scopes:
            self.key.scopes[which, scope] = start
            self.key.apart.discard((which, scope))

    @rule(which=WHICH)
    def forbid(self, which: int) -> None:
        error, _ = self._act("removePermittedAuthMethod", *METHODS[which])
        assert error == (None if which in self.key.methods else "NotPermitted")
        if error is None:
            self.key.forget(which)

    @rule(which=WHICH, scope=SCOPE)
    def add_scope(self, which: int, scope: int) -> None:
        error, now = self._act("addPermittedAuthMethodScope", *METHODS[which], scope)
        assert error == (None if which in self.key.methods else "NotPermitted")
        if error is None and (which, scope) not in self.key.scopes:
            self.key.scopes[which, scope] = now + self.key.longest
            self.key.apart.add((which, scope))

    @rule(which=WHICH, scope=SCOPE)
    def remove_scope(self, which: int, scope: int) -> None:
        error, _ = self._act("removePermittedAuthMethodScope", *METHODS[which], scope)
        assert error == (None if which in self.key.methods else "NotPermitted")
        if error is None:
            self.key.scopes.pop((which, scope), None)

    @rule(delay=st.sampled_from([0, 50, 500, 5000]))
    def set_delay(self, delay: int) -> None:
        error, now = self._act("setDelay", delay)
        assert error is None
        old = self.key.longest
        self.key.lowering = (delay, now + old) if delay < old else None
        self.key.longest = max(delay, old)

    @rule(person=st.integers(0, 2))
    def announce(self, person: int) -> None:
        to = self._receiver(person)
        error, now = self._act("announceTransfer", to)
        if error is None:
            assert self.key.longest > 0
            self.key.transfer = (to, now + self.key.longest)
        else:
            assert error == "NothingToWaitFor"
            assert self.key.delay(now) == 0

    @rule(number=st.integers(0, 9))
    def cancel(self, number: int) -> None:
        shown = self.world.permissions.read("getPendingChanges", self.token)
        if not shown:
            assert self._act("cancelPendingChange", number)[0] == "NotPending"
            return
        change = shown[number % len(shown)]
        error, now = self._act("cancelPendingChange", change.changeId)
        if error is not None:
            # The block was the one in which it began to count, or in which the announced transfer lapsed.
            assert error == "NotPending"
            assert now >= change.activeAt
            return
        which = METHODS.index((change.authMethodType, change.id)) if change.kind < 2 else -1
        if change.kind == 0:
            self.key.forget(which)
        elif change.kind == 1:
            del self.key.scopes[which, change.scopes.bit_length() - 1]
        elif change.kind == 2:
            self.key.lowering = None
        else:
            self.key.transfer = None

    @rule(person=st.integers(0, 1))
    def transfer(self, person: int) -> None:
        giver, to = self.people[self.owner], self._receiver(person)
        move = (giver.address, to, self.token)
        error = error_of(lambda: self.world.nft.send("transferFrom", *move, account=giver))
        assert (error is None) == self.key.may_go(to, self.world.chain.time()), error
        if error is None:
            self.owner, self.key = person, Key()

    @rule(seconds=st.sampled_from([1, 40, 400, 4000, WINDOW]))
    def wait(self, seconds: int) -> None:
        self.world.chain.advance(seconds)

    def _receiver(self, person: int) -> str:
        return NOBODY if person == 2 else self.people[person].address

    @invariant()
    def agree(self) -> None:
        world, token, now = self.world, self.token, self.world.chain.time()
        rights = self.key.rights(now)
        for which, method in enumerate(METHODS):
            found = world.authorisation(token, *method)
            assert found.permitted == (which in rights)
            assert found.scopes == sum(1 << scope for scope in rights.get(which, ()))
        assert world.permissions.read("delayOf", token) == self.key.delay(now)
        assert len(world.permissions.read("getPendingChanges", token)) == self.key.waiting(now)
        told = world.permissions.read("pendingTransfer", token)
        if self.key.transfer is not None and now - self.key.transfer[1] <= WINDOW:
            assert (checksum(told.to), told.activeAt) == self.key.transfer
        else:
            assert told == (NOBODY, 0, 0)

    def teardown(self) -> None:
        rights = self.key.rights(self.world.chain.time())
        listed = self.world.permissions.read("getPermittedAuthMethods", self.token)
        assert sorted((m.authMethodType, m.id) for m in listed) == sorted(METHODS[which] for which in rights)


# -------------------------------------------------------------------------------------------------------------- thief


class Thief(RuleBasedStateMachine):
    """A key that owns itself, with a delay of a day, in a thief's hand: until then nothing may be looser than it was.

    The thief signs as the key, sends as the key's own account, mints, transfers, burns, approves, announces, cancels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.world = fresh()
        self.key = Account.from_key((1000).to_bytes(32, "big"))

    @initialize()
    def victim(self) -> None:
        world = self.world
        login = (*METHODS[3], b"", [1, 2], bytes(32))
        self.token = world.minted(world.helper.send("mintForLogins", [login], account=world.third))
        self._send("addPermittedAuthMethod", (*METHODS[2], b""), [1])
        self._send("setDelay", DAY)
        self.start = world.chain.time()
        self.rights = {WEBAUTHN: 1 << 1, GOOGLE: 1 << 1 | 1 << 2}

    def _send(self, name: str, *arguments: Any) -> None:
        error_of(lambda: self.world.permissions.send(name, self.token, *arguments, account=self.key))

    def _either(self, signed: bool, name: str, *arguments: Any) -> None:
        """As a transaction of the key, or as a signed call from somebody else."""
        if not signed:
            self._send(name, *arguments)
            return
        world, token = self.world, self.token
        call, nonce = world.permissions.encode(name, token, *arguments), world.permissions.read("nonces", token)
        signature = sign(world, self.key, token, call, nonce)
        execute = ("execute", token, call, nonce, LATER, signature)
        error_of(lambda: world.permissions.send(*execute, account=world.other))

    @rule(signed=st.booleans(), which=WHICH, scopes=SCOPES)
    def permit(self, signed: bool, which: int, scopes: list[int]) -> None:
        self._either(signed, "addPermittedAuthMethod", (*METHODS[which], b""), scopes)

    @rule(signed=st.booleans(), which=WHICH, scope=SCOPE, add=st.booleans())
    def scope(self, signed: bool, which: int, scope: int, add: bool) -> None:
        name = f"{'add' if add else 'remove'}PermittedAuthMethodScope"
        self._either(signed, name, *METHODS[which], scope)

    @rule(signed=st.booleans(), which=WHICH)
    def forbid(self, signed: bool, which: int) -> None:
        self._either(signed, "removePermittedAuthMethod", *METHODS[which])

    @rule(signed=st.booleans(), add=st.sets(WHICH), remove=st.sets(WHICH), scopes=SCOPES)
    def batch(self, signed: bool, add: set[int], remove: set[int], scopes: list[int]) -> None:
        added, removed = [METHODS[i] for i in add], [METHODS[i] for i in remove]
        lists = [[m[0] for m in added], [m[1] for m in added], [b""] * len(added), [scopes] * len(added)]
        lists += [[m[0] for m in removed], [m[1] for m in removed]]
        self._either(signed, "batchAddRemoveAuthMethods", *lists)

    @rule(signed=st.booleans(), delay=st.sampled_from([0, 1, DAY - 1, DAY, 2 * DAY]))
    def set_delay(self, signed: bool, delay: int) -> None:
        self._either(signed, "setDelay", delay)

    @rule(signed=st.booleans(), number=st.integers(0, 12))
    def cancel(self, signed: bool, number: int) -> None:
        self._either(signed, "cancelPendingChange", number)

    @rule(signed=st.booleans(), to=st.integers(0, 2))
    def announce(self, signed: bool, to: int) -> None:
        self._either(signed, "announceTransfer", self._receiver(to))

    @rule(to=st.integers(0, 1), operator=st.booleans())
    def transfer(self, to: int, operator: bool) -> None:
        world = self.world
        if operator:
            world.nft.send("setApprovalForAll", world.other.address, True, account=self.key)
        move = ("transferFrom", self.key.address, self._receiver(to), self.token)
        error_of(lambda: world.nft.send(*move, account=world.other if operator else self.key))

    @rule()
    def burn(self) -> None:
        error_of(lambda: self.world.nft.send("burn", self.token, account=self.key))

    @rule(which=WHICH)
    def mint_with_helper(self, which: int) -> None:
        world = self.world
        login = (*METHODS[which], b"", [1, 2, 3, 4], bytes(32))
        error_of(lambda: world.helper.send("mintForLogins", [login], account=self.key))
        grant = ("grantAtMint", self.token, [(*METHODS[which], b"")], [[1, 2, 3, 4]])
        error_of(lambda: world.permissions.send(*grant, account=self.key))

    @rule(share=st.integers(1, 4))
    def wait(self, share: int) -> None:
        """Some of what is left of the day, never all."""
        left = self.start + DAY - self.world.chain.time()
        if left > 100:
            self.world.chain.advance(left * share // 5)

    def _receiver(self, number: int) -> str:
        return (self.world.other.address, self.key.address, NOBODY)[number]

    @invariant()
    def nothing_is_looser(self) -> None:
        world, token = self.world, self.token
        if world.chain.time() >= self.start + DAY:
            return
        assert checksum(world.nft.read("ownerOf", token)) == self.key.address
        assert world.permissions.read("delayOf", token) >= DAY
        for kind, identity in METHODS:
            found = world.authorisation(token, kind, identity)
            assert found.grantEpoch == 1
            assert found.permitted <= (kind in self.rights)
            assert found.scopes & ~self.rights.get(kind, 0) == 0


def run(machine: type[RuleBasedStateMachine], examples: int, steps: int) -> None:
    quiet = list(HealthCheck)
    limits = settings(max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=quiet)
    run_state_machine_as_test(machine, settings=limits)


def test_a_delayed_key_is_at_every_moment_what_the_model_says():
    run(Model, examples=6, steps=25)


def test_a_thief_loosens_nothing_before_the_delay_has_passed():
    run(Thief, examples=6, steps=25)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("machine", [Model, Thief])
def test_delays_hold_in_a_long_run(machine):
    run(machine, examples=300, steps=60)
