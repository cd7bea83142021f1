"""What sending may cost, what is told when a provider is down, and what is never written down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from codes.code_world import MAIL, NUMBER, Desk, lock, session, statement_for
from keyquorum.codes import app, service
from keyquorum.codes.drivers import ProviderDown, Undeliverable
from keyquorum.refusal import Invalid

ADA = session("ada")


# ---- what sending costs -----------------------------------------------------------------------------------------


async def test_an_address_gets_so_many_codes_an_hour_and_the_last_says_so(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(per_address_hour=3, per_address_day=5)
    for _ in range(6):
        await desk.ask(statement_for(ADA))
    assert ["last code" in message.text for _, message in desk.mail.sent] == [False, False, True]
    await desk.ask(statement_for(ADA), address="eve@example.org")
    assert len(desk.mail.sent) == 4
    desk.now += 3600
    for _ in range(6):
        await desk.ask(statement_for(ADA, expires=desk.now + 60))
    assert len(desk.mail.sent) == 6
    desk.now += 3600
    await desk.ask(statement_for(ADA, expires=desk.now + 60))
    assert len(desk.mail.sent) == 6  # five a day
    assert desk.count("messages", channel="email", outcome="suppressed") == 8


async def test_a_client_may_ask_so_often_whatever_the_addresses(
    make_desk: Callable[..., Desk], refused: Callable[..., Any]
) -> None:
    desk = make_desk(per_client_hour=3)
    for number in range(3):
        await desk.ask(statement_for(ADA), address=f"a{number}@example.org")
    with refused("too_many_requests", 429):
        await desk.ask(statement_for(ADA), address="a9@example.org")
    await desk.ask(statement_for(ADA), address="a9@example.org", client="203.0.113.9")
    desk.now += 3600
    await desk.ask(statement_for(ADA, expires=desk.now + 60), address="a9@example.org")


async def test_nobody_earns_by_messages_to_a_rented_range_of_numbers(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(per_range_day=4)
    for number in range(10):
        await desk.ask(
            statement_for(ADA), address=f"+49151234560{number:02}", channel="sms", client=f"192.0.2.{number}"
        )
    assert len(desk.sms.sent) == 4
    await desk.ask(statement_for(ADA), address="+4915123999999", channel="sms")
    assert len(desk.sms.sent) == 5


async def test_a_days_budget_is_a_plain_refusal(make_desk: Callable[..., Desk], refused: Callable[..., Any]) -> None:
    desk = make_desk(per_day=2)
    for number in range(2):
        await desk.ask(statement_for(ADA), address=f"a{number}@example.org")
    with refused("sending_limit", 503):
        await desk.ask(statement_for(ADA), address="a9@example.org")
    assert desk.mail.opened == desk.mail.closed == 3


async def test_open_challenges_are_bounded_and_run_out(
    make_desk: Callable[..., Desk], refused: Callable[..., Any]
) -> None:
    desk = make_desk(open_challenges=3, per_address_hour=1000)
    for _ in range(3):
        await desk.ask(statement_for(ADA))
    with refused("busy", 503):
        await desk.ask(statement_for(ADA))
    desk.now += 600
    await desk.ask(statement_for(ADA))


async def test_what_is_being_sent_is_bounded_also_while_it_is_asked_for(
    make_desk: Callable[..., Desk], refused: Callable[..., Any]
) -> None:
    desk = make_desk(sending=2)
    hold = asyncio.Event()

    async def stuck() -> Any:
        await hold.wait()
        return desk.mail

    desk.mail.open = stuck  # type: ignore[method-assign]
    asking = [asyncio.create_task(desk.ask(statement_for(ADA), address=f"a{i}@example.org")) for i in range(2)]
    await asyncio.sleep(0)
    with refused("busy", 503):
        await desk.ask(statement_for(ADA), address="a9@example.org")
    hold.set()
    await asyncio.gather(*asking)


# ---- providers and logs -----------------------------------------------------------------------------------------


async def test_a_provider_that_is_down_is_named(desk: Desk, refused: Callable[..., Any]) -> None:
    desk.mail.open_trouble = ProviderDown("mail.example:587", "it does not answer in time")
    with pytest.raises(Invalid, match=r"mail\.example:587, which sends") as caught:
        await desk.ask(statement_for(ADA))
    assert (caught.value.code, caught.value.status) == ("provider_unavailable", 503)
    assert desk.count("messages", channel="email", outcome="provider_down") == 1
    # Others are not affected, and the address lost nothing.
    await desk.ask(statement_for(ADA), address=NUMBER, channel="sms")
    desk.mail.open_trouble = None
    await desk.ask(statement_for(ADA))
    assert len(desk.mail.sent) == 1


async def test_a_provider_that_never_takes_a_message_is_given_up(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(service, "SENDING_SECONDS", 0.0)
    monkeypatch.setattr(desk.mail, "send", never)
    await desk.ask(statement_for(ADA))
    assert desk.count("messages", channel="email", outcome="failed") == 1 and desk.mail.closed == 1


async def test_a_provider_that_never_opens_is_not_there(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never() -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(app, "READY_SECONDS", 0.0)
    monkeypatch.setattr(desk.mail, "open", never)
    found = await app.readiness(desk.service)
    assert "does not answer in time" in found["email"] and not found["sms"]


@pytest.mark.parametrize(
    ("trouble", "outcome"),
    [
        (Undeliverable("550"), "undeliverable"),
        (ProviderDown("mail.example", "status 451"), "provider_down"),
        (RuntimeError(MAIL), "failed"),
    ],
)
async def test_trouble_after_the_reply_is_counted(desk: Desk, trouble: Exception, outcome: str) -> None:
    desk.mail.send_trouble = trouble
    await desk.ask(statement_for(ADA))
    assert desk.count("messages", channel="email", outcome=outcome) == 1 and desk.mail.closed == 1


async def test_no_address_and_no_code_is_in_log_metrics_or_database(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(per_address_hour=1000)
    with structlog.testing.capture_logs() as logs:
        asked = await desk.ask(statement_for(ADA))
        codes = [desk.last_code()]
        await desk.give(ADA, asked["id"], codes[0])
        await lock(desk)
        desk.mail.send_trouble = RuntimeError(f"550 {MAIL} {codes[0]}")
        await desk.ask(statement_for(ADA), address="new@example.org")
    codes += [text for _, message in desk.mail.sent for text in message.text.split() if text.isdigit()]
    kept = repr(logs) + desk.metrics.text().decode()
    kept += b"".join(path.read_bytes() for path in desk.folder.glob("counters*")).decode("latin-1")
    assert logs and not [secret for secret in (MAIL, "example.org", "ada", codes[0]) if secret in kept]
    kept_in_memory = repr(desk.service._open._open)
    assert MAIL not in kept_in_memory and codes[0] not in kept_in_memory
    assert codes[0] not in repr(desk.mail.sent[0][1])
