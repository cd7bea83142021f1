"""A key that owns itself is governed by its methods: who may sign a change of its permissions, and who may stop one."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from eth_account import Account
from eth_utils import keccak
from session_kit import Opened, ask, codes, open_session, seen_by_all

from cluster import ETHER, Cluster
from keyquorum import intents
from keyquorum.algebra.curve import Point
from keyquorum.chain.contracts import interface
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.rpc import Sender
from keyquorum.client.permissions import TYPES
from keyquorum.client.shares import Share, combine_shares
from keyquorum.evm.keys import eth_address
from keyquorum.node.chain import chain_view

pytestmark = pytest.mark.usefixtures("refusals_uncounted")

OK = [""] * 3
REFUSED = ["not_permitted"] * 3


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_view, "FRESH_SECONDS", 0.0)


@dataclass
class Governed:
    """A key whose token belongs to its own address: `manager` may change who uses it, `user` may sign typed data."""

    cluster: Cluster
    manager: Any = field(default_factory=Account.create)
    user: Any = field(default_factory=Account.create)
    token: int = 0
    public: bytes = b""
    address: str = ""

    @property
    def contract(self) -> Any:
        return self.cluster.deployment.bind(self.cluster.rpc, "PKPPermissions")

    async def mint(self, *scopes: int) -> None:
        """Mint it for the manager, who gets `scopes`."""
        await self.cluster.pool_filled()
        helper = self.cluster.deployment.contracts["PKPHelper"]
        login = (1, bytes.fromhex(self.manager.address[2:]), b"", list(scopes), secrets.token_bytes(32))
        call = interface("PKPHelper").encode("mintForLogins", [login])
        receipt = await Sender(self.cluster.rpc, ACCOUNTS[1][1]).send(helper, call, ETHER // 1000)
        nft = self.cluster.deployment.bind(self.cluster.rpc, "PKPNFT")
        events = [nft.decode_event(log) for log in receipt["logs"]]
        self.token = next(event["args"]["tokenId"] for event in events if event and event["event"] == "PKPMinted")
        router = self.cluster.deployment.bind(self.cluster.rpc, "PubkeyRouter")
        self.public = await router.read("getPubkey", self.token)
        self.address = eth_address(self.public)
        assert (await nft.read("ownerOf", self.token)).lower() == self.address.lower()
        await seen_by_all(self.cluster)

    async def call(self, function: str, *arguments: Any, **domain: Any) -> tuple[dict[str, Any], tuple[Any, ...]]:
        """The intent to sign a change, and what `execute` needs besides the signature."""
        call = interface("PKPPermissions").encode(function, self.token, *arguments)
        nonce, deadline = int(await self.contract.read("nonces", self.token)), int(time.time()) + 300
        message = {"tokenId": str(self.token), "call": "0x" + call.hex(), "nonce": str(nonce), "deadline": deadline}
        where = {
            "name": "Keyquorum PKPPermissions", "version": "1", "chainId": self.cluster.deployment.chain_id,
            "verifyingContract": self.cluster.deployment.contracts["PKPPermissions"],
        } | domain  # fmt: skip
        data = {"types": TYPES, "primaryType": "PermissionCall", "domain": where, "message": message}
        return intents.typed_data_intent(data), (self.token, call, nonce, deadline)

    async def ask(self, session: Opened, intent: dict[str, Any]) -> list[tuple[int, Any]]:
        return await ask(self.cluster, "/v1/sign", session.body("sign", intent, f"0x{self.token:064x}"))

    async def change(self, session: Opened, function: str, *arguments: Any) -> list[str]:
        """Let the nodes sign a change and deliver it; the words of those that refuse."""
        intent, parts = await self.call(function, *arguments)
        answers = await self.ask(session, intent)
        if codes(answers) == OK:
            shares = {answer["share"]["party"]: msgspec.convert(answer["share"], Share) for _, answer in answers}
            digest = bytes.fromhex(answers[0][1]["digest"][2:])
            found = combine_shares(shares, digest, Point.from_bytes_checked(self.public))
            signature = found.r.to_bytes(32, "big") + found.s.to_bytes(32, "big") + bytes([27 + (found.v & 1)])
            await self.cluster.send(4, "PKPPermissions", "execute", *parts, signature)
            await seen_by_all(self.cluster)
        return codes(answers)

    async def permitted(self, address: str) -> bool:
        return bool(await self.contract.read("isPermittedAddress", self.token, address))


@pytest_asyncio.fixture(loop_scope="session")
async def key(cluster: Cluster) -> Governed:
    made = Governed(cluster)
    await made.mint(4, 6)
    return made


async def test_typed_data_that_changes_permissions_needs_the_scope_for_that(cluster: Cluster, key: Governed) -> None:
    thief = Account.create()
    narrow = await open_session(cluster, key.manager, scopes=(1, 4))
    assert await key.change(narrow, "addPermittedAddress", thief.address, [1]) == ["scope_not_in_session"] * 3
    manager = await open_session(cluster, key.manager, scopes=(4, 6))
    assert await key.change(manager, "addPermittedAddress", key.user.address, [1]) == OK
    assert await key.permitted(key.user.address)
    # Anything but governing: the user may sign whatever typed data there is, and no change of permissions.
    user = await open_session(cluster, key.user, scopes=(1, 6))
    assert await key.change(user, "addPermittedAddress", thief.address, [1]) == REFUSED
    for domain in ({"chainId": 5}, {"name": "Mail"}, {"verifyingContract": key.address},
                   {"verifyingContract": cluster.deployment.contracts["PKPNFT"].lower()}):  # fmt: skip
        intent, _ = await key.call("addPermittedAddress", thief.address, [1], **domain)
        assert codes(await key.ask(user, intent)) == REFUSED, domain
    intent, _ = await key.call("addPermittedAddress", thief.address, [1], verifyingContract=thief.address)
    assert codes(await key.ask(user, intent)) == OK
    assert not await key.permitted(thief.address)


async def test_any_older_method_stops_a_change_that_waits_and_a_stranger_does_not(
    cluster: Cluster, key: Governed
) -> None:
    manager = await open_session(cluster, key.manager, scopes=(4, 6))
    thief = Account.create()
    assert await key.change(manager, "addPermittedAddress", key.user.address, [2]) == OK
    assert await key.change(manager, "setDelay", 3600) == OK
    assert await key.change(manager, "addPermittedAddress", thief.address, [1, 6]) == OK
    (waiting,) = await key.contract.read("getPendingChanges", key.token)
    assert not await key.permitted(thief.address)
    stranger = await open_session(cluster, Account.create(), scopes=(1, 6))
    assert await key.change(stranger, "cancelPendingChange", waiting.changeId) == REFUSED
    # Nor the one who is not active yet.
    newcomer = await open_session(cluster, thief, scopes=(1, 6))
    assert await key.change(newcomer, "cancelPendingChange", waiting.changeId) == REFUSED
    # Nor in a session that was told to sign nothing.
    reader = await open_session(cluster, key.user, scopes=())
    assert await key.change(reader, "removePermittedAddress", key.manager.address) == ["identify_only"] * 3
    assert await key.change(reader, "cancelPendingChange", waiting.changeId) == ["identify_only"] * 3
    # The user may sign messages only, and that is enough.
    user = await open_session(cluster, key.user, scopes=(2,))
    assert await key.change(user, "removePermittedAddress", key.manager.address) == ["scope_not_in_session"] * 3
    assert await key.change(user, "cancelPendingChange", waiting.changeId) == OK
    assert await key.contract.read("getPendingChanges", key.token) == []
    elsewhere = await open_session(cluster, key.user, scopes=(2,), keys=("0x" + keccak(b"x").hex(),))
    assert await key.change(elsewhere, "cancelPendingChange", waiting.changeId) == ["key_not_in_session"] * 3
