"""The HTTP surface of a node, over a real socket: whatever comes in, the answer is a typed refusal below 500."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from keyquorum.formats.strict_json import fields, loads
from keyquorum.node import api
from keyquorum.node.metrics import Metrics
from keyquorum.node.openapi import document
from keyquorum.refusal import Refusal
from keyquorum.serving import shell

MAX_BODY = 64 * 1024


class Service:
    """Decodes like the node and counts what gets through; `fault` is raised instead."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.accepted = 0
        self.fault: Exception | None = None
        self.reasons: list[str] = []

    async def sign(self, body: bytes) -> dict[str, Any]:
        fields(loads(body, MAX_BODY), {"certificate": str, "request": str, "run": int})
        if self.fault:
            raise self.fault
        self.accepted += 1
        return {"accepted": self.accepted}

    open_session = list_sessions = revoke = commit = sign

    async def network(self) -> dict[str, Any]:
        return {"network": "n"}

    async def key(self, key_id: bytes) -> dict[str, Any]:
        return {"token_id": key_id.hex()}

    def readiness(self) -> dict[str, Any]:
        return {"ready": not self.reasons, "reasons": self.reasons}


class Site:
    def __init__(self, service: Service, url: str, http: aiohttp.ClientSession) -> None:
        self.service, self.url, self.http = service, url, http

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        if "data" in options:
            options["headers"] = {"Content-Type": shell.JSON} | options.get("headers", {})
        async with self.http.request(method, self.url + path, **options) as response:
            content = await response.read()
            return response.status, json.loads(content) if content else None


@pytest.fixture
async def site():
    service = Service()
    runner = web.AppRunner(api.make_app(service, MAX_BODY, shell.Limits(1000)), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as http:
        yield Site(service, f"http://127.0.0.1:{runner.addresses[0][1]}", http)
    await runner.cleanup()


GOOD = {"certificate": "c", "request": "r", "run": 0}
BAD_BODIES = {
    "nothing": b"",
    "not JSON": b"hello",
    "an array": b"[]",
    "nesting of 10^5": b"[" * 100_000,
    "nesting that fits the size": b"[" * 60_000,
    "nested objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "a number of 10^6 digits": b'{"certificate": ' + b"9" * 1_000_000 + b"}",
    "a number that fits the size": b'{"certificate": ' + b"9" * 60_000 + b"}",
    "a repeated key": b'{"certificate": "a", "certificate": "b", "request": "r", "run": 0}',
    "an unknown field": json.dumps(GOOD | {"extra": 1}).encode(),
    "a missing field": b'{"certificate": "c"}',
    "a wrong type": json.dumps(GOOD | {"run": {}}).encode(),
    "NaN": b'{"certificate": NaN}',
    "not UTF-8": b'{"certificate": "\xff"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "half a surrogate": b'{"certificate": "\\ud800", "request": "r", "run": 0}',
    "UTF-16": json.dumps(GOOD).encode("utf-16"),
    "a null byte": b'{"certificate": "c\x00"}',
    "a pickle": b"\x80\x04\x95\x00.",
    "trailing bytes": json.dumps(GOOD).encode() + b"{}",
}


@pytest.mark.parametrize(
    "path", ["/v1/sign", "/v1/sessions", "/v1/sessions/list", "/v1/revocations", "/v1/commitments"]
)
@pytest.mark.parametrize("name", BAD_BODIES)
async def test_a_bad_body_is_refused_with_a_typed_error(site: Site, path: str, name: str) -> None:
    status, answer = await site.ask("POST", path, data=BAD_BODIES[name])
    assert 400 <= status < 500
    assert set(answer["error"]) == {"code", "message", "hint"}
    assert re.fullmatch("[a-z0-9_]+", answer["error"]["code"])
    assert len(answer["error"]["message"]) < 300
    assert site.service.accepted == 0


async def test_a_good_body_is_answered(site: Site) -> None:
    assert await site.ask("POST", "/v1/sign", json=GOOD) == (200, {"accepted": 1})


async def test_a_body_that_says_it_is_too_large_is_not_read(site: Site) -> None:
    async def endless():
        yield b"x"
        await asyncio.sleep(30)

    headers = {"Content-Length": str(100 << 20)}
    status, answer = await asyncio.wait_for(site.ask("POST", "/v1/sign", data=endless(), headers=headers), 5)
    assert (status, answer["error"]["code"]) == (413, "too_large")


async def test_a_body_of_unknown_length_is_cut_off_at_the_limit(site: Site) -> None:
    sent = 0

    async def chunks():
        nonlocal sent
        for _ in range(100 * 1024):
            sent += 1024
            yield b"x" * 1024

    try:
        status, _ = await site.ask("POST", "/v1/sign", data=chunks())
        assert status == 413
    except aiohttp.ClientError:
        pass  # the node closed the connection in the middle of the body
    assert sent < 20 << 20
    assert site.service.accepted == 0


