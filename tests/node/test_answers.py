"""Answers that are remembered: asked once, bounded, and the longest unasked goes first."""

from __future__ import annotations

import asyncio

import pytest

from keyquorum.node.chain.answers import Answers


async def test_what_was_asked_of_late_stays_when_others_come() -> None:
    answers, asked = Answers(3), []

    async def ask(name: str) -> str:
        async def make() -> str:
            asked.append(name)
            return name.upper()

        return await answers.get((name,), make)

    for name in "abcadaeaf":
        assert await ask(name) == name.upper()
    assert "".join(asked) == "abcdef"
    assert len(answers) == 3
    await ask("b")
    assert asked[-1] == "b"


async def test_many_who_ask_the_same_ask_once_and_a_failure_is_forgotten() -> None:
    answers, asked = Answers(3), []

    async def fail() -> None:
        asked.append(1)
        raise ValueError("no")

    both = await asyncio.gather(answers.get((1,), fail), answers.get((1,), fail), return_exceptions=True)
    assert [type(each) for each in both] == [ValueError] * 2
    assert len(asked) == 1
    with pytest.raises(ValueError, match="no"):
        await answers.get((1,), fail)
    assert (len(asked), len(answers)) == (2, 0)
