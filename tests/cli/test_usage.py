"""The command line's promises: JSON for every error, words for people, questions before what cannot be undone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from typer.testing import CliRunner, Result

from fake_network import FakeNetwork
from keyquorum.auth.scopes import Scope, check_grant
from keyquorum.cli import output, person
from keyquorum.cli.main import app
from keyquorum.client import errors
from keyquorum.client.oauth import ProviderError

KEY = "0x" + "ab" * 32
TO = "0x" + "11" * 20


@pytest.fixture(scope="module")
def running() -> Iterator[FakeNetwork]:
    with FakeNetwork(4) as network:
        yield network


@pytest.fixture
def network(running: FakeNetwork) -> FakeNetwork:
    running.reset()
    return running


@pytest.fixture
def folder(network: FakeNetwork, tmp_path: Path) -> Path:
    network.network.save(tmp_path / "network.json")
    (tmp_path / "account.key").write_text("0x" + network.account.key.hex() + "\n")
    return tmp_path


def run(folder: Path, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [*arguments, "--dir", str(folder)], input=stdin)


def run_json(folder: Path, *arguments: str, code: int = 0, stdin: str | None = None) -> Any:
    result = run(folder, *arguments, "--json", stdin=stdin)
    assert result.exit_code == code, result.output
    (line,) = result.stdout.splitlines()
    return json.loads(line)


@pytest.fixture
def key(folder: Path) -> dict[str, str]:
    found: dict[str, str] = run_json(folder, "keys", "mint")
    return found


# -- usage errors -----------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[str, ...]] = {
    "a missing argument": ("keys", "show"),
    "an unknown option": ("status", "--colour"),
    "a bad value": ("status", "--timeout", "abc"),
    "a number that is none": ("status", "--timeout", "nan"),
    "an endless time": ("status", "--timeout", "inf"),
    "a value out of range": ("login", "--scope", "9"),
    "hours that are none": ("login", "--hours", "nan"),
    "an unknown command": ("keys", "steal"),
    "too many arguments": ("keys", "show", "0x12", "0x13"),
}


@pytest.mark.parametrize("name", WRONG)
def test_with_json_an_error_of_usage_is_one_line_of_json(name: str) -> None:
    result = CliRunner().invoke(app, [*WRONG[name], "--json"])
    assert result.exit_code == 2
    (line,) = result.stdout.splitlines()
    error = json.loads(line)["error"]
    assert error["code"] == "bad_usage" and error["message"] and "--help" in error["hint"]
    without = CliRunner().invoke(app, list(WRONG[name]))
    assert without.exit_code == 2 and not without.stdout and without.stderr


def test_the_installed_command_keeps_the_promise_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "keyquorum.cli.main", "keys", "show", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and json.loads(done.stdout)["error"]["code"] == "bad_usage" and not done.stderr


def test_help_and_version_are_as_ever_beside_json() -> None:
    assert "Usage" in CliRunner().invoke(app, ["keys", "show", "--json", "--help"]).stdout
    assert CliRunner().invoke(app, ["keys", "show", "--json", "--help"]).exit_code == 0


def test_after_two_dashes_json_is_a_message(folder: Path, key: dict[str, str]) -> None:
    result = run(folder, "sign", "message", key["token_id"], "--", "--json")
    assert result.exit_code != 0 or 'the message "--json"' in result.stdout


# -- words ------------------------------------------------------------------------------------------------------------

NO_WORDS = re.compile(r"invalid literal|Errno|non-hexadecimal|\('|\('\*'|fromhex|\{'|None")


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "show", "0xzz"),
        ("keys", "show", "zz"),
        ("keys", "show", "0x" + "z" * 40),
        ("keys", "mint", "--owner", "vitalik.eth"),
        ("keys", "mint", "--owner", "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96046"),
        ("keys", "transfer", "0x12", "0x12", "--yes"),
        ("sign", "message", "--hex", "0x12", "deadbee"),
        ("sign", "message", "0x12"),
        ("sign", "message", "0x12", "--file", "/nowhere"),
        ("sign", "transaction", "0x12", "/nowhere"),
        ("sign", "transaction", "0x12", "/"),
        ("send", "0x12", TO, "0.1"),
        ("send", "0x12", TO, "1", "--data", "0x1"),
        ("fund", "0x12", "much"),
        ("methods", "add", "0x12", "--type", "3", "--id", "0x1"),
        ("methods", "add", "0x12", "--address", TO, "--scope", "99"),
    ],
)
def test_bad_input_is_said_in_words_that_name_it(folder: Path, arguments: tuple[str, ...]) -> None:
    error = run_json(folder, *arguments, code=2)["error"]
    assert error["hint"] and not NO_WORDS.search(error["message"]), error


@pytest.mark.parametrize(
    "transaction",
    [{"to": "0x1234"}, {"to": "vitalik.eth"}, {"to": TO, "nonce": None}, {"to": TO, "type": "eip1559"},
     {"to": TO, "gas": 50000, "gasLimit": 90000}, {"to": TO, "maxFee": 1}],
    ids=str,
)  # fmt: skip
def test_a_transaction_that_cannot_be_meant_is_bad_input_and_not_the_chains_fault(
    folder: Path, key: dict[str, str], transaction: dict[str, Any]
) -> None:
    error = run_json(folder, "sign", "transaction", key["token_id"], json.dumps(transaction), code=2)["error"]
    assert not NO_WORDS.search(error["message"]) and "endpoint" not in error["hint"]


def test_a_session_is_shown_in_words_and_given_to_programs_as_it_is(folder: Path, network: FakeNetwork) -> None:
    shown = run(folder, "login", "--scope", "2", "--scope", "3").stdout
    assert network.account.address in shown and "all that the login opens" in shown and "2, 3" in shown
    assert re.search(r"expires +20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC", shown) and not NO_WORDS.search(shown)
    listed = run(folder, "sessions", "list").stdout
    assert network.account.address in listed
    assert not NO_WORDS.search(run(folder, "sessions", "show").stdout)
    assert isinstance(run_json(folder, "login")["expires"], int)


def test_with_the_network_stopped_the_hint_says_how_to_start_it(folder: Path) -> None:
    stored = json.loads((folder / "network.json").read_text())
    (folder / "network.json").write_text(json.dumps(stored | {"rpc": "http://127.0.0.1:9"}))
    assert "keyquorum up" in run_json(folder, "keys", "list", code=6)["error"]["hint"]


def test_every_error_of_the_client_has_an_exit_code_of_its_own_kind() -> None:
    made: list[errors.KeyquorumError] = [
        ProviderError("provider_failed", "x"),
        ProviderError("wrong_token", "x"),
        errors.Refused("a", "x"),
        errors.Timeout("a", "x"),
        errors.Unavailable("a", "x", needed=1, live=0),
        errors.BadAnswer("a", "x"),
        errors.ChainError("a", "x"),
        errors.Misconfigured("a", "x"),
        errors.TooExpensive("a", "x", asked=2, allowed=1, setting="max_fee"),
    ]
    assert {type(one) for one in made} >= set(errors.KeyquorumError.__subclasses__())
    assert [output.exit_code(one) for one in made] == [4, 5, 3, 4, 4, 5, 6, 2, 2]


# -- naming keys, funding, sending ------------------------------------------------------------------------------------


def test_a_key_is_named_by_its_address_everywhere(folder: Path, key: dict[str, str]) -> None:
    address, token = key["address"], key["token_id"]
    for name in (address, address.lower()):
        assert run_json(folder, "keys", "show", name)["token_id"] == token
        compact = run_json(folder, "sign", "message", name, "hello")["signature"]["compact"]
        assert Account.recover_message(encode_defunct(text="hello"), signature=compact) == address
        assert (
            run_json(folder, "methods", "list", name)["methods"]
            == run_json(folder, "methods", "list", token)["methods"]
        )
    assert run_json(folder, "login", "--key", address)["keys"] == [token]
    (folder / "session.json").unlink()
    assert run_json(folder, "keys", "show", TO, code=3)["error"]["code"] == "unknown_key"
    assert run_json(folder, "methods", "add", address, "--address", TO)["token_id"] == token


def test_a_message_comes_from_standard_input_or_a_file(folder: Path, key: dict[str, str]) -> None:
    (folder / "text").write_text("from a file")
    for arguments, stdin, text in (
        (("-",), "hello\n", "hello\n"),
        (("--file", str(folder / "text")), None, "from a file"),
    ):
        compact = run_json(folder, "sign", "message", key["address"], *arguments, stdin=stdin)["signature"]["compact"]
        assert Account.recover_message(encode_defunct(text=text), signature=compact) == key["address"]


def test_a_new_key_is_funded_and_sends_as_the_tour_says(folder: Path, key: dict[str, str]) -> None:
    error = run_json(folder, "send", "--yes", key["token_id"], TO, "0.1ether", code=6)["error"]
    assert f"keyquorum fund {key['address']}" in error["hint"]
    funded = run_json(folder, "fund", key["token_id"], "1ether")
    assert (funded["address"], funded["balance"]) == (key["address"], str(10**18))
    assert run_json(folder, "send", "--yes", key["address"], TO, "0.1ether")["status"] == 1
    stranger = Account.create().address
    assert run_json(folder, "fund", stranger, "5gwei")["balance"] == str(5 * 10**9)


def test_a_call_that_a_contract_refuses_says_why_and_not_that_the_endpoint_is_wrong(
    folder: Path, key: dict[str, str]
) -> None:
    run_json(folder, "methods", "add", key["token_id"], "--address", TO)
    error = run_json(folder, "methods", "add", key["token_id"], "--address", TO, code=6)["error"]
    assert "reverted: " in error["message"] and "endpoint" not in error["hint"]


@pytest.fixture
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Somebody who answers `no`, or what the test puts in front; the questions are kept."""
    answers: list[str] = []

    def ask(_: object, what: str) -> str:
        answer = answers.pop(0) if answers else "n"
        answers.append(what)
        return answer

    monkeypatch.setattr(person.Person, "ask", ask)
    monkeypatch.setattr(person, "is_terminal", lambda: True)
    return answers


