"""Login requests: signed by the statement's own session key, so nobody else can do anything with one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from keyquorum.algebra.rng import SeededRng
from keyquorum.auth import login_request, request
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.formats import jws

RUNS = ((1, 2, 3),)
PROOF = {"message": "m\u00fcller", "signature": "0x"}
THIEF = SessionPrivateKey.generate(SeededRng("thief"))


def make(world: Any, session: SessionPrivateKey | None = None, **change: Any) -> str:
    fields = {"statement": world.statement, "method": "siwe", "proof": PROOF, "expires": world.now + 60, "runs": RUNS}
    return login_request.make(session or world.session, **fields | change)


def raw(world: Any, session: SessionPrivateKey | None = None, **change: Any) -> str:
    claims = jws.parse(make(world), algorithm="ES256", kind=request.TYPE, max_bytes=10_000).claims
    signing_input = jws.make_input("ES256", request.TYPE, claims | change)
    return jws.assemble(signing_input, (session or world.session).sign(signing_input))


def intent(world: Any, **change: Any) -> dict[str, Any]:
    return {"statement": world.statement.to_json(), "method": "siwe", "proof": PROOF} | change


def verify(world: Any, token: object) -> login_request.Login:
    return login_request.verify(token, world.network, world.now)


def test_what_was_asked_is_read_back(world: Any) -> None:
    found = verify(world, make(world, certificate="a.b.c"))
    assert (found.statement, found.method, found.proof) == (world.statement, "siwe", PROOF)
    assert (found.certificate, found.request.runs) == ("a.b.c", RUNS)
    assert (found.request.id, found.request.kind, found.request.key) == (world.statement.challenge, "login", "*")
    assert verify(world, make(world)).certificate is None


def test_only_the_statements_own_session_key_signs_its_login(world: Any, refused: Callable[..., Any]) -> None:
    with refused("bad_signature", 401):
        verify(world, make(world, THIEF))
    # With a session key of his own it is another statement, and another login.
    mine = replace(world.statement, session=THIEF.public)
    assert verify(world, make(world, THIEF, statement=mine)).request.id != world.statement.challenge


def test_another_proof_method_or_certificate_is_another_payload(world: Any) -> None:
    changes: list[dict[str, Any]] = [
        {}, {"method": "passkey"}, {"proof": PROOF | {"signature": "0x00"}}, {"certificate": "a.b.c"},
    ]  # fmt: skip
    assert len({verify(world, make(world, **change)).request.payload_digest for change in changes}) == len(changes)
    again = make(world, expires=world.now + 30, runs=((2, 3, 4), (1, 2, 4)))
    assert verify(world, again).request.payload_digest == verify(world, make(world)).request.payload_digest


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"id": "0" * 64}, "bad_request_id"),
        ({"kind": "revoke"}, "bad_kind"),
        ({"key": "0x" + "ab" * 32}, "bad_key"),
        ({"network": "eip155:1:0x0000000000000000000000000000000000000001"}, "wrong_network"),
        ({"exp": 0}, "request_expired"),
        ({"exp": 2**40}, "clock_skew"),
        ({"runs": []}, "bad_runs"),
        ({"intent": []}, "wrong_type"),
        ({"intent": {}}, "missing_field"),
    ],
)
def test_a_login_of_another_form_is_refused_though_the_session_signed_it(
    world: Any, change: dict[str, Any], code: str, refused: Callable[..., Any]
) -> None:
    with refused(code):
        verify(world, raw(world, **change))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"statement": 5}, "wrong_type"),
        ({"statement": {}}, "missing_field"),
        ({"proof": "x"}, "wrong_type"),
        ({"proof": None}, "wrong_type"),
        ({"method": 5}, "wrong_type"),
        ({"certificate": None}, "wrong_type"),
        ({"admin": True}, "unknown_field"),
    ],
)
def test_an_intent_of_another_form_is_refused(
    world: Any, change: dict[str, Any], code: str, refused: Callable[..., Any]
) -> None:
    with refused(code, 400):
        verify(world, raw(world, intent=intent(world, **change)))


def test_a_login_is_no_request_of_a_session_nor_the_other_way_round(world: Any, refused: Callable[..., Any]) -> None:
    with refused("bad_kind"):
        request.verify(make(world), world.certificate(), world.network, world.now)
    asked = request.make(
        world.session, network=world.network, request_id="r" * 16, expires=world.now + 50, key="0x" + "ab" * 32,
        intent=intent(world), runs=RUNS,
    )  # fmt: skip
    with refused("bad_kind"):
        verify(world, asked)
