"""A key that is called new is new in every respect: each thing that the chain says against it is enough."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from keyquorum.client.checks import fresh_key
from keyquorum.client.errors import BadAnswer

OWNER, TOKEN = "0x" + "11" * 20, 7


class Chain:
    """What it says of a fresh key, but for `changes`."""

    def __init__(self, **changes: Any) -> None:
        self.says = {"ownership": (OWNER, 1), "countPermittedAuthMethods": 0, "getPendingChanges": []} | changes

    def contract(self, name: str) -> str:
        return name

    async def key(self, token: int) -> Any:
        return SimpleNamespace(token_id=token, owner=self.says.get("owner", OWNER))

    async def ask(self, contract: str, view: str, token: int) -> Any:
        assert (contract == "PKPNFT") == (view == "ownership")
        return self.says[view]


async def test_a_key_against_which_the_chain_says_nothing_is_fresh() -> None:
    chain: Any = Chain()
    assert (await fresh_key(chain, TOKEN, OWNER)).token_id == TOKEN


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"owner": "0x" + "22" * 20}, "somebody else"),
        ({"ownership": (OWNER, 2)}, "before"),
        ({"countPermittedAuthMethods": 1}, "permits"),
        # Announced now, it counts later: whoever minted the key would come in when ether is on it.
        ({"getPendingChanges": [SimpleNamespace(kind=0)]}, "permits"),
    ],
)
async def test_each_thing_that_the_chain_says_against_it_is_enough(changes: dict[str, Any], words: str) -> None:
    chain: Any = Chain(**changes)
    with pytest.raises(BadAnswer, match=words):
        await fresh_key(chain, TOKEN, OWNER)
