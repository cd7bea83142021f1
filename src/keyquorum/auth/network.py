"""Names of networks: `eip155:<chain id>:<address of its PubkeyRouter>`, the shape of CAIP-10.

Two networks on one chain have different names, and so has the same deployment on a fork with another chain id.
"""

from __future__ import annotations

import re
from functools import lru_cache

from keyquorum.evm.address import from_checksum, to_checksum
from keyquorum.refusal import malformed

_NETWORK = re.compile("eip155:([1-9][0-9]{0,18}):(0x[0-9a-fA-F]{40})")


def network_id(chain_id: int, router: bytes) -> str:
    """Return the id of the network whose PubkeyRouter is at `router` (20 bytes) on chain `chain_id`."""
    name = f"eip155:{chain_id}:{to_checksum(router)}"
    chain_id_of(name)
    return name


@lru_cache(maxsize=64)
def chain_id_of(network: str) -> int:
    """Return the chain id in a network id; raise `Invalid` when it is not the one spelling of a network id."""
    match = _NETWORK.fullmatch(network)
    if match is None:
        raise malformed("bad_network", "a network id is eip155:<chain id>:<PubkeyRouter address>")
    from_checksum(match[2], "the network id's contract")
    return int(match[1])
