"""`python -m keyquorum.chain.devchain --port P [--dir D]`: one line on stdout says where it listens, then it serves.

Ends with status 0 on SIGINT and SIGTERM, 2 when the directory or the port cannot be had.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from keyquorum.chain.devchain.server import DevChainServer
from keyquorum.chain.devchain.store import StoreLocked


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m keyquorum.chain.devchain", description=__doc__.split(":")[0])
    parser.add_argument("--port", type=int, default=8545, help="TCP port, 0 for a free one (default 8545)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--dir", type=Path, default=None, help="keep the chain here (default: memory only)")
    parser.add_argument("--origin", action="append", default=[], help="a page that may ask: https://wallet.example")
    parser.add_argument("--allow-host", action="append", default=[], help="another name by which it is reached")
    return parser.parse_args()


async def _main(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    server = DevChainServer(
        arguments.dir, arguments.host, arguments.port, hosts=arguments.allow_host, origins=arguments.origin
    )
    async with server:
        print(f"development chain on {server.url}", flush=True)
        await stop.wait()


def main() -> int:
    """Run the server until a signal."""
    # A long call in one thread must not keep the others from the interpreter for the usual 5 ms at each step.
    sys.setswitchinterval(0.001)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(_main(_arguments()))
    except (StoreLocked, ValueError, OSError) as error:
        print(f"cannot serve: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
