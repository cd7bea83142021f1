"""Login method `email`: k of m independent code services say that their codes, sent to one mail address, came back.

The identity is the mailbox's name in the one spelling of `normalise`, concealed with the network's secret. That is the
very string the services send to, so two spellings are never one identity unless they are one mailbox. Nothing
is known here about any provider's habits: dots and `+tags` are part of the name. Letters are made small, which RFC
5321 lets a mail server forbid for the part before the @: a mailbox that insists on capitals cannot log in, and nobody
else can in its name. Spec: spec/auth.md, "Codes by e-mail and SMS".

Worth knowing: whoever reads the mailbox, or k services together, can log in. Combine with another method (bit 32+s).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from keyquorum.auth.code_assertion import MAX_ADDRESS, MAX_ASSERTION_BYTES, MAX_ISSUERS, CodeSettings, prove_address
from keyquorum.auth.method import Context, Proven
from keyquorum.auth.statement import Statement
from keyquorum.refusal import Invalid, malformed

EMAIL_TYPE = 20
_MAX_LOCAL = 64
_ATEXT = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LOCAL = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# At least two labels; the last is never a number, so no IP address passes for a name (RFC 3696 section 2).
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+(?![0-9]+\Z){_LABEL}")


class EmailCode:
    """The method; see the head of this file."""

    name = "email"
    type_number = EMAIL_TYPE
    settings_type = CodeSettings
    summary = "codes sent to a mail address by independent services come back in the session that asked"
    proof_schema: Mapping[str, object] = {
        "type": "object",
        "required": ["address", "assertions"],
        "additionalProperties": False,
        "properties": {
            "address": {"type": "string", "maxLength": MAX_ADDRESS},
            "assertions": {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_ISSUERS,
                "items": {"type": "string", "maxLength": MAX_ASSERTION_BYTES},
            },
        },
    }

    async def verify(self, proof: object, challenge: Statement, context: Context) -> Proven:
        """Return the concealed address; raise `Invalid` unless enough services speak for exactly this login."""
        return await prove_address(proof, "email", EMAIL_TYPE, normalise, challenge, context)


METHOD = EmailCode()


def normalise(address: str) -> str:
    """Return the one spelling of a mail address, ASCII; raise `Invalid` (400) when it is none we send to.

    A dot-atom of at most 64 characters, @, a domain name: no quotes, comments or IP addresses; at most 254 characters.
    International domain names become A-labels (IDNA 2008), so that a look-alike letter shows; the part before the
    @ must be ASCII. Letters become small.
    """
    local, at, domain = address.strip(" ").rpartition("@")
    if not local.isascii():
        raise _bad("only ASCII is sent to before the @")
    local, domain = local.lower(), _to_ascii(domain)
    if not at or len(local) > _MAX_LOCAL or len(local) + 1 + len(domain) > MAX_ADDRESS:
        raise _bad("a mail address is name@domain, at most 64 characters before the @ and 254 in all")
    if not _LOCAL.fullmatch(local) or not _DOMAIN.fullmatch(domain):
        raise _bad("the mail address has a quoted name, an IP address, or characters that we do not send to")
    return f"{local}@{domain}"


def _to_ascii(domain: str) -> str:
    if domain.isascii() and "xn--" not in domain.lower():
        return domain.lower()
    # Its tables take a moment to load, and few addresses need them.
    import idna

    try:
        return idna.encode(domain, uts46=True, std3_rules=True).decode().lower()
    except (idna.IDNAError, UnicodeError) as error:
        raise _bad("the domain is not an international domain name (IDNA 2008)") from error


def _bad(message: str) -> Invalid:
    return malformed("bad_mail_or_phone", message, "give a mail address like name@example.org")
