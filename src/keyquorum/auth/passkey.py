"""Login method `passkey`: a WebAuthn assertion (Web Authentication Level 3, section 7.2), verified by each node.

The assertion's challenge is the statement's, so a node that sees it can log in as nobody else. Origin and relying
party are compared with exact lists: a passkey made at the right page cannot be used by another one. The authenticator
must have seen its user (UP) and known that it was the right one (UV). The key is the one the identity was made from:

    id = H(passkey-id, rp id, credential id, COSE public key)

so a permission names credential *and* key, and whoever copies a credential id has nothing. There is no list of
registered credentials here: any passkey proves an identity, and the chain says what that identity may do.

The signature counter is ignored. Passkeys that are copied between devices always say 0, a node that was down would
have an old number, and a cloned authenticator is better answered by removing its permission. Of the time an assertion
states nothing; the certificate carries that of the statement's block. Spec: spec/auth.md, section "Passkey".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from keyquorum.algebra.transcript import Tag, tagged_hash
from keyquorum.auth.method import Context, Proven
from keyquorum.auth.provider import not_configured
from keyquorum.auth.statement import Statement
from keyquorum.formats import cose
from keyquorum.formats.strict_json import BadJson, loads, text
from keyquorum.formats.text import Rules, from_base64url, read
from keyquorum.refusal import Invalid, malformed

PASSKEY_TYPE = 3
MAX_CREDENTIAL_BYTES = 1023
MAX_CLIENT_DATA_BYTES = 4096
MAX_SIGNATURE_BYTES = 512
_AUTHENTICATOR_DATA_BYTES = 37
_USER_PRESENT, _USER_VERIFIED, _MAY_BE_COPIED, _IS_COPIED, _MORE_DATA = 0x01, 0x04, 0x08, 0x10, 0xC0
_LIMITS = {
    "public_key": cose.MAX_KEY_BYTES,
    "credential_id": MAX_CREDENTIAL_BYTES,
    "client_data_json": MAX_CLIENT_DATA_BYTES,
    "authenticator_data": _AUTHENTICATOR_DATA_BYTES,
    "signature": MAX_SIGNATURE_BYTES,
}
_CHARACTERS = {name: -(-limit * 4 // 3) for name, limit in _LIMITS.items()}
# The proof may bring longer authenticator data than is accepted, so that what is wrong with it can be said.
_CHARACTERS["authenticator_data"] = 1024
_PROOF: Rules = {name: text(length, 1) for name, length in _CHARACTERS.items()}
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*"
_PORT = r"(?::([1-9][0-9]{0,4}))?"
_RP_ID = re.compile(_HOST)
_WEB = re.compile(rf"(?:(https)://{_HOST}|(http)://(?:{_HOST}\.)?localhost){_PORT}")
# What Android says for an app (the SHA-256 of its certificate), and Chrome for an extension (its id).
_APP = re.compile(r"android:apk-key-hash:[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]|chrome-extension://[a-p]{32}")
_USUAL_PORTS = {"https": 443, "http": 80}
MAX_PORT = 65535


def is_origin(text: str) -> bool:
    """Say whether some client writes this origin in an assertion: a page, an Android app, a Chrome extension.

    Pages are https, or http on this machine (`localhost` and names under it). A scheme's usual port is never written.
    """
    found = _WEB.fullmatch(text)
    if found is None:
        return _APP.fullmatch(text) is not None
    port = int(found[3] or 1)
    return port <= MAX_PORT and port != _USUAL_PORTS[found[1] or found[2]]


class PasskeySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `[auth.passkey]`: at which relying parties and pages people may log in with a passkey.

    `rp_ids` are domains ("wallet.example"), `origins` pages as a browser writes them ("https://wallet.example",
    "http://localhost:7480"), Android apps ("android:apk-key-hash:" and 43 characters) and Chrome extensions: compared
    letter for letter, never as a prefix or suffix.
    """

    rp_ids: tuple[str, ...]
    origins: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.rp_ids or not all(_RP_ID.fullmatch(each) for each in self.rp_ids):
            raise ValueError("rp_ids must be domain names in lower case")
        if not self.origins or not all(map(is_origin, self.origins)):
            raise ValueError(
                "origins are https://host[:port] or http://localhost[:port], without a path and without the usual port"
                " (443, 80), android:apk-key-hash:<43 characters>, or chrome-extension://<id>"
            )


