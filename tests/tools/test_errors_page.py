"""docs/errors.md lists every refusal that the code can give, and each says what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from list_errors import ORDER, PAGE, Row, orders, page, rows

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def found() -> list[Row]:
    return rows(ROOT)


def test_the_page_is_what_the_code_says(found: list[Row]) -> None:
    assert (ROOT / PAGE).read_text() == page(found), "run tools/list_errors.py"


def test_every_refusal_says_what_to_do_and_has_a_code_for_programs(found: list[Row]) -> None:
    assert len(found) > 300
    assert [row for row in found if not row.hint.strip(". ")] == []
    assert [row.code for row in found if not re.fullmatch("[a-z][a-z0-9_]*", row.code)] == []


def test_all_take_code_message_and_hint_in_this_order() -> None:
    found = orders(ROOT)
    assert {"Refusal", "Invalid", "BadIntent", "KeyquorumError", "Unavailable", "NodeError"} <= set(found)
    assert set(found.values()) == {ORDER}


def test_a_refusal_is_found_wherever_its_words_are(tmp_path: Path) -> None:
    """The words may have names, inside a function or outside, and a function may say no for others."""
    source = tmp_path / "src/keyquorum/room/door.py"
    source.parent.mkdir(parents=True)
    source.write_text(
        "AGAIN = 'come again'\n"
        "class Closed(Refusal):\n"
        "    usual_hint = 'wait'\n"
        "def no(code, message):\n"
        "    return Refusal(code, message, f'ask {1}', 403)\n"
        "def first():\n"
        "    hint = 'knock'\n"
        "    raise Refusal('a', f'door {2} is shut', hint)\n"
        "def second():\n"
        "    hint = 'ring'\n"
        "    raise Refusal('b', 'shut', hint=hint or AGAIN)\n"
        "raise Closed('c', 'closed')\n"
        "raise no('d', 'no')\n"
        "raise Refusal(error.code, error.message, AGAIN)\n"
    )
    assert [row[:3] for row in rows(tmp_path)] == [
        ("a", "door ... is shut", "knock"),
        ("b", "shut", "come again"),
        ("c", "closed", "wait"),
        ("d", "no", "ask ..."),
    ]
