"""ethers 6 as the wallet: it makes the same hashes of a statement, and logs in with what it signs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chain_fixtures import js_tools, run_node  # noqa: F401 - a fixture
from keyquorum.auth import wallet_key
from keyquorum.auth.method import prove
from keyquorum.formats.text import to_hex


@pytest.mark.parametrize(("keys", "scopes"), [(("*",), (2, 3)), (("0x" + "ab" * 32, "0x" + "cd" * 32), ())])
async def test_ethers_agrees_about_both_forms_and_logs_in(
    world: Any,
    js_tools: Path,  # noqa: F811
    keys: tuple[str, ...],
    scopes: tuple[int, ...],
) -> None:
    statement = replace(world.statement, keys=keys, scopes=scopes)
    arguments = (statement, world.address, world.now)
    typed, text = wallet_key.build_typed_data(*arguments), wallet_key.build_text(*arguments)
    output = run_node(js_tools / "wallet_login.mjs", to_hex(world.account.key), json.dumps(typed), text)
    found = json.loads(output)
    hashes = wallet_key.typed_hashes(*arguments)
    assert (found["domain"], found["message"]) == (to_hex(hashes.domain), to_hex(hashes.message))
    assert found["domainFields"] == list(typed["domain"]) and found["primaryType"]
    assert found["digest"] == to_hex(wallet_key.digest_of("eip712", *arguments))
    assert found["textDigest"] == to_hex(wallet_key.digest_of("eip191", *arguments))
    for form in wallet_key.FORMS:
        proof = {"form": form, "address": world.account.address, "signature": found[form], "issued_at": world.now}
        assert (await prove("wallet-key", proof, statement, world.context)).id == world.address
