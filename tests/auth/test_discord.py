"""Logins with Discord: a committed token of our application gets in; of others, uncommitted, or twice, it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from keyquorum.algebra.rng import SeededRng
from keyquorum.auth.commitment import MAX_AGE, MEMORY_SECONDS, Commitment, Receipt
from keyquorum.auth.discord import DiscordSettings
from keyquorum.auth.method import Committee, Context, Proven, method, prove
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import MAX_SESSION
from keyquorum.evm.address import address_of_private
from keyquorum.refusal import UNAVAILABLE, Invalid

TOKEN = "mfa2K9mZsQbCxW3dAvYt5rEuPn8Lg1"
OURS, USER = "1000000000000000001", "80351110224678912"
URL = "https://discord.com/api/v10/oauth2/@me"


def conceal(type_number: int, name: bytes) -> bytes:
    return bytes([type_number]) + name


def secret(party: int) -> bytes:
    return party.to_bytes(32, "big")


class Door:
    """One node, and a Discord that answers `answer`; `enter` tries a proof."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.statement = world.statement
        self.settings: DiscordSettings | None = DiscordSettings(OURS)
        self.committee = Committee({party: address_of_private(secret(party)) for party in range(1, 5)}, 3, 7)
        self.asked: list[tuple[str, str | None]] = []
        self.answer: Any = {
            "application": {"id": OURS, "name": "A wallet"},
            "scopes": ["identify"],
            "expires": self.at(7 * 86_400 - 60),
            "user": {"id": USER, "username": "nelly", "global_name": "Nelly"},
        }

    def at(self, seconds: int) -> str:
        return (datetime.fromtimestamp(self.world.now, UTC) + timedelta(seconds=seconds)).isoformat()

    async def fetch(self, url: str, *, bearer: str | None = None, newer: bool = False) -> object:
        self.asked.append((url, bearer))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    @property
    def context(self) -> Context:
        return replace(
            self.world.context,
            fetch=self.fetch,
            conceal=conceal,
            settings=self.settings,
            committee=self.committee,
        )

    def proof(
        self, token: str = TOKEN, parties: tuple[int, ...] = (1, 2, 3, 4), at: int | None = None
    ) -> dict[str, Any]:
        commitment = Commitment.to_token("discord", token, self.statement)
        when = self.world.now if at is None else at
        receipts = [Receipt.sign(commitment, 7, party, when, secret(party)).to_json() for party in parties]
        return {"token": token, "receipts": receipts}

    async def enter(self, proof: object = None) -> Proven:
        return await method("discord").verify(self.proof() if proof is None else proof, self.statement, self.context)


@pytest.fixture
def door(world: Any) -> Door:
    return Door(world)


async def test_a_committed_token_of_our_application_logs_its_user_in(door: Door) -> None:
    proven = await door.enter(door.proof(at=door.world.now - 30))
    assert (proven.type, proven.id) == (4, conceal(4, USER.encode()))
    assert door.asked == [(URL, TOKEN)]


async def test_the_registry_finds_the_method(door: Door) -> None:
    assert (await prove("discord", door.proof(), door.statement, door.context)).type == 4


async def test_names_and_addresses_do_not_matter_the_user_id_does(door: Door) -> None:
    one = await door.enter()
    door.answer["user"] |= {"username": "other", "email": "x@mail.example"}
    assert await door.enter() == one
    door.answer["user"] |= {"id": "80351110224678913"}
    assert (await door.enter()).id != one.id


async def test_receipts_need_not_be_of_one_time(door: Door) -> None:
    late, early = door.proof(at=door.world.now - 5), door.proof(at=door.world.now - 50)
    mixed = early | {"receipts": [*early["receipts"][:2], *late["receipts"][2:]]}
    assert await door.enter(mixed) == await door.enter(late)


# ---- tokens that were not committed to this login -------------------------------------------------------------------


async def test_an_uncommitted_token_is_refused_and_discord_not_asked(door: Door, refused: Callable[..., Any]) -> None:
    other = door.proof("another0K9mZsQbCxW3dAvYt5rEuP")
    with refused("bad_receipt", 401):
        await door.enter(other | {"token": TOKEN})
    with refused("bad_value", 400):
        await door.enter({"token": TOKEN, "receipts": []})
    assert door.asked == []


