"""The registry: who is a node, and how many must agree."""

from __future__ import annotations

import pytest
from chains import accounts
from world import NETWORK_SECRET, Bound, World, node_entry, public_key

from keyquorum.chain.contracts import interface, load_artifact
from keyquorum.chain.deploy import required_threshold
from keyquorum.chain.registry import is_host, is_url, normal_url


@pytest.fixture
def staking(world: World) -> Bound:
    """A registry of its own, before activation, governed by the world's governor, beside a network that has its key."""
    abi = interface("Staking")
    code = abi.encode_deployment(load_artifact("Staking")["bytecode"], world.governor.address, world.router.address)
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
        ({"url": ""}, "BadUrl"),
        ({"url": "http://A.example"}, "BadUrl"),
        ({"url": "http://a.example/"}, "BadUrl"),
        ({"host": ""}, "BadHost"),
        ({"host": "h" * 64}, "BadHost"),
    ],
)
def test_an_incomplete_registration_is_refused(staking, reverts, change, error):
    with reverts(error):
        register(staking, 1, **change)
    longest = ".".join(["h" * 63] * 3 + ["h" * 61])
    register(staking, 1, url=f"https://{longest}:65535", host=longest, port=65535)


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
            url=f"http://u{number}",
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
        world.staking.send("updateEndpoint", "http://u", "h", 1, account=world.user)
    with reverts("UnknownNode"):
        world.staking.send("updateEndpoint", "http://u", "h", 1, account=world.governor)


def test_a_node_that_names_anothers_new_url_first_cannot_stop_its_move(world):
    """Who sees the move coming is first; names of the other's present and former URL stop nothing either."""
    new, old = "https://new.example", node_entry(1).url
    world.staking.send("updateEndpoint", new, "h", 1, account=world.nodes[1])
    world.staking.send("updateEndpoint", new, "h", 1, account=world.nodes[0])
    world.staking.send("updateEndpoint", old, "h", 1, account=world.nodes[1])
    world.staking.send("updateEndpoint", old, "h", 1, account=world.nodes[0])
    assert [node.url for node in world.staking.read("getNodes")][:2] == [old, old]


