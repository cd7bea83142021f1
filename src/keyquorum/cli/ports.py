"""The ports of a local network: free ones, kept from one start to the next, and nobody else's while it runs.

They are taken from below the range that the system uses for outgoing connections, so that a port which is ours today
is not the near end of somebody's connection tomorrow. Between the choice and the moment when a process of the network
binds it, a port is held by a locked file, which every network of this user looks at: two that start together never
choose the same.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from keyquorum.client.errors import Misconfigured

HOST = "127.0.0.1"
PORTS = range(20_000, 32_000)


class HeldPorts:
    """Ports that no other `HeldPorts` of this user gets, in any process, until `close` or the end of this one."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir()) / f"keyquorum-ports-{os.getuid()}"
        self._files: dict[int, IO[str]] = {}

    def take(self, port: int) -> bool:
        """Hold `port`; False when somebody listens there, or holds it (also this one)."""
        if port in self._files:
            return False
        file = self._locked(port)
        if file is None:
            return False
        if not _is_free(port):
            file.close()
            return False
        self._files[port] = file
        return True

    def any(self) -> int:
        """Hold some port and return it; raises `Misconfigured` when there is none."""
        for port in random.SystemRandom().sample(PORTS, len(PORTS)):
            if self.take(port):
                return port
        raise Misconfigured("no_port", "no port is free on this machine", "stop something")

    def close(self) -> None:
        """Let all of them go."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _locked(self, port: int) -> IO[str] | None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self._folder / str(port), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        file = os.fdopen(descriptor, "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        return file


@dataclass(frozen=True)
class Ports:
    """The ports of one network; `api` and `mesh` in the order of the parties."""

    chain: int
    gateway: int
    api: tuple[int, ...]
    mesh: tuple[int, ...]

    @classmethod
    def choose(cls, n: int, wanted: Mapping[str, Any], held: HeldPorts, gateway: int = 0) -> Self:
        """Return ports for n nodes: those in `wanted` (the members of this class) where they are free, else others.

        `held` holds them. `gateway`, unless 0, is the gateway's and no other: raises `Misconfigured` when it is taken.
        """
        if gateway and not held.take(gateway):
            raise Misconfigured(
                "port_taken",
                f"port {gateway} of this machine is taken, or not yours to take",
                f"end what listens there (`ss -ltnp 'sport = :{gateway}'`), or choose another --port",
            )

        def choose(port: int) -> int:
            return port if port and held.take(port) else held.any()

        none = [0] * n
        return cls(
            choose(wanted.get("chain", 0)),
            gateway or choose(wanted.get("gateway", 0)),
            tuple(choose(port) for port in wanted.get("api", none)),
            tuple(choose(port) for port in wanted.get("mesh", none)),
        )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