async def test_a_captured_proof_is_worth_nothing_for_any_other_statement(
    door: Door, refused: Callable[..., Any]
) -> None:
    proof = door.proof()
    for change in (
        {"session": SessionPrivateKey.generate(SeededRng("thief")).public},
        {"keys": ("0x" + "1" * 64,)},
        {"scopes": (1,)},
        {"expires": door.statement.expires + 1},
        {"nonce": "cd" * 16},
    ):
        door.statement = replace(door.world.statement, **change)
        with refused("bad_receipt"):
            await door.enter(proof)
    assert door.asked == []


async def test_a_node_that_saw_the_token_cannot_log_in_with_what_the_others_sign_for_it(
    door: Door, refused: Callable[..., Any]
) -> None:
    """The second commitment: three honest nodes are bound to the user's, so node 1 has its own receipt and theirs."""
    users = door.proof()
    door.statement = replace(door.statement, session=SessionPrivateKey.generate(SeededRng("thief")).public)
    with refused("too_few_receipts"):
        await door.enter(door.proof(parties=(1,)))
    with refused("bad_receipt"):
        await door.enter(users | {"receipts": [*door.proof(parties=(1,))["receipts"], *users["receipts"][1:]]})


async def test_too_few_double_strange_and_stale_receipts_are_refused(door: Door, refused: Callable[..., Any]) -> None:
    good = door.proof()["receipts"]
    commitment = Commitment.to_token("discord", TOKEN, door.statement)
    stranger = Receipt.sign(commitment, 7, 5, door.world.now, secret(5)).to_json()
    old_epoch = Receipt.sign(commitment, 6, 4, door.world.now, secret(4)).to_json()
    with refused("too_few_receipts"):
        await door.enter({"token": TOKEN, "receipts": good[:3]})
    for receipts in ([*good[:3], good[0]], [*good[:3], stranger], [*good, stranger], [*good[:3], old_epoch]):
        with refused("bad_receipt"):
            await door.enter({"token": TOKEN, "receipts": receipts})
    with refused("login_too_old"):
        await door.enter(door.proof(at=door.world.now - MAX_AGE - 61))
    with refused("clock_skew"):
        await door.enter(door.proof(at=door.world.now + 61))
    assert door.asked == []


async def test_a_token_lasts_no_longer_session_than_a_day(door: Door, refused: Callable[..., Any]) -> None:
    door.statement = replace(door.statement, expires=door.world.now + MAX_SESSION)
    assert await door.enter()
    with refused("session_too_long"):
        await door.enter(door.proof(at=door.world.now - 1))
    door.statement = replace(door.statement, expires=door.world.now)
    with refused("session_too_long"):
        await door.enter()


# ---- what Discord says ----------------------------------------------------------------------------------------------


async def test_a_token_that_the_user_gave_to_another_application_is_refused(
    door: Door, refused: Callable[..., Any]
) -> None:
    door.answer["application"]["id"] = "1000000000000000002"
    with refused("wrong_application", 401):
        await door.enter()


async def test_a_token_that_does_not_say_whose_it_is_proves_nobody(door: Door, refused: Callable[..., Any]) -> None:
    del door.answer["user"]
    with refused("no_identity", 401):
        await door.enter()


@pytest.mark.parametrize(("left", "good"), [(1, True), (0, False), (-1, False)])
async def test_an_expired_token_is_refused(door: Door, left: int, good: bool, refused: Callable[..., Any]) -> None:
    door.answer["expires"] = door.at(left)
    if good:
        assert await door.enter()
        return
    with refused("token_expired", 401):
        await door.enter()


