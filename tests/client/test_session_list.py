"""The list of a person's sessions, made of what several nodes say, some of which lie."""

from __future__ import annotations

from keyquorum.client.session_list import Listed, ListedMethod, SessionsAnswer, merge

ME = [ListedMethod(1, "0x" + "aa" * 20)]


def listed(name: str, issued_at: int, **changes: int) -> Listed:
    return Listed(name, ME, ["*"], [1], issued_at, issued_at + 900, **changes)


def test_sessions_that_one_node_makes_up_hide_none() -> None:
    real = [listed(f"{k:064x}", 1000 + k) for k in range(3)]
    made_up = [listed(f"{k:064x}", 2**40 + k) for k in range(500, 700)]
    answers = {
        1: SessionsAnswer(made_up),
        2: SessionsAnswer(real[:2]),
        3: SessionsAnswer(real),
        4: SessionsAnswer(real),
    }
    found = merge(answers, liars=1)
    assert [one.id for one in found[:3]] == [one.id for one in real[::-1]]
    assert len(found) == 203


def test_a_node_that_names_a_session_twice_is_one_node() -> None:
    twice = [listed("ff" * 32, 2**40)] * 2
    answers = {
        1: SessionsAnswer(twice),
        2: SessionsAnswer([listed("aa" * 32, 5)]),
        3: SessionsAnswer([listed("aa" * 32, 5)]),
    }
    assert [one.id for one in merge(answers, liars=1)] == ["aa" * 32, "ff" * 32]


def test_what_a_single_node_remembers_is_still_listed_with_the_highest_count() -> None:
    answers = {2: SessionsAnswer([listed("aa" * 32, 5, used=1)]), 3: SessionsAnswer([listed("aa" * 32, 5, used=4)])}
    answers[4] = SessionsAnswer([listed("bb" * 32, 9)])
    assert [(one.id, one.used) for one in merge(answers, liars=1)] == [("aa" * 32, 4), ("bb" * 32, 0)]
