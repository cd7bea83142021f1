"""The server that a browser brings a login's answer to: it takes that answer, once, and nothing from anybody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import aiohttp
import pytest
from yarl import URL

from keyquorum.client.errors import Misconfigured, Timeout
from keyquorum.client.loopback import MAX_ANSWER, Loopback


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def origin_of(loopback: Loopback) -> str:
    return loopback.redirect_uri.removesuffix("/callback")


async def post(
    http: aiohttp.ClientSession, loopback: Loopback, answer: dict[str, str] | str, **headers: str
) -> tuple[int, str]:
    body = answer if isinstance(answer, str) else urlencode(answer)
    form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": origin_of(loopback)} | headers
    async with http.post(loopback.redirect_uri, data=body, headers=form) as response:
        return response.status, await response.text()


async def get(http: aiohttp.ClientSession, loopback: Loopback, query: str, **headers: str) -> tuple[int, str]:
    async with http.get(URL(f"{loopback.redirect_uri}{query}", encoded=True), headers=headers) as response:
        return response.status, await response.text()


async def test_an_answer_in_the_query_is_taken_with_its_state(http: aiohttp.ClientSession) -> None:
    async with Loopback() as loopback:
        status, page = await get(http, loopback, f"?code=a%2Bb&state={loopback.state}")
        assert (status, "logged in" in page) == (200, True)
        assert await loopback.answer(1) == {"code": "a+b", "state": loopback.state}


async def test_an_answer_in_the_fragment_is_posted_by_the_page(http: aiohttp.ClientSession) -> None:
    async with Loopback() as loopback:
        status, page = await get(http, loopback, "")
        assert status == 200 and "location.hash" in page and "history.replaceState" in page
        status, _ = await post(http, loopback, {"id_token": "t", "state": loopback.state})
        assert status == 200 and (await loopback.answer(1))["id_token"] == "t"


@pytest.mark.parametrize(
    "query",
    ["?code=x", "?code=x&state=", "?code=x&state=wrong", "?state={0}&state={0}", "?{0}", "?a=1&a=2&state={0}", "?%"],
)
async def test_an_answer_to_another_login_ends_nothing(http: aiohttp.ClientSession, query: str) -> None:
    async with Loopback() as loopback:
        assert (await get(http, loopback, query.format(loopback.state)))[0] == 400
        assert (await post(http, loopback, query.format(loopback.state)[1:]))[0] == 400
        with pytest.raises(Timeout) as caught:
            await loopback.answer(0.01)
        assert caught.value.code == "login_timeout"


async def test_the_true_answer_is_still_taken_after_a_false_one(http: aiohttp.ClientSession) -> None:
    async with Loopback() as loopback:
        await get(http, loopback, "?code=evil&state=wrong")
        await get(http, loopback, f"?code=good&state={loopback.state}")
        assert (await loopback.answer(1))["code"] == "good"


async def test_a_second_answer_comes_too_late(http: aiohttp.ClientSession) -> None:
    async with Loopback() as loopback:
        await get(http, loopback, f"?code=first&state={loopback.state}")
        assert (await get(http, loopback, f"?code=second&state={loopback.state}"))[0] == 410
        assert (await loopback.answer(1))["code"] == "first"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "http://127.0.0.1:1", "http://localhost:80"])
async def test_another_page_in_the_browser_cannot_post(http: aiohttp.ClientSession, origin: str) -> None:
    async with Loopback() as loopback:
        assert (await post(http, loopback, {"id_token": "t", "state": loopback.state}, Origin=origin))[0] == 403
        plain = {"Content-Type": "text/plain"}
        assert (await post(http, loopback, {"id_token": "t", "state": loopback.state}, **plain))[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "localhost", "127.0.0.1", "evil.example:80"])
async def test_a_foreign_name_for_this_machine_is_turned_away(http: aiohttp.ClientSession, host: str) -> None:
    async with Loopback() as loopback:
        assert (await get(http, loopback, f"?code=x&state={loopback.state}", Host=host))[0] == 403
        assert (await get(http, loopback, "", Host=host))[0] == 403
        assert (await post(http, loopback, {"code": "x", "state": loopback.state}, Host=host))[0] == 403


async def test_what_is_too_long_or_at_another_address_is_not_read(http: aiohttp.ClientSession) -> None:
    async with Loopback() as loopback:
        assert (await post(http, loopback, {"state": loopback.state, "x": "y" * MAX_ANSWER}))[0] == 413
        many = "&".join(f"a{number}=1" for number in range(40))
        assert (await post(http, loopback, f"{many}&state={loopback.state}"))[0] == 400
        async with http.get(origin_of(loopback) + "/other") as response:
            assert response.status == 404


async def test_the_page_may_load_nothing_and_is_kept_nowhere(http: aiohttp.ClientSession) -> None:
    async with Loopback() as loopback:
        policies = []
        for _ in range(2):
            async with http.get(loopback.redirect_uri) as response:
                headers = response.headers
                policies.append(headers["Content-Security-Policy"])
                assert headers["Cache-Control"] == "no-store" and headers["Referrer-Policy"] == "no-referrer"
                assert headers["X-Frame-Options"] == "DENY"
        assert all("default-src 'none'" in policy for policy in policies) and policies[0] != policies[1]


async def test_every_login_has_its_own_state_and_port_and_leaves_the_port_free(http: aiohttp.ClientSession) -> None:
    async with Loopback() as one, Loopback() as other:
        assert one.state != other.state and one.redirect_uri != other.redirect_uri and len(one.state) >= 40
        port = URL(one.redirect_uri).port
        assert port is not None
        with pytest.raises(Misconfigured) as caught:
            async with Loopback(port):
                pass
        assert caught.value.code == "port_taken"
    async with Loopback(port) as again:
        assert again.redirect_uri == f"http://127.0.0.1:{port}/callback"


async def test_an_answer_that_comes_while_waiting_is_shown_to_the_person_before_the_server_ends(
    http: aiohttp.ClientSession,
) -> None:
    async with Loopback() as loopback:
        waiting = asyncio.create_task(loopback.answer(5))
        page = await get(http, loopback, f"?error=access_denied&state={loopback.state}")
        assert (await waiting)["error"] == "access_denied"
    assert "did not log you in" in page[1]
