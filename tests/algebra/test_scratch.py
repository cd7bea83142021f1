"""Scratch memory is kept by a thread and never seen by another."""

from __future__ import annotations

import threading

import numpy as np

from keyquorum.algebra.scratch import scratch


def test_the_same_name_gives_the_same_memory_with_any_shape_that_fits() -> None:
    first = scratch("test.same", (4, 8), np.uint64)
    first.fill(7)
    again = scratch("test.same", (16,), np.uint64)
    assert np.shares_memory(first, again)
    assert again.tolist() == [7] * 16
    assert not np.shares_memory(first, scratch("test.other", (4, 8), np.uint64))


def test_a_buffer_grows() -> None:
    scratch("test.grow", (2,), np.uint8)
    assert scratch("test.grow", (1000,), np.float64).shape == (1000,)


def test_threads_do_not_share() -> None:
    mine = scratch("test.thread", (64,), np.uint64)
    theirs: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: theirs.append(scratch("test.thread", (64,), np.uint64)))
    thread.start()
    thread.join()
    assert not np.shares_memory(mine, theirs[0])
