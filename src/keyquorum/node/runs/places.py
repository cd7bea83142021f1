"""Places for runs: one that all its signers have joined keeps its place, one that waits for them keeps it if it can.

Whoever asks one node alone, for a login or a signature that no other node hears of, has that node wait for signers who
never come. So such a run holds its place only as long as nobody else needs it: each tenant has a share of waiting runs
and loses his own oldest beyond it, and when every place is taken, a new run takes that of the tenant with most of them.
Only what all its signers have joined counts against the bound for good; that is work, and others have paid for it too.
"""

from __future__ import annotations

from collections.abc import Callable

# The part of all places that the waiting runs of one tenant may hold.
SHARE = 4


def _nothing() -> None:
    """Do nothing: nobody has said yet how the run is ended."""


class Full(Exception):
    """Every place is held by a run that keeps it."""


class Place:
    """One run's place. `on_lost` is called when somebody else gets it."""

    __slots__ = ("_places", "joined", "lost", "on_lost", "tenant")

    def __init__(self, places: Places, tenant: str) -> None:
        self._places = places
        self.tenant = tenant
        self.joined = not tenant
        self.lost = False
        self.on_lost: Callable[[], None] = _nothing

    def join(self) -> None:
        """Say that every signer takes part: from now on nobody takes the place away."""
        self.joined = True

    def leave(self) -> None:
        """Give the place back; a second time changes nothing."""
        self._places._taken.pop(self, None)


class Places:
    """At most `most` runs at a time; single-threaded."""

    def __init__(self, most: int, share: int = SHARE) -> None:
        self.most = most
        self._each = max(1, most // share)
        # In the order in which they were taken.
        self._taken: dict[Place, None] = {}

    def __len__(self) -> int:
        return len(self._taken)

    @property
    def joined(self) -> int:
        """How many runs all their signers have joined."""
        return sum(place.joined for place in self._taken)

    @property
    def free(self) -> float:
        """The part (0..1) of all places that no joined run holds."""
        return 1 - self.joined / self.most

    def enter(self, tenant: str) -> Place:
        """Take a place for `tenant` ("": the node itself, whose runs keep theirs); raises `Full`."""
        waiting = self._waiting()
        mine = waiting.get(tenant, [])
        if tenant and len(mine) >= self._each:
            self._take_away(mine[0])
        elif len(self._taken) >= self.most:
            if not waiting:
                raise Full
            self._take_away(max(waiting.values(), key=len)[0])
        place = Place(self, tenant)
        self._taken[place] = None
        return place

    def _waiting(self) -> dict[str, list[Place]]:
        """Return each tenant's places that can be taken away, the oldest first; also the tenants in that order."""
        found: dict[str, list[Place]] = {}
        for place in self._taken:
            if not place.joined:
                found.setdefault(place.tenant, []).append(place)
        return found

    def _take_away(self, place: Place) -> None:
        place.lost = True
        place.leave()
        place.on_lost()
