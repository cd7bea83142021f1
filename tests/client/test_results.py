"""Results as values and as JSON."""

from __future__ import annotations

import pytest

from keyquorum.client import BadAnswer, ChainError, KeyquorumError, Misconfigured, Refused, Signed, Timeout, Unavailable
from keyquorum.client.results import token_from, token_hex


@pytest.mark.parametrize("token", [0, 1, 2**256 - 1])
def test_a_token_id_is_read_back_in_every_form(token: int) -> None:
    assert token_from(token_hex(token)) == token_from(str(token)) == token_from(token) == token


@pytest.mark.parametrize(
    "text", ["", "0x", "x", "-1", "0x-1", " 1", "1_0", "0x" + "f" * 65, "9" * 10**6, 2**256, -1, True, None, 1.5, "٣"]
)
def test_anything_else_is_no_token_id(text: object) -> None:
    with pytest.raises(ValueError):
        token_from(text)  # type: ignore[arg-type]


def test_the_compact_signature_has_65_bytes_and_v_of_27_or_28() -> None:
    signed = Signed(1, 2, 1, b"\x03" * 32, "s", b"\x04" * 65)
    assert signed.compact == (1).to_bytes(32, "big") + (2).to_bytes(32, "big") + b"\x1c"
    assert signed.to_json()["signature"]["compact"] == "0x" + signed.compact.hex()


def test_every_error_has_code_message_and_hint_and_one_root() -> None:
    errors = [
        Refused("c", "m", "h"),
        Unavailable("unavailable", "m", needed=3, live=2),
        BadAnswer("bad_answer", "m", party=1),
        Timeout("timeout", "m"),
        ChainError("chain_error", "m"),
        Misconfigured("misconfigured", "m"),
    ]
    for error in errors:
        assert isinstance(error, KeyquorumError)
        assert set(error.to_json()) == {"code", "message", "hint"}
        assert error.to_json()["message"] == str(error) == "m"
    assert len({error.code for error in errors}) == len(errors)


def test_the_package_offers_the_client_by_name_and_nothing_else() -> None:
    import keyquorum
    from keyquorum import client

    assert keyquorum.Client is client.Client
    assert keyquorum.AsyncClient is client.AsyncClient
    assert keyquorum.PkpAccount is client.PkpAccount
    for module in (keyquorum, client):
        with pytest.raises(AttributeError):
            module.Nothing  # noqa: B018
    assert all(hasattr(client, name) for name in client.__all__)
