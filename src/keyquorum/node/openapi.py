"""The OpenAPI 3.1 document of a node, served at /v1/openapi.json; a test compares it with routes and answers."""

from __future__ import annotations

from typing import Any

from keyquorum import __version__
from keyquorum.auth.delegation import MAX_DEPTH
from keyquorum.auth.method import methods
from keyquorum.auth.request import MAX_RUNS
from keyquorum.auth.scopes import Scope
from keyquorum.auth.statement import MAX_USES

Schema = dict[str, Any]

_HEX = {"type": "string", "pattern": "^0x([0-9a-f]{2})*$"}
_KEY_ID = {"type": "string", "pattern": "^0x[0-9a-f]{64}$"}
_ADDRESS = {"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"}
_TEXT = {"type": "string"}
_NUMBER = {"type": "integer"}
_PARTY = {"type": "integer", "minimum": 1, "maximum": 65535}
# What every body has that a session signed.
_CALLER = {
    "certificate": _TEXT,
    "delegations": {"type": "array", "items": _TEXT, "maxItems": MAX_DEPTH},
    "request": _TEXT,
}


def _object(properties: Schema, optional: tuple[str, ...] = ()) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> Schema:
    return _run_schemas() | _login_schemas() | _session_schemas() | _network_schemas()


def _run_schemas() -> Schema:
    error = {"code": _TEXT, "message": _TEXT, "hint": _TEXT, "parties": {"type": "array", "items": _PARTY}}
    return {
        "Run": {
            "type": "integer",
            "minimum": 0,
            "maximum": MAX_RUNS - 1,
            "description": "which of the runs that the request names, from 0",
        },
        "Share": _object({"party": _PARTY, "w": _HEX, "u": _HEX, "R": _HEX}),
        "Error": _object({"error": _object(error, ("parties",))}),
        "SignRequest": _object(_CALLER | {"run": _ref("Run")}, ("delegations",)),
        "SignatureShare": _object({"share": _ref("Share"), "digest": _HEX, "summary": _TEXT}),
    }


def _login_schemas() -> Schema:
    known = methods()
    intent = {
        "statement": _ref("Statement"),
        "method": {"enum": sorted(known)},
        "proof": {"anyOf": [dict(method.proof_schema) for method in known.values()]},
        "certificate": _TEXT,
    }
    commitment = {
        "method": {"enum": sorted(name for name, method in known.items() if getattr(method, "bearer", False))},
        "statement": _ref("Statement"),
        "token_digest": _KEY_ID,
        "binding": _KEY_ID,
    }
    statement = {
        "network": _TEXT,
        "session": _object({"kty": {"const": "EC"}, "crv": {"const": "P-256"}, "x": _TEXT, "y": _TEXT}),
        "keys": {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 32},
        "scopes": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": max(Scope)}},
        "expires": _NUMBER,
        "nonce": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "block": _KEY_ID,
        "uses": {"type": "integer", "minimum": 1, "maximum": MAX_USES},
    }
    return {
        "Statement": _object(statement),
        "Login": _object(
            {
                "request": _TEXT | {"description": "of kind login; its intent:", "contentSchema": _ref("LoginIntent")},
                "run": _ref("Run"),
            }
        ),
        "LoginIntent": _object(intent, ("certificate",)),
        "LoginShare": _object({"share": _ref("Share"), "digest": _HEX, "certificate_input": _TEXT}),
        "Commitment": _object(commitment),
        "Receipt": _object({"receipt": _object({"party": _PARTY, "issued_at": _NUMBER, "signature": _HEX})}),
    }


def _session_schemas() -> Schema:
    session = {
        "id": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "session": _TEXT,
        "methods": {"type": "array", "items": _object({"type": _NUMBER, "id": _HEX})},
        "keys": {"type": "array", "items": _TEXT},
        "scopes": {"type": "array", "items": _NUMBER},
        "uses": _NUMBER,
        "used": _NUMBER,
        "issued_at": _NUMBER,
        "expires": _NUMBER,
        "revoked": {"type": "boolean"},
    }
    return {
        "SessionsRequest": _object(_CALLER, ("delegations",)),
        "Session": _object(session),
        "Sessions": _object({"sessions": {"type": "array", "items": _ref("Session")}}),
        "RevocationRequest": _object(_CALLER | {"run": _ref("Run")}, ("delegations",)),
        "RevocationShare": _object({"share": _ref("Share"), "digest": _HEX, "what": _KEY_ID, "before": _NUMBER}),
    }


