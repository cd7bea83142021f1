"""Every other way to log in, at the gateway's page in a real Chromium, with real providers and a real network."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from codes.code_world import code_in
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.rpc import Sender

ETHER = 10**18
FRIEND = "0x" + "42" * 20
WALLET = """
  window.ethereum = { request: async ({ method, params }) =>
    method === "eth_requestAccounts" ? [await walletAddress()] : walletSigns(params[0]) };
"""


def recovered(text: str, signature: str) -> str:
    return str(Account.recover_message(encode_defunct(text=text), signature=signature))


async def signs(device: Any, address: str) -> None:
    await device.sign("hello")
    assert recovered("hello", await device.text("#result")) == address


async def at_oidc(device: Any, where: str, user: str) -> str:
    """Go to the provider, log in there, come back."""
    await device.page.locator(f"{where} button").get_by_text("Npm (", exact=False).click()
    await device.page.fill("input[name=login]", user)
    await device.page.fill("input[name=password]", "any")
    await device.page.click("button[type=submit]")
    await device.page.click("button[type=submit]")
    return await back(device)


async def back(device: Any) -> str:
    await device.page.wait_for_url(device.url + "/**")
    said = await device.settled()
    assert "token" not in device.page.url and "#" not in device.page.url
    return str(said)


async def test_an_account_at_a_provider_makes_a_key_and_a_transaction_with_no_wallet_and_no_gas(
    world: Any, new_device: Any
) -> None:
    if world.issuer is None:
        pytest.skip("npm oidc-provider cannot be installed here")
    device = await new_device()
    said = await at_oidc(device, "#choices", "alice")
    address = await device.text("#address")
    assert address.startswith("0x"), said
    await Sender(world.cluster.rpc, ACCOUNTS[3][1]).send(address, value=ETHER)
    shown = await device.transfer(FRIEND, "0.25")
    assert shown["To"] == FRIEND and shown["Amount"] == "0.25 ETH", shown
    await device.page.click("#ask-ok")
    said = await device.settled()
    assert said.endswith(shown["In the nodes' words"]), said
    assert await world.cluster.rpc.balance(FRIEND) == ETHER // 4, said

    # A passkey joins it, the account at the provider goes, the address stays.
    said = await device.new_passkey("#add-choices")
    assert said.startswith("Added"), said
    (row,) = [row for row in await device.items("#methods") if row.startswith("Google")]
    await device.remove(row)
    other = await new_device()
    (credential,) = await device.credentials()
    await other.receive(credential)
    await other.click("#choices", "Use a passkey I have")
    await other.open_other(address)
    await signs(other, address)
    assert not device.problems + other.problems


async def test_an_answer_for_another_tab_is_not_taken(world: Any, new_device: Any) -> None:
    device = await new_device()
    await device.page.goto("about:blank")
    await device.page.goto(world.url + "/#id_token=a.b.c&state=guessed")
    await device.settled()
    assert device.page.url == world.url + "/"
    assert await device.page.is_visible("#choices")


async def test_discord_is_committed_to_and_makes_a_key(world: Any, new_device: Any) -> None:
    device = await new_device()
    await device.page.locator("#choices button").get_by_text("Discord (", exact=False).click()
    await device.page.fill("input[name=login]", "alice")
    await device.page.press("input[name=login]", "Enter")
    said = await back(device)
    address = await device.text("#address")
    assert address.startswith("0x"), said
    await signs(device, address)
    assert not device.problems


async def test_codes_by_mail_make_a_key(world: Any, new_device: Any) -> None:
    device = await new_device()
    before = len(world.mail.mails)
    await device.page.locator("#choices button").get_by_text("E-mail", exact=True).click()
    await device.page.fill("#ask-fields input", "Ada@Example.org")
    await device.page.click("#ask-ok")
    mails = (await world.mail.wait_for(before + 2))[before:]
    await device.page.wait_for_selector("#ask-fields input[autocomplete=one-time-code]")
    shown = await device.text("#ask-text")
    for address, mail in mails:
        text = mail.get_content()
        assert address == "ada@example.org" and shown.rpartition(" ")[2] in text
        service = str(mail["From"]).partition("@")[0].rpartition("<")[2]
        field = device.page.locator("#ask-fields label", has_text=service).locator("input")
        await field.fill(code_in(text))
    await device.page.click("#ask-ok")
    said = await device.settled()
    address = await device.text("#address")
    assert address.startswith("0x"), said
    await signs(device, address)
    assert not device.problems


async def test_a_wallet_makes_a_key_of_its_own(world: Any, new_device: Any) -> None:
    account = Account.create()

    async def signed(message: str) -> str:
        return "0x" + bytes(account.sign_message(encode_defunct(hexstr=message)).signature).hex()

    device = await new_device()
    await device.page.expose_function("walletAddress", lambda: account.address.lower())
    await device.page.expose_function("walletSigns", signed)
    await device.page.add_init_script(WALLET)
    await device.page.reload()
    await device.settled()
    said = await device.click("#choices", "Browser wallet")
    address = await device.text("#address")
    assert address.startswith("0x"), said
    await signs(device, address)
    assert len(await device.items("#methods")) == 1
    assert not device.problems
