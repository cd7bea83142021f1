"""How long and how many what strangers send may be: at each bound it is read, one beyond it is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from keyquorum.algebra.rng import SeededRng
from keyquorum.auth import (
    certificate,
    code_assertion,
    commitment,
    delegation,
    discord,
    email_code,
    method,
    oidc,
    passkey,
    request,
    session_key,
    statement,
    wallet_signature,
)
from keyquorum.auth.code_assertion import CodeSettings, Issuer
from keyquorum.auth.delegation import Delegation
from keyquorum.auth.method import Proven
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.auth.statement import Statement
from keyquorum.formats import cose, jws
from keyquorum.formats.text import from_hex_up_to, to_base64url
from keyquorum.refusal import Invalid
from soft_passkey import SoftPasskey

KEY = "0x" + "ab" * 32
SERVICE = SessionPrivateKey.generate(SeededRng("service"))
PASSKEY = SoftPasskey()
Sign = Callable[[bytes], bytes]


def padded(length: int, algorithm: str, kind: str, claims: Mapping[str, object], sign: Sign) -> str:
    """A signed token of exactly `length` characters, for blanks in its JSON."""
    for blanks in range(3):
        header = to_base64url(jws.canonical({"alg": algorithm, "typ": kind}) + b" " * blanks)
        room = length - len(header) - len("..") - 86
        if room % 4 != 1:
            break
    signing_input = f"{header}.{to_base64url(jws.canonical(claims).ljust(room * 3 // 4))}".encode()
    token = jws.assemble(signing_input, sign(signing_input))
    assert len(token) == length
    return token


def claims_of(token: str, algorithm: str, kind: str) -> Mapping[str, object]:
    return jws.parse(token, algorithm=algorithm, kind=kind, max_bytes=len(token)).claims


def keys(count: int) -> tuple[str, ...]:
    return tuple(f"0x{number:064x}" for number in range(count))


# ---- whole tokens ---------------------------------------------------------------------------------------------------


def a_request(world: Any, length: int) -> object:
    what: Any = {"request_id": "r" * 16, "expires": world.now + 60, "key": KEY, "intent": {}, "runs": [(1, 2, 3)]}
    claims = claims_of(request.make(world.session, network=world.network, **what), "ES256", request.TYPE)
    token = padded(length, "ES256", request.TYPE, claims, world.session.sign)
    return request.verify(token, world.certificate(), world.network, world.now)


def a_certificate(world: Any, length: int) -> object:
    plain = certificate.certificate_input(world.statement, [Proven(1, world.address, world.now)])
    claims = claims_of(world.certify(plain), certificate.ALGORITHM, certificate.TYPE)

    def sign(signing_input: bytes) -> bytes:
        return jws.parse(
            world.certify(signing_input), algorithm=certificate.ALGORITHM, kind=certificate.TYPE, max_bytes=length
        ).signature

    token = padded(length, certificate.ALGORITHM, certificate.TYPE, claims, sign)
    return certificate.verify(token, world.network, world.network_key, world.now)


def a_delegation(world: Any, length: int) -> object:
    held = world.certificate()
    lent = Delegation(world.network, held.id, SERVICE.public, (KEY,), (2,), 5, world.now + 600)
    claims = claims_of(delegation.make(world.session, lent), "ES256", delegation.TYPE)
    return delegation.follow(held, [padded(length, "ES256", delegation.TYPE, claims, world.session.sign)], world.now)


def an_assertion(world: Any, length: int) -> object:
    plain = code_assertion.make_assertion(SERVICE, "mail", "email", "a@b.org", world.statement, issued_at=world.now)
    claims = claims_of(plain, "ES256", "keyquorum-code+jws")
    token = padded(length, "ES256", "keyquorum-code+jws", claims, SERVICE.sign)
    settings = CodeSettings(1, [Issuer("mail", SERVICE.public.to_jwk())])
    return code_assertion.verify_assertion(token, "email", "a@b.org", world.statement, settings, world.now)


def an_answer(world: Any, length: int) -> object:
    claims = claims_of(
        code_assertion.make_answer(SERVICE, "mail", "i" * 22, "123"), "ES256", "keyquorum-code-answer+jws"
    )
    token = padded(length, "ES256", "keyquorum-code-answer+jws", claims, SERVICE.sign)
    return code_assertion.check_answer(token, SERVICE.public, "mail", "i" * 22, "123")


def a_header(world: Any, length: int) -> object:
    header = to_base64url(jws.canonical({"alg": "ES256", "typ": "x"}).ljust(length))
    token = f"{header}.{to_base64url(b'{}')}.{to_base64url(bytes(jws.SIGNATURE_BYTES))}"
    return jws.parse(token, algorithm="ES256", kind="x", max_bytes=4096)


def nested_claims(world: Any, depth: int) -> object:
    header, deep = (
        jws.canonical({"alg": "ES256", "typ": "x"}),
        b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}",
    )
    token = f"{to_base64url(header)}.{to_base64url(deep)}.{to_base64url(bytes(jws.SIGNATURE_BYTES))}"
    return jws.parse(token, algorithm="ES256", kind="x", max_bytes=4096)


def an_id_token(header: int, claims: int, signature: int) -> object:
    text = jws.canonical({"alg": "RS256"}).ljust(header)
    return oidc.read_id_token(".".join(map(to_base64url, (text, b"{}".ljust(claims), bytes(signature)))))


# ---- what is in them ------------------------------------------------------------------------------------------------


def runs(world: Any, sets: list[tuple[int, ...]]) -> object:
    what: Any = {"request_id": "r" * 16, "expires": world.now + 60, "key": KEY, "intent": {}, "runs": sets}
    return request.make(world.session, network=world.network, **what)


def a_statement(world: Any, **changes: Any) -> object:
    told = replace(world.statement).to_json() | changes
    return Statement.from_json(told)


def a_chain(world: Any, links: int) -> object:
    held = world.certificate()
    tokens, signer, parent = [], world.session, held.id
    for link in range(links):
        delegate = SessionPrivateKey.generate(SeededRng(f"delegate {link}"))
        lent = Delegation(world.network, parent, delegate.public, (KEY,), (2,), 5, world.now + 600)
        tokens.append(delegation.make(signer, lent))
        signer, parent = delegate, delegation.name(tokens[-1])
    return delegation.follow(held, tokens, world.now)


def identities(world: Any, count: int) -> object:
    found = [Proven(1, bytes([number]) * 20, world.now) for number in range(count)]
    claims = claims_of(
        world.certify(certificate.certificate_input(world.statement, found[:1])),
        certificate.ALGORITHM,
        certificate.TYPE,
    )
    named = [{"type": one.type, "id": "0x" + one.id.hex()} for one in found]
    token = world.certify(jws.make_input(certificate.ALGORITHM, certificate.TYPE, {**claims, "methods": named}))
    return certificate.verify(token, world.network, world.network_key, world.now)


def services(world: Any, count: int) -> object:
    made = [SessionPrivateKey.generate(SeededRng(f"service {number}")).public.to_jwk() for number in range(count)]
    return CodeSettings(1, [Issuer(f"mail-{number}", jwk) for number, jwk in enumerate(made)])


def lifetime(world: Any, seconds: int) -> object:
    token = code_assertion.make_assertion(
        SERVICE, "mail", "email", "a@b.org", world.statement, issued_at=world.now, lifetime=seconds
    )
    settings = CodeSettings(1, [Issuer("mail", SERVICE.public.to_jwk())])
    return code_assertion.verify_assertion(token, "email", "a@b.org", world.statement, settings, world.now)


def mail(local: int, whole: int) -> object:
    domain = "x" * 60
    rest = whole - local - len("@.de")
    labels = [domain[: min(60, rest - start)] for start in range(0, rest, 61)]
    address = f"{'a' * local}@{'.'.join(labels)}.de"
    assert len(address) == whole
    return email_code.normalise(address)


Case = tuple[int, Callable[[Any, int], object], str]
CASES: dict[str, Case] = {
    "a request": (request.MAX_BYTES, a_request, "bad_token"),
    "a certificate": (certificate.MAX_BYTES, a_certificate, "bad_token"),
    "a delegation": (delegation.MAX_BYTES, a_delegation, "bad_token"),
    "an assertion": (code_assertion.MAX_ASSERTION_BYTES, an_assertion, "bad_token"),
    "an answer": (code_assertion.MAX_ANSWER_BYTES, an_answer, "bad_token"),
    "a header": (jws._HEADER_BYTES, a_header, "too_large"),
    "claims within claims": (jws._MAX_DEPTH, nested_claims, "too_deep"),
    "an id_token": (oidc.MAX_CHARACTERS, lambda _, n: an_id_token(20, (n - 27 - 4 - 2) * 3 // 4, 3), "bad_id_token"),
    "its header": (oidc.MAX_HEADER, lambda _, n: an_id_token(n * 3 // 4, 2, 3), "bad_id_token"),
    "its signature": (oidc.MAX_SIGNATURE, lambda _, n: an_id_token(20, 2, n * 3 // 4), "bad_id_token"),
    "runs": (request.MAX_RUNS, lambda world, n: runs(world, [(1, 2, 3)] * n), "bad_value"),
    "signers": (request.MAX_SIGNERS, lambda world, n: runs(world, [tuple(range(1, n + 1))]), "bad_value"),
    "keys": (statement.MAX_KEYS, lambda world, n: a_statement(world, keys=list(keys(n))), "bad_value"),
    "uses": (statement.MAX_USES, lambda world, n: a_statement(world, uses=n), "bad_value"),
    "a time": (statement.MAX_TIME, lambda world, n: a_statement(world, expires=n), "bad_value"),
    "links": (delegation.MAX_DEPTH, a_chain, "too_deep"),
    "identities": (certificate.MAX_METHODS, identities, "bad_value"),
    "the life of an assertion": (code_assertion.MAX_LIFETIME, lifetime, "bad_assertion"),
    "the name in an address": (email_code._MAX_LOCAL, lambda _, n: mail(n, 200), "bad_mail_or_phone"),
    "a mail address": (code_assertion.MAX_ADDRESS, lambda _, n: mail(20, n), "bad_mail_or_phone"),
    "a wallet's signature": (
        wallet_signature.MAX_SIGNATURE_BYTES,
        lambda _, n: from_hex_up_to("0x" + "ab" * n, wallet_signature.MAX_SIGNATURE_BYTES, "it"),
        "bad_hex",
    ),
    "a credential's id": (
        passkey.MAX_CREDENTIAL_BYTES,
        lambda _, n: passkey.split_registration(PASSKEY.public_key + bytes(n)),
        "bad_passkey",
    ),
}


@pytest.mark.parametrize("what", CASES)
def test_at_the_bound_it_is_read_and_beyond_it_refused(what: str, world: Any) -> None:
    bound, read, code = CASES[what]
    read(world, bound)
    with pytest.raises(Invalid) as refused:
        read(world, bound + (2 if code == "bad_id_token" else 1))  # of base64url not every length is one
    assert refused.value.code == code and refused.value.hint


# ---- what operators and nodes themselves make -----------------------------------------------------------------------

OWN: dict[str, tuple[int, Callable[[Any, int], object]]] = {
    "an identity": (method.MAX_ID_BYTES, lambda _, n: Proven(1, b"x" * n)),
    "services": (code_assertion.MAX_ISSUERS, services),
    "receipts": (commitment.MAX_RECEIPTS, lambda _, n: commitment.RECEIPTS([{}] * n)),
    "a token": (discord.MAX_TOKEN, lambda _, n: discord._PROOF["token"]("x" * n)),  # type: ignore[call-arg]
    "identities": (
        certificate.MAX_METHODS,
        lambda world, n: certificate.certificate_input(
            world.statement, [Proven(1, bytes([number]) * 20, world.now) for number in range(n)]
        ),
    ),
    "a signature": (session_key.SIGNATURE_BYTES, lambda _, n: jws.assemble(b"a.b", bytes(n))),
}


@pytest.mark.parametrize("what", OWN)
def test_a_value_beyond_its_bound_is_never_made(what: str, world: Any) -> None:
    bound, make = OWN[what]
    make(world, bound)
    with pytest.raises(ValueError):
        make(world, bound + 1)


PARTS = {
    "client_data_json": passkey.MAX_CLIENT_DATA_BYTES,
    "signature": passkey.MAX_SIGNATURE_BYTES,
    "credential_id": passkey.MAX_CREDENTIAL_BYTES,
    "public_key": cose.MAX_KEY_BYTES,
}


@pytest.mark.parametrize("name", PARTS)
async def test_no_part_of_an_assertion_is_longer_than_its_bound(name: str, world: Any) -> None:
    proof = PASSKEY.proof(world.statement)
    settings = passkey.PasskeySettings(rp_ids=("localhost",), origins=("http://localhost:7480",))
    context = replace(world.context, settings=settings)
    most = -(-PARTS[name] * 4 // 3)
    told = []
    for length in (most, most + 1):
        try:
            await passkey.METHOD.verify(proof | {name: "A" * length}, world.statement, context)
            told.append("")
        except Invalid as error:
            told.append(error.code)
    assert told[0] != "bad_value" == told[1]


def test_an_origin_has_a_port_that_there_is() -> None:
    assert passkey.is_origin(f"https://a.example:{passkey.MAX_PORT}")
    assert not passkey.is_origin(f"https://a.example:{passkey.MAX_PORT + 1}")


def test_a_token_is_not_shorter_than_one_that_cannot_be_guessed() -> None:
    read = discord._PROOF["token"]
    assert read("x" * discord.MIN_TOKEN)  # type: ignore[call-arg]
    with pytest.raises(ValueError):
        read("x" * (discord.MIN_TOKEN - 1))  # type: ignore[call-arg]


@pytest.mark.parametrize(("count", "good"), [(1, True), (oidc._AUDIENCES, True), (oidc._AUDIENCES + 1, False)])
def test_an_id_token_is_for_so_many_applications(count: int, good: bool) -> None:
    issuer = oidc.Issuer("a", "https://a.example", ["mine"])
    audiences = ["mine", *map(str, range(count - 1))]
    token = oidc.IdToken(None, {"aud": audiences, "azp": "mine"}, b"", b"")
    if good:
        oidc._check_audience(token, issuer)
        return
    with pytest.raises(Invalid, match="another application"):
        oidc._check_audience(token, issuer)


@pytest.mark.parametrize(("party", "good"), [(0, False), (1, True), (commitment._MAX_PARTY, True), (2**16, False)])
def test_a_receipt_is_of_a_party_that_there_can_be(party: int, good: bool) -> None:
    told = {"party": party, "issued_at": 1, "signature": "0x" + "11" * commitment.SIGNATURE_BYTES}
    if good:
        assert commitment.Receipt.from_json(told).party == party
        return
    with pytest.raises(Invalid):
        commitment.Receipt.from_json(told)
