"""What is drawn at random, place by place: the line that draws, and a function that makes it draw once.

A function returns a tuple; each of its values is compared with the same one of a second call, made with the very same
arguments. What is no secret and decides nothing has a reason instead (`EXCUSED`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import msgspec

from dealer import DIGEST, SID, deal_inventories, deal_key
from keyquorum.algebra.curve import generator_times
from keyquorum.algebra.field import random_scalar, random_scalars
from keyquorum.algebra.rng import SystemRng
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.cli import local_network, ways
from keyquorum.cli.node_folder import NodeFolder
from keyquorum.client import session as sessions
from keyquorum.client.async_client import AsyncClient
from keyquorum.client.logins import Logins
from keyquorum.client.loopback import Loopback
from keyquorum.client.oauth import Pkce
from keyquorum.codes import secrets_file
from keyquorum.node.app import Node
from keyquorum.node.chain.chain_view import Member, Membership
from keyquorum.node.keymaking.ceremonies import Ceremonies
from keyquorum.node.keymaking.certification import Certification
from keyquorum.node.keymaking.identity_secret import IdentitySecret
from keyquorum.node.keymaking.minting_notices import Proposal, Start
from keyquorum.node.keymaking.workshop import POOL
from keyquorum.node.mesh import identity as identities
from keyquorum.node.mesh.identity import Identity
from keyquorum.node.mesh.mesh import Mesh
from keyquorum.node.settings.config import load
from keyquorum.node.storage import vault
from keyquorum.node.storage.store import Store
from keyquorum.protocols import base_ot, dkg, zero_share
from keyquorum.protocols.proofs import prove, prove_equal
from keyquorum.protocols.sign import Products, sign
from keyquorum.rounds.party import Party
from keyquorum.rounds.session import Session
from keyquorum.rounds.simulate import simulate
from ot_dealer import deal_pair
from rosters import roster

Draw = Callable[[], Any]
ROUTER = "0x" + "11" * 20
SOURCE = vault.KeySource("key-file", b"k" * 32)
CHEAP = vault.Cost(8, 1, 1)
IDENTITY = Identity(*identities._make_tls_key(), b"\x01" * 32)
SESSION_KEY = SessionPrivateKey(7)
KEYS = deal_key(4, 3)
MEMBERSHIP = Membership(1, 3, {j: Member(j, ROUTER, None, None, 1, bytes([j]) * 32) for j in range(1, 5)})


def folder() -> Path:
    return Path(tempfile.mkdtemp())


class Stop(Exception):
    """Enough was seen."""


# -- protocols --------------------------------------------------------------------------------------------------------


def party(me: int, parties: tuple[int, ...]) -> Party:
    return Party(me, parties, SID, SystemRng())


def sent(parties: tuple[int, ...], protocol: Callable[[Party], Any]) -> dict[int, bytes]:
    """What party 1 says, by round, in a run under the same session id with the same keys and correlations."""
    seen: dict[int, bytes] = {}

    def watch(envelope: Any, to: int) -> list[Any]:
        if envelope.sender == 1 and (envelope.to is None or to == 2):
            seen.setdefault(2 * envelope.round + (envelope.to is not None), envelope.payload)
        return [envelope]

    outcome = simulate({j: Session(party(j, parties), protocol(party(j, parties))) for j in parties}, 0, tamper=watch)
    assert not outcome.errors
    return seen


def signing() -> tuple[Any, ...]:
    """The nonces, the masks and the salt, as the second signer sees them: its correlations are the same each time."""
    signers = (1, 2, 3)
    pools = deal_inventories(signers, 2)
    seen = sent(signers, lambda p: sign(p, KEYS[p.me], [DIGEST, DIGEST[::-1][:31] + b"\x01"], pools[p.me]))
    message = Products.decode(seen[5], {"batch": 2})
    return (seen[2], *message.R, message.salt, *message.psi, *message.D_u)


def key_generation() -> tuple[Any, ...]:
    seen = sent((1, 2, 3), lambda p: dkg.generate(p, 2, 1))
    opening = dkg.Opening.decode(seen[4], {"batch": 1, "t": 2})
    return (seen[2], *opening.A[0], opening.K[0], opening.z[0], opening.salt, seen[5])


def chooser() -> tuple[Any, ...]:
    state, message = base_ot.choose(SID, 3, 8, SystemRng())
    return bytes(state.delta), *state.secrets, *(point for pair in state.sent for point in pair), message


_, OT_MESSAGE = base_ot.choose(SID, 3, 8, SystemRng())


def responder() -> tuple[Any, ...]:
    seeds, message = base_ot.respond(SID, 3, 8, SystemRng(), OT_MESSAGE)
    return (message, *(bytes(seeds.zeros[k]) for k in range(128)), *(bytes(seeds.ones[k]) for k in range(128)))


def extension() -> tuple[Any, ...]:
    _, receiver = deal_pair(1)
    _, request = receiver.request(0, 4, SystemRng())
    return (request,)


def multiplication() -> tuple[Any, ...]:
    sender, receiver = deal_pair(1)
    _, request = receiver.request(0, 4, cast(Any, SimpleNamespace(bytes=lambda count: b"\x05" * count)))
    mine, reply = sender.extend(0, 4, request, SystemRng())
    return (*mine.a_u, *mine.a_v, reply)


def scalar() -> tuple[Any, ...]:
    return (random_scalar(SystemRng()),)


def scalars_of_a_run() -> tuple[Any, ...]:
    found = random_scalars(SystemRng(), 8)
    assert len(set(found)) == 8
    return tuple(found)


def proofs() -> tuple[Any, ...]:
    X, P = generator_times(5), generator_times(9)
    one = prove(SystemRng(), 5, X, "context")
    other = prove_equal(SystemRng(), 5, X, P, generator_times(45), "context")
    return one.K, one.z, other.K, other.L, other.z


def zero_seed() -> tuple[Any, ...]:
    mine, commitment = zero_share.commit(SID, 1, 2, SystemRng())
    return mine.opening[:32], mine.opening[32:], commitment


# -- nodes ------------------------------------------------------------------------------------------------------------


def node_rng() -> tuple[Any, ...]:
    made = NodeFolder(folder())
    made.path.mkdir(exist_ok=True)
    settings = made.write_settings(rpc=["http://127.0.0.1:1"], router="0x" + "11" * 20)
    rng = Node(load(settings))._rng
    one, other = rng.bytes(32), rng.bytes(32)
    assert one != other
    return one, other


def boot_id() -> tuple[Any, ...]:
    """Of two starts of one node."""
    return (Mesh(1, "eip155:1:" + ROUTER, IDENTITY, {}).boot_id,)


def shop(**more: Any) -> Any:
    nothing = SimpleNamespace(check_room=lambda: None, pending_since=lambda *_: 0)
    values = {"me": 1, "rng": SystemRng(), "keys": nothing, "roster": SimpleNamespace(current=MEMBERSHIP)}
    return SimpleNamespace(**values | more)


async def answer_to_a_proposal() -> tuple[Any, ...]:
    def spawn(work: Any) -> None:
        work.close()

    follower = Ceremonies(shop(spawn=spawn), 1.0)
    follower.accept(2, b"r" * 16, Proposal(POOL, 2, 1), MEMBERSHIP)
    first = follower._nonces[b"r" * 16][1]
    follower.accept(2, b"r" * 16, Proposal(POOL, 2, 1), MEMBERSHIP)
    assert first != follower._nonces[b"r" * 16][1], "each proposal gets a nonce of its own"
    return (first,)


async def lead() -> tuple[Any, ...]:
    seen: list[Any] = []

    async def gather(*asked: Any) -> dict[int, bytes]:
        return dict.fromkeys((2, 3, 4), b"n" * 32)

    def notify(peer: int, topic: str, reference: bytes, payload: bytes) -> None:
        seen[:] = [reference, msgspec.msgpack.decode(payload, type=Start).nonces[1]]

    leader = Ceremonies(shop(gatherings=SimpleNamespace(gather=gather), notify=notify), 1.0)

    async def hold(*_: Any) -> None:
        raise Stop

    leader._hold = hold  # type: ignore[method-assign]
    with contextlib.suppress(Stop):
        await leader.lead(POOL, 2)
    return tuple(seen)


async def certification_nonce() -> tuple[Any, ...]:
    seen: list[Any] = []

    async def gather(topic: str, batch: bytes, others: list[int], what: str, payload: bytes) -> dict[int, bytes]:
        seen.append(payload)
        return {}

    async def read(*_: Any, **__: Any) -> int:
        return 1

    async def sign_batch(batch: bytes, ask: Any) -> None:
        await asyncio.sleep(0)
        raise Stop

    made = Certification(shop(gatherings=SimpleNamespace(gather=gather), view=SimpleNamespace(read=read)))
    made.sign_batch = sign_batch  # type: ignore[method-assign,assignment]
    with contextlib.suppress(Stop):
        await made._gather_signature(MEMBERSHIP, generator_times(3), b"b" * 32, [], [2, 3])
    return tuple(seen)


def identity_question() -> tuple[Any, ...]:
    seen: list[bytes] = []
    keys: Any = SimpleNamespace(load=lambda _: KEYS[1])
    service = IdentitySecret(
        roster(), keys, lambda p, t, r, q: bool(seen.append(r)) or True, lambda _: True, SystemRng()
    )
    service.tick(KEYS[1].public_key)
    assert len(set(seen)) == len(seen) > 1
    return tuple(seen)


def chain_key() -> tuple[Any, ...]:
    data = folder() / "data"
    store = Store.create(data, SOURCE)
    made = Identity.create(store, data)
    store.close()
    return (made.chain_key,)


def tls_password() -> tuple[Any, ...]:
    seen: list[bytes] = []

    class Context:
        def load_cert_chain(self, name: str, password: bytes) -> None:
            seen.append(password)

    IDENTITY.load_into(cast(ssl.SSLContext, Context()))
    return tuple(seen)


def key_file() -> tuple[Any, ...]:
    path = folder() / "store.key"
    vault.write_key_file(path)
    return (path.read_bytes(),)


def data_key() -> tuple[Any, ...]:
    _, sealed = vault.Vault.create(SOURCE, CHEAP)
    return (vault._unwrap(sealed, SOURCE),)


VAULT = vault.Vault(b"d" * 32)


def record() -> tuple[Any, ...]:
    """One text, encrypted by one key for one place."""
    return VAULT.encrypt(b"same", "place")[: vault.NONCE_BYTES], VAULT.encrypt(b"same", "place")


def wrapped() -> tuple[Any, ...]:
    """Salt and nonce of one data key under one passphrase: also in a second wrapping of the same."""
    box = msgspec.msgpack.decode(vault._wrap(b"d" * 32, SOURCE, CHEAP), type=vault.Sealed)
    return box.salt, box.nonce


# -- clients ----------------------------------------------------------------------------------------------------------


def request_id() -> tuple[Any, ...]:
    held = sessions.Session("eip155:1:" + ROUTER, "c", 9**9, ("*",), (1,), SESSION_KEY)
    token = held.ask("sessions", {}).sign([])["request"]
    return (sessions.read_certificate(token)["id"],)


def statement_nonce() -> tuple[Any, ...]:
    block = "0x" + "11" * 32
    return (sessions.new_statement("eip155:1:" + ROUTER, SESSION_KEY, ("*",), (1,), expires=9, block=block).nonce,)


async def login_key() -> tuple[Any, ...]:
    seen: list[Any] = []

    async def prove(statement: Any) -> Any:
        seen.append(statement.session.thumbprint)
        raise Stop

    async def value(*_: Any) -> Any:
        return "0x" + "11" * 32

    logins: Any = SimpleNamespace(
        facts=SimpleNamespace(id="eip155:1:" + ROUTER), _network_key=value, _recent_block=value
    )
    with contextlib.suppress(Stop):
        await Logins._open(logins, cast(Any, None), prove, ("*",), (1,), 60, 1, None)
    return tuple(seen)


async def mint_name() -> tuple[Any, ...]:
    seen: list[str] = []

    async def mint(asked: Any) -> None:
        seen.append(asked.request)

    client: Any = SimpleNamespace(_unfinished={}, _mint=mint)
    await AsyncClient.mint(client, "0x" + "11" * 20)
    return tuple(seen)


async def loopback() -> tuple[Any, ...]:
    async with Loopback() as server, aiohttp.ClientSession() as http, http.get(server.redirect_uri) as answer:
        policy = answer.headers["Content-Security-Policy"]
        return server.state, policy


def code_session() -> tuple[Any, ...]:
    terminal: Any = SimpleNamespace(client=SimpleNamespace(session=None), person=SimpleNamespace(tell=lambda _: None))
    way = ways._codes(terminal, {"codes": ["http://127.0.0.1:1"]}, "email", "ada@example.org")
    assert way.key is not None
    return (way.key.public.thumbprint,)


def account_key() -> tuple[Any, ...]:
    path = folder() / "account.key"
    return (local_network.LocalNetwork._key_file(cast(Any, None), path),)


def code_seed() -> tuple[Any, ...]:
    path = folder() / "issuer.key"
    made = secrets_file.create(path)
    return path.read_text(), made.public_key


NODE = "src/keyquorum/node/"
PROTOCOLS = "src/keyquorum/protocols/"
CLIENT = "src/keyquorum/client/"
DRAWS: dict[tuple[str, str], Draw] = {
    ("src/keyquorum/algebra/rng.py", "return os.urandom(count)"): lambda: (SystemRng().bytes(32),),
    ("src/keyquorum/algebra/field.py", "from_bytes_wrapping(rng.bytes("): scalar,
    ("src/keyquorum/algebra/field.py", "[random_scalar(rng) for _ in"): scalars_of_a_run,
    (PROTOCOLS + "sign.py", "r, phi = random_scalars(party.rng"): signing,
    (PROTOCOLS + "sign.py", "party.rng.bytes(SALT_BYTES)"): signing,
    (PROTOCOLS + "dkg.py", "f = [random_scalars(party.rng, t)"): key_generation,
    (PROTOCOLS + "dkg.py", "party.rng.bytes(SALT_BYTES)"): key_generation,
    (PROTOCOLS + "proofs.py", "k = random_scalar(rng)"): proofs,
    (PROTOCOLS + "base_ot.py", "delta = bytearray(rng.bytes("): chooser,
    (PROTOCOLS + "base_ot.py", "r_other = generator_times(random_scalar(rng))"): chooser,
    (PROTOCOLS + "base_ot.py", "t = random_scalar(rng)"): chooser,
    (PROTOCOLS + "base_ot.py", "a = random_scalar(rng), random_scalar(rng)"): responder,
    (PROTOCOLS + "ot_extension.py", "x = np.frombuffer(rng.bytes(length)"): extension,
    (PROTOCOLS + "multiply.py", "a = _random_scalars(rng, size)"): multiplication,
    (PROTOCOLS + "multiply.py", "wide = rng.bytes(size"): multiplication,
    (PROTOCOLS + "zero_share.py", "rng.bytes(OPENING_BYTES)"): zero_seed,
    (NODE + "app.py", "self._rng = SystemRng()"): node_rng,
    (NODE + "mesh/mesh.py", "self.boot_id = os.urandom(16)"): boot_id,
    (NODE + "keymaking/ceremonies.py", "reference = self._shop.rng.bytes(16)"): lead,
    (NODE + "keymaking/ceremonies.py", "nonces = {self._shop.me: self._shop.rng.bytes(32)"): lead,
    (NODE + "keymaking/ceremonies.py", "nonce = self._shop.rng.bytes(32)"): answer_to_a_proposal,
    (NODE + "keymaking/certification.py", "self._shop.rng.bytes(16))"): certification_nonce,
    (NODE + "keymaking/identity_secret.py", "reference = self._rng.bytes(REFERENCE_BYTES)"): identity_question,
    (NODE + "mesh/identity.py", "random_scalar(rng or SystemRng())"): chain_key,
    (NODE + "mesh/identity.py", "password = os.urandom(32)"): tls_password,
    (NODE + "mesh/identity.py", "ec.generate_private_key("): identities._make_tls_key,
    (NODE + "storage/vault.py", "file.write(os.urandom(KEY_BYTES)"): key_file,
    (NODE + "storage/vault.py", "data_key = os.urandom(KEY_BYTES)"): data_key,
    (NODE + "storage/vault.py", "nonce = os.urandom(NONCE_BYTES)"): record,
    (NODE + "storage/vault.py", "salt, nonce = os.urandom(16), os.urandom"): wrapped,
    ("src/keyquorum/auth/session_key.py", "data = (rng or SystemRng()).bytes(48)"): lambda: (
        SessionPrivateKey.generate().secret_bytes(),
    ),
    (CLIENT + "session.py", "request_id = secrets.token_urlsafe(24)"): request_id,
    (CLIENT + "session.py", "nonce = secrets.token_hex(16)"): statement_nonce,
    (CLIENT + "logins.py", "key = key or SessionPrivateKey.generate()"): login_key,
    (CLIENT + "async_client.py", "else secrets.token_urlsafe(24))"): mint_name,
    (CLIENT + "loopback.py", "self.state = secrets.token_urlsafe(32)"): loopback,
    (CLIENT + "loopback.py", "nonce = secrets.token_urlsafe(16)"): loopback,
    (CLIENT + "oauth.py", "secrets.token_urlsafe(48)"): lambda: (Pkce().verifier, Pkce().challenge),
    ("src/keyquorum/cli/ways.py", "SessionPrivateKey.generate()"): code_session,
    ("src/keyquorum/cli/local_network.py", "secrets.token_hex(32)"): account_key,
    ("src/keyquorum/codes/secrets_file.py", "seed = secrets.token_bytes(SEED_BYTES)"): code_seed,
}
# These need a service with a ledger, and are drawn in the test itself.
SERVICE = "src/keyquorum/codes/service.py"
CODES = {
    (SERVICE, "self._nobody = SessionPrivateKey.generate()"),
    (SERVICE, "name = to_base64url(secrets.token_bytes("),
    (SERVICE, "secrets.randbelow(10**self.config.digits)"),
    (SERVICE, "secrets.token_bytes(32)"),
}
JS = "src/keyquorum/web/js/"
PAGE = {
    (JS + "bytes.js", "crypto.getRandomValues("): "random bytes",
    (JS + "session.js", "crypto.subtle.generateKey("): "a session key",
    (JS + "session.js", "const id = toBase64url(random(18))"): "a request id",
    (JS + "statement.js", "nonce: toHex(random(16))"): "a statement's nonce",
    (JS + "oidc.js", "const state = toBase64url(random(24))"): "a provider's state",
    (JS + "passkey.js", "user: { id: toBase64url(random(16))"): "a passkey's user",
    (JS + "passkey.js", "challenge: toBase64url(random(32))"): "a passkey's challenge",
}
EXCUSED = {
    (NODE + "mesh/mesh.py", "pause * random.uniform(0.5, 1.0)"): "spreads out attempts to connect",
    (
        NODE + "keymaking/certification.py",
        "self._shop.rng.bytes(4))",
    ): "the order in which equal peers are asked",
    (NODE + "mesh/identity.py", "x509.random_serial_number()"): "nobody looks at the number of a certificate",
    ("src/keyquorum/auth/session_key.py", "def generate(cls, rng"): "its body is above",
    ("src/keyquorum/cli/state.py", "secrets.token_hex(4)"): "the name of a file that must not exist yet",
    ("src/keyquorum/cli/ports.py", "random.SystemRandom().sample("): "the order in which ports are tried",
    ("src/keyquorum/codes/smpp.py", "secrets.randbelow(256)"): "tells the parts of two messages to one phone apart",
    ("src/keyquorum/codes/secrets_file.py", "SessionPrivateKey.generate(_Once("): "derived from the seed",
    ("src/keyquorum/rounds/simulate.py", "self.rng.bytes(8)"): "the order of deliveries in a simulation",
    (PROTOCOLS + "multiply.py", "def _random_scalars(rng"): "its body is above",
    ("src/keyquorum/algebra/field.py", "def random_scalar"): "their bodies are above",
    (JS + "runs.js", "random(4).join()"): "the order in which equally good signers are asked",
    (JS + "bytes.js", "export const random"): "its body is above",
}
