"""The fields of an intent, read by `strict_json.fields`, whose complaint becomes a `BadIntent`."""

from __future__ import annotations

from typing import Any

from keyquorum.formats.strict_json import BadJson, Rules, fields
from keyquorum.intents.intent import BadIntent


def read_fields(
    value: object,
    required: Rules,
    optional: Rules | None = None,
    where: str = "the intent",
) -> dict[str, Any]:
    """Return the fields of `value` as `strict_json.fields` does; raise `BadIntent` with its code."""
    try:
        return fields(value, required, optional or {}, where)
    except BadJson as error:
        raise BadIntent(error.code, str(error)) from None
