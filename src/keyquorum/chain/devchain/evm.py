"""py-evm as this project uses it: Prague rules, no proof of work, one virtual machine per block, order kept elsewhere.

The virtual machine executes, meters, computes roots and validates headers; it needs from its database only state nodes
and headers by hash. Which header is the head, and what lies in a block, is the business of `chain.py`: py-evm's own
canonical index would be a second opinion about that, and is not used after genesis.

A call (`eth_call`, `eth_estimateGas`) runs through the same transaction executor as a real transaction, with a free
base fee and a duck-typed transaction: no signature to fake, and the gas counted is the gas a transaction would use.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import rlp
from eth import EVM_RECURSION_LIMIT
from eth.chains.base import Chain
from eth.consensus.noproof import NoProofConsensus
from eth.db.atomic import AtomicDB
from eth.db.chain import ChainDB
from eth.exceptions import Revert, VMError
from eth.vm.chain_context import ChainContext
from eth.vm.forks.berlin.transactions import calculate_txn_intrinsic_gas_berlin
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.blocks import PragueBlockHeader
from eth.vm.forks.prague.state import PragueState
from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError

from keyquorum.chain.devchain.interpreter import FastComputation
from keyquorum.chain.rpc import Reverted, RpcError

# py-evm imports py_ecc, which raises the limit to 100,000: more than the C stack holds, so that deeply nested JSON
# would kill the process instead of raising RecursionError. py-evm itself says how much 1,024 nested calls need.
sys.setrecursionlimit(EVM_RECURSION_LIMIT)

CHAIN_ID = 31337
GAS_LIMIT = 30_000_000
FLOOR_GAS_PER_TOKEN = 10  # EIP-7623
AUTHORIZATION_GAS = 25_000  # EIP-7702
INITCODE_WORD_GAS = 2  # EIP-3860
TRANSACTION_GAS = 21_000

Header = Any  # eth.vm.forks.prague.blocks.PragueBlockHeader; py-evm is not typed for strict checking
Transaction = Any  # a signed transaction of py-evm


class _HeaderDB(ChainDB):  # type: ignore[misc]
    def persist_trie_data_dict(self, trie_data_dict: dict[bytes, bytes]) -> None:
        """Keep no transaction and receipt tries: both are stored with their block, and the header has their roots."""


class _State(PragueState):  # type: ignore[misc]
    computation_class = FastComputation

    def set_system_contracts(self) -> None:
        """Look for no system contracts: genesis has none, and to look costs two trie reads at every call."""


class DevVM(PragueVM):  # type: ignore[misc]
    """Prague without a seal."""

    consensus_class = NoProofConsensus
    _state_class = _State


class EvmChain(Chain):  # type: ignore[misc]
    """A chain that is Prague from genesis on."""

    vm_configuration = ((0, DevVM),)
    chain_id = CHAIN_ID
    chaindb_class = _HeaderDB


def open_chain(nodes: Any) -> Any:
    """Return py-evm's chain over a key-value store that already holds a genesis."""
    return EvmChain(AtomicDB(nodes))


def create_genesis(nodes: Any, balances: dict[bytes, int], timestamp: int) -> Header:
    """Write a genesis state into `nodes` and return its header."""
    state = {
        address: {"balance": balance, "nonce": 0, "code": b"", "storage": {}} for address, balance in balances.items()
    }
    parameters = {"difficulty": 0, "gas_limit": GAS_LIMIT, "timestamp": timestamp}
    return EvmChain.from_genesis(AtomicDB(nodes), parameters, state).get_canonical_head()


def decode_header(encoded: bytes) -> Header:
    """Return the header whose RLP this is."""
    return rlp.decode(encoded, sedes=PragueBlockHeader)


def intrinsic_gas(transaction: Any) -> int:
    """Return the least gas limit with which a transaction is valid: intrinsic cost, initcode, and EIP-7623's floor."""
    zeros = int(transaction.data.count(0))
    tokens = zeros + 4 * (len(transaction.data) - zeros)
    cost = int(transaction.intrinsic_gas)
    if not transaction.to:
        cost += INITCODE_WORD_GAS * ((len(transaction.data) + 31) // 32)
    return max(cost, TRANSACTION_GAS + FLOOR_GAS_PER_TOKEN * tokens)


@dataclass(frozen=True, repr=False)
class Call:
    """A transaction that nobody signed and nobody pays for, as py-evm's executor wants to see one."""

    sender: bytes
    to: bytes
    data: bytes = b""
    value: int = 0
    gas: int = GAS_LIMIT
    nonce: int = 0
    access_list: tuple[tuple[bytes, tuple[int, ...]], ...] = ()
    authorization_list: tuple[Any, ...] = ()

    max_fee_per_gas = 0
    max_priority_fee_per_gas = 0
    gas_price = 0
    s = 1  # what the executor's signature check looks at

    @property
    def type_id(self) -> int:
        """Return 4 with authorizations (EIP-7702), else 2."""
        return 4 if self.authorization_list else 2

    @property
    def intrinsic_gas(self) -> int:
        """Return what the executor takes before the first instruction."""
        return int(calculate_txn_intrinsic_gas_berlin(self)) + AUTHORIZATION_GAS * len(self.authorization_list)

    def validate(self) -> None:
        """Do nothing: there is no signature, and the fields were checked when the request was read."""


@dataclass(frozen=True)
class Outcome:
    """What an execution did: gas used, gas refunded, and the error, if it failed."""

    output: bytes
    gas_used: int
    refund: int
    error: RpcError | None


def build_state(chain: Any, header: Header) -> Any:
    """Return the state after `header`'s block, executing in that block's context, with a base fee of 0."""
    previous = DevVM.get_prev_hashes(header.parent_hash, chain.chaindb)
    return DevVM.build_state(chain.chaindb.db, header.copy(base_fee_per_gas=0), ChainContext(chain.chain_id), previous)


def execute(state: Any, call: Call) -> Outcome:
    """Run `call` on `state` and undo what it did."""
    snapshot = state.snapshot()
    try:
        computation = state.apply_transaction(call)
        used = call.gas - computation.get_gas_remaining()
        refund = min(computation.get_gas_refund(), used // 5) if not computation.is_error else 0
        floor = computation.data_floor_gas
        return Outcome(computation.output, used - refund + floor, refund, _error(computation))
    finally:
        state.revert(snapshot)


def _error(computation: Any) -> RpcError | None:
    if not computation.is_error:
        return None
    error: VMError = computation.error
    if isinstance(error, Revert):
        output = bytes(computation.output)
        reason = revert_reason(output)
        return Reverted(3, f"execution reverted: {reason}" if reason else "execution reverted", "0x" + output.hex())
    return Reverted(-32000, f"EVM error: {type(error).__name__}")


def revert_reason(output: bytes) -> str | None:
    """Return the text in `Error(string)`, or the code in `Panic(uint256)`, that a contract reverted with."""
    try:
        if output[:4] == bytes.fromhex("08c379a0"):
            return str(abi_decode(["string"], output[4:])[0])[:1000]
        if output[:4] == bytes.fromhex("4e487b71"):
            return f"panic 0x{abi_decode(['uint256'], output[4:])[0]:02x}"
    except (DecodingError, UnicodeDecodeError, OverflowError):
        return None
    return None
