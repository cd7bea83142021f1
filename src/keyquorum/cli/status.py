"""`keyquorum status`: the network, its nodes, and what waits to be minted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from keyquorum.cli.output import UNAVAILABLE, JsonOption, command
from keyquorum.cli.state import DEFAULT_DIR, DirOption, TimeoutOption, open_network

if TYPE_CHECKING:
    from keyquorum.client.results import NetworkStatus


def status(directory: DirOption = DEFAULT_DIR, timeout: TimeoutOption = 30.0, as_json: JsonOption = False) -> None:
    """Show which nodes answer and whether the network can sign. Exit code 4 when it cannot."""
    with command(as_json) as out:
        with out.working("asking the chain and the nodes"):
            found = asyncio.run(_ask(open_network(directory), timeout))
        if as_json:
            out.line(found.to_json())
            raise typer.Exit(0 if found.ready else UNAVAILABLE)
        facts = found.facts
        out.fields(
            {
                "network": facts["network"],
                "threshold": f"{facts['threshold']} of {len(found.nodes)}",
                "live": found.live,
                "keys waiting": found.pool,
                "ready": found.ready,
            }
        )
        out.table([{"party": n.party, "url": n.url, "ready": bool(n.live)} for n in found.nodes])
        if not found.ready:
            from keyquorum.client.errors import Unavailable

            raise Unavailable(
                f"{found.live} of {len(found.nodes)} nodes are ready, {found.threshold} are needed",
                needed=found.threshold,
                live=found.live,
                hint="start more nodes; with a local network: keyquorum up",
            )


async def _ask(network: Path, seconds: float) -> NetworkStatus:
    from keyquorum.client.async_client import AsyncClient

    async with AsyncClient(str(network), timeout=seconds) as client:
        return await client.network()
