"""A node's service that is about to tell somebody something, in a process that ends like a killed one just then."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from keyquorum.auth.commitment import Commitment, Receipt
from keyquorum.auth.network import network_id
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import Statement
from keyquorum.node.services.commitments import Commitments
from keyquorum.node.storage.login_store import LoginStore
from keyquorum.node.storage.store import Store
from keyquorum.node.storage.strikes import Strikes
from keyquorum.node.storage.vault import KeySource
from rosters import roster

NOW = 1_800_000_000
SOURCE = KeySource("key-file", b"k" * 32)
NETWORK = network_id(31337, bytes(20))
STATEMENT = Statement(NETWORK, SessionPrivateKey(7).public, ("*",), (1,), NOW + 3600, "ab" * 16, "0x" + "11" * 32)
COMMITMENT = Commitment.to_token("discord", "a-token.of-somebody.here", STATEMENT)
PEER = 3


def killed(*_: Any) -> Any:
    os._exit(9)


class View:
    network = NETWORK

    async def is_recent_block(self, block_hash: bytes) -> bool:
        return True


async def receipt(folder: Path) -> None:
    """Killed when the receipt is about to be signed."""
    view: Any = View()
    service = Commitments(roster(), view, LoginStore(folder), b"\x07" * 32, {"discord"}, clock=lambda: NOW)
    Receipt.sign = killed  # type: ignore[method-assign]
    await service.commit(json.dumps(COMMITMENT.to_json()).encode(), 65_536)


async def strikes(folder: Path) -> None:
    """Killed when the third failed check of a peer has been noted."""
    noted = Strikes(Store(folder, SOURCE), clock=lambda: NOW)
    for _ in range(3):
        await noted.add(PEER)
    killed()


async def pardon(folder: Path) -> None:
    """Killed when an operator has been told that the strikes are forgotten."""
    await Strikes(Store(folder, SOURCE), clock=lambda: NOW).pardon(PEER)
    killed()


WORK = {"receipt": receipt, "strikes": strikes, "pardon": pardon}

if __name__ == "__main__":
    asyncio.run(WORK[sys.argv[2]](Path(sys.argv[1])))
