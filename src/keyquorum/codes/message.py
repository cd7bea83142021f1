"""What a person reads: the code, what it grants, for which session, and what never to do with it.

The words are as much a defence as the digits. A thief who starts a login with somebody's address gets him a message
that says what the thief asked for and shows a session that is on no page of his; and whoever asks for the code by phone
is contradicted by the message itself. Text is ASCII that every SMS alphabet has in the same places.
"""

from __future__ import annotations

import re
import time

from keyquorum.auth.code_assertion import fingerprint
from keyquorum.auth.siwe import grant_line
from keyquorum.auth.statement import Statement
from keyquorum.codes.drivers import Message

_KEY_ID = re.compile(r"0x([0-9a-f]{6})[0-9a-f]{52}([0-9a-f]{6})")
_SHOWN_KEYS = 3


def code_message(channel: str, name: str, code: str, statement: Statement, *, last: bool) -> Message:
    """Return the message that brings `code`; `last` adds that no other will come for a while."""
    if channel == "sms":
        return Message("", _short(name, code, statement, last))
    lines = [
        f"Your code from {name}:",
        "",
        f"    {spaced(code)}",
        "",
        "Type it only into the page where you asked for it, and only if that page shows this session:",
        "",
        f"    {fingerprint(statement.session)}",
        "",
        "What was asked for in your name:",
        "",
        f"    {grant_line(statement)}",
        f"    Until {_clock(statement.expires)}, at most {statement.uses} signatures.",
        "",
        "Never read this code to anyone and never send it on: nobody who calls or writes to you needs it.",
        "It works for 10 minutes. If you did not ask for it, do nothing: without the code nothing happens.",
    ]
    lines += ["", "This was the last code for this address for a while."] if last else []
    return Message(f"{name}: a code for your Keyquorum login", "\n".join(lines) + "\n")


def lock_message(channel: str, name: str, failures: int) -> Message:
    """Return the message that tells the owner of an address that wrong codes were typed for it."""
    text = (
        f"{name}: {failures} wrong codes were typed for this address within a day, so its codes work no more for now. "
        "If that was not you, somebody tried to log in as you and failed. Logins by other methods go on."
    )
    return Message("", text) if channel == "sms" else Message(f"{name}: wrong codes for your address", text + "\n")


def spaced(code: str) -> str:
    """Return the code in two groups, as people read numbers."""
    half = len(code) // 2
    return f"{code[:half]} {code[half:]}"


def _short(name: str, code: str, statement: Statement, last: bool) -> str:
    line = grant_line(statement)
    keys = _KEY_ID.findall(line)
    if keys:
        # Whole key ids would fill ten messages; their ends are what a wallet shows too.
        shown = [f"0x{head}..{tail}" for head, tail in keys[:_SHOWN_KEYS]]
        more = [f"{len(keys) - _SHOWN_KEYS} more"] if len(keys) > _SHOWN_KEYS else []
        line = f"{line[: line.index(', with the key')]}, with {', '.join(shown + more)}."
    text = (
        f"{spaced(code)} is your code from {name} for session {fingerprint(statement.session)}. {line} "
        f"Until {_clock(statement.expires)}. Never read it to anyone; type it only where you see that session."
    )
    return text + (" Last code for a while." if last else "")


def _clock(moment: int) -> str:
    return time.strftime("%d %b %Y %H:%M UTC", time.gmtime(moment))
