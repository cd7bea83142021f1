"""EIP-4361 texts: the grammar, all of it where it is safe, and nothing beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyquorum.auth.siwe_message import MAX_CHARACTERS, SiweMessage, from_time, parse, to_time
from keyquorum.refusal import Invalid

ADDRESS = "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2"
# The example of the EIP, then with a port, then with a scheme.
EXAMPLE = f"""example.com wants you to sign in with your Ethereum account:
{ADDRESS}

I accept the ExampleOrg Terms of Service: https://example.com/tos

URI: https://example.com/login
Version: 1
Chain ID: 1
Nonce: 32891756
Issued At: 2021-09-30T16:25:24Z
Resources:
- ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/
- https://example.com/my-web2-claim.json"""
FULL = f"""https://user@[2001:db8::1]:8080 wants you to sign in with your Ethereum account:
{ADDRESS}

Hello.

URI: urn:x:y?a=b#c
Version: 1
Chain ID: 31337
Nonce: abcdefgh
Issued At: 2021-09-30T16:25:24.125+02:00
Expiration Time: 2021-10-01T00:00:00Z
Not Before: 2021-09-30T16:25:24Z
Request ID: some:id@1%20
Resources:"""


def test_the_examples_of_the_eip_are_read_field_by_field() -> None:
    message = parse(EXAMPLE)
    assert message == SiweMessage(
        domain="example.com",
        address=bytes.fromhex(ADDRESS[2:]),
        uri="https://example.com/login",
        chain_id=1,
        nonce="32891756",
        issued_at="2021-09-30T16:25:24Z",
        statement="I accept the ExampleOrg Terms of Service: https://example.com/tos",
        resources=(
            "ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/",
            "https://example.com/my-web2-claim.json",
        ),
    )
    assert parse(EXAMPLE.replace("example.com w", "example.com:3388 w")) == replace(message, domain="example.com:3388")
    assert parse("https://" + EXAMPLE) == replace(message, scheme="https")


def test_every_optional_field_is_read_and_written() -> None:
    message = parse(FULL)
    assert (message.scheme, message.domain) == ("https", "user@[2001:db8::1]:8080")
    assert message.expiration_time == "2021-10-01T00:00:00Z" and message.not_before == "2021-09-30T16:25:24Z"
    assert message.request_id == "some:id@1%20" and message.resources == ()
    assert message.format() == FULL


def test_an_absent_statement_is_not_an_empty_one() -> None:
    absent, empty = replace(parse(FULL), statement=None), replace(parse(FULL), statement="")
    assert absent.format().count("\n\n\nURI") == 1 and empty.format().count("\n\n\n\nURI") == 1
    assert parse(absent.format()) == absent and parse(empty.format()) == empty


LINES = FULL.split("\n")


@pytest.mark.parametrize("index", [0, 1, 2, 4, 5, 6, 7, 8, 9])
def test_no_line_that_is_required_may_be_absent(index: int) -> None:
    with pytest.raises(Invalid):
        parse("\n".join(LINES[:index] + LINES[index + 1 :]))


@pytest.mark.parametrize("index", range(len(LINES) - 1))
def test_no_two_lines_may_change_places(index: int) -> None:
    swapped = [*LINES[:index], LINES[index + 1], LINES[index], *LINES[index + 2 :]]
    with pytest.raises(Invalid):
        parse("\n".join(swapped))


@pytest.mark.parametrize("index", range(len(LINES)))
def test_no_line_may_come_twice(index: int) -> None:
    with pytest.raises(Invalid):
        parse("\n".join(LINES[: index + 1] + LINES[index:]))


