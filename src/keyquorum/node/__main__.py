"""`python -m keyquorum.node --config node.toml`: what `keyquorum node run` starts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Run the node; returns the exit code."""
    parser = argparse.ArgumentParser(prog="keyquorum node run", description="Run one node.")
    parser.add_argument("--config", type=Path, required=True, help="the node's settings, node.toml")
    arguments = parser.parse_args()
    from keyquorum.node.app import run
    from keyquorum.serving.forever import PartEnded

    try:
        run(arguments.config)
    except (ValueError, LookupError, OSError, PartEnded) as error:
        print(f"the node cannot run: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
