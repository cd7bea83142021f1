"""Run a module as a process that dies with its parent: `python -m keyquorum.cli.child MODULE [ARGUMENTS...]`.

A local network is a tree of processes. When `up` or a test is killed, nothing may keep running and hold ports.
Linux can send a signal when the parent ends; setting that up from inside the child, before the module is loaded,
needs no code between fork and exec. On other systems the child runs on, and `up` stops it in the ordinary way.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

PARENT_VARIABLE = "KEYQUORUM_PARENT"
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask for SIGKILL when the parent ends; end at once when it ended already."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent and os.getppid() != parent:
        os._exit(0)


def main() -> None:
    """Become the module named by the first argument."""
    die_with_parent(int(os.environ.pop(PARENT_VARIABLE, "0")))
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
