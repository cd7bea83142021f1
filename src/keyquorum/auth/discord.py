"""Login method `discord`: an OAuth 2 access token of Discord, committed to before any node saw it.

Discord gives no signed, nonce-bearing statement about its users, only a token that is good for whoever holds it. What
binds it to the login is therefore made by the nodes: receipts, see `commitment.py`. Each node then asks Discord itself
(`GET /oauth2/@me`) whom the token belongs to, and for which application it was made: a token that the user gave to
another application is refused, or every application could log in as its users. The identity is the user's id, a
number that never changes; names and addresses are not looked at. Spec: spec/auth.md, "Discord and other bearer tokens".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec

from keyquorum.auth.commitment import (
    MAX_RECEIPTS,
    MEMORY_SECONDS,
    RECEIPTS,
    SIGNATURE_BYTES,
    Commitment,
    check_receipts,
    parse_receipts,
)
from keyquorum.auth.method import Context, Proven
from keyquorum.auth.provider import bad_answer, host_of, not_configured, origin
from keyquorum.auth.statement import MAX_SESSION, Statement
from keyquorum.formats.strict_json import text
from keyquorum.formats.text import Rules, read
from keyquorum.refusal import Invalid, malformed

DISCORD_TYPE = 4
DEFAULT_BASE_URL = "https://discord.com/api/v10"
MIN_TOKEN, MAX_TOKEN = 16, 512
_PROOF: Rules = {"token": text(MAX_TOKEN, MIN_TOKEN), "receipts": RECEIPTS}
# Narrower than RFC 6750: nothing that a decoder might skip, so that a token has one spelling (commitment.py).
_TOKEN = re.compile(r"[A-Za-z0-9._-]{16,512}")
_SNOWFLAKE = re.compile(r"[1-9][0-9]{0,19}")


class DiscordSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[auth.discord]`: the application whose tokens are accepted, and where Discord's API is."""

    application_id: Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]{0,19}\Z")]
    base_url: str = DEFAULT_BASE_URL

    def __post_init__(self) -> None:
        origin(self.base_url)


class Discord:
    """The method; see the head of this file. `bearer`: its tokens need a commitment first."""

    name = "discord"
    type_number = DISCORD_TYPE
    settings_type = DiscordSettings
    bearer = True
    summary = "an account at Discord (OAuth 2 access token, committed to before it is shown)"
    proof_schema: Mapping[str, object] = {
        "type": "object",
        "required": ["token", "receipts"],
        "additionalProperties": False,
        "properties": {
            "token": {"type": "string", "minLength": MIN_TOKEN, "maxLength": MAX_TOKEN},
            "receipts": {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_RECEIPTS,
                "items": {
                    "type": "object",
                    "required": ["party", "issued_at", "signature"],
                    "additionalProperties": False,
                    "properties": {
                        "party": {"type": "integer"},
                        "issued_at": {"type": "integer"},
                        "signature": {"type": "string", "pattern": f"^0x[0-9a-f]{{{2 * SIGNATURE_BYTES}}}$"},
                    },
                },
            },
        },
    }

    async def verify(self, proof: object, challenge: Statement, context: Context) -> Proven:
        """Return the account that Discord says the committed token belongs to; raise `Invalid` otherwise."""
        settings = context.settings
        if not isinstance(settings, DiscordSettings):
            raise not_configured(self.name, "Discord accounts: it knows no application there")
        fields = read(proof, _PROOF, "the proof")
        token = fields["token"]
        if not _TOKEN.fullmatch(token):
            raise malformed("bad_token", "the token is not an OAuth 2 access token", "send it as Discord gave it")
        # D.1, D.2, D.3: before Discord is asked, so that an uncommitted token is not worth a question
        commitment = Commitment.to_token(self.name, token, challenge)
        issued_at = check_receipts(parse_receipts(fields["receipts"]), commitment, context.committee, context.now)
        if not 0 < challenge.expires - issued_at <= MAX_SESSION:
            raise Invalid("session_too_long", "from the receipts to expiry it is more than 24 hours", "ask for less")
        user = await _ask_whose(token, settings, context)
        # D.7
        return Proven(DISCORD_TYPE, context.conceal(DISCORD_TYPE, user.encode()))


METHOD = Discord()


async def _ask_whose(token: str, settings: DiscordSettings, context: Context) -> str:
    """Return the id of the user that Discord says the token belongs to."""
    # D.4
    url = settings.base_url.rstrip("/") + "/oauth2/@me"
    answer = await context.fetch(url, bearer=token)
    if not isinstance(answer, dict):
        raise bad_answer(url, "did not answer with an object")
    application = _member(url, answer, "application")
    if _snowflake(url, application.get("id"), "application") != settings.application_id:
        raise Invalid(
            "wrong_application",
            f"the user gave this token to another application at {host_of(url)}",
            "log in with the application that this network's login page uses",
        )
    # D.5
    left = _expiry(url, answer) - context.now
    if left <= 0:
        raise Invalid("token_expired", f"{host_of(url)} says that the token has expired", "log in there again")
    if left > MEMORY_SECONDS:
        raise bad_answer(url, "gives tokens that live longer than nodes remember what they were committed to")
    # D.6
    if "user" not in answer:
        raise Invalid("no_identity", "the token does not say whose it is", "ask Discord for the scope `identify`")
    return _snowflake(url, _member(url, answer, "user").get("id"), "user")


def _member(url: str, answer: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = answer.get(name)
    if not isinstance(found, dict):
        raise bad_answer(url, f"did not say which {name} the token is for")
    return found


def _snowflake(url: str, value: object, what: str) -> str:
    if not isinstance(value, str) or not _SNOWFLAKE.fullmatch(value):
        raise bad_answer(url, f"gave an id of the {what} that is none")
    return value


def _expiry(url: str, answer: Mapping[str, Any]) -> int:
    """Return the token's expiry in Unix seconds: ISO 8601 with an offset."""
    value = answer.get("expires")
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        if moment is None or moment.tzinfo is None:
            raise ValueError
        return int(moment.timestamp())
    except (ValueError, OverflowError):
        raise bad_answer(url, "did not say until when the token is valid") from None
