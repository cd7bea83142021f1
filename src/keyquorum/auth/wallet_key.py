"""Login method `wallet-key`: an account signs the login statement itself, in a form that a device can show.

For keys that live in a device or in a program, where there is no web page and so no domain to check: a Ledger, a
command line, another contract. The statement is put into one of two forms with the same fields. `eip712` is typed
data, which devices show field by field; its domain names this purpose, the chain and the network's contract. `eip191`
is a text, for devices that show only texts. Both begin with the sentence of `siwe.grant_line` and name the account,
so that the owner of two contract wallets does not log in with one and mean the other. Times are words, not numbers.

The node builds the form again from the statement and takes nothing from the proof but account, signature and the time
of signing: what differs from the statement is simply not what was signed. The identity proven is the same as with
`siwe`, (1, the 20 bytes of the address). Spec: spec/auth.md "Self-custody key".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from eth_hash.auto import keccak

from keyquorum.auth import wallet_signature
from keyquorum.auth.method import ADDRESS_TYPE, Context, Proven
from keyquorum.auth.network import chain_id_of
from keyquorum.auth.siwe import grant_line, session_uri
from keyquorum.auth.siwe_message import to_time
from keyquorum.auth.statement import TIME, Statement
from keyquorum.auth.wallet_login import check_times, prove_account
from keyquorum.evm.address import from_checksum, to_checksum
from keyquorum.formats.strict_json import text
from keyquorum.formats.text import Rules, from_hex_up_to, read
from keyquorum.intents.eip712 import DOMAIN, DOMAIN_FIELDS, Hasher, Types
from keyquorum.refusal import malformed

FORMS = ("eip712", "eip191")
NAME, VERSION = "Keyquorum login", "1"
LOGIN = "Login"
_TYPES: Types = {
    DOMAIN: {name: DOMAIN_FIELDS[name] for name in ("name", "version", "chainId", "verifyingContract")},
    LOGIN: {
        "grant": "string",
        "account": "address",
        "network": "string",
        "session": "string",
        "keys": "string[]",
        "scopes": "uint256[]",
        "uses": "uint256",
        "issued": "string",
        "expires": "string",
        "nonce": "string",
        "block": "bytes32",
        "challenge": "bytes32",
    },
}
_PROOF: Rules = {"form": text(6), "address": text(42), "signature": str, "issued_at": TIME}


class WalletKey:
    """The method; see the head of this file."""

    name = "wallet-key"
    type_number = ADDRESS_TYPE
    settings_type = None
    summary = "an account signs the login statement itself, as typed data or as a text (Ledger; EIP-712, EIP-191)"
    proof_schema: Mapping[str, object] = {
        "type": "object",
        "required": ["form", "address", "signature", "issued_at"],
        "additionalProperties": False,
        "properties": {
            "form": {"enum": list(FORMS)},
            "address": {"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"},
            "signature": {"type": "string", "pattern": "^0x([0-9a-fA-F]{2})*$"},
            "issued_at": {"type": "integer", "minimum": 0},
        },
    }

    async def verify(self, proof: object, challenge: Statement, context: Context) -> Proven:
        """Return the account that signed exactly this statement; raise `Invalid` otherwise."""
        fields = read(proof, _PROOF, "the proof")
        # 3.8
        if fields["form"] not in FORMS:
            raise malformed("bad_form", f"the form of a proof is one of: {', '.join(FORMS)}")
        address = from_checksum(fields["address"], "the proof's address")
        signature = from_hex_up_to(fields["signature"], wallet_signature.MAX_SIGNATURE_BYTES, "the signature")
        # 3.9
        issued_at = fields["issued_at"]
        check_times(issued_at, issued_at, challenge, context.now)
        # 3.10, 3.11
        digest = digest_of(fields["form"], challenge, address, issued_at)
        return await prove_account(address, digest, signature, issued_at, challenge, context)


METHOD = WalletKey()


class TypedHashes(NamedTuple):
    """The two hashes that EIP-712 signs, 32 bytes each: what a device shows that cannot show the fields."""

    domain: bytes
    message: bytes


def digest_of(form: str, statement: Statement, address: bytes, issued_at: int) -> bytes:
    """Return the 32 bytes that the account `address` signs in the given form, one of `FORMS`."""
    if form == "eip191":
        return wallet_signature.message_hash(build_text(statement, address, issued_at).encode())
    return keccak(b"\x19\x01" + b"".join(typed_hashes(statement, address, issued_at)))


def build_text(statement: Statement, address: bytes, issued_at: int) -> str:
    """Return the text of form `eip191` for the account `address` (20 bytes), signed at `issued_at` (Unix seconds)."""
    fields = _fields(statement, issued_at)
    lines = {
        "Account": to_checksum(address),
        "Network": fields["network"],
        "Session": fields["session"],
        "Keys": " ".join(fields["keys"]),
        "Scopes": " ".join(map(str, fields["scopes"])) or "none",
        "Uses": fields["uses"],
        "Issued": fields["issued"],
        "Expires": fields["expires"],
        "Nonce": fields["nonce"],
        "Block": statement.block,
        "Challenge": f"0x{statement.challenge}",
    }
    said = "\n".join(f"{name}: {value}" for name, value in lines.items())
    return f"{NAME}, version {VERSION}\n\n{fields['grant']}\n\n{said}"


def build_typed_data(statement: Statement, address: bytes, issued_at: int) -> dict[str, Any]:
    """Return the typed data of form `eip712` as JSON for `eth_signTypedData_v4`."""
    domain = _domain(statement.network)
    message = _fields(statement, issued_at) | {
        "account": to_checksum(address),
        "block": statement.block,
        "challenge": f"0x{statement.challenge}",
    }
    return {
        "types": {
            struct: [{"name": name, "type": kind} for name, kind in fields.items()] for struct, fields in _TYPES.items()
        },
        "primaryType": LOGIN,
        "domain": domain | {"verifyingContract": to_checksum(domain["verifyingContract"])},
        "message": {name: message[name] for name in _TYPES[LOGIN]},
    }


def typed_hashes(statement: Statement, address: bytes, issued_at: int) -> TypedHashes:
    """Return the domain's and the message's hash of the same typed data."""
    hasher = Hasher(_TYPES)
    message = _fields(statement, issued_at) | {
        "account": address,
        "block": bytes.fromhex(statement.block[2:]),
        "challenge": bytes.fromhex(statement.challenge),
    }
    return TypedHashes(hasher.struct(DOMAIN, _domain(statement.network)), hasher.struct(LOGIN, message))


def _domain(network: str) -> dict[str, Any]:
    router = from_checksum(network.rsplit(":", 1)[1])
    return {"name": NAME, "version": VERSION, "chainId": chain_id_of(network), "verifyingContract": router}


def _fields(statement: Statement, issued_at: int) -> dict[str, Any]:
    """Return the fields that both forms show in the same words."""
    return {
        "grant": grant_line(statement),
        "network": statement.network,
        "session": session_uri(statement),
        "keys": list(statement.keys),
        "scopes": list(statement.scopes),
        "uses": statement.uses,
        "issued": to_time(issued_at),
        "expires": to_time(statement.expires),
        "nonce": statement.nonce,
    }
