"""The registry: who is a node, and how many must agree."""

from __future__ import annotations

import pytest
from evm import accounts
from world import Bound, World, node_entry

from keyquorum.chain.contracts import interface, load_artifact
from keyquorum.chain.deploy import required_threshold


@pytest.fixture
def staking(world: World) -> Bound:
    """A registry of its own, before activation, governed by the world's governor."""
    abi = interface("Staking")
    code = abi.encode_deployment(load_artifact("Staking")["bytecode"], world.governor.address)
    return Bound(world.chain, world.chain.deploy(code, world.governor), abi)


def register(staking: Bound, number: int, account=None, **changes) -> None:
    entry = node_entry(number)
    fields = {
        "address": entry.address,
        "url": entry.url,
        "host": entry.mesh_host,
        "port": entry.mesh_port,
        "tls": entry.tls_key,
    } | changes
    staking.send("register", *fields.values(), account=account or accounts()[0])


def test_nodes_get_party_ids_from_one_upwards_in_order_of_registration(staking):
    for number in (1, 2, 3):
        register(staking, number)
    nodes = staking.read("getNodes")
    assert [node.partyId for node in nodes] == [1, 2, 3]
    entry = node_entry(2)
    assert nodes[1].nodeAddress == entry.address.lower()
    assert nodes[1][2:] == (entry.mesh_port, entry.tls_key, entry.url, entry.mesh_host)
    assert staking.read("nodeOf", entry.address) == nodes[1]
    assert staking.read("nodeCount") == 3


def test_registration_is_announced(staking):
    entry = node_entry(1)
    fields = (entry.address, entry.url, entry.mesh_host, entry.mesh_port, entry.tls_key)
    events = staking.events(staking.send("register", *fields))
    assert events[0] == {
        "event": "NodeRegistered",
        "args": {"nodeAddress": entry.address.lower(), "partyId": 1, "tlsKey": entry.tls_key},
    }
    assert events[1]["args"] == {
        "nodeAddress": entry.address.lower(),
        "url": entry.url,
        "meshHost": entry.mesh_host,
        "port": entry.mesh_port,
    }


def test_only_the_owner_registers_and_activates(staking, reverts):
    with reverts("OwnableUnauthorizedAccount"):
        register(staking, 1, account=accounts()[1])
    register(staking, 1)
    register(staking, 2)
    with reverts("OwnableUnauthorizedAccount"):
        staking.send("activate", 2, account=accounts()[1])


def test_one_machine_cannot_be_registered_as_two_nodes(staking, reverts):
    register(staking, 1)
    first = node_entry(1)
    with reverts("DuplicateNodeAddress", first.address.lower()):
        register(staking, 2, address=first.address)
    with reverts("DuplicateUrl", first.url):
        register(staking, 2, url=first.url)
    with reverts("DuplicateTlsKey", first.tls_key):
        register(staking, 2, tls=first.tls_key)
    register(staking, 2)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"address": "0x" + "00" * 20}, "ZeroNodeAddress"),
        ({"tls": bytes(32)}, "ZeroTlsKey"),
        ({"port": 0}, "ZeroPort"),
        ({"url": ""}, "BadText"),
        ({"url": "h" * 257}, "BadText"),
        ({"host": ""}, "BadText"),
        ({"host": "h" * 257}, "BadText"),
    ],
)
def test_an_incomplete_registration_is_refused(staking, reverts, change, error):
    with reverts(error):
        register(staking, 1, **change)
    register(staking, 1, url="u" * 256, host="h" * 256, port=65535)


def test_the_threshold_is_more_than_two_thirds_and_nothing_else(staking, reverts):
    for number in (1, 2, 3, 4):
        register(staking, number)
    for wrong in (0, 1, 2, 4, 5, 2**256 - 1):
        with reverts("WrongThreshold", wrong, 3):
            staking.send("activate", wrong)
    staking.send("activate", 3)
    assert staking.read("threshold") == 3
    assert staking.read("currentValidatorCountForConsensus") == 3


def test_the_threshold_rule_holds_for_every_size(staking):
    snapshot = staking.chain.snapshot()
    register(staking, 1)
    for n in range(2, 11):
        register(staking, n, address="0x" + n.to_bytes(20, "big").hex())
        staking.send("activate", required_threshold(n))
        assert staking.read("threshold") * 3 > 2 * n
        assert (staking.read("threshold") - 1) * 3 <= 2 * n
        staking.chain.restore(snapshot)
        for number in range(1, n + 1):
            register(staking, number, address="0x" + number.to_bytes(20, "big").hex())


def test_fewer_than_two_nodes_are_no_network(staking, reverts):
    with reverts("TooFewNodes"):
        staking.send("activate", 1)
    register(staking, 1)
    with reverts("TooFewNodes"):
        staking.send("activate", 1)


def test_at_most_a_hundred_nodes_are_registered(staking, reverts):
    for number in range(1, 101):
        register(
            staking,
            1,
            address="0x" + number.to_bytes(20, "big").hex(),
            url=f"u{number}",
            tls=number.to_bytes(32, "big"),
        )
    with reverts("TooManyNodes"):
        register(staking, 2)
    staking.send("activate", 67)
    assert [node.partyId for node in staking.read("getNodes")] == list(range(1, 101))


