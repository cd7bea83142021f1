"""Real OpenID Connect providers: the whole way from the browser to the identity, at two independent implementations."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from keyquorum.auth.method import Context, Proven, prove
from keyquorum.auth.oidc import Issuer, OidcSettings, account_name
from keyquorum.auth.statement import Statement
from keyquorum.client import oidc
from keyquorum.client.errors import KeyquorumError, Misconfigured, Refused
from keyquorum.client.oidc import OidcLogin
from keyquorum.formats.text import from_base64url
from keyquorum.node.services.providers import Providers
from keyquorum.node.settings.auth_settings import origins
from keyquorum.refusal import Invalid
from provider_kit import NodeProvider, Person, mock_provider, new_statement, node_provider

# The second provider uses older interfaces of its own libraries.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def conceal(type_number: int, name: bytes) -> bytes:
    return hmac.digest(b"secret", bytes([type_number]) + name, hashlib.sha256)


@pytest.fixture(scope="module")
def npm() -> Iterator[NodeProvider]:
    with node_provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def mock() -> Iterator[str]:
    with mock_provider() as issuer:
        yield issuer


@pytest.fixture
async def node(npm: NodeProvider, mock: str) -> AsyncIterator[Node]:
    node = Node(npm.issuer, mock)
    yield node
    await node.providers.close()


class Node:
    """What a node brings: its settings, and its own way to ask providers."""

    def __init__(self, npm: str, mock: str) -> None:
        self.settings = OidcSettings(
            [
                Issuer("npm", npm, ["public-app", "implicit-app", "desktop-app"]),
                Issuer("mock", mock, ["mock-app"]),
            ]
        )
        self.clock = 0.0
        self.providers = Providers(origins({"oidc": self.settings}), lambda: time.monotonic() + self.clock)

    async def verify(self, proof: object, statement: Statement) -> Proven:
        context = Context(
            int(time.time()), block_time=int(time.time()), fetch=self.providers, conceal=conceal, settings=self.settings
        )
        return await prove("oidc", proof, statement, context)


async def log_in(provider: OidcLogin, statement: Statement, person: Person | None = None) -> dict[str, str]:
    person = person or Person()
    proof = await oidc.log_in(provider, statement, person.open_url, seconds=30)
    await person.done()
    return proof


def at_npm(npm: NodeProvider, client_id: str = "public-app", **more: Any) -> OidcLogin:
    return OidcLogin("npm", npm.issuer, client_id, **more)


async def test_a_public_client_logs_in_with_a_code_and_pkce(npm: NodeProvider, node: Node) -> None:
    statement, person = new_statement(), Person()
    proven = await node.verify(await log_in(at_npm(npm), statement, person), statement)
    assert (proven.type, proven.id) == (6, conceal(6, account_name(npm.issuer, "alice")))
    assert abs(proven.issued_at - time.time()) < 60
    asked = person.request
    assert asked["response_type"] == "code" and asked["code_challenge_method"] == "S256"
    assert asked["nonce"] == statement.challenge and asked["scope"] == "openid"
    assert "logged in" in person.pages[-1]


async def test_where_only_the_fragment_is_offered_the_id_token_comes_in_it(npm: NodeProvider, node: Node) -> None:
    statement, person = new_statement(), Person()
    proof = await log_in(at_npm(npm, "implicit-app", flow="implicit"), statement, person)
    assert person.request["response_type"] == "id_token"
    assert (await node.verify(proof, statement)).id == conceal(6, account_name(npm.issuer, "alice"))
    assert "logged in" in person.pages[-1]


async def test_a_desktop_application_shows_the_secret_that_is_none(npm: NodeProvider, node: Node) -> None:
    statement = new_statement()
    proof = await log_in(at_npm(npm, "desktop-app", client_secret="in-every-copy"), statement)
    assert await node.verify(proof, statement)
    with pytest.raises(KeyquorumError) as caught:
        await log_in(at_npm(npm, "desktop-app", client_secret="wrong-secret"), new_statement())
    assert caught.value.code == "provider_failed" and "wrong-secret" not in str(caught.value)


async def test_a_second_provider_is_only_configuration(mock: str, node: Node) -> None:
    statement, person = new_statement(), Person()
    provider = OidcLogin("mock", mock, "mock-app", client_secret="in-every-copy")
    proven = await node.verify(await log_in(provider, statement, person), statement)
    assert proven.id == conceal(6, account_name(mock, "alice"))
    assert person.request["response_type"] == "code"


async def test_the_same_name_at_two_providers_is_two_people(npm: NodeProvider, mock: str, node: Node) -> None:
    one, two = new_statement(), new_statement()
    at_one = await node.verify(await log_in(at_npm(npm), one), one)
    at_two = await node.verify(await log_in(OidcLogin("mock", mock, "mock-app", client_secret="x"), two), two)
    assert at_one.id != at_two.id


async def test_the_same_person_is_the_same_on_every_day_and_another_is_another(npm: NodeProvider, node: Node) -> None:
    found = []
    for user in ("alice", "alice", "bob"):
        statement = new_statement()
        found.append(await node.verify(await log_in(at_npm(npm), statement, Person(user)), statement))
    assert found[0].id == found[1].id != found[2].id


async def test_a_real_token_is_worth_nothing_for_another_session_key(npm: NodeProvider, node: Node) -> None:
    proof = await log_in(at_npm(npm), new_statement())
    with pytest.raises(Invalid) as caught:
        await node.verify(proof, new_statement())
    assert caught.value.code == "wrong_challenge"


async def test_a_real_token_for_another_application_is_refused(npm: NodeProvider, node: Node) -> None:
    statement = new_statement()
    with pytest.raises(Invalid) as caught:
        await node.verify(await log_in(at_npm(npm, "other-app"), statement), statement)
    assert caught.value.code == "wrong_audience"


async def test_a_real_token_with_a_changed_claim_is_refused(npm: NodeProvider, node: Node) -> None:
    statement = new_statement()
    header, claims, signature = (await log_in(at_npm(npm), statement))["id_token"].split(".")
    changed = json.loads(from_base64url(claims, "claims")) | {"sub": "bob"}
    from oidc_kit import part

    with pytest.raises(Invalid) as caught:
        await node.verify({"id_token": f"{header}.{part(changed)}.{signature}"}, statement)
    assert caught.value.code == "bad_provider_signature"


async def test_logins_go_on_when_the_provider_changes_its_keys(npm: NodeProvider, node: Node) -> None:
    statement = new_statement()
    old = await log_in(at_npm(npm), statement)
    assert await node.verify(old, statement)
    npm.rotate(["second", "third"])
    fresh = new_statement()
    proof = await log_in(at_npm(npm), fresh)
    assert await node.verify(proof, fresh)
    # The withdrawn key is gone with the renewed set, and nonsense does not make the node ask again at once.
    with pytest.raises(Invalid) as caught:
        await node.verify(old, statement)
    assert caught.value.code == "unknown_provider_key"
    npm.rotate(["fourth"])
    last = new_statement()
    proof = await log_in(at_npm(npm), last)
    with pytest.raises(Invalid) as caught:
        await node.verify(proof, last)
    assert caught.value.code == "unknown_provider_key"
    node.clock += 61
    assert await node.verify(proof, last)


@pytest.mark.parametrize("client_id", ["public-app", "implicit-app"])
async def test_who_does_not_agree_is_told_so(npm: NodeProvider, client_id: str) -> None:
    person = Person(agrees=False)
    with pytest.raises(Refused) as caught:
        await log_in(
            at_npm(npm, client_id, flow="code" if client_id == "public-app" else "implicit"), new_statement(), person
        )
    assert caught.value.code == "login_denied" and "access_denied" in caught.value.message
    await person.done()
    assert "did not log you in" in person.pages[-1]


async def test_a_provider_that_offers_nothing_usable_is_said_to(mock: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        await log_in(OidcLogin("mock", mock, "mock-app"), new_statement())
    assert caught.value.code == "no_usable_flow"
