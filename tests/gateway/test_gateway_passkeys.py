"""The directory of passkeys: what the chain's events say of a credential id, and what strangers may write into it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest
from eth_abi.abi import encode as abi_encode

from keyquorum.auth.passkey import PASSKEY_TYPE
from keyquorum.chain.contracts import Contract, interface
from keyquorum.chain.rpc import RpcUnreachable
from keyquorum.client.errors import ChainError, Refused
from keyquorum.formats.text import to_base64url
from keyquorum.gateway import passkeys
from keyquorum.gateway.app import Server
from keyquorum.gateway.passkeys import KEYS_IN_A_PAGE, PasskeyIndex
from keyquorum.refusal import Invalid
from soft_passkey import SoftPasskey, make_key

ADDRESS = "0x" + "12" * 20


class Events:
    """A chain of nothing but registrations, one block each; `final` is the newest block that stays."""

    def __init__(self) -> None:
        self.rpc = self
        self.logs: list[dict[str, Any]] = []
        self.final: int | None = 0
        self.height = 0
        self.asked: list[tuple[int, int]] = []
        self.down = False

    def contract(self, _: str) -> Contract:
        return Contract(None, ADDRESS, interface("PKPPermissions"))  # type: ignore[arg-type]

    def add(self, passkey: SoftPasskey, *, type_number: int = PASSKEY_TYPE, **changes: bytes) -> None:
        stored = {"id": passkey.identity, "pubkey": passkey.public_key + passkey.credential_id} | changes
        self.height += 1
        topic = interface("PKPPermissions").event_topic(passkeys.EVENT)
        data = abi_encode(["uint256", "bytes", "bytes"], [type_number, stored["id"], stored["pubkey"]])
        entry = {"address": ADDRESS, "topics": [topic, "0x" + "00" * 32], "data": "0x" + data.hex()}
        self.logs.append(entry | {"blockNumber": hex(self.height)})

    async def block_number(self) -> int:
        if self.down:
            raise RpcUnreachable("the chain is away")
        return self.height

    async def block(self, tag: str) -> dict[str, Any] | None:
        assert tag == "finalized"
        return None if self.final is None else {"number": hex(self.final)}

    async def get_logs(self, address: str, topics: Sequence[str], start: int, end: int) -> list[dict[str, Any]]:
        assert address == ADDRESS and len(topics) == 1
        self.asked.append((start, end))
        return [log for log in self.logs if start <= int(log["blockNumber"], 16) <= end]


@pytest.fixture
def chain() -> Events:
    return Events()


@pytest.fixture
def index(chain: Events) -> PasskeyIndex:
    return PasskeyIndex(chain, "localhost")  # type: ignore[arg-type]


def name(passkey: SoftPasskey) -> str:
    return to_base64url(passkey.credential_id)


async def test_a_registered_passkeys_key_is_found_by_its_credential_id(chain: Events, index: PasskeyIndex) -> None:
    for algorithm in ("ES256", "EdDSA", "RS256"):
        passkey = SoftPasskey(make_key(algorithm), algorithm.encode())  # type: ignore[arg-type]
        with pytest.raises(Refused) as refused:
            await index.find(name(passkey))
        assert (refused.value.code, refused.value.status) == ("unknown_passkey", 404)
        chain.add(passkey)
        found = {"public_key": to_base64url(passkey.public_key), "others": [], "more": False}
        assert await index.find(name(passkey)) == found


async def test_a_wrong_key_under_a_known_credential_id_hides_no_right_one(chain: Events, index: PasskeyIndex) -> None:
    thief, victim = SoftPasskey(), SoftPasskey()
    chain.add(thief)  # before the victim's own transaction, which it saw coming
    chain.add(victim)
    chain.add(victim)
    found = await index.find(name(victim))
    assert (found["public_key"], found["others"], found["more"]) == (
        to_base64url(thief.public_key), [to_base64url(victim.public_key)], False,
    )  # fmt: skip


async def test_what_is_no_registration_of_this_relying_party_is_not_listed(chain: Events, index: PasskeyIndex) -> None:
    passkey = SoftPasskey()
    chain.add(passkey, type_number=6)
    chain.add(passkey, id=bytes(32))
    chain.add(passkey, id=passkey.but(rp_id="other.example").identity)
    chain.add(passkey, pubkey=b"")
    chain.add(passkey, pubkey=passkey.public_key)
    chain.add(passkey, pubkey=passkey.public_key[:-1] + b"\0" + passkey.credential_id)
    with pytest.raises(Refused):
        await index.find(name(passkey))


async def test_keys_that_strangers_put_before_the_right_one_do_not_hide_it(
    chain: Events, index: PasskeyIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passkeys, "KEYS_IN_A_PAGE", 4)
    right = SoftPasskey()
    for _ in range(11):
        chain.add(SoftPasskey())
    for _ in range(2):
        chain.add(right)
    pages = [await index.find(name(right), str(page)) for page in range(3)]
    assert [page["more"] for page in pages] == [True, True, False]
    listed = [key for page in pages for key in (page["public_key"], *page["others"])]
    assert len(listed) == len(set(listed)) == 12
    assert listed[-1] == to_base64url(right.public_key)
    with pytest.raises(Refused):
        await index.find(name(right), "3")


@pytest.mark.parametrize("page", ["", "-1", "x", "1.0", "\u0661", "1" * (passkeys.MAX_PAGE_DIGITS + 1)])
async def test_what_is_no_page_is_refused_before_the_chain_is_asked(
    page: str, chain: Events, index: PasskeyIndex
) -> None:
    with pytest.raises(Invalid) as refused:
        await index.find(name(SoftPasskey()), page)
    assert refused.value.code == "bad_page" and not chain.asked


async def test_a_page_holds_as_many_keys_as_said(chain: Events, index: PasskeyIndex) -> None:
    for _ in range(KEYS_IN_A_PAGE):
        chain.add(SoftPasskey())
    found = await index.find(name(SoftPasskey()))
    assert len(found["others"]) == KEYS_IN_A_PAGE - 1 and not found["more"]


async def test_blocks_are_read_once_when_they_are_final_and_in_bounded_steps(
    chain: Events, index: PasskeyIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passkeys, "BLOCKS_AT_ONCE", 4)
    first = SoftPasskey()
    for _ in range(10):
        chain.add(first)
    chain.final = 6
    await index.find(name(first))
    assert chain.asked == [(0, 3), (4, 7), (8, 10)]
    chain.asked.clear()
    # The newest blocks were replaced by others.
    chain.logs, chain.height = chain.logs[:6], 6
    second = SoftPasskey(credential_id=b"second")
    chain.add(second)
    assert (await index.find(name(second)))["public_key"] == to_base64url(second.public_key)
    assert chain.asked == [(7, 7)]


async def test_a_chain_without_finality_is_read_again_each_time(chain: Events, index: PasskeyIndex) -> None:
    passkey = SoftPasskey()
    chain.add(passkey)
    chain.final = None
    await index.find(name(passkey))
    await index.find(name(passkey))
    assert [start for start, _ in chain.asked] == [0, 1]


async def test_a_chain_that_is_away_is_said_to_be(chain: Events, index: PasskeyIndex) -> None:
    chain.down = True
    with pytest.raises(ChainError):
        await index.find(name(SoftPasskey()))


@pytest.mark.parametrize("text", ["A" * 1365, "not base64url", "AA==", "A"])
async def test_what_is_no_credential_id_is_refused_before_the_chain_is_asked(
    text: str, chain: Events, index: PasskeyIndex
) -> None:
    with pytest.raises(Invalid) as refused:
        await index.find(text)
    assert refused.value.status == 400 and not chain.asked


async def test_the_directory_is_asked_over_http(server: Server, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{server.url}/v1/passkeys/{name(SoftPasskey())}") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (404, "unknown_passkey")


async def test_many_who_ask_together_cost_two_looks_at_the_chain(
    chain: Events, index: PasskeyIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    passkey, looks, height = SoftPasskey(), [0], chain.block_number

    async def counted() -> int:
        looks[0] += 1
        await asyncio.sleep(0)
        return await height()

    monkeypatch.setattr(chain, "block_number", counted)
    chain.add(passkey)
    found = await asyncio.gather(*(index.find(name(passkey)) for _ in range(20)))
    assert {each["public_key"] for each in found} == {to_base64url(passkey.public_key)}
    assert looks == [2]  # the one that was under way when the others came may have been too early for them
    chain.down = True
    assert {type(each) for each in await asyncio.gather(
        *(index.find(name(passkey)) for _ in range(3)), return_exceptions=True
    )} == {ChainError}  # fmt: skip