def test_activation_starts_epoch_one_once_and_closes_the_registry(staking, reverts):
    register(staking, 1)
    register(staking, 2)
    assert (staking.read("epoch"), staking.read("threshold"), staking.read("state")) == (0, 0, 4)
    assert staking.read("isActiveNode", node_entry(1).address) is False
    assert staking.events(staking.send("activate", 2)) == [{"event": "StateChanged", "args": {"newState": 0}}]
    assert (staking.read("epoch"), staking.read("threshold"), staking.read("state")) == (1, 2, 0)
    assert staking.read("isActiveNode", node_entry(1).address) is True
    assert staking.read("isActiveNode", node_entry(3).address) is False
    with reverts("AlreadyActive"):
        staking.send("activate", 2)
    with reverts("AlreadyActive"):
        register(staking, 3)


def test_an_unknown_node_is_an_error_not_an_empty_record(staking, reverts):
    with reverts("UnknownNode", node_entry(1).address.lower()):
        staking.read("nodeOf", node_entry(1).address)


def test_a_node_moves_but_keeps_key_and_party_id(world):
    node = world.nodes[1]
    before = world.staking.read("nodeOf", node.address)
    receipt = world.staking.send("updateEndpoint", "https://new.example", "mesh.example", 9, account=node)
    after = world.staking.read("nodeOf", node.address)
    assert (after.url, after.meshHost, after.port) == ("https://new.example", "mesh.example", 9)
    assert (after.partyId, after.tlsKey, after.nodeAddress) == (before.partyId, before.tlsKey, before.nodeAddress)
    assert world.staking.events(receipt)[0]["event"] == "EndpointUpdated"


def test_only_a_node_moves_and_only_itself(world, reverts):
    with reverts("UnknownNode"):
        world.staking.send("updateEndpoint", "u", "h", 1, account=world.user)
    with reverts("UnknownNode"):
        world.staking.send("updateEndpoint", "u", "h", 1, account=world.governor)


def test_a_node_cannot_move_to_another_nodes_url_but_can_keep_its_own(world, reverts):
    taken, own = node_entry(1).url, node_entry(2).url
    with reverts("DuplicateUrl", taken):
        world.staking.send("updateEndpoint", taken, "h", 1, account=world.nodes[1])
    world.staking.send("updateEndpoint", own, "h", 1, account=world.nodes[1])
    world.staking.send("updateEndpoint", "moved", "h", 1, account=world.nodes[1])
    world.staking.send("updateEndpoint", own, "h", 1, account=world.nodes[0])


@pytest.mark.parametrize(
    ("url", "host", "port", "error"), [("", "h", 1, "BadText"), ("u", "", 1, "BadText"), ("u", "h", 0, "ZeroPort")]
)
def test_a_node_cannot_move_to_nowhere(world, reverts, url, host, port, error):
    with reverts(error):
        world.staking.send("updateEndpoint", url, host, port, account=world.nodes[0])


def test_existing_clients_find_the_nodes_and_the_threshold(world):
    epoch, minimum, validators = world.staking.read("getActiveUnkickedValidatorStructsAndCounts")
    assert epoch.number == 1
    assert minimum == 3
    first = validators[0]
    assert (first.ip, first.port, first.ipv6, first.reward) == (0x7F000001, 7401, 0, 0)
    assert first.nodeAddress == world.nodes[0].address.lower()
    assert first.senderPubKey == first.receiverPubKey == int.from_bytes(b"\1" * 32, "big")
    assert [v.port for v in validators] == [7401, 7402, 7403, 7404]


def test_existing_clients_find_no_nodes_before_activation(staking):
    register(staking, 1)
    epoch, minimum, validators = staking.read("getActiveUnkickedValidatorStructsAndCounts")
    assert (epoch.number, minimum, list(validators)) == (0, 0, [])


@pytest.mark.parametrize(
    ("url", "ip", "port"),
    [
        ("http://1.2.3.4", 0x01020304, 80),
        ("https://1.2.3.4", 0x01020304, 443),
        ("https://255.255.255.255:65535/", 0xFFFFFFFF, 65535),
        ("http://10.0.0.1:1/path?x", 0x0A000001, 1),
        ("https://0.0.0.0/x", 0, 443),
        ("https://node.example:7470", 0, 0),
        ("https://1.2.3.4.example", 0, 0),
        ("https://1.2.3", 0, 0),
        ("https://1.2.3.", 0, 0),
        ("https://1.2.3.4.5", 0, 0),
        ("https://1.2.3.256", 0, 0),
        ("https://01.2.3.4", 0, 0),
        ("https://1.2.3.4:", 0, 0),
        ("https://1.2.3.4:0", 0, 0),
        ("https://1.2.3.4:65536", 0, 0),
        ("https://1.2.3.4:080", 0, 0),
        ("https://1.2.3.4:80x", 0, 0),
        ("https://[::1]:80", 0, 0),
        ("ftp://1.2.3.4", 0, 0),
        ("https://", 0, 0),
        ("1.2.3.4", 0, 0),
        ("h", 0, 0),
    ],
)
def test_an_ipv4_url_is_read_strictly(world, url, ip, port):
    world.staking.send("updateEndpoint", url, "h", 1, account=world.nodes[0])
    first = world.staking.read("getActiveUnkickedValidatorStructsAndCounts").validators[0]
    assert (first.ip, first.port) == (ip, port)


def test_governance_changes_hands_in_two_steps(staking, reverts):
    register(staking, 1)
    staking.send("transferOwnership", accounts()[1].address)
    register(staking, 2)
    staking.send("acceptOwnership", account=accounts()[1])
    with reverts("OwnableUnauthorizedAccount"):
        register(staking, 3)
    register(staking, 3, account=accounts()[1])
