"""A node's folder: its identity and store, made once, and its settings, written again whenever they change.

node.toml   the settings, documented in the file      store.key   opens the store; mode 0600
data/       the store: key shares and the node's own keys, encrypted
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

from keyquorum.node.mesh.identity import Identity, NoIdentity
from keyquorum.node.settings import config
from keyquorum.node.storage import vault
from keyquorum.node.storage.store import Store, StoreError

KEY_FILE, DATA, SETTINGS = "store.key", "data", "node.toml"


class NodeFolder:
    """The folder of one node; `create` makes it, or opens what is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.address = ""
        self.tls_digest = b""

    def create(self, passphrase_file: Path | None = None) -> None:
        """Make store and identity unless they exist; then `address` and `tls_digest` say who the node is."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        key_file = self.path / KEY_FILE
        if passphrase_file is None and not key_file.exists():
            vault.write_key_file(key_file)
        section = config.KeysSection(
            passphrase_file=passphrase_file, key_file=None if passphrase_file is not None else key_file
        )
        self._source = vault.read_key_source(section)
        data = self.path / DATA
        store = self._open(data)
        try:
            try:
                identity = Identity.load(store, data)
            except NoIdentity:
                # New, or interrupted between store and identity the last time.
                identity = Identity.create(store, data)
        finally:
            store.close()
        self.address, self.tls_digest = identity.address, identity.spki_digest

    def _open(self, data: Path) -> Store:
        """Open the store, or make it if this node never had one: settings are written after it was made."""
        if not (self.path / SETTINGS).exists():
            with suppress(StoreError, sqlite3.DatabaseError):
                return Store.create(data, self._source)
        return Store(data, self._source)

    def chain_key(self) -> bytes:
        """Return the key of the node's own account; only while the node is not running."""
        data = self.path / DATA
        store = Store(data, self._source)
        try:
            return Identity.load(store, data).chain_key
        finally:
            store.close()

    def settings_text(self, *, passphrase_file: Path | None = None, **settings: Any) -> str:
        """Return the text of `node.toml` with `settings` (those of `config.dump_default`)."""
        keys: dict[str, Any] = (
            {"key_file": KEY_FILE} if passphrase_file is None else {"passphrase_file": str(passphrase_file)}
        )
        return config.dump_default(data_dir=DATA, **keys, **settings)

    def write_settings(self, *, passphrase_file: Path | None = None, **settings: Any) -> Path:
        """Write `node.toml` with `settings` (those of `config.dump_default`); return its path."""
        path = self.path / SETTINGS
        path.write_text(self.settings_text(passphrase_file=passphrase_file, **settings))
        return path
