"""What a cheating node can do with what it sees: nothing. (T40, T41, T44, T47 of the security catalogue, as far as
this package goes.)

The node has captured an honest login (statement, proof, certificate) and an honest request. It forwards them to the
others as they are or changed in every way that would gain it something, with its own session key where it likes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from keyquorum.algebra.rng import SeededRng
from keyquorum.auth import certificate as certificates
from keyquorum.auth import request, siwe_message
from keyquorum.auth.method import prove
from keyquorum.auth.network import network_id
from keyquorum.auth.permission import KeyState, decide
from keyquorum.auth.scopes import Scope
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import Statement, parse
from keyquorum.formats.jws import canonical
from keyquorum.formats.text import to_base64url
from keyquorum.refusal import Invalid

THIEF = SessionPrivateKey.generate(SeededRng("thief"))
KEY = "0x" + "ab" * 32
GAINS: dict[str, list[Any]] = {
    "session": [THIEF.public],
    "network": [network_id(1, bytes(range(20))), network_id(31337, bytes(20))],
    "keys": [(KEY,), ("0x" + "ac" * 32,)],
    "scopes": [(), (2,), (1,), (2, 3, 5), (1, 2, 3, 4, 5, 6)],
    "expires": [1, 3600, 20 * 3600],
    "nonce": ["ac" * 16],
    "block": ["0x" + "12" * 32],
}


def changed(statement: Statement, name: str, value: Any) -> Statement:
    return replace(statement, **{name: statement.expires + value if name == "expires" else value})


async def test_a_captured_proof_proves_nothing_but_its_own_statement(world: Any) -> None:
    proof = world.proof()
    assert await prove("siwe", proof, world.statement, world.context)
    attempts = [changed(world.statement, name, value) for name, values in GAINS.items() for value in values]
    pairs = itertools.combinations(GAINS, 2)
    attempts += [changed(changed(world.statement, one, GAINS[one][-1]), two, GAINS[two][-1]) for one, two in pairs]
    accepted = 0
    for statement in attempts:
        try:
            await prove("siwe", proof, statement, world.context)
            accepted += 1
        except Invalid as error:
            assert error.code in ("wrong_challenge", "wrong_chain", "wrong_expiry", "wrong_session")
    assert (len(attempts) > 30, accepted) == (True, 0)


async def test_rewriting_the_message_for_another_statement_breaks_its_signature(
    world: Any, refused: Callable[..., Any]
) -> None:
    proof = world.proof()
    for name, values in GAINS.items():
        for value in values:
            statement = changed(world.statement, name, value)
            with refused("bad_wallet_signature"):
                forged = proof | {"message": world.message(statement)}
                await prove("siwe", forged, statement, world.context)


async def test_the_session_is_bound_twice_so_that_either_binding_alone_would_do(
    world: Any, refused: Callable[..., Any]
) -> None:
    stolen = replace(world.statement, session=THIEF.public)
    with refused("wrong_challenge"):
        await prove("siwe", world.proof(), stolen, world.context)
    with refused("wrong_session"):
        half = world.proof(world.message(nonce=stolen.challenge))
        await prove("siwe", half, stolen, world.context)


async def test_every_field_of_the_message_is_under_the_signature(world: Any, refused: Callable[..., Any]) -> None:
    proof = world.proof()
    message = siwe_message.parse(proof["message"])
    for change in (
        {"issued_at": siwe_message.to_time(world.now + 1)},
        {"not_before": siwe_message.to_time(world.now)},
        {"request_id": "1"},
        {"scheme": "https"},
        {"expiration_time": message.expiration_time.replace("Z", ".0Z") if message.expiration_time else None},
    ):
        with refused("bad_wallet_signature"):
            await prove(
                "siwe", proof | {"message": replace(message, **change).format()}, world.statement, world.context
            )


async def test_a_replayed_login_gives_the_same_certificate_and_so_nothing_new(world: Any) -> None:
    proof = world.proof()
    inputs = set()
    for now in (world.now, world.now + 30, world.now + 600):
        proven = await prove("siwe", proof, world.statement, replace(world.context, now=now))
        inputs.add(certificates.certificate_input(world.statement, [proven]))
    assert len(inputs) == 1


def test_a_captured_certificate_is_worth_nothing_without_the_session_key(
    world: Any, refused: Callable[..., Any]
) -> None:
    token = request.make(
        THIEF,
        network=world.network,
        request_id="r" * 16,
        expires=world.now + 60,
        key=KEY,
        intent={"kind": "x"},
        runs=[(1, 2, 3)],
    )
    with refused("bad_signature"):
        request.verify(token, world.certificate(), world.network, world.now)


def test_a_captured_request_runs_out(world: Any, refused: Callable[..., Any]) -> None:
    token = request.make(
        world.session,
        network=world.network,
        request_id="r" * 16,
        expires=world.now + 60,
        key=KEY,
        intent={"a": 1},
        runs=[(1, 2, 3)],
    )
    certificate = world.certificate()
    first = request.verify(token, certificate, world.network, world.now)
    assert request.verify(token, certificate, world.network, world.now + 119) == first
    with refused("request_expired"):
        request.verify(token, certificate, world.network, world.now + 120)


def test_a_session_cannot_be_broadened_by_its_holder(world: Any, refused: Callable[..., Any]) -> None:
    token = world.certify(certificates.certificate_input(world.statement, world.certificate().methods))
    header, _, signature = token.split(".")
    certificate = world.certificate()
    claims = {
        "iss": certificate.network,
        "sub": certificate.session.thumbprint,
        "cnf": {"jwk": certificate.session.to_jwk()},
        "iat": 0,
        "exp": certificate.expires,
        "jti": certificate.id,
        "methods": [{"type": 1, "id": "0x" + world.address.hex()}],
        "keys": ["*"],
        "scopes": [2, 3],
    }
    for change in ({}, {"scopes": [1, 2, 3, 4, 5, 6]}, {"exp": certificate.expires + 60}, {"keys": [KEY]}):
        forged = to_base64url(canonical(claims | change))
        with refused("bad_certificate"):
            certificates.verify(f"{header}.{forged}.{signature}", world.network, world.network_key, world.now)


@pytest.mark.parametrize("needed", list(Scope))
def test_a_session_for_messages_never_signs_more_whatever_its_user_may_do(world: Any, needed: Scope) -> None:
    everything = KeyState(world.address, {(1, world.address): 2**7 - 2})
    narrow = replace(world.certificate(), scopes=(2,))
    assert decide(narrow, needed, KEY, everything, everything).allowed == (needed is Scope.SIGN_PERSONAL_MESSAGE)


def test_a_statement_cannot_be_read_in_two_ways(world: Any) -> None:
    raw = world.statement.to_json()
    again = parse(raw, network=world.network, now=world.now, is_recent_block=lambda block: True)
    assert again.to_json() == raw and again.challenge == world.statement.challenge
