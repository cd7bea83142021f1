"""Strangers at the ports of a running node (T26, T27): they get nothing, and cost others nothing.

The mesh admits the registered nodes by their TLS keys. The positive control plays one of them, with its real key from a
copy of its store: the same knock that is refused to everybody else is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from live import Live, check_message, resident_bytes
from secrets_search import identity_of

from keyquorum.client.results import Key
from keyquorum.node.mesh.identity import Identity
from keyquorum.node.settings.config import LimitsSection

KNOCK = (
    b"GET /mesh HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
VICTIM, PLAYED = 2, 1
MAX_RESIDENT = 250 << 20
FOUR_GIB = 1 << 32


@contextlib.asynccontextmanager
async def unaffected(live: Live, signatures: int = 3) -> AsyncIterator[None]:
    """Whatever happens inside: links and stocks stay, and the network signs, meanwhile and afterwards."""
    key = (await live.client.mint()).key
    await sign_some(live, key, signatures)
    await live.stock()
    links = [await live.metric(party, "peers_up") for party in live.network.nodes]
    boot = [live.network.pid(f"node-{party}") for party in live.network.nodes]
    yield
    await sign_some(live, key, signatures)
    assert [await live.metric(party, "peers_up") for party in live.network.nodes] == links == [3.0] * 4
    assert [live.network.pid(f"node-{party}") for party in live.network.nodes] == boot
    await live.network.wait_ready()


async def sign_some(live: Live, key: Key, count: int) -> None:
    for number in range(count):
        check_message(key, f"{number}", await live.client.sign_message(key, f"{number}"))


def context(certificate: bytes | None = None, key: bytes | None = None) -> ssl.SSLContext:
    """A client that believes anybody; certificate and key in PEM."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    if certificate is not None and key is not None:
        import tempfile

        with tempfile.NamedTemporaryFile() as file:
            file.write(key + certificate)
            file.flush()
            made.load_cert_chain(file.name)
    return made


def self_signed(subject: x509.Name | None = None) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = subject or x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "keyquorum node")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), private


async def knock(port: int, tls: ssl.SSLContext | None) -> bytes:
    """Ask for a WebSocket; return what comes back until the connection ends, nothing when there is none."""
    try:
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
            try:
                writer.write(KNOCK)
                return await reader.read(4096)
            finally:
                writer.transport.abort()
    except OSError:
        return b""


def shown_certificate(port: int) -> x509.Certificate:
    """The certificate that a node shows to everybody: public, and without its key worth nothing."""
    with socket.create_connection(("127.0.0.1", port), 10) as raw, context().wrap_socket(raw) as tls:
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def played(live: Live, party: int) -> ssl.SSLContext:
    identity: Identity = identity_of(live.network.folder, party)
    made = context()
    identity.load_into(made)
    return made


async def test_the_knock_of_a_registered_node_is_answered(live: Live) -> None:
    """The control: that the others are refused is because of who they are."""
    async with unaffected(live):
        answer = await knock(live.mesh_port(VICTIM), played(live, PLAYED))
        assert answer.startswith(b"HTTP/1.1 101")


async def test_strangers_are_refused_at_the_mesh_port(live: Live) -> None:
    port = live.mesh_port(VICTIM)
    seen = await asyncio.to_thread(shown_certificate, live.mesh_port(PLAYED))
    old = context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    identity = played(live, PLAYED)
    identity.maximum_version = ssl.TLSVersion.TLSv1_2
    strangers = {
        "plain HTTP": None,
        "no certificate": context(),
        "TLS 1.2": old,
        "TLS 1.2 with a registered key": identity,
        "a certificate of its own": context(*self_signed()),
        "the name of a registered node": context(*self_signed(seen.subject)),
        "a registered node that dials in the wrong direction": played(live, 3),
    }
    async with unaffected(live):
        for name, tls in strangers.items():
            assert await knock(port, tls) == b"", name


async def test_another_nodes_certificate_is_of_no_use_without_its_key(live: Live) -> None:
    """OpenSSL does not even load the pair; shown as a part of a chain, the certificate proves nothing."""
    seen = await asyncio.to_thread(shown_certificate, live.mesh_port(PLAYED))
    certificate = seen.public_bytes(serialization.Encoding.PEM)
    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        context(certificate, self_signed()[1])
    own, key = self_signed(seen.subject)
    async with unaffected(live):
        assert await knock(live.mesh_port(VICTIM), context(own + certificate, key)) == b""


async def test_a_peer_that_announces_four_gib_is_dropped(live: Live) -> None:
    async with unaffected(live):
        assert await claim_four_gib_as_a_peer(live.mesh_port(VICTIM), played(live, PLAYED)) == b"closed"
        assert resident_bytes(live.network.pid(f"node-{VICTIM}")) < MAX_RESIDENT


async def test_idle_and_slow_connections_and_boundless_claims_cost_little(live: Live) -> None:
    """T27, scaled."""
    mesh, api = live.mesh_port(VICTIM), int(live.network.nodes[VICTIM].rpartition(":")[2])
    hello = client_hello()
    open_ones: list[asyncio.StreamWriter] = []

    async def connect(port: int, first: bytes = b"") -> asyncio.StreamReader | None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(first)
        except OSError:
            return None
        open_ones.append(writer)
        return reader

    async def slowly(writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            for byte in hello[20:40]:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.05)

    async with unaffected(live, signatures=10):
        await asyncio.gather(*(connect(mesh) for _ in range(300)))
        await asyncio.gather(*(connect(mesh, hello[:20]) for _ in range(50)))
        slow = [asyncio.create_task(slowly(writer)) for writer in open_ones[-50:]]
        await asyncio.gather(*(connect(api) for _ in range(100)))
        await asyncio.gather(*(connect(api, b"POST /v1/sign HTTP/1.1\r\nHost: x\r\n") for _ in range(100)))
        post = b"POST /v1/sign HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        await connect(api, post + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n")
        claim = await connect(api, post + b"Content-Length: %d\r\n\r\n" % FOUR_GIB)
        assert claim is not None
        assert b" 413 " in await asyncio.wait_for(claim.readline(), 20)
        key = (await live.client.mint()).key
        await sign_some(live, key, 20)
        assert resident_bytes(live.network.pid(f"node-{VICTIM}")) < MAX_RESIDENT
        await asyncio.gather(*slow)
        for writer in open_ones:
            writer.transport.abort()
    assert resident_bytes(live.network.pid(f"node-{VICTIM}")) < MAX_RESIDENT


async def test_no_more_http_connections_are_held_than_the_settings_say(live: Live) -> None:
    port = int(live.network.nodes[VICTIM].rpartition(":")[2])
    held: list[asyncio.StreamWriter] = []

    async def hold() -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        held.append(writer)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"}")
        return reader

    try:
        # Every newcomer is answered, and takes the place of one that idles.
        readers = [await hold() for _ in range(LimitsSection().connections + 40)]
        for reader in readers[:40]:
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 20) == b""
    finally:
        for writer in held:
            writer.transport.abort()


def client_hello() -> bytes:
    """The first flight of a TLS handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context().wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


async def claim_four_gib_as_a_peer(port: int, tls: ssl.SSLContext) -> bytes:
    """Be let in as a registered node, and announce one WebSocket frame of 4 GiB."""
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        try:
            writer.write(KNOCK)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            writer.write(b"\x82\xff" + struct.pack("!Q", FOUR_GIB) + os.urandom(4) + os.urandom(1 << 16))
            with contextlib.suppress(ConnectionError):
                while await reader.read(65536):
                    pass
            return b"closed"
        finally:
            writer.transport.abort()
