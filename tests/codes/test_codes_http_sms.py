"""Sending SMS by HTTP in Twilio's shape, against a server of the test."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from keyquorum.codes import http_sms
from keyquorum.codes.config import HttpSmsSection
from keyquorum.codes.drivers import Message, ProviderDown, Undeliverable
from keyquorum.codes.http_sms import HttpSmsDriver

NUMBER = "+4915123456789"
MESSAGE = Message("", "1234 5678 is your code. A&B=C+D")


class Provider:
    """What came in; `account_status` and `message_answer` say what goes out."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str, dict[str, str]]] = []
        self.account_status = 200
        self.message_answer: tuple[int, str] = (201, '{"sid": "SM1"}')
        self.port = 0
        self.hold: asyncio.Event | None = None

    async def take(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.seen.append((request.method, request.path, request.headers.get("Authorization", ""), form))
        if self.hold is not None:
            await self.hold.wait()
        if request.method == "GET":
            return web.Response(status=self.account_status)
        status, text = self.message_answer
        return web.Response(status=status, text=text, headers={"Location": "/elsewhere"})


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    found = Provider()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.port = runner.addresses[0][1]
    yield found
    if found.hold is not None:
        found.hold.set()
    await runner.cleanup()


@pytest.fixture
async def driver(provider: Provider, tmp_path: Path) -> AsyncIterator[HttpSmsDriver]:
    (tmp_path / "sms.token").write_text("secret token\n")
    section = HttpSmsSection(
        account="AC123",
        token_file=tmp_path / "sms.token",
        sender="+4915100000",
        base_url=f"http://127.0.0.1:{provider.port}/",
    )
    made = HttpSmsDriver(section)
    yield made
    await made.close()


async def send(driver: HttpSmsDriver) -> None:
    delivery = await driver.open()
    await delivery.send(NUMBER, MESSAGE)
    await delivery.close()


async def test_a_message_is_one_form_with_basic_authentication(provider: Provider, driver: HttpSmsDriver) -> None:
    await send(driver)
    _, (method, path, authorization, form) = provider.seen
    assert (method, path) == ("POST", "/2010-04-01/Accounts/AC123/Messages.json")
    assert authorization == "Basic " + base64.b64encode(b"AC123:secret token").decode()
    assert form == {"To": NUMBER, "From": "+4915100000", "Body": MESSAGE.text}


async def test_the_provider_is_asked_whether_it_is_there_once_in_a_while(
    provider: Provider, driver: HttpSmsDriver
) -> None:
    for _ in range(3):
        await send(driver)
    assert [method for method, *_ in provider.seen] == ["GET", "POST", "POST", "POST"]
    assert provider.seen[0][1] == "/2010-04-01/Accounts/AC123.json"


@pytest.mark.parametrize("status", [401, 403, 500, 503])
async def test_a_provider_that_does_not_know_us_or_is_ill_is_down(
    provider: Provider, driver: HttpSmsDriver, status: int
) -> None:
    provider.account_status = status
    with pytest.raises(ProviderDown, match=f"127.0.0.1:{provider.port}: status {status}"):
        await driver.open()


async def test_a_provider_without_an_account_page_is_there(provider: Provider, driver: HttpSmsDriver) -> None:
    provider.account_status = 404
    await send(driver)


@pytest.mark.parametrize(
    ("status", "text", "error", "words"),
    [
        (400, '{"code": 21211, "message": "+4915123456789 is invalid"}', Undeliverable, "400 21211"),
        (400, "not JSON " + NUMBER, Undeliverable, "400 0"),
        (400, "[" * 5000, Undeliverable, "400 0"),
        (401, "{}", ProviderDown, "status 401"),
        (404, "{}", ProviderDown, "status 404"),
        (429, "{}", ProviderDown, "status 429"),
        (500, "{}", ProviderDown, "status 500"),
        (302, "", ProviderDown, "status 302"),
    ],
)
async def test_whose_fault_a_refusal_is(
    provider: Provider, driver: HttpSmsDriver, status: int, text: str, error: type[Exception], words: str
) -> None:
    provider.message_answer = (status, text)
    with pytest.raises(error) as caught:
        await send(driver)
    assert str(caught.value).endswith(words) and NUMBER not in str(caught.value)


async def test_of_a_refusal_only_so_much_is_read(
    provider: Provider, driver: HttpSmsDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '{"code": 21211}'
    provider.message_answer = (400, text)
    monkeypatch.setattr(http_sms, "_MAX_ANSWER", len(text))
    with pytest.raises(Undeliverable, match="400 21211"):
        await send(driver)
    provider.message_answer = (400, " " + text)
    with pytest.raises(Undeliverable, match="400 0"):
        await send(driver)


async def test_after_trouble_the_provider_is_looked_at_again(provider: Provider, driver: HttpSmsDriver) -> None:
    provider.message_answer = (500, "")
    with pytest.raises(ProviderDown):
        await send(driver)
    provider.account_status = 503
    with pytest.raises(ProviderDown, match="status 503"):
        await driver.open()


async def test_a_provider_that_is_gone_or_silent_is_named(
    provider: Provider, driver: HttpSmsDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("keyquorum.codes.http_sms.SECONDS", 0.2)
    provider.hold = asyncio.Event()
    with pytest.raises(ProviderDown, match="does not answer in time"):
        await driver.open()
    section: Any = HttpSmsSection(
        account="AC1", token_file=tmp_path / "sms.token", sender="Codes", base_url="http://127.0.0.1:1"
    )
    gone = HttpSmsDriver(section)
    with pytest.raises(ProviderDown, match=r"127\.0\.0\.1:1: Client"):
        await gone.open()
    await gone.close()
