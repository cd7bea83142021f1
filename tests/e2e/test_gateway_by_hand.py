"""The gateway with nothing of ours on the client's side: urllib, json, hashlib, an ECDSA library and a wallet.

This is the whole client that any language needs: a login (Sign-In with Ethereum for a fresh P-256 key), a mint, a
signature; one HTTP call each. The certificate and the signature are then verified with OpenSSL and eth-account.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data

from keyquorum.cli.local_network import LocalNetwork

GRANT = (
    "Open a Keyquorum session that may sign any message, transaction or typed data, "
    "with EVERY key that this account controls."
)


def call(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def tagged_hash(tag: str, *values: Any) -> bytes:
    """spec/transcript: type, 8-byte length, content; lists inside lists."""

    def encode(value: Any) -> bytes:
        if isinstance(value, bytes):
            kind, content = b"b", value
        elif isinstance(value, str):
            kind, content = b"s", value.encode()
        elif isinstance(value, int):
            kind, content = b"i", value.to_bytes((value.bit_length() + 7) // 8, "big")
        else:
            kind, content = b"l", b"".join(map(encode, value))
        return kind + len(content).to_bytes(8, "big") + content

    return hashlib.sha256(b"".join(map(encode, (tag, *values)))).digest()


@dataclass
class Hand:
    """A client in forty lines."""

    gateway: str
    wallet: Any = field(default_factory=Account.create)

    def __post_init__(self) -> None:
        self.network = call(self.gateway + "/network.json")
        self.session = ec.generate_private_key(ec.SECP256R1())
        numbers = self.session.public_key().public_numbers()
        self.x, self.y = (n.to_bytes(32, "big") for n in (numbers.x, numbers.y))
        self.jwk = {"crv": "P-256", "kty": "EC", "x": b64(self.x), "y": b64(self.y)}

    def login(self) -> str:
        scopes = [1]
        query = {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["latest", False]}
        block = call(self.network["rpc"], query)["result"]["parentHash"]
        issued, expires, nonce = int(time.time()), int(time.time()) + 600, secrets.token_hex(16)
        statement = {
            "network": self.network["network"], "session": self.jwk, "keys": ["*"], "scopes": scopes,
            "expires": expires, "nonce": nonce, "block": block, "uses": 10,
        }  # fmt: skip
        challenge = tagged_hash(
            "keyquorum/1/auth/login-challenge", self.network["network"], self.x, self.y, ["*"], scopes, expires,
            bytes.fromhex(nonce), bytes.fromhex(block[2:]), 10,
        ).hex()  # fmt: skip
        name = b64(hashlib.sha256(json.dumps(self.jwk, separators=(",", ":")).encode()).digest())
        message = "\n".join([
            "localhost wants you to sign in with your Ethereum account:", self.wallet.address, "",
            GRANT, "",
            f"URI: keyquorum:session:{name}", "Version: 1", f"Chain ID: {self.network['network'].split(':')[1]}",
            f"Nonce: {challenge}", f"Issued At: {stamp(issued)}", f"Expiration Time: {stamp(expires)}",
        ])  # fmt: skip
        signature = self.wallet.sign_message(encode_defunct(text=message)).signature.to_0x_hex()
        proof = {"message": message, "signature": signature}
        intent = {"statement": statement, "method": "siwe", "proof": proof}
        request = self.request("login", challenge, "*", intent)
        self.certificate: str = call(self.gateway + "/v1/sessions", {"request": request})["certificate"]
        return self.certificate

    def request(self, kind: str, name: str, key: str, intent: dict[str, Any]) -> str:
        """Sign a request; any sets of `threshold` nodes may serve it, at most eight."""
        status = call(self.gateway + "/v1/network")
        parties = sorted(node["party"] for node in status["nodes"])
        runs = list(map(list, combinations(parties, status["threshold"])))[:8]
        payload = {
            "network": self.network["network"], "id": name, "exp": int(time.time()) + 50, "kind": kind, "key": key,
            "intent": intent, "runs": runs,
        }  # fmt: skip
        header = {"alg": "ES256", "typ": "keyquorum-request+jws"}
        signing_input = ".".join(b64(json.dumps(part).encode()) for part in (header, payload))
        der = self.session.sign(signing_input.encode(), ec.ECDSA(hashes.SHA256()))
        signature = b"".join(n.to_bytes(32, "big") for n in utils.decode_dss_signature(der))
        return f"{signing_input}.{b64(signature)}"

    def sign(self, token_id: str, intent: dict[str, Any]) -> Any:
        request = self.request("sign", secrets.token_urlsafe(24), token_id, intent)
        return call(self.gateway + "/v1/sign", {"certificate": self.certificate, "request": request})


def stamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_any_language_can_log_in_mint_and_sign_by_one_call_each(network: LocalNetwork) -> None:
    hand = Hand(network.gateway_url)
    minted = call(network.gateway_url + "/v1/keys", {"owner": hand.wallet.address, "request": secrets.token_hex(16)})
    assert set(minted) == {"token_id", "public_key", "address", "relay", "transaction"}
    certificate = hand.login()
    check_certificate(certificate, call(network.gateway_url + "/v1/network")["network_key"], hand)

    answer = hand.sign(minted["token_id"], {"kind": "evm-message", "message": "by hand"})
    assert set(answer) == {"signature", "summary", "digest", "public_key"}
    assert set(answer["signature"]) == {"r", "s", "v", "compact"}
    compact = answer["signature"]["compact"]
    assert Account.recover_message(encode_defunct(text="by hand"), signature=compact) == minted["address"]

    mail = {
        "types": {"EIP712Domain": [{"name": "name", "type": "string"}], "Mail": [{"name": "text", "type": "string"}]},
        "primaryType": "Mail", "domain": {"name": "Post"}, "message": {"text": "hello"},
    }  # fmt: skip
    compact = hand.sign(minted["token_id"], {"kind": "evm-typed-data", "typed_data": mail})["signature"]["compact"]
    assert Account.recover_message(encode_typed_data(full_message=mail), signature=compact) == minted["address"]


def check_certificate(token: str, network_key: str, hand: Hand) -> None:
    header, payload, signature = token.split(".")
    assert json.loads(unb64(header)) == {"alg": "ES256K", "typ": "keyquorum-session+jwt"}
    claims = json.loads(unb64(payload))
    assert claims["cnf"] == {"jwk": hand.jwk}
    assert claims["methods"] == [{"type": 1, "id": hand.wallet.address.lower()}]
    raw = unb64(signature)
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), bytes.fromhex(network_key[2:]))
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    key.verify(utils.encode_dss_signature(r, s), f"{header}.{payload}".encode(), ec.ECDSA(hashes.SHA256()))
