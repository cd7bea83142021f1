"""What transactions cost, beside the figures in gas.json; and that every contract fits into a block.

KEYQUORUM_RECORD_GAS=1 writes the figures anew: do that for a reason, and say it in the commit.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from chains import PyEvmChain
from eth_hash.auto import keccak
from world import GOOGLE, WEBAUTHN, World, public_key

from keyquorum.chain.contracts import CONTRACT_NAMES, interface, load_artifact
from keyquorum.chain.mints import mint_gas

GAS = Path(__file__).parent / "gas.json"
# EIP-170 bounds the code, EIP-7825 a single transaction.
LARGEST_CODE, LARGEST_TRANSACTION = 24_576, 2**24


def measure() -> dict[str, int]:
    world = World(PyEvmChain(), pool=0, vote=False)
    votes = [world.router.send("registerNetworkKey", public_key(0x6E657477_6F726B), account=n) for n in world.nodes]
    keys = world.fresh_keys(64)
    figures = {"registerNetworkKey (last vote)": votes[-1].gas_used}
    figures["registerKeys, batch of 64"] = world.register(keys).gas_used
    # The first mint of all also pays for counters that are zero only once.
    world.mint(world.other)
    receipt = world.nft.send("mintNext", 2, account=world.user)
    figures["mintNext (first of its owner)"] = receipt.gas_used
    token = world.minted(receipt)
    figures["mintNext"] = world.nft.send("mintNext", 2, account=world.user).gas_used
    methods = ([WEBAUTHN, GOOGLE], [keccak(b"a"), keccak(b"b")], [b"k" * 77, b""], [[1], [1]])
    send = world.helper.send
    figures["mintNextAndAddAuthMethods, passkey and account, owns itself"] = send(
        "mintNextAndAddAuthMethods", 2, *methods, True, True, account=world.user
    ).gas_used
    figures["mintNextAndTransfer, no grants"] = send(
        "mintNextAndTransfer", 2, world.third.address, [], [], [], [], False, account=world.user
    ).gas_used
    for count in (1, 16):
        logins = [(GOOGLE, keccak(bytes([count, i])), b"", [1, 6], bytes(32)) for i in range(count)]
        figures[f"mintForLogins, {count} new"] = send("mintForLogins", logins, account=world.other).gas_used
    figures["mintForLogins, 16 known"] = send("mintForLogins", logins, account=world.other).gas_used
    figures["addPermittedAddress, one scope"] = world.permissions.send(
        "addPermittedAddress", token, world.other.address, [1], account=world.user
    ).gas_used
    figures["transferFrom"] = world.nft.send(
        "transferFrom", world.user.address, world.other.address, token, account=world.user
    ).gas_used
    return figures


def test_no_transaction_costs_two_percent_more_than_recorded():
    figures = measure()
    if os.environ.get("KEYQUORUM_RECORD_GAS"):
        GAS.write_text(json.dumps(figures, indent=2) + "\n")
    recorded = json.loads(GAS.read_text())
    assert set(figures) == set(recorded)
    for name, gas in figures.items():
        assert gas <= recorded[name] * 1.02, f"{name}: {gas} gas, recorded {recorded[name]}"


@pytest.mark.parametrize("count", [1, 2, 16])
def test_the_gas_limit_for_logins_suffices_and_is_not_wasteful(count):
    world = World(PyEvmChain(), pool=5 * count)
    shapes = [(32, 0, 2), (20, 0, 0), (32, 77, 3), (32, 141, 6), (256, 1024 if count < 3 else 200, 20)]
    for number, (id_size, pubkey_size, scopes) in enumerate(shapes):
        logins = [
            (GOOGLE, keccak(bytes([number, i])) * 8, b"k" * pubkey_size, list(range(1, scopes + 1)), keccak(b"label"))
            for i in range(count)
        ]
        logins = [(kind, identity[:id_size], *rest) for kind, identity, *rest in logins]
        limit = mint_gas(logins)
        used = world.helper.send("mintForLogins", logins, account=world.other, gas=limit).gas_used
        assert used < limit < used * 1.5
        assert limit < LARGEST_TRANSACTION


def test_a_transfer_costs_the_same_however_much_it_voids():
    costs = []
    for grants in (0, 20):
        world = World(PyEvmChain())
        token = world.mint()
        for number in range(grants):
            identity = number.to_bytes(32, "big")
            world.permissions.send("addPermittedAuthMethod", token, (GOOGLE, identity, b""), [1], account=world.user)
        arguments = (world.user.address, world.other.address, token)
        costs.append(world.nft.send("transferFrom", *arguments, account=world.user).gas_used)
    assert costs[0] == costs[1]


@pytest.mark.parametrize("name", CONTRACT_NAMES)
def test_every_contract_is_small_enough_to_deploy(name):
    artifact = load_artifact(name)
    assert 0 < len(bytes.fromhex(artifact["deployedBytecode"][2:])) < LARGEST_CODE
    assert artifact["contractName"] == name
    assert "_" not in artifact["bytecode"], "an unlinked library"


def test_every_step_of_setting_up_a_network_fits_into_one_transaction():
    chain = PyEvmChain()
    spent: list[int] = []
    send = chain.send
    chain.send = lambda *a, **k: (spent.append((receipt := send(*a, **k)).gas_used), receipt)[1]  # type: ignore[method-assign]
    World(chain, pool=64)
    assert max(spent) < LARGEST_TRANSACTION
    assert len(spent) == 6 + 4 + 1 + 4 + 1


def test_what_is_deployed_is_what_the_artifact_says():
    world = World(PyEvmChain(), pool=0)
    for name, address in world.deployment.contracts.items():
        code, expected = world.chain.code(address), bytes.fromhex(load_artifact(name)["deployedBytecode"][2:])
        assert len(code) == len(expected)
        # Immutable references are zero in the artifact, and nothing else differs.
        assert all(wanted in (found, 0) for found, wanted in zip(code, expected, strict=True))
    assert interface("PKPNFT") is interface("PKPNFT")
