"""Is this text signed by that account? EIP-191 for ordinary accounts, EIP-1271 for contract wallets.

Ordinary account: 65 bytes r || s || v over keccak256("\\x19Ethereum Signed Message:\\n" || length || text). The
signer is recovered and compared. v is 27 or 28; 0 and 1 are accepted too, because hardware wallets and older
libraries write them. s must be in the lower half: the high-s twin that anyone can compute is refused.

Contract wallet: the account's own code decides, `isValidSignature(hash, signature)`. That answer depends on the
chain's state, so it must be yes both at the finalised block (a wallet whose owners changed in a block that may still
vanish cannot log in yet) and at the newest (an owner removed a moment ago cannot log in any more). The ordinary check
comes first: an account that has both a key and code (EIP-7702) is still its key's.
"""

from __future__ import annotations

from eth_hash.auto import keccak

from keyquorum.algebra import ecdsa
from keyquorum.auth.errors import AuthError
from keyquorum.auth.method import At, Context
from keyquorum.auth.network import address_of, to_checksum

MAX_SIGNATURE_BYTES = 8192
_BOTH: tuple[At, At] = ("finalized", "latest")
_MAGIC = bytes.fromhex("1626ba7e")
_MAGIC_ANSWER = _MAGIC.ljust(32, b"\x00")


def message_hash(text: bytes) -> bytes:
    """Return the EIP-191 hash (version 0x45, personal message) of `text`."""
    return keccak(b"\x19Ethereum Signed Message:\n" + str(len(text)).encode() + text)


def recover(digest: bytes, signature: bytes) -> bytes:
    """Return the 20-byte address that signed `digest`; raise `AuthError` for any form but the one described above."""
    try:
        r, s, v = ecdsa.from_ethereum(signature)
        return address_of(ecdsa.recover(digest, r, s, v).to_bytes())
    except ValueError as error:
        raise _bad(str(error)) from error


async def check(address: bytes, text: bytes, signature: bytes, context: Context) -> bool:
    """Raise `AuthError` unless account `address` signed `text`; return whether a contract said so (EIP-1271).

    `signature` may have at most 8192 bytes, which the caller has checked.
    """
    digest = message_hash(text)
    try:
        if recover(digest, signature) == address:
            return False
        refusal = _bad("the signature is not by the account in the message")
    except AuthError as error:
        refusal = error
    account = to_checksum(address)
    if not await context.code(account, "latest"):
        raise refusal
    if not await context.code(account, "finalized"):
        raise AuthError(
            "wallet_not_final",
            "the contract wallet is not yet in a finalised block",
            "wait until its deployment is final, then log in",
        )
    data = _is_valid_signature(digest, signature)
    for at in _BOTH:
        if await context.call(account, data, at) != _MAGIC_ANSWER:
            raise AuthError(
                "wallet_refused",
                f"the contract wallet does not accept this signature (asked at the {at} block)",
                "sign with a current owner of the wallet; after a change of owners wait until it is final",
            )
    return True


def _is_valid_signature(digest: bytes, signature: bytes) -> bytes:
    """Encode the call isValidSignature(bytes32, bytes)."""
    padded = signature.ljust(-(-len(signature) // 32) * 32, b"\x00")
    return _MAGIC + digest + (64).to_bytes(32, "big") + len(signature).to_bytes(32, "big") + padded


def _bad(why: str) -> AuthError:
    return AuthError("bad_wallet_signature", why, "sign the exact message with personal_sign (EIP-191)")