def test_what_cannot_be_undone_is_not_done_where_nobody_can_be_asked(folder: Path, key: dict[str, str]) -> None:
    run_json(folder, "fund", key["token_id"], "1ether")
    for arguments in (("send", key["token_id"], TO, "1wei"), ("keys", "transfer", key["token_id"], TO)):
        error = run_json(folder, *arguments, code=2)["error"]
        assert error["code"] == "needs_yes" and "--yes" in error["hint"]
    assert run_json(folder, "keys", "show", key["token_id"])["owner"] != TO


def test_before_sending_the_nodes_words_are_shown_and_no_means_no(
    folder: Path, key: dict[str, str], at_a_terminal: list[str]
) -> None:
    run_json(folder, "fund", key["token_id"], "1ether")
    assert run_json(folder, "send", key["token_id"], TO, "0.25ether", code=2)["error"]["code"] == "not_agreed"
    (question,) = at_a_terminal
    assert "sends 0.25 " in question and TO in question and "nonce 0" in question
    at_a_terminal[:] = ["y"]
    sent = run_json(folder, "send", key["token_id"], TO, "0.25ether")
    assert sent["status"] == 1 and sent["summary"] in at_a_terminal[0]
    at_a_terminal[:] = []
    assert run_json(folder, "keys", "transfer", key["token_id"], TO, code=2)["error"]["code"] == "not_agreed"
    assert key["address"] in at_a_terminal[0]


