"""How the API says no: one shape, `{"error": {"code", "message", "hint"}}`, and one place that makes it.

Whatever a caller sends ends in a status below 500; 503 means that this node cannot serve now and another may. An
error never carries a secret, a path or a traceback; unexpected exceptions are logged by type and answered without
detail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keyquorum.algebra.strict_json import BadJson
from keyquorum.auth.errors import AuthError
from keyquorum.chain.rpc import RpcError, RpcUnreachable
from keyquorum.intents.intent import BadIntent
from keyquorum.node.chain_view import ChainUnavailable
from keyquorum.node.database import StoreFailed
from keyquorum.node.runner import AlreadyRun, PeerUnreachable, RunTimeout
from keyquorum.node.store import ShareCorrupt, ShareUnknown
from keyquorum.node.strangers import Crowded
from keyquorum.protocols.correlations import Depleted
from keyquorum.rounds.errors import Abort, Blame

BAD_REQUEST, NOT_FOUND, CONFLICT, TOO_LARGE, TOO_MANY, UNAVAILABLE = 400, 404, 409, 413, 429, 503
OTHERS = "ask for another of the runs, or sign the request again with other signers"


@dataclass
class ApiError(Exception):
    """An answer that is a refusal; `status` is the HTTP status, `parties` whom to avoid in the next attempt.

    `retry_after` are the seconds for the header of that name, 0 for none.
    """

    status: int
    code: str
    message: str
    hint: str
    parties: frozenset[int] = frozenset()
    retry_after: int = 0

    def body(self) -> dict[str, Any]:
        """Return the JSON body."""
        error: dict[str, Any] = {"code": self.code, "message": self.message, "hint": self.hint}
        if self.parties:
            error["parties"] = sorted(self.parties)
        return {"error": error}


def explain(error: Exception) -> ApiError | None:
    """Return the answer for an exception that callers and peers can cause; None for one that is a bug of ours."""
    for kind, make in _ANSWERS:
        if isinstance(error, kind):
            return make(error)
    return None


def _blame(error: Any) -> ApiError:
    return ApiError(UNAVAILABLE, "run_failed", "a signer's messages failed a check", OTHERS, error.culprits)


def _silent(error: Any) -> ApiError:
    return ApiError(UNAVAILABLE, "signer_silent", "a signer did not answer in time", OTHERS, error.silent)


def _unreachable(error: Any) -> ApiError:
    return ApiError(UNAVAILABLE, "signer_unreachable", "a signer is not linked to this node", OTHERS, error.parties)


def _chain(_: Any) -> ApiError:
    hint = "try another node; the operator should look at the chain endpoint"
    return ApiError(UNAVAILABLE, "chain_unavailable", "this node has no fresh view of the chain", hint)


_ANSWERS: tuple[tuple[type[Exception], Callable[[Any], ApiError]], ...] = (
    (ApiError, lambda e: e),
    (BadJson, lambda e: ApiError(BAD_REQUEST, f"json_{e.code}", str(e), "see /v1/openapi.json for the exact form")),
    (AuthError, lambda e: ApiError(e.status, e.code, e.message, e.hint)),
    (BadIntent, lambda e: ApiError(BAD_REQUEST, e.code, e.message, e.hint)),
    (ChainUnavailable, _chain),
    (Crowded, lambda e: ApiError(TOO_MANY, "busy", "too many contract wallets are waiting to be asked", "wait a moment",
                                 retry_after=1)),
    (RpcError, _chain),
    (RpcUnreachable, _chain),
    (ShareUnknown, lambda e: ApiError(NOT_FOUND, "key_unknown", "this node holds no active share of the key",
                                      "check the token id; a new key needs its block to be final")),
    (ShareCorrupt, lambda e: ApiError(UNAVAILABLE, "share_corrupt", "this node's share of the key is damaged", OTHERS)),
    (StoreFailed, lambda e: ApiError(UNAVAILABLE, "store_failed", "this node's store is out of use",
                                     OTHERS + "; the operator must look at this node's disk")),
    (AlreadyRun, lambda e: ApiError(UNAVAILABLE, "already_run", "this attempt was made before", OTHERS)),
    (Depleted, lambda e: ApiError(UNAVAILABLE, "pool_empty", "this node has no correlations left for a signer",
                                  "wait a moment, or " + OTHERS, e.peers)),
    (PeerUnreachable, _unreachable),
    (RunTimeout, _silent),
    (Blame, _blame),
    (Abort, lambda e: ApiError(UNAVAILABLE, "run_failed", "the run ended without a result", OTHERS)),
)  # fmt: skip