@pytest.mark.parametrize("index", range(len(LINES)))
def test_a_message_that_ends_early_is_refused_unless_what_follows_is_optional(index: int) -> None:
    if index >= 10:
        assert parse("\n".join(LINES[:index]))
        return
    with pytest.raises(Invalid):
        parse("\n".join(LINES[:index]))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n", "\r\n"),
        ("\nURI", "\r\nURI"),
        (" wants you", "  wants you"),
        (" wants you", " Wants you"),
        ("account:", "account"),
        ("account:", "account: "),
        ("https://user", "1https://user"),
        ("https://user", "ht tps://user"),
        ("https://user", "://user"),
        ("https://user@[2001:db8::1]:8080", "https://"),
        ("https://user@[2001:db8::1]:8080", ""),
        ("[2001:db8::1]:8080", ""),
        ("[2001:db8::1]:8080", ":8080"),
        ("[2001:db8::1]:8080", "a b"),
        ("[2001:db8::1]:8080", "a/b"),
        ("[2001:db8::1]:8080", "a:b"),
        ("[2001:db8::1]:8080", "a@b"),
        ("[2001:db8::1]:8080", "%4"),
        ("[2001:db8::1]:8080", "%zz"),
        ("[2001:db8::1]:8080", "ex\u0430mple.com"),
        ("[2001:db8::1]", "[2001:db8::1::2]"),
        ("[2001:db8::1]", "[1:2:3:4:5:6:7]"),
        ("[2001:db8::1]", "[1:2:3:4:5:6:7:8:9]"),
        ("[2001:db8::1]", "[::1.2.3.256]"),
        ("[2001:db8::1]", "[12345::]"),
        ("[2001:db8::1]", "[]"),
        ("[2001:db8::1]", "[v.1]"),
        (ADDRESS, ADDRESS.lower()),
        (ADDRESS, "0x" + ADDRESS[2:].upper()),
        (ADDRESS, ADDRESS.replace("C", "c", 1)),
        (ADDRESS, ADDRESS.replace("0x", "0X")),
        (ADDRESS, ADDRESS[:-1]),
        (ADDRESS, ADDRESS + " "),
        (ADDRESS, ""),
        ("Hello.", 'Hello "you".'),
        ("Hello.", "Hello % you."),
        ("Hello.", "Hello\tyou."),
        ("Hello.", "Hello\nyou."),
        ("Hello.", "Hell\u00f6."),
        ("Hello.", "Hello\u2028you."),
        ("Hello.", "Hello\x00."),
        ("URI: ", "URI:"),
        ("URI: ", "uri: "),
        ("URI: ", "URI:  "),
        ("urn:x:y?a=b#c", ""),
        ("urn:x:y?a=b#c", "no-scheme"),
        ("urn:x:y?a=b#c", "1rn:x"),
        ("urn:x:y?a=b#c", "urn:x y"),
        ("urn:x:y?a=b#c", "urn:x#a#b"),
        ("urn:x:y?a=b#c", "urn:%4"),
        ("urn:x:y?a=b#c", "http://a:b/"),
        ("urn:x:y?a=b#c", "http://[1]/"),
        ("urn:x:y?a=b#c", "urn:x\\y"),
        ("urn:x:y?a=b#c", "urn:x:y "),
        ("Version: 1", "Version: 2"),
        ("Version: 1", "Version: 01"),
        ("Version: 1", "Version: 1 "),
        ("Version: 1", "Version: "),
        ("Chain ID: 31337", "Chain ID: 0x7a69"),
        ("Chain ID: 31337", "Chain ID: 031337"),
        ("Chain ID: 31337", "Chain ID: -1"),
        ("Chain ID: 31337", "Chain ID: "),
        ("Chain ID: 31337", "Chain ID: 1e3"),
        ("Chain ID: 31337", "Chain ID: \u0663"),
        ("Chain ID: 31337", "Chain ID: " + "9" * 79),
        ("Nonce: abcdefgh", "Nonce: abcdefg"),
        ("Nonce: abcdefgh", "Nonce: abcd-fgh"),
        ("Nonce: abcdefgh", "Nonce: "),
        ("Nonce: abcdefgh", "Nonce: abcdefgh "),
        ("Issued At: 2021-09-30T16:25:24.125+02:00", "Issued At: "),
        ("Expiration Time: 2021-10-01T00:00:00Z", "Expiration Time: "),
        ("Expiration Time: 2021-10-01T00:00:00Z", "Expiration Time: tomorrow"),
        ("Not Before: 2021-09-30T16:25:24Z", "Not Before: 2021-09-30"),
        ("Request ID: some:id@1%20", "Request ID: a b"),
        ("Request ID: some:id@1%20", "Request ID: a/b"),
        ("Request ID: some:id@1%20", "Request ID: %2"),
        ("Resources:", "Resources: "),
        ("Resources:", "Resources:\n"),
        ("Resources:", "Resources:\nhttps://a/"),
        ("Resources:", "Resources:\n-https://a/"),
        ("Resources:", "Resources:\n- not-a-uri"),
        ("Resources:", "Resources:\n- https://a/ - https://b/"),
        ("Resources:", "Resources:\n- https://a/\n"),
        ("Resources:", "Resources:\n- https://a/\nRequest ID: 1"),
    ],
)
def test_what_the_grammar_does_not_have_is_refused(old: str, new: str) -> None:
    assert old in FULL
    with pytest.raises(Invalid) as caught:
        parse(FULL.replace(old, new) if old == "\n" else FULL.replace(old, new, 1))
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "authority",
    [
        "localhost",
        "127.0.0.1:8080",
        "user:pass@example.com",
        "a.b-c_d~e!$&'()*+,;=",
        "xn--nxasmq6b",
        "%41.example",
        "[::]",
        "[::1]:1",
        "[1:2:3:4:5:6:7:8]",
        "[1:2:3:4:5:6:1.2.3.4]",
        "[1::8]",
        "[1:2:3:4:5:6:7::]",
        "[::ffff:1.2.3.4]",
        "[v1.a:b]",
        "example.com:",
    ],
)
def test_every_authority_of_rfc_3986_is_a_domain(authority: str) -> None:
    assert parse(FULL.replace("user@[2001:db8::1]:8080", authority)).domain == authority


