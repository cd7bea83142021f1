"""Token buckets: what is there, what comes back, and that a flood of names does not fill the memory."""

from __future__ import annotations

import pytest

from keyquorum.serving.buckets import REMEMBERED, Buckets


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_is_full_at_first_and_is_refilled_over_its_time() -> None:
    clock = Clock()
    buckets = Buckets(4, 8.0, clock)
    assert [buckets.allow("a") for _ in range(5)] == [True] * 4 + [False]
    assert buckets.allow("b")
    clock.now += 2
    assert [buckets.allow("a") for _ in range(2)] == [True, False]
    clock.now += 1000
    assert buckets.level("a") == 4


def test_the_time_to_wait_is_what_it_says() -> None:
    clock = Clock()
    buckets = Buckets(3, 30.0, clock)
    assert buckets.wait("a") == 0
    buckets.take("a", 3)
    assert buckets.wait("a") == pytest.approx(10)
    assert buckets.wait("a", 2) == pytest.approx(20)
    clock.now += 10
    assert buckets.wait("a") == 0
    assert buckets.allow("a")


def test_taking_more_than_there_is_leaves_nothing_and_no_debt() -> None:
    clock = Clock()
    buckets = Buckets(2, 2.0, clock)
    buckets.take("a", 100)
    assert buckets.level("a") == 0
    clock.now += 1
    assert buckets.allow("a")


def test_a_refusal_takes_nothing() -> None:
    clock = Clock()
    buckets = Buckets(1, 10.0, clock)
    assert buckets.allow("a")
    for _ in range(9):
        clock.now += 1
        assert not buckets.allow("a")
    clock.now += 1
    assert buckets.allow("a")


def test_the_least_recently_used_are_forgotten() -> None:
    buckets = Buckets(1, 1e9)
    buckets.take("first")
    buckets.take("kept")
    for number in range(REMEMBERED):
        buckets.take("kept")
        buckets.take(str(number))
    assert len(buckets._levels) == REMEMBERED
    assert buckets.level("first") == 1
    assert buckets.level("kept") < 1e-3


@pytest.mark.parametrize(("capacity", "seconds"), [(0, 1), (0.5, 1), (1, 0), (1, -1)])
def test_a_bucket_that_would_never_have_a_token_is_refused(capacity: float, seconds: float) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        Buckets(capacity, seconds)
