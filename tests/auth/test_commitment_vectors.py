"""One commitment with all its bytes written down, for whoever writes the client's side in another language."""

from __future__ import annotations

import json
from pathlib import Path

from keyquorum.auth.commitment import Commitment, Receipt
from keyquorum.auth.statement import Statement

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "bearer.json").read_text())


def test_commitments_and_receipts_have_the_bytes_that_are_written_down() -> None:
    assert VECTORS
    for vector in VECTORS:
        statement = Statement.from_json(vector["statement"])
        commitment = Commitment.to_token(vector["method"], vector["token"], statement)
        assert statement.challenge == vector["challenge"]
        assert commitment.token_digest.hex() == vector["token_digest"]
        assert commitment.binding.hex() == vector["binding"]
        receipt = Receipt.from_json(vector["receipt"])
        digest = commitment.receipt_digest(vector["epoch"], receipt.party, receipt.issued_at)
        assert digest.hex() == vector["receipt_digest"]
        signed = Receipt.sign(
            commitment, vector["epoch"], receipt.party, receipt.issued_at, bytes.fromhex(vector["secret"])
        )
        assert signed == receipt
