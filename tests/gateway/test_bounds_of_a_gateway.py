"""What strangers may send a gateway, let wait in it and make it pay for: at each bound it goes, beyond it nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any

import pytest

from keyquorum.auth import passkey
from keyquorum.auth.method import Proven
from keyquorum.chain.rpc import Reverted, from_quantity
from keyquorum.client.errors import Refused
from keyquorum.client.minting import MintRequest
from keyquorum.formats.strict_json import BadJson
from keyquorum.gateway import http, login_keys, passkeys, permissions, quotas, relay, services, signups
from keyquorum.gateway.config import GatewayConfig
from keyquorum.gateway.http import COMMITMENT_BODY, LOGIN_BODY, MAX_BODY, SESSION_BODY
from keyquorum.gateway.login_keys import LoginKey
from keyquorum.gateway.passkeys import PasskeyIndex
from keyquorum.gateway.permissions import ChainWriter, PermissionCalls
from keyquorum.gateway.quotas import Quota
from keyquorum.gateway.relay import Relay
from keyquorum.gateway.signups import SignUps
from keyquorum.refusal import Invalid, Refusal
from keyquorum.serving import buckets

KEY = "0x" + "ab" * 32
NOW = 1_800_000_000
GAS = 100 * permissions.MAX_GAS


class Payer:
    """An account whose transactions wait until a test lets them."""

    address = "0x" + "11" * 20

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.go_on = asyncio.Event()

    async def send(self, to: str, data: bytes, *_: Any, **__: Any) -> dict[str, Any]:
        self.sent.append(data)
        await self.go_on.wait()
        return {"transactionHash": "0x" + "22" * 32, "status": "0x1"}


class Chain:
    """A chain that would execute whatever is asked, for so much gas."""

    def __init__(self, gas: int = 100_000) -> None:
        self.gas = gas
        self.rpc = SimpleNamespace(call=self.call)

    async def call(self, method: str, *_: Any) -> str:
        return hex(self.gas)

    def contract(self, name: str) -> Any:
        return SimpleNamespace(address="0x" + "33" * 20, encode=lambda *arguments: repr(arguments).encode())


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def refused(work: Awaitable[Any]) -> Refused:
    """The refusal, which comes at once and not when there is room."""
    task = asyncio.ensure_future(work)
    await settle()
    assert task.done(), "it waits"
    with pytest.raises(Refused) as caught:
        await task
    return caught.value


# ---- changes of permissions -----------------------------------------------------------------------------------------


def change(**changes: Any) -> bytes:
    plain = {"key": KEY, "call": "0x11", "nonce": 0, "deadline": NOW + 60, "signature": "0x22"}
    return json.dumps(plain | changes).encode()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> PermissionCalls:
    """A service whose every address has one change, and whose payer does not wait."""
    payer: Any = Payer()
    payer.go_on.set()
    monkeypatch.setattr(permissions, "time", SimpleNamespace(time=lambda: float(NOW)))
    chain: Any = Chain()
    return PermissionCalls(ChainWriter(chain, payer, GAS), Quota("c", "w", 1), Quota("k", "w", 1))


@pytest.mark.parametrize("deadline", [NOW + 1, NOW + permissions.MAX_AHEAD])
async def test_a_deadline_within_a_day_is_in_time(calls: PermissionCalls, deadline: int) -> None:
    assert await calls.execute(change(deadline=deadline), "here")


@pytest.mark.parametrize("deadline", [NOW, NOW + permissions.MAX_AHEAD + 1])
async def test_a_deadline_that_has_passed_or_is_too_far_counts_against_nobody(
    calls: PermissionCalls, deadline: int
) -> None:
    assert (await refused(calls.execute(change(deadline=deadline), "here"))).code == "bad_deadline"
    assert await calls.execute(change(), "here")


@pytest.mark.parametrize(("name", "most"), [("call", permissions.MAX_CALL), ("signature", permissions.MAX_SIGNATURE)])
async def test_what_is_longer_than_any_change_is_not_read(calls: PermissionCalls, name: str, most: int) -> None:
    with pytest.raises(BadJson):
        await calls.execute(change(**{name: "0x" + "11" * (most + 1)}), "here")
    assert await calls.execute(change(**{name: "0x" + "11" * most}), "here")


async def test_what_costs_too_much_gas_is_not_paid(monkeypatch: pytest.MonkeyPatch) -> None:
    payer: Any = Payer()
    payer.go_on.set()
    chain: Any = Chain(permissions.MAX_GAS * 4 // 5)
    assert from_quantity(hex(chain.gas)) * 5 // 4 == permissions.MAX_GAS
    writer = ChainWriter(chain, payer, GAS)
    assert await writer.send("here", "PKPPermissions", "execute")
    chain.gas += 1
    assert (await refused(writer.send("here", "PKPPermissions", "execute"))).code == "too_expensive"
    assert len(payer.sent) == 1


async def test_so_many_transactions_wait_and_the_next_is_refused_before_it_is_tried_out() -> None:
    payer: Any = Payer()
    chain: Any = Chain()
    writer = ChainWriter(chain, payer, GAS)
    waiting = [
        asyncio.create_task(writer.send("here", "Sessions", "revoke", k)) for k in range(permissions.QUEUE_LIMIT)
    ]
    await settle()
    assert (await refused(writer.send("here", "Sessions", "revoke", -1))).code == "busy"
    payer.go_on.set()
    await asyncio.gather(*waiting)
    assert len(payer.sent) == permissions.QUEUE_LIMIT
    assert await writer.send("here", "Sessions", "revoke", -1)


async def test_a_try_costs_its_gas_before_it_is_made_and_a_refusal_more(monkeypatch: pytest.MonkeyPatch) -> None:
    payer: Any = Payer()
    chain: Any = Chain()
    tried = list[int]()

    async def no(*_: Any) -> str:
        tried.append(1)
        raise Reverted(3, "execution reverted")

    monkeypatch.setattr(buckets.Buckets.__init__, "__defaults__", (lambda: 0.0,))
    monkeypatch.setattr(buckets.Meter.__init__, "__defaults__", (lambda: 0.0,))
    monkeypatch.setattr(chain.rpc, "call", no)
    writer = ChainWriter(chain, payer, 3 * (permissions.TRIED_GAS + permissions.REFUSED_GAS))
    for _ in range(3):
        assert (await refused(writer.send("here", "Sessions", "revoke", 1))).code == "contract_refused"
    assert (await refused(writer.send("here", "Sessions", "revoke", 1))).code == "too_much_gas"
    assert (len(tried), payer.sent) == (3, [])


async def test_one_call_is_tried_out_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    payer: Any = Payer()
    payer.go_on.set()
    chain: Any = Chain()
    trying, go_on = list[int](), asyncio.Event()

    async def slowly(*_: Any) -> str:
        trying.append(1)
        await go_on.wait()
        return hex(chain.gas)

    monkeypatch.setattr(chain.rpc, "call", slowly)
    writer = ChainWriter(chain, payer, GAS)
    sending = [asyncio.create_task(writer.send("here", "Sessions", "revoke", k)) for k in range(3)]
    await settle()
    assert len(trying) == 1
    go_on.set()
    await asyncio.gather(*sending)
    assert len(trying) == 3


# ---- keys -----------------------------------------------------------------------------------------------------------


async def test_so_many_mints_wait_and_the_next_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(Relay, "_mint", never)
    payer: Any = Payer()
    chain: Any = Chain()
    made = Relay(chain, payer, Quota("m", "keys", 1000, 1000, 1000))

    def ask(number: int, client: str) -> Awaitable[Any]:
        return made.mint(MintRequest("0x" + "44" * 20, f"request-{number:08d}"), client)

    each = relay.QUEUE_LIMIT_PER_CLIENT
    waiting = [asyncio.ensure_future(ask(k, f"client {k // each}")) for k in range(relay.QUEUE_LIMIT)]
    await settle()
    assert (await refused(ask(relay.QUEUE_LIMIT, "another"))).code == "busy"
    await made.close()
    await asyncio.gather(*waiting, return_exceptions=True)
    again = [asyncio.ensure_future(ask(k, "one")) for k in range(each)]
    await settle()
    assert (await refused(ask(each, "one"))).code == "busy"
    assert len(made._asked) == each
    await made.close()
    await asyncio.gather(*again, return_exceptions=True)


async def test_logins_share_transactions_of_bounded_size_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []

    async def hold(_: Any, batch: list[Any]) -> None:
        batches.append(len(batch))

    async def nothing(*_: Any) -> int:
        return 0

    monkeypatch.setattr(SignUps, "_serve", hold)
    monkeypatch.setattr(SignUps, "_existing", nothing)
    monkeypatch.setattr(signups, "COLLECT_SECONDS", 0.0)
    payer: Any = Payer()
    chain: Any = Chain()
    made = SignUps(chain, payer, Quota("m", "keys", 1000, 1000, 1000))
    count = (signups.IN_FLIGHT + 1) * signups.BATCH
    asked = [LoginKey(1, number.to_bytes(20, "big")) for number in range(1, count + 1)]
    waiting = [asyncio.create_task(made.mint(login, "here")) for login in asked]
    for _ in range(100):
        await asyncio.sleep(0)
    assert batches == [signups.BATCH] * signups.IN_FLIGHT
    made._gate.release()
    for _ in range(20):
        await asyncio.sleep(0)
    assert batches == [signups.BATCH] * (signups.IN_FLIGHT + 1)
    await made.close()
    await asyncio.gather(*waiting, return_exceptions=True)


def test_what_goes_onto_the_chain_with_a_passkey_is_bounded() -> None:
    certificate: Any = SimpleNamespace(delegated=False, methods=(Proven(passkey.PASSKEY_TYPE, b"\x01" * 32),))

    def ask(size: int) -> LoginKey:
        request: Any = SimpleNamespace(key="*", intent={"another": None, "user_pubkey": "0x" + "11" * size})
        return login_keys.read_login_key(certificate, request, "localhost")

    with pytest.raises(BadJson):
        ask(login_keys.MAX_USER_PUBKEY + 1)
    with pytest.raises(Invalid) as caught:
        ask(login_keys.MAX_USER_PUBKEY)
    assert caught.value.code == "bad_passkey"


# ---- what it looks up -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ready", "fresh"), [(True, services.STATUS_FRESH_SECONDS), (False, services.STARTING_SECONDS)]
)
async def test_many_who_ask_for_the_status_cost_the_nodes_one_look(
    monkeypatch: pytest.MonkeyPatch, ready: bool, fresh: float
) -> None:
    now, looks = [100.0], []

    async def look() -> Any:
        looks.append(now[0])
        return status

    async def with_blocks(nodes: Any) -> Any:
        return nodes

    status = SimpleNamespace(ready=ready, nodes=())
    monkeypatch.setattr(services, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(services, "replace", lambda found, **_: found)
    gateway = object.__new__(services.Gateway)
    gateway._status, gateway._status_lock = None, asyncio.Lock()
    monkeypatch.setattr(gateway, "network", look, raising=False)
    monkeypatch.setattr(gateway, "_with_blocks", with_blocks, raising=False)
    await asyncio.gather(*(gateway.status() for _ in range(20)))
    now[0] += 0.99 * fresh
    await gateway.status()
    assert len(looks) == 1
    now[0] += 0.02 * fresh
    await asyncio.gather(*(gateway.status() for _ in range(20)))
    assert len(looks) == 2


async def test_a_credentials_id_is_as_long_as_one_can_be() -> None:
    class Nothing(PasskeyIndex):
        async def _look(self) -> None:
            return None

    unused: Any = None
    index = Nothing(unused, "localhost")
    assert (await refused(index.find("A" * passkeys.MAX_CHARACTERS))).code == "unknown_passkey"
    with pytest.raises(Invalid, match="at most"):
        await index.find("A" * (passkeys.MAX_CHARACTERS + 1))


async def test_failures_of_logins_come_back_over_so_many_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(buckets.Buckets.__init__, "__defaults__", (lambda: now[0],))

    async def fail(_: Any) -> Any:
        raise Invalid("bad_signature", "no", "sign it")

    login = http.counting_failures(fail, 4)
    client: Any = SimpleNamespace(client="203.0.113.1")

    async def failures() -> int:
        for count in range(100):
            try:
                await login(client)
            except Invalid:
                continue
            except Refusal as error:
                assert error.code == "too_many_failures"
                return count
        return -1

    assert await failures() == 4  # then nobody asks the nodes for this address
    now[0] += http.FAILURE_SECONDS / 2
    assert await failures() == 2


def test_what_a_gateway_pays_for_comes_back_in_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(buckets.Buckets.__init__, "__defaults__", (lambda: now[0],))
    quota = Quota("c", "keys", 2, 1000)
    for name in ("a", "b"):
        quota.take("here", name)
    with pytest.raises(Refused) as caught:
        quota.take("here", "c")
    assert (caught.value.code, caught.value.status) == ("c", quotas.TOO_MANY)
    now[0] += quotas.HOUR / 2
    quota.take("here", "c")
    with pytest.raises(Refused):
        quota.take("here", "c")


def test_no_body_is_read_that_is_longer_than_what_can_be_meant() -> None:
    """A gateway reads what the nodes read, so that it passes on nothing that all of them refuse for its length."""
    from keyquorum.node import api

    assert (SESSION_BODY, LOGIN_BODY, COMMITMENT_BODY) == (api.SESSION_BODY, api.LOGIN_BODY, api.COMMITMENT_BODY)
    assert MAX_BODY == api.SIGN_BODY


# ---- who asks -------------------------------------------------------------------------------------------------------


class Full:
    """A quota that is used up."""

    def __init__(self) -> None:
        self.named: list[tuple[str, ...]] = []

    def take(self, *names: str) -> None:
        self.named.append(names)
        raise Refused("full", "too many for now", "wait an hour", status=429)


DOORS = {
    "open_session": ("_logins", ("here",)),
    "revoke": ("_revocations", ("here", "1:" + "11" * 20)),
    "commit": ("_commitments", ("here",)),
}


@pytest.mark.parametrize("door", DOORS)
async def test_whoever_makes_the_nodes_work_is_counted_before_one_is_asked(
    door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(*_: Any) -> Any:
        return {}, SimpleNamespace(methods=(Proven(1, b"\x11" * 20),), issued_at=0), request

    async def network_key() -> Any:
        return None

    def good(*_: Any, **__: Any) -> None:
        return None

    statement = SimpleNamespace(check=good, check_terms=good)
    request = SimpleNamespace(id="r", runs=((1, 2, 3),), intent={"session": "11" * 32}, expires=NOW)
    login = SimpleNamespace(statement=statement, certificate=None, method="siwe", request=request)
    monkeypatch.setattr(services.login_request, "verify", lambda *_: login)
    monkeypatch.setattr(services.Commitment, "from_json", lambda _: SimpleNamespace(statement=statement))
    name, counted = DOORS[door]
    quota, gateway = Full(), object.__new__(services.Gateway)
    gateway._facts = SimpleNamespace(id="n", chain_id=1)  # type: ignore[assignment]
    gateway._fanout = gateway._writer = gateway._transport = None  # type: ignore[assignment]  # nobody there to ask
    for attribute, value in ((name, quota), ("_read", read), ("_network_key", network_key)):
        monkeypatch.setattr(gateway, attribute, value, raising=False)
    body = b'{"request": "r"}'
    assert (await refused(getattr(gateway, door)(body, "here"))).code == "full"
    assert quota.named == [counted]


async def test_an_address_asks_for_changes_as_often_as_so_many_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets.Buckets.__init__, "__defaults__", (lambda: 0.0,))
    monkeypatch.setattr(services.Connection, "connect", lambda self: _nothing())
    config = GatewayConfig(network="eip155:31337:0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512", rpc="", calls_per_key=3)
    gateway = services.Gateway(config)
    monkeypatch.setattr(services.Gateway, "chain", Chain())
    await services.Gateway.connect(gateway)
    for quota in (gateway._permissions._per_client, gateway._revocations):
        assert quota._buckets[0].capacity == services.CALLS_PER_CLIENT * 3
    assert gateway._permissions._per_key._buckets[0].capacity == gateway._revocations._buckets[1].capacity == 3
    await gateway.close()


async def _nothing() -> None:
    return None


async def test_what_the_chain_said_is_good_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = [100.0], []

    async def read() -> int:
        asked.append(now[0])
        return 7

    monkeypatch.setattr(signups, "time", SimpleNamespace(monotonic=lambda: now[0]))
    fresh = signups._Fresh()
    for _ in range(5):
        assert await fresh.get(read) == 7
    now[0] += signups.FRESH_SECONDS
    await fresh.get(read)
    assert len(asked) == 1
    now[0] += 0.1
    await fresh.get(read)
    assert len(asked) == 2