# -- scopes and the last way in ---------------------------------------------------------------------------------------


def test_a_grant_has_only_scopes_that_exist() -> None:
    good = [*Scope, *(32 + scope for scope in Scope)]
    assert check_grant(reversed(good)) == tuple(sorted(good)) and check_grant([]) == ()
    for bit in set(range(-1, 300)) - set(good):
        with pytest.raises(ValueError, match="there is no scope"):
            check_grant([1, bit])


@pytest.mark.parametrize("scope", ["9", "32", "41", "99", "255", "-1"])
def test_an_unknown_scope_is_refused_before_anything_is_sent(folder: Path, key: dict[str, str], scope: str) -> None:
    error = run_json(folder, "methods", "add", key["token_id"], "--address", TO, "--scope", scope, code=2)["error"]
    assert error["message"]
    assert all(one["id"] != TO for one in run_json(folder, "methods", "list", key["token_id"])["methods"])


def test_a_method_may_have_no_scope(folder: Path, key: dict[str, str]) -> None:
    run_json(folder, "methods", "add", key["token_id"], "--address", TO, "--scope", "0")
    (found,) = [one for one in run_json(folder, "methods", "list", key["token_id"])["methods"] if one["id"] == TO]
    assert found["scopes"] == []
    assert "an account" not in (shown := run(folder, "methods", "list", key["token_id"]).stdout) and TO in shown


def owning_itself(folder: Path, network: FakeNetwork) -> str:
    """A key that owns itself and that the account's login rules."""
    from keyquorum.chain.contracts import Contract, interface
    from keyquorum.client.network import KEY_TYPE

    helper = network.deployment.contracts["PKPHelper"]
    nft = Contract(network.rpc, network.deployment.contracts["PKPNFT"], interface("PKPNFT"))
    cost = network.call(nft.read("mintCost"))
    account = bytes.fromhex(network.account.address[2:])
    data = interface("PKPHelper").encode(
        "mintNextAndAddAuthMethods", KEY_TYPE, [1], [account], [b""], [[1, 6]], False, True
    )
    receipt = network.call(network.deployer.send(helper, data, cost))
    events = [nft.decode_event(log) for log in receipt["logs"]]
    (token,) = [event["args"]["tokenId"] for event in events if event is not None and event["event"] == "PKPMinted"]
    return f"0x{token:064x}"


def test_the_last_method_that_manages_a_key_that_owns_itself_stays(folder: Path, network: FakeNetwork) -> None:
    token = owning_itself(folder, network)
    run_json(folder, "login", "--scope", "1", "--scope", "6")
    mine = ("methods", "remove", token, "--address", network.account.address)
    error = run_json(folder, *mine, code=3)["error"]
    assert error["code"] == "last_manager" and "methods add" in error["hint"]
    run_json(folder, "methods", "add", token, "--address", TO, "--scope", "1")
    assert run_json(folder, *mine, code=3)["error"]["code"] == "last_manager"
    run_json(folder, "methods", "add", token, "--address", network.stranger.address, "--scope", "6")
    run_json(folder, *mine)
    left = run_json(folder, "methods", "list", token)["methods"]
    assert network.account.address.lower() not in [one["id"] for one in left]
