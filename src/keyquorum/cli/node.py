"""`keyquorum node ...`: for operators, one node on a host of its own.

`check`, `pardon`, `release` and `forget-chain` open the node's store themselves and therefore need the node stopped:
what they change, a running process holds in memory, and two processes on one store would be two lives of one identity.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyquorum.cli.output import UNAVAILABLE, UNEXPECTED, JsonOption, command

if TYPE_CHECKING:
    from keyquorum.node.storage.store import Store

app = typer.Typer(help="Set up and run one node.", no_args_is_help=True)

ConfigOption = Annotated[Path, typer.Option("--config", help="The node's settings, node.toml.")]


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
    config: ConfigOption,
    as_json: JsonOption = False,
) -> None:
    """Run one node until it is asked to stop; it logs one JSON object a line to standard error."""
    with command(as_json) as out:
        from keyquorum.node.app import run as run_node
        from keyquorum.serving.forever import PartEnded

        try:
            run_node(config)
        except PartEnded as ended:
            hint = "start the node again; its log says more"
            out.fail({"code": "part_ended", "message": str(ended), "hint": hint}, UNEXPECTED)


@app.command("check")
def check(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Decrypt every stored share, and list shares in quarantine and peers with strikes. The node must be stopped.

    Exit code 4 when a share is in quarantine.
    """
    with command(as_json) as out:
        with out.working("decrypting every share"), _stopped(config) as store:
            known, quarantined = store.quarantined, store.check()
            shares, strikes = store.list_shares(), _strikes(store)
        states = {state: sum(share.state == state for share in shares) for state in ("active", "pending")}
        bad = [
            {"token_id": "0x" + key.hex(), "epoch": epoch, "found": "before" if (key, epoch) in known else "now"}
            for key, epoch in quarantined
        ]
        if as_json:
            out.line({"shares": states, "quarantined": bad, "strikes": strikes})
        else:
            out.fields({**states, "in quarantine": len(bad), "peers with strikes": len(strikes)}, "shares")
            if bad:
                out.table(bad, "shares in quarantine: restore data/ from a backup, then `keyquorum node release`")
            if strikes:
                out.table(strikes, "peers that failed checks")
        if bad:
            raise typer.Exit(UNAVAILABLE)


@app.command("pardon")
def pardon(
    party: Annotated[int, typer.Argument(help="The peer's PartyId.", metavar="PARTY", min=1)],
    config: ConfigOption,
    as_json: JsonOption = False,
) -> None:
    """Forget a peer's strikes, which ends its quarantine. The node must be stopped.

    A failed check cannot come from the network: do not pardon what its operator cannot explain.
    """
    with command(as_json) as out:
        from keyquorum.client.errors import Misconfigured
        from keyquorum.node.storage.strikes import Strikes

        with _stopped(config) as store:
            noted = next((entry for entry in _strikes(store) if entry["party"] == party), None)
            if noted is None:
                hint = "`keyquorum node check` lists the peers that have some"
                raise Misconfigured("no_strikes", f"party {party} has no strikes here", hint)
            asyncio.run(Strikes(store).pardon(party))
        out.result({"party": party, "forgotten": noted["strikes"], "was_quarantined": noted["quarantined"]})


@app.command("forget-chain")
def forget_chain(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Let the node act on a chain that is shorter than the one it has seen. The node must be stopped.

    Only for a chain that was put back on purpose: on an older chain what was revoked since is not revoked.
    """
    with command(as_json) as out:
        from keyquorum.node.chain.floor import forget, known_floors

        with _stopped(config) as store:
            floors = known_floors(store)
            asyncio.run(forget(store))
        out.result({"forgotten_blocks": sorted(floors.values())})


@app.command("release")
def release(
    key: Annotated[str, typer.Argument(help="The token id: 0x and hex digits.", metavar="TOKEN_ID")],
    config: ConfigOption,
    epoch: Annotated[int | None, typer.Option("--epoch", min=0, help="Only the share of this epoch.")] = None,
    as_json: JsonOption = False,
) -> None:
    """End the quarantine of a share that is whole again, for example after a restore. The node must be stopped.

    A share that still does not decrypt stays in quarantine.
    """
    with command(as_json) as out:
        from keyquorum.client.errors import Misconfigured

        if not re.fullmatch(r"0x[0-9a-fA-F]{1,64}", key):
            raise ValueError("a token id is 0x and up to 64 hex digits")
        token_id = bytes.fromhex(key[2:].zfill(64))
        with _stopped(config) as store:
            epochs = sorted(e for k, e in store.quarantined if k == token_id and epoch in (None, e))
            if not epochs:
                hint = "`keyquorum node check` lists what is"
                raise Misconfigured("not_quarantined", "no such share is in quarantine", hint)
            asyncio.run(_release(store, token_id, epochs))
        out.result({"token_id": "0x" + token_id.hex(), "released": epochs})


async def _release(store: Store, token_id: bytes, epochs: list[int]) -> None:
    from keyquorum.client.errors import Misconfigured
    from keyquorum.node.storage.store import ShareCorrupt, ShareUnknown

    for epoch in epochs:
        try:
            await store.release(token_id, epoch)
        except (ShareCorrupt, ShareUnknown):
            # Gone from the store counts alike: a restore brought back a copy from before the key.
            raise Misconfigured(
                "share_corrupt",
                f"the share of epoch {epoch} is still missing or not what was written",
                "restore data/ from another backup, then release it",
            ) from None


def _strikes(store: Store) -> list[dict[str, Any]]:
    import msgspec

    from keyquorum.node.storage.strikes import Strikes

    quarantined = Strikes(store).quarantined()
    counts = {
        int(name.removeprefix("strikes/")): len(msgspec.msgpack.decode(value, type=list[float]))
        for name, value in store.info("strikes/").items()
    }
    return [
        {"party": party, "strikes": count, "quarantined": party in quarantined}
        for party, count in sorted(counts.items())
        if count
    ]


@contextmanager
def _stopped(config: Path) -> Iterator[Store]:
    """Open the store of a node that is not running; its errors become errors with a hint."""
    from keyquorum.client.errors import Misconfigured
    from keyquorum.node.settings.config import load
    from keyquorum.node.storage.store import Store, StoreError, StoreFailed
    from keyquorum.node.storage.vault import read_key_source

    settings = load(config)
    try:
        store = Store(settings.node.data_dir, read_key_source(settings.keys))
    except StoreError as error:
        # The store says who is in the way only by its cause: the lock of its folder.
        if isinstance(error.__context__, BlockingIOError):
            hint = "stop it, run this again, and start it"
            raise Misconfigured("node_running", "the node is running and holds its store", hint) from None
        raise Misconfigured(error.code, error.message, error.hint) from None
    try:
        yield store
    except StoreFailed as error:
        raise Misconfigured("store_failed", str(error), error.hint) from None
    finally:
        store.close()
