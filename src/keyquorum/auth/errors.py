"""`AuthError`: the one way this package says no; `keyquorum.refusal` says what each part means."""

from __future__ import annotations

from keyquorum.refusal import MALFORMED, NOT_PROVEN, Refusal


class AuthError(Refusal, ValueError):
    """A login, a certificate, a request or a permission was refused: 401 unless `status` says otherwise."""

    def __init__(self, code: str, message: str, hint: str, status: int = NOT_PROVEN) -> None:
        super().__init__(code, message, hint, status)


def malformed(code: str, message: str, hint: str = "see spec/auth.md for the exact form") -> AuthError:
    """Return the error for input that does not have the form it must have (status 400)."""
    return AuthError(code, message, hint, MALFORMED)
