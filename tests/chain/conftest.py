"""Chains for the tests of the chain package."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from chain_fixtures import anvil_chain, any_chain, dev_chain, js_tools  # noqa: F401
from devchain_kit import chain, methods, wall  # noqa: F401
from pkp_chain import pkp_chain  # noqa: F401
