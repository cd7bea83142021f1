"""Whoever lies to the page gains nothing: a thief on the chain, the gateway in each of its answers, the endpoint.

The network is real; between it and the browser answers are changed. `LIARS` names for each path that the page asks the
tests that lie to it there, and the last test finds the paths in the source.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from devices import public_key
from eth_account import Account
from eth_account.messages import encode_defunct
from liars import (
    THIEF,
    before_the_page_knows,
    is_call,
    lie,
    lie_on_chain,
    thief_mints,
    watch,
    words,
)
from page_modules import JS

from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.evm.address import to_checksum

NEVER = "0x" + "ab" * 32


# -- thieves on the chain ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("itself", [False, True], ids=["the thief owns it", "it owns itself"])
async def test_a_new_persons_login_on_a_thiefs_key_makes_it_not_theirs(
    world: Any, new_device: Any, itself: bool
) -> None:
    """Whoever sees a first login can put it on a key of his own before its person's page has made one."""
    device = await new_device()
    taken: list[str] = []

    async def steal(who: tuple[int, bytes]) -> None:
        thief = bytes.fromhex(ACCOUNTS[THIEF][0][2:])
        _, address, _ = await thief_mints(world, [(1, thief), who] if itself else [who], itself=itself)
        taken.append(to_checksum(bytes.fromhex(address[2:])))

    await before_the_page_knows(device, steal)
    said = await device.new_passkey()
    (own,) = await device.own_keys()
    assert own == await device.text("#address") != taken[0], said
    await device.sign("mine")
    assert Account.recover_message(encode_defunct(text="mine"), signature=await device.text("#result")) == own
    (other,) = await device.other_keys()
    assert taken[0] in other
    assert ("It owns itself. 2 logins open it" if itself else f"It belongs to {ACCOUNTS[THIEF][0]}") in other
    await device.page.reload()
    await device.settled()
    assert await device.own_keys() == [own] and await device.text("#address") == own


async def test_thousands_of_keys_of_strangers_hide_nothing_and_cost_nothing(world: Any, person: Any) -> None:
    own = await person.text("#address")
    tokens = iter(range(1, 10**6))

    def change(request: dict[str, Any], result: Any) -> Any:
        if is_call(request, "PKPPermissions", "countTokenIdsForAuthMethod"):
            return words(["uint256"], 5001)
        if is_call(request, "PKPPermissions", "getTokenIdsForAuthMethodPage"):
            return words(["uint256[]"], [next(tokens) for _ in range(5000)])
        return result

    asked = await lie_on_chain(person, world.cluster.rpc.url, change)
    await person.page.reload()
    await person.settled()
    assert await person.own_keys() == [own] and await person.text("#address") == own
    assert await person.text("#others-title") == "5000 other keys that your login opens"
    before = len(asked)
    assert before < 60
    await person.other_keys()
    assert await person.text("#others-left") == "4981 more entries are not shown yet."
    assert len(asked) - before < 60
    await person.click("#others", "Show more")
    assert await person.text("#others-left") == "4961 more entries are not shown yet."


# -- the gateway: keys ------------------------------------------------------------------------------------------------


async def test_a_key_of_the_gateways_choice_is_never_shown(world: Any, new_device: Any) -> None:
    device = await new_device()
    minted: list[tuple[int, str, dict[str, Any]]] = []

    async def steal(who: tuple[int, bytes]) -> None:
        minted.append(await thief_mints(world, [who, (1, b"\x66" * 20)], itself=True))

    await before_the_page_knows(device, steal)

    def change(_: Any) -> Any:
        token, address, receipt = minted[0]
        answer = {"token_id": f"0x{token:064x}", "address": address, "relay": ACCOUNTS[THIEF][0], "minted": True}
        return answer | {"transaction": receipt["transactionHash"]}

    await lie(device, "/v1/keys", change, forward=False)
    said = await device.new_passkey()
    assert "was not made for this login" in said, said
    assert await device.own_keys() == [] and not await device.page.is_visible("#key")
    await device.page.unroute("**/v1/keys")
    await device.click("#keys", "Make my key")
    (own,) = await device.own_keys()
    assert own.lower() != minted[0][1].lower()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"relay": "0x" + "77" * 20}, "was not made for this login"),
        ({"relay": ""}, "who paid"),
        ({"token_id": "0x12"}, "no token id"),
        ({"token_id": "0x" + "12" * 32}, "did not mint"),
        ({"token_id": "0x" + "12" * 32, "transaction": None}, "names no such key"),
        ({"transaction": "0x12"}, "no hash"),
    ],
    ids=str,
)
async def test_what_a_gateway_says_about_a_new_key_is_compared_with_the_chain(
    new_device: Any, change: dict[str, Any], why: str
) -> None:
    device = await new_device()
    await lie(device, "/v1/keys", lambda told: told | change)
    said = await device.new_passkey()
    assert why in said, said
    assert not await device.page.is_visible("#key")


