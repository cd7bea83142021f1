"""A person's device: a browser profile with the page open, and a virtual authenticator (WebAuthn over CDP)."""

from __future__ import annotations

from typing import Any

import aiohttp

SECONDS = 60_000
SETTLED = """() => !document.querySelector('main button:disabled')
  && !document.getElementById('status').textContent.endsWith('...')"""


class Device:
    """`page` is Playwright's; `problems` is what the browser complained about (refused by policy, uncaught)."""

    def __init__(self, context: Any, page: Any, cdp: Any, authenticator: str) -> None:
        self.context = context
        self.page = page
        self.cdp = cdp
        self.authenticator = authenticator
        self.url = page.url.rstrip("/")
        self.problems: list[str] = []

    @classmethod
    async def open(cls, browser: Any, url: str, *, verified: bool = True) -> Device:
        context = await browser.new_context()
        context.set_default_timeout(SECONDS)
        page = await context.new_page()
        cdp = await context.new_cdp_session(page)
        await cdp.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": verified,
            "automaticPresenceSimulation": True,
        }
        added = await cdp.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        device = cls(context, page, cdp, added["authenticatorId"])
        page.on("pageerror", lambda error: device.problems.append(str(error)))
        page.on("console", lambda said: device.problems.append(said.text) if "Content Security" in said.text else None)
        await page.goto(url)
        device.url = url
        await device.settled()
        return device

    async def close(self) -> None:
        await self.context.close()

    # -- the authenticator --------------------------------------------------------------------------------------------

    async def credentials(self) -> list[dict[str, Any]]:
        """What the authenticator holds, secret keys included."""
        found = await self.cdp.send("WebAuthn.getCredentials", {"authenticatorId": self.authenticator})
        return list(found["credentials"])

    async def receive(self, credential: dict[str, Any]) -> None:
        """Take a passkey over from another device, as a password manager copies it."""
        await self.cdp.send("WebAuthn.addCredential", {"authenticatorId": self.authenticator, "credential": credential})

    async def forget(self, credential: dict[str, Any]) -> None:
        """Delete a passkey from the authenticator."""
        await self.cdp.send(
            "WebAuthn.removeCredential",
            {"authenticatorId": self.authenticator, "credentialId": credential["credentialId"]},
        )

    # -- the page -----------------------------------------------------------------------------------------------------

    async def settled(self) -> str:
        """Wait until the page does nothing any more; return what it says."""
        await self.page.wait_for_function(SETTLED)
        return str(await self.page.text_content("#status"))

    async def click(self, where: str, label: str) -> str:
        """Click a button by its label and wait for the outcome; return what the page says."""
        await self.page.locator(f"{where} button", has_text=label).get_by_text(label, exact=True).first.click()
        return await self.settled()

    async def new_passkey(self, where: str = "#choices", name: str = "test") -> str:
        """Make a passkey and log in with it, or add it with `where="#add-choices"`."""
        await self.page.locator(f"{where} button").get_by_text("Create a passkey", exact=True).click()
        await self.page.fill("#ask-fields input", name)
        await self.page.click("#ask-ok")
        return await self.settled()

    async def remove(self, row: str) -> str:
        """Remove the login whose line in the list is `row`."""
        await self.page.locator("#methods li", has_text=row).get_by_text("Remove", exact=True).click()
        await self.page.click("#ask-ok")
        return await self.settled()

    async def own_keys(self) -> list[str]:
        """The addresses that the page calls the person's own."""
        return [str(text) for text in await self.page.locator("#key-list li code").all_text_contents()]

    async def other_keys(self) -> list[str]:
        """The texts of the keys that are listed apart, of the pages shown so far; unfolds the list."""
        if not await self.page.is_visible("#others"):
            return []
        if await self.page.get_attribute("#others", "open") is None:
            await self.page.click("#others-title")
            await self.page.wait_for_function("() => document.getElementById('others-left').textContent")
            await self.settled()
        return [str(text) for text in await self.page.locator("#other-list li > span").all_text_contents()]

    async def open_other(self, address: str) -> str:
        """Open a key that is listed apart, and confirm; return what the page asked."""
        await self.other_keys()
        await self.page.locator("#other-list li", has_text=address).get_by_text("Open ...", exact=True).click()
        await self.page.wait_for_function("() => document.getElementById('ask').open")
        asked = await self.text("#ask")
        await self.page.click("#ask-ok")
        await self.settled()
        return asked

    async def transfer(self, to: str, amount: str) -> dict[str, str]:
        """Fill in the form and press its button; return what the dialog shows, by its row, once it is open."""
        await self.page.fill("#transfer-form input[name=to]", to)
        await self.page.fill("#transfer-form input[name=amount]", amount)
        await self.page.click("#transfer-form button")
        await self.page.wait_for_function(
            "() => document.getElementById('ask').open || document.querySelector('#status.error')"
        )
        return await self.rows()

    async def rows(self) -> dict[str, str]:
        """What the open dialog shows, row by row, with its title and warnings."""
        names = await self.page.locator("#ask-rows dt").all_text_contents()
        values = await self.page.locator("#ask-rows dd").all_text_contents()
        found = dict(zip(names, values, strict=True)) | {"warnings": await self.text("#ask-warnings")}
        return found | {"title": await self.text("#ask-title")}

    async def text(self, selector: str) -> str:
        return str(await self.page.text_content(selector)).strip()

    async def items(self, selector: str) -> list[str]:
        """The texts of a list, without its buttons."""
        return [str(text) for text in await self.page.locator(f"{selector} li > span").all_text_contents()]

    async def sign(self, text: str) -> str:
        """Sign a message; return what the page says, the signature is in #result."""
        await self.page.fill("#message-form textarea", text)
        await self.page.click("#message-form button")
        return await self.settled()


async def public_key(world: Any, credential_id: str) -> tuple[int, Any]:
    """What the gateway's directory says about a credential id (base64, as Chromium writes it)."""
    name = credential_id.replace("+", "-").replace("/", "_").rstrip("=")
    async with aiohttp.ClientSession() as http, http.get(f"{world.url}/v1/passkeys/{name}") as response:
        return response.status, await response.json()
