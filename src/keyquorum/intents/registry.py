"""The kinds of intent there are. A new kind is one file with `KIND` and `read`, and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keyquorum.intents import evm_message, evm_transaction, evm_typed_data, raw_digest
from keyquorum.intents.intent import BadIntent, Intent, Reader

READERS: dict[str, Reader] = {
    module.KIND: module.read for module in (evm_transaction, evm_message, evm_typed_data, raw_digest)
}


def read(intent: Mapping[str, Any], chain_id: int | None = None) -> Intent:
    """Decode `intent` strictly, or raise `BadIntent`.

    `chain_id` is the one chain transactions and typed data may be for; None allows any (the summary names it).
    """
    kind = intent.get("kind") if type(intent) is dict else None
    if type(kind) is not str:
        raise BadIntent("wrong_type", 'an intent is an object with a string "kind"')
    reader = READERS.get(kind)
    if reader is None:
        raise BadIntent("unknown_kind", "there is no such kind of intent", f"use one of: {', '.join(sorted(READERS))}")
    return reader(intent, chain_id)
