"""Every command that uses a network, as a process of its own, on the folder of a running network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data
from eth_hash.auto import keccak
from live import Live

from keyquorum.cli.local_network import LocalNetwork

KEYQUORUM = Path(sys.executable).parent / "keyquorum"
MAIL = {
    "types": {"EIP712Domain": [{"name": "name", "type": "string"}], "Mail": [{"name": "amount", "type": "uint256"}]},
    "primaryType": "Mail", "domain": {"name": "Post"}, "message": {"amount": 2**255},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(network: LocalNetwork) -> Path:
    return network.folder


def run(folder: Path, *arguments: str, code: int = 0, stdin: str | None = None) -> Any:
    """Run a command with --json; return the one line that it printed."""
    done = subprocess.run(
        [KEYQUORUM, *arguments, "--json"], input=stdin, capture_output=True, text=True, timeout=90, check=False,
        env=os.environ | {"KEYQUORUM_DIR": str(folder)},
    )  # fmt: skip
    assert done.returncode == code, (arguments, done.stdout, done.stderr[-2000:])
    assert "Traceback" not in done.stderr
    (line,) = done.stdout.splitlines()
    return json.loads(line)


@pytest.fixture(scope="module")
def minted(folder: Path) -> dict[str, str]:
    found: dict[str, str] = run(folder, "keys", "mint")
    assert set(found) == {"token_id", "public_key", "address", "transaction"}
    assert bytes.fromhex(found["token_id"][2:]) == keccak(bytes.fromhex(found["public_key"][2:]))
    return found


def test_status_says_that_the_network_signs(folder: Path) -> None:
    found = run(folder, "status")
    assert (found["ready"], found["live"], found["threshold"]) == (True, 4, 3)


def test_keys_are_listed_shown_and_given_away(folder: Path, network: LocalNetwork) -> None:
    token = run(folder, "keys", "mint")["token_id"]
    assert token in [key["token_id"] for key in run(folder, "keys", "list")]
    shown = run(folder, "keys", "show", token)
    assert (shown["owner"], shown["state"]) == (network.account().address, "active")
    friend = Account.create().address
    assert run(folder, "keys", "transfer", "--yes", token, friend)["owner"] == friend
    assert run(folder, "keys", "show", token)["owner"] == friend
    error = run(folder, "sign", "message", token, "mine?", code=3)["error"]
    assert error["code"] == "not_permitted" and error["hint"]


def test_messages_typed_data_and_transactions_are_signed(
    folder: Path, network: LocalNetwork, minted: dict[str, str], tmp_path: Path
) -> None:
    token, address = minted["token_id"], minted["address"]
    signed = run(folder, "sign", "message", token, "hello")
    assert Account.recover_message(encode_defunct(text="hello"), signature=signed["signature"]["compact"]) == address
    (tmp_path / "mail.json").write_text(json.dumps(MAIL))
    signed = run(folder, "sign", "typed-data", token, str(tmp_path / "mail.json"))
    typed = encode_typed_data(full_message=MAIL)
    assert Account.recover_message(typed, signature=signed["signature"]["compact"]) == address
    call = json.dumps({"to": network.account().address, "value": 1, "gas": 21000})
    signed = run(folder, "sign", "transaction", token, "-", stdin=call)
    assert Account.recover_transaction(signed["raw"]) == address
    assert bytes.fromhex(signed["hash"][2:]) == keccak(bytes.fromhex(signed["raw"][2:]))


async def test_ether_is_sent_and_arrives(live: Live, folder: Path, minted: dict[str, str]) -> None:
    import asyncio

    await live.fund(minted["address"])
    to = Account.create().address
    sent = await asyncio.to_thread(run, folder, "send", "--yes", minted["token_id"], to, "0.25ether")
    assert sent["status"] == 1 and "0.25 ETH" in sent["summary"]
    assert await live.client.chain.rpc.balance(to) == 10**18 // 4


ERRORS: dict[str, tuple[tuple[str, ...], int, str | None]] = {
    "a key that nobody knows": (("keys", "show", "0x12"), 3, None),
    "a token id that is none": (("sign", "message", "0xzz", "x"), 2, None),
    "no JSON": (("sign", "transaction", "0x12", "-"), 2, "not json"),
    "a file that is missing": (("sign", "typed-data", "0x12", "nowhere.json"), 2, None),
    "an amount that is none": (("send", "0x12", "0x" + "11" * 20, "much"), 2, None),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_one_line_with_a_code_and_a_hint(folder: Path, name: str) -> None:
    arguments, code, stdin = ERRORS[name]
    error = run(folder, *arguments, code=code, stdin=stdin)["error"]
    assert error["code"] and error["message"] and error["hint"]


def test_without_a_network_the_hint_says_how_to_start_one(tmp_path: Path) -> None:
    assert "keyquorum up" in run(tmp_path, "status", code=2)["error"]["hint"]
