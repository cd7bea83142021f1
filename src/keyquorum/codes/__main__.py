"""`python -m keyquorum.codes --config codes.toml`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Run a code service; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m keyquorum.codes", description="Run a code service.")
    parser.add_argument("--config", type=Path, required=True, help="the service's settings, codes.toml")
    arguments = parser.parse_args()
    from keyquorum.codes.app import run
    from keyquorum.serving.forever import PartEnded

    try:
        run(arguments.config)
    except (ValueError, OSError, PartEnded) as error:
        print(f"the code service cannot run: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
