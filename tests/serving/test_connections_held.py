"""Which connections a server holds: its bounds from both sides, who makes room, and what is kept for whom."""

from __future__ import annotations

from collections import Counter

import pytest

from keyquorum.serving.addresses import UNKNOWN, Networks, fold
from keyquorum.serving.connections import BODY, HEADERS, IDLE, RESERVE, Connections, waiting_for


class Line:
    """A connection that notes its end."""

    def __init__(self, what: int | None = IDLE) -> None:
        self.waiting = None if what is None else waiting_for(what)
        self.ended = False

    def end(self) -> None:
        self.ended = True


def held(most: int, per_address: int, trusted: tuple[str, ...] = ()) -> Connections:
    return Connections(most, per_address, Networks(trusted), Counter(), lambda: 0.0)


def test_an_address_begins_exactly_so_many_connections_and_others_begin_theirs() -> None:
    here = held(100, 50, ("10.9.0.1",))
    for _ in range(2 * 50):
        line = Line()
        assert here.admit(line, "2001:db8::1")
        here.forget(line)
    assert not here.admit(Line(), "2001:db8::2")
    assert here.admit(Line(), "10.0.0.1")
    gateways = [Line() for _ in range(101)]
    for line in gateways:
        assert here.admit(line, "10.9.0.1")
        here.forget(line)


def test_an_address_has_exactly_its_share_and_then_its_own_longest_waiting_one_goes() -> None:
    here = held(100, 3)
    other, lines = Line(), [Line() for _ in range(3)]
    assert here.admit(other, "10.0.0.2")
    assert all(here.admit(line, "10.0.0.1") for line in lines)
    assert not any(line.ended for line in lines)
    lines[0].waiting = waiting_for(IDLE)  # it was used meanwhile
    assert here.admit(Line(), "10.0.0.1")
    assert [line.ended for line in [other, *lines]] == [False, False, True, False]
    assert len(here) == 4


def test_an_address_whose_connections_are_all_in_use_is_refused_one_more() -> None:
    here = held(100, 2)
    lines = [Line(None) for _ in range(2)]
    assert all(here.admit(line, "10.0.0.1") for line in lines)
    assert not here.admit(Line(), "10.0.0.1")
    assert not any(line.ended for line in lines)


@pytest.mark.parametrize(("one", "other", "same"), [
    ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True), ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
    ("::ffff:10.0.0.1", "10.0.0.1", True), ("10.0.0.1", "10.0.0.2", False), ("fe80::1%eth0", "fe80::2%eth1", True),
    ("nonsense", "", True),
])  # fmt: skip
def test_of_an_ipv6_address_the_64_counts(one: str, other: str, same: bool) -> None:
    assert (fold(one) == fold(other)) is same
    here = held(100, 1)
    first = Line()
    assert here.admit(first, one)
    assert here.admit(Line(), other)
    assert first.ended is same


def test_what_is_no_address_is_one_stranger() -> None:
    assert fold("nonsense") == fold("") == UNKNOWN


def test_a_full_server_takes_from_whoever_holds_most_and_never_what_is_in_use() -> None:
    here = held(6, 4)
    busy, lonely = [Line(None) for _ in range(3)], Line()
    hog = [Line(HEADERS), Line(HEADERS)]
    for line in busy:
        assert here.admit(line, "10.0.0.1")
    assert here.admit(lonely, "10.0.0.2")
    for line in hog:
        assert here.admit(line, "10.0.0.3")
    assert here.admit(Line(), "10.0.0.4")
    assert [line.ended for line in hog] == [True, False]
    assert not lonely.ended and not any(line.ended for line in busy)


def test_what_idles_goes_before_what_sends_headers_and_that_before_what_sends_a_body() -> None:
    here = held(4, 4)
    body, headers, idle, busy = Line(BODY), Line(HEADERS), Line(IDLE), Line(None)
    for line in (body, headers, idle, busy):
        assert here.admit(line, "10.0.0.1")
    order = []
    for number in range(3):
        assert here.admit(Line(None), f"10.0.1.{number}")
        order.append([line.ended for line in (idle, headers, body, busy)])
    assert order == [[True, False, False, False], [True, True, False, False], [True, True, True, False]]
    assert not here.admit(Line(), "10.0.2.1")
    assert len(here) == 4


def test_an_eighth_is_kept_for_trusted_networks_which_nobody_else_ends() -> None:
    most = 4 * RESERVE
    here = held(most, most, ("10.9.0.0/16",))
    strangers = [Line() for _ in range(most - 4)]
    assert all(here.admit(line, f"10.0.{number}.1") for number, line in enumerate(strangers))
    assert not any(line.ended for line in strangers)
    assert here.admit(Line(), "10.1.0.1")
    assert sum(line.ended for line in strangers) == 1
    gateways = [Line() for _ in range(4)]
    assert all(here.admit(line, "10.9.1.1") for line in gateways)
    assert len(here) == most
    assert sum(line.ended for line in strangers) == 1
    assert here.admit(Line(), "10.9.1.2")  # the reserve is used up: now a stranger makes room
    assert here.admit(Line(), "10.2.0.1")
    assert not any(line.ended for line in gateways)
    assert len(here) == most


def test_without_trusted_networks_nothing_is_kept() -> None:
    here = held(8, 8)
    lines = [Line() for _ in range(8)]
    assert all(here.admit(line, "10.0.0.1") for line in lines)
    assert not any(line.ended for line in lines)


def test_what_has_ended_is_forgotten_once() -> None:
    here = held(2, 2)
    line = Line()
    here.admit(line, "10.0.0.1")
    here.forget(line)
    here.forget(line)
    assert len(here) == 0
    assert list(here) == []
