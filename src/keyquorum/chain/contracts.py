"""Typed thin bindings of our contracts: from names and Python values to call data, and back.

`Interface` is pure: it knows an ABI, encodes calls, decodes results, events and errors, and computes each selector
once. `Contract` is an interface at an address behind an RPC client, and reads. Structs and several return values come
back as named tuples whose fields are called what the Solidity calls them (`node.partyId`, `result.owner`); addresses
come back as lower-case hex, bytes as `bytes`. A call that the contract refuses raises `Reverted` with the error's own
name, also when the error comes from another contract of ours further down the call.

No web3, and eth_account is not imported: a node needs neither at start.
"""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from importlib import resources
from typing import Any, Protocol

from eth_abi.abi import encode as abi_encode
from eth_abi.codec import ABIDecoder
from eth_abi.decoding import StringDecoder
from eth_abi.exceptions import DecodingError, EncodingError
from eth_abi.registry import BaseEquals
from eth_abi.registry import registry as default_registry
from eth_hash.auto import keccak

from keyquorum.chain import rpc as chain_rpc
from keyquorum.evm.address import checksum

CONTRACT_NAMES = ("Staking", "PubkeyRouter", "PKPNFT", "Sessions", "PKPPermissions", "PKPHelper")

_registry = default_registry.copy()  # type: ignore[no-untyped-call]
_registry.unregister_decoder("string")
# Strings are bytes that anybody may have written: what is no UTF-8 is shown as \\xff, and spoils nothing beside it.
_STRING = StringDecoder(handle_string_errors="backslashreplace")  # type: ignore[no-untyped-call]
_registry.register_decoder(BaseEquals("string"), _STRING, label="string")  # type: ignore[no-untyped-call]
abi_decode = ABIDecoder(_registry).decode

# What a person can do about a refusal of our contracts, by the name of the error.
REFUSAL_HINTS = {
    "LastManager": "this is the last login that may manage the key: add another with scope 6 first",
    "OtherKey": "another mint came first: ask again, for the key that is next now",
    "AlreadyPermitted": "the method is permitted already: add or remove single scopes",
    "NotPermitted": "there is no such method on this key: look at the list of its methods",
}

Abi = list[dict[str, Any]]


class Reverted(chain_rpc.Reverted):
    """A contract refused: `name` of the Solidity error (`Error` for a text, `Unknown` for unknown bytes), `values`."""

    def __init__(self, name: str, values: Sequence[Any], code: int = 3, data: Any = None) -> None:
        super().__init__(code, f"reverted: {name}({', '.join(map(repr, values))})", data)
        self.name = name
        self.values = tuple(values)


class Reader(Protocol):
    """What a `Contract` needs of an RPC client."""

    async def eth_call(self, to: str, data: bytes, block: int | str = "latest", sender: str | None = None) -> bytes:
        """Return what the contract at `to` returns."""
        ...


def address_method_id(address: str) -> bytes:
    """Return the id bytes of an ADDRESS authentication method (type 1): the 20 bytes."""
    return bytes.fromhex(checksum(address)[2:])


# ------------------------------------------------------------------------------------------------------------ artifacts


@cache
def load_artifact(name: str) -> Mapping[str, Any]:
    """Return contractName, abi, bytecode and deployedBytecode of one of `CONTRACT_NAMES`; do not change it."""
    if name not in CONTRACT_NAMES:
        raise ValueError(f"no such contract: {name}")
    text = resources.files("keyquorum.chain").joinpath("artifacts", f"{name}.json").read_text()
    artifact: Mapping[str, Any] = json.loads(text)
    return artifact


@cache
def interface(name: str) -> Interface:
    """Return the interface of one of `CONTRACT_NAMES`."""
    return Interface(load_artifact(name)["abi"])


@cache
def _known_errors() -> Mapping[bytes, _Entry]:
    """Return every error that any of our contracts can raise, by selector: errors pass through callers unchanged."""
    builtin = [
        {"type": "error", "name": "Error", "inputs": [{"name": "message", "type": "string"}]},
        {"type": "error", "name": "Panic", "inputs": [{"name": "code", "type": "uint256"}]},
    ]
    entries = builtin + [entry for name in CONTRACT_NAMES for entry in load_artifact(name)["abi"]]
    errors = [_Entry(entry) for entry in entries if entry["type"] == "error"]
    return {error.topic[:4]: error for error in errors}


