"""The gateway's OpenAPI document, small enough to be read: what goes in, what comes out."""

from __future__ import annotations

from typing import Any

from keyquorum import __version__
from keyquorum.auth.method import methods

HEX = {"type": "string", "pattern": "^0x[0-9a-f]*$"}
TEXT = {"type": "string"}
NUMBER = {"type": "integer"}
ERROR = {"code": TEXT, "message": TEXT, "hint": TEXT}
KEY = {"token_id": HEX, "public_key": HEX, "address": HEX, "owner": TEXT, "state": TEXT, "epoch": NUMBER}


def _object(properties: dict[str, Any], *, closed: bool = False) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "required": list(properties), "properties": properties}
    return schema | ({"additionalProperties": False} if closed else {})


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _operation(summary: str, answer: dict[str, Any], body: dict[str, Any] | None = None) -> dict[str, Any]:
    failed = {"description": "an error"} | _content(_object({"error": _object(ERROR)}))
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": {"description": "done"} | _content(_object(answer)), "4XX": failed, "503": failed},
    }
    return operation | ({"requestBody": {"required": True} | _content(_object(body, closed=True))} if body else {})


def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    signature = _object({"r": HEX, "s": HEX, "v": NUMBER, "compact": HEX})
    proofs = {"oneOf": [dict(each.proof_schema) for each in methods().values()]}
    names = {"type": "string", "enum": list(methods())}
    session = {"statement": {"type": "object"}, "method": names, "proof": proofs}
    sign = _operation(
        "sign what a session key asked for",
        {"signature": signature, "summary": TEXT, "digest": HEX, "public_key": HEX},
        {"certificate": TEXT, "request": TEXT},
    )
    mint = _operation(
        "mint the next key; the gateway pays",
        {"token_id": HEX, "public_key": HEX, "address": HEX, "transaction": HEX},
        {"owner": HEX},
    )
    key_id = {"name": "id", "in": "path", "required": True, "schema": HEX}
    network = {"network": TEXT, "chain_id": NUMBER, "threshold": NUMBER, "nodes": {"type": "array"}, "ready": {}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Keyquorum gateway", "version": __version__},
        "paths": {
            "/v1/sessions": {"post": _operation("certify a login", {"certificate": TEXT}, session)},
            "/v1/sign": {"post": sign},
            "/v1/keys": {"post": mint},
            "/v1/keys/{id}": {"parameters": [key_id], "get": _operation("look a key up", KEY)},
            "/v1/network": {"get": _operation("the network and who answers", network)},
            "/network.json": {"get": _operation("the network file", {"network": TEXT, "rpc": TEXT, "gateway": TEXT})},
            "/livez": {"get": _operation("whether the process lives", {"status": TEXT})},
            "/readyz": {"get": _operation("whether enough nodes are ready", {"ready": {"type": "boolean"}})},
        },
    }
