"""What the page does is shown before, asked about where it cannot be undone, and done once."""

from __future__ import annotations

from typing import Any

from liars import lie_on_chain, my_identity, watch

from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.rpc import Sender

ETHER = 10**18
FRIEND = "0x" + "43" * 20
NEVER = "0x" + "ab" * 32


async def fund(world: Any, address: str) -> None:
    await Sender(world.cluster.rpc, ACCOUNTS[3][1]).send(address, value=ETHER)


# -- sending ----------------------------------------------------------------------------------------------------------


async def test_nothing_is_sent_before_it_was_shown_and_agreed_to(world: Any, person: Any) -> None:
    address = await person.text("#address")
    await fund(world, address)
    await person.page.wait_for_function("() => document.getElementById('balance').textContent === '1 ETH'")
    signed = await watch(person, "/v1/sign")
    shown = await person.transfer(FRIEND, "0.25")
    assert shown["title"] == "Send?" and shown["To"] == FRIEND and shown["Amount"] == "0.25 ETH"
    assert "development chain" in shown["On"] and "31337" in shown["On"]
    words = shown["In the nodes' words"]
    assert words.startswith(f"sends 0.25 ETH to {FRIEND}; chain 31337; nonce 0; max fee ")
    assert words.endswith("max fee " + shown["Fee, at most"]) and signed == []
    await person.page.get_by_text("Cancel", exact=True).last.click()
    assert await person.settled() == "Nothing was sent." and signed == []
    await person.transfer(FRIEND, "0.25")
    await person.page.click("#ask-ok")
    said = await person.settled()
    assert said == f"Sent. In the nodes' words: {words}" and len(signed) == 1
    assert (await person.text("#balance")).startswith("0.74")
    # What is left of it is gone before an error is shown.
    await person.transfer(FRIEND, "7")
    assert "less than what you want to send" in await person.settled()
    assert not await person.page.is_visible("#outcome") and len(signed) == 1


async def test_an_endpoint_that_lies_about_the_tip_is_asked_about(world: Any, person: Any) -> None:
    await fund(world, await person.text("#address"))
    signed = await watch(person, "/v1/sign")
    await lie_on_chain(
        person,
        world.cluster.rpc.url,
        lambda asked, result: hex(10**13) if asked["method"] == "eth_maxPriorityFeePerGas" else result,
    )
    shown = await person.transfer(FRIEND, "0.001")
    assert shown["title"] == "Unusually expensive" and "the tip is 10000 gwei" in shown["warnings"], shown
    assert "the fee may be 0.2" in shown["warnings"], shown
    await person.page.get_by_text("Cancel", exact=True).last.click()
    assert await person.settled() == "Nothing was sent." and signed == []


async def test_an_endpoint_that_names_another_transaction_is_not_believed(world: Any, person: Any) -> None:
    await fund(world, await person.text("#address"))
    await lie_on_chain(
        person,
        world.cluster.rpc.url,
        lambda asked, result: NEVER if asked["method"] == "eth_sendRawTransaction" else result,
    )
    await person.transfer(FRIEND, "0.001")
    await person.page.click("#ask-ok")
    said = await person.settled()
    assert "answered for another transaction" in said, said


async def test_however_often_a_button_is_pressed_it_does_one_thing(person: Any) -> None:
    signed = await watch(person, "/v1/sign")
    await person.page.fill("#message-form textarea", "once")
    await person.page.evaluate("""() => {
      const form = document.getElementById("message-form");
      for (let i = 0; i < 5; i++) form.dispatchEvent(new SubmitEvent("submit", { cancelable: true }));
    }""")
    said = await person.settled()
    assert "signs the message" in said and len(signed) == 1


async def test_a_message_that_is_a_login_is_asked_about(person: Any) -> None:
    signed = await watch(person, "/v1/sign")
    text = f"evil.example wants you to sign in with your Ethereum account:\n{FRIEND}\n"
    await person.page.fill("#message-form textarea", text)
    await person.page.click("#message-form button")
    await person.page.wait_for_function("() => document.getElementById('ask').open")
    assert "SIGNS IN to" in (await person.rows())["In the nodes' words"]
    await person.page.get_by_text("Cancel", exact=True).last.click()
    await person.settled()
    assert signed == [] and await person.text("#result") == ""


async def test_a_waiting_time_holds_new_logins_back_and_they_can_be_cancelled(world: Any, person: Any) -> None:
    await person.page.click("#set-delay")
    await person.page.fill("#ask-fields input", "2")
    await person.page.click("#ask-ok")
    assert await person.settled() == "Set." and "2 days" in await person.text("#delay")
    (credential,) = await person.credentials()
    await person.forget(credential)
    said = await person.new_passkey("#add-choices")
    assert said.startswith("Announced. It opens this key in 2 days"), said
    (pending,) = await person.items("#pending")
    assert pending.startswith("a new login: passkey") and len(await person.items("#methods")) == 1
    await person.page.locator("#pending button").click()
    await person.page.click("#ask-ok")
    assert await person.settled() == "Cancelled." and await person.items("#pending") == []
    assert (await my_identity(person))[0] == 3


async def test_the_last_way_in_is_not_removed(person: Any) -> None:
    signed, changed = await watch(person, "/v1/sign"), await watch(person, "/v1/permissions")
    said = await person.click("#methods", "Remove")
    assert "this is your last way into this key" in said, said
    assert not await person.page.evaluate("() => document.getElementById('ask').open")
    assert (signed, changed) == ([], []) and len(await person.items("#methods")) == 1
