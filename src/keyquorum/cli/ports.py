"""The ports of a local network: free ones, kept from one start to the next.

They are taken from below the range that the system uses for outgoing connections, so that a port which is ours today
is not the near end of somebody's connection tomorrow.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from keyquorum.client.errors import Misconfigured

HOST = "127.0.0.1"
PORTS = range(20_000, 32_000)


@dataclass(frozen=True)
class Ports:
    """The ports of one network; `api` and `mesh` in the order of the parties."""

    chain: int
    gateway: int
    api: tuple[int, ...]
    mesh: tuple[int, ...]

    @classmethod
    def choose(cls, n: int, wanted: Mapping[str, Any], gateway: int = 0) -> Self:
        """Return ports for n nodes: those in `wanted` (the members of this class) where they are free, else others.

        `gateway`, unless 0, is the gateway's and no other: raises `Misconfigured` when it is taken.
        """
        taken: set[int] = set()
        if gateway:
            _check_free(gateway)
            taken.add(gateway)

        def choose(port: int) -> int:
            chosen = port if port and port not in taken and _is_free(port) else _free_port(taken)
            taken.add(chosen)
            return chosen

        none = [0] * n
        return cls(
            choose(wanted.get("chain", 0)),
            gateway or choose(wanted.get("gateway", 0)),
            tuple(choose(port) for port in wanted.get("api", none)),
            tuple(choose(port) for port in wanted.get("mesh", none)),
        )


def _check_free(port: int) -> None:
    if not _is_free(port):
        raise Misconfigured(
            f"port {port} of this machine is taken or not yours to take",
            code="port_taken",
            hint=f"end what listens there (`ss -ltnp 'sport = :{port}'`), or choose another --port",
        )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _free_port(taken: set[int]) -> int:
    """Return a port below the range from which the system takes those of outgoing connections: it stays ours."""
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        if port not in taken and _is_free(port):
            return port
    raise Misconfigured("no port is free on this machine", code="no_port", hint="stop something")
