"""Every host, issuer and name that a gateway supplies for a login, once from a liar."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from keyquorum.cli import ways
from keyquorum.client import Misconfigured

GATEWAY = "https://gateway.example"
GOOGLE = {"name": "google", "issuer": "https://accounts.google.com", "client_id": "g"}
DISCORD = {"application_id": "1"}
WRONG, NOWHERE, NO_PASSKEYS, BAD_URL = "wrong_provider", "no_such_provider", "no_passkeys", "bad_provider_url"


def google(issuer: str, *more: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "google", {"oidc": [GOOGLE | {"issuer": issuer}, *more]}


def discord_at(url: str) -> tuple[str, dict[str, Any]]:
    return "discord", {"discord": DISCORD | {"base_url": url}}


LIARS: dict[str, tuple[tuple[str, dict[str, Any]], str]] = {
    "another issuer as Google": (google("https://evil.example"), WRONG),
    "a host below Google's": (google("https://accounts.google.com.evil.example"), WRONG),
    "a path at Google": (google("https://accounts.google.com/evil"), WRONG),
    "Google, but not https": (google("http://accounts.google.com"), BAD_URL),
    "Google without an address": (google("nonsense"), BAD_URL),
    "a liar before Google": (google("https://evil.example", GOOGLE), WRONG),
    "no Google": (("google", {"oidc": []}), NOWHERE),
    "another place as Discord": (discord_at("https://evil.example"), WRONG),
    "a host below Discord's": (discord_at("https://discord.com.evil.example"), WRONG),
    "passkeys of another page": (("passkey", {"rp_id": "bank.example"}), NO_PASSKEYS),
    "passkeys of a name's end": (("passkey", {"rp_id": "way.example"}), NO_PASSKEYS),
    "passkeys of nobody": (("passkey", {}), NO_PASSKEYS),
    "no services": (("email", {"codes": []}), NOWHERE),
}


class Person:
    def __init__(self) -> None:
        self.told: list[str] = []
        self.opened: list[str] = []

    def tell(self, text: str) -> None:
        self.told.append(text)

    def open(self, url: str) -> None:
        self.opened.append(url)

    def ask(self, what: str) -> str:
        self.told.append(f"asked: {what}")
        return "ada@example.org"


def way_of(name: str, offered: dict[str, Any], who: str | None = None) -> tuple[ways.Way, Person]:
    person = Person()

    async def offers() -> tuple[str, dict[str, Any]]:
        return GATEWAY, offered

    terminal: Any = SimpleNamespace(
        offers=offers, person=person, client=SimpleNamespace(session=None), seconds=1.0, directory=Path()
    )
    return asyncio.run(ways.way_of(terminal, name, who)), person


@pytest.mark.parametrize("lie", LIARS)
def test_a_lie_ends_the_login_before_a_browser_opens(lie: str) -> None:
    (name, offered), code = LIARS[lie]
    with pytest.raises(Misconfigured) as refused:
        way_of(name, offered)
    assert refused.value.code == code


def test_what_is_as_it_should_be_is_taken_and_named() -> None:
    way, person = way_of("google", {"oidc": [GOOGLE]})
    assert way.method == "oidc"
    assert "accounts.google.com" in person.told[0]
    assert way_of("discord", {"discord": DISCORD})[0].method == "discord"
    assert way_of("passkey", {"rp_id": "gateway.example"})[0].method == "passkey"


def test_of_any_other_provider_the_host_is_named_first() -> None:
    liar = {"name": "bank", "issuer": "https://evil.example/bank.example", "client_id": "1"}
    _, person = way_of("oidc", {"oidc": [liar]}, "bank")
    assert person.told == ["You log in at evil.example: the browser must show it."]


def test_who_learns_an_address_is_named_before_it_is_asked_for() -> None:
    _, person = way_of("email", {"codes": ["https://evil.example/codes"]})
    assert "evil.example" in person.told[0]
    assert person.told[1].startswith("asked: E-mail address")
