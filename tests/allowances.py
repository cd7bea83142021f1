"""What one network address may spend, given back between tests: all come from one, and none is to pay for another's."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from keyquorum.serving.buckets import Buckets


class Allowances:
    """All buckets that were made while it was watching, whoever keeps them."""

    def __init__(self) -> None:
        self._made: weakref.WeakSet[Buckets] = weakref.WeakSet()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Know of every bucket that is made from now on."""
        made, make = self._made, Buckets.__init__

        def noted(self: Buckets, *arguments: Any, **options: Any) -> None:
            make(self, *arguments, **options)
            made.add(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Buckets, "__init__", noted)
            yield

    def give_back(self) -> None:
        """Fill every bucket."""
        for buckets in self._made:
            buckets._levels.clear()
