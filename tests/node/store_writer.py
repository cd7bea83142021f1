"""A process that writes shares until it is killed, and says so only after each write was acknowledged."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from keyquorum.node.storage.store import Store, StoredShare
from keyquorum.node.storage.vault import KeySource


def share(number: int, **changes: object) -> StoredShare:
    point = b"\x04" + number.to_bytes(64, "big")
    values: dict[str, object] = {
        "token_id": number.to_bytes(32, "big"), "epoch": 1, "party": 1, "t": 2, "parties": (1, 2, 3),
        "public_key": point, "public_shares": {1: point, 2: point, 3: point},
        "key_share": (number + 1).to_bytes(32, "big"),
    }  # fmt: skip
    return StoredShare(**{**values, **changes})  # type: ignore[arg-type]


async def main(folder: Path, start: int) -> None:
    store = Store(folder, KeySource("key-file", b"k" * 32))
    for batch in range(start, start + 10_000):
        await store.put_pending(batch.to_bytes(4, "big"), [share(4 * batch + k) for k in range(4)])
        await store.activate([share(4 * batch).token_id])
        print(batch, flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
