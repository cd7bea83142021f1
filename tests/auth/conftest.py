"""One network, one person and one session, made once; every test changes the one thing it is about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from coincurve import PrivateKey
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from keyquorum.algebra.curve import Point, generator_times
from keyquorum.algebra.rng import SeededRng
from keyquorum.auth import certificate, siwe
from keyquorum.auth.method import Context, Proven
from keyquorum.auth.network import network_id
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import Statement
from refusals import refused  # noqa: F401

NOW = 1_800_000_000
NETWORK_SECRET = 0x1234567890ABCDEF


@dataclass
class World:
    """What a test starts from: a statement for `session`, and how to sign things around it."""

    now: int
    network: str
    session: SessionPrivateKey
    account: LocalAccount
    statement: Statement
    context: Context
    network_key: Point

    @property
    def address(self) -> bytes:
        return bytes.fromhex(self.account.address[2:])

    def message(self, statement: Statement | None = None, /, **changes: Any) -> str:
        """The SIWE text for `statement`, fields changed as said, with nobody checking them."""
        text = siwe.build_message(statement or self.statement, self.address, "localhost", self.now)
        return replace(siwe.siwe_message.parse(text), **changes).format()

    def proof(self, message: str | None = None, signer: LocalAccount | None = None) -> dict[str, str]:
        """A signed proof, by eth-account as the wallet."""
        text = self.message() if message is None else message
        signed = (signer or self.account).sign_message(encode_defunct(text=text))
        return {"message": text, "signature": "0x" + bytes(signed.signature).hex()}

    def certify(self, signing_input: bytes, secret: int = NETWORK_SECRET) -> str:
        """What the nodes do together, done by one ordinary key."""
        compact = PrivateKey.from_int(secret).sign_recoverable(certificate.digest(signing_input), hasher=None)
        r, s = (int.from_bytes(compact[i : i + 32], "big") for i in (0, 32))
        return certificate.assemble(signing_input, r, s)

    def certificate(self, statement: Statement | None = None, *proven: Proven) -> certificate.Certificate:
        found = proven or (Proven(1, self.address, self.now),)
        token = self.certify(certificate.certificate_input(statement or self.statement, found))
        return certificate.verify(token, self.network, self.network_key, self.now)


@pytest.fixture(scope="session")
def world() -> World:
    session = SessionPrivateKey.generate(SeededRng("session"))
    network = network_id(31337, bytes(range(20)))
    return World(
        now=NOW,
        network=network,
        session=session,
        account=Account.from_key(b"\x42" * 32),
        statement=Statement(
            network=network,
            session=session.public,
            keys=("*",),
            scopes=(2, 3),
            expires=NOW + 3600,
            nonce="ab" * 16,
            block="0x" + "11" * 32,
        ),
        context=Context(now=NOW, block_time=NOW),
        network_key=generator_times(NETWORK_SECRET),
    )
