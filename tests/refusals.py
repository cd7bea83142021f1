"""A fixture for whatever refuses: `from refusals import refused` in a folder's conftest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from keyquorum.refusal import Invalid


@pytest.fixture
def refused() -> Callable[..., Any]:
    """`with refused("code"): ...`: an Invalid with this code, and with everything a person needs."""

    class Refused:
        def __init__(self, code: str, status: int | None = None) -> None:
            self.code, self.status = code, status

        def __enter__(self) -> None:
            return None

        def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
            assert error is not None, f"nothing was refused, expected {self.code}"
            if not isinstance(error, Invalid):
                return False
            assert error.code == self.code, f"refused as {error}, expected {self.code}"
            assert error.message and error.hint and error.status in (400, 401, 403)
            assert self.status in (None, error.status)
            return True

    return Refused
