"""The HTTP side: bounded, one shape of error, clients told apart, health and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import make_mocked_request

from codes.code_world import MAIL, Desk, session, statement_for
from keyquorum.auth.code_assertion import make_answer
from keyquorum.codes.app import make_app
from keyquorum.codes.drivers import ProviderDown
from keyquorum.serving import buckets
from keyquorum.serving.addresses import client_of

ADA = session("ada")


class Front:
    """The application of a desk, listening, and a client for it."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def start(self) -> None:
        self._runner = web.AppRunner(make_app(self.desk.service, self.desk.metrics))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._client = ClientSession(f"http://127.0.0.1:{self._runner.addresses[0][1]}")

    async def stop(self) -> None:
        await self._client.close()
        await self._runner.cleanup()

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self._client.request(method, path, **options) as response:
            self.headers = response.headers
            body = await response.read()
            return response.status, msgspec.json.decode(body) if body[:1] == b"{" else body

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        return await self.call("POST", path, json=body)


@pytest.fixture
async def make_front(make_desk: Callable[..., Desk]) -> AsyncIterator[Callable[..., Any]]:
    made: list[Front] = []

    async def make(**limits: int) -> Front:
        made.append(Front(make_desk(**limits)))
        await made[-1].start()
        return made[-1]

    yield make
    for front in made:
        await front.stop()


def asking(**changes: Any) -> dict[str, Any]:
    return {"channel": "email", "address": MAIL, "statement": statement_for(ADA).to_json()} | changes


async def test_the_two_calls_by_hand(make_front: Callable[..., Any]) -> None:
    front = await make_front()
    status, asked = await front.post("/v1/codes", asking())
    assert status == 200 and set(asked) == {"id", "issuer", "expires", "digits"}
    await front.desk.settled()
    code = front.desk.last_code()
    body = {"code": code, "session_signature": make_answer(ADA, "mail-a", asked["id"], code)}
    status, found = await front.post(f"/v1/codes/{asked['id']}/answer", body)
    assert status == 200 and set(found) == {"assertion"} and found["assertion"].count(".") == 2
    assert front.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/codes", {}, 400, "json_missing_field"),
        ("/v1/codes", asking(more=1), 400, "json_unknown_field"),
        ("/v1/codes", asking(channel=5), 400, "json_wrong_type"),
        ("/v1/codes", asking(address="x"), 400, "bad_mail_or_phone"),
        ("/v1/codes", asking(channel="x"), 400, "unknown_channel"),
        ("/v1/codes", asking(statement={}), 400, "missing_field"),
        ("/v1/codes", asking(address="x" * 20_000), 413, "too_large"),
        ("/v1/codes/abc/answer", {"code": "12345678", "session_signature": "x"}, 400, "bad_token"),
        (
            "/v1/codes/abc/answer",
            {"code": "12345678", "session_signature": make_answer(ADA, "mail-a", "abc", "12345678")},
            401,
            "code_refused",
        ),
        ("/v1/codes/abc/answer", {"code": "1", "session_signature": "x"}, 400, "bad_code"),
        ("/v1/nothing", {}, 404, "no_such_path"),
        ("/livez", {}, 405, "wrong_method"),
    ],
)
async def test_every_refusal_is_a_code_a_sentence_and_a_hint(
    make_front: Callable[..., Any], path: str, body: Any, status: int, code: str
) -> None:
    front = await make_front()
    found, answer = await front.post(path, body)
    assert (found, answer["error"]["code"]) == (status, code)
    assert set(answer["error"]) == {"code", "message", "hint"} and all(answer["error"].values())
    assert MAIL not in str(answer)


JSON = {"Content-Type": "application/json"}


async def test_what_is_not_json_is_refused(make_front: Callable[..., Any]) -> None:
    front = await make_front()
    for data in (b"", b"{", b"[]", b'{"a":1,"a":2}', b"\xff", b"[" * 5000):
        status, answer = await front.call("POST", "/v1/codes", data=data, headers=JSON)
        assert status == 400 and answer["error"]["code"].startswith("json_")
    status, answer = await front.call("POST", "/v1/codes", data=b"{}", headers={"Content-Encoding": "gzip"} | JSON)
    assert status == 400


async def test_a_preflight_is_answered(make_front: Callable[..., Any]) -> None:
    front = await make_front()
    status, _ = await front.call("OPTIONS", "/v1/codes")
    assert status == 204 and front.headers["Access-Control-Allow-Headers"] == "Content-Type"


