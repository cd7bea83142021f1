"""The words of a message: short where each part costs, and never less than what is granted."""

from __future__ import annotations

import pytest

from codes.code_world import NOW, session, statement_for
from keyquorum.auth.code_assertion import fingerprint
from keyquorum.codes.message import code_message, lock_message
from keyquorum.codes.smpp_pdu import parts_of

ADA = session("ada")
KEYS = tuple(f"0x{number:064x}" for number in range(1, 33))


@pytest.mark.parametrize("scopes", [(), (2,), (1, 2, 3, 4, 5, 6)])
@pytest.mark.parametrize("keys", [("*",), KEYS[:1], KEYS[:3], KEYS])
def test_an_sms_has_at_most_five_parts_of_the_common_alphabet(keys: tuple[str, ...], scopes: tuple[int, ...]) -> None:
    statement = statement_for(ADA, keys=keys, scopes=scopes)
    text = code_message("sms", "Keyquorum codes", "12345678", statement, last=True).text
    assert len(parts_of(text, 0)) <= 5
    assert text.startswith("1234 5678 is your code from Keyquorum codes") and fingerprint(ADA.public) in text
    assert "Never read it to anyone" in text and "Last code" in text


def test_an_sms_names_some_keys_and_counts_the_rest() -> None:
    def text(count: int) -> str:
        return code_message("sms", "C", "12345678", statement_for(ADA, keys=KEYS[:count]), last=False).text

    assert ", with 0x000000..000001." in text(1)
    assert ", with 0x000000..000001, 0x000000..000002, 0x000000..000003, 29 more." in text(32)
    every = code_message("sms", "C", "12345678", statement_for(ADA), last=False).text
    assert "with EVERY key that this account controls" in every


def test_a_mail_says_it_all() -> None:
    statement = statement_for(ADA, keys=KEYS[:2], scopes=(1, 6), uses=7)
    message = code_message("email", "Codes A", "12345678", statement, last=False)
    for words in (
        "1234 5678",
        fingerprint(ADA.public),
        "sign any message, transaction or typed data and CHANGE WHO MAY USE the keys",
        f"{KEYS[0]} and {KEYS[1]}",
        "Until 15 Jan 2027 09:00 UTC, at most 7 signatures.",
        "Never read this code to anyone",
        "It works for 10 minutes.",
    ):
        assert words in message.text
    assert "last code" not in message.text and "1234" not in message.subject and statement.expires == NOW + 3600


def test_a_notice_of_a_lock_fits_an_sms_too() -> None:
    assert len(parts_of(lock_message("sms", "Codes A", 10).text, 0)) <= 2
    assert "10 wrong codes" in lock_message("email", "Codes A", 10).text and lock_message("email", "C", 1).subject
