"""What a web page that somebody has open tries with the servers on his own machine."""

from __future__ import annotations

import json
import secrets
from typing import Any

import aiohttp
from eth_account import Account

from hostile.attack import PAGE, Outcome, trick
from hostile.scene import Scene, http_from

ORIGIN = {"Origin": "https://evil.example"}
SIMPLE = ORIGIN | {"Content-Type": "text/plain"}


async def _call(http: aiohttp.ClientSession, url: str, method: str, *params: Any, **headers: str) -> Any:
    """What one fetch of a page comes to; None when it gets nothing."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    try:
        async with http.post(url, data=body, headers=SIMPLE | headers) as response:
            answer = await response.json(content_type=None)
            return answer.get("result") if response.status == 200 and isinstance(answer, dict) else None
    except (aiohttp.ClientError, ValueError):
        return None


@trick(PAGE, "commands the development chain")
async def commanded_chain(scene: Scene) -> Outcome:
    """A page asks the chain to go back, to mine, and to let time pass, in every way a fetch can."""
    got = []
    async with http_from("127.0.0.1") as http:
        for name, headers in (
            ("text/plain", {}),
            ("JSON", {"Content-Type": "application/json"}),
            ("another host", {"Content-Type": "application/json", "Host": "rebound.example"}),
            ("no origin, another host", {"Content-Type": "application/json", "Host": "rebound.example", "Origin": ""}),
        ):
            for method in ("evm_snapshot", "evm_increaseTime", "anvil_mine", "hardhat_mine"):
                params = (0,) if method == "evm_increaseTime" else ()
                if await _call(http, scene.target.rpc, method, *params, **headers) is not None:
                    got.append(f"{method} as {name}")
    return Outcome(bool(got), "; ".join(got[:3]) or "nothing")


@trick(PAGE, "has keys minted by a gateway on this machine")
async def minted_from_a_page(scene: Scene) -> Outcome:
    """What a page can send without being asked first: a simple request."""
    async with http_from("127.0.0.1") as http:
        body = json.dumps({"owner": Account.create().address, "request": secrets.token_hex(16)})
        async with http.post(scene.target.gateway + "/v1/keys", data=body, headers=SIMPLE) as response:
            return Outcome(response.status == 200, f"status {response.status}")
