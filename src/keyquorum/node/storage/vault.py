"""Encryption at rest: a random data key encrypts every record, and what the operator holds encrypts the data key.

Two keys, because then a new passphrase re-encrypts 32 bytes instead of the whole store, and because the data key has
full entropy whatever the passphrase is like. The key that wraps it comes from a passphrase by argon2id (RFC 9106) or
from a key file, as it is. Every record has its own random 96-bit nonce (far below the 2^32 records at which
random nonces of AES-GCM would begin to matter) and additional data that says what the record *is*: a record moved to
another row, table, key, epoch or node does not decrypt.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyquorum.algebra.transcript import Hashable, encode
from keyquorum.node.settings.config import KeysSection

NONCE_BYTES: Final = 12
KEY_BYTES: Final = 32
SHORTEST_PASSPHRASE: Final = 8


class WrongKey(ValueError):
    """The passphrase or key file does not open this store; nothing was changed."""


class KeyUnavailable(ValueError):
    """The passphrase or key file that the configuration names is not there or unusable."""


class Sealed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A wrapped data key with the public parameters that made the wrapping key."""

    version: int
    method: str
    salt: bytes
    memory_kib: int
    passes: int
    lanes: int
    nonce: bytes
    wrapped: bytes


@dataclass(frozen=True)
class Cost:
    """What one guess of the passphrase costs: the defaults take 64 MiB and about a quarter of a second."""

    memory_kib: int = 64 << 10
    passes: int = 3
    lanes: int = 4


@dataclass(frozen=True)
class KeySource:
    """The operator's secret: a passphrase or the 32 bytes of a key file. Never in argv, logs or errors."""

    method: str
    secret: bytes = field(repr=False)

    def wrapping_key(self, salt: bytes, cost: Cost) -> AESGCM:
        """Return the key that wraps the data key; the passphrase form takes `cost`."""
        if self.method == "key-file":
            return AESGCM(hashlib.sha256(encode(["keyquorum/1/store/key-file", salt, self.secret])).digest())
        raw = hash_secret_raw(
            self.secret, salt, cost.passes, cost.memory_kib, cost.lanes, KEY_BYTES, Type.ID, version=19
        )
        return AESGCM(raw)


def read_key_source(keys: KeysSection, environment: Mapping[str, str] | None = None) -> KeySource:
    """Return the secret that `[keys]` points at; raises `KeyUnavailable` naming the place, never the content."""
    environment = os.environ if environment is None else environment
    if keys.passphrase_env is not None:
        text = environment.get(keys.passphrase_env, "")
        return _passphrase(text.encode(), f"the environment variable {keys.passphrase_env}")
    path = keys.key_file or keys.passphrase_file
    if path is None:
        raise KeyUnavailable("[keys] names no source")
    content = _read_private(path)
    if path is keys.passphrase_file:
        return _passphrase(content.removesuffix(b"\n"), str(path))
    try:
        secret = bytes.fromhex(content.decode().strip())
    except (UnicodeDecodeError, ValueError):
        secret = b""
    if len(secret) != KEY_BYTES:
        raise KeyUnavailable(f"{path}: a key file holds 64 hexadecimal digits; `keyquorum node init` makes one")
    return KeySource("key-file", secret)


def write_key_file(path: Path) -> None:
    """Make a key file with 32 fresh bytes, readable by its owner only; raises `FileExistsError`."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(os.urandom(KEY_BYTES).hex().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _read_private(path: Path) -> bytes:
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyUnavailable(f"{path}: others can read it: chmod 600 {path}")
        return path.read_bytes()
    except OSError as error:
        raise KeyUnavailable(f"{path}: {error.strerror or 'cannot be read'}") from None


def _passphrase(secret: bytes, where: str) -> KeySource:
    if len(secret) < SHORTEST_PASSPHRASE:
        raise KeyUnavailable(f"{where}: no passphrase of at least {SHORTEST_PASSPHRASE} bytes there")
    return KeySource("argon2id", secret)


class Vault:
    """Encrypts and decrypts records with the data key; made by `create` or `open`."""

    def __init__(self, data_key: bytes) -> None:
        self._cipher = AESGCM(data_key)

    @classmethod
    def create(cls, source: KeySource, cost: Cost | None = None) -> tuple[Vault, bytes]:
        """Return a vault with a fresh data key, and the wrapped key to store."""
        data_key = os.urandom(KEY_BYTES)
        return cls(data_key), _wrap(data_key, source, cost or Cost())

    @classmethod
    def open(cls, sealed: bytes, source: KeySource) -> Vault:
        """Return the vault whose wrapped key is `sealed`; raises `WrongKey`."""
        return cls(_unwrap(sealed, source))

    def encrypt(self, content: bytes, *meaning: Hashable) -> bytes:
        """Return nonce || ciphertext || tag of `content`, bound to what it means."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, encode(meaning))

    def decrypt(self, record: bytes, *meaning: Hashable) -> bytes:
        """Return the content; raises `cryptography.exceptions.InvalidTag` for anything but the record itself."""
        if len(record) < NONCE_BYTES + 16:
            raise InvalidTag
        return self._cipher.decrypt(record[:NONCE_BYTES], record[NONCE_BYTES:], encode(meaning))


def rewrap(sealed: bytes, old: KeySource, new: KeySource, cost: Cost | None = None) -> bytes:
    """Return the same data key wrapped for another passphrase or key file; raises `WrongKey`."""
    return _wrap(_unwrap(sealed, old), new, cost or Cost())


def _wrap(data_key: bytes, source: KeySource, cost: Cost) -> bytes:
    salt, nonce = os.urandom(16), os.urandom(NONCE_BYTES)
    wrapped = source.wrapping_key(salt, cost).encrypt(nonce, data_key, _label(source.method))
    return msgspec.msgpack.encode(
        Sealed(1, source.method, salt, cost.memory_kib, cost.passes, cost.lanes, nonce, wrapped)
    )


def _unwrap(sealed: bytes, source: KeySource) -> bytes:
    try:
        box = msgspec.msgpack.decode(sealed, type=Sealed)
    except msgspec.DecodeError:
        raise WrongKey("the store's key record is damaged: restore it from a backup") from None
    if box.version != 1 or box.method not in ("argon2id", "key-file"):
        raise WrongKey("the store's key record is of another version")
    if box.method != source.method:
        raise WrongKey(f"this store opens with a {box.method.replace('argon2id', 'passphrase')}")
    # A tampered record must not make the node allocate without bound before the tag is looked at.
    if not (8 <= box.memory_kib <= 4 << 20 and 1 <= box.passes <= 64 and 1 <= box.lanes <= 64 and len(box.salt) == 16):
        raise WrongKey("the store's key record is damaged: restore it from a backup")
    key = source.wrapping_key(box.salt, Cost(box.memory_kib, box.passes, box.lanes))
    try:
        return key.decrypt(box.nonce, box.wrapped, _label(box.method))
    except (InvalidTag, ValueError):
        raise WrongKey("the passphrase or key file does not open this store") from None


def _label(method: str) -> bytes:
    return encode(["keyquorum/1/store/data-key", method])
