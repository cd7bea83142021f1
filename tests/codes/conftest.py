"""The fixtures of `code_world`, for every test in this folder."""

from __future__ import annotations

from chain_fixtures import js_tools  # noqa: F401
from codes.code_world import desk, mailboxes, make_desk, refused  # noqa: F401
