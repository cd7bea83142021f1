"""The one secret of a code service: 32 bytes in a file, and the three keys that come from it.

The signing key is what nodes know the service by. The code key hashes codes, so that memory holds none after it was
sent; the name key turns addresses into the tags under which they are counted and logged, so that neither the
database nor the log tells who logs in.
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from keyquorum.auth.session_key import SessionPrivateKey

SEED_BYTES = 32
TAG_BYTES = 16


class Keys:
    """The keys of one service; its repr shows nothing."""

    __slots__ = ("_code_key", "_name_key", "signing")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError("a seed has 32 bytes")
        self.signing = SessionPrivateKey.generate(_Once(_derive(seed, "signing")))
        self._code_key = _derive(seed, "codes")
        self._name_key = _derive(seed, "names")

    def code_digest(self, challenge_id: str, code: str) -> bytes:
        """Return the 32 bytes that stand for `code` as the answer to a challenge."""
        return hmac.digest(self._code_key, f"{challenge_id}\0{code}".encode(), "sha256")

    def tag(self, kind: str, name: str) -> bytes:
        """Return the 16 bytes that stand for an address or a client."""
        return hmac.digest(self._name_key, f"{kind}\0{name}".encode(), "sha256")[:TAG_BYTES]

    @property
    def public_key(self) -> str:
        """The signing key's public half, compressed, as a node's settings take it: 0x and 66 hex digits."""
        public = self.signing.public
        return "0x" + bytes([2 + (public.y[-1] & 1)]).hex() + public.x.hex()


class _Once:
    """A source of exactly these bytes, for a key that is derived, not drawn."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def bytes(self, length: int) -> bytes:
        """Return the first `length` bytes."""
        return self._data[:length]


def _derive(seed: bytes, purpose: str) -> bytes:
    return hmac.digest(seed, f"keyquorum code service {purpose}".encode(), "sha512")


def create(path: Path) -> Keys:
    """Write a fresh seed to `path`, readable by its owner only; raise `FileExistsError` when there is one."""
    seed = secrets.token_bytes(SEED_BYTES)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(seed.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return Keys(seed)


def read(path: Path) -> Keys:
    """Return the keys of the seed in `path`; raise `ValueError` (nothing quoted) when it holds none."""
    try:
        return Keys(bytes.fromhex(path.read_text(encoding="ascii").strip()))
    except (OSError, ValueError):
        raise ValueError(f"{path} holds no seed of a code service (64 hex digits)") from None


def read_secret(path: Path) -> str:
    """Return the password or token in `path`, one line of text; raise `ValueError` (nothing quoted) otherwise."""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        secret = ""
    if not secret or not secret.isprintable():
        raise ValueError(f"{path} holds no password: one line of text")
    return secret
