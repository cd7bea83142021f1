"""What an endpoint or a node's entry in the registry can make a reader hold is bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from keyquorum.chain import fees, registry, rpc
from keyquorum.chain.fees import SpendingLimits, TooDear
from keyquorum.chain.rpc import Rpc, RpcUnreachable


def response(size: int, chunk: int = 1 << 20) -> Any:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, size, chunk):
            yield bytes(min(chunk, size - start))

    return SimpleNamespace(content=SimpleNamespace(iter_any=chunks), close=lambda: None)


async def test_an_endpoints_answer_is_read_up_to_its_bound() -> None:
    asked = Rpc("http://127.0.0.1:1")
    assert asked._max_reply == rpc.MAX_REPLY
    small = Rpc("http://127.0.0.1:1", max_reply=1000)
    assert len(await small._read_bounded(response(1000, 7))) == 1000
    with pytest.raises(RpcUnreachable, match="more than 1000 bytes"):
        await small._read_bounded(response(1001, 7))


def test_a_host_is_as_long_as_names_can_be() -> None:
    name = ".".join(["a" * 60] * 5)[: registry.MAX_HOST]
    assert len(name) == registry.MAX_HOST and registry.is_host(name)
    assert not registry.is_host(name + "a")
    assert not registry.is_host("")


@pytest.mark.parametrize("base_fee", [0, 1, fees.LOW_TIP])
def test_a_tip_is_in_proportion_to_the_base_fee(base_fee: int) -> None:
    limits = SpendingLimits()
    most = max(limits.tip_multiple * base_fee, fees.LOW_TIP)
    assert limits.tip(base_fee, most) == most >= fees.DEFAULT_TIP
    with pytest.raises(TooDear):
        limits.tip(base_fee, most + 1)
