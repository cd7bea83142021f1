"""`keyquorum node ...`: for operators, one node on a host of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keyquorum.cli.output import JsonOption, command

app = typer.Typer(help="Set up and run one node.", no_args_is_help=True)


@app.command("init")
def init(
    directory: Annotated[Path, typer.Argument(help="The node's folder; made if missing.")],
    rpc: Annotated[list[str], typer.Option("--rpc", help="A chain endpoint of your own; repeat for more.")],
    router: Annotated[str, typer.Option("--router", help="The network's PubkeyRouter: the last part of its id.")],
    api_url: Annotated[
        str, typer.Option("--api-url", help="Where clients reach the node, as the registry shows it.")
    ] = "",
    api_host: Annotated[str, typer.Option("--api-host", help="Where the API listens.")] = "127.0.0.1",
    api_port: Annotated[int, typer.Option("--api-port", min=1, max=65535, help="Port of the API.")] = 7470,
    mesh_host: Annotated[str, typer.Option("--mesh-host", help="Where the mesh listens.")] = "127.0.0.1",
    mesh_port: Annotated[int, typer.Option("--mesh-port", min=1, max=65535, help="Port of the mesh.")] = 7471,
    finality: Annotated[str, typer.Option("--finality", help="finalized, latest, or a depth in blocks.")] = "finalized",
    passphrase_file: Annotated[
        Path | None, typer.Option("--passphrase-file", help="Seal the store with a passphrase instead of a key file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a node's keys, its encrypted store and a documented node.toml; print what the registry needs.

    Running it again changes the settings and keeps the keys.
    """
    with command(as_json) as out:
        from keyquorum.cli.node_folder import NodeFolder

        folder = NodeFolder(directory)
        with out.working("making keys"):
            folder.create(passphrase_file)
        depth: str | int = int(finality) if finality.isdecimal() else finality
        config = folder.write_settings(
            passphrase_file=passphrase_file,
            rpc=rpc,
            router=router,
            name=directory.resolve().name[:64] or "node",
            api_host=api_host,
            api_port=api_port,
            api_url=api_url,
            mesh_host=mesh_host,
            mesh_port=mesh_port,
            finality=depth,
        )
        found = {
            "node_address": folder.address,
            "url": api_url or f"http://{api_host}:{api_port}",
            "mesh_host": mesh_host,
            "mesh_port": mesh_port,
            "tls_key": "0x" + folder.tls_digest.hex(),
            "config": str(config),
        }
        out.result(found, title="register these in Staking, and give the node's address some ether for its votes")
        out.say(f"Then: [bold]keyquorum node run --config {config}[/bold]")


@app.command("run")
def run(
    config: Annotated[Path, typer.Option("--config", help="The node's settings, node.toml.")],
    as_json: JsonOption = False,
) -> None:
    """Run one node until it is asked to stop; it logs one JSON object a line to standard error."""
    with command(as_json):
        from keyquorum.node.app import run as run_node

        run_node(config)
