"""What a code service does: send a code for a statement, and sign that it came back in the statement's session.

`request` answers the same, after the same work, for every address: whether its mailbox exists, has had too many codes,
or is locked after wrong ones is told to nobody but the mailbox itself. What does not depend on the address is told
plainly: a provider that is down, a client that asks too often, a day's budget that is spent.

`answer` counts before it compares. The session key must have signed the answer, so only the session that asked can use
up its five tries or be told anything; then one failure of the address is written to disk, to be taken back if the code
is right. Wrong, expired, used up, locked, unknown and not signed are one refusal. A code that was not sent has no
digest that any code could match. Spec: spec/codes.md.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from keyquorum.auth import email_code, sms_code
from keyquorum.auth.code_assertion import (
    CHALLENGE_ID_BYTES,
    Channel,
    check_answer,
    make_assertion,
)
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import Statement
from keyquorum.codes.challenges import LIFETIME, Challenge, Challenges
from keyquorum.codes.config import CodesConfig
from keyquorum.codes.drivers import Delivery, Driver, Message, ProviderDown, Undeliverable, reason_of
from keyquorum.codes.ledger import HOUR, Ledger, Outcome, Quota
from keyquorum.codes.message import code_message, lock_message
from keyquorum.codes.metrics import Metrics
from keyquorum.codes.secrets_file import Keys
from keyquorum.formats.text import to_base64url
from keyquorum.refusal import MALFORMED, NOT_PERMITTED, TOO_MANY, UNAVAILABLE, Invalid, malformed

SENDING_SECONDS = 30.0
CLOSING_SECONDS = 10.0
# A number without its last three digits: those who earn by messages rent such ranges.
_RANGE_DIGITS = 3
_SHOWN_TAG_BYTES = 4
log = structlog.get_logger("keyquorum.codes")


@dataclass(frozen=True)
class Line:
    """One channel: its driver, how its addresses are spelled, and where it sends."""

    channel: Channel
    driver: Driver
    normalise: Callable[[str], str]
    prefixes: tuple[str, ...] = ("",)

    def address(self, given: str) -> str:
        """Return the address in its one spelling; raise `Invalid` when nothing is sent there."""
        address = self.normalise(given)
        if not address.startswith(self.prefixes):
            raise Invalid(
                "destination_not_served",
                "this service sends no messages to that country",
                "use another method, or a service that sends there",
                NOT_PERMITTED,
            )
        return address


def make_lines(config: CodesConfig) -> dict[str, Line]:
    """Return the channels that are configured, their drivers made (nothing connects yet); raise `ValueError`."""
    lines = {}
    if config.email is not None:
        from keyquorum.codes.smtp import SmtpDriver

        lines["email"] = Line("email", SmtpDriver(config.email), email_code.normalise)
    if config.sms is not None:
        lines["sms"] = Line("sms", _sms_driver(config), sms_code.normalise, tuple(config.sms.prefixes))
    return lines


def _sms_driver(config: CodesConfig) -> Driver:
    assert config.sms is not None  # noqa: S101 - the caller looked
    if config.sms.http is not None:
        from keyquorum.codes.http_sms import HttpSmsDriver

        return HttpSmsDriver(config.sms.http)
    from keyquorum.codes.smpp import SmppDriver

    assert config.sms.smpp is not None  # noqa: S101 - the settings need one of the two
    return SmppDriver(config.sms.smpp)


class CodeService:
    """One issuer; `clock` returns Unix seconds."""

    def __init__(
        self,
        config: CodesConfig,
        keys: Keys,
        ledger: Ledger,
        lines: dict[str, Line],
        metrics: Metrics,
        clock: Callable[[], int],
    ) -> None:
        self.config = config
        self.keys = keys
        self.ledger = ledger
        self.lines = lines
        self._metrics = metrics
        self._clock = clock
        self._open = Challenges(config.limits.open_challenges)
        self._sending: set[asyncio.Task[None]] = set()
        self._asking = 0
        # Whom an unknown id is compared with: a session nobody has, a digest no code has.
        self._nobody = SessionPrivateKey.generate().public
        metrics.gauge("open_challenges", "challenges that wait for their code", lambda: len(self._open))
        metrics.gauge("sending", "messages under way", lambda: len(self._sending))

    async def close(self) -> None:
        """Let messages under way finish, close drivers and ledger."""
        if self._sending:
            _, late = await asyncio.wait(self._sending, timeout=CLOSING_SECONDS)
            for task in late:
                task.cancel()
        for line in self.lines.values():
            await line.driver.close()
        self.ledger.close()

    def describe(self) -> dict[str, Any]:
        """Answer `GET /v1/issuer`."""
        return {
            "issuer": self.config.id,
            "name": self.config.name,
            "network": self.config.network,
            "public_key": self.keys.public_key,
            "channels": sorted(self.lines),
            "digits": self.config.digits,
        }

    # ---- sending ----------------------------------------------------------------------------------------------------

    async def request(self, channel: str, address: str, statement_json: object, client: str) -> dict[str, Any]:
        """Answer `POST /v1/codes` for `client`, the network address that asks: `{"id", "issuer", "expires", ...}`."""
        now = self._clock()
        line = self._line(channel)
        statement = Statement.from_json(statement_json)
        # Whether the block is recent is left to the nodes: each knows the chain.
        statement.check(self.config.network, now, lambda _: True)
        address = line.address(address)
        self._check_room(now)
        self._asking += 1
        try:
            return await self._ask(line, address, statement, client, now)
        finally:
            self._asking -= 1

    async def _ask(self, line: Line, address: str, statement: Statement, client: str, now: int) -> dict[str, Any]:
        asked = Quota("client", self.keys.tag("client", client), self.config.limits.per_client_hour, HOUR)
        if (await self.ledger.take([asked], now)).refused is not None:
            raise Invalid("too_many_requests", "too many codes were asked for from here", "wait an hour", TOO_MANY)
        delivery = await self._reach(line)
        try:
            challenge, message = await self._challenge(line, address, statement, now)
        except BaseException:
            await delivery.close()
            raise
        self._send(line.driver.host, challenge, delivery, message)
        return {
            "id": challenge.id,
            "issuer": self.config.id,
            "expires": challenge.expires,
            "digits": self.config.digits,
        }

    async def _challenge(
        self, line: Line, address: str, statement: Statement, now: int
    ) -> tuple[Challenge, Message | None]:
        """Return a new challenge, and the message that brings its code, or None when the address gets none."""
        tag = self.keys.tag(line.channel, address)
        outcome = await self.ledger.take(self._sending_quotas(line, address, tag), now)
        if outcome.refused in ("total", "rows"):
            raise Invalid(
                "sending_limit", "this service has sent all it may today", "use another method or service", UNAVAILABLE
            )
        name = to_base64url(secrets.token_bytes(CHALLENGE_ID_BYTES))
        code = f"{secrets.randbelow(10**self.config.digits):0{self.config.digits}}"
        digest, unsent = self.keys.code_digest(name, code), secrets.token_bytes(32)
        sent = outcome.refused is None
        message = code_message(line.channel, self.config.name, code, statement, last=outcome.last)
        challenge = Challenge(
            name, line.channel, statement, address, tag, digest if sent else unsent, expires=now + LIFETIME
        )
        self._open.add(challenge)
        return challenge, message if sent else None

    def _sending_quotas(self, line: Line, address: str, tag: bytes) -> list[Quota]:
        limits = self.config.limits
        quotas = [
            Quota("total", b"", limits.per_day),
            Quota("failure", tag, limits.failures_per_day, only_look=True),
            Quota("sent", tag, limits.per_address_hour, HOUR),
            Quota("sent", tag, limits.per_address_day),
        ]
        if line.channel == "sms":
            quotas.append(Quota("range", self.keys.tag("range", address[:-_RANGE_DIGITS]), limits.per_range_day))
        return quotas

    def _line(self, channel: str) -> Line:
        if channel not in self.lines:
            raise malformed("unknown_channel", "this service does not send that way", f"use {sorted(self.lines)}")
        return self.lines[channel]

    def _check_room(self, now: int) -> None:
        if self._open.full(now) or len(self._sending) + self._asking >= self.config.limits.sending:
            raise Invalid("busy", "too many codes are under way", "try again in a moment", UNAVAILABLE)

    async def _reach(self, line: Line) -> Delivery:
        try:
            return await line.driver.open()
        except ProviderDown as error:
            self._metrics.messages.labels(line.channel, "provider_down").inc()
            log.warning("provider down", channel=line.channel, host=error.host, reason=error.reason)
            raise Invalid(
                "provider_unavailable",
                f"{error.host}, which sends this service's messages, cannot be used now: {error.reason}",
                "try again in a moment, or use another service or method",
                UNAVAILABLE,
            ) from None

    def _send(self, host: str, challenge: Challenge, delivery: Delivery, message: Message | None) -> None:
        """Send in the background, or only give the opened way back when there is nothing to send."""
        task = asyncio.create_task(self._deliver(host, challenge, delivery, message))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _deliver(self, host: str, challenge: Challenge, delivery: Delivery, message: Message | None) -> None:
        outcome, why = ("sent", "") if message is not None else ("suppressed", "")
        try:
            async with asyncio.timeout(SENDING_SECONDS):
                if message is not None:
                    await delivery.send(challenge.address, message)
        except Undeliverable as error:
            outcome, why = "undeliverable", str(error)
        except ProviderDown as error:
            outcome, why = "provider_down", error.reason
        except Exception as error:
            # By kind only: its text could hold the address or the code.
            outcome, why = "failed", reason_of(error)
        finally:
            await delivery.close()
        self._metrics.messages.labels(challenge.channel, outcome).inc()
        shown = challenge.tag[:_SHOWN_TAG_BYTES].hex()
        log.info("message", outcome=outcome, channel=challenge.channel, to=shown, provider=host, why=why)

    # ---- answers ----------------------------------------------------------------------------------------------------

    async def answer(self, name: str, code: str, signature: object) -> dict[str, str]:
        """Answer `POST /v1/codes/{id}/answer`: `{"assertion"}`, or one refusal for whatever does not hold."""
        now = self._clock()
        if not (code.isascii() and code.isdigit() and len(code) == self.config.digits):
            raise malformed("bad_code", f"a code has {self.config.digits} digits", "send the digits without blanks")
        challenge = self._open.find(name)
        session = challenge.statement.session if challenge is not None else self._nobody
        try:
            check_answer(signature, session, self.config.id, name, code)
        except Invalid as error:
            self._metrics.answers.labels("not_signed").inc()
            raise error if error.status == MALFORMED else _refusal() from None
        if challenge is None or not challenge.take_try(now):
            self._metrics.answers.labels("used_up").inc()
            raise _refusal()
        quota = Quota("failure", challenge.tag, self.config.limits.failures_per_day)
        outcome = await self.ledger.take([quota], now)
        right = hmac.compare_digest(self.keys.code_digest(name, code), challenge.digest)
        if not right or outcome.refused is not None:
            await self._failed(challenge, outcome, now)
            raise _refusal()
        await self.ledger.give_back(outcome.rows)
        self._metrics.answers.labels("right").inc()
        return {"assertion": self._assertion(challenge, now)}

    def _assertion(self, challenge: Challenge, now: int) -> str:
        """Return the assertion; the same for the same code again, so that a lost answer costs nothing."""
        if challenge.assertion is None:
            challenge.assertion = make_assertion(
                self.keys.signing,
                self.config.id,
                challenge.channel,
                challenge.address,
                challenge.statement,
                issued_at=now,
            )
        return challenge.assertion

    async def _failed(self, challenge: Challenge, outcome: Outcome, now: int) -> None:
        self._metrics.answers.labels("locked" if outcome.refused else "wrong").inc()
        shown = challenge.tag[:_SHOWN_TAG_BYTES].hex()
        log.info("wrong code", channel=challenge.channel, address=shown, locked=outcome.refused is not None)
        if not outcome.last:
            return
        # Told in the mailbox, where only its owner reads it, and once a day.
        noted = await self.ledger.take([Quota("notice", challenge.tag, 1)], now)
        if noted.refused is None:
            task = asyncio.create_task(self._warn(challenge))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _warn(self, challenge: Challenge) -> None:
        line = self.lines[challenge.channel]
        message = lock_message(challenge.channel, self.config.name, self.config.limits.failures_per_day)
        try:
            delivery = await line.driver.open()
        except ProviderDown as error:
            log.warning("provider down", channel=line.channel, host=error.host, reason=error.reason)
            return
        await self._deliver(line.driver.host, challenge, delivery, message)


def _refusal() -> Invalid:
    return Invalid(
        "code_refused",
        "the code is not accepted here: wrong, expired, used up, or not of this session",
        "five tries for a code, ten minutes; ask for a new one, and read what came to the address",
    )
