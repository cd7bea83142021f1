"""Randomness as an argument: the operating system's in a node, a seeded stream in tests and vectors."""

from __future__ import annotations

import hashlib
import os
from typing import Protocol


class Rng(Protocol):
    """Where a protocol takes its random bytes from."""

    def bytes(self, count: int) -> bytes:
        """Return `count` uniformly random bytes."""
        ...


class SystemRng:
    """Fresh entropy from the kernel at every call: safe across forks and snapshots of user space."""

    def bytes(self, count: int) -> bytes:
        """Return `count` bytes of `os.urandom`."""
        return os.urandom(count)


class SeededRng:
    """A reproducible stream for simulations and test vectors; never for keys that hold value."""

    def __init__(self, seed: bytes | str | int) -> None:
        self._key = hashlib.sha256(repr(seed).encode()).digest()
        self._counter = 0

    def bytes(self, count: int) -> bytes:
        """Return the next `count` bytes of the stream."""
        self._counter += 1
        return hashlib.shake_256(self._key + self._counter.to_bytes(8, "big")).digest(count)

    def fork(self, label: str) -> SeededRng:
        """Return an independent stream named `label`: the same seed and label give the same stream."""
        return SeededRng(self._key + label.encode())
