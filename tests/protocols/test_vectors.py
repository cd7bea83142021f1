"""The committed vectors are what the code makes today, and say what they should."""

from __future__ import annotations

import json

import pytest
from coincurve import PublicKey

from gen_vectors import GENERATORS, VECTORS, text_of
from keyquorum.protocols.key_share import KeyShare, PendingKeys


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_vectors_are_up_to_date(name: str) -> None:
    assert (VECTORS / f"{name}.json").read_text() == text_of(name), "run tools/gen_vectors.py and explain the change"


def test_the_records_in_the_vectors_can_be_read() -> None:
    """What was stored by this version must be readable by every later one."""
    vector = json.loads((VECTORS / "dkg.json").read_text())
    pending = {j: PendingKeys.from_bytes_checked(bytes.fromhex(data)) for j, data in vector["pending"].items()}
    assert len(pending) == vector["n"] == 3
    assert len({p.digest() for p in pending.values()}) == 1


def test_the_signatures_in_the_vectors_are_valid() -> None:
    vector = json.loads((VECTORS / "sign.json").read_text())
    assert len(vector["signatures"]) == 2
    for case in vector["signatures"]:
        signature, digest = bytes.fromhex(case["signature"]), bytes.fromhex(case["digest"])
        key = PublicKey.from_signature_and_message(signature, digest, hasher=None)
        assert key.format(compressed=False).hex() == vector["public_key"]
    keys = [KeyShare.from_bytes_checked(bytes.fromhex(data)) for data in vector["keys"].values()]
    assert {key.public_key.to_bytes().hex() for key in keys} == {vector["public_key"]}
