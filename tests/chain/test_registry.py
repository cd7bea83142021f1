"""One node's words are read apart from every other's, whatever is in them."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode

from keyquorum.chain.contracts import decode_error, interface
from keyquorum.chain.registry import entries, is_host, is_url, normal_url

STAKING = interface("Staking")
GOOD = (b"https://node1.example:7470", b"10.0.0.1")
POISON = {
    "no UTF-8": (b"http://\xff", b"\xff\xfe"),
    "a surrogate": (b"http://\xed\xa0\x80", b"\xed\xa0\x80"),
    "a label too long": (b"http://" + b"a" * 64, b"a" * 64),
    "empty": (b"", b""),
    "capitals": (b"HTTP://A.example", b"A.example"),
    "a path": (b"http://a.example/admin", b"a/admin"),
    "a user": (b"http://a@b", b"a@b"),
    "IPv6": (b"http://[::1]:80", b"::1"),
    "control characters": (b"http://a\r\nx: y", b"a\r\nx: y"),
    "NUL": (b"http://a\0", b"a\0"),
    "a megabyte": (b"http://" + b"a" * 2**20, b"a" * 2**20),
}


def answer(*texts: tuple[bytes, bytes]) -> bytes:
    """What `getNodes` returns for nodes that wrote these bytes."""
    nodes = [(f"0x{i + 1:040x}", i + 1, 7000 + i, bytes([i + 1]) * 32, *pair) for i, pair in enumerate(texts)]
    return encode(["(address,uint32,uint16,bytes32,bytes,bytes)[]"], [nodes])


@pytest.mark.parametrize("kind", POISON)
def test_a_poisoned_entry_makes_its_own_node_unreachable_and_no_other(kind: str) -> None:
    found = entries(STAKING.decode_result("getNodes", answer(GOOD, POISON[kind], GOOD)))
    assert [entry.party for entry in found] == [1, 2, 3]
    assert [entry.url for entry in found] == ["https://node1.example:7470", None, "https://node1.example:7470"]
    assert [entry.host for entry in found] == ["10.0.0.1", None, "10.0.0.1"]
    assert [entry.tls_key for entry in found] == [bytes([i]) * 32 for i in (1, 2, 3)]


def test_a_node_without_a_port_has_no_mesh_address() -> None:
    (node,) = STAKING.decode_result("getNodes", answer(GOOD))
    (entry,) = entries([node._replace(port=0)])
    assert (entry.host, entry.url) == (None, "https://node1.example:7470")


def test_an_answer_that_is_no_list_of_nodes_is_the_endpoints_fault() -> None:
    for data in (b"", bytes(32), b"\xff" * 64, answer(GOOD)[:-64]):
        with pytest.raises(ValueError, match="getNodes"):
            STAKING.decode_result("getNodes", data)


def test_strings_that_are_no_utf8_are_shown_in_events_and_errors_too() -> None:
    data = encode(["bytes", "bytes", "uint16"], [b"http://\xff", b"h", 1])
    log = {"topics": [STAKING.event_topic("EndpointUpdated"), "0x" + "11".rjust(64, "0")], "data": "0x" + data.hex()}
    event = STAKING.decode_event(log)
    assert event is not None
    assert event["args"]["url"] == "http://\\xff"
    refusal = decode_error(bytes.fromhex("08c379a0") + encode(["bytes"], [b"no\xff"]))
    assert (refusal.name, refusal.values) == ("Error", ("no\\xff",))


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("http://A.Example", "http://a.example"),
        ("HTTPS://a.example/", "https://a.example"),
        ("https://a.example:443", "https://a.example"),
        ("http://a.example:80/", "http://a.example"),
        ("http://a.example:443", "http://a.example:443"),
        ("http://1.2.3.4:8080", "http://1.2.3.4:8080"),
    ],
)
def test_the_normal_form_of_a_url(given: str, normal: str) -> None:
    assert normal_url(given) == normal
    assert normal_url(normal) == normal
    assert is_url(normal)


@pytest.mark.parametrize(
    "text", ["", "a", "ftp://a", "http://a/x", "http://a?x", "http://\u212a", "http://u@a", "http://a//"]
)
def test_what_has_no_normal_form_is_refused(text: str) -> None:
    assert not is_url(text)
    with pytest.raises(ValueError, match="no node's URL"):
        normal_url(text)


def test_a_host_is_a_name_or_an_ipv4_address_in_the_form_that_the_contract_takes() -> None:
    assert all(map(is_host, ("a", "node-1.example", "1.2.3.4", "x1.y2", ".".join(["a" * 63] * 3 + ["a" * 61]))))
    assert not any(map(is_host, ("", "1.2.3", "01.2.3.4", "a.1", "-a", "a-", "a_b", "a:1", "\u0661.2.3.4", "a\n")))