def _network_schemas() -> Schema:
    node = _object({"party": _PARTY, "url": _TEXT, "live": {"type": "boolean"}})
    return {
        "Network": _object(
            {
                "network": _TEXT,
                "chain_id": _NUMBER,
                "contracts": {"type": "object", "additionalProperties": _ADDRESS},
                "epoch": _NUMBER,
                "threshold": _NUMBER,
                "party": _PARTY,
                "block": _NUMBER,
                "nodes": {"type": "array", "items": node},
                "network_key": {"oneOf": [_HEX, {"type": "null"}]},
                "methods": {"type": "array", "items": _TEXT},
                "identity_secret": {"type": "boolean"},
                "ready": {"type": "boolean"},
                "degraded": {"type": "array", "items": _TEXT},
                "version": _TEXT,
            }
        ),
        "Key": _object(
            {
                "token_id": _KEY_ID,
                "public_key": _HEX,
                "address": _ADDRESS,
                "owner": {"oneOf": [_ADDRESS, {"type": "null"}]},
                "state": {"enum": ["active", "pending", "unknown"]},
                "epoch": _NUMBER,
            }
        ),
        "Live": _object({"status": {"const": "live"}, "version": _TEXT}),
        "Ready": _object(
            {
                "ready": {"type": "boolean"},
                "serves": {"type": "boolean"},
                "reasons": {"type": "array", "items": _TEXT},
                "degraded": {"type": "array", "items": _TEXT},
            }
        ),
    }


def _content(name: str) -> Schema:
    return {"application/json": {"schema": _ref(name)}}


def _answers(name: str, extra: Schema | None = None) -> Schema:
    refusals = {
        "4XX": {"description": "Refused: see error.code; nothing was spent.", "content": _content("Error")},
        "503": {"description": "Not now, or not by this node.", "content": _content("Error")},
    }
    return {"200": {"description": "Done.", "content": _content(name)}} | refusals | (extra or {})


def _post(summary: str, body: str, answer: str) -> Schema:
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": _content(body)},
            "responses": _answers(answer),
        }
    }


def _get(summary: str, answer: str, parameters: list[Schema] | None = None, extra: Schema | None = None) -> Schema:
    operation: Schema = {"summary": summary, "responses": _answers(answer, extra)}
    if parameters:
        operation["parameters"] = parameters
    return {"get": operation}


def document() -> Schema:
    """Return the whole document."""
    key_id = {"name": "id", "in": "path", "required": True, "schema": _KEY_ID}
    text = {"200": {"description": "Prometheus text.", "content": {"text/plain": {"schema": _TEXT}}}}
    plain = {"200": {"description": "This document.", "content": {"application/json": {"schema": {"type": "object"}}}}}
    not_ready = {"503": {"description": "Not ready.", "content": _content("Ready")}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Keyquorum node", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": {
            "/v1/sign": _post("This node's share of a signature over an intent.", "SignRequest", "SignatureShare"),
            "/v1/sessions": _post("This node's share of a session certificate for a login.", "Login", "LoginShare"),
            "/v1/sessions/list": _post("Sessions of the asking identities.", "SessionsRequest", "Sessions"),
            "/v1/revocations": _post("This node's share of a revocation.", "RevocationRequest", "RevocationShare"),
            "/v1/commitments": _post("A receipt for a bearer token that is not shown yet.", "Commitment", "Receipt"),
            "/v1/network": _get("The network as this node sees it.", "Network"),
            "/v1/keys/{id}": _get("One key.", "Key", [key_id]),
            "/v1/openapi.json": {"get": {"summary": "This document.", "responses": plain}},
            "/livez": _get("Whether the process runs.", "Live"),
            "/readyz": _get("Whether the node can sign with every key it should.", "Ready", extra=not_ready),
            "/metrics": {"get": {"summary": "Metrics.", "responses": text}},
        },
        "components": {"schemas": _schemas()},
    }
