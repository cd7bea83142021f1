"""`keyquorum codes ...`: for operators, a code service (logins by e-mail and SMS) on a host of its own."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keyquorum.cli.output import UNAVAILABLE, JsonOption, command

if TYPE_CHECKING:
    from keyquorum.codes.config import CodesConfig

app = typer.Typer(help="Set up and run a code service for logins by e-mail and SMS.", no_args_is_help=True)

ConfigOption = Annotated[Path, typer.Option("--config", help="The service's settings, codes.toml.")]
_SNIPPET = """
[auth.{channel}]
required = 2                     # of the issuers below; add those of other operators

[[auth.{channel}.issuers]]
id = "{id}"
public_key = "{public_key}"
"""


@app.command("init")
def init(
    directory: Annotated[Path, typer.Argument(help="The service's folder; made if missing.")],
    network: Annotated[str, typer.Option("--network", help="eip155:<chain id>:<PubkeyRouter>: whose logins.")],
    issuer: Annotated[str, typer.Option("--id", help="The service's name in the nodes' settings: mail-a.example.")],
    name: Annotated[str, typer.Option("--name", help="What messages call the service.")] = "Keyquorum codes",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where it listens, on 127.0.0.1.")] = 7490,
    smtp_host: Annotated[str, typer.Option("--smtp-host", help="The mail server that sends the codes.")] = "",
    smtp_port: Annotated[int, typer.Option("--smtp-port", min=1, max=65535, help="Its port.")] = 587,
    smtp_tls: Annotated[
        str, typer.Option("--smtp-tls", help="starttls, implicit, or none (this machine only).")
    ] = "starttls",
    sender: Annotated[str, typer.Option("--sender", help="The mails' sender: Codes <codes@example.org>.")] = "",
    sms: Annotated[bool, typer.Option("--sms", help="Add a section for SMS, to be filled in.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the folder of a code service: its key and documented settings; print what nodes need to know.

    Every service of a network needs an operator, a host and a provider of its own: k of them together can log in as
    anybody who uses codes. Passwords of providers belong into files that the settings name, mode 0600.
    """
    with command(as_json) as out:
        from keyquorum.codes import folder

        smtp = (smtp_host, smtp_port, smtp_tls) if smtp_host else None
        path, keys = folder.create(
            directory, network=network, issuer=issuer, name=name, port=port, smtp=smtp, sender=sender, sms=sms
        )
        found = {"id": issuer, "public_key": keys.public_key, "jwk": keys.signing.public.to_jwk(), "config": str(path)}
        out.result(found, title="a node believes this service when its node.toml says")
        for channel in [channel for channel, wanted in (("email", smtp), ("sms", sms)) if wanted]:
            text = _SNIPPET.format(channel=channel, id=issuer, public_key=keys.public_key)
            out.say(text.replace("[", r"\["))
        out.say(f"Then: [bold]keyquorum codes check --config {path}[/bold]")


@app.command("run")
def run(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Run a code service until it is asked to stop; it logs one JSON object a line to standard error."""
    with command(as_json):
        from keyquorum.codes.app import run as run_service

        run_service(config)


@app.command("check")
def check(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Read settings, key and passwords, and log in to each provider; nothing is sent.

    Exit code 4 when a provider or the counters cannot be used.
    """
    with command(as_json) as out:
        from keyquorum.codes.config import load

        with out.working("asking the providers"):
            description, faults = asyncio.run(_look(load(config)))
        out.result(description | {"faults": {name: fault for name, fault in faults.items() if fault}})
        if any(faults.values()):
            raise typer.Exit(UNAVAILABLE)


async def _look(config: CodesConfig) -> tuple[dict[str, object], dict[str, str]]:
    from keyquorum.codes.app import make_service, readiness
    from keyquorum.codes.metrics import Metrics

    service = make_service(config, Metrics(), lambda: int(time.time()))
    try:
        return service.describe(), await readiness(service)
    finally:
        await service.close()
