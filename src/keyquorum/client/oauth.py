"""What the browser logins share: OAuth 2 from the side of an application on the user's own machine (RFC 8252).

The provider's answer comes to a server on this machine (`loopback.py`). An authorization code is worth nothing without
the PKCE verifier, which never leaves this process (RFC 7636, S256). Where an application is registered as a desktop
one, providers such as Google hand out a "client secret" with it; it is in every copy of the program and
therefore none, but the token endpoint wants to see it.

Tokens and codes are in no error and no log.
"""

from __future__ import annotations

import hashlib
import inspect
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from yarl import URL

from keyquorum.auth.provider import host_of, origin
from keyquorum.client.errors import KeyquorumError, Misconfigured, Refused
from keyquorum.client.loopback import Loopback
from keyquorum.formats.strict_json import BadJson, loads
from keyquorum.formats.text import to_base64url

MAX_BODY = 256 * 1024
SECONDS = 15.0
LOGIN_SECONDS = 300.0

OpenUrl = Callable[[str], object]


FAILED = "provider_failed"


class ProviderError(KeyquorumError):
    """The identity provider could not be reached, or answered in another way than it documents."""

    usual_hint = "try again in a moment, or log in another way"


@dataclass(frozen=True, slots=True)
class Pkce:
    """A fresh proof key for code exchange: the verifier stays here, its hash goes through the browser."""

    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48), repr=False)

    @property
    def challenge(self) -> str:
        """The S256 challenge."""
        return to_base64url(hashlib.sha256(self.verifier.encode()).digest())


async def ask_browser(
    loopback: Loopback, authorize_url: str, parameters: Mapping[str, str], open_url: OpenUrl, seconds: float
) -> dict[str, str]:
    """Send the browser to the provider and return its answer, which is no error; raise `KeyquorumError`."""
    url = URL(check_url(authorize_url)).update_query(
        {"redirect_uri": loopback.redirect_uri, "state": loopback.state, **parameters}
    )
    opened = open_url(str(url))
    if inspect.isawaitable(opened):
        await opened
    answer = await loopback.answer(seconds)
    if "error" in answer:
        what = "".join(c for c in answer["error"][:64] if c.isascii() and (c.isalnum() or c == "_"))
        raise Refused(
            "login_denied",
            f"{host_of(authorize_url)} did not log you in: {what or 'no reason given'}",
            "log in again and agree, or use another method",
        )
    return answer


async def exchange(token_url: str, form: Mapping[str, str]) -> dict[str, Any]:
    """Return the token endpoint's answer to an authorization code; raise `ProviderError`."""
    return await _ask("POST", token_url, {"grant_type": "authorization_code", **form})


async def get_json(url: str) -> dict[str, Any]:
    """Return the JSON object at a provider's address; raise `ProviderError`."""
    return await _ask("GET", url, None)


def token_of(answer: Mapping[str, Any], name: str, url: str) -> str:
    """Return the token called `name` of a provider's answer; raise `ProviderError` when there is none."""
    token = answer.get(name)
    if not isinstance(token, str) or not 1 <= len(token) <= MAX_BODY:
        raise ProviderError(FAILED, f"{host_of(url)} gave no {name}")
    return token


def check_url(url: str) -> str:
    """Return a provider's address; raise `Misconfigured` unless it is https, or on this machine."""
    try:
        origin(url)
    except ValueError as error:
        raise Misconfigured("bad_provider_url", str(error), "check the login configuration") from None
    return url


async def _ask(method: str, url: str, form: Mapping[str, str] | None) -> dict[str, Any]:
    host = host_of(check_url(url))
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as http,
            http.request(
                method, url, data=form, headers={"Accept": "application/json"}, allow_redirects=False
            ) as response,
        ):
            status, content = response.status, await response.content.read(MAX_BODY + 1)
            while len(content) <= MAX_BODY and (more := await response.content.read(MAX_BODY)):
                content += more
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise ProviderError(FAILED, f"{host} cannot be reached ({type(error).__name__})") from None
    if status != 200:
        raise ProviderError(FAILED, f"{host} answered with status {status}")
    try:
        value = loads(content, MAX_BODY, allow_floats=True)
    except BadJson:
        value = None
    if not isinstance(value, dict):
        raise ProviderError(FAILED, f"{host} did not answer with a JSON object")
    return value
