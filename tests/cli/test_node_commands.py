"""What an operator does to a stopped node: check its shares, pardon a peer, release a share."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from keyquorum.cli.main import app
from keyquorum.cli.node_folder import NodeFolder
from keyquorum.node.chain.chain_view import Seen
from keyquorum.node.chain.floor import Floor
from keyquorum.node.settings.config import load
from keyquorum.node.storage.store import Store, StoredShare, StoreError
from keyquorum.node.storage.strikes import Strikes
from keyquorum.node.storage.vault import read_key_source

ROUTER = "0x0000000000000000000000000000000000000001"
ACTIVE, PENDING = bytes(31) + b"\x01", bytes(31) + b"\x02"


def share(token_id: bytes, epoch: int = 1) -> StoredShare:
    point = b"\x04" + token_id + token_id
    return StoredShare(token_id, epoch, 1, 2, (1, 2, 3), point, dict.fromkeys((1, 2, 3), point), b"k" * 32)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A node that was initialised, holds an active and a pending share, and is not running."""
    folder = NodeFolder(tmp_path / "node")
    folder.create()
    path = folder.write_settings(rpc=["http://127.0.0.1:1"], router=ROUTER)

    async def fill() -> None:
        store = opened(path)
        await store.put_pending(b"batch", [share(ACTIVE), share(PENDING)])
        await store.activate([ACTIVE])
        store.close()

    asyncio.run(fill())
    return path


def opened(config: Path) -> Store:
    settings = load(config)
    return Store(settings.node.data_dir, read_key_source(settings.keys))


def strike(config: Path, party: int, count: int) -> None:
    async def add() -> None:
        store = opened(config)
        for _ in range(count):
            await Strikes(store).add(party)
        store.close()

    asyncio.run(add())


def overwrite(config: Path, token_id: bytes, record: bytes) -> bytes:
    """Replace a record behind the store's back; return what was there."""
    with sqlite3.connect(config.parent / "data" / "store.sqlite") as database:
        ((before,),) = database.execute("SELECT record FROM key_shares WHERE token_id = ?", (token_id,)).fetchall()
        database.execute("UPDATE key_shares SET record = ? WHERE token_id = ?", (record, token_id))
    database.close()
    return bytes(before)


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["node", *arguments, "--config", str(config)])


def run_json(config: Path, *arguments: str, code: int = 0) -> Any:
    result = run(config, *arguments, "--json")
    assert result.exit_code == code, result.output
    (line,) = result.stdout.splitlines()
    return json.loads(line)


def test_a_whole_store_passes_the_check(config: Path) -> None:
    found = run_json(config, "check")
    assert found == {"shares": {"active": 1, "pending": 1}, "quarantined": [], "strikes": []}
    assert "in quarantine" in run(config, "check").stdout


def test_the_check_finds_a_changed_share_and_remembers_it(config: Path) -> None:
    overwrite(config, ACTIVE, bytes(200))
    entry = {"token_id": "0x" + ACTIVE.hex(), "epoch": 1}
    assert run_json(config, "check", code=4)["quarantined"] == [entry | {"found": "now"}]
    assert run_json(config, "check", code=4)["quarantined"] == [entry | {"found": "before"}]
    shown = run(config, "check")
    assert shown.exit_code == 4 and ACTIVE.hex() in shown.stdout and "keyquorum node release" in shown.stdout


def test_the_check_lists_strikes(config: Path) -> None:
    strike(config, 2, 1)
    strike(config, 3, 3)
    assert run_json(config, "check")["strikes"] == [
        {"party": 2, "strikes": 1, "quarantined": False},
        {"party": 3, "strikes": 3, "quarantined": True},
    ]
    assert "peers that failed checks" in run(config, "check").stdout


def test_a_pardon_ends_one_peers_quarantine(config: Path) -> None:
    strike(config, 2, 1)
    strike(config, 3, 3)
    assert run_json(config, "pardon", "3") == {"party": 3, "forgotten": 3, "was_quarantined": True}
    store = opened(config)
    assert Strikes(store).quarantined() == []
    store.close()
    assert [entry["party"] for entry in run_json(config, "check")["strikes"]] == [2]


def test_a_pardon_without_strikes_is_an_error(config: Path) -> None:
    strike(config, 3, 1)
    run_json(config, "pardon", "3")
    for party in ("3", "9"):
        assert run_json(config, "pardon", party, code=2)["error"]["code"] == "no_strikes"


def test_a_share_that_is_whole_again_is_released(config: Path) -> None:
    whole = overwrite(config, ACTIVE, bytes(200))
    run_json(config, "check", code=4)
    overwrite(config, ACTIVE, whole)
    assert run_json(config, "check", code=4)["quarantined"]  # whole, but nobody has said so
    assert run_json(config, "release", "0x1") == {"token_id": "0x" + ACTIVE.hex(), "released": [1]}
    assert run_json(config, "check")["quarantined"] == []


def test_a_share_that_is_still_wrong_stays_in_quarantine(config: Path) -> None:
    overwrite(config, ACTIVE, bytes(200))
    run_json(config, "check", code=4)
    assert run_json(config, "release", "0x1", code=2)["error"]["code"] == "share_corrupt"
    assert run_json(config, "check", code=4)["quarantined"]