async def test_a_token_that_outlives_the_nodes_memory_is_refused(door: Door) -> None:
    door.answer["expires"] = door.at(MEMORY_SECONDS)
    assert await door.enter()
    door.answer["expires"] = door.at(MEMORY_SECONDS + 1)
    with pytest.raises(Invalid) as caught:
        await door.enter()
    assert caught.value.code == "provider_bad_answer"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((), None),
        ((), []),
        ((), "yes"),
        (("application",), None),
        (("application",), OURS),
        (("application", "id"), None),
        (("application", "id"), int(OURS)),
        (("application", "id"), OURS + "\n"),
        (("application", "id"), ""),
        (("user",), None),
        (("user",), []),
        (("user", "id"), None),
        (("user", "id"), int(USER)),
        (("user", "id"), ""),
        (("user", "id"), "0"),
        (("user", "id"), "1" * 21),
        (("user", "id"), "80351110224678912 "),
        (("user", "id"), "8035111022467891\u0662"),
        (("expires",), None),
        (("expires",), 1_900_000_000),
        (("expires",), "tomorrow"),
        (("expires",), "2027-01-20T08:00:00"),
        (("expires",), "2027-01-20T08:00:00+00:00" + " " * 40),
        (("expires",), "9999-12-31T23:59:59-23:59"),
    ],
)
async def test_an_answer_of_another_shape_is_the_providers_failure_and_names_it(
    door: Door, path: tuple[str, ...], value: object
) -> None:
    if not path:
        door.answer = value
    else:
        inner = door.answer if len(path) == 1 else door.answer[path[0]]
        inner[path[-1]] = value
    with pytest.raises(Invalid) as caught:
        await door.enter()
    assert (caught.value.code, caught.value.status) == ("provider_bad_answer", 503)
    assert "discord.com" in caught.value.message


async def test_both_ways_to_write_the_offset_of_an_expiry_are_read(door: Door) -> None:
    door.answer["expires"] = "2027-01-20T08:00:00.123000+00:00"
    assert await door.enter()
    door.answer["expires"] = "2027-01-20T08:00:00Z"
    assert await door.enter()


@pytest.mark.parametrize(("code", "status"), [("provider_unavailable", UNAVAILABLE), ("provider_refused", 401)])
async def test_that_discord_is_down_or_refuses_the_token_is_passed_on(door: Door, code: str, status: int) -> None:
    door.answer = Invalid(code, "discord.com ...", "wait", status)
    with pytest.raises(Invalid) as caught:
        await door.enter()
    assert (caught.value.code, caught.value.status) == (code, status)


async def test_another_address_is_asked_when_it_is_configured(door: Door) -> None:
    door.settings = DiscordSettings(OURS, "http://127.0.0.1:9/api/")
    assert await door.enter()
    assert door.asked[0][0] == "http://127.0.0.1:9/api/oauth2/@me"


# ---- form -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token",
    [
        "short",
        "x" * 513,
        TOKEN + " ",
        TOKEN + "\n",
        TOKEN + "=",
        " " + TOKEN,
        TOKEN + "\r\nX: y",
        TOKEN + "/../x",
        TOKEN + "\u00e9",
        5,
        None,
    ],
)
async def test_a_token_that_is_none_is_never_sent_to_discord(door: Door, token: Any) -> None:
    proof = door.proof(token) if isinstance(token, str) else door.proof() | {"token": token}
    with pytest.raises(Invalid) as caught:
        await door.enter(proof)
    assert caught.value.status == 400
    assert door.asked == []


async def test_a_proof_of_any_other_form_is_malformed(door: Door) -> None:
    good = door.proof()
    for proof in (
        [],
        "x",
        {"token": TOKEN},
        good | {"more": 1},
        good | {"receipts": {}},
        good | {"receipts": [1]},
        good | {"receipts": good["receipts"] * 26},
        good | {"receipts": [one | {"party": "1"} for one in good["receipts"]]},
    ):
        with pytest.raises(Invalid) as caught:
            await door.enter(proof)
        assert caught.value.status == 400


async def test_no_part_of_a_token_is_in_an_error(door: Door) -> None:
    token = "canaryK9mZsQbCxW3dAvYt5rEuPn8L"
    for proof in (
        door.proof(token) | {"token": token + "="},
        door.proof(token, parties=(1, 2)),
        door.proof(token) | {"receipts": door.proof()["receipts"]},
    ):
        with pytest.raises(Invalid) as caught:
            await door.enter(proof)
        assert "canary" not in repr((str(caught.value), caught.value.message, caught.value.hint))


async def test_without_settings_the_method_says_so(door: Door) -> None:
    door.settings = None
    with pytest.raises(Invalid) as caught:
        await door.enter()
    assert (caught.value.code, caught.value.status) == ("not_configured", 503)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"application_id": "x"},
        {"application_id": ""},
        {"application_id": OURS + "\n"},
        {"application_id": OURS, "base_url": "http://discord.com/api"},
        {"application_id": OURS, "base_url": "discord.com"},
        {"application_id": OURS, "colour": "red"},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(settings, DiscordSettings)
