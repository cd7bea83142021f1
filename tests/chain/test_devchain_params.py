"""Parameters of the development chain: two names of one value may both be given only if they agree."""

from __future__ import annotations

from typing import Any

import pytest

from keyquorum.chain.devchain import params
from keyquorum.chain.rpc import RpcError

SIGNED = {"chainId": "0x1", "address": "0x" + "11" * 20, "nonce": "0x0", "r": "0x1", "s": "0x1"}


@pytest.mark.parametrize(
    "parity",
    [{"yParity": "0x1"}, {"v": "0x1"}, {"v": "0x1c"}, {"yParity": "0x1", "v": "0x1c"}, {"v": 28, "yParity": 1}],
)
def test_the_parity_of_an_authorization_has_two_names(parity: dict[str, Any]) -> None:
    assert params.authorization(SIGNED | parity).y_parity == 1


@pytest.mark.parametrize("parity", [{"yParity": "0x1", "v": "0x0"}, {"v": "0x1c", "yParity": "0x0"}, {}])
def test_a_parity_that_is_said_twice_and_differs_is_refused(parity: dict[str, Any]) -> None:
    with pytest.raises(RpcError, match="yParity"):
        params.authorization(SIGNED | parity)


def test_input_and_data_agree_or_are_refused() -> None:
    assert params.input_data({"input": "0x01", "data": "0x01"}) == params.input_data({"data": "0x01"}) == b"\1"
    with pytest.raises(RpcError, match="differ"):
        params.input_data({"data": "0x01", "input": "0x02"})
