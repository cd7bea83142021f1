"""Login method `sms`: k of m independent code services say that their codes, sent to one phone number, came back.

The identity is the number in E.164 (`+`, country, subscriber; digits only), concealed with the network's secret. A
phone company, and whoever talks it into moving a number (SIM swap), can log in: use it only together with another
method (bit 32+s of a grant), never alone for anything of worth. Spec: spec/auth.md, "Codes by e-mail and SMS".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from keyquorum.auth.code_assertion import CodeSettings, prove_address
from keyquorum.auth.email_code import EmailCode
from keyquorum.auth.errors import malformed
from keyquorum.auth.method import Context, Proven
from keyquorum.auth.statement import Statement

SMS_TYPE = 21
# A country code never begins with 0; E.164 allows 15 digits, and no subscriber has fewer than 7 with the country.
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")


class SmsCode:
    """The method; see the head of this file."""

    name = "sms"
    type_number = SMS_TYPE
    settings_type = CodeSettings
    summary = "codes sent to a phone by independent services come back in the session that asked"
    proof_schema: Mapping[str, object] = EmailCode.proof_schema

    async def verify(self, proof: object, challenge: Statement, context: Context) -> Proven:
        """Return the concealed number; raise `AuthError` unless enough services speak for exactly this login."""
        return await prove_address(proof, "sms", SMS_TYPE, normalise, challenge, context)


METHOD = SmsCode()


def normalise(address: str) -> str:
    """Return `address` when it is a phone number in E.164, as `+491701234567`; raise `AuthError` (400) otherwise."""
    if not _E164.fullmatch(address):
        raise malformed("bad_mail_or_phone", "the phone number is not E.164", "write + and 7 to 15 digits, no blanks")
    return address
