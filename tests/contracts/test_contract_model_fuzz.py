"""Random sequences of calls against the model of spec/contracts.md: what is accepted, and what is so afterwards.

Accounts, keys that own themselves, a contract, and an account with delegated code (EIP-7702); the last two make a
further call while they are told of a token or of ether, and sometimes refuse. Calls come at borders of announced times.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest
from chains import PyEvmChain
from eth_account import Account
from eth_account.signers.local import LocalAccount
from model import ACTION, ADDRESS, NOBODY, WINDOW, Call, Model, Refusal
from test_contract_execute import sign
from world import GOOGLE, WEBAUTHN, Bound, World, public_key

from keyquorum.chain.contracts import Reverted
from keyquorum.evm.address import checksum
from keyquorum.evm.digests import key_mark
from keyquorum.evm.keys import eth_address, token_id

KEYS, STEPS = 10, 30
ETHER = 10**18
REQUESTS = [bytes(32), b"\1" * 32, b"\2" * 32]
LABELS = [bytes(32), b"\3" * 32]
SCOPES = [[], [1], [6], [1, 6], [1, 6], [5, 6]]


@cache
def prepared() -> tuple[World, Bound, Any]:
    """A world with some ether at each key's own account, a contract, and an account that runs its code."""
    world = World(PyEvmChain(), pool=KEYS)
    puppet = world.puppet()
    for account in [puppet.address, *(key_account(i).address for i in range(KEYS))]:
        world.chain.send(account, value=ETHER)
    world.chain.delegate(world.third, puppet.address)
    return world, puppet, world.chain.snapshot()


def key_account(number: int) -> LocalAccount:
    return Account.from_key((1000 + number).to_bytes(32, "big"))


def error_of(call: Any) -> str | None:
    try:
        call()
    except Reverted as error:
        return error.name
    return None


