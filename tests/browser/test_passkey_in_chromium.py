"""A person with nothing but a passkey, in a real browser, on a real network."""

from __future__ import annotations

from typing import Any

from devices import public_key
from eth_account import Account
from eth_account.messages import encode_defunct

from keyquorum.auth.passkey import identity
from keyquorum.formats.text import from_base64url

ETHER = 10**18
REFUSED = "none of your identities may do this with this key"
FRIEND = "0x" + "42" * 20


def recovered(text: str, signature: str) -> str:
    return str(Account.recover_message(encode_defunct(text=text), signature=signature))


async def test_a_passkey_makes_a_key_signs_moves_to_a_new_device_and_is_removed(world: Any, new_device: Any) -> None:
    first = await new_device()
    said = await first.new_passkey()
    address = await first.text("#address")
    assert address.startswith("0x"), said
    await first.sign("from the first device")
    assert recovered("from the first device", await first.text("#result")) == address

    # The same person at a new device: the passkey was copied there, and nothing else.
    (credential,) = await first.credentials()
    second = await new_device()
    await second.receive(credential)
    said = await second.click("#choices", "Use a passkey I have")
    assert await second.own_keys() == [address], said
    assert await second.text("#address") == address
    await second.sign("from the second device")
    assert recovered("from the second device", await second.text("#result")) == address

    # A second passkey is added there, and opens the same key.
    await second.forget(credential)
    said = await second.new_passkey("#add-choices")
    assert said.startswith("Added"), said
    assert len(await second.items("#methods")) == 2
    third = await new_device()
    (other,) = await second.credentials()
    await third.receive(other)
    await third.click("#choices", "Use a passkey I have")

    # There nobody can tell it from a stranger's key: the second passkey's own key comes first.
    (own,) = await third.own_keys()
    assert own == await third.text("#address") != address
    (other,) = await third.other_keys()
    assert address in other and "It owns itself." in other and "2 logins open it" in other
    assert "was not made for your login" in await third.open_other(address)
    assert await third.text("#address") == address and await third.page.is_visible("#not-own")

    # It removes the first, whose open session is refused from then on.
    old = shown(credential, await public_key(world, credential["credentialId"]))
    (row,) = [row for row in await third.items("#methods") if row.startswith(old)]
    assert await third.remove(row) == "Removed."
    assert len(await third.items("#methods")) == 1
    said = await first.sign("after the removal")
    assert said.startswith(REFUSED), said
    await third.sign("the address stays")
    assert recovered("the address stays", await third.text("#result")) == address
    assert not first.problems + second.problems + third.problems


def shown(credential: dict[str, Any], answer: tuple[int, Any]) -> str:
    """How the page abbreviates a passkey's identity."""
    key = from_base64url(answer[1]["public_key"], "")
    name = from_base64url(credential["credentialId"].replace("+", "-").replace("/", "_").rstrip("="), "")
    return "passkey 0x" + identity("localhost", name, key).hex()[:8]


async def test_sessions_are_listed_and_ended_from_another_device(new_device: Any) -> None:
    lost, kept = await new_device(), await new_device()
    await lost.new_passkey()
    (credential,) = await lost.credentials()
    await kept.receive(credential)
    await kept.click("#choices", "Use a passkey I have")
    listed = await kept.items("#session-list")
    assert len(listed) == 2 and sum("this one" in line for line in listed) == 1
    (other,) = [line for line in listed if "this one" not in line]
    await kept.page.locator("#session-list li").filter(has_not_text="this one").get_by_text("End", exact=True).click()
    await kept.page.click("#ask-ok")
    assert await kept.settled() == "Ended."
    said = await lost.sign("with the lost device")
    assert "revoked" in said, (said, other)
    await kept.sign("with the kept one")
    assert (await kept.text("#result")).startswith("0x")


async def test_a_session_survives_a_reload_and_ends_with_log_out(new_device: Any) -> None:
    device = await new_device()
    await device.new_passkey()
    address = await device.text("#address")
    await device.page.reload()
    await device.settled()
    assert await device.own_keys() == [address] and await device.text("#address") == address
    await device.click("#sessions", "Log out")
    assert await device.page.is_visible("#choices") and not await device.page.is_visible("#keys")
    await device.page.reload()
    await device.settled()
    assert await device.page.is_visible("#choices")


async def test_one_more_key_is_made_by_a_word(new_device: Any) -> None:
    device = await new_device()
    await device.new_passkey()
    first = await device.text("#address")
    addresses = []
    for _ in range(2):
        await device.page.click("#new-key")
        await device.page.fill("#ask-fields input", "savings")
        await device.page.click("#ask-ok")
        await device.settled()
        addresses.append(await device.text("#address"))
    assert addresses[0] == addresses[1] != first
    assert await device.own_keys() == [first, addresses[0]]


async def test_the_page_at_a_numeric_address_goes_to_its_name(world: Any, new_device: Any) -> None:
    device = await new_device()
    await device.page.goto(world.url.replace("localhost", "127.0.0.1"))
    await device.page.wait_for_url(world.url + "/")
    await device.settled()
    assert await device.page.is_visible("#choices")
