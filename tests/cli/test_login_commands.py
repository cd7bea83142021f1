"""`keyquorum login`, `sessions` and `methods` against scripted nodes and real contracts: options, output, refusals."""

from __future__ import annotations

import json
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from typer.testing import CliRunner, Result

from fake_network import FakeNetwork
from keyquorum.cli import person
from keyquorum.cli.main import app
from software_ledger import FIRST_PATH, SECOND_PATH, SoftwareLedger

SECOND = Account.from_key(b"\x71" * 32)


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


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftwareLedger]:
    pytest.importorskip("ledgerblue.commTCP", reason="the extra keyquorum[ledger] is not installed")
    device = SoftwareLedger()
    with device.serve() as server:
        monkeypatch.setenv("LEDGER_PROXY_ADDRESS", "127.0.0.1")
        monkeypatch.setenv("LEDGER_PROXY_PORT", str(server.port))
        yield device


def run(folder: Path, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [*arguments, "--dir", str(folder)], input=stdin)


def run_json(folder: Path, *arguments: str, code: int = 0, stdin: str | None = None) -> Any:
    result = run(folder, *arguments, "--json", stdin=stdin)
    assert result.exit_code == code, result.output
    (line,) = result.stdout.splitlines()
    return json.loads(line)


def refusal(folder: Path, *arguments: str, code: int = 2, stdin: str | None = None) -> dict[str, str]:
    error: dict[str, str] = run_json(folder, *arguments, code=code, stdin=stdin)["error"]
    assert error["message"] and error["hint"]
    return error


def lasts(session: dict[str, Any]) -> int:
    return round((session["expires"] - time.time()) / 60)


# -- login ------------------------------------------------------------------------------------------------------------


def test_plain_login_is_the_accounts(folder: Path, network: FakeNetwork) -> None:
    session = run_json(folder, "login")
    assert session["methods"] == [{"type": 1, "id": network.account.address.lower()}]
    assert (session["scopes"], session["keys"], session["uses"]) == ([1], ["*"], 1000)
    assert lasts(session) == 15
    assert stat.S_IMODE((folder / "session.json").stat().st_mode) == 0o600
    assert run_json(folder, "login", "wallet")["methods"] == session["methods"]


def test_messages_only_last_eight_hours_and_everything_can_be_said(folder: Path) -> None:
    assert lasts(run_json(folder, "login", "--scope", "2")) == 8 * 60
    assert lasts(run_json(folder, "login", "--scope", "0")) == 8 * 60
    key = "0x" + "ab" * 32
    found = run_json(folder, "login", "--scope", "3", "--scope", "6", "--hours", "24", "--uses", "5", "--key", key)
    assert (found["scopes"], found["keys"], found["uses"], lasts(found)) == ([3, 6], [key], 5, 24 * 60)
    assert run_json(folder, "login", "--scope", "0")["scopes"] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("login", "carrier-pigeon"),
        ("login", "wallet", "me"),
        ("login", "--scope", "0", "--scope", "1"),
        ("login", "--step-up", "--uses", "5"),
        ("login", "--step-up", "--scope", "2"),
        ("login", "--step-up", "--hours", "1"),
        ("login", "ledger", "--path", "m/x"),
        ("login", "ledger", "--form", "eip1"),
        ("keys", "mint", "--another", "x"),
        ("keys", "mint", "--who", "x"),
        ("keys", "mint", "--login", "google", "--owner", "0x" + "00" * 20),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(folder: Path, arguments: tuple[str, ...]) -> None:
    assert refusal(folder, *arguments)["code"] == "bad_input"


@pytest.mark.parametrize(
    "options", [("--scope", "9"), ("--hours", "25"), ("--hours", "0"), ("--uses", "0"), ("--uses", "1000001")]
)
def test_a_login_is_bounded(folder: Path, options: tuple[str, ...]) -> None:
    assert run(folder, "login", *options).exit_code == 2


@pytest.mark.parametrize("way", ["google", "oidc", "discord", "passkey", "email", "sms"])
def test_without_a_gateway_nobody_says_where_to_log_in(folder: Path, way: str) -> None:
    assert refusal(folder, "login", way)["code"] == "no_gateway"


def test_a_gateway_that_is_down_is_named_as_such(folder: Path) -> None:
    stored = json.loads((folder / "network.json").read_text())
    (folder / "network.json").write_text(json.dumps(stored | {"gateway": "http://127.0.0.1:9"}))
    assert refusal(folder, "login", "google", code=4)["code"] == "gateway_unreachable"


def test_without_an_account_a_wallet_login_says_so_and_others_go_on(folder: Path, ledger: SoftwareLedger) -> None:
    (folder / "account.key").unlink()
    assert refusal(folder, "login")["code"] == "no_account"
    assert run_json(folder, "login", "ledger")["methods"]