@pytest.mark.parametrize(
    "uri",
    [
        "https://a",
        "https://a/b/../c;d=e?f/g?h#i/j?k",
        "file:///etc/hosts",
        "mailto:a@example.com",
        "urn:",
        "a:/",
        "a:/b//c",
        "keyquorum:session:4hYe7DnoLmjMfGWxKVKG90qVwHt3zvosOYn0XAL2Wnw",
        "did:web:a%3A1",
        "http://u:p@[::1]:80/",
        "http://a:/",
    ],
)
def test_every_shape_of_uri_of_rfc_3986_is_read(uri: str) -> None:
    message = parse(FULL.replace("urn:x:y?a=b#c", uri) + f"\n- {uri}\n- {uri}")
    assert message.uri == uri and message.resources == (uri, uri)


def test_a_message_longer_than_its_bound_is_refused() -> None:
    room = MAX_CHARACTERS - len(FULL)
    assert parse(FULL.replace("Hello.", "Hello." + "o" * room))
    with pytest.raises(Invalid, match="longer"):
        parse(FULL.replace("Hello.", "Hello." + "o" * (room + 1)))


@pytest.mark.parametrize(
    ("text", "seconds", "whole"),
    [
        ("1970-01-01T00:00:00Z", 0, True),
        ("2021-09-30T16:25:24Z", 1633019124, True),
        ("2021-09-30T18:25:24+02:00", 1633019124, True),
        ("2021-09-30T10:55:24-05:30", 1633019124, True),
        ("2021-09-30T16:25:24-00:00", 1633019124, True),
        ("2021-10-01T16:24:24+23:59", 1633019124, True),
        ("2021-09-30T16:25:24.000Z", 1633019124, True),
        ("2021-09-30T16:25:24.001Z", 1633019124, False),
        ("2024-02-29T23:59:59.999999999Z", 1709251199, False),
        ("1969-12-31T23:59:59.5Z", -1, False),
    ],
)
def test_times_of_rfc_3339_are_read_to_the_second_below(text: str, seconds: int, whole: bool) -> None:
    assert from_time(text) == (seconds, whole)


@pytest.mark.parametrize(
    "text",
    [
        "2021-09-30",
        "2021-09-30 16:25:24Z",
        "2021-09-30t16:25:24z",
        "2021-09-30T16:25:24",
        "2021-09-30T16:25Z",
        "2021-9-30T16:25:24Z",
        "2021-02-29T00:00:00Z",
        "2021-13-01T00:00:00Z",
        "2021-00-01T00:00:00Z",
        "2021-01-01T24:00:00Z",
        "2021-01-01T00:60:00Z",
        "2016-12-31T23:59:60Z",
        "0000-01-01T00:00:00Z",
        "2021-09-30T16:25:24.Z",
        "2021-09-30T16:25:24,5Z",
        "2021-09-30T16:25:24.0123456789Z",
        "2021-09-30T16:25:24+0200",
        "2021-09-30T16:25:24+02",
        "2021-09-30T16:25:24+24:00",
        "2021-09-30T16:25:24+00:60",
        "2021-09-30T16:25:24 Z",
        "2021-09-30T16:25:24Z\n",
        "+2021-09-30T16:25:24Z",
        "20210930T162524Z",
        "1633019124",
        "٢٠٢١-09-30T16:25:24Z",
    ],
)
def test_any_other_time_is_refused(text: str, refused: Callable[..., Any]) -> None:
    with refused("bad_siwe", 400):
        from_time(text)


@given(st.integers(0, 253402300799))
def test_times_are_written_as_they_are_read(seconds: int) -> None:
    assert from_time(to_time(seconds)) == (seconds, True)
    assert int(datetime.fromisoformat(to_time(seconds)).timestamp()) == seconds


# ---- random messages, made from the rules of the grammar ----------------------------------------------------------

