"""`keyquorum status`: the network, its nodes, and what waits to be minted."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from keyquorum.cli.output import UNAVAILABLE, JsonOption, command
from keyquorum.cli.state import DEFAULT_DIR, DirOption, TimeoutOption, open_network

if TYPE_CHECKING:
    import aiohttp

    from keyquorum.client.results import NetworkStatus

STATE_SECONDS = 2.0
STATE_BYTES, STATE_CHARACTERS = 16_384, 300


def status(directory: DirOption = DEFAULT_DIR, timeout: TimeoutOption = 30.0, as_json: JsonOption = False) -> None:
    """Show which nodes are ready and why others are not. Exit code 4 when the network cannot sign."""
    with command(as_json) as out:
        with out.working("asking the chain and the nodes"):
            found, states = asyncio.run(_ask(open_network(directory), timeout))
        can_lose = max(0, found.live - found.threshold)
        if as_json:
            nodes = [{"party": n.party, "url": n.url, "live": n.live, "state": states[n.party]} for n in found.nodes]
            out.line(found.to_json() | {"nodes": nodes, "can_lose": can_lose})
            raise typer.Exit(0 if found.ready else UNAVAILABLE)
        facts = found.facts
        out.fields(
            {
                "network": facts["network"],
                "threshold": f"{facts['threshold']} of {len(found.nodes)}",
                "live": found.live,
                "can lose": f"{can_lose} more" + ("" if found.live == len(found.nodes) else ", fewer than when whole"),
                "keys waiting": found.pool,
                "ready": found.ready,
            }
        )
        out.table(
            [
                {"party": n.party, "url": n.url or "", "ready": bool(n.live), "state": states[n.party]}
                for n in found.nodes
            ]
        )
        if not found.ready:
            from keyquorum.client.errors import Unavailable

            raise Unavailable(
                "unavailable",
                f"{found.live} of {len(found.nodes)} nodes are ready, {found.threshold} are needed",
                "start more nodes; with a local network: keyquorum up",
                needed=found.threshold,
                live=found.live,
            )


async def _ask(network: Path, seconds: float) -> tuple[NetworkStatus, dict[int, str]]:
    import aiohttp

    from keyquorum.client.async_client import AsyncClient

    async with AsyncClient(str(network), timeout=seconds) as client:
        found = await client.network()
    patience = aiohttp.ClientTimeout(total=STATE_SECONDS)
    async with aiohttp.ClientSession(timeout=patience) as http:
        states = await asyncio.gather(*(_state(http, node.url) for node in found.nodes))
    return found, {node.party: state for node, state in zip(found.nodes, states, strict=True)}


async def _state(http: aiohttp.ClientSession, url: str | None) -> str:
    """Return a node's own words on why it is not ready, or what the network has lost; "" when all is well."""
    import aiohttp

    if url is None:
        return "has registered no address that can be used"
    try:
        async with http.get(url + "/readyz", allow_redirects=False) as response:
            found = json.loads(await response.content.read(STATE_BYTES))
        words = "; ".join([*found["reasons"], *found.get("degraded", [])])
    except (aiohttp.ClientError, OSError, TimeoutError):
        return "does not answer"
    except (ValueError, LookupError, TypeError, AttributeError):
        return "its answer cannot be read"
    # Anybody's words, for a terminal.
    return "".join(letter if letter.isprintable() else " " for letter in words)[:STATE_CHARACTERS]