class Sequence:
    """One sequence: the chain, the model beside it, and a source of random choices."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world, self.puppet, snapshot = prepared()
        self.chain: Any = self.world.chain
        self.chain.restore(snapshot)
        self.keys = [token_id(public_key(1000 + i)) for i in range(KEYS)]
        world, addresses = self.world, [eth_address(public_key(1000 + i)) for i in range(KEYS)]
        self.accounts = {a.address: a for a in (world.user, world.other, world.third, world.governor)}
        self.accounts |= {key_account(i).address: key_account(i) for i in range(KEYS)}
        self.people = [world.user.address, world.other.address, world.third.address, self.puppet.address]
        self.model = Model(dict(zip(self.keys, addresses, strict=True)), world.governor.address, list(self.keys))
        self.model.plans = {world.third.address: None, self.puppet.address: None}
        self.log: list[str] = []

    # -- choices ------------------------------------------------------------------------------------------------------

    def one(self, choices: Any) -> Any:
        return self.random.choice(list(choices))

    def token(self) -> int:
        return self.one([*self.model.tokens] * 4 + self.keys[:1]) if self.model.tokens else self.keys[0]

    def someone(self, token: int) -> str:
        """Mostly the owner."""
        found = self.model.tokens.get(token)
        if found is not None and found.owner != NOBODY and self.random.random() < 0.85:
            return found.owner
        return self.one(self.people)

    def method(self, token: int) -> tuple[int, bytes]:
        own = bytes.fromhex(self.model.addresses[token][2:])
        known = [*self.model.tokens[token].grants.methods] if token in self.model.tokens else []
        friend = (ADDRESS, bytes.fromhex(self.world.user.address[2:]))
        return self.one([*known, *known, friend, (ADDRESS, own), (ACTION, b"cid"), (WEBAUTHN, b"w"), (GOOGLE, b"g")])

    def change(self, token: int) -> tuple[Any, ...]:
        """The name and arguments of a call to PKPPermissions."""
        method, scope = self.method(token), self.one([1, 6, 6, 5, 0, 256])
        pending = self.model.tokens[token].grants.pending(0) if token in self.model.tokens else set()
        return self.one([
            ("add", method, self.one(SCOPES)), ("add", method, self.one(SCOPES)), ("remove", method),
            ("remove", method), ("add_scope", method, scope), ("remove_scope", method, scope),
            ("batch", [(self.method(token), self.one(SCOPES))], [method]),
            ("set_delay", self.one([0, 0, 50, 500, 5000, 2_592_001])), ("announce", self.receiver()), ("renounce",),
            ("cancel", self.one([change for change, _ in pending] or [1])),
        ])  # fmt: skip

    def receiver(self) -> str:
        return self.one([*self.people, *self.people, NOBODY, *list(self.model.addresses.values())[:2]])

    def grants(self) -> tuple[list[Any], list[list[int]]]:
        methods = self.random.sample([(WEBAUTHN, b"w"), (GOOGLE, b"g"), (ACTION, b"cid")], self.random.randrange(3))
        return methods, [self.one(SCOPES) for _ in methods]

    def mint(self) -> Call:
        price, expected = self.model.price, self.one([0, 0, *self.model.pool[:2]])
        paid = self.one([price, price, price, price + 3, 0])
        kind = self.one(["mint_next", "mint_to", "mint_once", "mint_once", "mint_for_logins"])
        if kind == "mint_next":
            return Call(kind, (expected,), paid)
        if kind == "mint_to":
            return Call(kind, (self.receiver(), *self.grants()), paid)
        if kind == "mint_once":
            return Call(kind, (self.one(REQUESTS), expected, self.receiver(), *self.grants()), paid)
        logins = [
            (self.one([(WEBAUTHN, b"w"), (GOOGLE, b"g")]), self.one(SCOPES), self.one(LABELS))
            for _ in range(self.random.randrange(1, 3))
        ]
        return Call(kind, (logins, expected), paid * len(logins))

    def step(self, nested: bool = False) -> tuple[str, Call]:
        """A sender and a call."""
        token = self.token()
        sender = self.someone(token)
        what = self.random.random()
        if what < 0.22:
            return self.one(self.people), self.mint()
        if what < 0.60:
            return sender, Call("write", (token, *self.change(token)))
        if what < 0.75 and not nested:
            inner = Call("write", (self.one([token] * 6 + [self.token()]), *self.change(token)))
            signer = self.one([sender] * 5 + [self.world.user.address])
            signer = signer if signer in self.accounts else self.world.other.address
            if self.random.random() < 0.05:
                inner = Call("execute", (token, inner, None, 2**40, signer))
            nonce = self.one([None] * 8 + [self.model.nonce(token) + 1])
            deadline = self.one([2**40] * 8 + [1])
            return self.one(self.people[:2]), Call("execute", (token, inner, nonce, deadline, signer))
        if what < 0.90:
            giver = self.model.tokens[token].owner if token in self.model.tokens else NOBODY
            giver = self.one([giver] * 7 + [sender if nested else self.people[0]])
            return sender, Call("move", (token, giver, self.receiver(), self.one([True, False])))
        if what < 0.93:
            return sender, Call("burn", (token,))
        if what < 0.96:
            return sender, Call("revoke_sessions", (token,))
        governor = self.one([self.model.governor] * 3 + [self.world.user.address])
        return governor, self.one([Call("set_price", (self.one([0, 1000]),)), Call("withdraw", ())])

    def when(self) -> int:
        """The time of the next block: soon, or at a border of something that was announced."""
        head = self.chain.time()
        borders = [
            start + shift
            for token in self.model.tokens.values()
            for _, start in token.grants.pending(0)
            for shift in (-1, 0, 1, WINDOW - 1, WINDOW, WINDOW + 1)
            if start + shift > head
        ]
        return self.one([head + 1] * 3 + [head + 40] + [self.one(borders)] * 4 if borders else [head + 1])

    # -- calls --------------------------------------------------------------------------------------------------------

    def encode(self, sender: str, call: Call) -> tuple[str, bytes]:
        """Where a call goes, and its data."""
        world, arguments = self.world, call.arguments
        helper, nft, permissions = world.helper, world.nft, world.permissions
        if call.kind == "mint_next":
            name = ("mintNextExpecting", 2, arguments[0]) if arguments[0] else ("mintNext", 2)
            return nft.address, nft.encode(*name)
        if call.kind == "mint_to":
            to, methods, scopes = arguments
            types, ids = [kind for kind, _ in methods], [identity for _, identity in methods]
            lists = (types, ids, [b""] * len(ids), scopes)
            return helper.address, helper.encode("mintNextAndTransfer", 2, to, *lists, False)
        if call.kind == "mint_once":
            name, expected, to, methods, scopes = arguments
            request = (name, expected, to, [(*method, b"") for method in methods], scopes)
            return helper.address, helper.encode("mintOnce", request)
        if call.kind == "mint_for_logins":
            logins = [(*method, b"", scopes, label) for method, scopes, label in arguments[0]]
            name = ("mintForLoginsExpecting", logins, arguments[1]) if arguments[1] else ("mintForLogins", logins)
            return helper.address, helper.encode(*name)
        if call.kind == "move":
            token, giver, to, safe = arguments
            return nft.address, nft.encode(f"{'safeT' if safe else 't'}ransferFrom", giver, to, token)
        if call.kind == "burn":
            return nft.address, nft.encode("burn", *arguments)
        if call.kind == "revoke_sessions":
            return world.sessions.address, world.sessions.encode("revokeSessionsOf", *arguments)
        if call.kind == "set_price":
            return nft.address, nft.encode("setMintCost", *arguments)
        if call.kind == "withdraw":
            return nft.address, nft.encode("withdraw")
        if call.kind == "write":
            return permissions.address, self.encode_change(*arguments)
        token, inner, nonce, deadline, signer = arguments
        number = self.model.nonce(token) if nonce is None else nonce
        data = self.encode(sender, inner)[1]
        signature = sign(world, self.accounts[signer], token, data, number, deadline)
        return permissions.address, permissions.encode("execute", token, data, number, deadline, signature)

    def encode_change(self, token: int, name: str, *arguments: Any) -> bytes:
        encode = self.world.permissions.encode
        if name == "add":
            (kind, identity), scopes = arguments
            return encode("addPermittedAuthMethod", token, (kind, identity, b""), scopes)
        if name == "remove":
            return encode("removePermittedAuthMethod", token, *arguments[0])
        if name in ("add_scope", "remove_scope"):
            return encode(f"{name.removesuffix('_scope')}PermittedAuthMethodScope", token, *arguments[0], arguments[1])
        if name == "batch":
            added, removed = arguments
            lists = [[m[0] for m, _ in added], [m[1] for m, _ in added], [b""] * len(added), [s for _, s in added]]
            return encode("batchAddRemoveAuthMethods", token, *lists, [m[0] for m in removed], [m[1] for m in removed])
        names = {"set_delay": "setDelay", "announce": "announceTransfer", "renounce": "renounceKey"}
        return encode(names.get(name, "cancelPendingChange"), token, *arguments)

    def send(self, sender: str, call: Call) -> str | None:
        """The error of a call, or None; the contract among the actors is told to make it."""
        to, data = self.encode(sender, call)
        if sender != self.puppet.address:
            return error_of(lambda: self.chain.send(to, data, self.accounts[sender], call.value))
        data = self.puppet.encode("execute", to, call.value, data)
        return error_of(lambda: self.chain.send(self.puppet.address, data, self.world.user))

    def plan(self) -> None:
        """Let a contract make a call when it is told next, or refuse tokens from now on, or take them again."""
        who = self.one(self.model.plans)
        actor = Bound(self.chain, who, self.puppet.interface)
        if self.random.random() < 0.2:
            refuses = who not in self.model.refusing
            actor.send("refuse", refuses, account=self.world.user)
            (self.model.refusing.add if refuses else self.model.refusing.discard)(who)
            return
        _, call = self.step(nested=True)
        call = Call(call.kind, call.arguments)
        actor.send("plan", *self.encode(who, call), account=self.world.user)
        self.model.plans[who] = call

    def run(self) -> None:
        for _ in range(STEPS):
            if self.random.random() < 0.12:
                self.plan()
                continue
            sender, call = self.step()
            now = self.when()
            expected = None
            self.chain.next_at(now)
            found = self.send(sender, call)
            assert self.chain.time() == now
            try:
                self.model.call(sender, call, now)
            except Refusal as refusal:
                expected = str(refusal)
            self.log.append(f"{now} {sender[:6]} {call} -> {found}, expected {expected}")
            assert (found is None) == (expected is None), "\n".join(self.log)
            if sender != self.puppet.address and expected not in (None, "Refused"):
                assert found == expected, "\n".join(self.log)
        self.compare()

    # -- what is so afterwards ----------------------------------------------------------------------------------------

    def compare(self) -> None:
        world, model, now, log = self.world, self.model, self.chain.time(), "\n".join(self.log)
        read = world.permissions.read
        assert world.router.read("poolSize") == len(model.pool), log
        assert self.chain.balance(world.nft.address) == model.earned, log
        for token, wanted in model.tokens.items():
            owner, epoch = world.nft.read("ownership", token)
            assert (checksum(owner), epoch) == (wanted.owner, wanted.epoch), log
            grants = wanted.grants
            page = read("getPermittedAuthMethodsPage", token, 0, 100)
            rights = {(m.authMethodType, m.id): bits for m, bits in zip(page.methods, page.scopes, strict=True)}
            assert rights == grants.rights(now), log
            assert read("delayOf", token) == grants.delay(now), log
            shown = {(change.changeId, change.activeAt) for change in read("getPendingChanges", token)}
            assert shown == grants.pending(now), log
            assert read("nonces", token) == model.nonce(token), log
            assert world.sessions.read("revokedBefore", [key_mark(token)]) == [model.marks.get(token, 0)], log
            for (kind, identity), bits in list(rights.items())[:2]:
                assert world.authorisation(token, kind, identity)[1:4] == (True, bits, epoch), log
        for method in ((GOOGLE, b"g"), (WEBAUTHN, b"w")):
            listed = sorted(read("getTokenIdsForAuthMethod", *method))
            holders = {token for token, one in model.tokens.items() if method in one.grants.rights(now)}
            assert listed == sorted(holders), log
            for label in LABELS:
                for relay in self.people[:2]:
                    known = model.logins.get((relay, method, label), 0)
                    kept = known if known and self.kept(known, method, now) else 0
                    assert world.helper.read("keyFor", relay, *method, label) == kept, log
        for (sender, name), token in model.requests.items():
            assert world.helper.read("keyOfRequest", sender, name) == token, log

    def kept(self, token: int, method: tuple[int, bytes], now: int) -> bool:
        found = self.model.tokens[token]
        return found.epoch == 1 and method in found.grants.rights(now)


def run(seeds: range) -> None:
    for seed in seeds:
        try:
            Sequence(seed).run()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error


@pytest.mark.parametrize("part", range(20))
def test_random_calls_do_what_the_specification_says(part):
    run(range(5 * part, 5 * part + 5))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(4))
def test_random_calls_do_what_the_specification_says_in_a_long_run(part):
    run(range(10_000 + 500 * part, 10_000 + 500 * (part + 1)))
