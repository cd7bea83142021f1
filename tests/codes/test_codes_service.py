"""The code service: what it sends, what it signs, and that guessing, relaying and watching gain nothing (T45, T46)."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from codes.code_world import MAIL, NETWORK, NOW, NUMBER, Desk, guess, lock, other_code, session, statement_for
from keyquorum.auth.code_assertion import CodeSettings, Issuer, fingerprint, make_answer, read_assertion
from keyquorum.auth.method import Context, prove
from keyquorum.codes import challenges
from keyquorum.codes.drivers import Undeliverable
from keyquorum.refusal import Invalid

ADA, THIEF = session("ada"), session("thief")


async def test_a_code_that_comes_back_is_signed_for_exactly_this_login(desk: Desk) -> None:
    statement = statement_for(ADA)
    asked = await desk.ask(statement)
    assert asked | {"id": ""} == {"id": "", "issuer": "mail-a", "expires": NOW + 600, "digits": 8}
    ((address, _),) = desk.mail.sent
    assert address == MAIL
    desk.now += 30
    token = await desk.give(ADA, asked["id"], desk.last_code())
    said, _ = read_assertion(token)
    assert (said.issuer, said.channel, said.address) == ("mail-a", "email", MAIL)
    assert (said.challenge, said.session) == (statement.challenge, ADA.public.thumbprint)
    assert (said.issued_at, said.expires) == (NOW + 30, NOW + 630)
    settings = CodeSettings(1, [Issuer("mail-a", desk.service.keys.public_key)])
    context = Context(
        now=desk.now,
        block_time=int(desk.now) + 60,
        settings=settings,
        conceal=lambda number, name: bytes([number]) * 32,
    )
    proven = await prove("email", {"address": MAIL, "assertions": [token]}, statement, context)
    assert (proven.type, proven.issued_at) == (20, context.after_block)


async def test_a_lost_answer_can_be_asked_for_again(desk: Desk) -> None:
    asked = await desk.ask(statement_for(ADA))
    first = await desk.give(ADA, asked["id"], desk.last_code())
    desk.now += 5
    assert await desk.give(ADA, asked["id"], desk.last_code()) == first


async def test_the_message_goes_to_the_normal_form_of_the_address(desk: Desk) -> None:
    await desk.ask(statement_for(ADA), address="Ada@Example.ORG")
    assert desk.mail.sent[0][0] == MAIL


async def test_sms_goes_the_same_way(desk: Desk, refused: Callable[..., Any]) -> None:
    asked = await desk.ask(statement_for(ADA), address=NUMBER, channel="sms")
    ((address, message),) = desk.sms.sent
    assert address == NUMBER and fingerprint(ADA.public) in message.text
    code = message.text[:9].replace(" ", "")
    said, _ = read_assertion(await desk.give(ADA, asked["id"], code))
    assert (said.channel, said.address) == ("sms", NUMBER)
    with refused("destination_not_served", 403):
        await desk.ask(statement_for(ADA), address="+882123456789", channel="sms")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"address": "nonsense"}, "bad_mail_or_phone"),
        ({"channel": "pigeon"}, "unknown_channel"),
        ({"channel": "sms", "address": MAIL}, "bad_mail_or_phone"),
    ],
)
async def test_what_cannot_be_sent_is_refused_before_anything_is_counted(
    desk: Desk, refused: Callable[..., Any], given: dict[str, str], code: str
) -> None:
    with refused(code, 400):
        await desk.ask(statement_for(ADA), **given)
    assert await desk.service.ledger.size() == 0 and desk.mail.opened == 0


async def test_a_statement_of_another_network_or_time_is_refused(desk: Desk, refused: Callable[..., Any]) -> None:
    with refused("wrong_network"):
        await desk.ask(statement_for(ADA, network=NETWORK.replace("31337", "1")))
    with refused("statement_expired"):
        await desk.ask(statement_for(ADA, expires=NOW))
    with refused("missing_field"):
        await desk.service.request("email", MAIL, {}, "198.51.100.1")


# ---- guessing (T45) ---------------------------------------------------------------------------------------------


async def test_five_tries_and_the_right_code_is_refused_too(desk: Desk) -> None:
    asked = await desk.ask(statement_for(ADA))
    right = desk.last_code()
    for step in range(1, challenges.TRIES + 1):
        assert await guess(desk, ADA, asked["id"], other_code(right, step)) == "code_refused"
    assert await guess(desk, ADA, asked["id"], right) == "code_refused"


async def test_the_fifth_try_may_still_be_right(desk: Desk) -> None:
    asked = await desk.ask(statement_for(ADA))
    right = desk.last_code()
    for step in range(1, challenges.TRIES):
        assert await guess(desk, ADA, asked["id"], other_code(right, step)) == "code_refused"
    assert await guess(desk, ADA, asked["id"], right) == "accepted"


async def test_a_thousand_guesses_at_once_are_five(desk: Desk) -> None:
    asked = await desk.ask(statement_for(ADA))
    right = desk.last_code()
    found = await asyncio.gather(*(guess(desk, ADA, asked["id"], other_code(right, step)) for step in range(1, 1001)))
    assert set(found) == {"code_refused"}
    assert desk.count("answers", outcome="wrong") == 5 and desk.count("answers", outcome="used_up") == 995


async def test_many_challenges_do_not_multiply_guesses(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(per_address_hour=1000, per_address_day=1000)
    looked = accepted = 0
    for round_ in range(40):
        key = session(f"thief {round_}")
        asked = await desk.ask(statement_for(key), client=f"198.51.100.{round_}")
        for step in range(5):
            accepted += await guess(desk, key, asked["id"], f"{round_ * 5 + step:08}") == "accepted"
        looked = int(desk.count("answers", outcome="wrong"))
    assert (looked, accepted) == (10, 0)
    # The address is locked: a right code is refused as a wrong one is, and no further code is sent.
    assert len([message for _, message in desk.mail.sent if "Your code" in message.text]) == 2


async def test_guesses_spread_over_independent_services_are_bounded_at_each(make_desk: Callable[..., Desk]) -> None:
    """m = 3 services with a code each: five tries at each, and a code of one is worth nothing at another."""
    desks = [make_desk(name) for name in "abc"]
    statement = statement_for(THIEF)
    asked = [await desk.ask(statement) for desk in desks]
    codes = [desk.last_code() for desk in desks]
    assert len(set(codes)) == 3
    for (desk, one), code in itertools.product(zip(desks, asked, strict=True), codes):
        if code != desk.last_code():
            assert await guess(desk, THIEF, one["id"], code) == "code_refused"
    for desk, one in zip(desks, asked, strict=True):
        for step in range(1, 100):
            assert await guess(desk, THIEF, one["id"], other_code(desk.last_code(), step)) == "code_refused"
    assert [desk.count("answers", outcome="wrong") for desk in desks] == [5.0, 5.0, 5.0]


async def test_a_lock_ends_a_day_after_the_wrong_codes(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(per_address_hour=1000, per_address_day=1000)
    await lock(desk)
    asked = await desk.ask(statement_for(ADA))
    assert "wrong codes" in desk.mail.sent[-1][1].text
    assert await guess(desk, ADA, asked["id"], "00000000") == "code_refused"
    desk.now += 24 * 3600
    asked = await desk.ask(statement_for(ADA, expires=desk.now + 3600))
    assert await guess(desk, ADA, asked["id"], desk.last_code()) == "accepted"


async def test_a_code_sent_before_the_lock_is_refused_after_it(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(per_address_hour=1000)
    asked = await desk.ask(statement_for(ADA))
    right = desk.last_code()
    await lock(desk)
    assert await guess(desk, ADA, asked["id"], right) == "code_refused"


async def test_right_codes_are_no_failures_and_do_not_forgive_failures(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(per_address_hour=1000, per_address_day=1000)
    for round_ in range(12):
        key = session(f"ada {round_}")
        asked = await desk.ask(statement_for(key))
        right = desk.last_code()
        if round_ < 9:
            assert await guess(desk, key, asked["id"], other_code(right)) == "code_refused"
        assert await guess(desk, key, asked["id"], right) == "accepted"
    asked = await desk.ask(statement_for(ADA))
    right = desk.last_code()
    assert await guess(desk, ADA, asked["id"], other_code(right)) == "code_refused"  # the tenth within a day
    assert await guess(desk, ADA, asked["id"], right) == "code_refused"


async def test_a_restart_forgets_challenges_but_no_wrong_code(make_desk: Callable[..., Desk]) -> None:
    first = make_desk(per_address_hour=1000)
    await lock(first)
    again = make_desk(per_address_hour=1000)
    asked = await again.ask(statement_for(ADA))
    assert again.mail.sent == [] and await guess(again, ADA, asked["id"], "00000000") == "code_refused"
    assert first.service.keys.public_key == again.service.keys.public_key


async def test_the_owner_of_a_locked_address_is_told_in_the_mailbox_once_a_day(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk(per_address_hour=1000)
    for hours in (0, 12, 12):  # ten within the first twelve hours; at 24 the first five are forgotten, and five follow
        desk.now += hours * 3600
        key = session(f"after {desk.now}")
        asked = await desk.ask(statement_for(key, expires=desk.now + 3600))
        for step in range(1, 6):
            await guess(desk, key, asked["id"], f"{step:08}")
        await desk.settled()
    told = [message for _, message in desk.mail.sent if "10 wrong codes" in message.text]
    assert desk.count("answers", outcome="wrong") == 15 and len(told) == 1


async def test_a_code_ends_after_ten_minutes(desk: Desk) -> None:
    asked = await desk.ask(statement_for(ADA))
    desk.now += challenges.LIFETIME
    assert await guess(desk, ADA, asked["id"], desk.last_code()) == "code_refused"


@pytest.mark.parametrize("code", ["", "1234567", "123456789", "1234 567", "１２３４５６７８", "abcdefgh", "-1234567"])
async def test_what_is_no_code_costs_no_try(desk: Desk, refused: Callable[..., Any], code: str) -> None:
    asked = await desk.ask(statement_for(ADA))
    for _ in range(6):
        with refused("bad_code", 400):
            await desk.give(ADA, asked["id"], code)
    assert await guess(desk, ADA, asked["id"], desk.last_code()) == "accepted"


# ---- relaying (T46) and watching --------------------------------------------------------------------------------


async def test_a_code_of_a_thiefs_login_is_worth_nothing_in_the_owners_session(desk: Desk) -> None:
    """The thief asks with Ada's address; Ada, logging in at the same time, types the thief's code into her own page."""
    thiefs = await desk.ask(statement_for(THIEF))
    thiefs_code = desk.last_code()
    adas = await desk.ask(statement_for(ADA))
    adas_code = desk.last_code()
    assert await guess(desk, ADA, adas["id"], thiefs_code) == "code_refused"
    assert await guess(desk, ADA, thiefs["id"], thiefs_code) == "code_refused"
    # And her code is worth nothing in the thief's session.
    assert await guess(desk, THIEF, thiefs["id"], adas_code) == "code_refused"
    assert await guess(desk, THIEF, adas["id"], adas_code) == "code_refused"
    assert await guess(desk, ADA, adas["id"], adas_code) == "accepted"


async def test_who_sees_the_id_can_neither_answer_nor_use_up_the_tries(desk: Desk) -> None:
    asked = await desk.ask(statement_for(ADA))
    right = desk.last_code()
    for step in range(20):
        assert await guess(desk, THIEF, asked["id"], other_code(right, step)) == "code_refused"
    stolen = make_answer(ADA, "mail-a", asked["id"], right)
    for code in (other_code(right), other_code(right, 2)):  # her signature is for her code only
        with pytest.raises(Invalid) as caught:
            await desk.give(ADA, asked["id"], code, signature=stolen)
        assert caught.value.code == "code_refused"
    assert await guess(desk, ADA, asked["id"], right) == "accepted"


async def test_an_answer_for_another_service_or_challenge_is_refused(desk: Desk) -> None:
    asked = await desk.ask(statement_for(ADA))
    right = desk.last_code()
    for issuer, name in (("mail-b", asked["id"]), ("mail-a", "A" * 22)):
        with pytest.raises(Invalid) as caught:
            await desk.give(ADA, asked["id"], right, signature=make_answer(ADA, issuer, name, right))
        assert caught.value.code == "code_refused"


async def test_the_message_shows_what_is_granted_and_for_which_session(desk: Desk) -> None:
    await desk.ask(statement_for(THIEF))
    text = desk.mail.sent[-1][1].text
    assert "sign personal messages and sign transactions, with EVERY key" in text
    assert fingerprint(THIEF.public) in text and fingerprint(ADA.public) not in text
    assert "Never read this code to anyone" in text and "Codes A" in text


# ---- nobody learns who is known ---------------------------------------------------------------------------------


async def refusal_of(desk: Desk, key: Any, name: str, code: str) -> tuple[str, str, str, int]:
    with pytest.raises(Invalid) as caught:
        await desk.give(key, name, code)
    return caught.value.code, caught.value.message, caught.value.hint, caught.value.status


async def test_one_refusal_for_everything_that_does_not_hold(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(per_address_hour=1000)
    asked = await desk.ask(statement_for(ADA))
    right = desk.last_code()
    seen = {
        "unknown": await refusal_of(desk, ADA, "A" * 22, right),
        "not signed": await refusal_of(desk, THIEF, asked["id"], right),
        "wrong": await refusal_of(desk, ADA, asked["id"], other_code(right)),
    }
    for step in range(2, 6):
        seen[f"used up {step}"] = await refusal_of(desk, ADA, asked["id"], other_code(right, step))
    seen["used up, right"] = await refusal_of(desk, ADA, asked["id"], right)
    await lock(desk)
    locked = await desk.ask(statement_for(ADA))
    seen["locked"] = await refusal_of(desk, ADA, locked["id"], "00000000")
    desk.now += challenges.LIFETIME
    seen["expired"] = await refusal_of(desk, ADA, locked["id"], "00000000")
    assert len(set(seen.values())) == 1


class Steps:
    """Writes down which parts of the service a request went through."""

    def __init__(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[str] = []
        service = desk.service
        for owner, name in (
            (service.ledger, "take"),
            (desk.mail, "open"),
            (desk.mail, "close"),
            (service.keys, "code_digest"),
            (service._open, "add"),
        ):
            self._watch(owner, name, monkeypatch)

    def _watch(self, owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        real = getattr(type(owner), name)

        def watched(this: Any, *arguments: Any, **named: Any) -> Any:
            self.seen.append(name)
            return real(this, *arguments, **named)

        monkeypatch.setattr(type(owner), name, watched)

    async def of(self, desk: Desk, address: str) -> tuple[list[str], set[str]]:
        self.seen.clear()
        reply = await desk.ask(statement_for(ADA), address=address)
        return list(self.seen), set(reply)


async def test_every_address_gets_the_same_reply_after_the_same_work(
    make_desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known, unknown to its mail server, sent too much already, locked: all take the same way until the reply."""
    desk = make_desk(per_address_hour=1000, per_address_day=1000)
    await lock(desk)
    for _ in range(2):
        await desk.ask(statement_for(ADA), address="busy@example.org")
    limits = msgspec.structs.replace(desk.limits, per_address_hour=2)
    desk.service.config = msgspec.structs.replace(desk.config, limits=limits)
    steps = Steps(desk, monkeypatch)
    fresh = await steps.of(desk, "fresh@example.org")
    locked, busy = await steps.of(desk, MAIL), await steps.of(desk, "busy@example.org")
    desk.mail.send_trouble = Undeliverable("550")
    unknown = await steps.of(desk, "nobody@example.org")
    assert fresh == locked == busy == unknown
    assert fresh[0] == ["take", "open", "take", "code_digest", "add", "close"]
    assert [address for address, _ in desk.mail.sent][-1] == "fresh@example.org"


