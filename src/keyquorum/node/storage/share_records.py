"""What the share store keeps and how it asks for it: rows, tables, the queries of a running node, its errors.

Whatever a node asks while it runs is answered by an index, whatever the store holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

SCHEMA: Final = 1
State = Literal["pending", "active"]

ACTIVATE: Final = (
    "UPDATE key_shares SET state = 'active' "
    "WHERE token_id = ? AND state = 'pending' AND (? IS NULL OR epoch = ?) RETURNING batch_id, token_id, epoch"
)
LOAD: Final = (
    "SELECT epoch, party, public_key, record FROM key_shares WHERE token_id = ? AND state = 'active' "
    "AND (? IS NULL OR epoch = ?) ORDER BY epoch DESC LIMIT 1"
)
LIST: Final = "SELECT token_id, epoch, state, batch_id, public_key, created FROM key_shares"
BATCH: Final = LIST + " WHERE batch_id = ? ORDER BY rowid"
STATE: Final = "SELECT state FROM key_shares WHERE token_id = ?"
MARKER: Final = "SELECT value FROM markers WHERE name = ?"
MARKERS: Final = "SELECT name, value FROM markers WHERE name >= ? AND name < ?"
INFO: Final = "SELECT name, value FROM info WHERE name >= ? AND name < ?"
_JOINED: Final = "FROM quarantine q LEFT JOIN key_shares k USING (token_id, epoch)"
QUARANTINE: Final = "SELECT q.token_id, q.epoch, coalesce(k.state = 'active', 0) " + _JOINED
LAST: Final = chr(0x10FFFF)

TABLES: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE secrets (name TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT;
CREATE TABLE markers (name TEXT PRIMARY KEY, value BLOB NOT NULL, created INTEGER NOT NULL) STRICT;
CREATE TABLE info (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE key_shares (
    token_id BLOB NOT NULL, epoch INTEGER NOT NULL, party INTEGER NOT NULL, batch_id BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'active')), public_key BLOB NOT NULL,
    created INTEGER NOT NULL, record BLOB NOT NULL, PRIMARY KEY (token_id, epoch)) STRICT;
CREATE INDEX key_shares_by_batch ON key_shares (batch_id);
CREATE TABLE quarantine (
    token_id BLOB NOT NULL, epoch INTEGER NOT NULL, seen INTEGER NOT NULL, PRIMARY KEY (token_id, epoch)) STRICT;
"""


class StoreError(ValueError):
    """The folder holds no store, holds one already, holds another version, or is in use by another process.

    `hint` says what the operator may do about it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}: {hint}" if hint else message)
        self.message, self.hint, self.code = message, hint, "store_unusable"


class StoreFull(ValueError):
    """The disk has too little room left to begin anything that ends with a write."""


class ShareUnknown(LookupError):
    """There is no usable share of this key here: unknown, or not active yet."""


class ShareExists(ValueError):
    """A share of this key and epoch is stored already; stored shares are never replaced."""


class ShareCorrupt(RuntimeError):
    """A stored share is not what was written; it is quarantined and the operator must act."""


@dataclass(frozen=True)
class StoredShare:
    """A party's share of one key, as bytes: scalars 32 B big-endian, points 65 B uncompressed."""

    token_id: bytes
    epoch: int
    party: int
    t: int
    parties: tuple[int, ...]
    public_key: bytes
    public_shares: dict[int, bytes]
    key_share: bytes = field(repr=False)


@dataclass(frozen=True)
class ShareInfo:
    """What the store tells about a share without decrypting it; `created` in Unix seconds."""

    token_id: bytes
    epoch: int
    state: State
    batch_id: bytes
    public_key: bytes
    created: int


class Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is encrypted of a share, in this order."""

    version: int
    party: int
    epoch: int
    t: int
    parties: tuple[int, ...]
    public_key: bytes
    public_shares: tuple[bytes, ...]
    key_share: bytes
