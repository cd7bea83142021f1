"""Mail addresses have one spelling, and what looks like another person's is another name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from keyquorum.auth.email_code import normalise


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("ada@example.org", "ada@example.org"),
        ("Ada@Example.ORG", "ada@example.org"),
        ("  ada@example.org ", "ada@example.org"),
        ("a.d-a+tag@mail.example.org", "a.d-a+tag@mail.example.org"),
        ("!#$%&'*+/=?^_`{|}~-@example.org", "!#$%&'*+/=?^_`{|}~-@example.org"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@BÜCHER.example", "ada@xn--bcher-kva.example"),
        ("ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
        ("ada@faß.example", "ada@xn--fa-hia.example"),
        ("1@1and1.example", "1@1and1.example"),
        ("a" * 64 + "@example.org", "a" * 64 + "@example.org"),
    ],
)
def test_a_mail_address_has_one_spelling(given: str, name: str) -> None:
    assert normalise(given) == name and normalise(name) == name


def test_a_look_alike_domain_shows() -> None:
    assert normalise("ada@exаmple.org") == "ada@xn--exmple-4nf.org"  # with a Cyrillic letter


def test_different_mailboxes_stay_different() -> None:
    """What dots and tags mean is the provider's habit: merging them could give one person's keys to another."""
    names = {normalise(text) for text in ("ada@x.org", "a.da@x.org", "ada+1@x.org", "ada@x.com", "ada@a.x.org")}
    assert len(names) == 5


@pytest.mark.parametrize(
    "given",
    [
        "",
        "@",
        "ada",
        "ada@",
        "@example.org",
        "ada@localhost",
        "ada@example",
        "ada@example.org.",
        "ada@.example.org",
        "ada@example..org",
        "ada@-example.org",
        "ada@example-.org",
        "ada@exam_ple.org",
        "ada@[127.0.0.1]",
        "ada@127.0.0.1",
        "ada@example.123",
        ".ada@example.org",
        "ada.@example.org",
        "a..da@example.org",
        '"ada"@example.org',
        "ada(comment)@example.org",
        "ada <ada@example.org>",
        "ada@example.org,eve@example.org",
        "eve@evil.org@example.org",
        "ada\n@example.org",
        "ada@example.org\nBcc: eve@example.org",
        "ada@example.org\r\n",
        "ada@exam\u200bple.org\x00",
        "аda@example.org",  # a Cyrillic letter before the @
        "ada@xn--a.example",
        "ada@xn--.example",
        "a" * 65 + "@example.org",
        "ada@" + "a" * 64 + ".org",
        "ada@" + ".".join(["a" * 60] * 5) + ".org",
    ],
)
def test_what_is_no_plain_mail_address_is_refused(refused: Callable[..., Any], given: str) -> None:
    with refused("bad_mail_or_phone", 400):
        normalise(given)