async def test_the_reply_does_not_wait_for_what_the_mail_server_says_of_the_address(desk: Desk) -> None:
    hold = asyncio.Event()

    async def send(address: str, message: Any) -> None:
        await hold.wait()

    desk.mail.send = send  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        reply = await desk.service.request("email", MAIL, statement_for(ADA).to_json(), "198.51.100.1")
    assert reply["id"] and desk.service._sending
    hold.set()
    await desk.settled()


async def test_a_code_that_was_not_sent_can_not_be_guessed_right(
    make_desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even who knows the generator's next number gets nothing: an unsent code has no digest that matches it."""
    desk = make_desk(per_address_hour=1)
    monkeypatch.setattr("keyquorum.codes.service.secrets.randbelow", lambda _: 12345678)
    first = await desk.ask(statement_for(ADA))
    assert await guess(desk, ADA, first["id"], "12345678") == "accepted"
    second = await desk.ask(statement_for(ADA))
    assert len(desk.mail.sent) == 1 and await guess(desk, ADA, second["id"], "12345678") == "code_refused"


async def test_a_try_is_counted_before_the_code_is_looked_at(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk wrong codes would be counted nowhere, while the right one passed."""
    asked = await desk.ask(statement_for(ADA))
    right = desk.last_code()

    async def full(*_: Any, **__: Any) -> Any:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(desk.service.ledger, "take", full)
    for code in (other_code(right), right):
        with pytest.raises(sqlite3.OperationalError):
            await desk.give(ADA, asked["id"], code)