async def test_one_client_cannot_flood(make_front: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 5.0
    monkeypatch.setattr(buckets.Meter.__init__, "__defaults__", (lambda: now,))
    front = await make_front(requests_per_second=3)
    found = await asyncio.gather(*(front.post("/v1/codes/abc/answer", {}) for _ in range(40)))
    assert sorted(status for status, _ in found) == [400] * 3 + [429] * 37
    now = 5.4
    assert (await front.post("/v1/codes/abc/answer", {}))[0] == 400
    assert (await front.call("GET", "/livez"))[0] == 200


async def test_health_tells_what_is_down(make_front: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    front = await make_front()
    status, found = await front.call("GET", "/readyz")
    assert status == 200 and found == {"ready": True, "faults": {"counters": "", "email": "", "sms": ""}}
    front.desk.mail.open_trouble = ProviderDown("mail.example:587", "it does not answer in time")
    for _ in range(3):  # many who ask cost the providers one look
        assert (await front.call("GET", "/readyz"))[0] == 200
    assert front.desk.mail.opened == 1
    monkeypatch.setattr("keyquorum.codes.app.READY_FRESH_SECONDS", 0.0)
    status, found = await front.call("GET", "/readyz")
    assert status == 503 and found["faults"]["email"] == "mail.example:587: it does not answer in time"
    assert (await front.call("GET", "/livez"))[0] == 200


async def test_metrics_and_the_issuers_public_half(make_front: Callable[..., Any]) -> None:
    front = await make_front()
    await front.post("/v1/codes", asking())
    await front.desk.settled()
    _, text = await front.call("GET", "/metrics")
    assert b'keyquorum_codes_messages_total{channel="email",outcome="sent"} 1.0' in text
    assert b'keyquorum_codes_requests_total{path="/v1/codes",status="200"} 1.0' in text
    _, found = await front.call("GET", "/v1/issuer")
    assert found["issuer"] == "mail-a" and found["public_key"] == front.desk.service.keys.public_key


async def test_an_unexpected_error_shows_nothing(make_front: Callable[..., Any]) -> None:
    front = await make_front()
    front.desk.service.ledger.take = None  # type: ignore[assignment]
    status, answer = await front.post("/v1/codes", asking())
    assert status == 503 and answer["error"]["code"] == "internal"


# ---- who asks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("remote", "forwarded", "proxies", "client"),
    [
        ("198.51.100.1", [], [], "198.51.100.1"),
        ("198.51.100.1", ["203.0.113.5"], [], "198.51.100.1"),
        ("198.51.100.1", ["203.0.113.5"], ["10.0.0.0/8"], "198.51.100.1"),
        ("10.1.2.3", ["203.0.113.5"], ["10.0.0.0/8"], "203.0.113.5"),
        ("10.1.2.3", ["1.1.1.1, 203.0.113.5"], ["10.0.0.0/8"], "203.0.113.5"),
        ("10.1.2.3", ["1.1.1.1", "203.0.113.5"], ["10.0.0.0/8"], "203.0.113.5"),
        ("10.1.2.3", ["nonsense"], ["10.0.0.0/8"], "unknown"),
        ("2001:db8:1:2:3:4:5:6", [], [], "2001:db8:1:2::/64"),
        ("::ffff:198.51.100.1", [], [], "198.51.100.1"),
        ("", [], ["10.0.0.0/8"], "unknown"),
    ],
)
def test_a_client_is_its_connection_or_what_a_trusted_proxy_saw(
    remote: str, forwarded: list[str], proxies: list[str], client: str
) -> None:
    from multidict import CIMultiDict

    headers = CIMultiDict([("X-Forwarded-For", value) for value in forwarded])
    request = make_mocked_request("POST", "/v1/codes", headers=headers).clone(remote=remote)
    assert client_of(request, proxies) == client


def test_the_spec_explains_every_error_code_of_the_service() -> None:
    import re
    from pathlib import Path

    root = Path(__file__).parents[2]
    source = "".join(path.read_text() for path in (root / "src/keyquorum/codes").glob("*.py"))
    raised = set(re.findall(r'(?:Invalid|malformed)\(\s*"([a-z_]+)"', source)) | {"internal"}
    listed = set(re.findall(r"^\| `([a-z_]+)` \| [0-9]{3} \|", (root / "spec/codes.md").read_text(), re.MULTILINE))
    assert raised == listed
