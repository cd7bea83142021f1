"""The page that hands a fragment back, in a real Chromium, after a real login at a real provider."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import Any

import pytest

from keyquorum.client import oidc
from keyquorum.client.oidc import OidcLogin
from provider_kit import Person, new_statement, node_provider


def chromium() -> str:
    named = os.environ.get("KEYQUORUM_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not named:
        pytest.skip("no Chromium on this system: apt-get install chromium")
    return named


class AtChromium(Person):
    """The same person, in front of a window."""

    def __init__(self, context: Any) -> None:
        super().__init__()
        self.context = context
        self.last = ""
        self.address = ""

    async def _walk(self, url: Any) -> None:
        page = await self.context.new_page()
        await page.goto(str(url))
        await page.fill("input[name=login]", self.user)
        await page.fill("input[name=password]", "any")
        await page.click("button[type=submit]")
        await page.click("button[type=submit]")
        await page.get_by_text("close this window").wait_for(timeout=30_000)
        self.last, self.address = await page.text_content("body"), page.url


@pytest.mark.parametrize(("client_id", "flow"), [("implicit-app", "implicit"), ("public-app", "code")])
async def test_a_person_at_chromium_logs_in_and_no_token_stays_in_the_address(client_id: str, flow: Any) -> None:
    path = chromium()
    playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with node_provider() as provider:
        async with playwright.async_playwright() as driver:
            running = await driver.chromium.launch(executable_path=path, args=arguments)
            try:
                person = AtChromium(await running.new_context())
                async with asyncio.timeout(90):
                    login = OidcLogin("npm", provider.issuer, client_id, flow=flow)
                    proof = await oidc.log_in(login, new_statement(), person.open_url, seconds=60)
                    await person.done()
            finally:
                await running.close()
    assert proof["id_token"].count(".") == 2
    assert "You are logged in" in person.last and proof["id_token"] not in person.address
    assert "#" not in person.address
