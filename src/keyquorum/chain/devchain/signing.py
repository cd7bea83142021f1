"""Signing for the unlocked development accounts, whose keys everybody knows: transactions and EIP-191 messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eth_keys.datatypes import PrivateKey
from eth_utils.crypto import keccak

from keyquorum.chain.devchain import params
from keyquorum.chain.devchain.evm import CHAIN_ID, Call, DevVM


def sign_transaction(
    key: bytes, fields: Mapping[str, Any], call: Call, *, nonce: int, gas: int, fees: tuple[int, int]
) -> bytes:
    """Return a signed transaction: legacy if `fields` has a gas price, type 4 with authorizations, else type 2.

    `fees` are (max fee, priority fee), used where `fields` names none.
    """
    builder = DevVM.get_transaction_builder()
    private_key = PrivateKey(key)
    price = fields.get("gasPrice")
    if price is not None:
        if call.access_list or call.authorization_list or fields.get("maxFeePerGas") is not None:
            raise params.invalid("gasPrice does not go with EIP-1559 fields, access lists or authorizations")
        legacy = builder.create_unsigned_transaction(
            nonce=nonce,
            gas_price=params.quantity(price, "gasPrice"),
            gas=gas,
            to=call.to,
            value=call.value,
            data=call.data,
        )
        return bytes(legacy.as_signed_transaction(private_key, CHAIN_ID).encode())
    most, tip = fields.get("maxFeePerGas"), fields.get("maxPriorityFeePerGas")
    max_fee = fees[0] if most is None else params.quantity(most, "maxFeePerGas")
    priority = min(fees[1], max_fee) if tip is None else params.quantity(tip, "maxPriorityFeePerGas")
    body = (CHAIN_ID, nonce, priority, max_fee, gas, call.to, call.value, call.data, call.access_list)
    if call.authorization_list:
        unsigned = builder.new_unsigned_set_code_transaction(*body, call.authorization_list)
    else:
        unsigned = builder.new_unsigned_dynamic_fee_transaction(*body)
    return bytes(unsigned.as_signed_transaction(private_key).encode())


def sign_message(key: bytes, message: bytes) -> bytes:
    """Return the 65-byte EIP-191 signature r || s || v (27 or 28) of `message`."""
    digest = keccak(b"\x19Ethereum Signed Message:\n" + str(len(message)).encode() + message)
    signature = PrivateKey(key).sign_msg_hash(digest).to_bytes()
    return bytes(signature[:64] + bytes([signature[64] + 27]))
