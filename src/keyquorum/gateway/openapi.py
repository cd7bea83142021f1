"""The gateway's OpenAPI document, small enough to be read: what goes in, what comes out."""

from __future__ import annotations

from typing import Any

from keyquorum import __version__
from keyquorum.auth import delegation
from keyquorum.auth.method import methods

HEX = {"type": "string", "pattern": "^0x[0-9a-f]*$"}
TEXT = {"type": "string"}
NUMBER = {"type": "integer"}
ERROR = {"code": TEXT, "message": TEXT, "hint": TEXT}
SESSION = {"id": TEXT, "methods": {"type": "array"}, "keys": {"type": "array"}, "scopes": {"type": "array"}} | {
    "issued_at": NUMBER,
    "expires": NUMBER,
}
KEY = {"token_id": HEX, "public_key": HEX, "address": HEX, "owner": TEXT, "state": TEXT, "epoch": NUMBER}


def _object(properties: dict[str, Any], *, closed: bool = False) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "required": list(properties), "properties": properties}
    return schema | ({"additionalProperties": False} if closed else {})


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _whole(answer: dict[str, Any]) -> dict[str, Any]:
    return answer if "oneOf" in answer else _object(answer)


def _operation(summary: str, answer: dict[str, Any], body: dict[str, Any] | None = None) -> dict[str, Any]:
    failed = {"description": "an error"} | _content(_object({"error": _object(ERROR)}))
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": {"description": "done"} | _content(_whole(answer)), "4XX": failed, "503": failed},
    }
    return operation | ({"requestBody": {"required": True} | _content(body)} if body else {})


def _forms() -> dict[str, dict[str, Any]]:
    """Return the body of every POST."""
    proofs = {"oneOf": [dict(each.proof_schema) for each in methods().values()]}
    names = {"type": "string", "enum": list(methods())}
    request = _object({"certificate": TEXT, "request": TEXT}, closed=True)
    lent = {"type": "array", "items": TEXT, "maxItems": delegation.MAX_DEPTH}
    request["properties"] = request["properties"] | {"delegations": lent}
    intent = _object({"statement": {"type": "object"}, "method": names, "proof": proofs}, closed=True)
    intent["properties"] = intent["properties"] | {"certificate": TEXT}
    login = TEXT | {"description": "signed by the statement's session key; its intent:", "contentSchema": intent}
    session = _object({"request": login}, closed=True)
    digests = {"token_digest": HEX, "binding": HEX}
    call = {"key": HEX, "call": HEX, "nonce": NUMBER, "deadline": NUMBER, "signature": HEX}
    return {
        "request": request,
        "session": session,
        "commitment": _object({"method": names, "statement": {"type": "object"}} | digests, closed=True),
        "mint": {"oneOf": [request, _object({"owner": HEX, "request": TEXT}, closed=True)]},
        "call": _object(call, closed=True),
    }


def _posts(form: dict[str, dict[str, Any]]) -> dict[str, Any]:
    signature = _object({"r": HEX, "s": HEX, "v": NUMBER, "compact": HEX})
    signed = {"signature": signature, "summary": TEXT, "digest": HEX, "public_key": HEX}
    paid = {"relay": HEX, "transaction": {"type": ["string", "null"]}}
    key = {"token_id": HEX, "public_key": HEX, "address": HEX} | paid
    login_key = _object(key | {"minted": {"type": "boolean"}})
    revoked = {"what": HEX, "before": TEXT, "signature": HEX, "transaction": HEX}
    receipts = {"receipts": {"type": "array"}, "missing": {"type": "object"}}
    sessions = {"sessions": {"type": "array", "items": _object(SESSION)}}
    return {
        "/v1/sessions": _operation(
            "certify a login (kind login), or step a certificate up", {"certificate": TEXT},
            form["session"],
        ),
        "/v1/sessions/list": _operation("the sessions that nodes remember (kind sessions)", sessions, form["request"]),
        "/v1/revocations": _operation(
            "end sessions (kind revoke); the gateway pays", revoked, form["request"]
        ),
        "/v1/commitments": _operation("every node's receipt for a bearer token", receipts, form["commitment"]),
        "/v1/sign": _operation("sign what a session key asked for (kind sign)", signed, form["request"]),
        "/v1/keys": _operation(
            "the key of a login (kind mint), or the next key to an owner", {"oneOf": [login_key, _object(key)]},
            form["mint"],
        ),
        "/v1/permissions": _operation(
            "change who may use a key, as its owner signed it; the gateway pays", {"transaction": HEX}, form["call"]
        ),
    }  # fmt: skip


def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    key_id = {"name": "id", "in": "path", "required": True, "schema": HEX}
    network = {"network": TEXT, "chain_id": NUMBER, "threshold": NUMBER, "nodes": {"type": "array"}, "ready": {}}
    lists = {name: {"type": "array"} for name in ("methods", "domains", "oidc", "codes")}
    login = lists | {"rp_id": TEXT, "discord": {"type": ["object", "null"]}}
    gets = {
        "/v1/login": _operation("with what people can log in here, and where", login),
        "/v1/network": _operation("the network and who answers", network),
        "/network.json": _operation("the network file", {"network": TEXT, "rpc": TEXT, "gateway": TEXT}),
        "/livez": _operation("whether the process lives", {"status": TEXT}),
        "/readyz": _operation("whether enough nodes are ready", {"ready": {"type": "boolean"}}),
    }
    credential = {"name": "id", "in": "path", "required": True, "schema": TEXT}
    page = {"name": "page", "in": "query", "required": False, "schema": NUMBER}
    found = {"public_key": TEXT, "others": {"type": "array", "items": TEXT}, "more": {"type": "boolean"}}
    named = {
        "/v1/keys/{id}": {"parameters": [key_id], "get": _operation("look a key up", KEY)},
        "/v1/passkeys/{id}": {"parameters": [credential, page], "get": _operation("the keys of a passkey's id", found)},
    }
    posts = {path: {"post": operation} for path, operation in _posts(_forms()).items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Keyquorum gateway", "version": __version__},
        "paths": posts | named | {path: {"get": operation} for path, operation in gets.items()},
    }
