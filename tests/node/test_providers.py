"""What a node asks of identity providers: only whom the settings name, seldom, and never long."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from keyquorum.auth.provider import origin
from keyquorum.node.services import providers
from keyquorum.node.services.providers import Providers
from keyquorum.refusal import Invalid

TOKEN = "a-token-that-nobody-may-see"


class Provider:
    """A server whose answer a test sets; it counts the requests and remembers their headers."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.answer: Callable[[web.Request], Any] = lambda _: web.json_response({"n": len(self.requests)})
        self.hold: asyncio.Event | None = None
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if self.hold is not None:
            await self.hold.wait()
        response: web.StreamResponse = self.answer(request)
        return response


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    yield made
    if made.hold is not None:
        made.hold.set()
    await runner.cleanup()


@pytest_asyncio.fixture
async def fetch(provider: Provider) -> AsyncIterator[Providers]:
    made = Providers([origin(provider.url)], Clock())
    yield made
    await made.close()


def clock_of(fetch: Providers) -> Any:
    return fetch._clock


async def refusal(asked: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        await asked
    error = caught.value
    assert TOKEN not in f"{error} {error.message} {error.hint}"
    assert error.__cause__ is None
    return error


# -- whom ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [
    "https://127.0.0.1:{port}/keys", "http://localhost:{port}/keys", "http://127.0.0.1:1/keys",
    "http://example.com/keys", "http://127.0.0.1:{port}@evil.example/", "http://evil.example/#@127.0.0.1:{port}/",
    "file:///etc/passwd", "gopher://127.0.0.1:{port}/", "//127.0.0.1:{port}/keys", "", "http://[::1/",
    "http://127.0.0.1:{port}\\@evil.example/", "http://127.0.0.1:99999999/",
])  # fmt: skip
async def test_nobody_is_asked_whom_the_settings_do_not_name(provider: Provider, fetch: Providers, other: str) -> None:
    port = origin(provider.url)[2]
    error = await refusal(fetch(other.format(port=port)))
    assert (error.code, error.status) == ("provider_unavailable", 503)
    assert provider.requests == []


async def test_a_redirect_is_not_followed(provider: Provider, fetch: Providers) -> None:
    provider.answer = lambda _: web.Response(status=302, headers={"Location": provider.url + "/elsewhere"})
    assert "302" in (await refusal(fetch(provider.url))).message
    assert len(provider.requests) == 1


async def test_a_token_goes_into_one_header_and_nowhere_else(
    provider: Provider, fetch: Providers, capfd: pytest.CaptureFixture[str]
) -> None:
    assert await fetch(provider.url, bearer=TOKEN) == {"n": 1}
    (request,) = provider.requests
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in str(request.url)
    provider.answer = lambda _: web.Response(status=500, text=TOKEN)
    for _ in range(4):
        await refusal(fetch(provider.url, bearer=TOKEN))
    shown = capfd.readouterr()
    assert TOKEN not in shown.out + shown.err
    await fetch.close()
    assert TOKEN not in repr(vars(fetch))


async def test_a_token_that_is_no_header_is_refused_without_being_shown(provider: Provider, fetch: Providers) -> None:
    error = await refusal(fetch(provider.url, bearer=f"{TOKEN}\r\nHost: evil"))
    assert (error.code, error.status) == ("bad_token", 400)
    assert provider.requests == []


# -- the cache ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("header", "kept"), [
    (None, 60), ("no-store", 60), ("max-age=5", 60), ("public, max-age=600", 600), ("max-age=86400", 3600),
    ("Max-Age=\"120\"", 120), ("s-maxage=3000", 60), ("max-age=99999999999999999999", 3600),
])  # fmt: skip
async def test_public_documents_are_kept_for_a_minute_to_an_hour(
    provider: Provider, fetch: Providers, header: str | None, kept: float
) -> None:
    headers = {} if header is None else {"Cache-Control": header}
    provider.answer = lambda _: web.json_response({"n": len(provider.requests)}, headers=headers)
    clock = clock_of(fetch)
    assert [await fetch(provider.url) for _ in range(3)] == [{"n": 1}] * 3
    clock.now += kept - 0.5
    assert await fetch(provider.url) == {"n": 1}
    clock.now += 1
    assert await fetch(provider.url) == {"n": 2}


