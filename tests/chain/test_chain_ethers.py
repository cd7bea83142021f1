"""ethers 6 against the development chain: the script fails where ethers is not content."""

from __future__ import annotations

import json
from pathlib import Path

from chain_fixtures import RECORDER, deployment, run_node
from keyquorum.chain.devchain.accounts import ACCOUNTS
from pkp_chain import PkpChain


def test_ethers_sends_every_type_deploys_listens_and_lives_a_keys_life(
    js_tools: Path, pkp_chain: PkpChain, tmp_path: Path
) -> None:
    abi = tmp_path / "abi.json"
    abi.write_text(json.dumps(pkp_chain.abi))
    output = run_node(
        js_tools / "ethers.mjs",
        pkp_chain.url,
        pkp_chain.nft,
        str(abi),
        "0x" + ACCOUNTS[6][1].hex(),
        "0x" + deployment(RECORDER).hex(),
    )
    last = json.loads(output.strip().splitlines()[-1])
    assert int(last["tokenId"]) in pkp_chain.tokens
