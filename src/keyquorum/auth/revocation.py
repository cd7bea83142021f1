"""Revocation: which sessions end, and who may end them. Pure; the chain is where it takes effect.

A revocation names one session (by its certificate's id), one identity (all sessions that rest on it) or one key (all
sessions, as far as that key is concerned). The nodes check who asks and sign the mark and a time with the network key;
the contract `Sessions` keeps, for each mark, the latest such time, and every node reads it at the newest block with
each use. A certificate issued at or before that time is dead. spec/auth.md section 8
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from keyquorum.auth.certificate import Certificate
from keyquorum.auth.method import MAX_ID_BYTES, Proven
from keyquorum.auth.request import MAX_LIFETIME
from keyquorum.evm.digests import identity_mark, key_mark, session_mark
from keyquorum.evm.keys import is_key_id
from keyquorum.formats.strict_json import integer, text
from keyquorum.formats.text import from_hex, read
from keyquorum.refusal import NOT_PERMITTED, Invalid, malformed

FOREVER = 2**64 - 1
_IDENTITY = {"type": integer(1, 2**53), "id": text(2 + 2 * MAX_ID_BYTES, 4)}


@dataclass(frozen=True, slots=True)
class Revocation:
    """What ends: exactly one of `session` (64 hex digits), `identity` (type, id) and `key` (a token id)."""

    session: str | None = None
    identity: tuple[int, bytes] | None = None
    key: str | None = None

    @property
    def mark(self) -> bytes:
        """The 32 bytes under which the contract keeps it."""
        if self.session is not None:
            return session_mark(bytes.fromhex(self.session))
        if self.identity is not None:
            return identity_mark(*self.identity)
        assert self.key is not None, "one of three"  # noqa: S101
        return key_mark(int(self.key, 16))

    def before(self, expires: int, issued_at: int) -> int:
        """Return the time (Unix seconds) up to which certificates die by a request with this expiry; of a session all.

        `issued_at` is of the session that asks: what has begun before it, and itself, ends in any case.
        """
        return FOREVER if self.session is not None else max(expires - MAX_LIFETIME, issued_at)


def read_revocation(intent: Mapping[str, object]) -> Revocation:
    """Parse `{"session": id}`, `{"identity": {"type", "id"}}` or `{"key": token id}`; raise `Invalid` otherwise."""
    # 8.1
    if len(intent) != 1:
        raise malformed("bad_revocation", "a revocation names one session, one identity or one key")
    ((word, value),) = intent.items()
    if word == "session":
        return Revocation(session=from_hex(f"0x{value}", 32, "the session's id").hex())
    if word == "identity":
        found = read(value, _IDENTITY, "the identity")
        return Revocation(identity=(found["type"], from_hex(found["id"], len(found["id"]) // 2 - 1, "the id")))
    if word == "key" and is_key_id(value):
        return Revocation(key=str(value))
    raise malformed("bad_revocation", "a revocation names one session, one identity or one key")


def check_authority(
    what: Revocation, certificate: Certificate, *, may_manage: bool = False, certified: Collection[Proven] = ()
) -> None:
    """Raise `Invalid` unless the session of `certificate` may demand `what`.

    `may_manage`: it has scope 6 on `what.key`; `certified`: the identities of the session `what.session`, as far as
    this node certified it. A session may end itself; a session that is nobody's delegate may end those that rest on an
    identity it has proven itself. A delegate may end only what was lent to it.
    """
    # 8.2
    if what.session is not None and what.session == certificate.counted[-1][0]:
        return
    # 8.3
    if not certificate.delegated:
        proven = {(one.type, one.id) for one in certificate.methods}
        if what.identity in proven or proven & {(one.type, one.id) for one in certified}:
            return
    # 8.4
    if what.key is not None and may_manage:
        return
    raise Invalid(
        "not_yours", "this session may not end that one", "log in as the person whose sessions they are", NOT_PERMITTED
    )


def marks_of(certificate: Certificate, key: str) -> tuple[list[bytes], list[bytes]]:
    """Return (marks that end the session, for each method the mark that ends it), to be asked of the contract."""
    # 8.5
    sessions = [session_mark(bytes.fromhex(name)) for name, _ in certificate.counted]
    if is_key_id(key):
        sessions.append(key_mark(int(key, 16)))
    return sessions, [identity_mark(one.type, one.id) for one in certificate.methods]


def apply(certificate: Certificate, ended: list[int], ended_methods: list[int]) -> Certificate:
    """Return the certificate with the methods that are left; `Invalid` when the session or all of them are revoked.

    `ended` and `ended_methods` are the contract's times for the marks of `marks_of`, 0 for none.
    """
    # 8.6
    left = tuple(
        one for one, time in zip(certificate.methods, ended_methods, strict=True) if certificate.issued_at > time
    )
    if any(certificate.issued_at <= time for time in ended) or not left:
        raise Invalid("session_revoked", "this session was revoked", "log in again")
    return certificate.with_methods(left)
