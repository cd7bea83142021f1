"""SMS by an HTTP API of the shape that Twilio made common: one form POST, basic authentication, JSON back."""

from __future__ import annotations

import time

import aiohttp
import msgspec

from keyquorum.codes.config import HttpSmsSection
from keyquorum.codes.drivers import Delivery, Message, ProviderDown, Undeliverable, reason_of
from keyquorum.codes.secrets_file import read_secret

SECONDS = 10.0
GOOD_FOR_SECONDS = 30.0
_MAX_ANSWER = 64 * 1024
_OURS = frozenset({401, 403, 404, 408, 429})


class _Refusal(msgspec.Struct):
    code: int = 0


class HttpSmsDriver:
    """One account at one provider."""

    def __init__(self, settings: HttpSmsSection) -> None:
        """Read the token; raises `ValueError` when its file holds none."""
        self._settings = settings
        self._authorization = aiohttp.encode_basic_auth(settings.account, read_secret(settings.token_file))
        self._account = f"{settings.base_url.rstrip('/')}/2010-04-01/Accounts/{settings.account}"
        self._session: aiohttp.ClientSession | None = None
        self._good_until = 0.0

    @property
    def host(self) -> str:
        """The provider, as errors name it."""
        return self._settings.base_url.partition("://")[2].partition("/")[0]

    async def open(self) -> Delivery:
        """See that the provider answers and knows the account, at most once in half a minute; raise `ProviderDown`."""
        if time.monotonic() >= self._good_until:
            status, _ = await self._exchange("GET", f"{self._account}.json")
            # A provider that lacks this page answers 404, and still is there.
            if status in (401, 403) or status >= 500:
                raise ProviderDown(self.host, f"status {status}")
            self._good_until = time.monotonic() + GOOD_FOR_SECONDS
        return _Sms(self)

    async def post(self, address: str, message: Message) -> None:
        """Send one message; raise `Undeliverable` when it is refused for its number, `ProviderDown` otherwise."""
        form = {"To": address, "From": self._settings.sender, "Body": message.text}
        status, content = await self._exchange("POST", f"{self._account}/Messages.json", form)
        if 200 <= status < 300:
            return
        if status >= 500 or status in _OURS or status < 400:
            self._good_until = 0.0
            raise ProviderDown(self.host, f"status {status}")
        try:
            code = msgspec.json.decode(content, type=_Refusal).code
        except (msgspec.DecodeError, ValueError, RecursionError):
            code = 0
        raise Undeliverable(f"{status} {code}")

    async def _exchange(self, method: str, url: str, form: dict[str, str] | None = None) -> tuple[int, bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"Authorization": self._authorization}, timeout=aiohttp.ClientTimeout(total=SECONDS)
            )
        try:
            async with self._session.request(method, url, data=form, allow_redirects=False) as response:
                return response.status, await response.content.read(_MAX_ANSWER)
        except (aiohttp.ClientError, OSError) as error:
            self._good_until = 0.0
            raise ProviderDown(self.host, reason_of(error)) from None

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class _Sms:
    """The right to send one message; the connections are the driver's."""

    def __init__(self, driver: HttpSmsDriver) -> None:
        self._driver = driver

    async def send(self, address: str, message: Message) -> None:
        """Send it."""
        await self._driver.post(address, message)

    async def close(self) -> None:
        """Nothing to give back."""