async def test_answers_to_tokens_are_never_kept(provider: Provider, fetch: Providers) -> None:
    assert [await fetch(provider.url, bearer=TOKEN) for _ in range(2)] == [{"n": 1}, {"n": 2}]
    assert await fetch(provider.url) == {"n": 3}
    assert await fetch(provider.url, bearer="other") == {"n": 4}


async def test_asking_past_the_cache_is_granted_once_a_minute(provider: Provider, fetch: Providers) -> None:
    clock = clock_of(fetch)
    assert await fetch(provider.url) == {"n": 1}
    assert [await fetch(provider.url, newer=True) for _ in range(50)] == [{"n": 2}] * 50
    clock.now += 59
    assert await fetch(provider.url, newer=True) == {"n": 2}
    clock.now += 2
    assert await fetch(provider.url, newer=True) == {"n": 3}
    assert await fetch(provider.url + "/other", newer=True) == {"n": 4}


async def test_whoever_asks_at_the_same_time_shares_one_request(provider: Provider, fetch: Providers) -> None:
    provider.hold = asyncio.Event()
    tasks = [asyncio.create_task(fetch(provider.url)) for _ in range(20)]
    while not provider.requests:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    tasks[0].cancel()
    provider.hold.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[1:] == [{"n": 1}] * 19
    assert len(provider.requests) == 1


async def test_a_failure_is_not_kept(provider: Provider, fetch: Providers) -> None:
    good = provider.answer
    provider.answer = lambda _: web.Response(status=404)
    assert (await refusal(fetch(provider.url))).code == "provider_unavailable"
    provider.answer = good
    assert await fetch(provider.url) == {"n": 2}


async def test_the_cache_is_bounded(provider: Provider, fetch: Providers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "CACHED", 3)
    for k in range(10):
        await fetch(f"{provider.url}/{k}", newer=True)
    assert len(fetch._kept) == 3
    assert len(fetch._renewed) <= 10


# -- answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [
    b"", b"<html>", b"{", b'{"a": 1, "a": 2}', b'{"a": NaN}', b"\xff", b"[" * 1000, b'{"a": ' + b"9" * 100 + b"}",
])  # fmt: skip
async def test_what_is_not_plain_json_is_the_providers_failure(
    provider: Provider, fetch: Providers, content: bytes
) -> None:
    provider.answer = lambda _: web.Response(body=content)
    error = await refusal(fetch(provider.url))
    assert (error.code, error.status) == ("provider_unavailable", 503)
    assert "127.0.0.1" in error.message


async def test_an_answer_without_end_is_cut_off(provider: Provider, fetch: Providers) -> None:
    provider.answer = lambda _: web.Response(body=b" " * (providers.MAX_BODY + 1))
    assert "bytes" in (await refusal(fetch(provider.url))).message
    provider.answer = lambda _: web.Response(body=json.dumps("x" * (providers.MAX_BODY - 2)).encode())
    assert await fetch(provider.url)


async def test_a_compressed_answer_is_not_unpacked(provider: Provider, fetch: Providers) -> None:
    def bomb(_: web.Request) -> web.Response:
        response = web.Response(body=b"{}" * 100_000)
        response.enable_compression(web.ContentCoding.gzip)
        return response

    provider.answer = bomb
    assert (await refusal(fetch(provider.url))).code == "provider_unavailable"


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_is_the_callers_fault(provider: Provider, fetch: Providers, status: int) -> None:
    provider.answer = lambda _: web.Response(status=status, text=TOKEN)
    for _ in range(5):
        error = await refusal(fetch(provider.url, bearer=TOKEN))
        assert (error.code, error.status) == ("provider_refused", 401)
    assert len(provider.requests) == 5


