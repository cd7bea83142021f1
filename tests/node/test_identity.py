"""The node's two keys: stored encrypted, shown to nobody, and a certificate that cannot pass for another node's."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from node_world import SOURCE, make_identity

from keyquorum.node.mesh import identity as identities
from keyquorum.node.mesh.identity import Identity, NoIdentity, is_proper_certificate, spki_digest
from keyquorum.node.storage.store import Store


def test_an_identity_is_the_same_after_a_restart(tmp_path: Path) -> None:
    store = Store.create(tmp_path, SOURCE)
    made = Identity.create(store, tmp_path)
    store.close()
    store = Store(tmp_path, SOURCE)
    assert Identity.load(store, tmp_path) == made
    assert len(made.spki_digest) == 32 and made.address.startswith("0x")
    with pytest.raises(ValueError, match="already"):
        Identity.create(store, tmp_path)
    assert Identity.load(store, tmp_path) == made
    store.close()


def test_a_store_without_identity_says_what_to_do(tmp_path: Path) -> None:
    store = Store.create(tmp_path, SOURCE)
    with pytest.raises(NoIdentity, match="node init"):
        Identity.load(store, tmp_path)
    store.close()


def test_no_key_stands_in_the_files_or_in_the_repr(tmp_path: Path) -> None:
    store = Store.create(tmp_path, SOURCE)
    made = Identity.create(store, tmp_path)
    made.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    key = serialization.load_der_private_key(made.tls_key, None)
    number = key.private_numbers().private_value.to_bytes(32, "big")  # type: ignore[union-attr]
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        for secret in (number, made.chain_key, made.tls_key):
            assert secret not in content and secret.hex().encode() not in content, path
    assert repr(made) == "Identity()"
    store.close()


def test_the_key_reaches_the_tls_library_through_an_encrypted_file_that_is_gone_afterwards(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    class Context:
        def load_cert_chain(self, name: str, password: bytes) -> None:
            path = Path(name)
            seen.update(content=path.read_bytes(), mode=stat.S_IMODE(path.stat().st_mode), password=password)
            raise RuntimeError("whatever happens")

    made = Identity(*identities._make_tls_key(), b"\x01" * 32, tmp_path)
    with pytest.raises(RuntimeError):
        made.load_into(Context())  # type: ignore[arg-type]
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in seen["content"]
    assert seen["content"].count(b"PRIVATE KEY") == 2
    assert seen["mode"] == 0o600
    assert len(seen["password"]) == 64
    assert list(tmp_path.iterdir()) == []


def test_the_pin_is_the_hash_of_the_public_key_and_of_nothing_else() -> None:
    made = make_identity()
    key = serialization.load_der_private_key(made.tls_key, None)
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(public)
    assert spki_digest(made.certificate) == made.spki_digest == digest.finalize()


def certificate(made: Identity, subject: x509.Name, issuer: x509.Name, ca: bool | None) -> bytes:
    key = serialization.load_der_private_key(made.tls_key, None)
    old = x509.load_der_x509_certificate(made.certificate)
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(old.public_key())
        .serial_number(7).not_valid_before(old.not_valid_before_utc).not_valid_after(old.not_valid_after_utc)
    )  # fmt: skip
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)  # type: ignore[arg-type]


def test_a_certificate_with_the_name_of_another_node_is_not_proper() -> None:
    made, other = make_identity(), make_identity()
    own = x509.load_der_x509_certificate(made.certificate).subject
    foreign = x509.load_der_x509_certificate(other.certificate).subject
    longer = x509.Name([*own, x509.NameAttribute(NameOID.ORGANIZATION_NAME, "x")])
    assert own != foreign
    assert is_proper_certificate(made.certificate)
    assert is_proper_certificate(certificate(made, own, own, False))
    for subject, issuer, ca in (
        (foreign, foreign, False), (own, foreign, False), (longer, longer, False), (own, own, True), (own, own, None),
    ):  # fmt: skip
        assert not is_proper_certificate(certificate(made, subject, issuer, ca))
