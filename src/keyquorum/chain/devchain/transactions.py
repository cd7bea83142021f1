"""Signed transactions: strict decoding, the checks that need no state, the checks that need it, and the waiting room.

A transaction has one encoding and so one hash: trailing bytes, padded integers and long forms of short lengths are
refused by the decoder, and nesting deeper than any transaction's before it. Types 0, 1, 2 and 4 are taken; blobs (type
3) are not, because nothing here stores them. Everything refused ends in an `RpcError` whose wording follows the clients
that people know, since tools look for phrases such as "nonce too low".
"""

from __future__ import annotations

from typing import Any

import rlp
from eth._utils.state import code_is_delegation_designation
from eth.exceptions import UnrecognizedTransactionType
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError

from keyquorum.chain.devchain.evm import CHAIN_ID, GAS_LIMIT, DevVM, Transaction, intrinsic_gas
from keyquorum.chain.rpc import RpcError

MAX_RAW = 128 * 1024
MAX_DEPTH = 4  # the fields, the access list, its entry, the entry's keys
MAX_INITCODE = 49_152  # EIP-3860
WAITING_PER_SENDER = 64
WAITING_TOTAL = 1024
REFUSED = -32000
INVALID = -32602
SECP256K1_HALF = 0x7FFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF_5D576E73_57A4501D_DFE92F46_681B20A0


def decode(raw: bytes) -> Transaction:
    """Return the transaction in `raw`, its signature and fields checked; `RpcError` otherwise."""
    transaction = parse(raw)
    _check_fields(transaction)
    return transaction


def parse(raw: bytes) -> Transaction:
    """Return the transaction of which `raw` is the encoding; `RpcError` otherwise."""
    if not raw:
        raise RpcError(INVALID, "empty transaction")
    if len(raw) > MAX_RAW:
        raise RpcError(REFUSED, f"oversized data: a transaction has at most {MAX_RAW} bytes")
    if raw[0] == 3:
        raise RpcError(REFUSED, "blob transactions (type 3) are not supported by this chain")
    if raw[0] < 0xC0 and raw[0] not in (1, 2, 4):
        raise RpcError(REFUSED, f"transaction type {raw[0]} not supported")
    if _nests_too_deep(raw, 0 if raw[0] >= 0xC0 else 1):
        raise RpcError(INVALID, "malformed transaction")
    try:
        return DevVM.get_transaction_builder().decode(raw)
    except (rlp.RLPException, ValidationError, UnrecognizedTransactionType, RecursionError, ValueError, TypeError):
        raise RpcError(INVALID, "malformed transaction") from None


def _nests_too_deep(raw: bytes, position: int) -> bool:
    """Tell whether lists lie deeper in each other than in any transaction; the recursive decoder would take seconds."""
    ends: list[int] = []
    while position < len(raw):
        while ends and position >= ends[-1]:
            ends.pop()
        prefix = raw[position]
        base = 0xC0 if prefix >= 0xC0 else 0x80
        size, position = max(prefix - base, 0), position + 1
        if size > 55:
            length_end = position + size - 55
            size, position = int.from_bytes(raw[position:length_end], "big"), length_end
        if prefix < 0xC0:
            position += size
            continue
        ends.append(position + size)
        if len(ends) > MAX_DEPTH:
            return True
    return False


def transaction_type(transaction: Transaction) -> int:
    """Return 0, 1, 2 or 4."""
    return int(getattr(transaction, "type_id", None) or 0)


