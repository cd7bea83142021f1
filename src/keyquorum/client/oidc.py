"""Log in with an OpenID Connect provider from a program: browser out, id_token back.

The statement's challenge goes to the provider as `nonce` and comes back inside the id_token, under the provider's
signature: that binds the token to this session key, so nothing is lost when nodes, or whoever sees it on its way, get
it. Authorization code with PKCE where the provider lets this application use it (public clients, or desktop ones with
their not very secret secret), the id_token in the fragment otherwise. Only `openid` is asked for: no name, no address.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from keyquorum.auth.oidc import DISCOVERY, read_id_token
from keyquorum.auth.provider import host_of
from keyquorum.auth.statement import Statement
from keyquorum.client import oauth
from keyquorum.client.errors import Misconfigured
from keyquorum.client.loopback import Loopback
from keyquorum.client.oauth import FAILED, LOGIN_SECONDS, OpenUrl, Pkce, ProviderError
from keyquorum.refusal import Invalid

Flow = Literal["code", "implicit"]


class OidcLogin(msgspec.Struct, frozen=True):
    """One provider of the public login configuration (`GET /v1/login`); unknown members are ignored.

    Addresses are read from the issuer's discovery document
    (those here are for pages), and so is `flow` when it is empty. `client_secret`: only for desktop
    applications whose provider demands one; it is in every copy of the program, so it protects nothing and may be
    public. `redirect_port`: for providers that compare redirect addresses exactly, register
    `http://127.0.0.1:<port>/callback`; 0 is any free port.
    """

    name: str
    issuer: str
    client_id: str
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    client_secret: str = ""
    flow: Flow | Literal[""] = ""
    redirect_port: int = 0


def provider_called(login: Mapping[str, Any], name: str) -> OidcLogin:
    """Return the provider `name` of a login configuration; raise `Misconfigured` naming those that there are."""
    try:
        found = [msgspec.convert(one, OidcLogin) for one in login.get("oidc") or ()]
    except msgspec.ValidationError as error:
        raise Misconfigured(
            "bad_login_configuration",
            f"the login configuration is not one: {error}",
            "tell the gateway's operator, or log in another way",
        ) from None
    for provider in found:
        if provider.name == name:
            oauth.check_url(provider.issuer)
            return provider
    known = ", ".join(provider.name for provider in found) or "none"
    raise Misconfigured("no_such_provider", f"one cannot log in here with {name}", f"providers that one can: {known}")


async def log_in(
    provider: OidcLogin, statement: Statement, open_url: OpenUrl, *, seconds: float = LOGIN_SECONDS
) -> dict[str, str]:
    """Let the person log in at the provider and return the proof for method `oidc`; raise `KeyquorumError`.

    `open_url` shows an address to the person (a browser); it may be a coroutine function.
    """
    how = await _endpoints(provider)
    pkce = Pkce()
    wanted = {"client_id": provider.client_id, "scope": "openid", "nonce": statement.challenge}
    if how.flow == "code":
        wanted |= {"response_type": "code", "code_challenge": pkce.challenge, "code_challenge_method": "S256"}
    else:
        wanted |= {"response_type": "id_token"}
    async with Loopback(provider.redirect_port) as loopback:
        answer = await oauth.ask_browser(loopback, how.authorize, wanted, open_url, seconds)
        redirect_uri = loopback.redirect_uri
    # RFC 9207: an answer that another provider gave must not have its code sent to this one.
    if answer.get("iss", provider.issuer) != provider.issuer:
        raise ProviderError("wrong_provider", "the answer in the browser came from another provider")
    if how.flow == "implicit":
        return _for_this_login(oauth.token_of(answer, "id_token", how.authorize), provider, statement)
    form = {
        "code": oauth.token_of(answer, "code", how.authorize),
        "redirect_uri": redirect_uri,
        "client_id": provider.client_id,
        "code_verifier": pkce.verifier,
    }
    if provider.client_secret:
        form["client_secret"] = provider.client_secret
    token = oauth.token_of(await oauth.exchange(how.token, form), "id_token", how.token)
    return _for_this_login(token, provider, statement)


def _for_this_login(token: str, provider: OidcLogin, statement: Statement) -> dict[str, str]:
    """Return the proof; raise `ProviderError` for a token that no node reads, or that was made for another login.

    A page between here and the provider could have asked it with a nonce of its own. Shown to nobody, such a token is
    worth nothing.
    """
    try:
        found = read_id_token(token)
    except Invalid as error:
        raise ProviderError(
            "unreadable_token",
            f"the token of {host_of(provider.issuer)} cannot be used: {error.message}",
            "the provider's settings for this application must give id_tokens signed with RS256",
        ) from None
    if found.claims.get("nonce") != statement.challenge:
        raise ProviderError("wrong_token", "the provider's token is for another login than this one")
    if provider.client_id not in found.audiences:
        raise ProviderError("wrong_token", "the provider's token is for another application than this one")
    return {"id_token": token}


@dataclass(frozen=True, slots=True)
class _Endpoints:
    authorize: str
    token: str
    flow: Flow


async def _endpoints(provider: OidcLogin) -> _Endpoints:
    # From the issuer alone: whoever names other endpoints would get the code and what redeems it.
    url = provider.issuer.rstrip("/") + DISCOVERY
    document = await oauth.get_json(url)
    if document.get("issuer") != provider.issuer:
        raise ProviderError(FAILED, f"{host_of(url)} describes another issuer than the configured one")
    flow = provider.flow or _choose_flow(provider, document)
    authorize = oauth.token_of(document, "authorization_endpoint", url)
    token = oauth.token_of(document, "token_endpoint", url) if flow == "code" else ""
    return _Endpoints(authorize, token, flow)


def _choose_flow(provider: OidcLogin, document: Mapping[str, Any]) -> Flow:
    """Prefer the code where this application can redeem it: with a secret, or without where public clients may."""
    types = _strings(document, "response_types_supported")
    redeemable = provider.client_secret or "none" in _strings(document, "token_endpoint_auth_methods_supported")
    if redeemable and "code" in types:
        return "code"
    if "id_token" in types:
        return "implicit"
    raise Misconfigured(
        "no_usable_flow",
        f"{provider.name} offers no login that this application can use",
        "enable public clients (PKCE) or the response type id_token at the provider, or configure a client secret",
    )


def _strings(document: Mapping[str, Any], name: str) -> list[str]:
    found = document.get(name)
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
