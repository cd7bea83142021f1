"""The one shell, as node, gateway and code service have it: each bound from both sides, for all three alike."""

from __future__ import annotations

import asyncio
import json
import math
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import uvloop
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from keyquorum.codes import app as codes
from keyquorum.codes.config import CodesConfig, EmailSection
from keyquorum.codes.config import LimitsSection as CodesLimits
from keyquorum.codes.metrics import Metrics as CodesMetrics
from keyquorum.gateway import app as gateway
from keyquorum.gateway.config import GatewayConfig
from keyquorum.gateway.http import Metrics as GatewayMetrics
from keyquorum.node import api as node
from keyquorum.node.metrics import Metrics as NodeMetrics
from keyquorum.refusal import Invalid
from keyquorum.serving import buckets, exposition, shell
from keyquorum.serving.addresses import asks_for_a_page
from keyquorum.serving.connections import BODY
from keyquorum.serving.http_server import HttpServer
from keyquorum.serving.places import IN_LINE, Places
from keyquorum.serving.shell import LOOK_UPS, PROBES_PER_SECOND, REFUSAL_SECONDS, REFUSALS, Limits

NETWORK = "eip155:31337:0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512"
SOURCES = Path(shell.__file__).parents[1]


class Service:
    """What is behind the routes of any of the three: waits for `go`, or raises `fault`."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.began = 0
        self.fault: Exception | None = None
        self.metrics = NodeMetrics()

    async def work(self, *_: Any) -> dict[str, Any]:
        self.began += 1
        await self.go.wait()
        if self.fault:
            raise self.fault
        return {}

    sign = open_session = list_sessions = revoke = commit = mint = change_permissions = work
    network = key = describe_key = find_passkey = request = answer = work

    def readiness(self) -> dict[str, Any]:
        return {"ready": True}

    async def status(self) -> Any:
        return SimpleNamespace(ready=True, live=3, threshold=3, to_json=dict)

    def login_options(self) -> dict[str, Any]:
        return {"oidc": [], "codes": []}

    def network_file(self) -> dict[str, str]:
        return {"rpc": ""}


def node_app(service: Any, per_second: int) -> web.Application:
    return node.make_app(service, 1 << 20, Limits(per_second))


def gateway_app(service: Any, per_second: int) -> web.Application:
    config = GatewayConfig(network=NETWORK, rpc="", requests_per_second=per_second)
    return gateway.make_app(service, GatewayMetrics(), config)


def codes_app(service: Any, per_second: int) -> web.Application:
    service.lines, service.ledger = {}, SimpleNamespace(check=service.work)
    service.config = CodesConfig(
        network=NETWORK, id="a", name="a", key_file=Path("k"), counters_file=Path("c"),
        email=EmailSection(host="localhost", sender="a@example.org", tls="none"),
        limits=CodesLimits(requests_per_second=per_second),
    )  # fmt: skip
    return codes.make_app(service, CodesMetrics())


@dataclass(frozen=True)
class Server:
    """One of the three: a path that takes a body of at most `most` bytes, and a body that it takes."""

    make: Callable[[Any, int], web.Application]
    path: str
    most: int
    body: bytes


SERVERS = {
    "node": Server(node_app, "/v1/commitments", node.COMMITMENT_BODY, b"{}"),
    "gateway": Server(gateway_app, "/v1/commitments", gateway.COMMITMENT_BODY, b"{}"),
    "codes": Server(codes_app, "/v1/codes", codes.MAX_BODY, b'{"channel":"email","address":"a","statement":{}}'),
}


class Site:
    def __init__(self, server: Server, service: Service, url: str, http: aiohttp.ClientSession) -> None:
        self.server, self.service, self.url, self.http = server, service, url, http

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self.http.request(method, self.url + path, **options) as response:
            content = await response.read()
            self.headers = response.headers
            return response.status, json.loads(content) if content[:1] == b"{" else content

    async def post(self, data: Any = None, **options: Any) -> tuple[int, str]:
        """Post a body, by default one that is taken; return status and the code of the refusal."""
        headers = {"Content-Type": shell.JSON} | options.pop("headers", {})
        body = data or self.server.body
        status, answer = await self.ask("POST", self.server.path, data=body, headers=headers, **options)
        return status, answer.get("error", {}).get("code", "")


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Server:
    return SERVERS[request.param]


@asynccontextmanager
async def listening(server: Server, per_second: int = 10_000, **options: Any) -> AsyncIterator[Site]:
    service = Service()
    http_server = HttpServer(server.make(service, per_second), 200, 200)
    port = await http_server.start("127.0.0.1", 0)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, **options) as http:
        yield Site(server, service, f"http://127.0.0.1:{port}", http)
    await http_server.close()


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes back into any bucket."""
    for kind in (buckets.Meter, buckets.Buckets):
        monkeypatch.setattr(kind.__init__, "__defaults__", (lambda: 0.0,))