async def test_a_compressed_body_is_refused_and_not_unpacked(site: Site) -> None:
    status, answer = await site.ask("POST", "/v1/sign", data=b"x", headers={"Content-Encoding": "gzip"})
    assert status == 400
    assert answer["error"]["code"] in ("bad_encoding", "bad_http")


async def test_a_slow_body_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "BODY_SECONDS", 0.05)

    async def slow():
        yield b"{"
        await asyncio.sleep(1)

    status, answer = await site.ask("POST", "/v1/sign", data=slow())
    assert (status, answer["error"]["code"]) == (408, "too_slow")


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/v1/sign", 405), ("DELETE", "/v1/network", 405), ("GET", "/nothing", 404), ("GET", "/v1/keys/", 404),
    ("GET", "/v1/keys/0x12", 400), ("GET", "/v1/keys/0x" + "G" * 64, 400), ("GET", "/v1/keys/0x" + "A" * 64, 400),
    ("POST", "/metrics", 405),
])  # fmt: skip
async def test_a_wrong_method_or_path_is_a_typed_refusal(site: Site, method: str, path: str, status: int) -> None:
    found, answer = await site.ask(method, path)
    assert found == status
    assert answer["error"]["hint"]


async def test_a_fault_of_ours_is_answered_without_detail(site: Site) -> None:
    site.service.fault = KeyError("a secret")
    status, answer = await site.ask("POST", "/v1/sign", json=GOOD)
    assert (status, answer["error"]["code"]) == (503, "internal")
    assert "secret" not in json.dumps(answer)


async def test_a_refusal_names_whom_to_avoid(site: Site) -> None:
    site.service.fault = Refusal("run_failed", "no", "again", 503, parties=frozenset({3, 1}))
    _, answer = await site.ask("POST", "/v1/sign", json=GOOD)
    assert answer["error"]["parties"] == [1, 3]


async def test_one_address_cannot_ask_without_end_and_is_told_when_to_come_back() -> None:
    async with asked(per_second=2) as ask:
        found = [await ask() for _ in range(4)]
    assert [status for status, _, _ in found] == [200, 200, 429, 429]
    assert found[-1][1]["error"]["code"] == "too_many_requests"
    assert found[-1][2] == "1"


async def test_a_trusted_address_is_not_limited() -> None:
    async with asked(per_second=2, trusted=["127.0.0.1"]) as ask:
        assert [status for status, _, _ in [await ask() for _ in range(20)]] == [200] * 20


@asynccontextmanager
async def asked(
    per_second: float, **options: Any
) -> AsyncIterator[Callable[[], Awaitable[tuple[int, Any, str | None]]]]:
    """A site that is asked for /v1/network: status, body, and the header Retry-After."""
    runner = web.AppRunner(
        api.make_app(Service(), MAX_BODY, shell.Limits(per_second), **options), access_log=None, shutdown_timeout=0.1
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as http:

        async def ask() -> tuple[int, Any, str | None]:
            async with http.get(f"http://127.0.0.1:{runner.addresses[0][1]}/v1/network") as response:
                return response.status, await response.json(), response.headers.get("Retry-After")

        yield ask
    await runner.cleanup()


async def test_a_quota_says_how_long_to_wait(site: Site) -> None:
    site.service.fault = Refusal("quota_exceeded", "no", "wait", 429, retry_after=17)
    async with site.http.post(site.url + "/v1/sign", json=GOOD) as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "17")


async def test_readiness_says_why_not(site: Site) -> None:
    assert await site.ask("GET", "/readyz") == (200, {"ready": True, "reasons": []})
    site.service.reasons = ["no fresh view of the chain"]
    assert await site.ask("GET", "/readyz") == (503, {"ready": False, "reasons": ["no fresh view of the chain"]})


async def test_metrics_are_prometheus_text(site: Site) -> None:
    await site.ask("POST", "/v1/sign", data=b"")
    async with site.http.get(site.url + "/metrics") as response:
        text = await response.text()
    assert 'keyquorum_requests_total{outcome="400",route="/v1/sign"} 1.0' in text


async def test_the_document_describes_exactly_the_routes(site: Site) -> None:
    status, answer = await site.ask("GET", "/v1/openapi.json")
    assert status == 200
    assert answer == json.loads(json.dumps(document()))
    app = api.make_app(site.service, MAX_BODY, shell.Limits(1))
    routes = {
        (r.resource.canonical, r.method.lower()) for r in app.router.routes() if r.resource and r.method != "HEAD"
    }
    described = {(path, method) for path, operations in answer["paths"].items() for method in operations}
    assert routes == described


def test_every_reference_in_the_document_leads_somewhere() -> None:
    text = json.dumps(document())
    names = set(re.findall(r'"#/components/schemas/([A-Za-z]+)"', text))
    assert names <= set(document()["components"]["schemas"])
