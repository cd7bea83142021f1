"""When a node may believe its own clock."""

from __future__ import annotations

from keyquorum.node.chain.clocks import HEARD_SECONDS, SAMPLES, TELL_SECONDS, TOLERANCE_SECONDS, Clocks

NOW = 1_800_000_000.0


class World:
    """One node with its clock; `time` is the true time, `error` how far the node's clock is ahead of it."""

    def __init__(self, error: float = 0.0) -> None:
        self.time, self.error = NOW, error
        self.clocks = Clocks(lambda: self.time + self.error, lambda: self.time - NOW)

    def peers(self, *errors: float, late: float = 0.0) -> str:
        """Hear one clock after the other, on messages that waited; return what the node says of its own."""
        for peer, error in enumerate(errors, 2):
            self.clocks.hear(peer, int((self.time - late + error) * 1000).to_bytes(8, "big"))
        return self.clocks.wrong_because()


def test_a_clock_like_the_others_is_right_and_so_is_one_that_hears_nobody() -> None:
    assert World().peers(0, 0.2, -0.3) == ""
    assert World(600).peers() == ""
    assert World(600).peers(0) == ""  # one against one: nobody knows


def test_a_clock_ten_minutes_ahead_or_behind_is_wrong_whoever_else_is_down() -> None:
    for heard in ((0, 0, 0), (0, 0)):
        assert "600 s ahead of those of its peers" in World(600).peers(*heard)
        assert "600 s behind those of its peers" in World(-600).peers(*heard)


def test_one_peer_whose_clock_is_wrong_or_who_lies_makes_nobody_else_doubt() -> None:
    for lie in (-NOW, -600, 600, 10 * NOW):
        assert World().peers(0, lie, 0) == ""
        assert World().peers(0, lie) == ""


def test_the_tolerance_is_what_it_says() -> None:
    assert World(TOLERANCE_SECONDS - 1).peers(0, 0, 0) == ""
    assert World(TOLERANCE_SECONDS + 1).peers(0, 0, 0) != ""


def test_messages_that_waited_while_the_process_was_stopped_are_outweighed_by_fresh_ones() -> None:
    world = World()
    world.peers(0, 0, 0)
    assert world.peers(0, 0, 0, late=50) == ""
    world.time += HEARD_SECONDS / 2
    assert world.peers(0, 0, 0, late=50) == ""


def test_what_was_heard_long_ago_or_before_the_clock_was_set_counts_no_more() -> None:
    world = World(600)
    assert world.peers(0, 0, 0) != ""
    world.time += HEARD_SECONDS + 1
    assert world.clocks.wrong_because() == ""
    assert world.peers(0, 0, 0) != ""
    world.error = 0
    world.clocks.due()
    assert world.clocks.wrong_because() == ""


def test_a_block_from_the_future_says_that_the_clock_is_behind_and_an_old_one_says_nothing() -> None:
    world = World(-600)
    world.clocks.see_block(int(NOW))
    assert "600 s behind the newest block" in world.clocks.wrong_because()
    for age in (0, 86_400 * 365, -TOLERANCE_SECONDS + 1):
        world = World()
        world.clocks.see_block(int(NOW - age))
        assert world.clocks.wrong_because() == ""
    world = World()
    world.clocks.see_block(int(NOW))
    world.time += 3600  # the chain stands still
    assert world.clocks.wrong_because() == ""


def test_a_chain_that_is_ahead_of_clocks_which_agree_says_nothing_of_them() -> None:
    world = World()
    world.clocks.see_block(int(NOW + 600))
    assert "600 s behind the newest block" in world.peers(0)  # one peer may be as wrong
    assert world.peers(0.2, -0.3) == ""
    world.time += HEARD_SECONDS + 1
    assert "behind the newest block" in world.clocks.wrong_because()


def test_nonsense_is_ignored_and_memory_is_bounded() -> None:
    world = World()
    for payload in (b"", b"x", bytes(9), bytes(1000)):
        world.clocks.hear(2, payload)
    assert not world.clocks._heard
    for _ in range(100):
        world.clocks.hear(2, world.clocks.tell())
    assert len(world.clocks._heard[2]) == SAMPLES


def test_peers_are_told_now_and_then() -> None:
    world = World()
    assert [world.clocks.due(), world.clocks.due()] == [True, False]
    world.time += TELL_SECONDS
    assert world.clocks.due()
