"""What one network address may spend, given back between tests: all come from one, and none is to pay for another's."""

from __future__ import annotations

import gc
from collections.abc import Hashable

from keyquorum.serving.buckets import Buckets


class Allowances:
    """All the buckets that there are, whoever keeps them."""

    def __init__(self) -> None:
        self._whose: Hashable = None
        self._buckets: list[Buckets] = []

    def give_back(self, whose: Hashable) -> None:
        """Fill every bucket; they are looked for again when those `whose` they are have changed."""
        if whose != self._whose:
            self._whose, self._buckets = whose, [one for one in gc.get_objects() if type(one) is Buckets]
        for buckets in self._buckets:
            buckets._levels.clear()
