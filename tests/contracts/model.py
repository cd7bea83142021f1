"""What spec/contracts.md says, as plain Python: mints, owners, grants, delays, signed calls, the last way in, sessions.

Nothing here knows how the contracts do it. A call that must be refused raises `Refusal` with the error's name and
changes nothing; `Model.call` makes a call of a sender at a time, with everything that contracts do while they are told.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

ADDRESS, ACTION, MANAGE = 1, 2, 6
WINDOW, MAX_DELAY = 604_800, 2_592_000
NOBODY = "0x" + "00" * 20
Method = tuple[int, bytes]


class Refusal(Exception):
    """The name of the error with which a call is refused."""


def require(condition: bool, name: str) -> None:
    if not condition:
        raise Refusal(name)


@dataclass
class Grants:
    """What one owner has granted on one token: every right with the time from which it counts."""

    methods: dict[Method, int] = field(default_factory=dict)
    scopes: dict[tuple[Method, int], int] = field(default_factory=dict)
    apart: dict[tuple[Method, int], int] = field(default_factory=dict)
    """The change by which a scope was announced after its method."""
    added: dict[Method, int] = field(default_factory=dict)
    """The change by which a method was announced."""
    longest: int = 0
    lowering: tuple[int, int, int] | None = None
    transfer: tuple[str, int, int] | None = None
    renouncing: list[tuple[int, int]] = field(default_factory=list)
    renounced: bool = False
    announced: int = 0
    executed: int = 0

    def delay(self, now: int) -> int:
        if self.lowering is not None and self.lowering[1] <= now:
            return self.lowering[0]
        return self.longest

    def settle(self, now: int) -> None:
        self.longest = self.delay(now)
        if self.lowering is not None and self.lowering[1] <= now:
            self.lowering = None
        self.renounced |= any(start <= now for start, _ in self.renouncing)
        self.renouncing = [one for one in self.renouncing if one[0] > now]
        self.added = {method: change for method, change in self.added.items() if self.methods[method] > now}
        self.apart = {at: change for at, change in self.apart.items() if self.scopes[at] > now}
        if self.transfer is not None and now > self.transfer[1] + WINDOW:
            self.transfer = None

    def rights(self, now: int) -> dict[Method, int]:
        """The methods that count now, with their scopes as bits."""
        active = [method for method, start in self.methods.items() if start <= now]
        return {
            method: sum(1 << scope for (one, scope), start in self.scopes.items() if one == method and start <= now)
            for method in active
        }

    def pending(self, now: int) -> set[tuple[int, int]]:
        """(change id, time) of what is shown as announced."""
        found = {(change, self.methods[method]) for method, change in self.added.items()}
        found |= {(change, self.scopes[at]) for at, change in self.apart.items()}
        found |= {(change, start) for start, change in self.renouncing}
        found |= {(self.lowering[2], self.lowering[1])} if self.lowering else set()
        shown = {one for one in found if one[1] > now}
        if self.transfer is not None and now <= self.transfer[1] + WINDOW:
            shown.add((self.transfer[2], self.transfer[1]))
        return shown

    def announce(self) -> int:
        self.announced += 1
        return self.announced

    def forget(self, method: Method) -> None:
        del self.methods[method]
        self.added.pop(method, None)
        self.scopes = {at: start for at, start in self.scopes.items() if at[0] != method}
        self.apart = {at: change for at, change in self.apart.items() if at[0] != method}


@dataclass
class Token:
    """A minted key; `address` is its own."""

    address: str
    owner: str
    epoch: int = 1
    grants: Grants = field(default_factory=Grants)

    def is_way_in(self, method: Method) -> bool:
        return method[0] != ACTION and method != (ADDRESS, bytes.fromhex(self.address[2:]))


@dataclass(frozen=True)
class Call:
    """A call by name: `kind` is a method of `Model`, `value` what is sent along."""

    kind: str
    arguments: tuple[Any, ...]
    value: int = 0


@dataclass
class Model:
    """The contracts; addresses are checksummed, `addresses` gives each key's own."""

    addresses: dict[int, str]
    governor: str
    pool: list[int]
    price: int = 0
    earned: int = 0
    tokens: dict[int, Token] = field(default_factory=dict)
    requests: dict[tuple[str, bytes], int] = field(default_factory=dict)
    logins: dict[tuple[str, Method, bytes], int] = field(default_factory=dict)
    marks: dict[int, int] = field(default_factory=dict)
    plans: dict[str, Call | None] = field(default_factory=dict)
    """The contracts among the actors, and what each does when it is told next."""
    refusing: set[str] = field(default_factory=set)
    acting: int | None = None
    now: int = 0

    def call(self, sender: str, call: Call, now: int) -> None:
        """Make a call; `Refusal` if it is refused, and then everything is as before."""
        before = copy.deepcopy(self.__dict__)
        self.now = now
        try:
            self._make(sender, call)
        except Refusal:
            self.__dict__.update(before)
            raise

    def _make(self, sender: str, call: Call) -> None:
        made: Callable[..., None] = getattr(self, call.kind)
        made(sender, call.value, *call.arguments)

    def told(self, who: str, token: bool = True) -> None:
        """A contract receives a token, or ether: it may refuse a token, and does what it has planned."""
        if who not in self.plans:
            return
        require(not (token and who in self.refusing), "Refused")
        plan, self.plans[who] = self.plans[who], None
        if plan is None:
            return
        before = copy.deepcopy(self.__dict__)
        try:
            self._make(who, plan)
        except Refusal:
            self.__dict__.update(before)

    # -- mints --------------------------------------------------------------------------------------------------------

    def take(self, expected: int, owner: str) -> int:
        require(bool(self.pool), "PoolEmpty")
        require(expected in (0, self.pool[0]), "OtherKey")
        token = self.pool.pop(0)
        own = self.addresses[token]
        self.tokens[token] = Token(own, own if owner == NOBODY else owner)
        self.earned += self.price
        return token

    def mint_next(self, sender: str, value: int, expected: int) -> None:
        require(value == self.price, "WrongPayment")
        self.take(expected, sender)
        self.told(sender)

    def mint_to(self, sender: str, value: int, to: str, methods: list[Method], scopes: list[list[int]]) -> None:
        require(to != NOBODY, "ZeroReceiver")
        require(value == self.price, "WrongPayment")
        self.granted(self.take(0, to), methods, scopes)
        self.told(to)

    def mint_once(
        self,
        sender: str,
        value: int,
        name: bytes,
        expected: int,
        to: str,
        methods: list[Method],
        scopes: list[Any],
    ) -> None:
        require(any(name), "NoRequestId")
        token = self.requests.get((sender, name))
        if token is None:
            require(value >= self.price, "TooLittleSent")
            value -= self.price
            token = self.take(expected, to)
            self.requests[sender, name] = token
            self.granted(token, methods, scopes)
            self.told(self.tokens[token].owner)
        if value:
            self.told(sender, token=False)

    def mint_for_logins(
        self, sender: str, value: int, logins: list[tuple[Method, list[int], bytes]], expected: int
    ) -> None:
        for method, scopes, label in logins:
            known = self.logins.get((sender, method, label))
            if known is not None and self.obeys(known, method):
                continue
            require(value >= self.price, "TooLittleSent")
            value -= self.price
            token, expected = self.take(expected, NOBODY), 0
            self.granted(token, [method], [scopes])
            self.logins[sender, method, label] = token
        if value:
            self.told(sender, token=False)

    def obeys(self, token: int, method: Method) -> bool:
        found = self.tokens[token]
        return found.epoch == 1 and method in found.grants.rights(self.now)

    def granted(self, token: int, methods: list[Method], scopes: list[list[int]]) -> None:
        require(len(methods) == len(scopes), "LengthMismatch")
        for method, numbers in zip(methods, scopes, strict=True):
            self.add(self.tokens[token], method, numbers)

    def set_price(self, sender: str, value: int, price: int) -> None:
        require(sender == self.governor, "OwnableUnauthorizedAccount")
        self.price = price

    def withdraw(self, sender: str, value: int) -> None:
        require(sender == self.governor, "OwnableUnauthorizedAccount")
        self.earned = 0

    # -- owners -------------------------------------------------------------------------------------------------------

    def move(self, sender: str, value: int, token: int, giver: str, to: str, safe: bool) -> None:
        require(to != NOBODY, "ERC721InvalidReceiver")
        owner = self.tokens[token].owner if token in self.tokens else NOBODY
        self.moved(sender, token, to)
        require(giver == owner, "ERC721IncorrectOwner")
        if safe:
            self.told(to)

    def moved(self, sender: str, token: int, to: str) -> None:
        found = self.tokens.get(token)
        if found is None or found.owner == NOBODY:
            raise Refusal("ERC721NonexistentToken")
        require(to != found.address, "LastManager")
        grants, now = found.grants, self.now
        if grants.delay(now):
            announced = grants.transfer
            inside = announced is not None and announced[0] == to and announced[1] <= now <= announced[1] + WINDOW
            require(inside, "TransferNotAnnounced")
        require(found.owner == sender, "ERC721InsufficientApproval")
        found.owner, found.grants = to, Grants()
        found.epoch += 1

    def burn(self, sender: str, value: int, token: int) -> None:
        self.moved(sender, token, NOBODY)

    def revoke_sessions(self, sender: str, value: int, token: int) -> None:
        require(token in self.tokens and self.tokens[token].owner == sender, "OnlyOwnerOf")
        self.marks[token] = self.now

    # -- permissions --------------------------------------------------------------------------------------------------

    def write(self, sender: str, value: int, token: int, name: str, *arguments: Any) -> None:
        """A call to PKPPermissions by its name in this file, as a transaction of `sender`."""
        found = self.tokens.get(token)
        if found is None or found.owner != sender:
            raise Refusal("OnlyOwnerOf")
        self.written(found, name, *arguments)

    def execute(
        self, sender: str, value: int, token: int, inner: Call, nonce: int | None, deadline: int, signer: str
    ) -> None:
        """A signed call; `nonce` None is the right one, `signer` is who signs, as one who has a key."""
        require(self.acting is None, "NotInsideExecute")
        require(self.now <= deadline, "Expired")
        found = self.tokens.get(token)
        if found is None or found.owner == NOBODY:
            raise Refusal("OnlyOwnerOf")
        require(nonce in (None, self.nonce(token)), "WrongNonce")
        require(signer == found.owner, "NotSignedByOwner")
        found.grants.executed += 1
        self.acting = token
        if inner.kind == "execute":
            raise Refusal("NotInsideExecute")
        require(inner.arguments[0] == token, "OnlyOwnerOf")
        self.written(found, *inner.arguments[1:])
        self.acting = None

    def nonce(self, token: int) -> int:
        found = self.tokens.get(token)
        return 0 if found is None else (found.epoch << 32) + found.grants.executed

    def written(self, token: Token, name: str, *arguments: Any) -> None:
        changes: Callable[..., None] = getattr(self, name)
        changes(token, *arguments)

    def add(self, token: Token, method: Method, scopes: list[int]) -> None:
        grants, now = token.grants, self.now
        require(bool(method[1]) and method[0] != 0, "BadAuthMethod")
        grants.settle(now)
        require(method not in grants.methods, "AlreadyPermitted")
        start = now + grants.longest
        grants.methods[method] = start
        for scope in scopes:
            require(1 <= scope <= 255, "BadScope")
            grants.scopes[method, scope] = start
        if grants.longest:
            grants.added[method] = grants.announce()

    def remove(self, token: Token, method: Method) -> None:
        self.recorded(token, method)
        self.keep_a_way_in(token, method)
        token.grants.forget(method)

    def add_scope(self, token: Token, method: Method, scope: int) -> None:
        self.recorded(token, method)
        require(1 <= scope <= 255, "BadScope")
        grants = token.grants
        if (method, scope) in grants.scopes:
            return
        grants.scopes[method, scope] = self.now + grants.longest
        if grants.longest:
            grants.apart[method, scope] = grants.announce()

    def remove_scope(self, token: Token, method: Method, scope: int) -> None:
        self.recorded(token, method)
        require(1 <= scope <= 255, "BadScope")
        if scope == MANAGE:
            self.keep_a_way_in(token, method)
        token.grants.scopes.pop((method, scope), None)
        token.grants.apart.pop((method, scope), None)

    def batch(self, token: Token, added: list[tuple[Method, list[int]]], removed: list[Method]) -> None:
        for method, scopes in added:
            self.add(token, method, scopes)
        for method in removed:
            self.remove(token, method)

    def set_delay(self, token: Token, delay: int) -> None:
        require(delay <= MAX_DELAY, "DelayTooLong")
        grants = token.grants
        grants.settle(self.now)
        grants.lowering = None
        if delay < grants.longest:
            grants.lowering = (delay, self.now + grants.longest, grants.announce())
        grants.longest = max(grants.longest, delay)

    def announce(self, token: Token, to: str) -> None:
        grants = token.grants
        grants.settle(self.now)
        require(grants.longest != 0, "NothingToWaitFor")
        grants.transfer = (to, self.now + grants.longest, grants.announce())

    def renounce(self, token: Token) -> None:
        grants = token.grants
        grants.settle(self.now)
        if grants.longest:
            grants.renouncing.append((self.now + grants.longest, grants.announce()))
        else:
            grants.renounced = True

    def cancel(self, token: Token, change: int) -> None:
        grants = token.grants
        grants.settle(self.now)
        for method, number in list(grants.added.items()):
            if number == change:
                return grants.forget(method)
        for at, number in list(grants.apart.items()):
            if number == change:
                del grants.apart[at], grants.scopes[at]
                return None
        if grants.lowering is not None and grants.lowering[2] == change:
            grants.lowering = None
            return None
        if grants.transfer is not None and grants.transfer[2] == change:
            grants.transfer = None
            return None
        left = [one for one in grants.renouncing if one[1] != change]
        require(len(left) < len(grants.renouncing), "NotPending")
        grants.renouncing = left
        return None

    def recorded(self, token: Token, method: Method) -> None:
        token.grants.settle(self.now)
        require(method in token.grants.methods, "NotPermitted")

    def keep_a_way_in(self, token: Token, method: Method) -> None:
        """The last that counts now and may manage a key that owns itself neither goes nor loses that scope."""
        rights = token.grants.rights(self.now)
        managers = {one for one, bits in rights.items() if bits >> MANAGE & 1 and token.is_way_in(one)}
        if managers == {method} and token.owner == token.address:
            require(token.grants.renounced, "LastManager")
