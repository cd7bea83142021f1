"""Ports for tests that must know them before a process binds them: held, so that nobody else is given the same.

Where whoever listens can say where, a test binds port 0 and asks.
"""

from __future__ import annotations

import functools

from keyquorum.cli.ports import HeldPorts


@functools.cache
def _held() -> HeldPorts:
    return HeldPorts()


def free_port() -> int:
    """A port that is this process's until it ends, and no outgoing connection's."""
    return _held().any()


def free_ports(count: int) -> list[int]:
    """`count` such ports."""
    return [free_port() for _ in range(count)]