def decode_error(data: bytes) -> Reverted:
    """Return the exception for the bytes with which a call reverted."""
    entry = _known_errors().get(data[:4])
    if entry is not None:
        try:
            return Reverted(entry.name, abi_decode(entry.input_types, data[4:]), data="0x" + data.hex())
        except (DecodingError, OverflowError):
            pass
    return Reverted("Unknown", (data,) if data else (), data="0x" + data.hex())


# ---------------------------------------------------------------------------------------------------------- interfaces


class _Entry:
    """One function, event or error of an ABI."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self.entry = entry
        self.name: str = entry.get("name", "")
        self.inputs: Abi = entry.get("inputs", [])
        self.outputs: Abi = entry.get("outputs", [])

    @cached_property
    def input_types(self) -> list[str]:
        return [_type(field) for field in self.inputs]

    @cached_property
    def output_types(self) -> list[str]:
        return [_type(field) for field in self.outputs]

    @cached_property
    def signature(self) -> str:
        return f"{self.name}({','.join(self.input_types)})"

    @cached_property
    def topic(self) -> bytes:
        """The 32-byte hash of the signature; its first four bytes are the selector."""
        return keccak(self.signature.encode())


class Interface:
    """A contract's ABI, as functions from names and values to bytes and back; pure and without state."""

    def __init__(self, abi: Abi) -> None:
        self.abi = abi
        entries = [_Entry(entry) for entry in abi]
        kinds = [(entry.entry["type"], entry) for entry in entries]
        self._constructor = next((entry for kind, entry in kinds if kind == "constructor"), _Entry({}))
        self._functions: dict[str, list[_Entry]] = {}
        for kind, entry in kinds:
            if kind == "function":
                self._functions.setdefault(entry.name, []).append(entry)
        self._events = {entry.topic: entry for kind, entry in kinds if kind == "event"}

    def encode(self, name: str, *args: Any) -> bytes:
        """Return the call data of a function; overloads are told apart by a full signature or the argument count.

        `ValueError` when there is no such function or an argument does not fit its type.
        """
        function = self._function(name, len(args))
        try:
            return function.topic[:4] + abi_encode(function.input_types, args)
        except (EncodingError, TypeError, OverflowError) as error:
            raise ValueError(f"{function.signature}: {error}") from None

    def encode_deployment(self, bytecode: str, *args: Any) -> bytes:
        """Return the init code: `bytecode` (hex) followed by the constructor's arguments."""
        return bytes.fromhex(bytecode.removeprefix("0x")) + abi_encode(self._constructor.input_types, args)

    def decode_result(self, name: str, data: bytes, count: int | None = None) -> Any:
        """Return what a function returned: one value, a named tuple of several, or `None`.

        `count` is the number of arguments, needed for overloads only. `ValueError` if `data` is not such a result:
        for example because there is no contract at the address.
        """
        function = self._function(name, count)
        try:
            values = abi_decode(function.output_types, data)
        except (DecodingError, OverflowError) as error:
            raise ValueError(f"not a result of {function.signature}: {error}") from None
        named = [_named(field, value) for field, value in zip(function.outputs, values, strict=True)]
        if len(named) <= 1:
            return named[0] if named else None
        return _record(name, tuple(field["name"] for field in function.outputs))(*named)

    def decode_event(self, log: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return `{"event": name, "args": {...}}` for a JSON-RPC log, or `None` if it is no event of this contract.

        The address of the log is not looked at. Indexed strings and the like come as their 32-byte hash.
        """
        topics = [bytes.fromhex(topic.removeprefix("0x")) for topic in log["topics"]]
        event = self._events.get(topics[0]) if topics else None
        if event is None:
            return None
        indexed = [field for field in event.inputs if field["indexed"]]
        others = [field for field in event.inputs if not field["indexed"]]
        if len(topics) != len(indexed) + 1:
            return None
        try:
            values = abi_decode([_type(field) for field in others], bytes.fromhex(log["data"].removeprefix("0x")))
            keys = [_topic_value(field, topic) for field, topic in zip(indexed, topics[1:], strict=True)]
        except (DecodingError, OverflowError):
            return None
        found = {field["name"]: key for field, key in zip(indexed, keys, strict=True)}
        found |= {field["name"]: _named(field, value) for field, value in zip(others, values, strict=True)}
        return {"event": event.name, "args": {field["name"]: found[field["name"]] for field in event.inputs}}

    def event_topic(self, name: str) -> str:
        """Return topic 0 of an event as hex, for log filters."""
        for topic, event in self._events.items():
            if event.name == name:
                return "0x" + topic.hex()
        raise ValueError(f"no such event: {name}")

    def _function(self, name: str, count: int | None) -> _Entry:
        candidates = self._functions.get(name.partition("(")[0], [])
        if "(" in name:
            fitting = [entry for entry in candidates if entry.signature == name]
        else:
            fitting = [entry for entry in candidates if count is None or len(entry.inputs) == count]
        if len(fitting) != 1:
            known = ", ".join(entry.signature for entry in candidates) or "no function of that name"
            raise ValueError(f"cannot call {name} with {count} arguments: {known}")
        return fitting[0]


class Contract:
    """A deployed contract: an `Interface` at `address`, read through `rpc`."""

    def __init__(self, rpc: Reader, address: str, abi: Abi | Interface) -> None:
        self.address = checksum(address)
        self.interface = abi if isinstance(abi, Interface) else Interface(abi)
        self._rpc = rpc

    def __repr__(self) -> str:
        return f"Contract({self.address})"

    async def read(self, name: str, *args: Any, block: int | str = "latest", sender: str | None = None) -> Any:
        """Return the result of a view (see `Interface.decode_result`); `Reverted` if the contract refuses."""
        data = self.encode(name, *args)
        try:
            result = await self._rpc.eth_call(self.address, data, block, sender)
        except chain_rpc.RpcError as error:
            # Some servers report a revert under a code of their own; the bytes that come with it give it away.
            if isinstance(error, chain_rpc.Reverted) or error.revert_data:
                raise decode_error(error.revert_data) from error
            raise
        return self.interface.decode_result(name, result, len(args))

    def encode(self, name: str, *args: Any) -> bytes:
        """Return the call data of a function (see `Interface.encode`)."""
        return self.interface.encode(name, *args)

    def decode_event(self, log: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return `{"event": name, "args": {...}}` for a log that *this* contract wrote, or `None` for any other."""
        if str(log.get("address", "")).lower() != self.address.lower():
            return None
        return self.interface.decode_event(log)


# -------------------------------------------------------------------------------------------------------- ABI internals


def _type(field: Mapping[str, Any]) -> str:
    """Return the canonical type of an ABI field, with the fields of a struct spelled out."""
    kind: str = field["type"]
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_type(part) for part in field['components'])}){kind.removeprefix('tuple')}"


def _named(field: Mapping[str, Any], value: Any) -> Any:
    """Give the structs in a decoded value their names, in arrays too."""
    kind: str = field["type"]
    if kind.endswith("]"):
        element = {**field, "type": kind[: kind.rindex("[")]}
        return [_named(element, item) for item in value]
    if kind != "tuple":
        return value
    parts = field["components"]
    # internalType reads `struct Staking.Node[]`.
    name = field.get("internalType", "Struct").partition("[")[0].rpartition(".")[2].rpartition(" ")[2]
    record = _record(name, tuple(part["name"] for part in parts))
    return record(*(_named(part, item) for part, item in zip(parts, value, strict=True)))


@cache
def _record(name: str, fields: tuple[str, ...]) -> type[Any]:
    record: type[Any] = namedtuple(name.partition("(")[0], fields, rename=True)  # type: ignore[misc]
    return record


def _topic_value(field: Mapping[str, Any], topic: bytes) -> Any:
    kind = field["type"]
    if kind in ("string", "bytes") or kind.endswith("]") or kind.startswith("tuple"):
        return topic
    return abi_decode([kind], topic)[0]
