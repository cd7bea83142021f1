"""Signed requests: this session, this network, this minute, this payload."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from keyquorum.algebra.rng import SeededRng
from keyquorum.auth import certificate as certificates
from keyquorum.auth import request
from keyquorum.auth.network import network_id
from keyquorum.auth.request import MAX_LIFETIME, Request
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import CLOCK_SKEW
from keyquorum.formats import jws
from keyquorum.formats.text import from_base64url, to_base64url
from keyquorum.refusal import Invalid

KEY = "0x" + "ab" * 32
ID = "request-0000_0001"
RUNS = ((1, 2, 3), (2, 3, 4))
INTENT = {"kind": "evm-message", "message": "héllo"}
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def make(world: Any, session: SessionPrivateKey | None = None, **change: Any) -> str:
    fields = {"network": world.network, "request_id": ID, "expires": world.now + 60, "key": KEY, "intent": INTENT}
    return request.make(session or world.session, **(fields | {"runs": RUNS} | change))


def raw(world: Any, claims: dict[str, Any], algorithm: str = "ES256", kind: str = request.TYPE) -> str:
    signing_input = jws.make_input(algorithm, kind, claims)
    return jws.assemble(signing_input, world.session.sign(signing_input))


def claims_of(world: Any) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(from_base64url(make(world).split(".")[1], "it"))
    return claims


def verify(world: Any, token: object, **other: Any) -> Request:
    certificate = other.pop("certificate", None) or world.certificate()
    arguments = {"network": world.network, "now": world.now} | other
    return request.verify(token, certificate, **arguments)


def test_what_was_asked_is_read_back(world: Any) -> None:
    token = make(world)
    found = verify(world, token)
    assert (found.id, found.expires, found.kind, found.key, found.intent) == (ID, world.now + 60, "sign", KEY, INTENT)
    assert found.runs == RUNS
    assert claims_of(world) == {
        "network": world.network,
        "id": ID,
        "exp": world.now + 60,
        "kind": "sign",
        "key": KEY,
        "intent": INTENT,
        "runs": [[1, 2, 3], [2, 3, 4]],
    }
    assert json.loads(from_base64url(token.split(".")[0], "it")) == {"alg": "ES256", "typ": "keyquorum-request+jws"}


def test_the_digest_tells_payloads_apart_and_repeats_together(world: Any) -> None:
    """Signed again, later and with other runs, it is the same request; with anything else it is another."""
    same = {
        verify(world, make(world, **change)).payload_digest
        for change in ({}, {"expires": world.now + 59}, {"runs": [(1, 2, 4)]}, {"runs": [(1, 2, 3)] * 8})
    }
    others = {
        verify(world, make(world, **change)).payload_digest
        for change in (
            {"intent": INTENT | {"message": "hello"}},
            {"request_id": ID + "2"},
            {"key": "0x" + "ac" * 32},
        )
    }
    revocation = make(world, kind="revoke", key=KEY)
    others.add(verify(world, revocation, kind="revoke").payload_digest)
    assert len(same) == 1 and len(same | others) == 5


def test_the_digest_is_of_what_is_said_and_not_of_how_it_is_spelt(world: Any) -> None:
    claims = claims_of(world)
    spelt = json.dumps(dict(reversed(claims.items())), indent=1).encode()
    header = to_base64url(jws.canonical({"alg": "ES256", "typ": request.TYPE}))
    signing_input = f"{header}.{to_base64url(spelt)}".encode()
    token = jws.assemble(signing_input, world.session.sign(signing_input))
    assert verify(world, token) == verify(world, make(world))


def test_the_twin_of_a_signature_is_the_same_request(world: Any) -> None:
    token = make(world)
    signing_input, signature = token.rsplit(".", 1)
    raw_signature = from_base64url(signature, "it")
    s = N - int.from_bytes(raw_signature[32:], "big")
    twin = f"{signing_input}.{to_base64url(raw_signature[:32] + s.to_bytes(32, 'big'))}"
    assert twin != token and verify(world, twin) == verify(world, token)


def test_another_sessions_signature_is_refused(world: Any, refused: Callable[..., Any]) -> None:
    with refused("bad_signature", 401):
        verify(world, make(world, SessionPrivateKey.generate(SeededRng("thief"))))


def test_a_changed_payload_is_refused(world: Any, refused: Callable[..., Any]) -> None:
    token, other = make(world), make(world, key="0x" + "ac" * 32)
    header, _, signature = token.split(".")
    with refused("bad_signature", 401):
        verify(world, f"{header}.{other.split('.')[1]}.{signature}")


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [("none", request.TYPE), ("HS256", request.TYPE), ("ES256K", request.TYPE), ("ES256", "JWT")],
)
def test_another_algorithm_or_type_is_refused_though_the_session_signed_it(
    world: Any, algorithm: str, kind: str, refused: Callable[..., Any]
) -> None:
    with refused("bad_token", 400):
        verify(world, raw(world, claims_of(world), algorithm, kind))


def test_a_certificate_is_not_a_request_nor_the_other_way_round(world: Any, refused: Callable[..., Any]) -> None:
    with refused("bad_token"):
        verify(world, world.certify(certificates.certificate_input(world.statement, world.certificate().methods)))
    with refused("bad_token"):
        certificates.verify(make(world), world.network, world.network_key, world.now)


def test_a_request_for_another_network_is_refused(world: Any, refused: Callable[..., Any]) -> None:
    other = network_id(31337, bytes(20))
    with refused("wrong_network", 401):
        verify(world, make(world, network=other))
    with refused("wrong_network", 401):
        verify(world, make(world, network=other), network=other)


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (MAX_LIFETIME + CLOCK_SKEW, None),
        (MAX_LIFETIME + CLOCK_SKEW + 1, "clock_skew"),
        (-CLOCK_SKEW + 1, None),
        (-CLOCK_SKEW, "request_expired"),
    ],
)
def test_a_request_lives_a_minute_and_clocks_may_differ_by_another(
    world: Any, seconds: int, code: str | None, refused: Callable[..., Any]
) -> None:
    token = make(world, expires=world.now + seconds)
    if code is None:
        assert verify(world, token)
        return
    with refused(code, 401):
        verify(world, token)


def test_the_errors_of_clocks_say_so(world: Any) -> None:
    for seconds in (-1000, 1000):
        with pytest.raises(Invalid) as caught:
            verify(world, make(world, expires=world.now + seconds))
        assert "clock" in caught.value.hint and "1000 s" in caught.value.message


def test_a_cached_certificate_is_checked_for_its_time_at_every_use(world: Any, refused: Callable[..., Any]) -> None:
    certificate = world.certificate()
    late = certificate.expires
    with refused("certificate_expired", 401):
        verify(world, make(world, expires=late + 10), certificate=certificate, now=late)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"network": 5}, "bad_value"),
        ({"id": "a" * 15}, "bad_request_id"),
        ({"id": "a" * 65}, "bad_request_id"),
        ({"id": "a" * 15 + "/"}, "bad_request_id"),
        ({"id": "a" * 16 + "\n"}, "bad_request_id"),
        ({"id": "é" * 16}, "bad_request_id"),
        ({"id": 5}, "wrong_type"),
        ({"exp": "soon"}, "bad_value"),
        ({"exp": True}, "bad_value"),
        ({"exp": -1}, "bad_value"),
        ({"exp": 2**62}, "bad_value"),
        ({"exp": 2**70}, "number_too_long"),
        ({"exp": 1.5}, "not_an_integer"),
        ({"kind": "Sign"}, "bad_kind"),
        ({"kind": "decrypt"}, "bad_kind"),
        ({"kind": ["sign"]}, "wrong_type"),
        ({"key": "0x" + "AB" * 32}, "bad_key"),
        ({"key": "0x" + "ab" * 31}, "bad_key"),
        ({"key": "*"}, "bad_key"),
        ({"key": 5}, "wrong_type"),
        ({"intent": []}, "wrong_type"),
        ({"intent": None}, "wrong_type"),
        ({"run": {"signers": [1, 2, 3]}}, "unknown_field"),
        ({"runs": []}, "bad_runs"),
        ({"runs": [[]]}, "bad_value"),
        ({"runs": [[1, 2, 3]] * 9}, "bad_value"),
        ({"runs": [list(range(1, 102))]}, "bad_value"),
        ({"runs": [[1, 1, 2]]}, "bad_runs"),
        ({"runs": [[1, 2, 3], [3, 2, 4]]}, "bad_runs"),
        ({"runs": [[0, 1, 2]]}, "bad_value"),
        ({"runs": [[1, 2, 65536]]}, "bad_value"),
        ({"runs": [[1, True, 3]]}, "bad_value"),
        ({"runs": [[1, "2", 3]]}, "bad_value"),
        ({"runs": [1, 2, 3]}, "bad_value"),
        ({"runs": {"0": [1, 2, 3]}}, "bad_value"),
        ({"runs": None}, "bad_value"),
    ],
)
def test_claims_of_any_other_form_are_refused_though_the_session_signed_them(
    world: Any, change: dict[str, Any], code: str, refused: Callable[..., Any]
) -> None:
    with refused(code, 400):
        verify(world, raw(world, claims_of(world) | change))


@pytest.mark.parametrize("name", ["network", "id", "exp", "kind", "key", "intent", "runs"])
def test_a_request_that_lacks_a_claim_is_refused(world: Any, name: str, refused: Callable[..., Any]) -> None:
    with refused("missing_field", 400):
        verify(world, raw(world, {k: v for k, v in claims_of(world).items() if k != name}))


@pytest.mark.parametrize("change", [{"request_id": "short"}, {"key": "*"}, {"kind": "steal"}])
def test_a_request_that_no_node_would_read_is_not_made(world: Any, change: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        make(world, **change)


def test_a_request_longer_than_its_bound_is_refused(world: Any, refused: Callable[..., Any]) -> None:
    token = make(world)
    assert verify(world, token, max_bytes=len(token))
    with refused("bad_token", 400):
        verify(world, token, max_bytes=len(token) - 1)


def test_a_certificate_of_another_session_does_not_carry_the_request(world: Any, refused: Callable[..., Any]) -> None:
    other = SessionPrivateKey.generate(SeededRng("other"))
    certificate = world.certificate(replace(world.statement, session=other.public))
    with refused("bad_signature", 401):
        verify(world, make(world), certificate=certificate)


@pytest.mark.parametrize("kind", ["mint", "revoke", "sessions"])
def test_a_request_is_good_for_its_kind_only(world: Any, kind: str, refused: Callable[..., Any]) -> None:
    token = request.make(world.session, network=world.network, request_id="r" * 16, expires=world.now + 30, key="*",
                          intent={}, kind=kind, runs=RUNS if kind == "revoke" else ())  # fmt: skip
    found = request.verify(token, world.certificate(), world.network, world.now, kind=kind)
    assert (found.kind, found.key) == (kind, "*")
    for other in {"sign", "mint", "revoke", "sessions", "login"} - {kind}:
        with refused("bad_kind", 400):
            request.verify(token, world.certificate(), world.network, world.now, kind=other)


def test_only_a_request_to_sign_must_name_a_key(world: Any, refused: Callable[..., Any]) -> None:
    with refused("bad_key", 400):
        request.make(
            world.session, network=world.network, request_id="r" * 16, expires=1, key="*", intent={}, runs=RUNS
        )


@pytest.mark.parametrize("kind", ["mint", "sessions"])
def test_what_makes_no_run_names_none(world: Any, kind: str, refused: Callable[..., Any]) -> None:
    with refused("bad_runs", 400):
        make(world, kind=kind, key="*")
    for makes_one in ("sign", "revoke", "login"):
        with refused("bad_runs", 400):
            make(world, kind=makes_one, runs=(), key=KEY if makes_one == "sign" else "*")


@pytest.mark.parametrize(("ahead", "late", "good"), [(0, 1, False), (100, 100, True), (100, 101, False)])
def test_a_request_may_expire_later_by_what_the_chain_is_ahead(
    world: Any, ahead: int, late: int, good: bool, refused: Callable[..., Any]
) -> None:
    expires = world.now + MAX_LIFETIME + CLOCK_SKEW + late
    token = request.make(
        world.session, network=world.network, request_id="r" * 16, expires=expires, key=request.NO_KEY,
        intent={"session": "11" * 32}, kind=request.REVOKE, runs=[(1, 2, 3)],
    )  # fmt: skip
    if good:
        found = request.verify(token, world.certificate(), world.network, world.now, kind=request.REVOKE, ahead=ahead)
        assert found.expires == expires
        return
    with refused("clock_skew", 401):
        request.verify(token, world.certificate(), world.network, world.now, kind=request.REVOKE, ahead=ahead)