@pytest.mark.parametrize(
    ("url", "host", "port", "error"),
    [("", "h", 1, "BadUrl"), ("http://u", "", 1, "BadHost"), ("http://u", "h", 0, "ZeroPort")],
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


LABEL, NAME = "a" * 63, ".".join(["a" * 63] * 3 + ["a" * 61])
URLS = {
    "http://1.2.3.4": (0x01020304, 80),
    "https://1.2.3.4": (0x01020304, 443),
    "https://255.255.255.255:65535": (0xFFFFFFFF, 65535),
    "http://10.0.0.1:1": (0x0A000001, 1),
    "http://1.2.3.4:443": (0x01020304, 443),
    "https://node.example:7470": (0, 0),
    "https://1.2.3.4.example": (0, 0),
    "http://localhost": (0, 0),
    "http://n": (0, 0),
    "http://xn--bcher-kva.example": (0, 0),
    "http://1-2.3x.x9": (0, 0),
    f"http://{LABEL}.example": (0, 0),
    f"http://{NAME}:80" + "80": (0, 0),
}
NO_NAMES = r"""
    a. .a a..b -a a- a-.b a.-b a_b u@a u:p@a a%41 a* A a.B 1 1.2.3 1.2.3. 1.2.3.4.5 1.2.3.256 01.2.3.4 0x7f.1 a.0x1 a.1
    1a [::1] ::1 a\b a/ a/x a? a?x a# a,b
"""
NO_HOSTS = NO_NAMES.split()
NO_HOSTS += ["", "a ", " a", "a\n", "a\0", "a\r\nb", "\u00e4", "\u212a", "a\uff0eb", "a\u00df", "a" + LABEL, "a" + NAME]
NO_PORTS = [":", ":0", ":080", ":65536", ":8a", ":-1", ":1:1", ":+1", ":1_0", ":١", ":80/", ":80x"]
NO_URLS = [f"http://{host}" for host in NO_HOSTS] + [f"http://{host}:81" for host in NO_HOSTS]
NO_URLS += [f"http://{host}{port}" for host in ("a", "1.2.3.4") for port in NO_PORTS]
NO_URLS += [
    "http://a:80",
    "https://a:443",
    "h",
    "http:",
    "ftp://1.2.3.4",
    "1.2.3.4",
    "//a",
    "http:/a",
    "http//a",
    "HTTP://a",
]


@pytest.mark.parametrize("url", URLS)
def test_a_url_in_normal_form_is_taken_and_its_ipv4_address_read(world, url):
    world.staking.send("updateEndpoint", url, "h", 1, account=world.nodes[0])
    first = world.staking.read("getActiveUnkickedValidatorStructsAndCounts").validators[0]
    assert (first.ip, first.port) == URLS[url]
    assert is_url(url)
    assert normal_url(url) == url


def test_anything_else_is_no_url_to_the_contract_nor_to_its_readers(world, reverts):
    for url in NO_URLS:
        assert not is_url(url), url
        with reverts("BadUrl"):
            world.staking.send("updateEndpoint", url, "h", 1, account=world.nodes[0])


def test_a_text_that_is_no_utf8_is_refused(world, reverts):
    call = bytearray(world.staking.encode("updateEndpoint", "http://Z", "h", 1))
    for byte in (0xFF, 0xC0, 0x80, 0x00):
        call[call.index(b"http://") + 7] = byte
        with reverts("BadUrl"):
            world.chain.send(world.staking.address, bytes(call), world.nodes[0])


def test_a_mesh_host_is_a_host_alone(world, reverts):
    for host in (*NO_HOSTS, "h:1", "http://h"):
        assert not is_host(host)
        with reverts("BadHost"):
            world.staking.send("updateEndpoint", "http://u", host, 1, account=world.nodes[0])
    for host in ("h", "10.0.0.1", NAME, "mesh.node-1.example"):
        assert is_host(host)
        world.staking.send("updateEndpoint", "http://u", host, 1, account=world.nodes[0])


def test_existing_clients_find_the_nodes_by_address(world, reverts):
    read = world.staking.read
    addresses = [node.address.lower() for node in world.nodes]
    assert read("getValidatorsInCurrentEpoch") == read("getActiveUnkickedValidators") == addresses
    assert read("getValidatorsInCurrentEpochLength") == 4
    assert read("getKickedValidators") == []
    assert read("getKeyTypes") == [2]
    structs = read("getActiveUnkickedValidatorStructs")
    assert structs == read("getActiveUnkickedValidatorStructsAndCounts").validators
    assert read("getValidatorsStructs", [addresses[2]]) == [structs[2]]
    assert read("isActiveValidator", addresses[0]) is read("isActiveValidatorByNodeAddress", addresses[0]) is True
    assert read("isActiveValidator", world.user.address) is False
    with reverts("UnknownNode"):
        read("getValidatorsStructs", [world.user.address])


# ------------------------------------------------------------------------------------------------------- starting over


@pytest.fixture
def young(chain) -> World:
    """A network whose nodes have not agreed on its key."""
    return World(chain, pool=0, vote=False)


def test_one_dissenter_cannot_stop_a_network_from_starting(young):
    *honest, dissenter = young.nodes
    for node in honest:
        young.router.send("registerNetworkKey", public_key(NETWORK_SECRET), account=node)
    young.router.send("registerNetworkKey", public_key(7), account=dissenter)
    assert young.router.read("networkKey") == b""
    receipt = young.staking.send("startOver", account=young.governor)
    assert [event["event"] for event in young.staking.events(receipt)] == ["StartedOver", "StateChanged"]
    assert (young.staking.read("epoch"), young.staking.read("threshold"), young.staking.read("state")) == (0, 0, 4)
    assert young.staking.read("getNodes") == young.staking.read("getValidatorsInCurrentEpoch") == []
    assert not young.staking.read("isActiveNode", honest[0].address)
    for number in (1, 2, 3):
        register(young.staking, number)
    young.staking.send("activate", 3)
    assert (young.staking.read("epoch"), young.staking.read("threshold")) == (2, 3)
    assert young.router.read("networkKeyVote", honest[0].address) == 0
    for node in honest:
        young.router.send("registerNetworkKey", public_key(NETWORK_SECRET + 1), account=node)
    assert young.router.read("networkKey") == public_key(NETWORK_SECRET + 1)


def test_the_votes_of_an_abandoned_attempt_do_not_count(young):
    for node in young.nodes[:3]:
        young.router.send("registerNetworkKey", public_key(NETWORK_SECRET), account=node)
    young.staking.send("startOver")
    for number in (1, 2, 3, 4):
        register(young.staking, number)
    young.staking.send("activate", 3)
    young.router.send("registerNetworkKey", public_key(NETWORK_SECRET), account=young.nodes[3])
    assert young.router.read("networkKey") == b""


def test_nobody_starts_over_once_the_network_has_its_key_and_only_the_owner_before(young, reverts):
    with reverts("OwnableUnauthorizedAccount"):
        young.staking.send("startOver", account=young.nodes[0])
    for node in young.nodes:
        young.router.send("registerNetworkKey", public_key(NETWORK_SECRET), account=node)
    with reverts("NetworkKeyIsFixed"):
        young.staking.send("startOver")


def test_a_mistake_while_registering_is_undone_by_starting_over(young):
    young.staking.send("startOver")
    register(young.staking, 2)
    young.staking.send("startOver")
    register(young.staking, 1)
    register(young.staking, 2)
    young.staking.send("activate", 2)
    assert young.staking.read("epoch") == 3


def test_a_registry_is_never_without_an_owner(staking, reverts):
    with reverts("OwnerIsNeeded"):
        staking.send("renounceOwnership")
    with reverts("OwnableUnauthorizedAccount"):
        staking.send("renounceOwnership", account=accounts()[1])


def test_governance_changes_hands_in_two_steps(staking, reverts):
    register(staking, 1)
    staking.send("transferOwnership", accounts()[1].address)
    register(staking, 2)
    staking.send("acceptOwnership", account=accounts()[1])
    with reverts("OwnableUnauthorizedAccount"):
        register(staking, 3)
    register(staking, 3, account=accounts()[1])
