"""Addresses of identity providers: https, one host, nothing hidden in them."""

from __future__ import annotations

import pytest

from keyquorum.auth.provider import bad_answer, host_of, origin
from keyquorum.refusal import Invalid


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://accounts.example", ("https", "accounts.example", 443)),
        ("https://Accounts.Example:8443/a/b", ("https", "accounts.example", 8443)),
        ("http://localhost:9000/x", ("http", "localhost", 9000)),
        ("http://127.0.0.1", ("http", "127.0.0.1", 80)),
        ("http://[::1]:5", ("http", "::1", 5)),
        ("https://[2001:db8::1]/", ("https", "2001:db8::1", 443)),
    ],
)
def test_an_address_has_scheme_host_and_port(url: str, found: tuple[str, str, int]) -> None:
    assert origin(url) == found


@pytest.mark.parametrize(
    "url",
    [
        "",
        "accounts.example",
        "https:accounts.example",
        "https://",
        "https:///keys",
        "https://:443/keys",
        "https://a@accounts.example",
        "https://a:b@accounts.example",
        "https://@accounts.example",
        "https://accounts.example?x",
        "https://accounts.example/#x",
        "https://accounts.example\\evil",
        "https://accounts.example\n",
        "https://accounts.example /",
        "https://acc\u00f6unts.example",
        "https://accounts.example:port",
        "https://accounts.example:99999",
        "https://" + "a" * 501,
        "http://accounts.example",
        "http://localhost.evil.example",
        "http://127.0.0.2",
        "HTTPS://accounts.example",
        "ftp://accounts.example",
        "file:///etc/passwd",
    ],
)
def test_anything_else_is_no_address_of_a_provider(url: str) -> None:
    with pytest.raises(ValueError):
        origin(url)


def test_errors_name_the_host_and_the_port_only_where_it_is_unusual() -> None:
    assert host_of("https://accounts.example:443/keys") == "accounts.example"
    assert host_of("http://127.0.0.1:9000/keys") == "127.0.0.1:9000"
    error = bad_answer("https://accounts.example/keys", "is odd")
    assert isinstance(error, Invalid) and error.status == 503 and error.message == "accounts.example is odd"
