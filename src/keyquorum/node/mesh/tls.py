"""Mutual TLS 1.3 between nodes that know each other only by key hashes on a chain.

The registry pins the SHA-256 of each node's SubjectPublicKeyInfo. Python's `ssl` can demand a client certificate only
against certificates it trusts (there is no verify callback, and `CERT_OPTIONAL` refuses an unknown one just the same),
so each node first learns its peers' certificates: it opens a TLS connection to the registered address, reads the
certificate that the server shows, hangs up, and keeps it if and only if its key has the registered hash. Nothing is
sent, the certificate is public, and one with another key is dropped.

From then on both sides run with `CERT_REQUIRED`, and the peers' own certificates are the only trust anchors; TLS 1.3
proves that the other side holds the private key. They are no authorities (`identity.py`): they vouch for nobody else.
After each handshake, before a byte of application data is looked at, the key in use is compared with the registry
again: that is the decision, and it stays right when the registry changes. Tickets are off, so that every connection
proves the keys afresh.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

from keyquorum.node.mesh.identity import Identity, is_proper_certificate, spki_digest


class PinMismatch(ConnectionError):
    """The server at a peer's address shows another key than the registry has for it."""


class TrustStore:
    """The node's two kinds of TLS context, and the certificates of its peers as they become known."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._certificates: dict[bytes, bytes] = {}
        self.server = self._context(ssl.PROTOCOL_TLS_SERVER)
        self.server.num_tickets = 0

    def certificate(self, pin: bytes) -> bytes | None:
        """Return the DER certificate whose key has the hash `pin`, once it is known."""
        return self._certificates.get(pin)

    def add(self, certificate: bytes) -> None:
        """Trust a certificate whose pin the caller has compared with the registry."""
        pin = spki_digest(certificate)
        if self._certificates.get(pin) != certificate:
            self._certificates[pin] = certificate
            self.server.load_verify_locations(cadata=certificate)

    def forget(self, pin: bytes) -> None:
        """Learn the certificate of this key again: the node may have made a new one around it."""
        self._certificates.pop(pin, None)

    def client(self, pin: bytes) -> ssl.SSLContext:
        """Return a context that connects to the holder of `pin` and to nobody else; raises `KeyError` if unknown."""
        context = self._context(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self._certificates[pin])
        return context

    def _context(self, side: int) -> ssl.SSLContext:
        context = _bare_context(side)
        context.verify_mode = ssl.CERT_REQUIRED
        self._identity.load_into(context)
        return context


async def fetch_certificate(host: str, port: int, pin: bytes) -> bytes:
    """Return the DER certificate that the server at an address shows, if its key is the pinned one.

    Raises `PinMismatch`, or what connecting raises (`OSError`); the caller sets the time limit.
    """
    context = _bare_context(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_mode = ssl.CERT_NONE
    _, writer = await asyncio.open_connection(host, port, ssl=context)
    certificate = peer_certificate(writer.get_extra_info)
    writer.transport.abort()
    if certificate is None or spki_digest(certificate) != pin:
        raise PinMismatch(f"{host}:{port} shows a key that is not the registered one")
    if not is_proper_certificate(certificate):
        raise PinMismatch(f"{host}:{port} shows a certificate with a name that is not its key's")
    return certificate


def peer_certificate(get_extra_info: Callable[[str], Any]) -> bytes | None:
    """Return the DER certificate the other side of a transport proved to hold the key of, or None."""
    ssl_object = get_extra_info("ssl_object")
    if ssl_object is None or ssl_object.version() != "TLSv1.3":
        return None
    certificate: bytes | None = ssl_object.getpeercert(binary_form=True)
    return certificate


def _bare_context(side: int) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the key is pinned; names prove nothing here
    return context
