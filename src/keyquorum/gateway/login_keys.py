"""What a mint request asks for: read from a verified certificate and request, before anything is spent.

`POST /v1/keys {"certificate", "request"}`: the certificate says who (its first method), the request (kind "mint", key
"*", signed by the session key) says which of his keys:

    {"another": null}                     the key of this login; asked again, also at once, it is the same key
    {"another": "savings"}                one more, by a word of one's own
    {..., "user_pubkey": "0x..."}         for passkeys: COSE key followed by credential id, which go onto the chain so
                                          that another device finds the key by the credential id

The method gets scopes 1 and 6: it signs everything that can be shown, and manages the key, which otherwise nobody
would: the key belongs to itself. Raw digests (scope 5) are never part of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from eth_abi.abi import encode
from eth_hash.auto import keccak

from keyquorum.auth import passkey
from keyquorum.auth.certificate import Certificate
from keyquorum.auth.request import NO_KEY, Request
from keyquorum.client.errors import Refused
from keyquorum.client.signup import MAX_LABEL, NO_LABEL, SCOPES, label_of
from keyquorum.formats.strict_json import fields, hex_bytes, text
from keyquorum.refusal import MALFORMED, NOT_PROVEN, malformed

MAX_USER_PUBKEY = 1024


@dataclass(frozen=True, slots=True)
class LoginKey:
    """One key of one login: method type and id, `user_pubkey` (empty but for passkeys), and 32 bytes of `label`."""

    type: int
    id: bytes
    user_pubkey: bytes = b""
    label: bytes = NO_LABEL

    @property
    def method_id(self) -> int:
        """The method's name in the contracts, `PKPPermissions.getAuthMethodId`."""
        return int.from_bytes(keccak(encode(["uint256", "bytes"], [self.type, self.id])), "big")

    def as_argument(self) -> tuple[int, bytes, bytes, list[int], bytes]:
        """Return the struct `PKPHelper.Login`."""
        return (self.type, self.id, self.user_pubkey, list(SCOPES), self.label)


def read_login_key(certificate: Certificate, request: Request, rp_id: str) -> LoginKey:
    """Return what a verified mint request asks for; raise `Invalid`, `BadJson` or `Refused`.

    `rp_id` is the relying party at which this gateway's users make passkeys.
    """
    if request.key != NO_KEY:
        raise malformed("bad_key", 'a request to mint names no key: "*"')
    if certificate.delegated:
        # A lent session is for what exists; whose key a new one would be is not the delegate's to say.
        raise Refused("delegated", "a delegate cannot ask for a key", "ask with the session itself")
    found = fields(request.intent, {"another": _word}, {"user_pubkey": hex_bytes(max_size=MAX_USER_PUBKEY)})
    first = certificate.methods[0]
    user_pubkey = found["user_pubkey"] or b""
    if first.type == passkey.PASSKEY_TYPE:
        public_key, credential_id = passkey.split_registration(user_pubkey)
        if passkey.identity(rp_id, credential_id, public_key) != first.id:
            hint = "send the key and the id of that passkey"
            raise Refused("wrong_passkey", "user_pubkey is not the passkey that logged in", hint, status=NOT_PROVEN)
    elif user_pubkey:
        raise Refused("bad_user_pubkey", "only passkeys have a user_pubkey", "leave it out", status=MALFORMED)
    return LoginKey(first.type, first.id, user_pubkey, label_of(found["another"]))


def _word(value: object) -> str | None:
    return None if value is None else str(text(MAX_LABEL, 1)(value))