# -- the gateway: logins, signatures ----------------------------------------------------------------------------------


async def test_another_persons_certificate_is_not_taken(person: Any, new_device: Any) -> None:
    session = "async () => (await (await import('/js/store.js')).load('session')).certificate"
    certificate = await person.page.evaluate(session)
    device = await new_device()
    await lie(device, "/v1/sessions", lambda _: {"certificate": certificate}, forward=False)
    said = await device.new_passkey()
    assert "the certificate is for something else" in said, said
    assert await device.page.is_visible("#choices")


@pytest.mark.parametrize("member", ["summary", "r", "v", "none"])
async def test_a_signature_of_something_else_is_not_shown(person: Any, member: str) -> None:
    def change(told: Any) -> Any:
        signature = told["signature"]
        other = {"r": "0x" + "11" * 32, "v": signature["v"] ^ 1}
        if member == "none":
            return {}
        if member == "summary":
            return told | {"summary": "signs something nice"}
        return told | {"signature": signature | {member: other[member]}}

    await lie(person, "/v1/sign", change)
    said = await person.sign("hello")
    assert "nodes describe" in said or "gateway's signature" in said, said
    assert await person.text("#result") == ""


@pytest.mark.parametrize(
    "told", [{"nodes": []}, {}, {"nodes": [{"party": 9, "live": False}], "threshold": 99}], ids=str
)
async def test_what_a_gateway_says_about_nodes_stops_nobody(person: Any, told: dict[str, Any]) -> None:
    await lie(person, "/v1/network", lambda _: told, forward=False)
    said = await person.sign("hello")
    assert "signs the message" in said, said


async def test_wrong_keys_in_the_directory_do_not_hide_the_right_one(world: Any, person: Any, new_device: Any) -> None:
    (credential,) = await person.credentials()
    device = await new_device()
    await device.receive(credential)
    _, told = await public_key(world, credential["credentialId"])
    junk = ["", "A", "AAAA", "!!", 5, None, "pQECAyYgASFYIA"]
    wrong = {"public_key": junk[0], "others": junk[1:], "more": True}
    pages = iter([wrong, wrong, {"public_key": junk[0], "others": [*junk[1:], told["public_key"]], "more": False}])
    asked = await lie(device, "/v1/passkeys/*", lambda _: next(pages), forward=False)
    # Who reads so many pages is asked to slow down, and comes back.
    wait = {"error": {"code": "too_many_requests", "message": "too many requests", "hint": "slow down"}}
    await device.page.route("**/v1/passkeys/*", lambda route: route.fulfill(status=429, json=wait), times=2)
    said = await device.click("#choices", "Use a passkey I have")
    assert await device.own_keys() == [await person.text("#address")], said
    assert len(asked) == 3


# -- the gateway: taking away -----------------------------------------------------------------------------------------


async def with_a_second_login(world: Any, person: Any) -> str:
    """Add a second passkey; return the line of the first."""
    (first,) = await person.items("#methods")
    (credential,) = await person.credentials()
    await person.forget(credential)
    said = await person.new_passkey("#add-choices")
    assert said.startswith("Added"), said
    return first.partition(",")[0]


@pytest.mark.parametrize("hash_", [NEVER, "0x12", ""], ids=lambda name: name[:6])
async def test_a_removal_that_was_never_made_is_not_believed(world: Any, person: Any, hash_: str) -> None:
    first = await with_a_second_login(world, person)
    await lie(person, "/v1/permissions", lambda _: {"transaction": hash_}, forward=False)
    said = await person.remove(first)
    assert "no hash" in said or "does not know the transaction" in said, said
    assert len(await person.items("#methods")) == 2


async def test_another_transaction_is_not_the_removal_that_was_asked_for(world: Any, person: Any) -> None:
    sent: list[Any] = []

    def note(told: Any) -> Any:
        sent.append(told)
        return told

    await lie(person, "/v1/permissions", note)
    first = await with_a_second_login(world, person)
    await person.page.unroute("**/v1/permissions")
    await lie(person, "/v1/permissions", lambda _: sent[0], forward=False)
    said = await person.remove(first)
    assert "did something else" in said, said
    assert len(await person.items("#methods")) == 2


async def test_a_removal_that_nodes_have_not_seen_says_so(world: Any, person: Any) -> None:
    first = await with_a_second_login(world, person)

    def behind(told: Any) -> Any:
        return told | {"nodes": [node | {"block": 1} for node in told["nodes"]]}

    await lie(person, "/v1/network", behind)
    said = await person.remove(first)
    assert said.startswith("Removed.") and "may take a moment" in said, said
    assert len(await person.items("#methods")) == 1


