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
from keyquorum.auth.method import Context, Proven
from keyquorum.auth.statement import Statement
from keyquorum.refusal import malformed

SMS_TYPE = 21
# A country code never begins with 0; E.164 allows 15 digits, and no subscriber has fewer than 7 with the country.
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")


# Countries whose numbers never begin with 0 though people dial one in front (E.164: it is no part of the number). Where
# numbers do (Italy, the Ivory Coast, Congo, Gabon), or where that may change, nothing is said.
_DIALLED_ZERO = re.compile(
    r"\+(20|27|31|32|33|40|41|43|44|46|49|51|54|60|61|62|63|64|66|81|82|84|86|90|91|92|94|95|98"
    r"|212|234|254|353|355|358|359|380|381|385|386|387|389|421|880|886|966|971|972)0"
)


class SmsCode:
    """The method; see the head of this file."""

    name = "sms"
    type_number = SMS_TYPE
    settings_type = CodeSettings
    summary = "codes sent to a phone by independent services come back in the session that asked"
    proof_schema: Mapping[str, object] = EmailCode.proof_schema

    async def verify(self, proof: object, challenge: Statement, context: Context) -> Proven:
        """Return the concealed number; raise `Invalid` unless enough services speak for exactly this login."""
        return await prove_address(proof, "sms", SMS_TYPE, normalise, challenge, context)


METHOD = SmsCode()


def normalise(address: str) -> str:
    """Return `address` when it is a phone number in E.164, as `+491701234567`; raise `Invalid` (400) otherwise.

    The 0 that people dial inside a country is not part of the number: networks deliver `+4401...` all the same, which
    would make two identities of one phone. It is refused where no number begins with it.
    """
    if not _E164.fullmatch(address):
        raise malformed("bad_mail_or_phone", "the phone number is not E.164", "write + and 7 to 15 digits, no blanks")
    if found := _DIALLED_ZERO.match(address):
        begin = f"+{found[1]}{address[found.end() :].lstrip('0')[:2]}..."
        raise malformed(
            "bad_mail_or_phone",
            f"no phone number begins with 0 behind +{found[1]}",
            f"leave out the 0 that is dialled inside the country: {begin}",
        )
    return address
