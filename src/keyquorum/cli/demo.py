"""`keyquorum demo`: the whole story in half a minute, on a network made for it and thrown away.

Nodes make keys that exist nowhere; one is minted; it signs a message and a real transaction; n - t nodes are killed and
it signs again; one more is killed, and the rest refuse.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyquorum.cli.output import JsonOption, Output, Stopwatch, command

if TYPE_CHECKING:
    from keyquorum.cli.local_network import LocalNetwork
    from keyquorum.client.async_client import AsyncClient
    from keyquorum.client.results import Key

MESSAGE = "Signed by a key that exists nowhere."
FUNDS, VALUE = 10**18, 10**17
REFUSAL_SECONDS = 20.0


def demo(
    nodes: Annotated[int, typer.Option("--nodes", min=2, max=100, help="How many nodes.")] = 4,
    as_json: JsonOption = False,
) -> None:
    """Make a temporary network; mint, sign, send, lose nodes, sign again; throw it away."""
    with command(as_json) as out, tempfile.TemporaryDirectory(prefix="keyquorum-demo-") as folder:
        result = asyncio.run(_Story(out, Path(folder), nodes).tell())
        if as_json:
            out.line(result)


class _Story:
    """One run of the demo; `result` grows with each step."""

    def __init__(self, out: Output, folder: Path, nodes: int) -> None:
        self._out = out
        self._folder = folder
        self._n = nodes
        self._watch = Stopwatch()
        self._seconds: dict[str, float] = {}
        self._result: dict[str, Any] = {}

    async def tell(self) -> dict[str, Any]:
        """Run every step and return the result object."""
        from keyquorum.cli.local_network import LocalNetwork

        self._out.say(f"[bold]Starting {self._n} nodes, a chain and a gateway[/bold], each a process of its own ...")
        network = LocalNetwork(self._folder, self._n, progress=self._event)
        async with network:
            self._result |= {"nodes": network.n, "threshold": network.threshold}
            self._step("up", f"{network.n} nodes are up; any {network.threshold} of them sign, fewer cannot")
            async with network.client() as client:
                key = await self._mint(client)
                await self._sign(client, key)
                await self._send(client, key)
                dead = await self._lose(network, client, key)
                await self._refuse(network, client, key, dead)
        self._seconds["total"] = round(self._watch.total, 3)
        self._out.say(f"[green]All stopped.[/green] {self._watch.total:.1f} s in all. Next: [bold]keyquorum up[/bold]")
        return self._result | {"seconds": self._seconds}

    def _event(self, event: str) -> None:
        if not self._out.as_json:
            self._out.progress.print(f"  [dim]{event}[/dim]")

    def _step(self, name: str | None, text: str) -> None:
        elapsed = self._watch.lap()
        if name:
            self._seconds[name] = round(elapsed, 3)
        self._out.say(f"[green]✓[/green] {text} [dim]({elapsed:.2f} s)[/dim]")

    async def _mint(self, client: AsyncClient) -> Key:
        minted = await client.mint()
        shown = minted.to_json()
        self._result |= {name: shown[name] for name in ("token_id", "public_key", "address")}
        self._step("mint", f"minted a key as an ERC-721 token: its address is [bold]{minted.key.address}[/bold]")
        return minted.key

    async def _sign(self, client: AsyncClient, key: Key) -> None:
        signed = await client.sign_message(key, MESSAGE)
        self._result |= {"message": MESSAGE, "signature": "0x" + signed.compact.hex()}
        who = ", ".join(map(str, signed.signers))
        self._step("sign", f"nodes {who} signed a message; logged in and verified under the key on the chain")
        self._out.say(f"    [dim]0x{signed.compact.hex()}[/dim]")

    async def _send(self, client: AsyncClient, key: Key) -> None:
        from keyquorum.client.errors import ChainError

        await client.send_from_account(key.address, value=FUNDS)
        account = client.account
        assert account is not None  # noqa: S101 - the local user's
        sent = await client.send_transaction(key, {"type": 2, "to": account.address, "value": VALUE})
        if sent.status != 1:
            raise ChainError("reverted", "the chain did not execute the transaction")
        self._result["transaction"] = {"raw": "0x" + sent.raw.hex(), "hash": sent.hash, "status": sent.status}
        self._step("send", f"{sent.signed.summary}; the chain executed it")
        self._out.say(f"    [dim]{sent.hash}[/dim]")

    async def _lose(self, network: LocalNetwork, client: AsyncClient, key: Key) -> int:
        """Kill as many nodes as may be lost; return how many that are."""
        spare = network.n - network.threshold
        for party in range(1, spare + 1):
            await network.kill_node(party)
        signed = await client.sign_message(key, MESSAGE)
        self._result["signature_after_loss"] = "0x" + signed.compact.hex()
        who = ", ".join(map(str, signed.signers))
        lost = f"killed {spare} of {network.n} nodes (SIGKILL)" if spare else "no node may be lost here"
        self._step(None, f"{lost}: nodes {who} signed again")
        return spare

    async def _refuse(self, network: LocalNetwork, client: AsyncClient, key: Key, dead: int) -> None:
        from keyquorum.client.errors import KeyquorumError, Unavailable

        await network.kill_node(dead + 1)
        try:
            async with asyncio.timeout(REFUSAL_SECONDS):
                await client.sign_message(key, MESSAGE)
        except Unavailable as error:
            self._result["refused_below_threshold"] = True
            self._step(None, f"killed one more, and nothing is signed any more: [yellow]{error.message}[/yellow]")
        else:
            raise KeyquorumError(
                "threshold_broken", "fewer nodes than the threshold signed", "report this: it must not be possible"
            )
