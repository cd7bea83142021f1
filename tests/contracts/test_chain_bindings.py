"""The bindings: names and values to bytes and back, errors by their names, and no byte of a stranger's believed."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak
from eth_utils import to_checksum_address
from world import ChainRpc, World, public_key

from keyquorum.chain import rpc as chain_rpc
from keyquorum.chain.contracts import (
    CONTRACT_NAMES,
    Contract,
    Reverted,
    address_method_id,
    decode_error,
    interface,
    load_artifact,
)
from keyquorum.evm.address import checksum
from keyquorum.evm.digests import key_batch_digest
from keyquorum.evm.keys import eth_address, token_id


class Failing:
    def __init__(self, error: Exception) -> None:
        self._error = error

    async def eth_call(self, *_: Any) -> bytes:
        raise self._error


class Answering:
    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    async def eth_call(self, *_: Any) -> bytes:
        return self._answer


def bind(reader: Any, name: str = "PKPNFT") -> Contract:
    return Contract(reader, "0x" + "ab" * 20, interface(name))


def selector(signature: str) -> bytes:
    return keccak(signature.encode())[:4]


async def test_reading_gives_values_and_named_tuples(world: World):
    rpc = ChainRpc(world.chain)
    nft, staking = (world.deployment.bind(rpc, name) for name in ("PKPNFT", "Staking"))
    assert await nft.read("mintCost") == 0
    assert (await nft.read("ownership", 5)).grantEpoch == 0
    nodes = await staking.read("getNodes")
    assert nodes[2].partyId == 3
    assert type(nodes[2]).__name__ == "Node"
    found = await staking.read("getActiveUnkickedValidatorStructsAndCounts")
    assert found.minNodeCount == 3
    assert found[0].number == 1


async def test_a_refused_read_says_why_by_name(world: World):
    rpc = ChainRpc(world.chain)
    with pytest.raises(Reverted) as refusal:
        await world.deployment.bind(rpc, "Staking").read("nodeOf", world.user.address)
    assert (refusal.value.name, refusal.value.values) == ("UnknownNode", (world.user.address.lower(),))
    assert isinstance(refusal.value, chain_rpc.Reverted)
    assert "UnknownNode" in str(refusal.value)


@pytest.mark.parametrize(
    ("data", "name", "values"),
    [
        (selector("PoolEmpty()"), "PoolEmpty", ()),
        (selector("WrongBatch(uint64,uint64)") + encode(["uint64", "uint64"], [5, 6]), "WrongBatch", (5, 6)),
        (selector("Error(string)") + encode(["string"], ["no"]), "Error", ("no",)),
        (selector("Panic(uint256)") + encode(["uint256"], [0x11]), "Panic", (0x11,)),
        (b"", "Unknown", ()),
        (b"\1\2", "Unknown", (b"\1\2",)),
        (b"\1\2\3\4" + bytes(32), "Unknown", (b"\1\2\3\4" + bytes(32),)),
        (selector("WrongBatch(uint64,uint64)") + b"\0", "Unknown", (selector("WrongBatch(uint64,uint64)") + b"\0",)),
    ],
)
def test_every_revert_gets_a_name(data, name, values):
    error = decode_error(data)
    assert (error.name, error.values) == (name, values)
    assert error.revert_data == data


async def test_a_revert_is_recognised_by_its_data_whatever_its_code():
    data = "0x" + selector("PoolEmpty()").hex()
    for error in (
        chain_rpc.Reverted(3, "execution reverted", data),
        chain_rpc.RpcError(-32000, "VM Exception", {"data": data}),
    ):
        with pytest.raises(Reverted) as refusal:
            await bind(Failing(error)).read("mintCost")
        assert refusal.value.name == "PoolEmpty"


async def test_an_error_that_is_no_revert_passes_unchanged():
    for error in (chain_rpc.RpcError(-32601, "no such method"), chain_rpc.RpcUnreachable("gone")):
        with pytest.raises(type(error)) as refusal:
            await bind(Failing(error)).read("mintCost")
        assert refusal.value is error


async def test_no_contract_at_the_address_is_an_error_not_a_zero():
    with pytest.raises(ValueError, match="not a result of mintCost"):
        await bind(Answering(b"")).read("mintCost")
    with pytest.raises(ValueError, match="not a result of getPubkey"):
        await bind(Answering(bytes(31) + b"\x20" + b"\xff" * 32)).read("getPubkey", 1)


async def test_a_function_without_result_gives_none():
    assert await bind(Answering(b"")).read("withdraw") is None


def test_calls_are_encoded_by_name():
    nft = interface("PKPNFT")
    assert nft.encode("mintNext", 2) == selector("mintNext(uint256)") + (2).to_bytes(32, "big")
    permissions = interface("PKPPermissions")
    data = permissions.encode("addPermittedAuthMethod", 1, (2, b"id", b""), [3])
    assert data[:4] == selector("addPermittedAuthMethod(uint256,(uint256,bytes,bytes),uint256[])")


def test_overloads_are_told_apart():
    nft, address = interface("PKPNFT"), "0x" + "11" * 20
    short = nft.encode("safeTransferFrom", address, address, 1)
    assert short[:4] == selector("safeTransferFrom(address,address,uint256)")
    long = nft.encode("safeTransferFrom", address, address, 1, b"")
    assert long[:4] == selector("safeTransferFrom(address,address,uint256,bytes)")
    assert nft.encode("safeTransferFrom(address,address,uint256)", address, address, 1) == short
    with pytest.raises(ValueError, match="safeTransferFrom"):
        nft.encode("safeTransferFrom", address)
    with pytest.raises(ValueError, match="no function of that name"):
        nft.encode("mint", 1)


@pytest.mark.parametrize("value", [-1, 2**256, "1", b"\1", None, 1.0])
def test_arguments_that_do_not_fit_are_the_callers_fault(value):
    with pytest.raises(ValueError, match="mintNext"):
        interface("PKPNFT").encode("mintNext", value)


def test_events_are_decoded_only_from_this_contract(world: World):
    receipt = world.nft.send("mintNext", 2, account=world.user)
    contract = world.deployment.bind(ChainRpc(world.chain), "PKPNFT")
    decoded = [contract.decode_event(log) for log in receipt.logs]
    assert decoded[0] is None
    assert decoded[1] == {
        "event": "PKPMinted",
        "args": {"tokenId": token_id(public_key(1000)), "pubkey": public_key(1000)},
    }
    assert decoded[2] is not None
    assert list(decoded[2]["args"]) == ["from", "to", "tokenId"]
    forged = receipt.logs[1] | {"address": world.router.address}
    assert contract.decode_event(forged) is None


def test_logs_that_do_not_fit_their_event_are_nothing():
    nft = interface("PKPNFT")
    topic = nft.event_topic("PKPMinted")
    assert topic == "0x" + keccak(b"PKPMinted(uint256,bytes)").hex()
    word = "0x" + "00" * 32
    assert nft.decode_event({"topics": [], "data": "0x"}) is None
    assert nft.decode_event({"topics": [word], "data": "0x"}) is None
    assert nft.decode_event({"topics": [topic], "data": "0x"}) is None
    assert nft.decode_event({"topics": [topic, word], "data": "0x"}) is None
    with pytest.raises(ValueError, match="no such event"):
        nft.event_topic("PKPLost")


def test_addresses_are_written_as_eip_55_says():
    for secret in range(1, 20):
        address = eth_address(public_key(secret))
        assert address == to_checksum_address(address.lower()) == checksum(address.upper().replace("0X", "0x"))
    assert address_method_id(address) == bytes.fromhex(address[2:])
    for bad in ("", "11" * 20, "0x" + "11" * 19, "0x" + "11" * 21, "0x" + "zz" * 20, b"\1" * 19):
        with pytest.raises(ValueError, match=r".+"):
            checksum(bad)


@pytest.mark.parametrize("key", [b"", b"\4" * 64, b"\2" + bytes(64), b"\4" + bytes(65)])
def test_only_uncompressed_keys_have_ids(key):
    for function in (token_id, eth_address):
        with pytest.raises(ValueError, match="65 bytes"):
            function(key)
    with pytest.raises(ValueError, match="65 bytes"):
        key_batch_digest(1, "0x" + "11" * 20, 1, 1, [key])


def test_an_unknown_contract_is_the_callers_fault():
    for name in ("Nothing", "../contracts", "staking"):
        with pytest.raises(ValueError, match="no such contract"):
            load_artifact(name)
    assert [load_artifact(name)["contractName"] for name in CONTRACT_NAMES] == list(CONTRACT_NAMES)


def test_a_node_that_only_reads_loads_no_wallet_library():
    code = (
        "import sys, keyquorum.chain.contracts; print([m for m in ('web3', 'eth_account', 'eth') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
