"""EIP-712: types, values and hashes of typed structured data, strictly.

Why not a library's encoder: the ones around take one JSON for different values (text for bytes, missing fields as
null, extra fields ignored), and what is shown must be what is hashed. So a value is first read into one canonical
form that its type dictates, and both the hash and the summary are made from that form. The result is compared
with two independent encoders in the tests.

Refused beyond the standard's own rules, because it has two readings or none: `uint` and `int` without a size, null,
fractions, fields a type does not name, a struct without fields, a struct name that is an elementary type, types nobody
uses, names that would change the meaning of an encoded type (anything but letters, digits, `_`, `$`, and `:` in
struct names, which one large exchange uses), an address whose mixed case is not its checksum.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eth_hash.auto import keccak

from keyquorum.evm.address import to_checksum
from keyquorum.formats.strict_json import hex_bytes
from keyquorum.intents.intent import BadIntent
from keyquorum.intents.read_fields import read_fields
from keyquorum.intents.show import quoted

MAX_STRUCTS = 32
MAX_FIELDS = 64
MAX_VALUES = 4096
MAX_DEPTH = 32
DOMAIN = "EIP712Domain"
DOMAIN_FIELDS = {
    "name": "string",
    "version": "string",
    "chainId": "uint256",
    "verifyingContract": "address",
    "salt": "bytes32",
}

_STRUCT_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$:]{0,127}")
_FIELD_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]{0,127}")
_LIKE_ELEMENTARY = re.compile(r"(?:bool|address|string|function|bytes\d*|u?int\d*|u?fixed(?:\d+x\d+)?)")
_ELEMENTARY = re.compile(
    r"bool|address|string|bytes(?:[1-9]|[12]\d|3[0-2])?|u?int(?:8|16|24|32|40|48|56|64|72|80|88|96|104|112|120|128"
    r"|136|144|152|160|168|176|184|192|200|208|216|224|232|240|248|256)"
)
_TYPE = re.compile(r"([A-Za-z_$][A-Za-z0-9_$:]{0,127})((?:\[(?:[1-9]\d{0,3})?\]){0,8})")
_DECIMAL = re.compile(r"0|-?[1-9]\d{0,77}")
_HEX_NUMBER = re.compile(r"0x[0-9a-fA-F]{1,64}")

Types = dict[str, dict[str, str]]  # struct name -> field name -> type, in the order of declaration


def bad(message: str, hint: str = "see spec/intents.md for the accepted form of typed data") -> BadIntent:
    """Return the error for typed data that is not well formed."""
    return BadIntent("bad_typed_data", message, hint)


# ---- types ------------------------------------------------------------------------------------------------------


def read_types(value: dict[str, Any], primary: str) -> Types:
    """Return the struct types of the JSON `types`; each is well formed, known, and used by domain or `primary`."""
    if primary == DOMAIN:
        raise bad("EIP712Domain cannot be the primary type: it says for whom one signs, not what", "sign a message")
    if not 2 <= len(value) <= MAX_STRUCTS:
        raise bad(f"types must be an object of 2 to {MAX_STRUCTS} structs, EIP712Domain among them")
    types = {name: _read_struct(name, members) for name, members in value.items()}
    if DOMAIN not in types or primary not in types:
        raise bad("types must hold EIP712Domain and the primary type, which is another")
    for struct, members in types.items():
        for name, kind in members.items():
            base = _base(kind)
            if base not in types and not _ELEMENTARY.fullmatch(base):
                raise bad(f"{struct}.{name} has the unknown type {kind}", "give integers their size, as uint256")
            if base == DOMAIN:
                raise bad(f"{struct}.{name} may not be an EIP712Domain")
    for name, kind in types[DOMAIN].items():
        if DOMAIN_FIELDS.get(name) != kind:
            raise bad(f"EIP712Domain has no field {kind} {name}", f"it may have {DOMAIN_FIELDS}")
    unused = set(types) - {DOMAIN} - dependencies(types, primary)
    if unused:
        raise bad(f"types that are not used: {', '.join(sorted(unused))}", "leave them out")
    return types


def _read_struct(name: str, members: Any) -> dict[str, str]:
    if type(name) is not str or not _STRUCT_NAME.fullmatch(name) or _LIKE_ELEMENTARY.fullmatch(name):
        raise bad("a struct name must be an identifier and no elementary type")
    if type(members) is not list or not 1 <= len(members) <= MAX_FIELDS:
        raise bad(f"the struct {name} must be an array of 1 to {MAX_FIELDS} fields")
    fields: dict[str, str] = {}
    for member in members:
        found = read_fields(member, {"name": str, "type": str}, where=f"a field of {name}")
        if not _FIELD_NAME.fullmatch(found["name"]):
            raise bad(
                f"a field of {name} has the malformed name {quoted(found['name'], 32)}",
                "names have letters, digits, _ and $ and begin with no digit: @context and its like are not signed",
            )
        if not _TYPE.fullmatch(found["type"]):
            raise bad(f"{name}.{found['name']} has a malformed type")
        if found["name"] in fields:
            raise bad(f"the field {name}.{found['name']} is declared twice")
        fields[found["name"]] = found["type"]
    return fields


def _base(kind: str) -> str:
    return kind.partition("[")[0]


def dependencies(types: Types, struct: str) -> set[str]:
    """Return `struct` and all structs its fields lead to."""
    found: set[str] = set()
    waiting = [struct]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [base for base in map(_base, types[name].values()) if base in types]
    return found


def encode_type(types: Types, struct: str) -> str:
    """Return the encoded type: `struct` first, then the structs it leads to in the order of their names."""
    order = [struct, *sorted(dependencies(types, struct) - {struct})]
    return "".join(f"{name}({','.join(f'{kind} {member}' for member, kind in types[name].items())})" for name in order)


# ---- values -----------------------------------------------------------------------------------------------------


@dataclass
class Values:
    """Reads JSON into canonical values: int, bool, str, bytes (addresses too), list, dict; counts them."""

    types: Types
    left: int = MAX_VALUES

    def read(self, kind: str, value: Any, where: str, depth: int = 0) -> Any:
        """Return the canonical form of `value` as a `kind`; raise `BadIntent` naming the place."""
        self.left -= 1
        if self.left < 0 or depth > MAX_DEPTH:
            raise bad(f"at most {MAX_VALUES} values, nested at most {MAX_DEPTH} deep, are signed at once")
        if kind[-1] == "]":
            return self._array(kind, value, where, depth)
        if kind in self.types:
            return self._struct(kind, value, where, depth)
        try:
            return _elementary(kind, value)
        except ValueError as error:
            raise bad(f"{where} ({kind}) {error}") from None

    def _array(self, kind: str, value: Any, where: str, depth: int) -> list[Any]:
        inner, count = dimension(kind)
        if type(value) is not list:
            raise bad(f"{where} must be an array")
        if count is not None and len(value) != count:
            raise bad(f"{where} must have {count} items, not {len(value)}")
        return [self.read(inner, item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value)]

    def _struct(self, kind: str, value: Any, where: str, depth: int) -> dict[str, Any]:
        members = self.types[kind]
        if type(value) is not dict:
            raise bad(f"{where} must be an object with the fields {', '.join(members)}")
        if lacking := [name for name in members if name not in value]:
            raise bad(f"{where} lacks {', '.join(lacking)}")
        if foreign := [name for name in value if name not in members]:
            names = ", ".join(quoted(str(name), 32) for name in foreign[:4])
            raise bad(f"{where} has {names}, which {kind} does not declare", "leave it out, or declare it in types")
        return {name: self.read(of, value[name], f"{where}.{name}", depth + 1) for name, of in members.items()}


def dimension(kind: str) -> tuple[str, int | None]:
    """Return the item type of an array type, and its fixed length or None."""
    inner, _, count = kind[:-1].rpartition("[")
    return inner, int(count) if count else None


def _elementary(kind: str, value: Any) -> Any:
    if kind == "bool":
        if type(value) is not bool:
            raise ValueError("must be true or false")
        return value
    if kind == "string":
        return _text(value)
    if kind == "address":
        return _address(value)
    if kind.startswith("bytes"):
        size = int(kind[5:]) if kind != "bytes" else None
        return hex_bytes(size)(value)
    return _integer(kind, value)


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError("must be a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half a surrogate pair") from None
    return value


def _address(value: Any) -> bytes:
    raw: bytes = hex_bytes(20)(value)
    digits = value[2:]
    if digits not in (digits.lower(), digits.upper()) and value != to_checksum(raw):
        raise ValueError("has a wrong checksum")
    return raw


def _integer(kind: str, value: Any) -> int:
    if type(value) is str:
        if _DECIMAL.fullmatch(value):
            value = int(value)
        elif _HEX_NUMBER.fullmatch(value):
            value = int(value, 16)
    if type(value) is not int:
        raise ValueError("must be a whole number, or a string of decimal or 0x hex digits")
    signed = kind[0] == "i"
    bits = int(kind[3:] if signed else kind[4:])
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    if not low <= value < high:
        raise ValueError("is out of range")
    return value


# ---- hashes -----------------------------------------------------------------------------------------------------


@dataclass
class Hasher:
    """Hashes canonical values; keeps the hash of each struct's type."""

    types: Types
    _type_hashes: dict[str, bytes] = field(default_factory=dict)

    def struct(self, kind: str, value: Mapping[str, Any]) -> bytes:
        """Return hashStruct: Keccak-256 of the type's hash and one word for each field."""
        if kind not in self._type_hashes:
            self._type_hashes[kind] = keccak(encode_type(self.types, kind).encode())
        words = [self.word(of, value[name]) for name, of in self.types[kind].items()]
        return keccak(self._type_hashes[kind] + b"".join(words))

    def word(self, kind: str, value: Any) -> bytes:
        """Return the 32 bytes that stand for a value inside its struct or array."""
        if kind[-1] == "]":
            inner = dimension(kind)[0]
            return keccak(b"".join([self.word(inner, item) for item in value]))
        if kind in self.types:
            return self.struct(kind, value)
        if kind == "string":
            return keccak(value.encode())
        if kind == "bytes":
            return keccak(value)
        if kind == "address":
            return bytes(12) + bytes(value)
        if kind.startswith("bytes"):
            return bytes(value).ljust(32, b"\0")
        return int(value).to_bytes(32, "big", signed=kind[0] == "i")
