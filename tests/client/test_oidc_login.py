"""The client's side of an OpenID Connect login: which flow, with whom, and what it never lets through."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from keyquorum.auth.oidc import read_id_token
from keyquorum.client import oauth, oidc
from keyquorum.client.errors import KeyquorumError, Misconfigured, Timeout
from keyquorum.client.oauth import Pkce, ProviderError
from keyquorum.client.oidc import OidcLogin
from keyquorum.formats.text import to_base64url
from keyquorum.refusal import Invalid
from provider_kit import new_statement

STATEMENT = new_statement()


def token_with(header: dict[str, Any] | None = None, **changes: Any) -> str:
    """An id_token as far as the client looks at it."""
    claims = {"nonce": STATEMENT.challenge, "aud": "app"} | changes
    parts = {"alg": "RS256"} | (header or {}), claims
    return ".".join([*(to_base64url(json.dumps(part).encode()) for part in parts), "AAAA"])


TOKEN = token_with()
LOGIN = {
    "oidc": [
        {"name": "google", "issuer": "https://accounts.google.com", "client_id": "g", "something_new": 1},
        {"name": "apple", "issuer": "https://appleid.apple.com", "client_id": "a", "flow": "implicit"},
    ]
}


class Provider:
    """Discovery and token endpoints that answer as told."""

    def __init__(self) -> None:
        self.url = ""
        self.document: dict[str, Any] = {
            "response_types_supported": ["code", "id_token"],
            "token_endpoint_auth_methods_supported": ["none"],
        }
        self.token: Any = {"id_token": TOKEN}
        self.status = 200
        self.forms: list[dict[str, str]] = []

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Provider]:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discover)
        app.router.add_post("/token", self._token)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _discover(self, request: web.Request) -> web.Response:
        endpoints = {
            "issuer": self.url,
            "authorization_endpoint": self.url + "/authorize",
            "token_endpoint": self.url + "/token",
        }
        return web.json_response(endpoints | self.document)

    async def _token(self, request: web.Request) -> web.Response:
        self.forms.append({name: str(value) for name, value in (await request.post()).items()})
        if isinstance(self.token, bytes):
            return web.Response(body=self.token, status=self.status)
        return web.json_response(self.token, status=self.status)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with Provider().serve() as provider:
        yield provider


class Browser:
    """Goes straight back to the program with `answer`, as if the person had agreed."""

    def __init__(self, **answer: str) -> None:
        self.answer = {"code": "the-code"} | answer
        self.request: dict[str, str] = {}

    async def open_url(self, url: str) -> None:
        self.request = dict(URL(url).query)
        answer = {"state": self.request["state"]} | self.answer
        async with aiohttp.ClientSession() as http, http.get(URL(self.request["redirect_uri"]).with_query(answer)):
            pass


def at(provider: Provider, **more: Any) -> OidcLogin:
    return OidcLogin("test", provider.url, "app", **more)


async def test_the_code_is_redeemed_with_the_verifier_that_the_browser_never_saw(provider: Provider) -> None:
    browser = Browser()
    proof = await oidc.log_in(at(provider), STATEMENT, browser.open_url, seconds=5)
    assert proof == {"id_token": TOKEN}
    (form,) = provider.forms
    digest = to_base64url(hashlib.sha256(form["code_verifier"].encode()).digest())
    assert digest == browser.request["code_challenge"] and form["code_verifier"] not in str(browser.request)
    assert form["redirect_uri"] == browser.request["redirect_uri"] and form["client_id"] == "app"
    assert "client_secret" not in form and form["grant_type"] == "authorization_code"


@pytest.mark.parametrize(
    ("document", "secret", "flow"),
    [
        ({}, "", "code"),
        ({"token_endpoint_auth_methods_supported": ["client_secret_post"]}, "", "implicit"),
        ({"token_endpoint_auth_methods_supported": ["client_secret_post"]}, "s", "code"),
        ({"token_endpoint_auth_methods_supported": None}, "", "implicit"),
        ({"response_types_supported": ["id_token"]}, "s", "implicit"),
        ({"response_types_supported": ["code"], "token_endpoint_auth_methods_supported": []}, "", None),
        ({"response_types_supported": ["token"]}, "s", None),
        ({"response_types_supported": "code"}, "s", None),
    ],
)
async def test_the_flow_is_one_that_this_application_can_finish(
    provider: Provider, document: dict[str, Any], secret: str, flow: str | None
) -> None:
    provider.document |= document
    browser = Browser(id_token=TOKEN)
    login = oidc.log_in(at(provider, client_secret=secret), STATEMENT, browser.open_url, seconds=5)
    if flow is None:
        with pytest.raises(Misconfigured) as caught:
            await login
        assert caught.value.code == "no_usable_flow" and not browser.request
        return
    assert (await login)["id_token"] == TOKEN
    assert browser.request["response_type"] == {"code": "code", "implicit": "id_token"}[flow]
    assert [form.get("client_secret", "") for form in provider.forms] == ([secret] if flow == "code" else [])


async def test_where_to_go_is_for_the_issuer_to_say_and_not_for_the_gateway(provider: Provider) -> None:
    named = at(provider, authorization_endpoint="https://evil.example/a", token_endpoint="https://evil.example/t")
    assert await oidc.log_in(named, STATEMENT, Browser().open_url, seconds=5)
    assert len(provider.forms) == 1
    provider.document["issuer"] = "https://somebody.else"
    with pytest.raises(ProviderError):
        await oidc.log_in(at(provider), STATEMENT, Browser().open_url, seconds=5)


@pytest.mark.parametrize("flow", ["code", "implicit"])
@pytest.mark.parametrize("token", [
    token_with(nonce="ab" * 32), token_with(nonce=None), token_with(aud="other"), token_with(aud=["other"]),
    token_with(aud=None), token_with(nonce=[STATEMENT.challenge]),
])  # fmt: skip
async def test_a_token_for_somebody_elses_login_is_shown_to_nobody(provider: Provider, flow: Any, token: str) -> None:
    provider.token = {"id_token": token}
    browser = Browser(id_token=token)
    with pytest.raises(ProviderError) as caught:
        await oidc.log_in(at(provider, flow=flow), STATEMENT, browser.open_url, seconds=5)
    assert caught.value.code == "wrong_token" and token not in str(caught.value)


@pytest.mark.parametrize("token", [
    "e30.e30.AAAA", "no token", "e30.W10.AAAA", token_with({"alg": "ES256"}), token_with({"crit": ["exp"]}),
    token_with({"typ": "at+jwt"}),
])  # fmt: skip
async def test_a_token_that_no_node_reads_is_not_called_somebody_elses(provider: Provider, token: str) -> None:
    provider.token = {"id_token": token}
    with pytest.raises(ProviderError) as caught:
        await oidc.log_in(at(provider), STATEMENT, Browser().open_url, seconds=5)
    assert caught.value.code == "unreadable_token" and token not in str(caught.value)
    with pytest.raises(Invalid):
        read_id_token(token)


@pytest.mark.parametrize("token", [
    token_with(auth_time=1610270000.25), token_with({"typ": "jwt", "tenant": "a", "jku": "https://evil.example/k"}),
    token_with({"typ": "application/jwt", "x5t#S256": "abc"}), token_with(aud=["other", "app"], azp="app"),
])  # fmt: skip
async def test_what_a_node_reads_a_client_reads(provider: Provider, token: str) -> None:
    provider.token = {"id_token": token}
    proof = await oidc.log_in(at(provider), STATEMENT, Browser().open_url, seconds=5)
    assert proof == {"id_token": token} and read_id_token(token).claims["nonce"] == STATEMENT.challenge


async def test_the_answer_of_another_provider_is_not_taken_to_this_one(provider: Provider) -> None:
    with pytest.raises(ProviderError) as caught:
        await oidc.log_in(at(provider), STATEMENT, Browser(iss="https://evil.example").open_url, seconds=5)
    assert caught.value.code == "wrong_provider" and not provider.forms
    assert await oidc.log_in(at(provider), STATEMENT, Browser(iss=provider.url).open_url, seconds=5)


@pytest.mark.parametrize(
    ("token", "status"),
    [
        ({"error": "invalid_grant"}, 400),
        ({}, 200),
        ({"id_token": 5}, 200),
        ({"id_token": ""}, 200),
        ([], 200),
        (b"not json", 200),
        (b"x" * 300_000, 200),
        (b'{"id_token": "a", "id_token": "b"}', 200),
        ({"id_token": "x"}, 302),
        ({"id_token": "x"}, 500),
    ],
)
async def test_a_token_endpoint_that_gives_no_token_is_named_and_not_quoted(
    provider: Provider, token: Any, status: int
) -> None:
    provider.token, provider.status = token, status
    with pytest.raises(ProviderError) as caught:
        await oidc.log_in(at(provider), STATEMENT, Browser().open_url, seconds=5)
    words = str(caught.value.to_json())
    assert "127.0.0.1" in words and "the-code" not in words


async def test_an_answer_without_a_code_is_the_providers_failure(provider: Provider) -> None:
    with pytest.raises(ProviderError):
        await oidc.log_in(at(provider), STATEMENT, Browser(code="").open_url, seconds=5)


async def test_what_a_provider_says_on_refusing_cannot_move_the_cursor(provider: Provider) -> None:
    browser = Browser(error="access_denied\x1b[2J<b>" + "x" * 500)
    with pytest.raises(KeyquorumError) as caught:
        await oidc.log_in(at(provider), STATEMENT, browser.open_url, seconds=5)
    assert caught.value.code == "login_denied" and "\x1b" not in str(caught.value) and len(str(caught.value)) < 200


async def test_nobody_at_the_browser_is_a_timeout(provider: Provider) -> None:
    with pytest.raises(Timeout):
        await oidc.log_in(at(provider), STATEMENT, lambda url: None, seconds=0.05)


async def test_a_provider_that_cannot_be_reached_is_named() -> None:
    with pytest.raises(ProviderError) as caught:
        await oidc.log_in(OidcLogin("x", "http://127.0.0.1:1", "app"), STATEMENT, lambda url: None, seconds=1)
    assert "127.0.0.1:1" in caught.value.message


@pytest.mark.parametrize("url", ["http://accounts.example", "ftp://accounts.example", "accounts.example", ""])
async def test_no_token_travels_without_tls(url: str) -> None:
    opened: list[str] = []
    with pytest.raises(Misconfigured):
        await oidc.log_in(OidcLogin("x", url, "app"), STATEMENT, opened.append, seconds=1)
    assert not opened
    with pytest.raises(Misconfigured):
        await oauth.exchange(url, {})


def test_providers_are_found_by_name_and_unknown_members_are_ignored() -> None:
    assert oidc.provider_called(LOGIN, "google").client_id == "g"
    assert oidc.provider_called(LOGIN, "apple").flow == "implicit"
    for login in ({}, {"oidc": None}, {"oidc": []}, LOGIN):
        with pytest.raises(Misconfigured) as caught:
            oidc.provider_called(login, "github")
        assert caught.value.code == "no_such_provider"
    for login in ({"oidc": [{"name": "x"}]}, {"oidc": [5]}, {"oidc": [{**LOGIN["oidc"][0], "flow": "hybrid"}]}):
        with pytest.raises(Misconfigured):
            oidc.provider_called(login, "google")


def test_a_verifier_is_fresh_and_shown_nowhere() -> None:
    one, other = Pkce(), Pkce()
    assert one.verifier != other.verifier and 43 <= len(one.verifier) <= 128
    assert one.verifier not in repr(one)


async def test_a_login_that_is_given_up_leaves_nothing_behind(provider: Provider) -> None:
    opened: asyncio.Queue[str] = asyncio.Queue()
    task = asyncio.create_task(oidc.log_in(at(provider), STATEMENT, opened.put_nowait, seconds=30))
    redirect = URL(await opened.get()).query["redirect_uri"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.get(redirect)