class Passkey:
    """The method; see the head of this file."""

    name = "passkey"
    type_number = PASSKEY_TYPE
    settings_type = PasskeySettings
    summary = "a passkey: a WebAuthn assertion with user verification (ES256, EdDSA or RS256)"
    proof_schema: Mapping[str, object] = {
        "type": "object",
        "required": list(_LIMITS),
        "additionalProperties": False,
        "properties": {
            name: {"type": "string", "maxLength": length, "pattern": "^[A-Za-z0-9_-]+$"}
            for name, length in _CHARACTERS.items()
        },
    }

    async def verify(self, proof: object, challenge: Statement, context: Context) -> Proven:
        """Return the passkey that signed exactly this statement; raise `Invalid` otherwise."""
        settings = context.settings
        if not isinstance(settings, PasskeySettings):
            raise not_configured(self.name, "passkeys: it knows no page they could be used at")
        # P.1
        parts = {name: from_base64url(value, name) for name, value in read(proof, _PROOF, "the proof").items()}
        check_signature = _read_key(parts["public_key"])
        _check_client_data(parts["client_data_json"], challenge, settings)
        rp_id = _check_authenticator_data(parts["authenticator_data"], settings)
        # P.8
        signed = parts["authenticator_data"] + hashlib.sha256(parts["client_data_json"]).digest()
        if not check_signature(signed, parts["signature"]):
            raise Invalid(
                "bad_passkey_signature",
                "the passkey with this public key did not sign this",
                "send the assertion as the browser gave it, with the public key of the credential that made it",
            )
        # P.9
        name = identity(rp_id, parts["credential_id"], parts["public_key"])
        return Proven(PASSKEY_TYPE, name)


METHOD = Passkey()


def identity(rp_id: str, credential_id: bytes, public_key: bytes) -> bytes:
    """Return the 32 bytes that stand for a passkey in the permission contract; `public_key` is its COSE key."""
    return tagged_hash(Tag.PASSKEY_ID, rp_id, credential_id, public_key)


def split_registration(user_public_key: bytes) -> tuple[bytes, bytes]:
    """Return (COSE key, credential id) of what a permission on the chain carries: the one followed by the other.

    Raises `Invalid` when it is neither, so that an index of registrations holds only what could log in.
    """
    try:
        length = cose.key_length(user_public_key)
        public_key, credential_id = user_public_key[:length], user_public_key[length:]
        cose.verifier(public_key)
    except cose.BadKey as error:
        raise malformed("bad_passkey", f"the public key is not accepted: {error}") from error
    if not 1 <= len(credential_id) <= MAX_CREDENTIAL_BYTES:
        raise malformed("bad_passkey", f"a credential id has 1 to {MAX_CREDENTIAL_BYTES} bytes")
    return public_key, credential_id


def _read_key(public_key: bytes) -> cose.Check:
    # P.2
    try:
        return cose.verifier(public_key)
    except cose.BadKey as error:
        raise malformed("bad_passkey", f"the public key is not accepted: {error}") from error


def _check_client_data(data: bytes, statement: Statement, settings: PasskeySettings) -> None:
    # P.3
    client = _client_data(data)
    if client.get("type") != "webauthn.get":
        raise Invalid("wrong_ceremony", "the passkey was not asked to log in", "use navigator.credentials.get()")
    # P.4
    challenge = client.get("challenge")
    if not isinstance(challenge, str) or from_base64url(challenge, "the challenge").hex() != statement.challenge:
        raise Invalid(
            "wrong_challenge",
            "the passkey signed the challenge of another statement",
            "ask the passkey to sign the 32 bytes of this statement's challenge",
        )
    # P.5
    if client.get("origin") not in settings.origins:
        raise Invalid(
            "wrong_origin",
            "the passkey was used at a page that this node does not accept",
            "log in at the gateway's own page, or ask the operator to allow the origin",
        )
    if client.get("crossOrigin", False) is not False or "topOrigin" in client:
        raise Invalid(
            "cross_origin", "the passkey was used inside a frame of another page", "log in at the page itself"
        )


def _client_data(data: bytes) -> dict[str, Any]:
    try:
        client = loads(data, MAX_CLIENT_DATA_BYTES, max_depth=4)
    except BadJson as error:
        raise malformed("bad_passkey", f"the client data is not JSON: {error}") from error
    if not isinstance(client, dict):
        raise malformed("bad_passkey", "the client data is not a JSON object")
    return client


def _check_authenticator_data(data: bytes, settings: PasskeySettings) -> str:
    """Return the relying party id that the authenticator signed for."""
    # P.6
    if len(data) != _AUTHENTICATOR_DATA_BYTES or data[32] & _MORE_DATA:
        raise malformed("bad_passkey", "an assertion's authenticator data has 37 bytes: ask for no extensions")
    hashes = {hashlib.sha256(rp_id.encode()).digest(): rp_id for rp_id in settings.rp_ids}
    rp_id = hashes.get(data[:32])
    if rp_id is None:
        raise Invalid(
            "wrong_rp_id",
            "the passkey belongs to a relying party that this node does not accept",
            "use the rp id that the gateway names",
        )
    # P.7
    flags = data[32]
    if not flags & _USER_PRESENT:
        raise Invalid("user_not_present", "nobody touched the authenticator", _ASK_FOR_VERIFICATION)
    if not flags & _USER_VERIFIED:
        raise Invalid("user_not_verified", "the authenticator did not check who touched it", _ASK_FOR_VERIFICATION)
    if flags & _IS_COPIED and not flags & _MAY_BE_COPIED:
        raise malformed("bad_passkey", "the authenticator says that a key which cannot be copied was copied")
    return rp_id


_ASK_FOR_VERIFICATION = 'ask the passkey with userVerification "required"'
