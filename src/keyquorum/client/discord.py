"""Log in with Discord from a program: browser out, access token back, commitments, and only then the token shown.

Discord's token is good for whoever holds it, so the order is everything (auth/commitment.py). First the nodes get two
hashes and sign receipts. The receipts are checked *here*, against the accounts in the registry: a gateway that invents
them would otherwise be shown a token that nobody has committed to. With w good receipts the token may go out.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from keyquorum.auth.commitment import Commitment, Receipt, receipts_needed
from keyquorum.auth.discord import METHOD
from keyquorum.auth.method import Committee
from keyquorum.auth.provider import host_of, origin
from keyquorum.auth.statement import Statement
from keyquorum.chain import registry
from keyquorum.client import commitments, oauth
from keyquorum.client.committee import Committee as Nodes
from keyquorum.client.errors import Misconfigured, Unavailable
from keyquorum.client.loopback import Loopback
from keyquorum.client.network import ChainView
from keyquorum.client.oauth import LOGIN_SECONDS, OpenUrl, Pkce
from keyquorum.client.transport import NodeError, Transport, as_public, encode
from keyquorum.refusal import Invalid

GATHER_SECONDS = 10.0

Gather = Callable[[Commitment], Awaitable[list[Any]]]


# Discord, and the own machine.
HOSTS = frozenset({"discord.com", "localhost", "127.0.0.1", "::1"})


class DiscordLogin(msgspec.Struct, frozen=True):
    """Discord in the public login configuration (`GET /v1/login`); unknown members are ignored.

    `redirect_port`: Discord compares redirect addresses exactly, so `http://127.0.0.1:<port>/callback` must be
    registered there. `public_client`: the application is registered as one, so codes with PKCE can be used.
    """

    application_id: str
    base_url: str = "https://discord.com"
    redirect_port: int = 0
    public_client: bool = False

    @property
    def authorize_url(self) -> str:
        """Where people agree."""
        return self.base_url.rstrip("/") + "/oauth2/authorize"

    @property
    def token_url(self) -> str:
        """Where a code is exchanged."""
        return self.base_url.rstrip("/") + "/api/oauth2/token"


def configured(login: Mapping[str, Any]) -> DiscordLogin:
    """Return Discord's part of a login configuration; raise `Misconfigured` when there is none."""
    if not login.get("discord"):
        raise Misconfigured(
            "no_such_provider", "one cannot log in here with Discord", "log in another way, or at another gateway"
        )
    try:
        found = msgspec.convert(login["discord"], DiscordLogin)
        # A gateway that named another place would be given the code of a public client, and what redeems it.
        if origin(found.base_url)[1] not in HOSTS:
            raise Misconfigured(
                "wrong_provider", f"this gateway calls {host_of(found.base_url)} Discord", "do not log in here"
            )
        return found
    except msgspec.ValidationError as error:
        raise Misconfigured(
            "bad_login_configuration",
            f"the login configuration is not one: {error}",
            "tell the gateway's operator, or log in another way",
        ) from None


async def log_in(
    provider: DiscordLogin,
    statement: Statement,
    open_url: OpenUrl,
    gather: Gather,
    committee: Committee,
    *,
    seconds: float = LOGIN_SECONDS,
) -> dict[str, Any]:
    """Let the person log in at Discord and return the proof for method `discord`; raise `KeyquorumError`.

    `gather` puts a commitment to the nodes and returns what they, or a gateway for them, answered (`from_nodes`,
    `from_gateway`); `committee` is what the chain says of the nodes (`committee_of`), and decides which receipts count.
    """
    token = await _token(provider, open_url, seconds)
    commitment = Commitment.to_token(METHOD.name, token, statement)
    receipts = good_receipts(await gather(commitment), commitment, committee)
    return {"token": token, "receipts": [receipt.to_json() for receipt in receipts]}


async def _token(provider: DiscordLogin, open_url: OpenUrl, seconds: float) -> str:
    pkce = Pkce()
    wanted = {"client_id": provider.application_id, "scope": "identify", "response_type": "token"}
    if provider.public_client:
        wanted |= {"response_type": "code", "code_challenge": pkce.challenge, "code_challenge_method": "S256"}
    async with Loopback(provider.redirect_port) as loopback:
        answer = await oauth.ask_browser(loopback, provider.authorize_url, wanted, open_url, seconds)
        redirect_uri = loopback.redirect_uri
    if not provider.public_client:
        return oauth.token_of(answer, "access_token", provider.authorize_url)
    form = {
        "code": oauth.token_of(answer, "code", provider.authorize_url),
        "redirect_uri": redirect_uri,
        "client_id": provider.application_id,
        "code_verifier": pkce.verifier,
    }
    return oauth.token_of(await oauth.exchange(provider.token_url, form), "access_token", provider.token_url)


def good_receipts(answers: list[Any], commitment: Commitment, committee: Committee) -> list[Receipt]:
    """Return w receipts that every node will accept; raise `Unavailable` when there are fewer: keep the token then."""
    good: dict[int, Receipt] = {}
    causes: dict[int, str] = {}
    for answer in answers:
        party = 0
        try:
            receipt = Receipt.from_json(answer)
            party = receipt.party
            receipt.check(commitment, committee, int(time.time()))
            good.setdefault(party, receipt)
        except Invalid as error:
            causes[party] = error.message
    needed = receipts_needed(len(committee.accounts), committee.threshold)
    if len(good) < needed:
        raise Unavailable(
            "too_few_receipts",
            f"{len(good)} nodes committed to the token, {needed} of {len(committee.accounts)} must",
            "nothing was shown to anybody; log in again when more nodes run, or another way",
            needed=needed,
            live=len(good),
            causes=causes,
        )
    return [good[party] for party in sorted(good)][:needed]


async def committee_of(chain: ChainView) -> Committee:
    """Return what the chain says of the nodes: account of each party, threshold, epoch; raise `ChainError`."""
    staking = chain.contract("Staking")
    nodes = await chain.ask(staking, "getNodes")
    threshold, epoch = await chain.ask(staking, "threshold"), await chain.ask(staking, "epoch")
    accounts = {node.party: bytes.fromhex(node.address[2:]) for node in registry.entries(nodes)}
    return Committee(accounts, int(threshold), int(epoch))


def from_nodes(nodes: Nodes, transport: Transport, seconds: float = GATHER_SECONDS) -> Gather:
    """Return a `gather` that asks every node itself."""

    async def gather(commitment: Commitment) -> list[Any]:
        found = await commitments.collect(nodes, transport, commitment, seconds)
        return list(found["receipts"])

    return gather


class _Receipts(msgspec.Struct):
    """A gateway's answer; each receipt is checked by `good_receipts`."""

    receipts: list[dict[str, Any]]


def from_gateway(url: str, transport: Transport) -> Gather:
    """Return a `gather` that lets a gateway ask the nodes; it is trusted with nothing but its time."""

    async def gather(commitment: Commitment) -> list[Any]:
        body = encode(commitment.to_json())
        try:
            return list((await transport.post(url.rstrip("/") + commitments.PATH, body, _Receipts)).receipts)
        except NodeError as error:
            raise as_public(error) from None

    return gather
