"""The sessions of a person, as the nodes remember them.

Each node remembers the logins it certified itself, so no node has the whole list: all are asked, and the answers are
merged by the session's id; what few nodes name stands last. What a node says here decides nothing; it is a list to look
at, and to revoke from. Whether a session is over already is asked of the chain: nobody may call one ended that still
works.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from keyquorum.auth.revocation import read_revocation
from keyquorum.client.broadcast import ask_all
from keyquorum.client.committee import Committee
from keyquorum.client.transport import Transport, encode
from keyquorum.refusal import Invalid

PATH = "/v1/sessions/list"
MAX_LISTED = 1000


class ListedMethod(msgspec.Struct):
    """An identity: contract type, and id as 0x hex."""

    type: int
    id: str


class Listed(msgspec.Struct, omit_defaults=True):
    """One session as a node tells it; times in Unix seconds."""

    id: str
    methods: list[ListedMethod]
    keys: list[str]
    scopes: list[int]
    issued_at: int
    expires: int
    uses: int = 0
    used: int = 0
    session: str = ""
    revoked: bool = False


class SessionsAnswer(msgspec.Struct):
    """The answer to `POST /v1/sessions/list`."""

    sessions: list[Listed]


@dataclass(frozen=True)
class SessionInfo:
    """One session: its id, who (type, 0x id), for what, until when, how many signatures it may make.

    `used` is the highest count that a node reports; `current` whether it is the session that asked.
    """

    id: str
    methods: tuple[tuple[int, str], ...]
    keys: tuple[str, ...]
    scopes: tuple[int, ...]
    issued_at: int
    expires: int
    uses: int
    used: int = 0
    revoked: bool = False
    current: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the object that the CLI prints."""
        return {name: value for name, value in vars(self).items() if name != "methods"} | {
            "methods": [{"type": number, "id": name} for number, name in self.methods]
        }


async def collect(
    committee: Committee, transport: Transport, asked: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    """Ask all nodes and return `{"sessions": [...]}`, the newest first; raise `KeyquorumError` when none answers."""
    answers = await ask_all(committee, transport, PATH, encode(asked), SessionsAnswer, seconds)
    return {"sessions": merge(answers.require(1), len(committee.nodes) - committee.threshold)}


def merge(answers: Mapping[int, SessionsAnswer], liars: int) -> list[Listed]:
    """Return every session once: the lowest party's words, the highest count, revoked when one node says so.

    First those that more than `liars` nodes name, the newest first: t nodes have certified each session that there is,
    so whatever so many nodes make up comes after them, and hides none.
    """
    found: dict[str, Listed] = {}
    named = Counter(name for answer in answers.values() for name in {one.id for one in answer.sessions[:MAX_LISTED]})
    for answer in answers.values():
        for one in answer.sessions[:MAX_LISTED]:
            known = found.setdefault(one.id, one)
            known.used = max(known.used, one.used)
            known.revoked = known.revoked or one.revoked
    return sorted(found.values(), key=lambda one: (named[one.id] <= liars, -one.issued_at, one.id))


def marks_of(listed: Iterable[SessionInfo]) -> dict[bytes, None]:
    """Return the marks that end any of these sessions, each once, in order."""
    return {mark: None for one in listed for mark in _marks(one)}


def ended(listed: Iterable[SessionInfo], times: Mapping[bytes, int]) -> tuple[SessionInfo, ...]:
    """Return the sessions that are sessions, `revoked` by what the contract says: the times of `marks_of`.

    One is over by its own mark, or when everything that it rests on has ended.
    """
    found = []
    for one in listed:
        if marks := _marks(one):
            itself, *identities = (times[mark] >= one.issued_at for mark in marks)
            found.append(replace(one, revoked=itself or all(identities)))
    return tuple(found)


def _marks(one: SessionInfo) -> list[bytes]:
    """Return a session's own mark and those of its identities; nothing when it names none."""
    named: list[Mapping[str, object]] = [{"session": one.id}]
    named += [{"identity": {"type": number, "id": name}} for number, name in one.methods]
    try:
        return [read_revocation(intent).mark for intent in named] if one.methods else []
    except Invalid:
        return []


def to_info(listed: Listed, current: str) -> SessionInfo:
    """Return what the client's caller sees; `current` is the id of the session that asked."""
    return SessionInfo(
        id=listed.id,
        methods=tuple((one.type, one.id) for one in listed.methods),
        keys=tuple(listed.keys),
        scopes=tuple(listed.scopes),
        issued_at=listed.issued_at,
        expires=listed.expires,
        uses=listed.uses,
        used=listed.used,
        revoked=listed.revoked,
        current=listed.id == current,
    )
