"""May this session use this key for this? A pure decision from the certificate and the chain's state at two blocks.

The two blocks are what makes it asymmetric, and safe: *grants* count when they are final (the finalised block),
*revocations and transfers away* count at once (the newest block). So the same authority must hold at both. A change
of hands starts a new grant epoch; if the epochs of the two states differ, no grant holds at both, because the old
owner's are void and the new owner's are not yet final.

Authority comes from a proven method: the token's owner (type 1, the address itself) may do everything but sign raw
digests; whoever a grant names may do what its scopes say. The certificate can only narrow that. Raw digests need an
explicit grant even for the owner, so that nobody signs blindly by accident. A grant may also ask for company: two
proven methods that may do it only together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from keyquorum.auth.certificate import Certificate
from keyquorum.auth.method import ADDRESS_TYPE, Proven
from keyquorum.auth.scopes import OWNER_SCOPES, Scope, covers, from_bitmap, from_bitmap_together
from keyquorum.auth.statement import ALL_KEYS
from keyquorum.evm.address import ADDRESS_BYTES
from keyquorum.evm.keys import is_key_id
from keyquorum.refusal import NOT_PERMITTED, Invalid


@dataclass(frozen=True, slots=True)
class KeyState:
    """What the chain says about one key at one block.

    `owner`: 20 bytes, None when the token does not exist there. `grants`: (method type, id) to the bitmap of scopes,
    only those of the current `grant_epoch`, the number that changes whenever the token changes hands. `owns_itself`:
    the owner is the key's own address, so owning adds nothing to what is granted.
    """

    owner: bytes | None
    grants: Mapping[tuple[int, bytes], int] = field(default_factory=dict)
    grant_epoch: int = 0
    owns_itself: bool = False

    def __post_init__(self) -> None:
        if self.owner is not None and len(self.owner) != ADDRESS_BYTES:
            raise ValueError("an owner is an address of 20 bytes")


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, with a `code` for programs and a sentence and a hint for people; `by` is who authorised it."""

    allowed: bool
    code: str
    message: str
    hint: str
    by: Proven | None = None

    def require(self) -> Proven:
        """Return who authorised it; raise `Invalid` (403) when it is denied."""
        if self.by is None:
            raise Invalid(self.code, self.message, self.hint, NOT_PERMITTED)
        return self.by


def decide(certificate: Certificate, needed: Scope, key: str, finalised: KeyState, newest: KeyState) -> Decision:
    """Decide whether the certificate's session may use `key` (a token id) for the scope `needed`.

    The certificate must have been verified and be in time. Raises `ValueError` when `key` is no token id.
    """
    if not is_key_id(key):
        raise ValueError("a key is named by its token id")
    # 6.1
    if not certificate.scopes:
        return _deny("identify_only", "this session may only identify its user", "log in with the scopes you need")
    if not covers(certificate.scopes, needed):
        return _deny(
            "scope_not_in_session",
            f"this session may not {needed.name.lower().replace('_', ' ')}",
            f"log in again asking for scope {int(needed)}",
        )
    # 6.2
    if certificate.keys != (ALL_KEYS,) and key not in certificate.keys:
        return _deny("key_not_in_session", "this session is not for this key", "log in again naming the key")
    # 6.3
    if finalised.owner is None or newest.owner is None:
        return _deny("key_unknown", "the key's token does not exist, or not yet finally", "wait, or check the token id")
    for proven in certificate.methods:
        if _holds(proven, needed, finalised, newest):
            return Decision(True, "allowed", "allowed", "", proven)
    # 6.6
    together = [one for one in certificate.methods if _holds(one, needed, finalised, newest, together=True)]
    if len(together) > 1:
        return Decision(True, "allowed", "allowed by two methods together", "", together[0])
    if together:
        return _deny(
            "second_method_needed",
            "on this key your method may do this only together with a second one",
            "prove another method that the key permits for the same session (step up), then ask again",
        )
    return _explain(certificate, needed, finalised, newest)


def decide_member(certificate: Certificate, key: str, finalised: KeyState, newest: KeyState) -> Decision:
    """Decide whether the session has proven any method of `key`, whatever its scopes: enough to cancel a change.

    The certificate must have been verified and be in time, and must name the key.
    """
    # 6.7
    if not certificate.scopes or certificate.delegated:
        return _deny(
            "identify_only", "this session may only identify its user, or was lent", "log in yourself, with any scope"
        )
    if certificate.keys != (ALL_KEYS,) and key not in certificate.keys:
        return _deny("key_not_in_session", "this session is not for this key", "log in again naming the key")
    for proven in certificate.methods:
        granted = finalised.grant_epoch == newest.grant_epoch and all(
            (proven.type, proven.id) in state.grants for state in (finalised, newest)
        )
        if granted or (_owns(proven, finalised) and _owns(proven, newest)):
            return Decision(True, "allowed", "allowed", "", proven)
    return _deny("not_permitted", "none of your identities belongs to this key", "ask the key's owner")


def _holds(proven: Proven, needed: Scope, finalised: KeyState, newest: KeyState, *, together: bool = False) -> bool:
    """Say whether one identity has the authority at both blocks, alone or `together` with another one."""
    # 6.5
    if finalised.grant_epoch != newest.grant_epoch:
        # No grant spans the change of hands; only somebody who owned the token before and owns it now is left.
        return all(_owns(proven, state) and needed in OWNER_SCOPES for state in (finalised, newest))
    # 6.4
    return all(_authorised(proven, needed, state, together=together) for state in (finalised, newest))


def _owns(proven: Proven, state: KeyState) -> bool:
    # A login in the key's own name is a signature of the key: whoever could get one signed would own it for good.
    return proven.type == ADDRESS_TYPE and proven.id == state.owner and not state.owns_itself


def _authorised(proven: Proven, needed: Scope, state: KeyState, *, together: bool = False) -> bool:
    if _owns(proven, state) and needed in OWNER_SCOPES:
        return True
    bitmap = state.grants.get((proven.type, proven.id), 0)
    return covers(from_bitmap_together(bitmap) if together else from_bitmap(bitmap), needed)


def _explain(certificate: Certificate, needed: Scope, finalised: KeyState, newest: KeyState) -> Decision:
    before = any(_authorised(proven, needed, finalised) for proven in certificate.methods)
    now = any(_authorised(proven, needed, newest) for proven in certificate.methods)
    if now:
        return _deny("not_final", "the permission is too new: its block is not final yet", "try again when it is final")
    if before:
        return _deny("revoked", "the permission was revoked or the key changed hands", "ask the key's owner")
    if needed is Scope.SIGN_RAW_DIGEST:
        return _deny(
            "raw_digest_not_granted",
            "raw digests need scope 5, which nothing implies, not even ownership",
            "send the transaction or message itself, or grant scope 5 explicitly",
        )
    return _deny("not_permitted", "none of your identities may do this with this key", "ask the key's owner")


def _deny(code: str, message: str, hint: str) -> Decision:
    return Decision(False, code, message, hint)
