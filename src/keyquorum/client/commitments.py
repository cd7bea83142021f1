"""Receipts for a commitment, from every node: what a login with a bearer token begins with (auth/commitment.py)."""

from __future__ import annotations

from typing import Any

import msgspec

from keyquorum.auth.commitment import Commitment
from keyquorum.client.broadcast import ask_all
from keyquorum.client.committee import Committee
from keyquorum.client.transport import Transport, encode

PATH = "/v1/commitments"


class ReceiptFields(msgspec.Struct):
    """A node's receipt as it travels."""

    party: int
    issued_at: int
    signature: str


class CommitmentAnswer(msgspec.Struct):
    """A node's answer to `POST /v1/commitments`."""

    receipt: ReceiptFields


async def collect(committee: Committee, transport: Transport, commitment: Commitment, seconds: float) -> dict[str, Any]:
    """Return `{"receipts": [...], "missing": {party: why}}`; raise `KeyquorumError` when no node gave one.

    Nothing is checked here: whoever shows the token checks the receipts first (`commitment.check_receipts`).
    """
    body = encode(commitment.to_json())
    answers = await ask_all(committee, transport, PATH, body, CommitmentAnswer, seconds)
    receipts = [msgspec.to_builtins(answer.receipt) for answer in answers.require(1).values()]
    return {"receipts": receipts, "missing": {str(party): str(error) for party, error in answers.missing.items()}}
