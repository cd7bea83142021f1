"""What the page must not allow, tried in a real Chromium: other origins, frames, foreign scripts, taking a key out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web
from devices import Device

from keyquorum.gateway.app import Server


@dataclass
class Copy:
    """The same page, truthful and with the same gateway behind it, at another origin."""

    url: str


@pytest_asyncio.fixture(loop_scope="session")
async def copy(world: Any) -> AsyncIterator[Copy]:
    config = msgspec.structs.replace(world.server._config, port=0, relayer_key_file="")
    async with Server(config) as server:
        yield Copy(f"http://localhost:{server.gateway.port}")


async def test_a_passkey_used_at_another_origin_of_the_same_domain_is_refused(
    world: Any, copy: Copy, browser: Any
) -> None:
    """The browser lets the page at another port use the passkey: the rp id is the same. The nodes do not."""
    device = await Device.open(browser, copy.url)
    try:
        said = await device.new_passkey()
    finally:
        await device.close()
    assert said.startswith("the passkey was used at a page that this node does not accept"), said


async def test_an_authenticator_that_knows_nobody_makes_no_passkey_here(new_device: Any) -> None:
    device = await new_device(verified=False)
    said = await device.new_passkey()
    assert said.startswith("The passkey was not used"), said
    assert not await device.credentials()


async def test_a_passkey_that_nobody_registered_is_told_so(new_device: Any) -> None:
    maker = await new_device()
    await maker.new_passkey()
    (credential,) = await maker.credentials()
    device = await new_device()
    await device.receive(credential | {"credentialId": "bmV2ZXIgc2VlbiBhbnl3aGVyZQ=="})
    said = await device.click("#choices", "Use a passkey I have")
    assert said.startswith("no key is registered with this passkey"), said


async def test_the_session_key_cannot_be_taken_out_of_the_browser(new_device: Any) -> None:
    device = await new_device()
    await device.new_passkey()
    found = await device.page.evaluate("""async () => {
      const { load } = await import("/js/store.js");
      const { key } = await load("session");
      const out = await Promise.all(["jwk", "pkcs8", "raw"].map(
        (format) => crypto.subtle.exportKey(format, key).then(() => "taken", (error) => error.name)));
      return { extractable: key.extractable, type: key.type, out };
    }""")
    assert found["extractable"] is False and found["type"] == "private"
    assert "taken" not in found["out"]


async def test_the_policy_lets_in_no_script_and_out_no_connection(world: Any, new_device: Any) -> None:
    device = await new_device()
    app = web.Application()
    asked: list[str] = []

    async def note(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text="globalThis.foreign = true", content_type="text/javascript")

    app.router.add_get("/{name}", note)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    other = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        found = await device.page.evaluate(
            """async (other) => {
              const results = {};
              const add = (make) => { try { return make(); } catch (error) { return error.name; } };
              const script = (set) => new Promise((resolve) => {
                const tag = document.createElement("script");
                try { set(tag); } catch (error) { return resolve(error.name); }
                tag.onload = () => resolve("ran"); tag.onerror = () => resolve("refused");
                document.head.append(tag);
                setTimeout(() => resolve("refused"), 500);
              });
              results.inline = await script((tag) => { tag.text = "globalThis.inline = true"; });
              results.foreign = await script((tag) => { tag.src = other + "/script"; });
              results.markup = add(() => { document.body.innerHTML = "<p>"; return "written"; });
              results.fetched = await fetch(other + "/fetch").then(() => "fetched", () => "refused");
              results.ran = [globalThis.inline, globalThis.foreign];
              return results;
            }""",
            other,
        )
    finally:
        await runner.cleanup()
    assert found["ran"] == [None, None]
    assert found["markup"] == "TypeError"
    assert found["fetched"] == "refused"
    assert asked == []


async def test_the_page_cannot_be_framed(world: Any, browser: Any) -> None:
    app = web.Application()

    async def frame(_: web.Request) -> web.Response:
        return web.Response(text=f'<iframe src="{world.url}/"></iframe>', content_type="text/html")

    app.router.add_get("/", frame)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    context = await browser.new_context()
    try:
        page = await context.new_page()
        await page.goto(f"http://localhost:{runner.addresses[0][1]}/")
        inner = page.frames[1]
        assert await inner.evaluate("() => document.getElementById('choices')") is None
    finally:
        await context.close()
        await runner.cleanup()


@pytest.mark.parametrize("text", ["<b>bold</b>", "\u202eright to left", "x" * 10_000])
async def test_what_is_signed_is_shown_as_text(new_device: Any, text: str) -> None:
    device = await new_device()
    await device.new_passkey()
    said = await device.sign(text)
    assert "signs the message" in said, said
    assert await device.page.locator("#status b").count() == 0
