"""How large the body of each request may be at a node, met from both sides at every route that takes one."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from aiohttp import web

from keyquorum.node import api
from keyquorum.node.metrics import Metrics
from keyquorum.serving.shell import Limits

# docs/operators.md, by what a body has in it; what the operator allows may be less.
BOUNDS = {
    "/v1/sign": 512 * 1024 + 64 * 1024,
    "/v1/sessions": 128 * 1024,
    "/v1/sessions/list": 64 * 1024,
    "/v1/revocations": 64 * 1024,
    "/v1/commitments": 16 * 1024,
}
LESS = 20_000


class Service:
    """Answers with how much it was given."""

    def __init__(self) -> None:
        self.metrics = Metrics()

    async def sign(self, body: bytes) -> dict[str, Any]:
        return {"bytes": len(body)}

    open_session = list_sessions = revoke = commit = sign


def test_every_route_that_takes_a_body_has_its_bound_here() -> None:
    service: Any = Service()
    assert {route.path: route.max_body for route in api._routes(service) if route.method != "GET"} == BOUNDS


@pytest.mark.parametrize("path", BOUNDS)
@pytest.mark.parametrize("allowed", [1 << 20, LESS], ids=["by itself", "by the operator"])
async def test_a_body_of_the_bound_is_read_and_one_byte_more_is_not(path: str, allowed: int) -> None:
    service: Any = Service()
    bound = min(BOUNDS[path], allowed)
    app = api.make_app(service, allowed, Limits(bytes_per_second=1 << 30))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}{path}"
    try:
        async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as http:
            async with http.post(url, data=b"x" * bound) as response:
                assert (response.status, await response.json()) == (200, {"bytes": bound})
            async with http.post(url, data=b"x" * (bound + 1)) as response:
                assert response.status == 413
    finally:
        await runner.cleanup()
