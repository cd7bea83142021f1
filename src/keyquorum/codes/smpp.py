"""SMS by SMPP 3.4: one bound connection to a message centre, kept, checked before use, opened again when it broke.

Requests may be answered in any order, so a reader hands each response to whoever waits for its sequence number. The
centre asks as well: enquire_link, and deliver_sm for receipts; both are acknowledged, or it would hang up.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import ssl

from keyquorum.codes import smpp_pdu as pdu
from keyquorum.codes.config import SmppSection
from keyquorum.codes.drivers import Delivery, Message, ProviderDown, Undeliverable, reason_of
from keyquorum.codes.secrets_file import read_secret
from keyquorum.codes.smpp_pdu import Pdu

SECONDS = 10.0
_LENGTH = 4
# Section 5.1.3: system error, bind failed, queue full, throttled: the centre's trouble, not the number's.
_CENTRE_TROUBLE = frozenset({0x04, 0x05, 0x08, 0x0D, 0x0E, 0x0F, 0x14, 0x58})


class SmppDriver:
    """One message centre."""

    def __init__(self, settings: SmppSection) -> None:
        """Read the password; raises `ValueError` when its file holds none."""
        self._settings = settings
        self._password = read_secret(settings.password_file)
        self._link: _Link | None = None
        self._opening = asyncio.Lock()

    @property
    def host(self) -> str:
        """The message centre, as errors name it."""
        return f"{self._settings.host}:{self._settings.port}"

    async def open(self) -> Delivery:
        """See that the centre answers, binding first if need be; raise `ProviderDown`."""
        async with self._opening:
            try:
                async with asyncio.timeout(SECONDS):
                    self._link = await self._alive() or await self._bind()
            except (OSError, EOFError, ValueError) as error:
                await self._drop()
                raise ProviderDown(self.host, reason_of(error)) from None
        return _Sms(self, self._link)

    async def submit(self, link: _Link, address: str, message: Message) -> None:
        """Send one message; raise `Undeliverable` when it is refused for its number, `ProviderDown` otherwise."""
        parts = pdu.parts_of(message.text, secrets.randbelow(256))
        for part in parts:
            request = pdu.submit(link.next(), self._settings.sender, address, part, has_header=len(parts) > 1)
            try:
                async with asyncio.timeout(SECONDS):
                    status = (await link.ask(request)).status
            except (OSError, EOFError) as error:
                raise ProviderDown(self.host, reason_of(error)) from None
            if status in _CENTRE_TROUBLE:
                raise ProviderDown(self.host, f"status {status:#x}")
            if status != pdu.OK:
                raise Undeliverable(f"{status:#x}")

    async def close(self) -> None:
        """Unbind and close."""
        link = self._link
        if link is not None and not link.broken:
            with contextlib.suppress(OSError, EOFError):
                async with asyncio.timeout(1.0):
                    await link.ask(Pdu(pdu.UNBIND, pdu.OK, link.next()))
        await self._drop()

    async def _alive(self) -> _Link | None:
        link = self._link
        if link is None or link.broken:
            await self._drop()
            return None
        try:
            await link.ask(Pdu(pdu.ENQUIRE_LINK, pdu.OK, link.next()))
        except (OSError, EOFError):
            await self._drop()
            return None
        return link

    async def _bind(self) -> _Link:
        settings = self._settings
        context = ssl.create_default_context(cafile=settings.ca_file) if settings.tls else None
        reader, writer = await asyncio.open_connection(settings.host, settings.port, ssl=context)
        link = _Link(reader, writer)
        try:
            status = (await link.ask(pdu.bind(link.next(), settings.system_id, self._password))).status
            if status != pdu.OK:
                raise ProviderDown(self.host, f"it refuses to be bound: status {status:#x}")
        except BaseException:
            await link.close()
            raise
        return link

    async def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()


class _Link:
    """One connection: requests by sequence number, and a task that reads."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Pdu]] = {}
        self.broken = False
        self._task = asyncio.create_task(self._read())

    def next(self) -> int:
        """Return a sequence number: 1 to 0x7fffffff."""
        return next(self._numbers) % 0x7FFF_FFFF + 1

    async def ask(self, request: Pdu) -> Pdu:
        """Send a request and return its response; raise `OSError` or `EOFError` when the connection broke."""
        if self.broken:
            raise ConnectionResetError("the connection to the message centre broke")
        answer: asyncio.Future[Pdu] = asyncio.get_running_loop().create_future()
        self._waiting[request.sequence] = answer
        try:
            self._writer.write(request.encode())
            await self._writer.drain()
            return await answer
        finally:
            self._waiting.pop(request.sequence, None)

    async def close(self) -> None:
        """Close the connection; who waits is told."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _read(self) -> None:
        try:
            while True:
                head = await self._reader.readexactly(_LENGTH)
                length = int.from_bytes(head, "big")
                if not pdu.HEADER_BYTES <= length <= pdu.MAX_PDU:
                    raise ConnectionAbortedError("the message centre does not speak SMPP")
                self._take(pdu.decode(head + await self._reader.readexactly(length - _LENGTH)))
        except (OSError, EOFError):
            pass
        finally:
            self.broken = True
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ConnectionResetError("the connection to the message centre broke"))

    def _take(self, found: Pdu) -> None:
        if found.command & pdu.RESPONSE:
            answer = self._waiting.get(found.sequence)
            if answer is not None and not answer.done():
                answer.set_result(found)
            return
        # deliver_sm_resp carries an empty message id (section 4.6.2).
        bodies = {pdu.ENQUIRE_LINK: b"", pdu.DELIVER_SM: b"\0", pdu.UNBIND: b""}
        known = found.command in bodies
        command = found.command | pdu.RESPONSE if known else pdu.GENERIC_NACK
        status = pdu.OK if known else pdu.UNKNOWN_COMMAND
        self._writer.write(Pdu(command, status, found.sequence, bodies.get(found.command, b"")).encode())
        if found.command == pdu.UNBIND:
            raise ConnectionResetError("the message centre unbound")


class _Sms:
    """The right to send one message over the bound connection."""

    def __init__(self, driver: SmppDriver, link: _Link) -> None:
        self._driver = driver
        self._link = link

    async def send(self, address: str, message: Message) -> None:
        """Send it."""
        await self._driver.submit(self._link, address, message)

    async def close(self) -> None:
        """Nothing to give back: the connection stays bound."""
