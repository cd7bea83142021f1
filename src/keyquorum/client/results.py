"""What the client returns: small frozen dataclasses, each printable as the JSON that the HTTP API uses.

Token ids are Python integers here and `0x` + 64 hex digits in JSON; public keys are 65 bytes (04 || x || y);
`r` and `s` are integers with s in the lower half of the group order; `v` is the recovery id, 0 to 3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

TOKEN_HEX_DIGITS = 64
_TOKEN = re.compile("0x([0-9a-fA-F]{1,64})|[0-9]{1,78}")


def token_hex(token_id: int) -> str:
    """Return a token id as the API writes it."""
    return f"0x{token_id:064x}"


def token_from(text: str | int) -> int:
    """Read a token id given as an integer, as decimal digits or as `0x` hex; raise `ValueError` otherwise."""
    if isinstance(text, int) and not isinstance(text, bool):
        value = text
    elif isinstance(text, str) and (found := _TOKEN.fullmatch(text)):
        value = int(found[1], 16) if found[1] else int(text)
    else:
        raise ValueError("a token id is 0x and up to 64 hex digits, or a decimal number")
    if not 0 <= value < 1 << 256:
        raise ValueError("a token id has 256 bits")
    return value


@dataclass(frozen=True)
class Node:
    """One node as the chain registers it; `live` is None until somebody asked it.

    `url` is None where the registry has none that can be used: the node counts, and is down. `block` is the newest
    block that it says it knows, None where nobody asked.
    """

    party: int
    url: str | None
    live: bool | None = None
    block: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the node's object in `GET /v1/network`."""
        found = {"party": self.party, "url": self.url, "live": self.live}
        return found if self.block is None else found | {"block": self.block}


@dataclass(frozen=True)
class Key:
    """One key: an ERC-721 token, its public key and Ethereum address, and who owns it (None: nobody any more)."""

    token_id: int
    public_key: bytes
    address: str
    owner: str | None = None
    state: str = "active"

    def to_json(self) -> dict[str, Any]:
        """Return the object of `GET /v1/keys/{id}`, without the epoch."""
        return {
            "token_id": token_hex(self.token_id),
            "public_key": "0x" + self.public_key.hex(),
            "address": self.address,
            "owner": self.owner,
            "state": self.state,
        }


@dataclass(frozen=True)
class Minted:
    """A key and the hash of the transaction that minted it; None: a login's key that was there already."""

    key: Key
    transaction: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the object of `POST /v1/keys`."""
        key = self.key.to_json()
        return {name: key[name] for name in ("token_id", "public_key", "address")} | {"transaction": self.transaction}


@dataclass(frozen=True)
class Signed:
    """A verified signature: over which digest, of which summary, under which public key, made by which nodes."""

    r: int
    s: int
    v: int
    digest: bytes
    summary: str
    public_key: bytes
    signers: tuple[int, ...] = ()

    @property
    def compact(self) -> bytes:
        """r || s || v with v = 27 or 28, 65 bytes: what Ethereum tools call "the signature"."""
        return self.r.to_bytes(32, "big") + self.s.to_bytes(32, "big") + bytes([27 + (self.v & 1)])

    def to_json(self) -> dict[str, Any]:
        """Return the object of the gateway's `POST /v1/sign`."""
        return {
            "signature": {
                "r": f"0x{self.r:064x}",
                "s": f"0x{self.s:064x}",
                "v": self.v,
                "compact": "0x" + self.compact.hex(),
            },
            "summary": self.summary,
            "digest": "0x" + self.digest.hex(),
            "public_key": "0x" + self.public_key.hex(),
        }


@dataclass(frozen=True)
class SentTransaction:
    """A transaction signed by the network: raw bytes, hash, and the receipt once the chain executed it."""

    raw: bytes
    hash: str
    signed: Signed
    receipt: dict[str, Any] | None = None

    @property
    def status(self) -> int | None:
        """1 executed, 0 reverted, None while no receipt is known."""
        if self.receipt is None:
            return None
        return int(str(self.receipt["status"]), 16)

    def to_json(self) -> dict[str, Any]:
        """Return `{raw, hash, status, summary}`."""
        return {"raw": "0x" + self.raw.hex(), "hash": self.hash, "status": self.status, "summary": self.signed.summary}


@dataclass(frozen=True)
class NetworkStatus:
    """A network now: `facts` from the chain, the nodes with who answers, and how many keys wait to be minted."""

    facts: dict[str, Any]
    nodes: tuple[Node, ...]
    threshold: int
    pool: int

    @property
    def live(self) -> int:
        """How many nodes are ready."""
        return sum(bool(node.live) for node in self.nodes)

    @property
    def ready(self) -> bool:
        """Whether enough nodes are ready to sign."""
        return self.live >= self.threshold and self.facts["network_key"] is not None

    def to_json(self) -> dict[str, Any]:
        """Return the gateway's `GET /v1/network`."""
        nodes = [node.to_json() for node in self.nodes]
        return self.facts | {"nodes": nodes, "live": self.live, "keys_waiting": self.pool, "ready": self.ready}