async def test_a_flood_of_refused_tokens_does_not_reach_the_provider(
    provider: Provider, fetch: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "REFUSALS_PER_MINUTE", 3)
    provider.answer = lambda _: web.Response(status=401)
    codes = [(await refusal(fetch(provider.url, bearer=TOKEN))).code for _ in range(6)]
    assert codes == ["provider_refused"] * 3 + ["provider_unavailable"] * 3
    assert len(provider.requests) == 3
    clock_of(fetch).now += 61
    assert (await refusal(fetch(provider.url, bearer=TOKEN))).code == "provider_refused"


# -- providers that are down --------------------------------------------------------------------------------------


async def test_a_provider_that_is_silent_is_given_up_and_named(
    provider: Provider, fetch: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.hold = asyncio.Event()
    fetch._session = providers.aiohttp.ClientSession(timeout=providers.aiohttp.ClientTimeout(total=0.05))
    error = await refusal(asyncio.wait_for(fetch(provider.url), 5))
    assert (error.code, error.status) == ("provider_unavailable", 503)
    assert error.message.startswith("127.0.0.1:")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_provider_that_is_down_is_left_alone_and_tried_again_by_one(
    provider: Provider, fetch: Providers, status: int
) -> None:
    good, clock = provider.answer, clock_of(fetch)
    provider.answer = lambda _: web.Response(status=status)
    for _ in range(20):
        assert (await refusal(fetch(provider.url, bearer=TOKEN))).code == "provider_unavailable"
    assert len(provider.requests) == providers.FAILURES
    clock.now += providers.PAUSE + 1
    provider.hold = asyncio.Event()
    waiting = [asyncio.create_task(refusal(fetch(provider.url, bearer=TOKEN))) for _ in range(5)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    provider.hold.set()
    await asyncio.gather(*waiting)
    assert len(provider.requests) == providers.FAILURES + 1
    clock.now += providers.PAUSE + 1
    provider.answer = good
    assert await fetch(provider.url) == {"n": providers.FAILURES + 2}
    provider.answer = lambda _: web.Response(status=status)
    await refusal(fetch(provider.url, bearer=TOKEN))
    provider.answer = good
    assert await fetch(provider.url, bearer=TOKEN)


async def test_a_refusal_is_an_answer_and_ends_the_pause(provider: Provider, fetch: Providers) -> None:
    clock = clock_of(fetch)
    provider.answer = lambda _: web.Response(status=500)
    for _ in range(providers.FAILURES):
        await refusal(fetch(provider.url, bearer=TOKEN))
    clock.now += providers.PAUSE + 1
    provider.answer = lambda _: web.Response(status=401)
    assert [(await refusal(fetch(provider.url, bearer=TOKEN))).code for _ in range(3)] == ["provider_refused"] * 3


async def test_a_provider_that_hangs_slows_nobody_else_and_its_queue_is_bounded(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def quick(_: web.Request) -> web.Response:
        return web.json_response({"quick": True})

    app = web.Application()
    app.router.add_get("/", quick)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    other = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    monkeypatch.setattr(providers, "QUEUE", 40)
    provider.hold = asyncio.Event()
    fetch = Providers([origin(provider.url), origin(other)])
    tasks = [asyncio.create_task(fetch(provider.url, bearer=TOKEN)) for _ in range(60)]
    try:
        assert await fetch(other, bearer=TOKEN) == {"quick": True}
        done = [task for task in tasks if task.done()]
        assert len(done) == 20
        assert {(await refusal(task)).code for task in done} == {"provider_unavailable"}
        assert len(provider.requests) <= providers.PARALLEL
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await fetch.close()
        await runner.cleanup()


async def test_an_address_where_nobody_listens_is_unavailable() -> None:
    fetch = Providers([("http", "127.0.0.1", 1)])
    error = await refusal(fetch("http://127.0.0.1:1/keys"))
    assert (error.code, error.status) == ("provider_unavailable", 503)
    assert error.message.startswith("127.0.0.1:1 ")
    await fetch.close()
