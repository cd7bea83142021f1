"""`python -m keyquorum.gateway --config gateway.toml`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Run the gateway; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m keyquorum.gateway", description="Run a gateway.")
    parser.add_argument("--config", type=Path, required=True, help="the gateway's settings, gateway.toml")
    arguments = parser.parse_args()
    from keyquorum.client.errors import KeyquorumError
    from keyquorum.gateway.app import run
    from keyquorum.serving.forever import PartEnded
    from keyquorum.serving.log_lines import configure_logging

    configure_logging()
    try:
        run(arguments.config)
    except (ValueError, OSError, KeyquorumError, PartEnded) as error:
        print(f"the gateway cannot run: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
