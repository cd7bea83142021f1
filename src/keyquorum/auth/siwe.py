"""Login method `siwe`: an Ethereum account signs a Sign-In with Ethereum message (EIP-4361).

The message is bound to the login statement from both sides: by machine, its nonce is the statement's challenge and
its URI names the session key; for the person, its statement line must be exactly the sentence of `grant_line`, so a
wallet shows what is granted and a page cannot dress a full grant up as a newsletter. Domain, chain and expiry must
agree, and resources, which other systems read as further grants, must be absent. Ordinary accounts sign with EIP-191;
contract wallets answer EIP-1271, through EIP-6492 also before they are deployed, and since nobody is told when their
owners change, their sessions last an hour at most. The identity proven is (1, the 20 bytes of the address). Spec:
spec/auth.md section 3.
"""

from __future__ import annotations

from collections.abc import Mapping

from keyquorum.auth import siwe_message, wallet_signature
from keyquorum.auth.method import ADDRESS_TYPE, Context, Proven
from keyquorum.auth.network import chain_id_of
from keyquorum.auth.scopes import WORDS, Scope
from keyquorum.auth.siwe_message import SiweMessage, from_time, to_time
from keyquorum.auth.statement import ALL_KEYS, Statement
from keyquorum.auth.wallet_login import check_times, prove_account
from keyquorum.formats.strict_json import text
from keyquorum.formats.text import Rules, from_hex_up_to, read
from keyquorum.refusal import Invalid

_PROOF: Rules = {"message": text(siwe_message.MAX_CHARACTERS), "signature": str}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Siwe:
    """The method; see the head of this file."""

    name = "siwe"
    type_number = ADDRESS_TYPE
    settings_type = None
    summary = "an Ethereum account signs a Sign-In with Ethereum message (EIP-4361; EIP-191, EIP-1271 or EIP-6492)"
    proof_schema: Mapping[str, object] = {
        "type": "object",
        "required": ["message", "signature"],
        "additionalProperties": False,
        "properties": {
            "message": {"type": "string", "maxLength": siwe_message.MAX_CHARACTERS},
            "signature": {"type": "string", "pattern": "^0x([0-9a-fA-F]{2})*$"},
        },
    }

    async def verify(self, proof: object, challenge: Statement, context: Context) -> Proven:
        """Return the account that signed the message for exactly this statement; raise `Invalid` otherwise."""
        fields = read(proof, _PROOF, "the proof")
        signature = from_hex_up_to(fields["signature"], wallet_signature.MAX_SIGNATURE_BYTES, "the signature")
        # 3.1
        message = siwe_message.parse(fields["message"])
        _check_origin(message, context)
        _check_grant(message, challenge)
        issued_at = _check_times(message, challenge, context.now)
        # 3.5, 3.6, 3.7
        digest = wallet_signature.message_hash(fields["message"].encode())
        return await prove_account(message.address, digest, signature, issued_at, challenge, context)


METHOD = Siwe()


def build_message(statement: Statement, address: bytes, domain: str, issued_at: int, scheme: str | None = None) -> str:
    """Return the text that the account `address` (20 bytes) must sign to log in with `statement` at `domain`.

    `issued_at` is in Unix seconds. Raises `Invalid` when the parts do not make a message that a node would read.
    """
    message = SiweMessage(
        scheme=scheme,
        domain=domain,
        address=address,
        statement=grant_line(statement),
        uri=session_uri(statement),
        chain_id=chain_id_of(statement.network),
        nonce=statement.challenge,
        issued_at=to_time(issued_at),
        expiration_time=to_time(statement.expires),
    ).format()
    siwe_message.parse(message)
    return message


def session_uri(statement: Statement) -> str:
    """Return the URI that names the statement's session key."""
    return f"keyquorum:session:{statement.session.thumbprint}"


def grant_line(statement: Statement) -> str:
    """Return the sentence that tells the person at the wallet what the statement grants."""
    if not statement.scopes:
        return "Open a Keyquorum session that only tells who I am. It may sign nothing."
    scopes = _listing([WORDS[Scope(number)] for number in statement.scopes])
    if statement.keys == (ALL_KEYS,):
        keys = "EVERY key that this account controls"
    else:
        keys = ("the key " if len(statement.keys) == 1 else "the keys ") + _listing(list(statement.keys))
    return f"Open a Keyquorum session that may {scopes}, with {keys}."


def _listing(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _check_origin(message: SiweMessage, context: Context) -> None:
    # 3.2
    if message.domain not in context.domains:
        raise Invalid(
            "wrong_domain",
            "the message is for a domain that this node does not accept",
            "log in at the gateway's own page, or ask the operator to allow the domain",
        )
    host = message.domain.rsplit(":", 1)[0] if message.domain not in _LOOPBACK else message.domain
    if message.scheme not in (None, "https") and not (message.scheme == "http" and host in _LOOPBACK):
        raise Invalid("wrong_scheme", "the message's scheme is not https", "log in over https (http on localhost)")


def _check_grant(message: SiweMessage, statement: Statement) -> None:
    # 3.3
    if message.chain_id != chain_id_of(statement.network):
        raise Invalid("wrong_chain", "the message is for another chain than the network's", _REBUILD)
    if message.nonce != statement.challenge:
        raise Invalid("wrong_challenge", "the message's nonce is not this statement's challenge", _REBUILD)
    if message.uri != session_uri(statement):
        raise Invalid("wrong_session", "the message's URI does not name this session key", _REBUILD)
    if message.statement != grant_line(statement):
        raise Invalid("wrong_words", "the message does not say in words what the statement grants", _REBUILD)
    if message.resources is not None:
        raise Invalid("unexpected_resources", "the message lists resources, which mean nothing here", _REBUILD)


_REBUILD = "build the message from the statement that you send with it"


def _check_times(message: SiweMessage, statement: Statement, now: int) -> int:
    """Return the issued-at time in Unix seconds."""
    # 3.4
    if message.expiration_time is None or from_time(message.expiration_time) != (statement.expires, True):
        raise Invalid("wrong_expiry", "the message's expiration time is not the statement's", _REBUILD)
    issued_at, _ = from_time(message.issued_at)
    not_before = issued_at if message.not_before is None else from_time(message.not_before)[0]
    check_times(issued_at, not_before, statement, now)
    return issued_at
