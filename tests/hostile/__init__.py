"""Attacks on a whole network, as working programs: each plays one role and says what it got.

`make attacks` runs all of them against a fresh local network and prints a table; `tests/e2e/test_strangers.py` holds
them. An attack is a *trick* (it tries to get or void something, and says whether it did) or a *load* (it costs work,
while an honest user signs and logs in, and is timed beside a quiet network).
"""

from hostile import (
    loads,
    loads_of_members,
    tricks_of_contracts,
    tricks_of_gateways,
    tricks_of_minters,
    tricks_of_nodes,
    tricks_of_pages,
)

_TRICKS = (tricks_of_contracts, tricks_of_gateways, tricks_of_minters, tricks_of_nodes, tricks_of_pages)
ALL = (loads, loads_of_members, *_TRICKS)
"""The modules that register the attacks."""