def test_the_account_of_another_file_is_who_logs_in(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "second.key").write_text(SECOND.key.hex())
    found = run_json(folder, "login", "--account-file", str(tmp_path / "second.key"))
    assert found["methods"] == [{"type": 1, "id": SECOND.address.lower()}]


# -- Ledger -----------------------------------------------------------------------------------------------------------


def test_a_ledger_logs_in_with_a_text_that_its_screen_shows(folder: Path, ledger: SoftwareLedger) -> None:
    result = run(folder, "login", "ledger", "--scope", "2", "--json")
    assert result.exit_code == 0, result.output
    session = json.loads(result.stdout)
    assert session["methods"] == [{"type": 1, "id": ledger.keys[FIRST_PATH].address.lower()}]
    (shown,) = ledger.shown
    assert "may sign personal messages, with EVERY key" in shown
    assert f"keyquorum:session:{session['session']}" in shown
    assert f"keyquorum:session:{session['session']}" in result.stderr


def test_of_typed_data_the_terminal_tells_the_hashes_that_the_screen_shows(
    folder: Path, ledger: SoftwareLedger
) -> None:
    result = run(folder, "login", "ledger", "--form", "eip712", "--path", "m/44'/60'/0'/0/1", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["methods"] == [{"type": 1, "id": ledger.keys[SECOND_PATH].address.lower()}]
    (shown,) = ledger.shown
    _, domain, _, message = shown.split()
    assert f"domain hash   0x{domain}" in result.stderr and f"message hash  0x{message}" in result.stderr


def test_a_person_who_refuses_on_the_ledger_is_not_logged_in(folder: Path, ledger: SoftwareLedger) -> None:
    ledger.confirm = False
    assert refusal(folder, "login", "ledger", code=3)["code"] == "device_refused"
    assert not (folder / "session.json").exists()


def test_a_locked_ledger_says_what_to_do(folder: Path, ledger: SoftwareLedger) -> None:
    ledger.status = 0x5515
    assert "PIN" in refusal(folder, "login", "ledger")["hint"]


# -- step-up ----------------------------------------------------------------------------------------------------------


def test_a_second_identity_is_proven_for_the_session_that_is_there(
    folder: Path, network: FakeNetwork, ledger: SoftwareLedger
) -> None:
    first = run_json(folder, "login", "--scope", "2", "--hours", "1")
    both = run_json(folder, "login", "ledger", "--step-up")
    ids = {one["id"] for one in both["methods"]}
    assert ids == {network.account.address.lower(), ledger.keys[FIRST_PATH].address.lower()}
    same = ("session", "id", "keys", "scopes", "expires", "uses")
    assert [both[name] for name in same] == [first[name] for name in same]
    assert run_json(folder, "sessions", "show")["id"] == first["id"]


def test_there_is_nothing_to_step_up_without_a_session(folder: Path) -> None:
    assert refusal(folder, "login", "--step-up")["code"] == "no_login"


# -- sessions ---------------------------------------------------------------------------------------------------------


def test_sessions_are_listed_shown_and_ended(folder: Path) -> None:
    first = run_json(folder, "login", "--scope", "2")
    second = run_json(folder, "login")
    listed = run_json(folder, "sessions", "list")
    assert {one["id"] for one in listed} == {first["id"], second["id"]}
    assert [one["id"] for one in listed if one["current"]] == [second["id"]]
    shown = run_json(folder, "sessions", "show", first["id"])
    assert (shown["scopes"], shown["current"], shown["uses"]) == ([2], False, 1000)
    assert run_json(folder, "sessions", "show")["id"] == second["id"]
    done = run_json(folder, "sessions", "revoke", first["id"])
    assert done["revoked"] == first["id"] and len(done["transactions"]) == 1
    assert (folder / "session.json").exists()
    assert "this one" in run(folder, "sessions", "list").stdout


def test_the_session_in_use_is_forgotten_when_it_is_ended(folder: Path) -> None:
    session = run_json(folder, "login")
    run_json(folder, "sessions", "revoke", session["id"])
    assert not (folder / "session.json").exists()
    run_json(folder, "login")
    assert run_json(folder, "sessions", "revoke", "--all")["revoked"] == "all"
    assert not (folder / "session.json").exists()


def test_sessions_for_a_key_are_ended_by_its_owner(folder: Path) -> None:
    minted = run_json(folder, "keys", "mint")
    assert run_json(folder, "sessions", "revoke", "--key", minted["token_id"])["revoked"] == minted["token_id"]


@pytest.mark.parametrize("arguments", [(), ("x", "--all"), ("--all", "--key", "0x12")])
def test_what_to_end_is_said_in_one_way(folder: Path, arguments: tuple[str, ...]) -> None:
    assert refusal(folder, "sessions", "revoke", *arguments)["code"] == "bad_input"


def test_a_session_that_nobody_knows_is_an_error(folder: Path) -> None:
    assert refusal(folder, "sessions", "show")["code"] == "no_login"
    run_json(folder, "login")
    assert refusal(folder, "sessions", "show", "ab" * 32)["code"] == "unknown_session"


def test_a_session_that_the_nodes_forgot_is_shown_from_the_folder(folder: Path, network: FakeNetwork) -> None:
    session = run_json(folder, "login")
    for node in network.nodes.values():
        node.sessions.clear()
    assert run_json(folder, "sessions", "show") == session
    assert "no sessions" in run(folder, "sessions", "list").stdout


# -- methods ----------------------------------------------------------------------------------------------------------


def test_the_owner_permits_lists_and_withdraws_methods(folder: Path, network: FakeNetwork) -> None:
    key = run_json(folder, "keys", "mint")["token_id"]
    friend = network.stranger.address
    assert run_json(folder, "methods", "list", key) == {
        "owner": network.account.address, "delay": 0, "methods": [], "pending": [],
    }  # fmt: skip
    run_json(folder, "methods", "add", key, "--address", friend, "--scope", "2", "--scope", str(32 + 3))
    run_json(folder, "methods", "add", key, "--type", "6", "--id", "0x" + "ab" * 32)
    listed = run_json(folder, "methods", "list", key)["methods"]
    assert [(one["type"], one["id"], one["scopes"], one["together"]) for one in listed] == [
        (1, friend.lower(), [2], [3]), (6, "0x" + "ab" * 32, [1], []),
    ]  # fmt: skip
    assert "3 with a second" in run(folder, "methods", "list", key).stdout
    run_json(folder, "methods", "remove", key, "--address", friend)
    assert [one["type"] for one in run_json(folder, "methods", "list", key)["methods"]] == [6]


def test_what_gives_waits_for_the_delay_and_can_be_cancelled(folder: Path, network: FakeNetwork) -> None:
    key = run_json(folder, "keys", "mint")["token_id"]
    assert run_json(folder, "methods", "delay", key)["delay"] == 0
    set_to = run_json(folder, "methods", "delay", key, "3600")
    assert set_to["delay"] == 3600 and set_to["transaction"]
    run_json(folder, "methods", "add", key, "--address", network.stranger.address)
    found = run_json(folder, "methods", "list", key)
    (pending,) = found["pending"]
    assert found["methods"] == [] and pending["kind"] == "add_method"
    assert "add method" in run(folder, "methods", "list", key).stdout
    run_json(folder, "methods", "cancel", key, str(pending["change_id"]))
    assert run_json(folder, "methods", "list", key)["pending"] == []


def test_a_login_that_is_proven_now_is_added(folder: Path, ledger: SoftwareLedger) -> None:
    key = run_json(folder, "keys", "mint")["token_id"]
    assert refusal(folder, "methods", "add", key, "--login", "ledger")["code"] == "no_login"
    run_json(folder, "login")
    run_json(folder, "methods", "add", key, "--login", "ledger", "--scope", "2")
    (added,) = run_json(folder, "methods", "list", key)["methods"]
    assert (added["id"], added["scopes"]) == (ledger.keys[FIRST_PATH].address.lower(), [2])


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--address", "0x12"),
        ("--type", "1"),
        ("--id", "0x12"),
        ("--type", "1", "--id", "12"),
        ("--type", "1", "--id", "0xzz"),
        ("--address", "0x" + "00" * 20, "--type", "1", "--id", "0x12"),
        ("--login", "wallet", "--address", "0x" + "00" * 20),
    ],
)
def test_whom_a_permission_is_for_is_said_in_one_way(folder: Path, options: tuple[str, ...]) -> None:
    assert refusal(folder, "methods", "add", "0x" + "ab" * 32, *options)["code"] == "bad_input"


def test_nobody_but_the_owner_changes_a_key(folder: Path, network: FakeNetwork, tmp_path: Path) -> None:
    key = run_json(folder, "keys", "mint", "--owner", network.stranger.address)["token_id"]
    error = refusal(folder, "methods", "add", key, "--address", network.account.address, code=3)
    assert error["code"] == "not_the_owner"


# -- the person -------------------------------------------------------------------------------------------------------


def test_ctrl_c_ends_a_question_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), person.interruptible():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_an_address_is_printed_where_no_browser_opens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(person.webbrowser, "open", lambda url: bool(opened.append(url)) or "works" in url)
    person.Person().open("http://works.example")
    assert "http" not in capsys.readouterr().err
    person.Person().open("http://broken.example")
    assert "http://broken.example" in capsys.readouterr().err
    person.Person(browser=False).open("http://works.example/again")
    assert "http://works.example/again" in capsys.readouterr().err
    assert opened == ["http://works.example", "http://broken.example"]
