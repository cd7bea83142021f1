"""Is this digest signed by that account? ECDSA for ordinary accounts, EIP-1271 and EIP-6492 for contract wallets.

Ordinary account: 65 bytes r || s || v over the digest (EIP-191 or EIP-712, the caller's business). The signer is
recovered and compared. v is 27 or 28; 0 and 1 are accepted too, because hardware wallets and older libraries write
them. s must be in the lower half: the high-s twin that anyone can compute is refused.

Contract wallet: the account's own code decides, `isValidSignature(hash, signature)`. That answer depends on the
chain's state, so it must be yes both at the finalised block (a wallet whose owners changed in a block that may still
vanish cannot log in yet) and at the newest (an owner removed a moment ago cannot log in any more). The ordinary check
comes first: an account that has both a key and code (EIP-7702) is still its key's.

Wallet that is not deployed yet (EIP-6492): the signature is wrapped together with the factory call that would deploy
it, and ends in 32 magic bytes, which is looked for before anything else. Where the wallet has code, its code is
asked with the inner signature; where it has none, a probe contract calls the factory and then asks, inside a call that
changes nothing. One part of the standard is left out: a wallet that exists and says no is not asked again after a
"prepare" call by a stranger, since what counts is what the chain says, not what it could be made to say.
"""

from __future__ import annotations

from dataclasses import dataclass

from eth_hash.auto import keccak

from keyquorum.algebra import ecdsa
from keyquorum.auth.method import At, Context
from keyquorum.auth.probe_code import PROBE_CODE
from keyquorum.evm.address import ADDRESS_BYTES, address_of_public, to_checksum
from keyquorum.refusal import Invalid

MAX_SIGNATURE_BYTES = 8192
WRAPPED = bytes.fromhex("6492") * 16
_BOTH: tuple[At, At] = ("finalized", "latest")
_MAGIC = bytes.fromhex("1626ba7e")
_MAGIC_ANSWER = _MAGIC.ljust(32, b"\x00")
_WORD = 32


def message_hash(text: bytes) -> bytes:
    """Return the EIP-191 hash (version 0x45, personal message) of `text`."""
    return keccak(b"\x19Ethereum Signed Message:\n" + str(len(text)).encode() + text)


def recover(digest: bytes, signature: bytes) -> bytes:
    """Return the 20-byte address that signed `digest`; raise `Invalid` for any form but the one described above."""
    try:
        r, s, v = ecdsa.from_ethereum(signature)
        return address_of_public(ecdsa.recover(digest, r, s, v).to_bytes())
    except ValueError as error:
        raise _bad(str(error)) from error


async def check(address: bytes, digest: bytes, signature: bytes, context: Context) -> bool:
    """Raise `Invalid` unless account `address` signed `digest`; return whether a contract said so.

    `signature` may have at most 8192 bytes, which the caller has checked.
    """
    account = to_checksum(address)
    # 3.7
    if signature.endswith(WRAPPED):
        wrapped = Wrapped.read(signature)
        for at in _BOTH:
            if await context.code(account, at):
                answer = await context.call(account, _is_valid_signature(digest, wrapped.signature), at)
            else:
                answer = await context.probe(wrapped.probe(address, digest), at)
            _expect_yes(answer, at)
        return True
    try:
        if recover(digest, signature) == address:
            return False
        refusal = _bad("the signature is not by the account in the message")
    except Invalid as error:
        refusal = error
    if not await context.code(account, "latest"):
        raise refusal
    if not await context.code(account, "finalized"):
        raise Invalid(
            "wallet_not_final",
            "the contract wallet is not yet in a finalised block",
            "wait until its deployment is final, then log in",
        )
    for at in _BOTH:
        _expect_yes(await context.call(account, _is_valid_signature(digest, signature), at), at)
    return True


@dataclass(frozen=True, slots=True)
class Wrapped:
    """An EIP-6492 signature: what to call so that the wallet exists, and what the wallet is asked then."""

    factory: bytes
    calldata: bytes
    signature: bytes

    @classmethod
    def read(cls, wrapped: bytes) -> Wrapped:
        """Parse (address, bytes, bytes) and the magic bytes, in their one ABI encoding; raise `Invalid` otherwise."""
        body = wrapped.removesuffix(WRAPPED)
        calldata = _bytes_at(body, 3 * _WORD)
        signature = _bytes_at(body, 4 * _WORD + _padded(len(calldata)))
        found = cls(body[_WORD - ADDRESS_BYTES : _WORD], calldata, signature)
        if len(found.factory) != ADDRESS_BYTES or found.encode() != wrapped:
            raise _bad("the signature ends as EIP-6492 says, but is not exactly (address, bytes, bytes) before that")
        return found

    def encode(self) -> bytes:
        """Return the signature as a wallet sends it."""
        second = 4 * _WORD + _padded(len(self.calldata))
        head = self.factory.rjust(_WORD, b"\x00") + _word(3 * _WORD) + _word(second)
        return head + _encode_bytes(self.calldata) + _encode_bytes(self.signature) + WRAPPED

    def probe(self, account: bytes, digest: bytes) -> bytes:
        """Return the init code of the probe that deploys the wallet `account` and asks it about `digest`."""
        second = 6 * _WORD + _padded(len(self.calldata))
        head = account.rjust(_WORD, b"\x00") + digest + self.factory.rjust(_WORD, b"\x00")
        head += _word(5 * _WORD) + _word(second)
        return PROBE_CODE + head + _encode_bytes(self.calldata) + _encode_bytes(self.signature)


def _expect_yes(answer: bytes, at: At) -> None:
    if answer != _MAGIC_ANSWER:
        raise Invalid(
            "wallet_refused",
            f"the contract wallet does not accept this signature (asked at the {at} block)",
            "sign with a current owner of the wallet; after a change of owners wait until it is final",
        )


def _is_valid_signature(digest: bytes, signature: bytes) -> bytes:
    """Encode the call isValidSignature(bytes32, bytes)."""
    return _MAGIC + digest + _word(2 * _WORD) + _encode_bytes(signature)


def _bytes_at(data: bytes, start: int) -> bytes:
    """Return the `bytes` whose length is the word at `start`; what is not there is missing without complaint."""
    length = int.from_bytes(data[start : start + _WORD], "big")
    return data[start + _WORD : start + _WORD + min(length, len(data))]


def _encode_bytes(data: bytes) -> bytes:
    return _word(len(data)) + data.ljust(_padded(len(data)), b"\x00")


def _padded(size: int) -> int:
    return -(-size // _WORD) * _WORD


def _word(number: int) -> bytes:
    return number.to_bytes(_WORD, "big")


def _bad(why: str) -> Invalid:
    return Invalid("bad_wallet_signature", why, "sign exactly what the login asks for, with the account it names")
