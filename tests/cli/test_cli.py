"""The command line against scripted nodes: what it prints, with and without --json, and its exit codes."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from typer.testing import CliRunner, Result

from fake_network import FakeNetwork
from keyquorum import __version__
from keyquorum.cli.main import app

COMMANDS = [
    "demo", "up", "status", "login", "send", "keys mint", "keys list", "keys show", "keys transfer",
    "sessions list", "sessions show", "sessions revoke", "methods list", "methods add", "methods remove",
    "methods cancel", "methods delay", "sign message", "sign transaction", "sign typed-data", "node init", "node run",
]  # fmt: skip


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
    key = tmp_path / "account.key"
    key.write_text("0x" + network.account.key.hex() + "\n")
    return tmp_path


def run(folder: Path, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [*arguments, "--dir", str(folder)], input=stdin)


def run_json(folder: Path, *arguments: str, code: int = 0, stdin: str | None = None) -> Any:
    result = run(folder, *arguments, "--json", stdin=stdin)
    assert result.exit_code == code, result.output
    (line,) = result.stdout.splitlines()
    return json.loads(line)


def mint(folder: Path) -> dict[str, str]:
    found: dict[str, str] = run_json(folder, "keys", "mint")
    return found


# -- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_json(name: str) -> None:
    result = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 0
    assert "--json" in result.output
    assert len(result.output.splitlines()) > 5


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from keyquorum.cli.main import app\n"
        "try: app(['keys', '--help'])\nexcept SystemExit: pass\n"
        "bad = {'eth_account', 'aiohttp', 'numpy', 'eth', 'web3', 'coincurve'} & set(sys.modules)\n"
        "print('LOADED', sorted(bad))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout.strip() == __version__


# -- using a network --------------------------------------------------------------------------------------------------


def test_status_shows_nodes_and_ends_with_4_when_too_few_are_ready(folder: Path, network: FakeNetwork) -> None:
    found = run_json(folder, "status")
    assert found["ready"] is True and len(found["nodes"]) == 4
    assert found["can_lose"] == 1
    assert [node["state"] for node in found["nodes"]] == [""] * 4
    assert "3 of 4" in run(folder, "status").stdout
    network.set("unready", 1)
    assert run_json(folder, "status")["can_lose"] == 0
    network.set("unready", 1, 2)
    found = run_json(folder, "status", code=4)
    assert (found["live"], found["can_lose"]) == (2, 0)
    states = {node["party"]: node["state"] for node in found["nodes"]}
    assert states[1].startswith("1 of 5 batches of keys on the chain are missing here")
    assert "\x1b" not in states[1]
    assert states[3] == ""
    result = run(folder, "status")
    assert "are missing here" in result.stdout
    assert result.exit_code == 4
    assert "2 of 4 nodes are ready" in result.stderr


def test_keys_are_minted_listed_shown_and_transferred(folder: Path, network: FakeNetwork) -> None:
    minted = mint(folder)
    listed = run_json(folder, "keys", "list")
    assert minted["token_id"] in [key["token_id"] for key in listed]
    shown = run_json(folder, "keys", "show", minted["token_id"])
    assert (shown["address"], shown["owner"]) == (minted["address"], network.account.address)
    run_json(folder, "keys", "transfer", "--yes", minted["token_id"], network.stranger.address)
    assert run_json(folder, "keys", "show", minted["token_id"])["owner"] == network.stranger.address
    assert minted["address"] in run(folder, "keys", "list", "--owner", network.stranger.address).stdout


def test_an_empty_list_says_how_to_get_a_key(folder: Path) -> None:
    result = run(folder, "keys", "list", "--owner", Account.create().address)
    assert "keyquorum keys mint" in result.stdout


def test_a_message_is_signed_and_verifies(folder: Path) -> None:
    minted = mint(folder)
    found = run_json(folder, "sign", "message", minted["token_id"], "hello")
    compact = found["signature"]["compact"]
    assert Account.recover_message(encode_defunct(text="hello"), signature=compact) == minted["address"]
    found = run_json(folder, "sign", "message", "--hex", minted["token_id"], "0x00ff")
    compact = found["signature"]["compact"]
    assert Account.recover_message(encode_defunct(b"\x00\xff"), signature=compact) == minted["address"]


def test_a_person_sees_the_summary(folder: Path) -> None:
    minted = mint(folder)
    assert 'signs the message "hello"' in run(folder, "sign", "message", minted["token_id"], "hello").stdout


def test_typed_data_and_transactions_come_from_a_file_or_standard_input(folder: Path, tmp_path: Path) -> None:
    minted = mint(folder)
    mail = {"types": {"M": [{"name": "x", "type": "uint256"}]}, "domain": {"name": "d"}, "message": {"x": 2**255}}
    path = tmp_path / "mail.json"
    path.write_text(json.dumps(mail))
    assert run_json(folder, "sign", "typed-data", minted["token_id"], str(path))["signature"]
    call = {"to": minted["address"], "value": 0, "gas": 21000}
    found = run_json(folder, "sign", "transaction", minted["token_id"], "-", stdin=json.dumps(call))
    assert Account.recover_transaction(found["raw"]) == minted["address"]


def test_value_is_sent_and_executed(folder: Path, network: FakeNetwork) -> None:
    minted = mint(folder)
    network.call(network.deployer.send(minted["address"], b"", 10**18))
    found = run_json(folder, "send", "--yes", minted["token_id"], network.stranger.address, "0.25ether")
    assert found["status"] == 1
    assert "0.25 ETH" in found["summary"]


def test_the_session_is_kept_private_and_used_again(folder: Path, network: FakeNetwork) -> None:
    minted = mint(folder)
    found = run_json(folder, "login", "--scope", "2", "--hours", "1")
    assert found["scopes"] == [2]
    path = folder / "session.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_text()
    network.reset()
    run_json(folder, "sign", "message", minted["token_id"], "x")
    assert path.read_text() == before
    assert not [call for node in network.nodes.values() for call in node.calls if "statement" in call]


def test_a_broken_or_foreign_session_is_replaced(folder: Path) -> None:
    minted = mint(folder)
    for content in ("", "[]", '{"network": "other"}'):
        (folder / "session.json").write_text(content)
        run_json(folder, "sign", "message", minted["token_id"], "x")
        assert json.loads((folder / "session.json").read_text())["certificate"]


# -- errors -----------------------------------------------------------------------------------------------------------


def test_without_a_network_the_error_says_how_to_start_one(tmp_path: Path) -> None:
    error = run_json(tmp_path, "keys", "list", code=2)["error"]
    assert error["code"] == "no_network"
    assert "keyquorum up" in error["hint"]
    result = run(tmp_path, "keys", "list")
    assert result.exit_code == 2 and "keyquorum up" in result.stderr and not result.stdout


def test_without_an_account_the_error_says_which_file(folder: Path) -> None:
    (folder / "account.key").unlink()
    assert run_json(folder, "keys", "list", code=2)["error"]["code"] == "no_account"
    (folder / "account.key").write_text("a secret that is no key")
    error = run_json(folder, "keys", "list", code=2)["error"]
    assert error["code"] == "bad_account" and "a secret" not in json.dumps(error)


def test_each_kind_of_failure_has_its_exit_code(folder: Path, network: FakeNetwork) -> None:
    minted = mint(folder)
    token = minted["token_id"]
    run_json(folder, "login")
    assert run_json(folder, "keys", "show", "0x12", code=3)["error"]["code"] == "unknown_key"
    network.set("refuse", *network.nodes)
    assert run_json(folder, "sign", "message", token, "x", code=3)["error"]["code"] == "not_permitted"
    network.set("wrong_share", *network.nodes)
    assert run_json(folder, "sign", "message", token, "x", code=5)["error"]["code"] == "bad_answer"
    network.reset()
    network.stop_nodes(1, 2)
    assert run_json(folder, "sign", "message", token, "x", code=4)["error"]["code"] == "unavailable"
    assert (
        run_json(folder, "send", "--yes", token, minted["address"], "999999ether", code=6)["error"]["code"]
        == "would_fail"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "show", "x"),
        ("keys", "show", "9" * 5000),
        ("sign", "message", "--hex", "0x12", "zz"),
        ("sign", "transaction", "0x12", "/nonexistent"),
        ("sign", "transaction", "0x12", "[]"),
        ("sign", "transaction", "0x12", '{"a": 1, "a": 2}'),
        ("send", "0x12", "0x12", "1.5wei"),
        ("send", "0x12", "0x12", "nan"),
        ("send", "0x12", "0x12", "1e99ether"),
        ("keys", "mint", "--owner", "nobody"),
    ],
)
def test_bad_arguments_end_with_2_and_one_error_line(folder: Path, arguments: tuple[str, ...]) -> None:
    assert run_json(folder, *arguments, code=2)["error"]["message"]


def test_an_interrupt_ends_with_130(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("keyquorum.cli.status.open_network", interrupt)
    assert run(folder, "status").exit_code == 130


@pytest.mark.parametrize(
    ("text", "wei"),
    [("0", 0), ("7", 7), ("7wei", 7), ("5gwei", 5 * 10**9), ("0.1ether", 10**17), ("1.5 ETH", 15 * 10**17)],
)
def test_amounts_are_read_exactly(text: str, wei: int) -> None:
    from keyquorum.cli.payload import parse_amount

    assert parse_amount(text) == wei


# -- nodes ------------------------------------------------------------------------------------------------------------


def test_node_init_makes_a_private_folder_and_says_what_to_register(tmp_path: Path, network: FakeNetwork) -> None:
    folder = tmp_path / "node"
    arguments = ["node", "init", str(folder), "--rpc", "http://127.0.0.1:8545", "--router", network.router, "--json"]
    first = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert len(first["tls_key"]) == 66
    assert stat.S_IMODE((folder / "store.key").stat().st_mode) == 0o600
    from keyquorum.node.settings.config import load

    assert load(folder / "node.toml").chain.router == network.router
    again = json.loads(CliRunner().invoke(app, [*arguments, "--api-port", "7777"]).stdout)
    assert (again["node_address"], again["tls_key"]) == (first["node_address"], first["tls_key"])
    assert load(folder / "node.toml").api.port == 7777


def test_node_run_without_a_config_is_a_usage_error(tmp_path: Path) -> None:
    # A process of its own: a node writes its log to the file behind standard error.
    command = [sys.executable, "-m", "keyquorum.cli.main", "node", "run", "--config", str(tmp_path / "none.toml")]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "none.toml" in json.loads(done.stdout)["error"]["message"]


def test_a_child_process_dies_with_its_parent(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    (tmp_path / "sleeper.py").write_text(
        f"import os, time, pathlib\npathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))\ntime.sleep(60)\n"
    )
    parent = (
        "import os, subprocess, sys, time\n"
        "env = os.environ | {'KEYQUORUM_PARENT': str(os.getpid()), 'PYTHONPATH': sys.argv[1]}\n"
        "subprocess.Popen([sys.executable, '-m', 'keyquorum.cli.child', 'sleeper'], env=env, start_new_session=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent, str(tmp_path)])
    give_up = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < give_up:
        time.sleep(0.02)
    child = int(pid_file.read_text())
    process.kill()
    process.wait()
    while alive(child) and time.monotonic() < give_up:
        time.sleep(0.02)
    assert not alive(child)


def alive(pid: int) -> bool:
    """Whether the process runs; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
