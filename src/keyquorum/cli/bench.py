"""`keyquorum bench`: one table of what was promised and what this machine reaches (docs/performance.md)."""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from keyquorum.cli.output import JsonOption, Output, command

MS, US, MB = 1e3, 1e6, 1e-6
AT_LEAST = {"keys per second", "signatures per second", "sign-ups per second"}
SIGN_UPS_PER_SECOND = 20.0
# People arrive at a fixed rate: a little more than is promised, because the last answer ends the time.
ARRIVALS_PER_SECOND = 21.0
PEOPLE = 40


def bench(
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="How long the sustained load lasts.")] = 30.0,
    samples: Annotated[int, typer.Option("--samples", min=20, help="Signatures for the latency.")] = 300,
    clients: Annotated[int, typer.Option("--clients", min=1, help="Clients of the sustained load.")] = 8,
    micro_only: Annotated[bool, typer.Option("--micro", help="Only the protocols' CPU cost, no network.")] = False,
    signups_only: Annotated[bool, typer.Option("--signups", help="Only logins and sign-ups.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure protocols and a network of four on this machine; medians, with the goal beside each figure."""
    with command(as_json) as out:
        rows = [] if signups_only else _protocols(out)
        if not micro_only and not signups_only:
            rows += _network(out, samples, clients, seconds)
        if not micro_only:
            rows += _arrivals(out, seconds)
        result = {"machine": _machine(), "figures": rows}
        if as_json:
            out.line(result)
            return
        out.table([_shown(row) for row in rows], title=f"Keyquorum on {result['machine']}")
        missed = [row["what"] for row in rows if not row["reached"]]
        out.say(f"[yellow]not reached here: {', '.join(missed)}[/yellow]" if missed else "[green]all reached[/green]")


def _row(what: str, value: float, unit: str, goal: float) -> dict[str, Any]:
    reached = value >= goal if what in AT_LEAST else value <= goal
    return {"what": what, "value": round(value, 3), "unit": unit, "goal": goal, "reached": reached}


def _shown(row: dict[str, Any]) -> dict[str, str]:
    sign = "≥" if row["what"] in AT_LEAST else "≤"
    mark = "✓" if row["reached"] else "✗"
    return {"": mark, "what": row["what"], "measured": f"{row['value']:g} {row['unit']}",
            "goal": f"{sign} {row['goal']:g} {row['unit']}"}  # fmt: skip


def _protocols(out: Output) -> list[dict[str, Any]]:
    from keyquorum.cli.benchmarks import micro

    with out.working("measuring the protocols"):
        correlation = micro.correlation_seconds()
        rows = [_row("correlation, both sides, CPU", correlation * MS, "ms", 0.45)]
        for t, goal in ((3, 1.5), (7, 4.0), (20, 12.0)):
            # Each party is sender to and receiver from every other signer: t - 1 whole correlations each.
            cost = micro.signature_seconds(t) + (t - 1) * correlation
            rows.append(_row(f"signature, CPU per party, t = {t}", cost * MS, "ms", goal))
        rows.append(_row("hostile JSON, CPU per MiB", micro.hostile_json_seconds() * MS, "ms", 20))
    return rows


def _network(out: Output, samples: int, clients: int, seconds: float) -> list[dict[str, Any]]:
    from keyquorum.cli.benchmarks import network, readiness

    with tempfile.TemporaryDirectory(prefix="keyquorum-bench-") as folder:
        asked = asyncio.run(readiness.measure(Path(folder), _progress(out)))
    with tempfile.TemporaryDirectory(prefix="keyquorum-bench-") as folder:
        found = asyncio.run(network.measure(Path(folder), samples, clients, seconds, _progress(out)))
    return [
        _row("signature, one client, p50", found.latency_p50 * MS, "ms", 30),
        _row("signature, one client, p99", found.latency_p99 * MS, "ms", 120),
        _row("signatures per second", found.rate, f"/s ({clients} clients, {seconds:g} s)", 60),
        _row("failed signatures", found.failures, "", 0),
        _row("keys per second", found.keys_per_second, "/s (batches of 64, n = 4)", 100),
        _row("up to ready", found.up, "s", 10),
        _row("memory per node, pools full", found.memory_per_node * MB, "MB", 200),
        _row("/readyz with 100,000 keys, p99", asked * MS, "ms", 5),
    ]


def _arrivals(out: Output, seconds: float) -> list[dict[str, Any]]:
    from keyquorum.cli.benchmarks import signups

    rate = ARRIVALS_PER_SECOND
    with tempfile.TemporaryDirectory(prefix="keyquorum-bench-") as folder:
        found = asyncio.run(signups.measure(Path(folder), PEOPLE, rate, seconds, _progress(out)))
    return [
        _row("login to certificate, p50", found.login_p50 * MS, "ms", 80),
        _row("certificate and request, CPU", found.verify_cpu * MS, "ms", 1),
        _row("verified login to address, p95", found.address_p95, "s", 2),
        _row("the same, 21 a second, p95", found.loaded_p95, f"s ({seconds:g} s)", 2),
        _row("sign-ups per second", found.rate, f"/s ({seconds:g} s)", SIGN_UPS_PER_SECOND),
        _row("failed sign-ups", found.failures, "", 0),
    ]


def _progress(out: Output) -> Any:
    return (lambda text: None) if out.as_json else (lambda text: out.progress.print(f"  [dim]{text}[/dim]"))


def _machine() -> str:
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{os.cpu_count()} x {model}, Python {platform.python_version()}"
