"""`AuthError`: the one way this package says no.

Whoever receives it needs three things: a word a program can branch on (`code`), a sentence for a person
(`message`) and what to do next (`hint`). `status` is the HTTP status a server answers with: 400 for what is not
even well formed, 401 for a proof, certificate or request that does not hold, 403 for a person who is who
they say and still may not, 503 when somebody who must be asked does not answer. Nothing secret is ever put into one:
proofs and tokens are not quoted.
"""

from __future__ import annotations

MALFORMED = 400
NOT_PROVEN = 401
NOT_PERMITTED = 403
UNAVAILABLE = 503


class AuthError(ValueError):
    """A login, a certificate, a request or a permission was refused; see `code`, `message`, `hint`, `status`."""

    def __init__(self, code: str, message: str, hint: str, status: int = NOT_PROVEN) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.hint = hint
        self.status = status


def malformed(code: str, message: str, hint: str = "see spec/auth.md for the exact form") -> AuthError:
    """Return the error for input that does not have the form it must have (status 400)."""
    return AuthError(code, message, hint, MALFORMED)
