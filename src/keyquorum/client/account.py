"""`PkpAccount`: a key of the network as an eth-account account, for everything that takes one.

web3.py, and most Python code for Ethereum, sign through eth-account's `BaseAccount`. This one signs with the network:
the message, the transaction or the typed data goes to the nodes as such, so they can check what they sign. Only
`unsafe_sign_hash` sends a bare digest, which the nodes refuse unless the owner granted scope 5.

web3.py's signing middleware knows its account types by a registry, to which this file adds itself as soon as web3 is
loaded. The methods block while the network signs; `keyquorum.client.web3` has a middleware for `AsyncWeb3` that does
not.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from eth_account._utils.signing import to_eth_v
from eth_account.datastructures import SignedMessage, SignedTransaction
from eth_account.messages import SignableMessage
from eth_account.signers.base import BaseAccount
from eth_typing import ChecksumAddress
from eth_utils.address import to_checksum_address
from hexbytes import HexBytes

from keyquorum.client.connection import KeyLike
from keyquorum.client.results import Key, Signed
from keyquorum.client.sync_client import Client

PERSONAL, TYPED = b"E", b"\x01"


class PkpAccount(BaseAccount):
    """The account of one key; `client` must be open and permitted to use it, and is no `AsyncClient` (`TypeError`)."""

    def __init__(self, client: Client, key: KeyLike) -> None:
        if not isinstance(client, Client):
            raise TypeError("PkpAccount takes a blocking keyquorum.Client: eth-account's methods cannot be awaited")
        self.client = client
        self.pkp: Key = client.key(key)
        self._address: ChecksumAddress = to_checksum_address(self.pkp.address)
        register_with_web3()

    def __repr__(self) -> str:
        return f"PkpAccount({self._address})"

    @property
    def address(self) -> ChecksumAddress:
        """The checksummed Ethereum address of the key."""
        return self._address

    def sign_message(self, signable_message: SignableMessage) -> SignedMessage:
        """Sign an EIP-191 personal message; raise `ValueError` for the other versions of the standard.

        `encode_typed_data` keeps only hashes, which the nodes could not show: use `sign_typed_data`.
        """
        version, header, body = signable_message
        if version != PERSONAL:
            hint = "; use sign_typed_data" if version == TYPED else ""
            raise ValueError(f"only personal messages (version E) can be signed as messages{hint}")
        if header != b"thereum Signed Message:\n" + str(len(body)).encode():
            raise ValueError("the header of the personal message is not the standard's")
        return _message(self.client.sign_message(self.pkp, bytes(body)))

    def unsafe_sign_hash(self, message_hash: Any) -> SignedMessage:
        """Sign 32 bytes of unknown meaning; needs scope 5, and a client that logs in with it."""
        return _message(self.client.sign_digest(self.pkp, bytes(HexBytes(message_hash))))

    def sign_transaction(self, transaction_dict: Mapping[str, Any], blobs: Any = None) -> SignedTransaction:
        """Sign a transaction; unlike eth-account, whatever is left out is filled in from the chain."""
        if blobs is not None:
            raise ValueError("blob transactions are not supported")
        found = self.client.sign_transaction(self.pkp, transaction_dict)
        legacy = found.raw[0] >= 0xC0
        v = int(to_eth_v(found.signed.v, self.client.facts.chain_id)) if legacy else found.signed.v
        return SignedTransaction(HexBytes(found.raw), HexBytes(found.hash), found.signed.r, found.signed.s, v)

    def sign_typed_data(
        self,
        domain_data: Mapping[str, Any] | None = None,
        message_types: Mapping[str, Any] | None = None,
        message_data: Mapping[str, Any] | None = None,
        full_message: Mapping[str, Any] | None = None,
    ) -> SignedMessage:
        """Sign EIP-712 typed data, given in three parts or as one object, as eth-account takes it."""
        if full_message is None:
            if domain_data is None or message_types is None or message_data is None:
                raise ValueError("give domain_data, message_types and message_data, or full_message")
            full_message = {"types": dict(message_types), "domain": dict(domain_data), "message": dict(message_data)}
        return _message(self.client.sign_typed_data(self.pkp, full_message))


def _message(signed: Signed) -> SignedMessage:
    return SignedMessage(HexBytes(signed.digest), signed.r, signed.s, 27 + (signed.v & 1), HexBytes(signed.compact))


def register_with_web3() -> None:
    """Let web3.py's own signing middleware take a `PkpAccount`, when web3 is loaded."""
    signing = sys.modules.get("web3.middleware.signing")
    if signing is not None:
        signing.to_account.register(PkpAccount, lambda account: account)
