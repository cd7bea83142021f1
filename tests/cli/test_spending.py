"""What a command may cost: options, the question at a terminal, and what is said where nobody sits."""

from __future__ import annotations

import io
import json
import sys

import pytest
import typer

from keyquorum.chain.fees import ETHER, SpendingLimits, TooDear
from keyquorum.cli.output import USAGE, command
from keyquorum.cli.spending import agree, limits_of
from keyquorum.client.errors import TooExpensive
from keyquorum.client.network import too_expensive

FEE = TooDear("the fee of the transaction", 2 * ETHER, ETHER, "max_fee")
PRICE = TooDear("the price of a key", 2 * ETHER, ETHER, "max_mint_cost")


class Terminal(io.StringIO):
    """Something typed at a terminal."""

    def isatty(self) -> bool:
        return True


def test_without_options_the_limits_are_the_usual_ones() -> None:
    assert limits_of() == SpendingLimits()


def test_a_sum_that_was_named_decides_alone() -> None:
    limits = limits_of(max_fee=ETHER)
    assert limits.tip(1, 10**15) == 10**15
    limits.check(1000, ETHER // 1000)
    with pytest.raises(TooDear):
        limits.check(1001, ETHER // 1000)
    assert limits_of(max_price=7).mint_cost(7) == 7


@pytest.mark.parametrize(
    ("typed", "agreed"), [("y\n", True), ("Yes\n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_at_a_terminal_a_person_is_asked_and_silence_is_no(
    monkeypatch: pytest.MonkeyPatch, typed: str, agreed: bool
) -> None:
    asked = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    monkeypatch.setattr(sys, "stderr", asked)
    assert agree(too_expensive(FEE)) is agreed
    assert "2 ether, at most 1 ether" in asked.getvalue()


@pytest.mark.parametrize(("error", "option"), [(FEE, "--max-fee"), (PRICE, "--max-price")])
def test_where_nobody_sits_the_error_names_the_option(
    monkeypatch: pytest.MonkeyPatch, error: TooDear, option: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(TooExpensive) as caught:
        agree(too_expensive(error))
    assert option in caught.value.hint and caught.value.code == "too_expensive"


def test_a_price_that_a_command_meets_elsewhere_is_an_error_and_no_trace(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, command(as_json=True):
        raise FEE
    assert ended.value.exit_code == USAGE
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "too_expensive"