def test_a_share_that_left_the_store_is_not_released(config: Path) -> None:
    overwrite(config, ACTIVE, bytes(200))
    run_json(config, "check", code=4)
    with sqlite3.connect(config.parent / "data" / "store.sqlite") as database:
        database.execute("DELETE FROM key_shares")
    database.close()
    assert run_json(config, "release", "0x1", code=2)["error"]["code"] == "share_corrupt"


def test_only_the_epoch_asked_for_is_released(config: Path) -> None:
    whole = overwrite(config, ACTIVE, bytes(200))
    run_json(config, "check", code=4)
    overwrite(config, ACTIVE, whole)
    assert run_json(config, "release", "0x1", "--epoch", "2", code=2)["error"]["code"] == "not_quarantined"
    assert run_json(config, "release", "0x1", "--epoch", "1")["released"] == [1]


@pytest.mark.parametrize("token_id", ["1", "0x", "0xg", "0x" + "1" * 65, "0x1_1", "0x1\n"])
def test_a_malformed_token_id_is_refused(config: Path, token_id: str) -> None:
    assert "token id" in run_json(config, "release", token_id, code=2)["error"]["message"]


@pytest.mark.parametrize("arguments", [("check",), ("pardon", "3"), ("release", "0x1"), ("forget-chain",)])
def test_a_running_node_is_left_alone(config: Path, arguments: tuple[str, ...]) -> None:
    strike(config, 3, 3)
    store = opened(config)
    try:
        error = run_json(config, *arguments, code=2)["error"]
    finally:
        store.close()
    assert error["code"] == "node_running" and "stop it" in error["hint"]
    assert run_json(config, "check")["strikes"][0]["strikes"] == 3


@pytest.mark.parametrize("arguments", [("check",), ("pardon", "3"), ("release", "0x1"), ("forget-chain",)])
def test_no_store_no_settings_and_a_wrong_key_are_clear_errors(config: Path, arguments: tuple[str, ...]) -> None:
    assert "cannot be read" in run_json(config.with_name("none.toml"), *arguments, code=2)["error"]["message"]
    key = config.with_name("store.key")
    right = key.read_text()
    key.write_text("00" * 32 + "\n")
    message = run_json(config, *arguments, code=2)["error"]["message"]
    assert "does not open" in message and right.strip() not in message
    key.write_text(right)
    (config.parent / "data").rename(config.parent / "elsewhere")
    assert "data" in run_json(config, *arguments, code=2)["error"]["message"]


def test_a_disk_that_fails_is_a_clear_error(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strike(config, 3, 3)

    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("keyquorum.node.storage.database.Writer._attempt", staticmethod(full))
    error = run_json(config, "pardon", "3", code=2)["error"]
    assert error["code"] == "store_failed" and "full" in error["message"]


def test_a_node_forgets_the_chain_it_has_seen_when_its_operator_says_so(config: Path) -> None:
    store = opened(config)
    floor = Floor(store, load(config).chain.router)
    floor.see(Seen(23, 1_800_000_000))
    store.close()
    assert run_json(config, "forget-chain") == {"forgotten_blocks": [23]}
    store = opened(config)
    assert Floor(store, load(config).chain.router).seen.number == 0
    store.close()


def halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def scramble(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for place in range(0, len(content), 97):
        content[place] ^= 0x55
    file.write_bytes(content)


def lose_identity(file: Path) -> None:
    with sqlite3.connect(file) as database:
        database.execute("DELETE FROM secrets WHERE name = (SELECT name FROM secrets LIMIT 1)")
    database.close()


@pytest.mark.parametrize("damage", [halve, empty, scramble])
def test_a_damaged_store_is_named_and_restored_from_a_backup_never_made_anew(
    config: Path, damage: Callable[[Path], None]
) -> None:
    file = config.parent / "data" / "store.sqlite"
    damage(file)
    error = run_json(config, "check", code=2)["error"]
    assert "restore data/" in error["hint"]
    with pytest.raises(StoreError, match="restore data/"):
        NodeFolder(config.parent).create()
    error = run_json(config, "check", code=2)["error"]
    assert "restore data/" in error["hint"]


def test_a_node_that_lost_half_its_identity_is_not_given_another(config: Path) -> None:
    lose_identity(config.parent / "data" / "store.sqlite")
    with pytest.raises(StoreError, match="restore data/"):
        NodeFolder(config.parent).create()


def test_an_init_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    (tmp_path / "node" / "data").mkdir(parents=True)
    (tmp_path / "node" / "data" / "store.sqlite").touch()
    folder = NodeFolder(tmp_path / "node")
    folder.create()
    again = NodeFolder(tmp_path / "node")
    again.create()
    assert folder.address == again.address


@pytest.mark.parametrize("name", ["check", "pardon", "release", "forget-chain"])
def test_help_says_that_the_node_must_be_stopped(name: str) -> None:
    shown = CliRunner().invoke(app, ["node", name, "--help"])
    assert shown.exit_code == 0 and "must be stopped" in " ".join(shown.stdout.split())