def _check_fields(transaction: Transaction) -> None:
    # A legacy transaction without a chain id (before EIP-155) is taken: keyless deployments consist of these.
    if transaction.chain_id not in (None, CHAIN_ID):
        raise RpcError(REFUSED, f"invalid chain id: have {transaction.chain_id}, want {CHAIN_ID}")
    if transaction.nonce >= 2**64 - 1:
        raise RpcError(REFUSED, "nonce has max value")
    if max(transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas, transaction.value) >= 2**256:
        raise RpcError(INVALID, "malformed transaction: number out of range")
    if transaction.max_priority_fee_per_gas > transaction.max_fee_per_gas:
        raise RpcError(REFUSED, "max priority fee per gas higher than max fee per gas")
    if transaction.gas > GAS_LIMIT:
        raise RpcError(REFUSED, f"exceeds block gas limit: {transaction.gas} > {GAS_LIMIT}")
    if not transaction.to and len(transaction.data) > MAX_INITCODE:
        raise RpcError(REFUSED, f"max initcode size exceeded: {len(transaction.data)} > {MAX_INITCODE}")
    try:
        transaction.validate()
        transaction.check_signature_validity()
        needed = intrinsic_gas(transaction)
    except (ValidationError, BadSignature, ValueError, TypeError) as error:
        raise RpcError(REFUSED, f"invalid transaction: {str(error)[:200]}") from None
    if transaction.s > SECP256K1_HALF:
        raise RpcError(REFUSED, "invalid signature: s is above half the group order")
    if transaction.gas < needed:
        raise RpcError(REFUSED, f"intrinsic gas too low: gas {transaction.gas}, minimum needed {needed}")


def check_payable(transaction: Transaction, state: Any, base_fee: int) -> None:
    """Check what depends on the state that `transaction` would run on; its nonce is known to be the next one."""
    code = state.get_code(transaction.sender)
    if code and not code_is_delegation_designation(code):
        raise RpcError(REFUSED, "sender not an eoa")
    if transaction.max_fee_per_gas < base_fee:
        raise RpcError(
            REFUSED,
            f"max fee per gas less than block base fee: {transaction.max_fee_per_gas} < {base_fee}",
        )
    balance = state.get_balance(transaction.sender)
    cost = transaction.gas * transaction.max_fee_per_gas + transaction.value
    if balance < cost:
        raise RpcError(REFUSED, f"insufficient funds for gas * price + value: have {balance}, want {cost}")


class Waiting:
    """Transactions whose nonce is too high for now, in memory, at most 64 of a sender and 1024 in all."""

    def __init__(self) -> None:
        self._by_sender: dict[bytes, dict[int, Transaction]] = {}
        self._by_hash: dict[bytes, Transaction] = {}

    def add(self, transaction: Transaction) -> None:
        """Keep `transaction` until its turn; it replaces one of the same nonce only if it pays 10 % more."""
        own = self._by_sender.get(transaction.sender, {})
        replaced = own.get(transaction.nonce)
        if replaced is not None:
            if replaced.hash == transaction.hash:
                raise RpcError(REFUSED, "already known")
            if transaction.max_fee_per_gas * 10 < replaced.max_fee_per_gas * 11:
                raise RpcError(REFUSED, "replacement transaction underpriced")
            del self._by_hash[replaced.hash]
        elif len(own) >= WAITING_PER_SENDER or len(self._by_hash) >= WAITING_TOTAL:
            raise RpcError(REFUSED, "nonce too high: the queue of waiting transactions is full")
        self._by_sender.setdefault(transaction.sender, own)[transaction.nonce] = transaction
        self._by_hash[transaction.hash] = transaction

    def get(self, transaction_hash: bytes) -> Transaction | None:
        """Return a waiting transaction by hash."""
        return self._by_hash.get(transaction_hash)

    def pop(self, sender: bytes, nonce: int) -> Transaction | None:
        """Take out the transaction of this sender and nonce, if it waits."""
        own = self._by_sender.get(sender)
        if own is None or nonce not in own:
            return None
        transaction = own.pop(nonce)
        if not own:
            del self._by_sender[sender]
        del self._by_hash[transaction.hash]
        return transaction

    def clear(self) -> None:
        """Forget all of them."""
        self._by_sender.clear()
        self._by_hash.clear()
