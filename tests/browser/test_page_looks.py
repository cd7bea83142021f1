"""How the page looks: no sideways scrolling on a phone, nothing missing, nothing stale, each state at two widths.

With `KEYQUORUM_SCREENSHOTS` naming a folder, each state is kept there as a picture, to be looked at by people.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from liars import lie, thief_mints

from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.rpc import Sender

ETHER = 10**18
FRIEND = "0x" + "44" * 20
WIDTHS = (390, 1280)
WIDER_THAN_THE_WINDOW = """() => [...document.querySelectorAll("body *")]
  .filter((each) => each.checkVisibility() && each.getBoundingClientRect().right > innerWidth + 1)
  .map((each) => `${each.tagName}#${each.id}`)"""


async def fits(device: Any, state: str) -> None:
    """Assert that nothing is wider than the window, at each width; keep pictures where they are wanted."""
    folder = os.environ.get("KEYQUORUM_SCREENSHOTS")
    for width in WIDTHS:
        await device.page.set_viewport_size({"width": width, "height": 844 if width < 500 else 900})
        assert await device.page.evaluate("() => document.documentElement.scrollWidth") <= width, (state, width)
        assert await device.page.evaluate(WIDER_THAN_THE_WINDOW) == [], (state, width)
        if folder:
            path = Path(folder) / f"{state}-{width}.png"
            await device.page.screenshot(path=path, full_page=not await dialog_is_open(device))


async def dialog_is_open(device: Any) -> bool:
    return bool(await device.page.evaluate("() => document.getElementById('ask').open"))


async def test_every_state_fits_a_phone_and_a_desk(world: Any, new_device: Any) -> None:
    device = await new_device()
    await fits(device, "1-log-in")
    await device.page.locator("#choices button").first.click()
    await fits(device, "2-name-a-passkey")
    await device.page.fill("#ask-fields input", "phone")
    await device.page.click("#ask-ok")
    await device.settled()
    await fits(device, "3-logged-in")
    address = await device.text("#address")
    await Sender(world.cluster.rpc, ACCOUNTS[3][1]).send(address, value=ETHER)
    await device.page.wait_for_function("() => document.getElementById('balance').textContent === '1 ETH'")
    await device.sign("a message\n" + "wide" * 60)
    await fits(device, "4-signed")
    await device.transfer(FRIEND, "0.25")
    await fits(device, "5-send")
    await device.page.click("#ask-ok")
    await device.settled()
    await fits(device, "6-sent")
    await device.click("#methods", "Remove")
    await fits(device, "7-last-way-in")
    who = await device.page.evaluate(
        "async () => (await import('/js/own.js')).identitiesOf(await (await import('/js/store.js')).load('session'))[0]"
    )
    _, other, _ = await thief_mints(world, [(who["type"], bytes.fromhex(who["id"][2:]))])
    await device.page.reload()
    await device.settled()
    assert len(await device.other_keys()) == 1
    await fits(device, "8-others")
    await device.page.get_by_text("Open ...", exact=True).click()
    await device.page.wait_for_function("() => document.getElementById('ask').open")
    await fits(device, "9-ask-for-another")
    await device.page.click("#ask-ok")
    await device.settled()
    assert (await device.text("#address")).lower() == other.lower()
    await fits(device, "10-not-ones-own")
    assert not device.problems


async def test_nothing_that_the_page_names_is_missing_and_it_says_that_nobody_audited_it(
    world: Any, new_device: Any
) -> None:
    device = await new_device()
    missing: list[str] = []
    device.page.on("response", lambda answer: missing.append(answer.url) if answer.status >= 400 else None)
    await device.page.reload()
    await device.settled()
    assert missing == []
    assert "Unaudited" in await device.text(".notice")
    assert "development chain" in await device.text("#network")
    icon = await device.page.evaluate(
        "() => fetch(document.querySelector('link[rel=icon]').href).then((a) => a.status)"
    )
    assert icon == 200


async def test_an_old_result_is_gone_before_a_new_error(world: Any, person: Any) -> None:
    await person.sign("first")
    assert (await person.text("#result")).startswith("0x")
    await lie(person, "/v1/sign", lambda _: {}, forward=False)
    said = await person.sign("second")
    assert "signature is none" in said and await person.text("#result") == ""
    assert not await person.page.is_visible("#outcome")


async def test_addresses_are_copied_whole(world: Any, person: Any) -> None:
    await person.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await person.page.click("#copy-address")
    await person.page.wait_for_function("() => document.getElementById('copy-address').textContent === 'Copied'")
    assert await person.page.evaluate("() => navigator.clipboard.readText()") == await person.text("#address")
    await person.page.click("#copy-network")
    await person.page.wait_for_function("() => document.getElementById('copy-network').textContent === 'Copied'")
    assert await person.page.evaluate("() => navigator.clipboard.readText()") == world.cluster.deployment.network
