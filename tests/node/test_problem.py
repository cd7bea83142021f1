"""Every exception that a caller, a peer or the chain can cause has its documented answer, which tells no secret."""

from __future__ import annotations

import json

import pytest

from keyquorum.chain import contracts
from keyquorum.chain.rpc import Reverted, RpcError, RpcUnreachable
from keyquorum.formats.strict_json import BadJson
from keyquorum.intents.intent import BadIntent
from keyquorum.node.chain.chain_view import ChainUnavailable, Unusable
from keyquorum.node.runs.runner import AlreadyRun, PeerUnreachable, RunTimeout
from keyquorum.node.services.problem import explain
from keyquorum.node.storage.database import StoreFailed
from keyquorum.node.storage.store import ShareCorrupt, ShareUnknown
from keyquorum.protocols.correlations import Depleted
from keyquorum.refusal import Invalid, Refusal
from keyquorum.rounds.errors import Abort, Blame

SECRET = "5ec2e7"
PARTIES = frozenset({3, 1})

ANSWERS = [
    (Refusal("tea", "m", "h", 418), 418, "tea", ()),
    (BadJson("wrong_type", "m"), 400, "json_wrong_type", ()),
    (Invalid("nope", "m", "h", 403), 403, "nope", ()),
    (BadIntent("bad_chain", "m", "h"), 400, "bad_chain", ()),
    (ChainUnavailable(SECRET), 503, "chain_unavailable", ()),
    (Unusable(SECRET), 503, "chain_unavailable", ()),
    (RpcError(-32000, SECRET), 503, "chain_unavailable", ()),
    (RpcUnreachable(SECRET), 503, "chain_unavailable", ()),
    (Reverted(3, SECRET), 503, "chain_unavailable", ()),
    (contracts.Reverted("Error", (SECRET,)), 503, "chain_unavailable", ()),
    (ShareUnknown(SECRET), 404, "key_unknown", ()),
    (ShareCorrupt(SECRET), 503, "share_corrupt", ()),
    (StoreFailed(SECRET), 503, "store_failed", ()),
    (AlreadyRun(SECRET), 503, "already_run", ()),
    (Depleted(PARTIES), 503, "pool_empty", (1, 3)),
    (PeerUnreachable(PARTIES), 503, "signer_unreachable", (1, 3)),
    (RunTimeout(PARTIES), 503, "signer_silent", (1, 3)),
    (Blame(PARTIES, SECRET, [1]), 503, "run_failed", (1, 3)),
    (Abort(SECRET), 503, "run_failed", ()),
]


@pytest.mark.parametrize(("error", "status", "code", "parties"), ANSWERS, ids=lambda value: type(value).__name__)
def test_every_foreseen_exception_has_its_answer(
    error: Exception, status: int, code: str, parties: tuple[int, ...]
) -> None:
    answer = explain(error)
    assert answer is not None
    assert (answer.status, answer.code, tuple(sorted(answer.parties))) == (status, code, parties)
    told = answer.to_json()
    assert set(told) == {"code", "message", "hint"} | ({"parties"} if parties else set())
    assert told.get("parties", []) == list(parties)
    assert answer.message
    assert answer.hint
    assert SECRET not in json.dumps(told)


@pytest.mark.parametrize("error", [ValueError(SECRET), KeyError(SECRET), RuntimeError(SECRET), OSError(SECRET)])
def test_a_bug_of_ours_has_no_answer_of_its_own(error: Exception) -> None:
    assert explain(error) is None


def test_the_words_of_a_refusal_reach_the_caller() -> None:
    answer = explain(Invalid("code", "message", "hint", 401))
    assert answer is not None
    assert answer.to_json() == {"code": "code", "message": "message", "hint": "hint"}
    answer = explain(BadIntent("bad_chain", "message", "hint"))
    assert answer is not None
    assert (answer.message, answer.hint) == ("message", "hint")
