"""`keyquorum up`: a network in a folder, until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyquorum.cli.output import JsonOption, Output, command
from keyquorum.cli.state import DEFAULT_DIR, read_key_file

if TYPE_CHECKING:
    from keyquorum.cli.local_network import LocalNetwork


def up(
    nodes: Annotated[int, typer.Option("--nodes", min=2, max=100, help="How many nodes.")] = 4,
    directory: Annotated[
        Path, typer.Option("--dir", envvar="KEYQUORUM_DIR", help="Where everything is kept.")
    ] = DEFAULT_DIR,
    rpc: Annotated[str | None, typer.Option("--rpc", help="An existing chain; default: a development chain.")] = None,
    funder_file: Annotated[
        Path | None, typer.Option("--funder-file", help="Key file of the account that pays for the contracts on --rpc.")
    ] = None,
    finality: Annotated[
        str | None,
        typer.Option("--finality", help="When a block of --rpc counts: latest, safe, finalized, or a depth in blocks."),
    ] = None,
    development_accounts: Annotated[
        bool,
        typer.Option("--development-accounts", help="--rpc is a test chain here: publicly known accounts may pay."),
    ] = False,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The gateway's port; 0: the one it had, or any.")
    ] = 0,
    origin: Annotated[
        list[str] | None, typer.Option("--origin", help="A page of yours where people log in: http://localhost:3000.")
    ] = None,
    google: Annotated[str, typer.Option("--google", help="Client id of your application at Google.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Start a network on this machine: chain, contracts, nodes, gateway. Ctrl-C stops all of it.

    The same folder brings the same keys back. A node that dies is started again. Further ways to log in stand in
    login.toml in the folder.
    """
    with command(as_json) as out:
        from keyquorum.cli.chain_choice import ChainChoice, parse_finality
        from keyquorum.cli.local_network import LocalNetwork
        from keyquorum.cli.login_settings import LoginOptions

        funder = read_key_file(funder_file) if funder_file else None
        network = LocalNetwork(
            directory, nodes, progress=_Progress(out).tell, port=port,
            chain=ChainChoice(rpc, funder, parse_finality(finality), development_accounts),
            options=LoginOptions(tuple(origin or ()), google),
        )  # fmt: skip
        asyncio.run(_serve(network, out))


class _Progress:
    """Where the events of a network are shown."""

    def __init__(self, out: Output) -> None:
        self._out = out

    def tell(self, event: str) -> None:
        """Print one event, to standard error."""
        self._out.progress.print(event, style="dim", markup=False)


async def _serve(network: LocalNetwork, out: Output) -> None:
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    starting = asyncio.create_task(network.start())
    stopping = asyncio.create_task(asked.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            _announce(network, out)
            await stopping
            if not out.as_json:
                out.progress.print("stopping")
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await network.stop()


def describe(network: LocalNetwork) -> dict[str, Any]:
    """Return what runs where."""
    return {
        "network": network.network.id if network.network else None,
        "nodes": network.n,
        "threshold": network.threshold,
        "chain": network.rpc,
        "finality": network.finality,
        "gateway": network.gateway_url,
        "page": network.page_url,
        "node_urls": list(network.nodes.values()),
        "account": network.account().address,
        "dir": str(network.folder),
        "seconds": round(network.seconds["up"], 2),
    }


def _announce(network: LocalNetwork, out: Output) -> None:
    found = describe(network)
    if out.as_json:
        out.line(found)
        return
    urls = found.pop("node_urls")
    out.say(f"[green]ready[/green]: {network.n} nodes, any {network.threshold} of them sign")
    out.fields(found | {f"node {party}": url for party, url in enumerate(urls, 1)})
    if network.n == network.threshold:
        out.say(f"[yellow]All {network.n} nodes are needed, so none may be down. Four bear the loss of one.[/yellow]")
    where = "" if network.folder == DEFAULT_DIR else f" --dir {network.folder}"
    out.say(f"Try, in another terminal: [bold]keyquorum keys mint{where}[/bold]. Ctrl-C here stops everything.")