async def chunked(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 4096):
        yield data[start : start + 4096]


@pytest.mark.parametrize("wrap", [bytes, chunked])
async def test_a_body_has_exactly_as_many_bytes_as_its_path_takes(server: Server, wrap: Callable[..., Any]) -> None:
    async with listening(server) as site:
        assert await site.post(wrap(server.body.ljust(server.most))) == (200, "")
        assert await site.post(wrap(server.body.ljust(server.most + 1))) == (413, "too_large")
        assert site.service.began == 1
        assert await site.post() == (200, "")


async def test_a_body_has_exactly_so_many_marks(server: Server) -> None:
    async with listening(server) as site:
        marks = sum(map(server.body.count, (b",", b":", b"[", b"{")))
        most = server.body + b"," * (shell.MAX_MARKS - marks)
        await site.post(most)
        assert site.service.began == (server.path != "/v1/codes")  # which reads it, and finds no JSON
        assert await site.post(most + b",") == (400, "json_too_many_values")
        assert site.service.began == (server.path != "/v1/codes")


async def test_a_slow_body_is_408(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "BODY_SECONDS", 0.05)
    never = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await never.wait()

    async with listening(server) as site:
        assert await site.post(slow()) == (408, "too_slow")
        assert site.service.began == 0


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_body_that_arrived_while_the_server_was_late_is_read(
    server: Server, new_loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop is busy until patience is over, and the body came meanwhile."""
    monkeypatch.setattr(shell, "BODY_SECONDS", 0.2)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_a_body_that_came_while_the_loop_was_busy(server))


async def _a_body_that_came_while_the_loop_was_busy(server: Server) -> None:
    http_server = HttpServer(server.make(Service(), 1000), 10, 10)
    port = await http_server.start("127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setblocking(False)
        head = f"POST {server.path} HTTP/1.1\r\nHost: x\r\nContent-Type: {shell.JSON}\r\n"
        head += f"Content-Length: {len(server.body)}\r\n\r\n"
        client.sendall(head.encode())
        await until(lambda: any(each.waiting and each.waiting[0] == BODY for each in http_server.connections))
        client.sendall(server.body)
        time.sleep(0.5)  # noqa: ASYNC251
        received = await asyncio.get_running_loop().sock_recv(client, 4096)
        assert received.startswith(b"HTTP/1.1 200")
    await http_server.close()


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
async def test_what_a_page_sends_without_asking_reaches_no_service(server: Server, kind: str) -> None:
    async with listening(server) as site:
        assert await site.post(headers={"Content-Type": kind, "Origin": "https://evil.example"}) == (415, "wrong_type")
        assert not site.service.began


async def test_a_packed_body_is_not_unpacked(server: Server) -> None:
    async with listening(server) as site:
        assert await site.post(b"x", headers={"Content-Encoding": "gzip"}) in [(400, "bad_encoding"), (400, "bad_http")]
        assert site.service.began == 0


async def test_a_body_that_breaks_off_is_the_clients_fault(server: Server) -> None:
    async with listening(server) as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(site.url.rpartition(":")[2]))
        head = f"POST {server.path} HTTP/1.1\r\nHost: x\r\nContent-Type: {shell.JSON}\r\n"
        writer.write((head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n").encode())
        assert b" 400 " in await reader.readline()
        writer.close()
        assert site.service.began == 0


@pytest.mark.usefixtures("stopped_clock")
async def test_an_address_asks_exactly_so_often_and_is_told_when_to_come_back(server: Server) -> None:
    async with listening(server, per_second=3) as site:
        assert [await site.post() for _ in range(3)] == [(200, "")] * 3
        assert await site.post() == (429, "too_many_requests")
        assert site.headers["Retry-After"] == "1"
        assert (await site.ask("GET", "/nothing"))[0] == 429
        assert (await site.ask("GET", "/livez"))[0] == 200
        assert site.service.began == 3


@pytest.mark.usefixtures("stopped_clock")
@pytest.mark.parametrize("path", ["/livez", "/readyz", "/v1/openapi.json", "/metrics"])
async def test_those_who_watch_are_counted_too(server: Server, path: str) -> None:
    if server.path == "/v1/codes" and "openapi" in path:
        path = "/livez"
    cost = 25 if path == "/metrics" else 1
    async with listening(server, per_second=1) as site:
        for _ in range(PROBES_PER_SECOND // cost):
            assert (await site.ask("GET", path))[0] == 200
        assert (await site.ask("GET", path))[0] == 429
        assert await site.post() == (200, "")


@pytest.mark.usefixtures("stopped_clock")
async def test_what_anybody_may_look_up_on_the_chain_is_counted_apart(server: Server) -> None:
    paths = [route.path for route in routes_of(server) if route.reads_chain]
    assert bool(paths) == (server.path != "/v1/codes")
    async with listening(server) as site:
        for k in range(LOOK_UPS if paths else 0):
            path = paths[k % len(paths)].replace("{id}", f"0x{k:064x}")
            assert (await site.ask("GET", path))[0] == 200
        for path in paths:
            assert (await site.ask("GET", path.replace("{id}", "0x" + "00" * 32)))[0] == 429
        assert await site.post() == (200, "")


@pytest.mark.usefixtures("stopped_clock")
@pytest.mark.parametrize("status", [401, 403, 404, 409])
async def test_what_is_refused_after_a_look_up_is_counted(server: Server, status: int) -> None:
    async with listening(server) as site:
        site.service.fault = Invalid("no", "no", "no", status)
        for _ in range(REFUSALS):
            assert await site.post() == (status, "no")
        began = site.service.began
        site.service.fault = None
        assert await site.post() == (429, "too_many_refusals")
        assert site.headers["Retry-After"] == f"{math.ceil(REFUSAL_SECONDS / REFUSALS)}"
        assert site.service.began == began == REFUSALS
        assert (await site.ask("GET", "/livez"))[0] == 200
        assert await site.post(headers={"Origin": "https://example.org"}) == (200, ""), "its visitor, and not the page"


@pytest.mark.usefixtures("stopped_clock")
async def test_what_is_refused_at_a_glance_is_not_counted_as_a_look_up(server: Server) -> None:
    async with listening(server) as site:
        site.service.fault = Invalid("no", "no", "no", 400)
        for _ in range(REFUSALS + 1):
            assert await site.post() == (400, "no")
        site.service.fault = None
        assert await site.post() == (200, "")


def test_whatever_names_something_on_the_chain_in_its_path_is_counted_as_a_look_up(server: Server) -> None:
    for route in routes_of(server):
        assert route.reads_chain == (route.method == "GET" and "{id}" in route.path), route.path


@pytest.mark.usefixtures("stopped_clock")
@pytest.mark.parametrize("wrap", [bytes, chunked])
async def test_an_address_sends_exactly_so_many_bytes(
    server: Server, wrap: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "BURST_SECONDS", 0.0)  # as many as the largest body has
    async with listening(server) as site:
        largest = max(route.max_body for route in routes_of(server))
        whole, rest = divmod(largest, server.most)
        for size in [server.most] * whole + [rest] * bool(rest):
            assert await site.post(wrap(server.body.ljust(size))) == (200, "")
        assert await site.post(wrap(server.body)) == (429, "too_many_bytes")
        assert (await site.ask("GET", "/livez"))[0] == 200
        assert site.service.began == whole + bool(rest)


def routes_of(server: Server) -> list[Any]:
    found: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        kept = shell.Shell.__init__
        patch.setattr(shell.Shell, "__init__", lambda self, *a, **k: (found.extend(a[1]), kept(self, *a, **k))[1])
        server.make(Service(), 1)
    return found


async def test_unverified_work_waits_in_line_and_the_line_ends(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places(4, seconds=3600.0)
    monkeypatch.setattr(shell, "Places", lambda _: places)
    async with listening(server) as site:
        site.service.go.clear()
        asked = [asyncio.create_task(site.post()) for _ in range(2 + 2 * IN_LINE)]
        await until(lambda: places.waiting == 2 * IN_LINE)
        assert site.service.began == 2
        assert await site.post() == (429, "too_many_requests")
        assert (await site.ask("GET", "/livez"))[0] == 200
        site.service.go.set()
        assert await asyncio.gather(*asked) == [(200, "")] * len(asked)


async def until(done: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if done():
            return
        await asyncio.sleep(0.001)
    pytest.fail("it never came to that")


async def test_a_fault_of_ours_shows_nothing(server: Server) -> None:
    async with listening(server) as site:
        site.service.fault = KeyError("canary")
        status, answer = await site.ask("POST", server.path, data=server.body, headers={"Content-Type": shell.JSON})
        assert (status, answer["error"]["code"]) == (503, "internal")
        assert "canary" not in json.dumps(answer)


@pytest.mark.parametrize(("method", "path", "status", "code"), [
    ("GET", "/nothing", 404, "no_such_path"), ("POST", "/livez", 405, "wrong_method"),
])  # fmt: skip
async def test_a_wrong_path_or_method_is_a_typed_refusal(
    server: Server, method: str, path: str, status: int, code: str
) -> None:
    async with listening(server) as site:
        found, answer = await site.ask(method, path)
        assert (found, answer["error"]["code"]) == (status, code)
        assert set(answer["error"]) == {"code", "message", "hint"} and all(answer["error"].values())


def test_every_path_with_a_body_bounds_it_and_no_server_has_a_shell_of_its_own() -> None:
    for server in SERVERS.values():
        assert all((route.method == "POST") == (route.max_body > 0) for route in routes_of(server))
    own = re.compile(r"web\.(Application\(|AppRunner|TCPSite|middleware)|\.start_server\(|request\.(read|json|text)\(")
    for package in ("node", "gateway", "codes"):
        for path in (SOURCES / package).rglob("*.py"):
            assert not own.search(path.read_text()), path
        assert "HttpServer(" in (SOURCES / package / "app.py").read_text()


async def test_every_method_that_the_router_takes_has_the_price_of_its_route(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[shell.Route | None] = []

    def count(_: Any, client: str, route: shell.Route | None, method: str) -> None:
        counted.append(route)

    monkeypatch.setattr(shell.Shell, "_count", count)
    routes = [
        (route.method, route.resource.canonical)
        for route in server.make(Service(), 100).router.routes() if route.resource is not None
    ]  # fmt: skip
    assert {method for method, _ in routes} <= {"GET", "POST"}
    async with listening(server) as here:
        for method, path in routes:
            await here.ask(method, re.sub(r"{\w+}", "a", path))
            route = counted[-1]
            assert route is not None
            assert (route.method, route.path) == (method, path)
        for path in {path for _, path in routes}:
            assert (await here.ask("HEAD", re.sub(r"{\w+}", "a", path)))[0] == 405


async def test_metrics_are_made_at_most_once_a_second() -> None:
    now, made = [0.0], []

    def make() -> bytes:
        made.append(now[0])
        return b"%d" % len(made)

    shown = exposition.Exposition(make, lambda: now[0])
    assert [shown.text(), shown.text()] == [b"1", b"1"]
    now[0] = exposition.FRESH_SECONDS
    assert shown.text() == b"2"


async def test_a_page_uses_up_what_pages_get_and_not_its_visitors_requests(server: Server) -> None:
    page = {"Origin": "https://evil.example"}
    async with listening(server, per_second=20) as here:
        statuses = [(await here.post(headers=page))[0] for _ in range(60)]
        assert 429 in statuses
        assert (await here.post())[1] != "too_many_requests"
        assert (await here.post(headers={"Origin": "http://localhost:3000"}))[1] != "too_many_requests"


@pytest.mark.parametrize(("headers", "foreign"), [
    ({}, False), ({"Origin": "https://own.example"}, False), ({"Origin": "http://[::1]:7480"}, False),
    ({"Sec-Fetch-Site": "same-origin"}, False), ({"Sec-Fetch-Site": "none"}, False),
    ({"Origin": "https://own.example.evil.example"}, True), ({"Origin": "http://own.example"}, True),
    ({"Origin": "null"}, True), ({"Origin": "http://["}, True), ({"Sec-Fetch-Site": "cross-site"}, True),
])  # fmt: skip
def test_whose_page_asks(headers: dict[str, str], foreign: bool) -> None:
    request = make_mocked_request("GET", "/", headers=headers)
    assert asks_for_a_page(request, frozenset({"https://own.example"})) is foreign
