"""What the tests of forms share."""

from __future__ import annotations

from refusals import refused  # noqa: F401
