"""The passkey method: every check of a WebAuthn assertion, each with an assertion that fails nothing else. (T43; T40)

The assertions are signed by a software authenticator on another library than the one that verifies. What is accepted
here py_webauthn accepts too; what it accepts beyond is listed, since it is why it is not used in the nodes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import webauthn
from webauthn.helpers.exceptions import InvalidAuthenticationResponse

from keyquorum.algebra.rng import SeededRng
from keyquorum.auth import certificate as certificates
from keyquorum.auth.method import Context, method, prove
from keyquorum.auth.network import network_id
from keyquorum.auth.passkey import PASSKEY_TYPE, PasskeySettings, identity, split_registration
from keyquorum.auth.permission import KeyState, decide
from keyquorum.auth.scopes import Scope
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.formats.text import from_base64url, to_base64url
from keyquorum.refusal import Invalid
from soft_passkey import AT, BE, BS, ED, UP, UV, Algorithm, SoftPasskey, make_key

ORIGIN = "http://localhost:7480"
SETTINGS = PasskeySettings(
    rp_ids=("localhost", "wallet.example"), origins=(ORIGIN, "https://wallet.example", "https://app.wallet.example")
)
BLOCK_TIME = 1_799_999_990
KEY = "0x" + "ab" * 32
Refused = Callable[..., Any]


@pytest.fixture(scope="module")
def passkey() -> SoftPasskey:
    return SoftPasskey()


@pytest.fixture
def context(world: Any) -> Context:
    return replace(world.context, settings=SETTINGS, block_time=BLOCK_TIME)


def judge(passkey: SoftPasskey, proof: dict[str, str], challenge: bytes, origin: str = ORIGIN) -> Any:
    """What py_webauthn thinks of the same assertion."""
    response = {
        "clientDataJSON": proof["client_data_json"],
        "authenticatorData": proof["authenticator_data"],
        "signature": proof["signature"],
    }
    return webauthn.verify_authentication_response(
        credential={
            "id": proof["credential_id"],
            "rawId": proof["credential_id"],
            "type": "public-key",
            "response": response,
        },
        expected_challenge=challenge,
        expected_rp_id=passkey.rp_id,
        expected_origin=origin,
        credential_public_key=from_base64url(proof["public_key"], "key"),
        credential_current_sign_count=0,
        require_user_verification=True,
    )


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256"])
async def test_an_assertion_proves_credential_and_key_of_every_algorithm(
    algorithm: Algorithm, world: Any, context: Context
) -> None:
    passkey = SoftPasskey(make_key(algorithm))
    proof = passkey.proof(world.statement)
    proven = await prove("passkey", proof, world.statement, context)
    assert (proven.type, proven.id) == (PASSKEY_TYPE, passkey.identity)
    assert len(proven.id) == 32
    assert judge(passkey, proof, bytes.fromhex(world.statement.challenge)).user_verified


@pytest.mark.parametrize(
    "changes",
    [
        {"rp_id": "wallet.example", "origin": "https://wallet.example"},
        {"rp_id": "wallet.example", "origin": "https://app.wallet.example"},
        {"flags": UP | UV | BE},
        {"flags": UP | UV | BE | BS},
        {"flags": UP | UV | 0x22},
        {"client_changes": {"crossOrigin": None}},
        {"client_changes": {"other_keys_can_be_added_here": "do not compare against a template", "n": 1}},
        {"client_changes": {"tokenBinding": {"status": "supported"}}},
        {"counter": 2**32 - 1},
        {"counter": 0},
        {"credential_id": b"\0"},
        {"credential_id": bytes(1023)},
    ],
)
async def test_what_honest_browsers_may_say_is_accepted(
    changes: dict[str, Any], passkey: SoftPasskey, world: Any, context: Context
) -> None:
    changed = passkey.but(**changes)
    assert (await prove("passkey", changed.proof(world.statement), world.statement, context)).id == changed.identity


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("wrong_origin", {"origin": "https://evil.example"}),
        ("wrong_origin", {"origin": "http://localhost"}),
        ("wrong_origin", {"origin": "http://localhost:7481"}),
        ("wrong_origin", {"origin": "https://localhost:7480"}),
        ("wrong_origin", {"origin": "http://localhost:7480/"}),
        ("wrong_origin", {"origin": "http://localhost:7480.evil.example"}),
        ("wrong_origin", {"origin": "https://sub.wallet.example"}),
        ("wrong_origin", {"origin": "https://evil.wallet.example"}),
        ("wrong_origin", {"origin": "https://WALLET.example"}),
        ("wrong_origin", {"origin": "https://wallet.example:443"}),
        ("wrong_origin", {"origin": "null"}),
        ("wrong_origin", {"client_changes": {"origin": None}}),
        ("wrong_origin", {"client_changes": {"origin": 1}}),
        ("cross_origin", {"client_changes": {"crossOrigin": True}}),
        ("cross_origin", {"client_changes": {"crossOrigin": "false"}}),
        ("cross_origin", {"client_changes": {"crossOrigin": 0}}),
        ("cross_origin", {"client_changes": {"topOrigin": ORIGIN}}),
        ("wrong_rp_id", {"rp_id": "evil.example"}),
        ("wrong_rp_id", {"rp_id": "app.wallet.example"}),
        ("wrong_rp_id", {"rp_id": "example"}),
        ("wrong_rp_id", {"rp_id": ""}),
        ("wrong_ceremony", {"kind": "webauthn.create"}),
        ("wrong_ceremony", {"kind": "payment.get"}),
        ("wrong_ceremony", {"kind": "webauthn.get "}),
        ("wrong_ceremony", {"client_changes": {"type": None}}),
        ("user_not_present", {"flags": UV}),
        ("user_not_present", {"flags": 0}),
        ("user_not_verified", {"flags": UP}),
        ("bad_passkey", {"flags": UP | UV | BS}),
        ("bad_passkey", {"flags": UP | UV | AT}),
        ("bad_passkey", {"flags": UP | UV | ED}),
    ],
)
async def test_each_claim_of_browser_and_authenticator_is_checked(
    code: str, changes: dict[str, Any], passkey: SoftPasskey, world: Any, context: Context, refused: Refused
) -> None:
    with refused(code):
        await prove("passkey", passkey.but(**changes).proof(world.statement), world.statement, context)


def bare(challenge: str) -> str:
    return to_base64url(bytes.fromhex(challenge))


@pytest.mark.parametrize(
    ("code", "challenge"),
    [
        ("wrong_challenge", lambda hex_digits: bare("00" * 32)),
        ("wrong_challenge", lambda hex_digits: bare(hex_digits[:-2])),
        ("wrong_challenge", lambda hex_digits: bare(hex_digits + "00")),
        ("wrong_challenge", lambda hex_digits: ""),
        ("wrong_challenge", lambda hex_digits: None),
        ("wrong_challenge", lambda hex_digits: 7),
        ("wrong_challenge", lambda hex_digits: to_base64url(hex_digits.encode())),
        ("wrong_challenge", lambda hex_digits: hex_digits),
        ("bad_encoding", lambda hex_digits: bare(hex_digits) + "="),
        ("bad_encoding", lambda hex_digits: bare(hex_digits).replace("_", "/") + "\n"),
    ],
)
async def test_the_challenge_is_the_statements_in_its_one_spelling(
    code: str, challenge: Callable[[str], Any], passkey: SoftPasskey, world: Any, context: Context, refused: Refused
) -> None:
    changed = passkey.but(client_changes={"challenge": challenge(world.statement.challenge)})
    with refused(code):
        await prove("passkey", changed.proof(world.statement), world.statement, context)


async def test_the_client_data_is_read_in_one_way_only(
    passkey: SoftPasskey, world: Any, context: Context, refused: Refused
) -> None:
    good = passkey.client_data(bytes.fromhex(world.statement.challenge))
    twice = good[:-1] + b',"origin":"https://evil.example"}'
    hidden = good[:-1] + b',"orig\\u0069n":"https://evil.example"}'
    deep = good[:-1] + b',"more":' + b"[" * 9 + b"]" * 9 + b"}"
    long = good[:-1] + b',"more":"' + b"x" * 4096 + b'"}'
    bad = [b"", b"null", b"[]", b'"text"', b"\xef\xbb\xbf" + good, good + b"x", twice, hidden, deep, good[:-1], b"\xff"]
    for data in bad:
        proof = passkey.assertion(data) if data else passkey.assertion(b"x") | {"client_data_json": ""}
        with refused("bad_passkey" if data else "bad_value", status=400):
            await prove("passkey", proof, world.statement, context)
    with refused("bad_value", status=400):
        await prove("passkey", passkey.assertion(long), world.statement, context)


async def test_the_authenticator_data_is_37_bytes(
    passkey: SoftPasskey, world: Any, context: Context, refused: Refused
) -> None:
    client = passkey.client_data(bytes.fromhex(world.statement.challenge))
    good = passkey.authenticator_data()
    for code, data in (("bad_passkey", good[:-1]), ("bad_passkey", b"\0"), ("bad_passkey", good + b"\xa0")):
        with refused(code, status=400):
            await prove("passkey", passkey.assertion(client, data), world.statement, context)
    with pytest.raises(Invalid, match="ask for no extensions"):
        await prove("passkey", passkey.assertion(client, good[:32] + b"\x85" + bytes(35)), world.statement, context)


async def test_every_byte_of_the_assertion_is_under_the_signature(
    passkey: SoftPasskey, world: Any, context: Context
) -> None:
    proof = passkey.proof(world.statement)
    for name in ("client_data_json", "authenticator_data", "signature", "public_key"):
        data = from_base64url(proof[name], name)
        for position in range(len(data)):
            changed = bytearray(data)
            changed[position] ^= 1
            with pytest.raises(Invalid):
                await prove("passkey", proof | {name: to_base64url(bytes(changed))}, world.statement, context)


async def test_a_signature_by_another_key_or_of_other_bytes_is_refused(
    passkey: SoftPasskey, world: Any, context: Context, refused: Refused
) -> None:
    proof = passkey.proof(world.statement)
    client = from_base64url(proof["client_data_json"], "")
    data = passkey.authenticator_data()
    digest = hashlib.sha256(client).digest()
    for signature in (
        SoftPasskey().sign(data + digest),
        passkey.sign(data + client),
        passkey.sign(digest + data),
        passkey.sign(data),
        passkey.sign(digest),
        passkey.sign(b""),
    ):
        with refused("bad_passkey_signature"):
            await prove("passkey", proof | {"signature": to_base64url(signature)}, world.statement, context)


@pytest.mark.parametrize(("real", "claimed"), list(itertools.permutations(["ES256", "EdDSA", "RS256"], 2)))
async def test_the_algorithm_is_that_of_the_key_whatever_a_proof_claims(
    real: Algorithm, claimed: Algorithm, world: Any, context: Context, refused: Refused
) -> None:
    proof = SoftPasskey(make_key(real)).proof(world.statement)
    other = SoftPasskey(make_key(claimed)).public_key
    with refused("bad_passkey_signature"):
        await prove("passkey", proof | {"public_key": to_base64url(other)}, world.statement, context)


@pytest.mark.parametrize("number", ["27", "28", "3822", "390100", "3824", "00", "3a0000ffff"])
async def test_an_algorithm_outside_the_list_is_refused(
    number: str, passkey: SoftPasskey, world: Any, context: Context, refused: Refused
) -> None:
    swapped = passkey.public_key[:4] + bytes.fromhex(number) + passkey.public_key[5:]
    with refused("bad_passkey", status=400):
        proof = passkey.proof(world.statement) | {"public_key": to_base64url(swapped)}
        await prove("passkey", proof, world.statement, context)


async def test_another_credential_is_another_identity_and_so_has_no_permission(
    passkey: SoftPasskey, world: Any, context: Context
) -> None:
    """The registered credential is a name on the chain; whoever else proves himself here may do nothing there."""
    registered = KeyState(bytes(20), {(PASSKEY_TYPE, passkey.identity): 2**7 - 2})
    thief = SoftPasskey(credential_id=passkey.credential_id)
    renamed = passkey.but(credential_id=b"another")
    elsewhere = passkey.but(rp_id="wallet.example")
    outcomes = []
    for each in (passkey, thief, renamed, elsewhere):
        proven = await prove("passkey", each.proof(world.statement), world.statement, context)
        certificate = world.certificate(world.statement, proven)
        outcomes.append(decide(certificate, Scope.SIGN_TRANSACTION, KEY, registered, registered).allowed)
    assert outcomes == [True, False, False, False]


def test_the_identity_cannot_be_made_by_moving_a_border() -> None:
    assert identity("a", b"bc", b"d") != identity("ab", b"c", b"d") != identity("a", b"b", b"cd")


async def test_the_counter_is_no_control(passkey: SoftPasskey, world: Any, context: Context) -> None:
    """It may fall or stay: passkeys that are copied say 0 for ever."""
    for counter in (5, 4, 4, 0):
        proof = passkey.but(counter=counter).proof(world.statement)
        assert (await prove("passkey", proof, world.statement, context)).id == passkey.identity


async def test_the_time_is_the_blocks_and_so_the_same_on_every_node(
    passkey: SoftPasskey, world: Any, context: Context
) -> None:
    proof = passkey.proof(world.statement)
    seen = set()
    for now in (world.now, world.now + 30, world.now + 900):
        proven = await prove("passkey", proof, world.statement, replace(context, now=now))
        assert proven.issued_at == BLOCK_TIME + 1
        seen.add(certificates.certificate_input(world.statement, [proven]))
    assert len(seen) == 1


async def test_a_forwarded_assertion_is_worth_nothing_for_another_statement(
    passkey: SoftPasskey, world: Any, context: Context
) -> None:
    thief = SessionPrivateKey.generate(SeededRng("thief")).public
    proof = passkey.proof(world.statement)
    changes: list[dict[str, Any]] = [
        {"session": thief},
        {"network": network_id(1, bytes(range(20)))},
        {"keys": (KEY,)},
        {"scopes": (1, 2, 3, 4, 5, 6)},
        {"scopes": ()},
        {"expires": world.statement.expires + 1},
        {"nonce": "ac" * 16},
        {"block": "0x" + "12" * 32},
        {"uses": world.statement.uses + 1},
    ]
    pairs = [one | two for one, two in itertools.combinations(changes, 2)]
    accepted = 0
    for change in changes + pairs:
        for forged in (proof, passkey.assertion(passkey.client_data(bytes(32))) | {"signature": proof["signature"]}):
            try:
                await prove("passkey", forged, replace(world.statement, **change), context)
                accepted += 1
            except Invalid as error:
                assert error.code == "wrong_challenge"
    assert (len(changes + pairs) > 40, accepted) == (True, 0)


async def test_a_proof_has_exactly_its_members_each_in_one_spelling(
    passkey: SoftPasskey, world: Any, context: Context, refused: Refused
) -> None:
    proof: dict[str, Any] = passkey.proof(world.statement)
    for name in proof:
        with refused("missing_field"):
            await prove(
                "passkey", {key: value for key, value in proof.items() if key != name}, world.statement, context
            )
        for code, value in (
            ("bad_encoding", proof[name] + "="),
            ("bad_encoding", "*" + proof[name][1:]),
            ("bad_value", ""),
            ("bad_value", "A" * 6000),
            ("bad_value", None),
            ("bad_value", 7),
        ):
            if len(str(value)) > len(proof[name]) and name == "authenticator_data":
                continue
            with refused(code, status=400):
                await prove("passkey", proof | {name: value}, world.statement, context)
    with refused("unknown_field"):
        await prove("passkey", proof | {"user_handle": ""}, world.statement, context)
    with refused("wrong_type"):
        await prove("passkey", [proof], world.statement, context)


async def test_a_node_without_settings_refuses_and_says_why(passkey: SoftPasskey, world: Any) -> None:
    with pytest.raises(Invalid) as error:
        await prove("passkey", passkey.proof(world.statement), world.statement, world.context)
    assert error.value.code == "not_configured" and error.value.status == 503


@pytest.mark.parametrize(
    "change",
    [
        {"rp_ids": []},
        {"rp_ids": ["https://wallet.example"]},
        {"rp_ids": ["Wallet.example"]},
        {"rp_ids": [""]},
        {"origins": []},
        {"origins": ["wallet.example"]},
        {"origins": ["https://wallet.example/"]},
        {"origins": ["https://*.wallet.example"]},
        {"origins": ["http://wallet.example"]},
        {"origins": ["http://localhost.evil.example"]},
        {"origins": ["https://wallet.example:443"]},
        {"origins": ["http://localhost:80"]},
        {"origins": ["https://wallet.example:65536"]},
        {"origins": ["https://wallet.example:0443"]},
        {"origins": ["https://wallet..example"]},
        {"origins": ["http://evillocalhost"]},
        {"origins": ["http://localhost."]},
        {"origins": ["android:apk-key-hash:" + "A" * 42]},
        {"origins": ["android:apk-key-hash:" + "A" * 42 + "B"]},
        {"origins": ["android:apk-key-hash:" + "A" * 43 + "="]},
        {"origins": ["chrome-extension://" + "q" * 32]},
        {"origins": ["chrome-extension://" + "a" * 32 + "/page"]},
        {"origin": ["https://wallet.example"]},
    ],
)
def test_settings_that_could_mean_more_than_they_say_are_refused(change: dict[str, Any]) -> None:
    good: dict[str, Any] = {"rp_ids": ["wallet.example"], "origins": ["https://wallet.example", "http://localhost:1"]}
    assert msgspec.convert(good, PasskeySettings).rp_ids == ("wallet.example",)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(good | change, PasskeySettings)


@pytest.mark.parametrize(
    "origin",
    [
        "https://wallet.example",
        "https://wallet.example:8443",
        "https://wallet.example:80",
        "http://localhost",
        "http://localhost:443",
        "http://app.localhost:3000",
        "android:apk-key-hash:" + to_base64url(hashlib.sha256(b"an app's certificate").digest()),
        "chrome-extension://" + "abcdefghijklmnop" * 2,
    ],
)
async def test_whoever_the_operator_lists_may_ask_and_nobody_who_only_looks_alike(
    passkey: SoftPasskey, world: Any, context: Context, origin: str, refused: Refused
) -> None:
    context = replace(context, settings=PasskeySettings(rp_ids=("localhost",), origins=(origin,)))
    client = passkey.client_data(bytes.fromhex(world.statement.challenge))
    asked = json.loads(client)
    good = json.dumps(asked | {"origin": origin}).encode()
    assert await prove("passkey", passkey.assertion(good), world.statement, context)
    for other in (origin + "x", origin[:-1], origin.swapcase()):
        with refused("wrong_origin"):
            bad = json.dumps(asked | {"origin": other}).encode()
            await prove("passkey", passkey.assertion(bad), world.statement, context)


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256"])
def test_a_registration_is_the_key_followed_by_the_credential(algorithm: Algorithm, refused: Refused) -> None:
    passkey = SoftPasskey(make_key(algorithm))
    stored = passkey.public_key + passkey.credential_id
    assert split_registration(stored) == (passkey.public_key, passkey.credential_id)
    for bad in (b"", passkey.public_key, passkey.public_key + bytes(1024), stored[1:], b"\4" + stored, stored[:40]):
        with refused("bad_passkey", status=400):
            split_registration(bad)


def test_a_registration_with_a_key_that_is_none_is_refused(passkey: SoftPasskey, refused: Refused) -> None:
    with refused("bad_passkey", status=400):
        split_registration(passkey.public_key[:-1] + bytes([passkey.public_key[-1] ^ 1]) + b"credential")


def test_the_method_describes_itself(passkey: SoftPasskey, world: Any) -> None:
    found = method("passkey")
    properties: Any = found.proof_schema["properties"]
    proof = passkey.proof(world.statement)
    assert set(properties) == set(proof) == set(found.proof_schema["required"])  # type: ignore[call-overload]
    assert all(len(proof[name]) <= properties[name]["maxLength"] for name in proof)
    assert found.settings_type is PasskeySettings and found.type_number == 3


async def test_why_the_nodes_do_not_use_py_webauthn(passkey: SoftPasskey, world: Any, context: Context) -> None:
    """Each of these it accepts; a library that learns to refuse them makes this test fail, and is worth a new look."""
    challenge = bytes.fromhex(world.statement.challenge)
    good = passkey.client_data(challenge)
    old_form = b"\x04" + passkey.public_key[10:42] + passkey.public_key[45:]
    framed = passkey.but(client_changes={"crossOrigin": True, "topOrigin": "https://evil.example"})
    lenient = {
        "inside another page's frame": framed.proof(world.statement),
        "an origin that is there twice": passkey.assertion(b'{"origin":"https://evil.example",' + good[1:]),
        "the key in a second spelling": passkey.proof(world.statement) | {"public_key": to_base64url(old_form)},
    }
    for what, proof in lenient.items():
        assert judge(passkey, proof, challenge).user_verified, what
        with pytest.raises(Invalid):
            await prove("passkey", proof, world.statement, context)
    with pytest.raises(InvalidAuthenticationResponse):
        judge(passkey, passkey.but(origin="https://evil.example").proof(world.statement), challenge)
    assert json.loads(good)["type"] == "webauthn.get"
