"""What is being signed: decode strictly, summarise in one line, compute the digest. Pure.

`read(intent, chain_id)` is all a node needs; the builders are for clients. One file per kind, listed in
`registry.py`; spec/intents.md is the format.
"""

from keyquorum.intents.build import (
    apply_signature,
    message_intent,
    raw_digest_intent,
    transaction_hash,
    transaction_intent,
    typed_data_intent,
)
from keyquorum.intents.intent import BadIntent, Intent
from keyquorum.intents.registry import READERS, read

__all__ = [
    "READERS",
    "BadIntent",
    "Intent",
    "apply_signature",
    "message_intent",
    "raw_digest_intent",
    "read",
    "transaction_hash",
    "transaction_intent",
    "typed_data_intent",
]
