"""T50: nothing that a run leaves behind or shows holds a secret of it.

While the network runs, everything it shows is copied: its files as they lie on the disk (write-ahead logs too),
metrics, errors answered, command lines and environments. Then it is stopped, the stores are opened, and every key
share, TLS key and chain key in them, with the session and account keys of the run, is looked for in the copies: raw,
reversed, hex, decimal, base64 (at each of its three alignments). The files that exist to hold a
secret (0600, named below) are not
searched for their own content, but they are for everybody else's.
"""

from __future__ import annotations

import base64
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from live import Live

from keyquorum.cli.state import read_key_file
from keyquorum.node.mesh.identity import CHAIN_KEY, TLS_KEY, Identity
from keyquorum.node.storage.store import Store
from keyquorum.node.storage.vault import KeySource

HOLDERS = {
    "account.key": "account", "session.json": "session", "relayer.key": "relayer", "store.key": "store key",
}  # fmt: skip
WINDOW = 8


def forms(secret: bytes) -> set[bytes]:
    """Return the ways in which a secret may have been written: each at least a few bytes long."""
    text = {secret.hex(), secret.hex().upper(), str(int.from_bytes(secret, "big"))}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            # Only the characters that depend on nothing but the secret, wherever in a stream it stands.
            whole = encode(bytes(shift) + secret).rstrip(b"=")
            first, last = (shift * 8 + 5) // 6, (shift + len(secret)) * 8 // 6
            text.add(whole[first:last].decode())
    return {secret, secret[::-1]} | {each.encode() for each in text}


def find(secrets: Mapping[str, bytes], places: Mapping[str, bytes]) -> set[tuple[str, str]]:
    """Return (secret, place) of each hit: every window of every place is compared with the secrets' first bytes."""
    wanted: dict[int, list[tuple[str, bytes]]] = {}
    for name, secret in secrets.items():
        for form in forms(secret):
            wanted.setdefault(int.from_bytes(form[:WINDOW], "little"), []).append((name, form))
    starts = np.array(sorted(wanted), dtype=np.uint64)
    hits = set()
    for place, content in places.items():
        for offset in range(min(WINDOW, max(0, len(content) - WINDOW + 1))):
            words = np.frombuffer(content, dtype="<u8", offset=offset, count=(len(content) - offset) // WINDOW)
            for index in np.flatnonzero(np.isin(words, starts)):
                at = offset + int(index) * WINDOW
                hits |= {(name, place) for name, form in wanted[int(words[index])] if content.startswith(form, at)}
    return hits


async def shown(live: Live) -> dict[str, bytes]:
    """Return everything that the running network shows or has written, by place."""
    folder = live.network.folder
    places = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    urls = {f"node-{party}": url for party, url in live.network.nodes.items()} | {"gateway": live.network.gateway_url}
    for name in [*urls, "chain"]:
        pid = live.network.pid(name)
        for kind in ("cmdline", "environ") if pid else ():
            places[f"{name} {kind}"] = Path(f"/proc/{pid}/{kind}").read_bytes()  # noqa: ASYNC240
    for name, url in urls.items():
        if live.network.pid(name):
            for path in ("/metrics", "/v1/network", "/readyz"):
                async with live.http.get(url + path) as response:
                    places[f"{name} {path}"] = await response.read()
    return places | {"errors": b"\n".join(live.errors)}


def open_stores(folder: Path, parties: Iterable[int]) -> dict[str, bytes]:
    """Return every secret in the stores of a stopped network (or of a copy of its folder)."""
    secrets: dict[str, bytes] = {}
    for party in parties:
        home = folder / f"node-{party}"
        key = bytes.fromhex((home / "store.key").read_text())
        secrets[f"store key {party}"] = key
        store = Store(home / "data", KeySource("key-file", key))
        try:
            for name in (TLS_KEY, CHAIN_KEY):
                secrets[f"{name} {party}"] = _scalar(store.secret(name))
            for share in store.list_shares("active"):
                secrets[f"share {party} {share.token_id.hex()}"] = store.load(share.token_id).key_share
        finally:
            store.close()
    return secrets


def _scalar(secret: bytes | None) -> bytes:
    assert secret
    if len(secret) == 32:
        return secret
    key = serialization.load_der_private_key(secret, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.private_numbers().private_value.to_bytes(32, "big")


def identity_of(folder: Path, party: int) -> Identity:
    """Return a node's identity from a copy of its folder: the node may run."""
    with tempfile.TemporaryDirectory() as place:
        home = Path(place) / "node"
        shutil.copytree(folder / f"node-{party}", home)
        key = bytes.fromhex((home / "store.key").read_text())
        store = Store(home / "data", KeySource("key-file", key))
        try:
            found = Identity.load(store, home)
        finally:
            store.close()
        return Identity(found.certificate, found.tls_key, found.chain_key)


async def search_and_stop(live: Live) -> None:
    """Stop a network and assert that its secrets are nowhere."""
    network = live.network
    places = await shown(live)
    session = live.client.session
    secrets = dict(live.canaries)
    if session is not None:
        secrets["session"] = session.key.secret_bytes()
    secrets["account"] = bytes(network.account().key)
    secrets["relayer"] = read_key_file(network.folder / "gateway" / "relayer.key")
    await network.stop()
    folder = network.folder
    places |= {f"{path.relative_to(folder)} after": path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    secrets |= open_stores(folder, network.nodes)
    kinds = {name.split()[0] for name in secrets}
    assert {"account", "relayer", "share", "tls-key", "chain-key"} <= kinds
    hits = {(secret, place) for secret, place in find(secrets, places) if not is_its_own_file(secret, place)}
    assert not hits
    control = dict(zip(("raw", "hex", "decimal", "base64"), _planted(next(iter(secrets.values()))), strict=True))
    assert {place for _, place in find(secrets, control)} == set(control), "the search finds what is there"


def is_its_own_file(secret: str, place: str) -> bool:
    """Say whether `place` is the file that exists to hold `secret`."""
    holds = HOLDERS.get(Path(place.removesuffix(" after")).name)
    return holds is not None and secret.startswith(holds)


def _planted(secret: bytes) -> list[bytes]:
    return [
        b"x" * 1001 + secret,
        b"key=" + secret.hex().encode() + b"!",
        b'{"n": ' + str(int.from_bytes(secret, "big")).encode() + b"}",
        base64.b64encode(b"seven b" + secret + b"more"),
    ]