async def test_an_end_that_never_came_is_not_believed(person: Any) -> None:
    await lie(person, "/v1/revocations", lambda _: {"transaction": NEVER}, forward=False)
    await person.page.locator("#session-list button").first.click()
    await person.page.click("#ask-ok")
    said = await person.settled()
    assert "the chain does not know of it" in said, said
    assert await person.page.is_visible("#keys")


async def test_no_session_that_works_is_listed_as_ended_and_what_is_none_is_left_out(person: Any) -> None:
    def change(told: Any) -> Any:
        first = told["sessions"][0] | {"revoked": True}
        junk = [first | {"id": "rubbish"}, first | {"methods": []}, first | {"methods": [{"type": -1, "id": "0x"}]}]
        return {"sessions": [*junk, 5, None, first]}

    await lie(person, "/v1/sessions/list", change)
    await person.page.reload()
    await person.settled()
    (line,) = await person.items("#session-list")
    assert "this one" in line and "ended" not in line


# -- the gateway: where things are ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"network": "eip155:1:0x" + "00" * 20}, "another chain"),
        ({"network": "nonsense"}, "names no network"),
        ({"network": "eip155:31337:0x" + "66" * 20}, "cut short"),
    ],
    ids=str,
)
async def test_a_network_that_the_chain_does_not_know_is_not_opened(
    new_device: Any, change: dict[str, str], why: str
) -> None:
    device = await new_device()
    await lie(device, "/network.json", lambda told: told | change)
    await device.page.reload()
    said = await device.settled()
    assert why in said and not await device.page.is_visible("#choices"), said


async def test_a_stranger_under_a_known_name_is_not_offered(new_device: Any) -> None:
    device = await new_device()
    google = {"name": "google", "issuer": "https://evil.example", "client_id": "x", "authorization_endpoint": ""}
    discord = {"application_id": "1", "base_url": "https://evil.example"}
    await lie(device, "/v1/login", lambda told: told | {"oidc": [google], "discord": discord})
    await device.page.reload()
    await device.settled()
    labels = await device.page.locator("#choices button").all_text_contents()
    assert "Create a passkey" in labels and not [text for text in labels if "oogle" in text or "Discord" in text]


async def test_receipts_of_nobody_keep_the_token_here(world: Any, new_device: Any) -> None:
    device = await new_device()
    shown = await watch(device, "/v1/sessions")
    forged = {"party": 1, "issued_at": 1, "signature": "0x" + "11" * 65}
    await lie(device, "/v1/commitments", lambda _: {"receipts": [forged] * 4}, forward=False)
    await device.page.locator("#choices button").get_by_text("Discord (", exact=False).click()
    await device.page.fill("input[name=login]", "alice")
    await device.page.press("input[name=login]", "Enter")
    await device.page.wait_for_url(device.url + "/**")
    said = await device.settled()
    assert "nothing was shown to anybody" in said, said
    assert shown == []


# -- that none is missing ---------------------------------------------------------------------------------------------

LIARS: dict[str, list[Callable[..., Any]]] = {
    "/v1/keys": [
        test_a_key_of_the_gateways_choice_is_never_shown,
        test_what_a_gateway_says_about_a_new_key_is_compared_with_the_chain,
    ],
    "/v1/sessions": [test_another_persons_certificate_is_not_taken],
    "/v1/sign": [test_a_signature_of_something_else_is_not_shown],
    "/v1/network": [test_what_a_gateway_says_about_nodes_stops_nobody, test_a_removal_that_nodes_have_not_seen_says_so],
    "/v1/passkeys/": [test_wrong_keys_in_the_directory_do_not_hide_the_right_one],
    "/v1/permissions": [
        test_a_removal_that_was_never_made_is_not_believed,
        test_another_transaction_is_not_the_removal_that_was_asked_for,
    ],
    "/v1/revocations": [test_an_end_that_never_came_is_not_believed],
    "/v1/sessions/list": [test_no_session_that_works_is_listed_as_ended_and_what_is_none_is_left_out],
    "/network.json": [test_a_network_that_the_chain_does_not_know_is_not_opened],
    "/v1/login": [test_a_stranger_under_a_known_name_is_not_offered],
    "/v1/commitments": [test_receipts_of_nobody_keep_the_token_here],
}


def test_every_path_that_the_page_asks_its_gateway_has_its_liar() -> None:
    asked: set[str] = set()
    for path in JS.glob("*.js"):
        asked |= set(re.findall(r"""\b(?:get|post|postSigned)\((?:network, )?["`](/[^"`$]*)""", path.read_text()))
    assert asked == set(LIARS)
