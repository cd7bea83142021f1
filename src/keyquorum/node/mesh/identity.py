"""Who the node is: a TLS key for the mesh and an Ethereum key for the chain, both encrypted in the store.

Other nodes know the TLS key by the SHA-256 of its SubjectPublicKeyInfo (`spki_digest`), which the registry on the chain
pins; the certificate around it is self-signed, says nothing else and never expires, because trust comes from the
registry alone. It is marked as no authority, so that it can vouch for no other certificate.

Python's `ssl` takes a private key only from a file. That file gets the key encrypted under a password that exists in
this process for the length of the call, and is removed again: plain text never reaches the disk.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import NameOID

from keyquorum.algebra import field as scalars
from keyquorum.algebra.rng import Rng, SystemRng
from keyquorum.evm.address import address_of_private, to_checksum
from keyquorum.node.storage.database import DAMAGED
from keyquorum.node.storage.store import Store, StoreError

TLS_KEY, TLS_CERTIFICATE, CHAIN_KEY = "tls-key", "tls-certificate", "chain-key"


class NoIdentity(ValueError):
    """The store holds no identity yet: `keyquorum node init` makes one."""


def spki_digest(certificate: bytes) -> bytes:
    """Return the 32-byte SHA-256 of the SubjectPublicKeyInfo in a DER certificate; raises `ValueError`."""
    return _spki(x509.load_der_x509_certificate(certificate).public_key())


def is_proper_certificate(certificate: bytes) -> bool:
    """Whether a DER certificate has the subject and issuer that belong to its key, and is no authority.

    OpenSSL finds trust anchors by subject: a node that used another node's subject would hide it from everybody.
    """
    parsed = x509.load_der_x509_certificate(certificate)
    subject = _subject(_spki(parsed.public_key()))
    try:
        constraints = parsed.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return parsed.subject == subject and parsed.issuer == subject and not constraints.ca


@dataclass(frozen=True)
class Identity:
    """A node's keys: `certificate` is DER, `tls_key` PKCS #8 DER, `chain_key` 32 bytes."""

    certificate: bytes = field(repr=False)
    tls_key: bytes = field(repr=False)
    chain_key: bytes = field(repr=False)
    folder: Path = field(default_factory=lambda: Path(tempfile.gettempdir()), repr=False)

    @classmethod
    def create(cls, store: Store, folder: Path, rng: Rng | None = None) -> Self:
        """Make both keys and store them; raises `ValueError` if the store has an identity."""
        chain_key = scalars.to_bytes(scalars.random_scalar(rng or SystemRng()))
        identity = cls(*_make_tls_key(), chain_key, folder)
        store.put_secrets({
            TLS_KEY: identity.tls_key, TLS_CERTIFICATE: identity.certificate, CHAIN_KEY: identity.chain_key,
        })  # fmt: skip
        return identity

    @classmethod
    def load(cls, store: Store, folder: Path) -> Self:
        """Read both keys; raises `NoIdentity`, `StoreError` or `ShareCorrupt` when they are not what was written."""
        certificate, tls_key, chain_key = (store.secret(name) for name in (TLS_CERTIFICATE, TLS_KEY, CHAIN_KEY))
        found = [part is not None for part in (certificate, tls_key, chain_key)]
        if any(found) and not all(found):
            raise StoreError("the store has lost a part of the node's identity", DAMAGED)
        if certificate is None or tls_key is None or chain_key is None:
            raise NoIdentity("the store holds no identity: run `keyquorum node init`")
        return cls(certificate, tls_key, chain_key, folder)

    @property
    def spki_digest(self) -> bytes:
        """The 32 bytes by which the registry and the other nodes know this node's TLS key."""
        return spki_digest(self.certificate)

    @property
    def address(self) -> str:
        """The checksummed Ethereum address of the node's chain key."""
        return to_checksum(address_of_private(self.chain_key))

    def load_into(self, context: ssl.SSLContext) -> None:
        """Give `context` the certificate and its private key."""
        password = os.urandom(32).hex().encode()
        key = serialization.load_der_private_key(self.tls_key, None)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password),
        )
        certificate = x509.load_der_x509_certificate(self.certificate).public_bytes(serialization.Encoding.PEM)
        handle, name = tempfile.mkstemp(prefix="tls-", dir=self.folder)  # mkstemp makes it 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(pem + certificate)
            context.load_cert_chain(name, password=password)
        finally:
            Path(name).unlink()


def _spki(key: CertificatePublicKeyTypes) -> bytes:
    encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).digest()


def _subject(pin: bytes) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"keyquorum node {pin[:16].hex()}")])


def _make_tls_key() -> tuple[bytes, bytes]:
    """Return a certificate and its P-256 key, which every TLS library and hardware token can do."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _subject(_spki(key.public_key()))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC))  # RFC 5280: no end
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.DER), private
