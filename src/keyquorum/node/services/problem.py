"""Which refusal a caller is given for what goes wrong inside a node, in one table.

Whatever a caller sends ends in a status below 500; 503 means that this node cannot serve now and another may. An
error never carries a secret, a path or a traceback; unexpected exceptions are logged by type and answered without
detail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from keyquorum.chain.rpc import RpcError, RpcUnreachable
from keyquorum.formats.strict_json import BadJson
from keyquorum.node.chain.chain_view import ChainUnavailable
from keyquorum.node.chain.strangers import Crowded
from keyquorum.node.runs.runner import AlreadyRun, PeerUnreachable, RunTimeout
from keyquorum.node.storage.database import StoreFailed
from keyquorum.node.storage.store import ShareCorrupt, ShareUnknown
from keyquorum.protocols.correlations import Depleted
from keyquorum.refusal import NOT_FOUND, TOO_MANY, UNAVAILABLE, Refusal
from keyquorum.rounds.errors import Abort, Blame

OTHERS = "ask for another of the runs, or sign the request again with other signers"


def explain(error: Exception) -> Refusal | None:
    """Return the answer for an exception that callers and peers can cause; None for one that is a bug of ours."""
    for kind, make in _ANSWERS:
        if isinstance(error, kind):
            return make(error)
    return None


def _cannot(code: str, message: str, hint: str = OTHERS, avoid: Iterable[int] = ()) -> Refusal:
    """Return the refusal of a node that cannot do it now."""
    return Refusal(code, message, hint, UNAVAILABLE, parties=avoid)


def _form(error: Any) -> Refusal:
    return Refusal(f"json_{error.code}", str(error), "see /v1/openapi.json for the exact form")


def _chain(_: Any) -> Refusal:
    hint = "try another node; the operator should look at the chain endpoint"
    return _cannot("chain_unavailable", "this node has no fresh view of the chain", hint)


def _crowded(_: Any) -> Refusal:
    message = "too many contract wallets are waiting to be asked"
    return Refusal("busy", message, "wait a moment", TOO_MANY, retry_after=1)


def _no_share(_: Any) -> Refusal:
    hint = "check the token id; a new key needs its block to be final"
    return Refusal("key_unknown", "this node holds no active share of the key", hint, NOT_FOUND)


def _no_store(_: Any) -> Refusal:
    hint = OTHERS + "; the operator must look at this node's disk"
    return _cannot("store_failed", "this node's store is out of use", hint)


def _depleted(error: Any) -> Refusal:
    hint = "wait a moment, or " + OTHERS
    return _cannot("pool_empty", "this node has no correlations left for a signer", hint, error.peers)


_ANSWERS: tuple[tuple[type[Exception], Callable[[Any], Refusal]], ...] = (
    (Refusal, lambda e: e),
    (BadJson, _form),
    (ChainUnavailable, _chain),
    (Crowded, _crowded),
    (RpcError, _chain),
    (RpcUnreachable, _chain),
    (ShareUnknown, _no_share),
    (ShareCorrupt, lambda _: _cannot("share_corrupt", "this node's share of the key is damaged")),
    (StoreFailed, _no_store),
    (AlreadyRun, lambda _: _cannot("already_run", "this attempt was made before")),
    (Depleted, _depleted),
    (PeerUnreachable, lambda e: _cannot("signer_unreachable", "a signer is not linked to this node", avoid=e.parties)),
    (RunTimeout, lambda e: _cannot("signer_silent", "a signer did not answer in time", avoid=e.silent)),
    (Blame, lambda e: _cannot("run_failed", "a signer's messages failed a check", avoid=e.culprits)),
    (Abort, lambda _: _cannot("run_failed", "the run ended without a result")),
)
