"""Which chain a network is put on: who may pay for the contracts, when blocks count, and what is said meanwhile."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from eth_account import Account

from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.cli import chain_choice
from keyquorum.cli.chain_choice import (
    MNEMONICS,
    ChainChoice,
    final_block,
    is_publicly_known,
    parse_finality,
    wait_until_final,
)
from keyquorum.client import KeyquorumError, Misconfigured, Unavailable

LOCAL, FAR = "http://127.0.0.1:8545", "https://rpc.example"
OWN = secrets.token_bytes(32)


def refused(choice: ChainChoice, deployed: bool = False) -> str | None:
    try:
        choice.check(deployed)
    except Misconfigured as error:
        return error.code
    return None


Account.enable_unaudited_hdwallet_features()


@pytest.mark.parametrize(
    "key",
    [
        ACCOUNTS[0][1],
        ACCOUNTS[9][1],
        (1).to_bytes(32, "big"),
        (2**63).to_bytes(32, "big"),
        *(
            bytes(Account.from_mnemonic(words, account_path=f"m/44'/60'/0'/0/{i}").key)
            for words in MNEMONICS
            for i in (0, 19)
        ),
    ],
)
def test_no_publicly_known_account_pays_on_a_chain_of_others(key: bytes) -> None:
    assert is_publicly_known(key)
    for url in (LOCAL, FAR):
        assert refused(ChainChoice(url, key)) == "public_account"
    assert refused(ChainChoice(LOCAL, key, development_accounts=True)) is None
    assert refused(ChainChoice(FAR, key, development_accounts=True)) == "public_account"


def test_who_pays_is_said_unless_the_chain_is_ours() -> None:
    assert refused(ChainChoice()) is None
    assert refused(ChainChoice(development_accounts=True)) == "public_account"
    assert refused(ChainChoice(LOCAL)) == refused(ChainChoice(FAR)) == "no_funder"
    assert refused(ChainChoice(FAR), deployed=True) is None, "nobody pays for contracts that are there"
    assert refused(ChainChoice(FAR, OWN)) is None
    assert refused(ChainChoice("http://127.0.0.1.evil.example", development_accounts=True)) == "public_account"
    assert refused(ChainChoice(LOCAL, development_accounts=True)) is None
    assert ChainChoice(FAR, OWN).payer == OWN


def test_finality_is_what_was_said_last_or_what_fits() -> None:
    assert ChainChoice().finality_after(None) == "latest"
    assert ChainChoice(FAR, OWN).finality_after(None) == "finalized"
    assert ChainChoice(FAR, OWN).finality_after(12) == 12
    assert ChainChoice(FAR, OWN, "safe").finality_after(12) == "safe"
    assert ChainChoice(LOCAL, development_accounts=True).finality_after(None) == "latest"
    assert [parse_finality(text) for text in (None, "latest", "safe", "finalized", "0", "64", "100000")] == [
        None, "latest", "safe", "finalized", 0, 64, 100_000,
    ]  # fmt: skip
    for wrong in ("", "earliest", "-1", "1.5", "100001", "LATEST", "0x10", "²"):
        with pytest.raises(Misconfigured):
            parse_finality(wrong)


def test_an_hour_of_mints_is_cheap_where_ether_has_a_price() -> None:
    assert ChainChoice(FAR, OWN).gateway_limits["mints_per_method"] <= 100
    assert not ChainChoice(FAR, OWN).gateway_limits["owner_mints"]
    assert ChainChoice(LOCAL, development_accounts=True).gateway_limits["owner_mints"]
    assert ChainChoice().gateway_limits["mints_per_method"] >= 10_000


class SlowChain:
    """A chain whose final block is `final` (None: there is none) of `newest`; each look moves it by `step`."""

    def __init__(self, newest: int, final: int | None, step: int = 0, active_from: int = 0) -> None:
        self.newest, self.final, self.step, self.active_from = newest, final, step, active_from
        self.tags: list[Any] = []

    async def block_number(self) -> int:
        return self.newest

    async def call(self, method: str, tag: str, full: bool) -> Any:
        self.tags.append(tag)
        if self.final is None:
            return None
        self.final += self.step
        return {"number": hex(self.final)}

    async def read(self, name: str, block: int) -> int:
        assert name == "epoch"
        if block < self.active_from:
            raise ValueError("not a result: empty")
        return 1


@pytest.mark.parametrize("finality", ["finalized", "safe"])
async def test_it_says_how_many_blocks_there_are_to_go(monkeypatch: pytest.MonkeyPatch, finality: str) -> None:
    monkeypatch.setattr(chain_choice, "POLL_SECONDS", 0)
    chain, said = SlowChain(105, 38, step=3, active_from=100), list[str]()
    await wait_until_final(chain, chain, finality, 1000, said.append)  # type: ignore[arg-type]
    assert set(chain.tags) == {finality}
    assert "64 blocks to go" in said[0]
    assert "newest block 105" in said[0]
    assert len(said) == 20
    assert all(finality in line for line in said)


@pytest.mark.parametrize("final", [None, 41])
async def test_a_chain_that_stands_still_is_given_up_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, final: int | None
) -> None:
    monkeypatch.setattr(chain_choice, "POLL_SECONDS", 0)
    chain = SlowChain(105, final, active_from=100)
    with pytest.raises(Unavailable) as caught:
        await wait_until_final(chain, chain, "finalized", 0, lambda _: None)  # type: ignore[arg-type]
    assert caught.value.code == "not_final"
    assert "--finality latest" in caught.value.hint
    assert f"{final or 0} of 105" in caught.value.message


async def test_a_depth_and_latest_need_no_tag() -> None:
    chain = SlowChain(105, None)
    assert await final_block(chain, 64) == (105, 41)  # type: ignore[arg-type]
    assert await final_block(chain, "latest") == (105, 105)  # type: ignore[arg-type]
    assert not chain.tags
    assert issubclass(Misconfigured, KeyquorumError)