UNRESERVED = "abcxyzABCXYZ0129-._~"
SUB = "!$&'()*+,;="
pct = st.sampled_from(["%00", "%7f", "%Aa", "%2F"])


def chars(alphabet: str, low: int = 0, high: int = 8) -> st.SearchStrategy[str]:
    return st.lists(st.one_of(st.sampled_from(alphabet), pct), min_size=low, max_size=high).map("".join)


schemes = st.from_regex(r"[A-Za-z][A-Za-z0-9+.\-]{0,5}", fullmatch=True)
ips = st.ip_addresses().map(lambda ip: str(ip) if ip.version == 4 else f"[{ip}]")
hosts = st.one_of(chars(UNRESERVED + SUB, 1), ips)
authorities = st.builds(
    lambda user, host, port: f"{user}{host}{port}",
    st.one_of(st.just(""), chars(UNRESERVED + SUB + ":").map(lambda u: u + "@")),
    hosts,
    st.one_of(st.just(""), st.integers(0, 99999).map(lambda p: f":{p}"), st.just(":")),
)
segments = st.lists(chars(UNRESERVED + SUB + ":@"), max_size=3).map(lambda s: "".join("/" + one for one in s))
uris = st.builds(
    lambda scheme, rest, query, fragment: f"{scheme}:{rest}{query}{fragment}",
    schemes,
    st.one_of(
        st.builds(lambda a, s: f"//{a}{s}", authorities, segments),
        st.builds(lambda first, s: first + s, chars(UNRESERVED + SUB + ":@", 1), segments),
        st.just(""),
    ),
    st.one_of(st.just(""), chars(UNRESERVED + SUB + ":@/?").map(lambda q: "?" + q)),
    st.one_of(st.just(""), chars(UNRESERVED + SUB + ":@/?").map(lambda f: "#" + f)),
)
times = st.builds(
    lambda moment, fraction, offset: f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}{offset}",
    st.datetimes(datetime(1970, 1, 1), datetime(2199, 1, 1)),
    st.one_of(st.just(""), st.from_regex(r"\.[0-9]{1,9}", fullmatch=True)),
    st.one_of(st.just("Z"), st.from_regex(r"[+-](0[0-9]|1[0-9]|2[0-3]):[0-5][0-9]", fullmatch=True)),
)
messages = st.builds(
    SiweMessage,
    domain=authorities,
    address=st.binary(min_size=20, max_size=20),
    uri=uris,
    chain_id=st.integers(0, 2**256 - 1),
    nonce=st.from_regex(r"[A-Za-z0-9]{8,20}", fullmatch=True),
    issued_at=times,
    scheme=st.none() | schemes,
    statement=st.none() | st.text(alphabet=UNRESERVED + SUB + ":/?#[]@ ", max_size=40),
    expiration_time=st.none() | times,
    not_before=st.none() | times,
    request_id=st.none() | chars(UNRESERVED + SUB + ":@"),
    resources=st.none() | st.lists(uris, max_size=3).map(tuple),
)


@given(messages)
@settings(max_examples=200, deadline=None)
def test_every_message_of_the_grammar_is_read_as_it_was_written(message: SiweMessage) -> None:
    assert parse(message.format()) == message


@given(messages, st.data())
@settings(max_examples=400, deadline=None)
def test_no_accepted_text_has_a_second_spelling(message: SiweMessage, data: st.DataObject) -> None:
    text = message.format()
    place = data.draw(st.integers(0, len(text)))
    end = min(len(text), place + data.draw(st.integers(0, 2)))
    changed = (
        text[:place] + data.draw(st.sampled_from(["", "\n", " ", "-", ":", "0", "a", "%", "\r", "é"])) + text[end:]
    )
    try:
        read = parse(changed)
    except Invalid:
        return
    assert read.format() == changed


@given(st.text(alphabet="a:/@[]%.0 \n-?#", max_size=60))
@settings(max_examples=100, deadline=1000)
def test_no_text_makes_the_parser_do_anything_but_refuse(noise: str) -> None:
    for text in (noise, FULL.replace("Hello.", noise), FULL.replace("urn:x:y?a=b#c", noise), noise + FULL):
        try:
            assert parse(text).format() == text
        except Invalid:
            continue


@pytest.mark.parametrize("unit", ["a:", "@", "%41", "/", "1:", "a.", "[::", "a@"])
def test_long_repetitions_are_refused_or_read_at_once(unit: str) -> None:
    noise = unit * (7000 // len(unit))
    for text in (noise + FULL, FULL.replace("urn:x:y?a=b#c", noise), FULL.replace("urn:", "urn:" + noise + '"')):
        try:
            parse(text)
        except Invalid:
            continue
