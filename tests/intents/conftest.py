"""Makers of random content, the same for every encoder that is compared."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from keyquorum.evm.address import to_checksum

ATOMS = [
    "bool",
    "address",
    "string",
    "bytes",
    "bytes1",
    "bytes4",
    "bytes32",
    "uint8",
    "uint64",
    "uint256",
    "int8",
    "int256",
]
DOMAIN_FIELDS = [
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
    ("salt", "bytes32"),
]


def random_typed_data(rng: Random) -> dict[str, Any]:
    """Return typed data of up to four structs, arrays in arrays, and extreme values, valid in every encoder."""
    names = rng.sample(["Alpha", "Beta", "_gamma", "Delta2", "Z", "a"], rng.randint(1, 4))
    types: dict[str, list[dict[str, str]]] = {}
    for index, name in enumerate(names):
        kinds = rng.choices(ATOMS, k=rng.randint(1, 4)) + names[index + 1 : index + 2]
        rng.shuffle(kinds)
        types[name] = [
            {"name": f"f{number}", "type": kind + "".join(rng.choices(["", "[]", "[2]"], [8, 2, 1], k=2))}
            for number, kind in enumerate(kinds)
        ]
    domain_fields = rng.sample(DOMAIN_FIELDS, rng.randint(1, 5))
    domain_fields.sort(key=DOMAIN_FIELDS.index)
    types["EIP712Domain"] = [{"name": name, "type": kind} for name, kind in domain_fields]
    domain = {name: random_value(rng, types, kind) for name, kind in domain_fields}
    if "chainId" in domain:
        domain["chainId"] = rng.choice([1, 137, 2**53 - 1])
    message = random_value(rng, types, names[0])
    return {"types": types, "primaryType": names[0], "domain": domain, "message": message}


def random_value(rng: Random, types: dict[str, Any], kind: str) -> Any:
    """Return a value of the type, as JSON."""
    if kind.endswith("]"):
        inner, _, count = kind[:-1].rpartition("[")
        return [random_value(rng, types, inner) for _ in range(int(count) if count else rng.randint(0, 3))]
    if kind in types:
        return {member["name"]: random_value(rng, types, member["type"]) for member in types[kind]}
    if kind == "bool":
        return rng.random() < 0.5
    if kind == "string":
        return "".join(rng.choices(["a", '"', "\\", "\n", "é", "\u202e", "😀", " "], k=rng.randint(0, 40)))
    if kind == "address":
        return to_checksum(rng.randbytes(20))
    if kind.startswith("bytes"):
        return "0x" + rng.randbytes(int(kind[5:] or rng.randint(0, 70))).hex()
    signed, bits = kind[0] == "i", int(kind.lstrip("uint"))
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    number = rng.choice([low, high, 0, 1, rng.randint(low, high)])
    return number if abs(number) < 2**53 else str(number)


@pytest.fixture(scope="session")
def make_typed_data() -> Callable[[int], dict[str, Any]]:
    return lambda seed: random_typed_data(Random(seed))
